"""Whole tables compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SHOWN = 5


def assert_tables_equal(actual: pa.Table, expected: pa.Table, *, float64: float = 0.0, float32: float = 0.0) -> None:
    """Same columns in the same order, same types and values, NaN equal to NaN; else the first differing rows.

    `float64`, `float32`: relative differences allowed.
    """
    assert plain(actual.schema) == plain(expected.schema)
    assert actual.num_rows == expected.num_rows, f"{actual.num_rows} rows instead of {expected.num_rows}"
    allowed = {pa.float64(): float64, pa.float32(): float32}
    lines = []
    for name in actual.column_names:
        have, want = actual.column(name).combine_chunks(), expected.column(name).combine_chunks()
        rows = _differing(have, want, allowed)
        if len(rows):
            lines.append(f"{name}: {len(rows)} of {len(have)} rows differ")
            lines += [f"  row {r}: {have[r].as_py()!r} instead of {want[r].as_py()!r}" for r in rows[:SHOWN]]
    assert not lines, "\n".join(lines)


def plain(schema: pa.Schema) -> list[tuple[str, str]]:
    """Names and types, without metadata and nullability: Spark and Delta's writers differ in those."""
    return [(f.name, _spelled(f.type)) for f in schema]


def _spelled(kind: pa.DataType) -> str:
    return str(kind).replace("large_", "").replace(" not null", "").replace("element:", "item:")


def _differing(have: pa.Array, want: pa.Array, allowed: dict[pa.DataType, float]) -> Any:
    """The numbers of the rows that differ."""
    if pa.types.is_floating(have.type):
        a, b = (np.asarray(pc.fill_null(x, 0).to_numpy(zero_copy_only=False), dtype=float) for x in (have, want))
        same_null = pc.equal(have.is_null(), want.is_null()).to_numpy(zero_copy_only=False)
        close = np.isclose(a, b, rtol=allowed[have.type], atol=0, equal_nan=True)
        exact = (np.signbit(a) == np.signbit(b)) | np.isnan(a) if not allowed[have.type] else True
        return np.flatnonzero(~(same_null & close & exact))
    if pa.types.is_list(have.type) and pa.types.is_floating(have.type.value_type):
        lengths = pc.list_value_length(have).equals(pc.list_value_length(want))
        if lengths:
            parents = pc.list_parent_indices(have).to_numpy()
            return np.unique(parents[_differing(have.flatten(), want.flatten(), allowed)])
    return [r for r in range(len(have)) if repr(have[r].as_py()) != repr(want[r].as_py())]
