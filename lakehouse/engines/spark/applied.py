"""What runs on executors on both sides of a model that Spark applies; see `applying`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse import models
from lakehouse.engines.spark import tasks
from lakehouse.errors import LakehouseError, ModelRefused, Unavailable
from lakehouse.models import Part
from lakehouse.schemas import conform
from lakehouse.scoring.inputs import features_in
from lakehouse.scoring.score import Predict, fit_rows
from lakehouse.scoring.staging import Staging, failure_row, join_batches, manifest_batch, open_challengers, stage_units

ROW, OF, BATCH, ANSWERED = "lakehouse_row", "lakehouse_of", "lakehouse_batch", "lakehouse_answered"
CARRIED = pa.schema([(ROW, pa.int32()), (OF, pa.int64()), (BATCH, pa.binary())])
"""A row's number in its batch, the batch's own number, and the batch itself, beside a row after its own."""
_TASK_BITS = 32


class RowLeftOut(Exception):
    """A row that the model gives no answer to."""


@dataclass(frozen=True)
class Handed:
    """What both sides know: the parts that are asked of the model, why it leaves a row out, and features it answers."""

    parts: tuple[Part, ...]
    left_out: str
    answered: Mapping[str, Any] | None


def rows_of_units(plan: str, handed: Handed, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Spark's function before the model, for units: each row is the number of a share."""
    staging, shares = tasks.shipped_plan(plan)
    for number in tasks.numbers(numbers):
        batches = (batch for unit in shares[number] for batch in unit.batches())
        yield from _for_model(number, batches, staging, handed)


def rows_of_frame(plan: str, handed: Handed, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Spark's function before the model, for the rows of a DataFrame."""
    staging, _ = tasks.shipped_plan(plan)
    named = (batch.rename_columns(staging.input_schema.names) for batch in batches if batch.num_rows)
    conformed = (conform(batch, staging.input_schema) for batch in named)
    yield from _for_model(tasks.task_number(), conformed, staging, handed)


def _for_model(
    task: int, batches: Iterable[pa.RecordBatch], staging: Staging, handed: Handed
) -> Iterator[pa.RecordBatch]:
    """Of each batch the features of the rows that the model may see, and a row that carries the batch."""
    for place, batch in enumerate(join_batches(batches, staging.batch_rows)):
        numbers, fit = fit_rows(batch, staging.scoring)
        rows = np.arange(batch.num_rows) if numbers is None else numbers
        made = features_in(fit, staging.scoring.features)
        last = pa.RecordBatch.from_pylist([dict(handed.answered or {})], made.schema)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        carried = [
            pa.array(np.append(rows, batch.num_rows), pa.int32()),
            pa.array(np.full(len(rows) + 1, (task << _TASK_BITS) + place, np.int64)),
            pa.array([None] * len(rows) + [sink.getvalue().to_pybytes()], pa.binary()),
        ]
        together = pa.concat_batches([made, last])
        yield pa.RecordBatch.from_arrays([*together.columns, *carried], names=[*made.schema.names, *CARRIED.names])


@dataclass(frozen=True)
class _Answered:
    """The rows of a partition behind the model, as the batches that they are of, with its answers as columns."""

    rows: Iterator[pa.RecordBatch]

    def batches(self) -> Iterator[pa.RecordBatch]:
        waiting: list[pa.RecordBatch] = []
        for rows in self.rows:
            start = 0
            for at in np.flatnonzero(rows.column(2).is_valid().to_numpy(zero_copy_only=False)).tolist():
                yield _whole(rows.slice(at, 1), [*waiting, rows.slice(start, at - start)])
                waiting, start = [], at + 1
            if start < rows.num_rows:
                waiting.append(rows.slice(start))
        if waiting:
            raise _moved()


def _whole(last: pa.RecordBatch, parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    """A batch with the answers to its rows, from the row that carries it and those before."""
    batch = pa.ipc.open_stream(last.column(2)[0].as_py()).read_next_batch()
    table = pa.concat_batches(parts)
    numbers, of = (table.column(i).to_numpy(zero_copy_only=False) for i in (0, 1))
    if (of != last.column(1)[0].as_py()).any() or (numbers >= batch.num_rows).any():
        raise _moved()
    if len(np.unique(numbers)) < len(numbers):
        raise ModelRefused("the model answers a row more than once, so that it isn't known which answer is the row's")
    at = np.full(batch.num_rows, -1, np.int64)
    at[numbers] = np.arange(len(numbers))
    found = pa.array(at, mask=at < 0)
    answers = [column.take(found) for column in table.columns[3:]]
    names = [*batch.schema.names, ANSWERED, *table.schema.names[3:]]
    return pa.RecordBatch.from_arrays([*batch.columns, pa.array(at >= 0), *answers], names=names)


def _moved() -> ModelRefused:
    return ModelRefused(
        "the model gives its answers in another order than it was given the rows, so that it isn't known which is whose"
    )


def _pick(handed: Handed) -> Predict:
    """What takes a model's place in the worker: the answers that the rows have already."""

    def answers(rows: pa.RecordBatch) -> Mapping[Part, pa.Array]:
        if rows.column(0).false_count:
            raise RowLeftOut(handed.left_out)
        return dict(zip(handed.parts, rows.columns[1:], strict=True))

    return answers


def stage_answered(
    plan: str, archive: str, handed: Handed, batches: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Spark's function behind the model: score the rows by its answers, and stage them."""
    from pyspark import SparkFiles

    task = tasks.task_number()
    try:
        staging, _ = tasks.shipped_plan(plan)
        folders = models.unpacked(SparkFiles.get(archive)) if staging.beside is not None else {}
        challengers = open_challengers(folders, staging)
    except Unavailable:
        raise  # Spark tries again
    except LakehouseError as error:
        yield manifest_batch([failure_row(task, error)])
        return
    yield manifest_batch(stage_units(task, [_Answered(batches)], staging, _pick(handed), challengers))
