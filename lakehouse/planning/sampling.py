"""A few rows of the input for a look at it, without reading much of it.

On Spark nothing here grows with the input: the driver reads a few units, and where these have no row that will do,
executors look through ever larger parts of the rest until one is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

import pyarrow as pa

from lakehouse.planning.plan import Plan
from lakehouse.planning.trial import route_of, scoring_before
from lakehouse.scoring.looking import ROWS, Asked, cut, first_rows, fit_for, may_pass, rows_of
from lakehouse.scoring.score import Scoring
from lakehouse.sources import Unit

READ_ROWS = 8_192
"""Rows that are read of a file at once for a look at it."""
_UNITS, _BYTES = 8, 32 << 20
"""So many units of the input are looked through on the driver, or so few that they have so many bytes."""
_A_TASK, _GROWTH = 64 << 20, 4
"""Bytes that a core looks through at first where executors do it, and by how much more each time."""

Further = Callable[[Sequence[Unit]], Iterator[pa.RecordBatch]]
"""Looks on in units for rows that the model can be given."""


def fitness(plan: Plan) -> Scoring:
    """What tells which rows of the plan's input its model can be given, without the model."""
    applied = bool(plan.model.on_frames)
    known = scoring_before(plan.job, plan.inputs, plan.on_features, plan.constraints, applied=applied)
    return replace(known, route=route_of(plan.job, plan.model))


def look(
    work: Sequence[Unit],
    fit: Scoring,
    further: Further | None = None,
    begin: Callable[[int], None] = lambda number: None,
) -> Iterator[pa.RecordBatch]:
    """Batches of at most ROWS rows of the units, one after the other, for as long as somebody asks.

    Where the first few units have no row that the model can be given, `further` looks on in the others. Without it they
    are looked through here, and of those of which no row passes `where` only its columns are read. `begin` is told the
    number of the first unit of which the model can be given a row.
    """
    few, found = len(first_few(work)), False
    for number, unit in enumerate(work):
        if number >= few and not found:
            if further is not None:
                yield from further(work[number:])
                return
            if not may_pass(unit):
                continue
        for batch in unit.batches():
            if not found and fit_for(batch, fit).num_rows:
                found = True
                begin(number)
            yield from (batch.slice(start, ROWS) for start in range(0, batch.num_rows, ROWS))


def fine_at_front(work: Sequence[Unit]) -> list[Unit]:
    """The units with large files among the first in parts, so that a look at one of them ends soon."""
    return [*(part for unit in work[:_UNITS] for part in cut(unit, _BYTES)), *work[_UNITS:]]


def first_few(work: Sequence[Unit]) -> Sequence[Unit]:
    """Units for a look: the first, and those after it while there are few."""
    before = accumulate((unit.size for unit in work[: _UNITS - 1]), initial=0)
    return [unit for unit, size in zip(work, before, strict=False) if size < _BYTES]


def ask_others(
    work: Sequence[Unit],
    fit: Scoring,
    cores: int,
    share: Callable[[Sequence[Unit], int], list[list[Unit]]],
    ask: Callable[[Callable[[Asked], object], Sequence[Asked]], Iterable[object]],
) -> Iterator[pa.RecordBatch]:
    """The first rows of the units that the model can be given, as those find them who are asked, a share a core.

    The shares are small at first and grow, so that what lies near the front is found soon and no row in a few rounds.
    """
    size = _A_TASK
    while work:
        ends = accumulate(unit.size for unit in work)
        count = max(sum(1 for _ in _until(ends, size * cores)), min(cores, len(work)))
        for said in ask(first_rows, [(units, fit) for units in share(work[:count], cores)]):
            yield from rows_of(said)  # type: ignore[arg-type]  # what `first_rows` has returned
        work, size = work[count:], size * _GROWTH


def _until(ends: Iterable[int], size: int) -> Iterator[int]:
    """The first of these growing sums, up to the one that reaches a size."""
    for end in ends:
        yield end
        if end >= size:
            return
