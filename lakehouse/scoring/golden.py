"""Golden rows: a few rows whose predictions are known, by which a process shows that it answers as the driver did.

Equal means what `models.alike` says: identical, and for floats equal but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse import models
from lakehouse.scoring.inputs import model_input
from lakehouse.scoring.outputs import read_outputs
from lakehouse.scoring.score import Predict, Scoring

ROWS = 64
"""Rows, at most."""
_SHOWN = 3


@dataclass(frozen=True)
class Golden:
    """Rows of features (one column each, by its name and in its type) and what the model answers to them.

    `origin`: where they are from, in words; empty for those that are stored already.
    """

    rows: pa.RecordBatch
    answers: pa.RecordBatch
    origin: str = ""


@dataclass(frozen=True)
class Expected:
    """What a worker is held against: versions, golden rows where there are any; `strict`: or it may not score."""

    environment: models.Recorded
    golden: Golden | None
    strict: bool


def answer(rows: pa.RecordBatch, scoring: Scoring, predict: Predict) -> pa.RecordBatch | str:
    """What the model answers to golden rows, a column a prediction, before thresholds; in words where it raises."""
    features = tuple(replace(f, column=str(f.name), cast=None) for f in scoring.features)
    outputs = tuple(replace(output, threshold=None) for output in scoring.outputs)
    given = model_input(rows, replace(scoring, features=features), predict)
    try:
        arrays, _ = read_outputs(predict(given), rows.num_rows, outputs)
    except (Exception, SystemExit) as error:
        return f"it raises {type(error).__name__}: {error}"
    return pa.RecordBatch.from_arrays(arrays, names=[output.name for output in outputs])


def describe_differences(wanted: pa.RecordBatch, given: pa.RecordBatch | str) -> str:
    """Where two answers to the same golden rows differ by more than rounding, in words; empty where they don't."""
    if isinstance(given, str):
        return given
    if wanted.schema.names != given.schema.names or wanted.num_rows != given.num_rows:
        return f"other predictions ({', '.join(given.schema.names)})"
    said = []
    for name, one, other in zip(wanted.schema.names, wanted.columns, given.columns, strict=True):
        rows = sorted(_differing(one, other))
        if rows:
            some = "; ".join(f"{_short(one[row])} and {_short(other[row])}" for row in rows[:_SHOWN])
            said.append(f"{name} in {len(rows)} of {wanted.num_rows} rows ({some})")
    return ", ".join(said)


def _short(value: pa.Scalar) -> str:
    text = str(value.as_py())
    return text if len(text) <= 60 else f"{text[:60]}…"


def _differing(one: pa.Array, other: pa.Array) -> set[int]:
    """The rows in which two columns differ."""
    if one.type != other.type and not (pa.types.is_floating(one.type) and pa.types.is_floating(other.type)):
        return set(range(len(one)))
    if pa.types.is_floating(one.type):
        return set(np.flatnonzero(~_close(one, other)).tolist())
    if _is_list_of_floats(one.type):
        return set(_differing_lists(one, other))
    pairs = enumerate(zip(one.to_pylist(), other.to_pylist(), strict=True))
    return {row for row, (a, b) in pairs if not models.same(a, b)}


def _is_list_of_floats(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_floating(kind.value_type))


def _differing_lists(one: pa.Array, other: pa.Array) -> Iterator[int]:
    for row, (a, b) in enumerate(zip(one, other, strict=True)):
        alike = a.is_valid == b.is_valid
        if alike and a.is_valid:
            alike = len(a.values) == len(b.values) and bool(_close(a.values, b.values).all())
        if not alike:
            yield row


def _close(one: pa.Array, other: pa.Array) -> Any:
    """By row whether floats are equal but for rounding; a null is equal to a null, NaN to NaN."""
    near = models.alike(*(column.to_numpy(zero_copy_only=False) for column in (one, other)))
    nulls = one.is_null().to_numpy(zero_copy_only=False), other.is_null().to_numpy(zero_copy_only=False)
    return near & (nulls[0] == nulls[1])
