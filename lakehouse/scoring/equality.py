"""Stored predictions beside those that are made again: which rows have another value.

Equal means what `models.alike` says: identical, and for floats equal but for rounding, which in some libraries the size
of a batch decides. Where nothing rounds, as in trees, floats must be identical too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import models

Rows = Any  # a numpy array of bool, one a row


def differing(stored: pa.Array, again: pa.Array, *, exact: bool = False, largest: float = 0.0) -> Rows:
    """The rows of two columns whose values differ (bool); null is equal to null, NaN to NaN.

    `exact`: floats must be identical. `largest`: the largest absolute value of the whole column that is known of, whose
    last few places are rounding.
    """
    stored, again = _plain(stored), _plain(again)
    floats = pa.types.is_floating(stored.type) and pa.types.is_floating(again.type)  # the narrower one has rounded
    if stored.type != again.type and not floats:
        try:
            again = again.cast(stored.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return np.ones(len(stored), bool)
    nulls = _nulls(stored), _nulls(again)
    other = nulls[0] != nulls[1]
    both = ~(nulls[0] | nulls[1])
    if both.any():
        mask = pa.array(both)
        other[both] = _values_differ(stored.filter(mask), again.filter(mask), exact, largest)
    return other


def _plain(column: pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _nulls(column: pa.Array) -> Rows:
    return column.is_null().to_numpy(zero_copy_only=False)


def _values_differ(stored: pa.Array, again: pa.Array, exact: bool, largest: float) -> Rows:
    """As `differing`, of columns of one type without nulls."""
    kind = stored.type
    if pa.types.is_floating(kind):
        one, two = (column.to_numpy(zero_copy_only=False) for column in (stored, again))
        if exact:
            return ~((one == two) | (np.isnan(one) & np.isnan(two)))
        one, two = (np.append(side, side.dtype.type(largest)) for side in (one, two))  # of which the rounding is
        return ~models.alike(one, two)[:-1]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _lists_differ(stored, again, exact, largest)
    if pa.types.is_struct(kind):
        found = np.zeros(len(stored), bool)
        for one, two in zip(stored.flatten(), again.flatten(), strict=True):
            found |= differing(one, two, exact=exact, largest=largest)
        return found
    if pa.types.is_map(kind):
        pairs = zip(stored.to_pylist(), again.to_pylist(), strict=True)
        return np.array([not models.same(one, two) for one, two in pairs], bool)
    return ~pc.equal(stored, again).to_numpy(zero_copy_only=False)


def _lists_differ(stored: pa.Array, again: pa.Array, exact: bool, largest: float) -> Rows:
    lengths = pc.list_value_length(stored).to_numpy(), pc.list_value_length(again).to_numpy()
    found = lengths[0] != lengths[1]
    alike = np.flatnonzero(~found)
    one, two = (pc.list_flatten(column.take(pa.array(alike))) for column in (stored, again))
    rows = np.repeat(alike, lengths[0][alike])
    found[rows[differing(one, two, exact=exact, largest=largest)]] = True
    return found


def largest_of(column: pa.Array | pa.ChunkedArray) -> float:
    """The largest absolute value of a column of finite floats, or of lists and structs of them; 0 where it has none."""
    if pa.types.is_list(column.type) or pa.types.is_struct(column.type):
        inside = [pc.list_flatten(column)] if pa.types.is_list(column.type) else _plain(column).flatten()
        return max(map(largest_of, inside), default=0.0)
    if not pa.types.is_floating(column.type) or len(column) == 0:
        return 0.0
    values = np.abs(column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy())
    values = values[np.isfinite(values)]
    return float(values.max()) if len(values) else 0.0


def greatest_difference(stored: pa.Array, again: pa.Array) -> float:
    """Of two columns of floats the greatest difference of values that are finite on both sides; 0 where none are."""
    one, two = (column.cast(pa.float64()).to_numpy(zero_copy_only=False) for column in (stored, again))
    apart = np.abs(one - two)[np.isfinite(one) & np.isfinite(two)]
    return float(apart.max()) if len(apart) else 0.0
