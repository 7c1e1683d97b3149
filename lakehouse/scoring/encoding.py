"""Values as bytes that are the same whoever makes them: here from Arrow, a batch at a time; from JSON by `values`.

This is version 1. A value is a tag of one byte and what follows it; a row is its values, one after the other.

| tag | value | what follows |
|---|---|---|
| 0 | null | 8 zero bytes |
| 1 | boolean | 8 bytes, little-endian: 0 or 1 |
| 2 | integer, of whatever width | 8 bytes, two's complement, little-endian |
| 3 | float, of whatever width | 8 bytes, IEEE 754 binary64, little-endian; of NaN there is one: 7ff8000000000000 |
| 4 | date | 8 bytes, as an integer: days since 1970 |
| 5 | timestamp without a zone | 8 bytes, as an integer: microseconds since 1970 |
| 6 | instant (timestamp with a zone) | the same, of UTC |
| 7 | text | its length in bytes (8 bytes, little-endian), then UTF-8 |
| 8 | binary | its length, then itself |
| 9 | decimal | the length of its text, then that: digits without zeros at either end that say nothing: -12.5, .05 |
| 10 | list | how many values (8 bytes, little-endian), then these |
| 11 | struct | how many fields, then name (as a text) and value of each |
| 12 | map | how many entries, then key and value of each |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.connectors import canonical
from lakehouse.models.nested import entries, is_list

NULL, BOOLEAN, INTEGER, FLOAT, DATE, TIMESTAMP, INSTANT, TEXT, BINARY, DECIMAL, LIST, STRUCT, MAP = range(13)
NAN = 0x7FF8 << 48


def encode_rows(columns: Sequence[pa.Array], rows: int) -> pa.LargeBinaryArray:
    """The bytes of each row of these columns. Raises TypeError for a type that has none."""
    parts: list[pa.Array] = []
    beside: list[_Words] = []  # neighbours of one width make one piece of a row
    for column in columns:
        words, rest = _encode(column)
        beside.append(words)
        if rest is not None:
            parts += [_of_width(beside, rows), rest]
            beside = []
    if beside or not parts:
        parts.append(_of_width(beside, rows))
    return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()))


@dataclass(frozen=True)
class _Words:
    """A column's tag and 8 bytes a value, as a number; `absent`: which are null, None where none is."""

    tag: int
    values: Any
    absent: Any | None


def _of_width(columns: Sequence[_Words], rows: int) -> pa.LargeBinaryArray:
    """Tag and word of each of these columns, side by side."""
    layout = _layout(len(columns))
    matrix = np.empty(rows, layout)
    for number, column in enumerate(columns):
        matrix[f"t{number}"] = column.tag
        matrix[f"w{number}"] = column.values
        if column.absent is not None:
            matrix[f"t{number}"][column.absent] = NULL
            matrix[f"w{number}"][column.absent] = 0
    ends = np.arange(rows + 1, dtype=np.int64) * layout.itemsize
    return pa.Array.from_buffers(pa.large_binary(), rows, [None, pa.py_buffer(ends), pa.py_buffer(matrix.tobytes())])


@cache
def _layout(columns: int) -> np.dtype[Any]:
    return np.dtype([field for i in range(columns) for field in ((f"t{i}", "u1"), (f"w{i}", "<u8"))])


def _encode(column: pa.Array) -> tuple[_Words, pa.Array | None]:
    """A column's tag and words, and what comes after them; None where nothing does."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    tag, words, rest = _words(column)
    return _Words(tag, words, column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None), rest


def _words(column: pa.Array) -> tuple[int, Any, pa.Array | None]:
    """A column's tag, the 8 bytes of each value as a number (anything for a null), and what comes after."""
    kind, types = column.type, pa.types
    if types.is_null(kind):
        return NULL, np.zeros(len(column), np.uint64), None
    if types.is_boolean(kind):
        return BOOLEAN, _integers(column.cast(pa.uint8())), None
    if kind == pa.uint64():  # more than a signed integer holds
        return _words(column.cast(pa.decimal128(20, 0)))
    if types.is_integer(kind):
        return INTEGER, _integers(column), None
    if types.is_floating(kind):
        floats = pc.fill_null(column.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False)
        return FLOAT, np.where(np.isnan(floats), np.uint64(NAN), floats.view(np.uint64)), None
    if types.is_date(kind):
        return DATE, _integers(column.cast(pa.date32()).view(pa.int32())), None
    if types.is_timestamp(kind):
        return _of_time(column)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return _with_length(TEXT, column.cast(pa.large_string()).cast(pa.large_binary()))
    if (
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    ):
        return _with_length(BINARY, column.cast(pa.large_binary()))
    if types.is_decimal(kind):
        return _with_length(DECIMAL, canonical.texts(column).cast(pa.large_binary()))
    return _nested(column)


def _integers(column: pa.Array) -> Any:
    values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
    return values.astype(np.int64 if values.dtype.kind == "i" else np.uint64).view(np.uint64)


def _of_time(column: pa.Array) -> tuple[int, Any, None]:
    zone = column.type.tz
    micros = column.cast(pa.timestamp("us", zone), safe=False)
    return TIMESTAMP if zone is None else INSTANT, _integers(micros.view(pa.int64())), None


def _with_length(tag: int, values: pa.Array) -> tuple[int, Any, pa.Array]:
    filled = pc.fill_null(values, b"")
    return tag, _integers(pc.binary_length(filled)), filled


def _nested(column: pa.Array) -> tuple[int, Any, pa.Array]:
    """A list, struct or map: how many parts a value has, and the bytes of these one after the other."""
    kind, rows = column.type, len(column)
    if is_list(kind):
        lengths = _integers(pc.list_value_length(column))
        items = pc.list_flatten(column)
        return LIST, lengths, _joined(encode_rows([items], len(items)), lengths)
    if pa.types.is_map(kind):
        _, counts, keys, items = entries(column)
        lengths = counts.astype(np.uint64)
        return MAP, lengths, _joined(encode_rows([keys, items], len(keys)), lengths)
    if pa.types.is_struct(kind):
        parts = zip(kind, column.flatten(), strict=True)
        named = [one for field, part in parts for one in (pa.repeat(field.name, rows), part)]
        fields = encode_rows(named, rows)
        if column.null_count:
            fields = pc.if_else(column.is_valid(), fields, pa.scalar(b"", pa.large_binary()))
        return STRUCT, np.full(rows, kind.num_fields, np.uint64), fields
    raise TypeError(f"{kind} has no encoding")


def _joined(items: pa.LargeBinaryArray, lengths: Any) -> pa.LargeBinaryArray:
    """Each so many of the items as one."""
    _, ends, content = items.buffers()
    ends = np.frombuffer(ends, np.int64)[items.offset :][: len(items) + 1]
    at = np.concatenate([[0], np.cumsum(lengths.astype(np.int64))])
    return pa.Array.from_buffers(pa.large_binary(), len(lengths), [None, pa.py_buffer(ends[at]), content])
