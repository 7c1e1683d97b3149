"""What runs on executors: the functions that Spark calls inside `mapInArrow`, over numbers of shares or over rows."""

from __future__ import annotations

import base64
import functools
import gc
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from lakehouse import models
from lakehouse.engines import likeness
from lakehouse.engines.local import one_thread
from lakehouse.errors import LakehouseError, Unavailable
from lakehouse.scoring.merging import merge_counts
from lakehouse.scoring.staging import (
    BatchSource,
    Staging,
    failure_row,
    manifest_batch,
    stage_frame,
    stage_units,
)

_RUNS = 2
"""Runs at once of which a worker keeps plan and models; whoever runs more loads them again at each turn."""


@functools.lru_cache(maxsize=_RUNS)
def _plan(path: str) -> tuple[Staging, list[list[BatchSource]]]:
    one_thread()
    with open(path, "rb") as stream:
        staging, shares = pickle.load(stream)
    return staging, shares


def plan_of(plan: str, archive: str) -> tuple[Staging, models.Folders]:
    """On an executor: what was shipped of the plan, and the models' folders."""
    from pyspark import SparkFiles

    return _plan(SparkFiles.get(plan))[0], models.unpacked(SparkFiles.get(archive))


def shipped_plan(plan: str) -> tuple[Staging, list[list[BatchSource]]]:
    """On an executor: what was shipped of the plan."""
    from pyspark import SparkFiles

    return _plan(SparkFiles.get(plan))


def task_number() -> int:
    """The partition that this task works on."""
    from pyspark import TaskContext

    context = TaskContext.get()
    return int(context.partitionId()) if context else 0


_archives: list[str] = []
"""In a worker: the archives whose models it may still hold."""


def _make_room(archive: str) -> None:
    """Drop the models of earlier runs in a worker that serves its third: a session may see many runs."""
    if archive not in _archives:
        if len(_archives) >= _RUNS:
            _archives.clear()
            models.forget()
            gc.unfreeze()
            gc.collect()
        _archives.append(archive)


@functools.lru_cache(maxsize=1)
def _open(plan: str, archive: str) -> tuple[Staging, list[list[BatchSource]], Any, Any]:
    """What was shipped, and the models, opened once a worker process: its next tasks need no second look at them.

    Nor does Python's collector, which Spark's worker calls after each task: among all that libraries have brought that
    takes it 0.1 s, a fifth of what a task of logistic regression takes.
    """
    from pyspark import SparkFiles

    _make_room(archive)
    staging, shares = _plan(SparkFiles.get(plan))
    opened = likeness.open_if_alike(models.unpacked(SparkFiles.get(archive)), staging)
    gc.freeze()
    return staging, shares, *opened


def _manifest(task: int, plan: str, archive: str, stage: Callable[..., list[dict[str, Any]]]) -> pa.RecordBatch:
    """What `stage` gives for the staging, the shares and the model; the failure where they can't be had for good."""
    try:
        opened = _open(plan, archive)
    except Unavailable:
        raise  # Spark tries again
    except LakehouseError as error:
        return manifest_batch([failure_row(task, error)])
    return manifest_batch(stage(*opened))


def numbers(batches: Iterator[pa.RecordBatch]) -> Iterator[int]:
    """The numbers that rows of `spark.range` are."""
    return (number for batch in batches for number in batch.column(0).to_pylist())


def unit_tasks(plan: str, archive: str, ids: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Spark's function for units: each row is the number of a share."""
    for task in numbers(ids):

        def stage(staging: Staging, shares: Any, *opened: Any, task: int = task) -> list[dict[str, Any]]:
            return stage_units(task, shares[task], staging, *opened)

        yield _manifest(task, plan, archive, stage)


def frame_task(plan: str, archive: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Spark's function for the frame carrier: the rows themselves."""
    task = task_number()

    def stage(staging: Staging, shares: Any, *opened: Any) -> list[dict[str, Any]]:
        named = (batch.rename_columns(staging.input_schema.names) for batch in batches)
        return stage_frame(task, named, staging, *opened)

    yield _manifest(task, plan, archive, stage)


def merge_task(size: int, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Spark's function for manifest rows in the order of their tasks: what each `size` of these counted, as one row."""
    rows = (row for batch in batches for at in range(batch.num_rows) for row in batch.slice(at, 1).to_pylist())
    return (manifest_batch([row]) for row in merge_counts(rows, size))


def each(packed: str, ids: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Spark's function for `run_each`: each row is the number of an item."""
    work, items = pickle.loads(base64.b64decode(packed))
    for number in numbers(ids):
        yield pa.RecordBatch.from_pylist([{"id": number, "said": json.dumps(work(items[number]))}])


def rows_of(packed: str, ids: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Spark's function for `frame_of`: each row is the number of a share."""
    shares = pickle.loads(base64.b64decode(packed))
    for number in numbers(ids):
        for unit in shares[number]:
            yield from unit.batches()


@functools.lru_cache(maxsize=1)
def _shipped(path: str) -> Any:
    one_thread()
    with open(path, "rb") as stream:
        return pickle.load(stream)


def step(name: str, work: Callable[..., Any], batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Spark's function for `run_steps`: the rows of a step's task. `name`: what was shipped."""
    from pyspark import SparkFiles

    yield from work(_shipped(SparkFiles.get(name)), batches)
