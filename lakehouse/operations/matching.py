"""Rows of two tables matched by their keys, which have numbers for names here: no job's column can be one of ours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_ROW, _OTHER = "row", "other"


def _numbered(table: pa.Table, keys: Sequence[str], row: str = _ROW) -> tuple[pa.Table, list[str]]:
    """The keys, named "0", "1", …, with the numbers of the rows beside them; and these names."""
    names = [str(place) for place in range(len(keys))]
    found = pa.Table.from_arrays([table[key] for key in keys], names=names)
    return found.append_column(row, pa.array(np.arange(table.num_rows))), names


def match(first: pa.Table, second: pa.Table, keys: Sequence[str]) -> tuple[pa.Table, pa.Table, pa.Table, pa.Table]:
    """The rows of two tables that have the same keys, in the same order; then those of the first alone, of the second.

    No key may be in a table more than once.
    """
    (one, names), (other, _) = _numbered(first, keys), _numbered(second, keys, _OTHER)
    pairs = one.join(other, names, join_type="full outer").combine_chunks()
    here, there = pairs[_ROW], pairs[_OTHER]
    alone, missing = pc.is_null(there), pc.is_null(here)
    both = pc.invert(pc.or_(alone, missing))
    return (
        first.take(here.filter(both)),
        second.take(there.filter(both)),
        first.take(here.filter(alone)),
        second.take(there.filter(missing)),
    )


def once(table: pa.Table, keys: Sequence[str]) -> tuple[pa.Table, int]:
    """The rows whose key no other row has, and how many the others are."""
    if not table.num_rows:
        return table, 0
    counted = _counted(table, keys)
    alone = counted[f"{_ROW}_min"].filter(pc.equal(counted[f"{_ROW}_count"], 1))
    if len(alone) == table.num_rows:
        return table, 0
    return table.take(alone.combine_chunks().sort()), table.num_rows - len(alone)


def without_repeated(table: pa.Table, other: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The rows whose key no other row has, in neither table."""
    alone = once(table, keys)[0]
    if not alone.num_rows or not other.num_rows:
        return alone
    counted = _counted(other, keys)
    numbered, names = _numbered(alone, keys)
    repeated = counted.filter(pc.greater(counted[f"{_ROW}_count"], 1)).select(names)
    if not repeated.num_rows:
        return alone
    kept = numbered.join(repeated, names, join_type="left anti")
    return alone.take(kept[_ROW].combine_chunks().sort()) if kept.num_rows else alone.slice(0, 0)


def _counted(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    numbered, names = _numbered(table, keys)
    return numbered.group_by(names).aggregate([(_ROW, "count"), (_ROW, "min")])
