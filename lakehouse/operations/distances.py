"""How far the numbers of two columns are apart, and whether a known detour of theirs explains it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LIMITS = (1e-12, 1e-9, 1e-6, 1e-3)
"""Rows are counted by the first of these that their absolute difference is not beyond."""
SIZES = ("equal", *(f"<={limit:.0e}".replace("e-0", "e-") for limit in LIMITS), "more")
OURS_ONLY, THEIRS_ONLY = "null there", "null here"
_BLOCK = 1 << 18
"""Rows that are looked at at a time, so that what is computed of them stays small."""
_DIGITS = range(13)
_SHOWN = 3


@dataclass
class Distances:
    """Rows by the size of their difference: one of SIZES, or a null (or NaN) on one side; two nulls are equal.

    Of those that differ and have both values (`differing`): `rounded`, by a number of digits, those whose other value
    is ours rounded to so many; `single`, those whose other value is ours as a 32-bit float; `integers`, those whose
    other value is ours, an integer, as a 64-bit float. `examples`: some rows' numbers, by size.
    """

    sizes: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*SIZES, OURS_ONLY, THEIRS_ONLY), 0))
    differing: int = 0
    rounded: dict[int, int] = field(default_factory=lambda: dict.fromkeys(_DIGITS, 0))
    single: int = 0
    integers: int = 0
    examples: dict[str, list[int]] = field(default_factory=dict)

    @property
    def digits(self) -> tuple[int, int]:
        """The number of digits that explains most rows, the smallest of several, and how many rows it explains."""
        most = max(self.rounded.values())
        return next(n for n, rows in self.rounded.items() if rows == most), most


def measure(ours: pa.ChunkedArray, theirs: pa.ChunkedArray) -> Distances:
    """Compare two columns of numbers, row by row; both of integers, floats or decimals."""
    found = Distances()
    for start, own, other in _blocks(ours, theirs):
        _count(found, start, own, other)
    return found


def by_equality(ours: pa.ChunkedArray, theirs: pa.ChunkedArray) -> Distances:
    """Compare two columns of one type that is no number: equal, or "more"."""
    found = Distances()
    for start, own, other in _blocks(ours, theirs):
        has, have = _present(own), _present(other)
        same = pc.fill_null(pc.equal(own, other), False).to_numpy(zero_copy_only=False) | (~has & ~have)
        size = np.where(same, 0, len(LIMITS) + 1)
        size[has & ~have], size[~has & have] = len(SIZES), len(SIZES) + 1
        _sort(found, start, size)
        found.differing += int((has & have & ~same).sum())
    return found


def _sort(found: Distances, start: int, size: Any) -> None:
    """Add rows, the first being `start`, by the number of their size."""
    for number, name in enumerate(found.sizes):
        rows = np.flatnonzero(size == number)
        found.sizes[name] += len(rows)
        if number and len(rows) and len(told := found.examples.setdefault(name, [])) < _SHOWN:
            told += (rows[: _SHOWN - len(told)] + start).tolist()


def is_number(kind: pa.DataType) -> bool:
    """Whether differences of values of this type can be measured."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_integer_made_float(ours: pa.DataType, theirs: pa.DataType) -> bool:
    """Whether an integer of ours is a float there, as pandas makes of a column with nulls."""
    return bool(pa.types.is_integer(ours) and pa.types.is_floating(theirs))


def _blocks(ours: pa.ChunkedArray, theirs: pa.ChunkedArray) -> Iterator[tuple[int, pa.Array, pa.Array]]:
    for start in range(0, len(ours), _BLOCK):
        yield start, whole(ours.slice(start, _BLOCK)), whole(theirs.slice(start, _BLOCK))


def whole(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array."""
    found = column.combine_chunks()
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _count(found: Distances, start: int, own: pa.Array, other: pa.Array) -> None:
    """Add a block of rows."""
    has, have = _present(own), _present(other)
    a, b = (_floats(column) for column in (own, other))
    same = _same(own, other, a, b)
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(a - b))
    apart[~same & (apart == 0)] = 1.0  # integers that no 64-bit float tells apart
    size = np.where(apart == 0, 0, 1 + np.searchsorted(LIMITS, apart))
    size[~has & ~have] = 0
    size[has & ~have], size[~has & have] = len(SIZES), len(SIZES) + 1
    _sort(found, start, size)
    differs = has & have & (size > 0)
    found.differing += int(differs.sum())
    _explain(found, a[differs], b[differs], is_integer_made_float(own.type, other.type))


def _explain(found: Distances, a: Any, b: Any, from_integers: bool) -> None:
    """Count the rows that a detour explains, of some that differ."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart, room = np.abs(a - b), 64 * np.spacing(np.abs(b))
        for n in _DIGITS:
            unit = 10.0**-n
            near = apart <= 0.5 * unit * (1 + 1e-6) + 4 * np.spacing(np.abs(a))
            found.rounded[n] += int((near & (np.round(b, n) == b) & (unit > room)).sum())
        narrow = b.astype(np.float32).astype(np.float64) == b
        found.single += int((narrow & (apart <= 2.0**-23 * np.abs(a))).sum())
    found.integers += int((a == b).sum()) if from_integers else 0


def _present(column: pa.Array) -> Any:
    """Which rows have a value: neither null nor NaN."""
    return ~pc.is_null(column, nan_is_null=True).to_numpy(zero_copy_only=False)


def _floats(column: pa.Array) -> Any:
    return pc.fill_null(column.cast(pa.float64(), safe=False), 0.0).to_numpy(zero_copy_only=False)


def _same(own: pa.Array, other: pa.Array, a: Any, b: Any) -> Any:
    """Which values are the same number: of integers as integers, also where the other side has made floats of them."""
    integers = [pa.types.is_integer(column.type) for column in (own, other)]
    if all(integers):
        return pc.fill_null(pc.equal(own, other), False).to_numpy(zero_copy_only=False)
    if any(integers) and all(pa.types.is_integer(c.type) or pa.types.is_floating(c.type) for c in (own, other)):
        whole, floats = (own, b) if integers[0] else (other, a)
        inside = np.abs(floats) < 2.0**63
        back = np.where(inside, floats, 0.0).astype(np.int64)
        return inside & (back == floats) & (back == pc.fill_null(whole, 0).to_numpy(zero_copy_only=False))
    return a == b
