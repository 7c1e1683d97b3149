"""Keys as 64-bit hashes: equal keys have the same one, others another, but for rare collisions.

Equal is what SQL calls so: NaN is NaN, 0.0 is -0.0. The bits of a single key of at most 64 bits are only multiplied by
an odd number, so that no two of them have the same hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint64]

_ODD, _MIXED = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)  # of splitmix64
_LONGEST = 256
"""Bytes of a text that are hashed eight at a time; longer ones are hashed each for itself."""
_SIGN = np.uint64(1 << 63)


def hash_rows(columns: Sequence[pa.Array]) -> Hashes:
    """A hash a row of columns without nulls, normalised."""
    words = [word for column in columns for word in _words(column)]
    found = words[0] * _ODD
    for word in words[1:]:
        found ^= found >> np.uint64(32)
        found *= _MIXED
        found ^= word
        found *= _ODD
    return found


def normalise(column: pa.Array) -> pa.Array:
    """The column in a type of which equal values have the same bytes, so that rows can be grouped by it."""
    kind = column.type
    if pa.types.is_floating(kind):
        kind = pa.float32() if kind == pa.float16() else kind
        values = column.cast(kind).to_numpy(zero_copy_only=False) + kind.to_pandas_dtype()(0)  # -0.0 + 0.0 is 0.0
        values[np.isnan(values)] = np.nan
        return pa.array(values, kind, from_pandas=False)
    if pa.types.is_nested(kind):
        return pa.array([repr(_plain(value)) for value in column.to_pylist()], pa.string())
    return column


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value + 0.0
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def order_as_int64(column: pa.Array) -> Hashes | None:
    """Whole numbers in the order of the column's values, None for a type that has none of 64 bits."""
    kind = column.type
    if pa.types.is_floating(kind):
        bits = _bits(normalise(column).cast(pa.float64()))
        return np.where(bits & _SIGN, ~bits, bits | _SIGN)
    if pa.types.is_integer(kind) or pa.types.is_temporal(kind):
        bits = _bits(column)
        return bits if pa.types.is_unsigned_integer(kind) else bits ^ _SIGN
    return None


def _words(column: pa.Array) -> Iterator[Hashes]:
    """The column's values in parts of 64 bits."""
    kind = column.type
    if pa.types.is_boolean(kind):
        yield _bits(column.cast(pa.uint8()))
    elif pa.types.is_integer(kind) or pa.types.is_temporal(kind):
        yield _bits(column)
    elif pa.types.is_floating(kind):
        yield _bits(column.cast(pa.float64()))
    elif pa.types.is_decimal128(kind):
        halves = np.frombuffer(column.buffers()[1], np.uint64)[2 * column.offset : 2 * (column.offset + len(column))]
        yield halves[::2]
        yield halves[1::2]
    else:
        if pa.types.is_decimal(kind):
            column = column.cast(pa.string())
        yield _of_texts(column.cast(pa.large_binary()))


def _bits(column: pa.Array) -> Hashes:
    """The 64 bits of numbers and times; narrower ones are widened with their sign."""
    kind = column.type
    if pa.types.is_temporal(kind):
        column = column.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype.itemsize < 8:
        values = values.astype(np.uint64 if values.dtype.kind == "u" else np.int64)
    bits: Hashes = np.ascontiguousarray(values).view(np.uint64)
    return bits


def _of_texts(column: pa.LargeBinaryArray) -> Hashes:
    """A hash a text, from eight bytes of every text at a time."""
    ends = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    lengths = np.diff(ends)
    found = lengths.astype(np.uint64) * _MIXED
    longest = int(lengths.max(initial=0))
    short = lengths <= _LONGEST
    if not short.all():
        for row in np.flatnonzero(~short):
            digest = hashlib.blake2b(column[int(row)].as_buffer(), digest_size=8).digest()
            found[row] = int.from_bytes(digest, "little")
        longest = int(lengths[short].max(initial=0))
    if longest == 0:
        return found
    data = np.frombuffer(column.buffers()[2], np.uint8)
    same = short.all() and int(lengths.min()) == longest
    words = _of_one_length(data, ends, longest) if same else _of_any_length(data, ends, lengths, longest)
    for rows, word in words:
        if rows is None:
            found = _mix(found, word)
        else:
            found[rows] = _mix(found[rows], word)
    return found


def _mix(found: Hashes, word: Hashes) -> Hashes:
    found = (found ^ word) * _ODD
    found ^= found >> np.uint64(32)
    return found


def _of_one_length(data: npt.NDArray[np.uint8], ends: Any, length: int) -> Iterator[tuple[None, Hashes]]:
    count = -(-length // 8)
    padded = np.zeros((len(ends) - 1, 8 * count), np.uint8)
    padded[:, :length] = data[ends[0] : ends[-1]].reshape(-1, length)
    for word in padded.view(np.uint64).T:
        yield None, word


def _of_any_length(data: npt.NDArray[np.uint8], ends: Any, lengths: Any, longest: int) -> Iterator[tuple[Any, Hashes]]:
    """Rows that are that long, and their next eight bytes, zeros behind the end."""
    padded = np.concatenate([data[ends[0] : ends[-1]], np.zeros(8, np.uint8)])
    at_each = np.ndarray((len(padded) - 7,), np.uint64, padded, strides=(1,))
    kept = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
    starts = ends[:-1] - ends[0]
    for begin in range(0, longest, 8):
        rows = np.flatnonzero((lengths > begin) & (lengths <= _LONGEST))
        yield rows, at_each[starts[rows] + begin] & kept[np.minimum(lengths[rows] - begin, 8)]
