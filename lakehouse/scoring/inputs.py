"""What the model is called with: the rows that can be given to it, and the frame or matrix they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import models
from lakehouse.models.conversions import can_lose, convert
from lakehouse.models.nested import entries, is_list, is_nested
from lakehouse.schemas import UNREADABLE, Feature
from lakehouse.scoring.reasons import Broken, Numbers

if TYPE_CHECKING:
    from lakehouse.scoring.score import Scoring


READABLE = "readable"
"""The rule that rows break which their source could not read."""


def unfit_rows(batch: pa.RecordBatch, scoring: Scoring) -> list[Broken]:
    """Rows that can't be given to the model: unreadable ones, a null key, a value that the feature's type can't hold.

    Such is a null in a required integer, boolean, list, struct or map and in a part of one that has to be there, and
    what would change on its way to the feature's type. With `nulls: quarantine` every null in a required feature is
    such, and every NaN or infinity.
    """
    at = _positions(batch)
    broken = unreadable_rows(batch)
    broken += [Broken("key_not_null", name, _null_rows(batch.column(at[name]))) for name in scoring.keys]
    texts = [tensor.dtype == "str" for tensor in scoring.tensors for _ in range(tensor.columns)]  # numpy's hold no null
    for number, feature in enumerate(scoring.features):
        strict = scoring.nulls == "quarantine" or (bool(texts) and texts[number])
        broken += _unfit_in(batch.column(at[feature.column]), feature, strict)
    return [b for b in broken if len(b.rows)]


def unreadable_rows(batch: pa.RecordBatch) -> list[Broken]:
    """The rows that their source could not read, with what it says of each; none where there are no such."""
    if UNREADABLE not in batch.schema.names or (why := batch.column(UNREADABLE)).null_count == batch.num_rows:
        return []
    rows = np.flatnonzero(why.is_valid().to_numpy(zero_copy_only=False))
    return [Broken(READABLE, "", rows, why.take(pa.array(rows)))]


def _unfit_in(column: pa.Array, feature: Feature, strict: bool) -> Iterator[Broken]:
    """Rows that one feature can't hold; `strict`: nulls, NaN and infinities of a required one are such."""
    kind = feature.type
    if feature.required and (strict or is_nested(kind) or not _holds_null(kind)):
        yield Broken("required", feature.column, _null_rows(column))
    made = column
    if can_lose(column.type, kind, feature.cast):
        made, lost = _as_feature(column, feature)
        yield from _lost(column, feature, lost)
    if not is_nested(kind) and not strict:
        return
    whole, *parts = _parts(made, kind, feature.required, np.arange(len(made)))
    found = [part.rows[_is_null(part.column)] for part in parts if part.column.null_count and part.never_null(strict)]
    if found:
        yield Broken("required", feature.column, np.unique(np.concatenate(found)))
    for part in (whole, *parts):
        if strict and part.required and pa.types.is_floating(part.column.type):
            wrong = pc.fill_null(pc.invert(pc.is_finite(part.column)), False).to_numpy(zero_copy_only=False)
            numbers, first = np.unique(part.rows[wrong], return_index=True)
            texts = part.column.filter(pa.array(wrong)).take(pa.array(first)).cast(pa.string())
            yield Broken("finite", feature.column, numbers, texts)


@dataclass(frozen=True)
class _Part:
    """All values in one place of a nested column, with the row that each is of; `item`: in a list itself."""

    rows: Any
    column: pa.Array
    kind: pa.DataType
    required: bool
    item: bool

    def never_null(self, strict: bool) -> bool:
        if self.item and not is_nested(self.kind):  # arrays of floats and texts have a form for it
            return not _holds_null(self.kind) or (strict and self.required)
        return self.required


def _parts(column: pa.Array, kind: pa.DataType, required: bool, rows: Any, item: bool = False) -> Iterator[_Part]:
    """A column and all within it; parts of lists and maps are as required as these, as MLflow has it."""
    yield _Part(rows, column, kind, required, item)
    if is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        yield from _parts(pc.list_flatten(column), kind.value_type, required, np.repeat(rows, lengths), True)
    elif pa.types.is_map(kind):
        _, lengths, _, items = entries(column)
        yield from _parts(items, kind.item_type, required, np.repeat(rows, lengths))
    elif pa.types.is_struct(kind):
        if column.null_count:
            column, rows = column.filter(column.is_valid()), rows[~_is_null(column)]
        for name, part in zip([field.name for field in column.type], column.flatten(), strict=True):
            if (number := kind.get_field_index(name)) >= 0:
                yield from _parts(part, kind.field(number).type, not kind.field(number).nullable, rows)


def _holds_null(kind: pa.DataType) -> bool:
    return not (pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _is_null(column: pa.Array) -> Any:
    return column.is_null().to_numpy(zero_copy_only=False)


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
    texts = [str(v)[:500] for v in taken.to_pylist()] if is_nested(column.type) else taken.cast(pa.string())
    yield Broken("exact" if feature.cast is None else "cast", feature.column, rows, pa.array(texts, pa.string()))


def _null_rows(column: pa.Array) -> Numbers:
    if column.null_count == 0:
        return np.empty(0, np.int64)
    return np.flatnonzero(_is_null(column))


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


def model_given(batch: pa.RecordBatch, scoring: Scoring) -> models.Given:
    """What the model is given of a batch, as Arrow columns in the features' types."""
    at = _positions(batch)
    features = scoring.features
    columns = tuple(_as_feature(batch.column(at[f.column]), f)[0] for f in features)
    names, required = tuple(f.name for f in features), tuple(f.required for f in features)
    return models.Given(batch.num_rows, columns, names, required, scoring.tensors)


def model_input(batch: pa.RecordBatch, scoring: Scoring, predict: Any = None) -> Any:
    """What the model is called with: a DataFrame, or its tensors as arrays (`models.Given.as_input`).

    One whose `predict` runs it in a process of its own gets the columns themselves, and makes that of them there. For a
    model that Spark applies it is an Arrow batch: of its features, or of its answers once it is applied.
    """
    if scoring.carried is not None:  # Spark applies the model
        return batch.select(scoring.carried) if scoring.carried else features_in(batch, scoring.features)
    given = model_given(batch, scoring)
    return given if models.takes_columns(predict) else given.as_input()
