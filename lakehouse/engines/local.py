"""The local engine: the same worker in this process and in others beside it, no JVM."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.context import BaseContext
from typing import Any, Protocol

import pyarrow as pa

from lakehouse import models
from lakehouse.engines import forking, pacing
from lakehouse.engines.turns import DIED, Divided, Turns, has_failed
from lakehouse.errors import LakehouseError, Unavailable
from lakehouse.models.loading import environment
from lakehouse.scoring.staging import BatchSource, Staging, failure_row, open_models, stage_units

START_SECONDS = 1.5
"""About what a process needs until it has imported its libraries and loaded a model that its own library loads."""
MLFLOW_SECONDS = 4.0
"""Likewise where MLflow has to load it."""
FORK_SECONDS = 0.3
"""Likewise one that is forked from a server which is ready."""
_LOOK_SECONDS = 0.01
"""Between two looks whether the server is ready."""
_VALUE_SECONDS = 2e-8
"""About what a value takes besides scoring: it is decompressed, decoded and profiled, some are written."""
_DIVIDED_SECONDS = 1.0
"""Scoring that takes less is not shared by blocks: the files are read by each process then."""
_READING = 0.1
"""Of the time that a process scores, reading takes at most so much where each of them reads all."""
_FEW = 3
"""Units a process that are shared evenly enough as they are."""


class _Sized(BatchSource, Protocol):
    @property
    def size(self) -> int: ...


def cores() -> int:
    """The cores that this process may use: those of the machine, less by a container's quota or by affinity."""
    import joblib

    return int(joblib.cpu_count())


def workers(
    cores: int, rows: int | None, columns: int, pace: pacing.Pace | None, staging: Staging, start: float
) -> int:
    """How many processes are worth it: one where this one would be done sooner than others are up, in `start` seconds.

    `columns`: how many are read; `pace`: as the sample told, None where there was none.
    """
    if rows is None or pace is None:
        return cores
    seconds = pace.seconds(rows, staging.batch_rows) + _VALUE_SECONDS * rows * columns
    return 1 if seconds < start else cores


def start_seconds(folders: models.Folders, *, native: bool) -> float:
    """About how long it takes from now until another process scores. `native`: its own library loads the model."""
    if any(not isinstance(folder, str) for folder in folders.values()):  # then each starts one more
        return 2 * MLFLOW_SECONDS
    start = START_SECONDS if native else MLFLOW_SECONDS
    if forking.is_begun() and forking.is_ready():
        return FORK_SECONDS
    age = forking.age()
    return start if age is None else max(start - age, FORK_SECONDS)


def divide(
    units: Sequence[_Sized], workers: int, rows: int | None, pace: pacing.Pace | None, staging: Staging
) -> list[Divided]:
    """The units divided into blocks of rows, where there are too few, or too unequal ones, to share them out evenly.

    Each process reads all of them then, so that it isn't done where that takes long, beside what each of them scores,
    nor for a run that takes little. None then.
    """
    sizes = [unit.size for unit in units]
    if workers < 2 or rows is None or pace is None or not sizes or max(sizes) * _FEW * workers <= sum(sizes):
        return []
    seconds = pace.seconds(rows, staging.batch_rows)
    if seconds < _DIVIDED_SECONDS or pacing.reading(units[0]) * rows > _READING * seconds / workers:
        return []
    block = pace.block_rows(rows, staging.batch_rows, workers)
    return [Divided(unit, block) for unit in units]


def run(work: Sequence[BatchSource], workers: int, staging: Staging, folders: models.Folders) -> list[dict[str, Any]]:
    """Run the worker over the units in so many processes, of which this is one; the manifest rows of all.

    Each takes the next unit when it is done with one, so that this one, which has the model loaded already, works while
    the others start. Where one fails, none takes another unit. Raises Unavailable when a process dies.
    """
    try:
        if workers < 2:
            return _task(0, work, staging, folders) if work else []
        with forking.server(_own(staging, folders)) as context:
            return _share(context, work, workers, staging, folders)
    except OSError as error:
        raise Unavailable(f"a file can't be read or written: {error}") from error
    except BrokenProcessPool as error:
        raise Unavailable(DIED) from error


def _share(
    context: BaseContext, work: Sequence[BatchSource], workers: int, staging: Staging, folders: models.Folders
) -> list[dict[str, Any]]:
    flags = (context.RawValue("b", False) for _ in range(3))
    turns = Turns(context.Value("q", 0), *flags)
    with (
        ProcessPoolExecutor(workers - 1, mp_context=context, initializer=_join, initargs=(turns,)) as pool,
        ThreadPoolExecutor(1) as meanwhile,
        one_thread_meanwhile(),
    ):
        with turns.led():
            starting = meanwhile.submit(_start_others, pool, workers, turns, work, staging, folders)
            rows = _task(0, turns.of(work), staging, folders)
            turns.lost.value |= has_failed(rows)
        if not turns.joined.value:
            _give_up(pool, starting)
            return rows
        return [*rows, *(row for done in as_completed(starting.result()) for row in done.result())]


def _give_up(pool: ProcessPoolExecutor, starting: Future[Any]) -> None:
    """End processes that were not up when all was done: what they start with may take long, and nobody needs it."""
    with suppress(Exception):
        starting.result()
    for process in list((pool._processes or {}).values()):  # a pool of Python 3.14 would do so itself
        process.kill()


def _own(staging: Staging, folders: models.Folders) -> list[forking.Model]:
    """The run's one model, for a server to load; none where it runs isolated or there are many."""
    folder = folders.get(staging.digest)
    if not isinstance(folder, str) or staging.scoring.route is not None:
        return []
    return [forking.Model(folder, staging.digest, staging.method, staging.params)]


def _start_others(
    pool: ProcessPoolExecutor,
    workers: int,
    turns: Turns,
    work: Sequence[BatchSource],
    staging: Staging,
    folders: models.Folders,
) -> list[Future[list[dict[str, Any]]]]:
    """Have the other processes take turns. In a thread of its own, since it waits for the first one to be there."""
    while not forking.is_ready():  # who asks it for a process before would wait, even for a run that is over
        if turns.has_ended:
            return []
        time.sleep(_LOOK_SECONDS)
    with forking.uninterrupted(), forking.without_script():
        tasks = [pool.submit(_beside, task, work, staging, folders) for task in range(1, workers)]
    for task in tasks:
        task.add_done_callback(turns.stop)  # it failed, it died, or nothing was left to take
    return tasks


def one_thread() -> None:
    """Keep a worker process to one thread, since there is one worker a core."""
    import threadpoolctl

    pa.set_cpu_count(1)
    threadpoolctl.threadpool_limits(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the libraries that the model will load
    os.environ["LOKY_MAX_CPU_COUNT"] = "1"  # of joblib, by which scikit-learn's n_jobs=-1 is one thread


@contextmanager
def one_thread_meanwhile() -> Iterator[None]:
    """Keep this process to one thread while the block runs."""
    import threadpoolctl

    threads = pa.cpu_count()
    pa.set_cpu_count(1)
    try:
        with threadpoolctl.threadpool_limits(1), environment({"LOKY_MAX_CPU_COUNT": "1"}):
            yield
    finally:
        pa.set_cpu_count(threads)


_joined: list[Turns] = []
"""In a worker process: the turns that it takes."""


def _join(turns: Turns) -> None:
    one_thread()
    _joined[:] = [turns]


def _beside(task: int, work: Sequence[BatchSource], staging: Staging, folders: models.Folders) -> list[dict[str, Any]]:
    turns = _joined[0]
    turns.joined.value = True  # before it takes a turn: whoever leads gives up those who have not
    if turns.has_ended:
        return []
    return _task(task, turns.of(work), staging, folders)


def _task(task: int, units: Iterable[BatchSource], staging: Staging, folders: models.Folders) -> list[dict[str, Any]]:
    try:
        predict, challengers = open_models(folders, staging)
    except LakehouseError as error:
        return [failure_row(task, error)]
    return stage_units(task, units, staging, predict, challengers)
