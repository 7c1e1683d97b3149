"""Why rows are set aside or warned of: broken rules gathered over a batch, and the columns that say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.schemas import REASON

Numbers = Any  # a numpy array of int64: numpy's own annotation says more than it checks


@dataclass(frozen=True)
class Broken:
    """Rows of a batch that broke one rule: their numbers (int64, ascending), and what was seen in each, if anything."""

    rule: str
    column: str
    rows: Numbers
    observed: pa.Array | None = None


def renumber(broken: Sequence[Broken], rows: Numbers | None) -> list[Broken]:
    """The same for the batch that this one was taken from, whose row `rows[i]` is row i here; None: it is that one."""
    return list(broken) if rows is None else [replace(b, rows=rows[b.rows]) for b in broken]


def numbers_of(broken: Sequence[Broken]) -> Numbers:
    """The rows that broke anything, each once, ascending (int64)."""
    return np.unique(np.concatenate([np.asarray(b.rows, np.int64) for b in broken]))


def reasons(broken: Sequence[Broken]) -> tuple[Numbers, pa.Array]:
    """The rows that broke anything, ascending, and for each of them its reasons (list<REASON>), in the order given."""
    rows, which, order = _by_row(broken)
    texts = [b.observed if b.observed is not None else pa.nulls(len(b.rows), pa.string()) for b in broken]
    parts = [
        pa.array([b.rule for b in broken], pa.string()).take(which),
        pa.array([b.column for b in broken], pa.string()).take(which),
        pa.concat_arrays(texts).take(order),
    ]
    found, starts = np.unique(rows, return_index=True)
    offsets = pa.array(np.append(starts, len(rows)), pa.int32())
    return found, pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(parts, fields=list(REASON)))


def in_words(reasons: Sequence[Mapping[str, str | None]]) -> str:
    """The reasons of one row, as `_reasons` has them, in one text: rule, column and value of each."""
    parts = (filter(None, (reason["rule"], reason["column"], reason["observed"])) for reason in reasons)
    return "; ".join(map(" ".join, parts))


def warnings(broken: Sequence[Broken], rows: Numbers) -> pa.Array:
    """For each of these rows (ascending) the names of the rules that it broke (list<string>), in the order given."""
    here = [replace(b, rows=np.searchsorted(rows, b.rows[np.isin(b.rows, rows)])) for b in broken]
    numbers, which, _ = _by_row(here)
    offsets = np.append(0, np.cumsum(np.bincount(numbers, minlength=len(rows))))
    names = pa.array([b.rule for b in here], pa.string()).take(which)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), names)


def _by_row(broken: Sequence[Broken]) -> tuple[Numbers, pa.Array, pa.Array]:
    """Row numbers, ascending; for each which of `broken` it is from; and its place in all of them laid end to end."""
    rows = np.concatenate([np.asarray(b.rows, np.int64) for b in broken])
    order = np.argsort(rows, kind="stable")
    which = np.repeat(np.arange(len(broken)), [len(b.rows) for b in broken])
    return rows[order], pa.array(which[order]), pa.array(order)
