"""Columns as texts in JSON, made by Arrow; what JSON has no type for as in `encode`.

A column whose values Arrow can't write so, such as one of bytes, is written value by value.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.connectors.canonical import join, quote

_TEXT = pa.large_string()


def encode(content: Any) -> str:
    """Any value: null for NaN and infinities, ISO 8601 for times, base64 for bytes, text for decimals and others."""
    try:
        return json.dumps(content, default=_plain, allow_nan=False, ensure_ascii=False)
    except ValueError:
        return json.dumps(_without_nan(content), default=_plain, ensure_ascii=False)


def objects(columns: Mapping[str, pa.Array]) -> pa.Array:
    """An object a row."""
    parts: list[Any] = []
    for name, column in columns.items():
        parts += [f"{', ' if parts else '{'}{encode(name)}: ", _filled(column)]
    return join(*parts, "}")


def lists(columns: Sequence[pa.Array]) -> pa.Array:
    """A list a row."""
    parts: list[Any] = []
    for column in columns:
        parts += [", " if parts else "[", _filled(column)]
    return join(*parts, "]")


def _filled(column: pa.Array) -> pa.Array:
    texts = values(column)
    return pc.fill_null(texts, "null") if texts.null_count else texts


def values(column: pa.Array) -> pa.Array:
    """Each value as JSON; null where it is none, or no number."""
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return column.cast(_TEXT)
    if pa.types.is_floating(kind):
        return _floats(column.cast(pa.float64()))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return quote(column.cast(_TEXT))
    if pa.types.is_date32(kind) or pa.types.is_decimal(kind):
        return join('"', column.cast(_TEXT), '"')
    if pa.types.is_timestamp(kind) and kind.unit == "us" and kind.tz in (None, "UTC"):
        return join('"', _times(column), '"')
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _nested(_of_lists(column), column)
    if pa.types.is_struct(kind) and kind.num_fields:
        return _nested(objects(dict(zip((field.name for field in kind), column.flatten(), strict=True))), column)
    return pa.array([None if value is None else encode(value) for value in column.to_pylist()], _TEXT)


def _of_lists(column: pa.Array) -> pa.Array:
    ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(column), 0).cast(pa.int64()))
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends])
    inside = pa.LargeListArray.from_arrays(offsets, _filled(column.flatten()))
    return join("[", pc.binary_join(inside, pa.scalar(", ", _TEXT)), "]")


def _nested(texts: pa.Array, column: pa.Array) -> pa.Array:
    """The texts, null where the column is."""
    return pc.if_else(column.is_valid(), texts, None) if column.null_count else texts


def _floats(column: pa.Array) -> pa.Array:
    """As Python writes them: whole ones have a point, so that readers take all of a column for fractions."""
    texts = pc.if_else(pc.is_finite(column), column, None).cast(_TEXT)
    whole = pc.invert(pc.match_substring_regex(texts, "[.e]"))
    return pc.if_else(whole, join(texts, ".0"), texts) if pc.any(whole).as_py() else texts


def _times(column: pa.Array) -> pa.Array:
    """As `datetime.isoformat` writes them."""
    texts = pc.replace_substring(column.cast(pa.timestamp("us")).cast(_TEXT), " ", "T")
    texts = pc.replace_substring_regex(texts, r"\.000000$", "")
    return texts if column.type.tz is None else join(texts, "+00:00")


def _plain(value: Any) -> Any:
    """What JSON has no type for."""
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
