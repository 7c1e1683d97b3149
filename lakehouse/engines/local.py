"""The local engine: the same worker in this process and in others beside it, no JVM."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.context import BaseContext
from typing import Any

import pyarrow as pa

from lakehouse import models
from lakehouse.engines import forking
from lakehouse.errors import LakehouseError, Unavailable
from lakehouse.schemas import FAILED
from lakehouse.scoring.routing import rows_of_one
from lakehouse.scoring.score import score_batch, start_counters
from lakehouse.scoring.staging import BatchSource, Staging, failure_row, open_models, stage_units

START_SECONDS = 4.0
"""About what a fresh process needs until it has imported its libraries and loaded a model."""
FORK_SECONDS = 1.0
"""Likewise one that is forked from a server which was begun during the planning."""
_TURN_SECONDS = 60.0
"""A turn takes microseconds; who waits for one so long waits for a process that died in it."""
_DIED = "a worker process died (out of memory, or killed): nothing was published"


@dataclass(frozen=True)
class Turns:
    """Whose turn it is. `number`: the next unit's, a shared integer; shared flags, `over`: nobody takes any more,
    `lost`: the run has failed, who is at a unit leaves it."""

    number: Any
    over: Any
    lost: Any

    def of(self, work: Sequence[BatchSource]) -> Iterator[BatchSource]:
        """The units that no other process has taken, each taken when it is asked for."""
        while not self.over.value:
            if not self.number.acquire(timeout=_TURN_SECONDS):
                raise Unavailable(_DIED)
            try:
                turn = self.number.value
                self.number.value += 1
            finally:
                self.number.release()
            if turn >= len(work):
                return
            yield _UntilTurnsEnd(work[turn], self.lost)

    @property
    def has_ended(self) -> bool:
        """Whether no unit is left, for a process that was slow to start."""
        return bool(self.over.value)

    def stop(self, task: Future[list[dict[str, Any]]]) -> None:
        """Let nobody take another unit, since a process has found none or has failed."""
        self.over.value = True
        self.lost.value |= task.cancelled() or bool(task.exception()) or _has_failed(task.result())

    @contextmanager
    def led(self) -> Iterator[None]:
        """While this process works: that nobody takes a unit once it is done, and all stop where it raises."""
        try:
            yield
        except BaseException:
            self.lost.value = True
            raise
        finally:
            self.over.value = True


@dataclass(frozen=True)
class _UntilTurnsEnd:
    """A unit that ends early once the run has failed: no more of it is needed."""

    unit: BatchSource
    lost: Any

    def batches(self) -> Iterator[pa.RecordBatch]:
        for batch in self.unit.batches():
            if self.lost.value:
                return
            yield batch


def _has_failed(rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(row["kind"] == FAILED for row in rows)


def cores() -> int:
    """The cores that this process may use: those of the machine, less by a container's quota or by affinity."""
    import joblib

    return int(joblib.cpu_count())


def workers(
    cores: int, rows: int | None, sample: pa.RecordBatch | None, staging: Staging, folders: models.Folders
) -> int:
    """How many processes are worth it: one where this one would be done sooner than others are up.

    Times the model on a sample of the input, from which nothing is kept.
    """
    if rows is None or sample is None:
        return cores
    predict, challengers = open_models(folders, staging)
    isolated = any(not isinstance(folder, str) for folder in folders.values())  # then each starts one more
    scoring, timed = staging.scoring, sample
    if scoring.route is not None:  # one of the models tells: each process has to load them all
        timed, scoring = rows_of_one(sample, scoring.route, staging.digest), replace(scoring, route=None)
    if timed.num_rows == 0:
        return cores

    def seconds(batch: pa.RecordBatch) -> float:
        started = time.perf_counter()
        score_batch(batch, scoring, predict, start_counters(scoring))
        return (time.perf_counter() - started) * (1 + len(challengers))

    try:
        a_call = min(seconds(timed.slice(0, 1)) for _ in range(2)) if isolated else 0.0  # there and back
        a_row = max(seconds(timed) - a_call, 0.0) / timed.num_rows
    except LakehouseError:
        return 1  # the run itself will say the same, at once
    expected = a_row * rows + a_call * rows / staging.batch_rows
    start = FORK_SECONDS if forking.is_begun() else START_SECONDS * (1 + isolated)
    return 1 if expected < start else cores


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
        raise Unavailable(_DIED) from error


def _share(
    context: BaseContext, work: Sequence[BatchSource], workers: int, staging: Staging, folders: models.Folders
) -> list[dict[str, Any]]:
    turns = Turns(context.Value("q", 0), context.RawValue("b", False), context.RawValue("b", False))
    with (
        ProcessPoolExecutor(workers - 1, mp_context=context, initializer=_join, initargs=(turns,)) as pool,
        ThreadPoolExecutor(1) as meanwhile,
        _one_thread_meanwhile(),
    ):
        with turns.led():
            starting = meanwhile.submit(_start_others, pool, workers, turns, work, staging, folders)
            rows = _task(0, turns.of(work), staging, folders)
            turns.lost.value |= _has_failed(rows)
        return [*rows, *(row for done in as_completed(starting.result()) for row in done.result())]


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
def _one_thread_meanwhile() -> Iterator[None]:
    """Keep this process to one thread while the block runs."""
    import threadpoolctl

    threads = pa.cpu_count()
    pa.set_cpu_count(1)
    try:
        with threadpoolctl.threadpool_limits(1):
            yield
    finally:
        pa.set_cpu_count(threads)


_joined: list[Turns] = []
"""In a worker process: the turns that it takes."""


def _join(turns: Turns) -> None:
    one_thread()
    _joined[:] = [turns]


def _beside(task: int, work: Sequence[BatchSource], staging: Staging, folders: models.Folders) -> list[dict[str, Any]]:
    if _joined[0].has_ended:
        return []
    return _task(task, _joined[0].of(work), staging, folders)


def _task(task: int, units: Iterable[BatchSource], staging: Staging, folders: models.Folders) -> list[dict[str, Any]]:
    try:
        predict, challengers = open_models(folders, staging)
    except LakehouseError as error:
        return [failure_row(task, error)]
    return stage_units(task, units, staging, predict, challengers)
