"""A model's answer, in whatever form MLflow models give it, as Arrow arrays."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import ModelRefused


@dataclass(frozen=True)
class Output:
    """One prediction column: which part of the model's output it is, its type, and an optional threshold."""

    name: str
    part: int | str  # column index, name of an output, or "*" for the whole output
    type: pa.DataType | None = None  # None until the model was tried on a few rows
    threshold: float | None = None


def read_outputs(answer: Any, rows: int, outputs: tuple[Output, ...]) -> list[pa.Array]:
    """The model's answer as one Arrow array an output, each with `rows` values.

    Takes what MLflow models answer with: a 1-D or 2-D array, a Series, a DataFrame, a list, a dict of arrays.
    Raises ModelRefused for another number of rows, a part that is not there, or values that don't fit the
    output's type.
    """
    return [_read_output(answer, rows, output) for output in outputs]


def _read_output(answer: Any, rows: int, output: Output) -> pa.Array:
    if not isinstance(answer, Sized) or getattr(answer, "ndim", 1) == 0:
        what = type(answer).__name__
        raise ModelRefused(f"predictions.{output.name}: the model answered {rows} rows with a {what}, not with rows")
    values = _part(answer, output)
    if len(values) != rows:
        raise ModelRefused(f"predictions.{output.name}: the model answered {rows} rows with {len(values)} values")
    wanted = None if output.threshold is not None else output.type
    try:
        array = _arrow(values, wanted)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        fit = wanted or "a column"
        raise ModelRefused(f"predictions.{output.name}: the model's values don't fit {fit}: {error}") from error
    if output.threshold is None:
        return array
    if not (pa.types.is_floating(array.type) or pa.types.is_integer(array.type)):
        raise ModelRefused(f"predictions.{output.name}: a threshold needs numbers, the model gives {array.type}")
    above = pc.greater_equal(array, output.threshold)
    return pc.if_else(pc.is_nan(array), None, above) if pa.types.is_floating(array.type) else above


def _part(answer: Any, output: Output) -> Any:
    part = output.part
    if isinstance(answer, pd.DataFrame):
        if part == "*":
            return answer.iloc[:, 0] if answer.shape[1] == 1 else answer.to_numpy()
        names = list(answer.columns)
        if part in names:
            return answer[part]
        if isinstance(part, int) and part < len(names):
            return answer.iloc[:, part]
        raise ModelRefused(f"predictions.{output.name}: the model has no output {part!r}, it has {names}")
    if isinstance(answer, dict):
        if part not in answer:
            raise ModelRefused(f"predictions.{output.name}: the model has no output {part!r}, it has {list(answer)}")
        return answer[part]
    if part == "*" or (part == 0 and isinstance(answer, pd.Series)):
        column = isinstance(answer, np.ndarray) and answer.ndim == 2 and answer.shape[1] == 1
        return answer[:, 0] if column else answer
    if isinstance(part, str):
        raise ModelRefused(f"predictions.{output.name}: the model's output has no names, so no {part!r}")
    try:
        matrix = np.asarray(answer)
    except ValueError:
        raise ModelRefused(f"predictions.{output.name}: no column {part}, the model's rows differ in length") from None
    width = matrix.shape[1] if matrix.ndim > 1 else 1
    if part >= width:
        raise ModelRefused(f"predictions.{output.name}: no column {part}, the model's output has {width}")
    return matrix[:, part] if matrix.ndim > 1 else matrix


def _arrow(values: Any, wanted: pa.DataType | None) -> pa.Array:
    if isinstance(values, pd.Series) and isinstance(values.dtype, np.dtype):
        values = values.to_numpy()  # pandas' own types keep their nulls, and integers every digit
    if isinstance(values, np.ndarray) and values.ndim > 1:
        flat = values.reshape(len(values), -1)
        offsets = np.arange(len(flat) + 1, dtype=np.int32) * flat.shape[1]
        array = pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(flat).ravel()))
    elif isinstance(values, np.ndarray) and values.dtype == object:
        array = pa.array(values.tolist(), from_pandas=True)
    else:
        # NaN is a value here, not a missing one.
        array = pa.array(values, from_pandas=False)
    return array if wanted is None or array.type == wanted else array.cast(wanted, safe=True)
