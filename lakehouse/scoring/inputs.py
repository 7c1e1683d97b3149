"""What the model is called with: the rows that can be given to it, and the frame or matrix they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.models.conversions import can_lose, convert, is_list
from lakehouse.schemas import Feature
from lakehouse.scoring.reasons import Broken, Numbers

if TYPE_CHECKING:
    from lakehouse.scoring.score import Scoring


def unfit_rows(batch: pa.RecordBatch, scoring: Scoring) -> list[Broken]:
    """Rows that can't be given to the model: a null key, or a value that the feature's type can't hold.

    Such is a null in a required integer, boolean or list, and what would change on its way to the feature's type. With
    `nulls: quarantine` every null in a required feature is such, and every NaN or infinity.
    """
    at = _positions(batch)
    broken = [Broken("key_not_null", name, _null_rows(batch.column(at[name]))) for name in scoring.keys]
    for feature in scoring.features:
        broken += _unfit_in(batch.column(at[feature.column]), feature, scoring.nulls == "quarantine")
    return [b for b in broken if len(b.rows)]


def _unfit_in(column: pa.Array, feature: Feature, strict: bool) -> Iterator[Broken]:
    """Rows that one feature can't hold; `strict`: nulls, NaN and infinities of a required one are such."""
    kind, item = feature.type, _item(feature.type)
    holds_null = not (pa.types.is_integer(item) or pa.types.is_boolean(item))
    if feature.required and (strict or not holds_null or is_list(kind)):
        yield Broken("required", feature.column, _null_rows(column))
    made = column
    if can_lose(column.type, kind, feature.cast):
        made, lost = _as_feature(column, feature)
        yield from _lost(column, feature, lost)
    if is_list(kind) and (not holds_null or (strict and feature.required)):
        rows, items = _items(made)
        yield Broken("required", feature.column, np.unique(rows[items.is_null().to_numpy(zero_copy_only=False)]))
    if feature.required and strict and pa.types.is_floating(item):
        rows, items = _items(made) if is_list(kind) else (np.arange(len(made)), made)
        if pa.types.is_floating(items.type):
            wrong = pc.fill_null(pc.invert(pc.is_finite(items)), False).to_numpy(zero_copy_only=False)
            numbers, first = np.unique(rows[wrong], return_index=True)
            texts = items.filter(pa.array(wrong)).take(pa.array(first)).cast(pa.string())
            yield Broken("finite", feature.column, numbers, texts)


def _lost(column: pa.Array, feature: Feature, lost: Any | None) -> Iterator[Broken]:
    """The rows that lose a value on its way to the feature's type, with the value."""
    if lost is None or not lost.any():
        return
    short = np.zeros(len(column), bool)
    if pa.types.is_fixed_size_list(feature.type):
        lengths = pc.list_value_length(column)
        short = pc.fill_null(pc.not_equal(lengths, feature.type.list_size), False).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(short)
        yield Broken("length", feature.column, rows, lengths.take(pa.array(rows)).cast(pa.string()))
    rows = np.flatnonzero(lost & ~short)
    taken = column.take(pa.array(rows))
    texts = [str(v)[:500] for v in taken.to_pylist()] if is_list(column.type) else taken.cast(pa.string())
    yield Broken("exact" if feature.cast is None else "cast", feature.column, rows, pa.array(texts, pa.string()))


def _null_rows(column: pa.Array) -> Numbers:
    if column.null_count == 0:
        return np.empty(0, np.int64)
    return np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))


def _item(kind: pa.DataType) -> pa.DataType:
    return _item(kind.value_type) if is_list(kind) else kind


def _items(column: pa.Array) -> tuple[Any, pa.Array]:
    """The innermost items of lists, and the row that each is of."""
    rows = np.arange(len(column))
    while is_list(column.type):
        rows = np.repeat(rows, pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False))
        column = pc.list_flatten(column)
    return rows, column


def _positions(batch: pa.RecordBatch) -> dict[str, int]:
    """Where each column is: a batch looks a name up among all of its columns, which adds up with thousands."""
    return {name: number for number, name in enumerate(batch.schema.names)}


def _as_feature(column: pa.Array, feature: Feature) -> tuple[pa.Array, Any | None]:
    """A column in the feature's type, by way of what the job has it cast to, and a mask of the values that are lost."""
    if feature.cast is None:
        return convert(column, feature.type)
    made, lost = convert(column, feature.cast)
    made, more = convert(made, feature.type)
    return made, more if lost is None else lost if more is None else lost | more


def features_in(batch: pa.RecordBatch, features: Sequence[Feature]) -> pa.RecordBatch:
    """The rows as the model is given them: one column a feature, by its name and in its type."""
    at = _positions(batch)
    arrays = [_as_feature(batch.column(at[f.column]), f)[0] for f in features]
    return pa.RecordBatch.from_arrays(arrays, names=[str(f.name) for f in features])


def model_input(batch: pa.RecordBatch, scoring: Scoring) -> Any:
    """What the model is called with: a DataFrame with the signature's names and dtypes, or a 2-D array.

    Made afresh, writable and with an index from 0 at every call: nothing that a model changes in it is in the batch.
    Features that are all float64 (or all float32) are laid column by column into one Fortran-ordered matrix,
    which pandas wraps without a copy and scikit-learn reads as it is. Nulls become NaN in floats, NaT in datetimes and
    None in strings and booleans; optional integers with nulls become pandas' `Int64`, which keeps every digit. Lists
    are arrays, as Spark gives them to `mlflow.pyfunc.spark_udf`.
    """
    at = _positions(batch)
    columns = [_as_feature(batch.column(at[f.column]), f)[0] for f in scoring.features]
    kinds = {feature.type for feature in scoring.features}
    names = [feature.name for feature in scoring.features]
    if scoring.matrix and is_list(scoring.features[0].type):
        items = pc.list_flatten(columns[0]).to_numpy(zero_copy_only=False)
        return np.array(items).reshape(batch.num_rows, scoring.features[0].type.list_size)
    if kinds in ({pa.float64()}, {pa.float32()}) or scoring.matrix:
        matrix = np.empty((batch.num_rows, len(names)), dtype=next(iter(kinds)).to_pandas_dtype(), order="F")
        for i, column in enumerate(columns):
            matrix[:, i] = column.to_numpy(zero_copy_only=False)
        return matrix if scoring.matrix else pd.DataFrame(matrix, columns=names, copy=False)
    values = {name: _values(column) for name, column in zip(names, columns, strict=True)}
    return pd.DataFrame(values, index=pd.RangeIndex(batch.num_rows))


def _values(column: pa.Array) -> Any:
    """A column as pandas takes it into a frame, which copies it."""
    if is_list(column.type):
        return _arrays(column)
    nullable = None
    if pa.types.is_integer(column.type) and column.null_count:
        nullable = {column.type: pd.api.types.pandas_dtype(f"Int{column.type.bit_width}")}.get
    return column.to_pandas(types_mapper=nullable)


def _arrays(column: pa.Array) -> Any:
    """Lists as an array of arrays; lists of lists of one length as arrays of two dimensions."""
    items = pc.list_flatten(column)
    inner: Any = _arrays(items) if is_list(items.type) else np.array(items.to_numpy(zero_copy_only=False))
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    made = np.empty(len(column), object)
    for row, (stop, length, null) in enumerate(
        zip(np.cumsum(lengths), lengths, column.is_null().to_pylist(), strict=True)
    ):
        part = inner[stop - length : stop]
        regular = is_list(items.type) and len({np.shape(v) for v in part}) == 1
        made[row] = None if null else np.stack(part) if regular else part
    return made
