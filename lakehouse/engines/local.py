"""The local engine: the same worker in a pool of processes, no JVM."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pyarrow as pa

from lakehouse import model
from lakehouse.errors import LakehouseError, Unavailable
from lakehouse.scoring import begin, score_batch
from lakehouse.staging import Staging, Unit, failed, stage_units

START_SECONDS = 4.0
"""About what a fresh process needs until it has imported MLflow and loaded a model."""


def cores() -> int:
    """The number of tasks that run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers(cores: int, rows: int | None, sample: pa.RecordBatch | None, staging: Staging, model_path: str) -> int:
    """How many processes are worth starting: one where this one would be done sooner than others are up.

    Times the model on a sample of the input, from which nothing is kept.
    """
    if rows is None or sample is None:
        return cores
    predictor = model.load(model_path, staging.digest, staging.method, staging.params)
    started = time.perf_counter()
    try:
        score_batch(sample, staging.scoring, predictor.predict, begin(staging.scoring))
    except LakehouseError:
        return 1  # the run itself will say the same, at once
    return 1 if (time.perf_counter() - started) * rows / sample.num_rows < START_SECONDS else cores


def run(shares: Sequence[Sequence[Unit]], staging: Staging, model_path: str) -> list[dict[str, Any]]:
    """Run the worker over each share of the units; the manifest rows of all.

    A single share runs in this process, which has the model loaded already.
    Raises Unavailable when a worker process dies.
    """
    if len(shares) < 2:
        try:
            return [row for task, units in enumerate(shares) for row in _task(task, units, staging, model_path)]
        except OSError as error:
            raise Unavailable(f"a file can't be read or written: {error}") from error
    context = multiprocessing.get_context("spawn")
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(len(shares), mp_context=context, initializer=one_thread) as pool:
        tasks = [pool.submit(_task, task, units, staging, model_path) for task, units in enumerate(shares)]
        try:
            for done in as_completed(tasks):
                rows += done.result()
        except OSError as error:
            raise Unavailable(f"a file can't be read or written: {error}") from error
        except BrokenProcessPool as error:
            raise Unavailable("a worker process died (out of memory, or killed): nothing was published") from error
    return rows


def one_thread() -> None:
    """Keep a worker process to one thread, since there is one worker a core."""
    import threadpoolctl

    pa.set_cpu_count(1)
    threadpoolctl.threadpool_limits(1)


def _task(task: int, units: Sequence[Unit], staging: Staging, model_path: str) -> list[dict[str, Any]]:
    try:
        predictor = model.load(model_path, staging.digest, staging.method, staging.params)
    except LakehouseError as error:
        return [failed(task, error)]
    return stage_units(task, units, staging, predictor.predict)
