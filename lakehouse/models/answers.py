"""Two answers of a model to the same rows: which of their values are equal, but for rounding.

Equal means: identical for integers, texts, booleans and whatever else; of floats a relative difference of 1e-12 (64
bits), 1e-5 (32 bits) or 1e-2 (16 bits) is rounding, and so are a few last places of the column's largest value.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_TOLERANCE = {8: 1e-12, 4: 1e-5, 2: 1e-2}
"""By the bytes of the narrower of the two."""
_LAST_PLACES = 8


def alike(one: Any, other: Any) -> Any:
    """By value whether two arrays of one shape (rows first) are equal; of floats but for rounding, NaN equal to NaN."""
    if one.dtype.kind == "f" and other.dtype.kind == "f":
        return _close(one, other)
    if one.dtype == object or other.dtype == object:
        return np.asarray(np.frompyfunc(same, 2, 1)(one, other), bool)
    return one == other


def same(one: Any, other: Any) -> bool:
    """Whether two single values are equal; NaN is equal to itself, also within lists and dicts, unlike for Python."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        a, b = np.asarray(one), np.asarray(other)
        return a.shape == b.shape and bool(np.all(alike(a, b)))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other) or (isinstance(one, (list, dict)) and repr(one) == repr(other))


def _close(one: Any, other: Any) -> Any:
    narrow = min(one.dtype, other.dtype, key=lambda dtype: dtype.itemsize)
    a, b = one.astype(np.float64), other.astype(np.float64)
    known = np.where(np.isfinite(a), np.abs(a), 0.0)
    floor = float(np.finfo(narrow).eps) * _LAST_PLACES * known.max(axis=0, initial=0.0)
    with np.errstate(invalid="ignore"):
        return np.isclose(b, a, rtol=_TOLERANCE.get(narrow.itemsize, 1e-12), atol=floor, equal_nan=True)
