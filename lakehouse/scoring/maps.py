"""Answers of dicts with keys of their own, as Arrow's maps: by itself Arrow takes every dict for a struct."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.scoring.pandas_values import is_missing

Fit = Callable[[Any, pa.DataType], pa.Array]
"""Values as a column of a type without maps. Raises what pyarrow or Python raises for one that is none of it."""


def has_map(kind: pa.DataType | None) -> bool:
    """Whether a type is a map or has one within it."""
    if kind is None or pa.types.is_map(kind):
        return kind is not None
    return any(has_map(kind.field(number).type) for number in range(kind.num_fields))


def with_maps(values: Any, kind: pa.DataType, fit: Fit) -> pa.Array:
    """Dicts, or lists of them, in a type that has maps. Raises TypeError for a value that is none of the type."""
    if not has_map(kind):
        return fit(values, kind)
    rows = [None if _is_missing(value) else value for value in values]
    nulls = np.array([row is None for row in rows], bool)
    if pa.types.is_struct(kind):
        _require(rows, Mapping, kind)
        names = [field.name for field in kind]
        if extra := next((name for row in rows for name in row or () if name not in names), None):
            raise TypeError(f"{kind} has no {extra!r}")
        parts = [with_maps([(row or {}).get(f.name) for row in rows], f.type, fit) for f in kind]
        return pa.StructArray.from_arrays(parts, names, mask=pa.array(nulls))
    _require(rows, Mapping if pa.types.is_map(kind) else (list, tuple, np.ndarray), kind)
    ends = np.cumsum([0, *(0 if row is None else len(row) for row in rows)])
    offsets = pa.array(ends.astype(np.int32), mask=np.append(nulls, False))
    if not pa.types.is_map(kind):
        items = [item for row in rows if row is not None for item in row]
        return pa.ListArray.from_arrays(offsets, with_maps(items, kind.value_type, fit))
    entries = [entry for row in rows if row is not None for entry in row.items()]
    keys, items = [key for key, _ in entries], [item for _, item in entries]
    return pa.MapArray.from_arrays(offsets, fit(keys, kind.key_type), with_maps(items, kind.item_type, fit))


def _require(rows: Sequence[Any], form: Any, kind: pa.DataType) -> None:
    if wrong := next((row for row in rows if row is not None and not isinstance(row, form)), None):
        raise TypeError(f"{type(wrong).__name__} is not {kind}")


def _is_missing(value: Any) -> bool:
    return value is None or is_missing(value) or (isinstance(value, float) and value != value)
