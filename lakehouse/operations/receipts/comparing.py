"""Stored columns beside the same ones made again: in one type, whatever the table's system keeps, and which differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import sinks
from lakehouse.operations.receipts import rows
from lakehouse.schemas import EXPLANATIONS, finder
from lakehouse.scoring.equality import differing

if TYPE_CHECKING:
    from lakehouse.config import Job


@dataclass(frozen=True)
class Sides:
    """A column as it is stored and as it was made again. `exact`: floats must be identical.

    `refusal`: in words why they can't be compared; the stored column is as the table has it then, the other may be
    None.
    """

    name: str
    stored: pa.Array
    again: pa.Array | None
    exact: bool
    refusal: str = ""


def sides_of(job: Job, stored: Any, again: Any, names: Sequence[str], exact: bool) -> Iterator[Sides]:
    """The columns of two tables or batches with the same rows, as both sides have them."""
    table, spelled = rows.scored_sink(job), finder(again.schema.names, case_insensitive=True)
    for name in names:
        kept, made = _whole(stored.column(name)), spelled(name)
        if made is None:
            yield Sides(name, kept, None, exact, f"{name} is not made again: the job doesn't name it any more")
            continue
        two = _whole(again.column(made))
        one = sinks.of(table.type).as_scored(kept, two.type)
        if one is None:
            yield Sides(
                name, kept, two, exact, f"{name} is not compared: the table keeps it as text, not as {two.type}"
            )
            continue
        # Last places may be others in what was kept as text, and in how far a feature contributed.
        whole = exact and one.type == kept.type and name != EXPLANATIONS
        yield Sides(name, one, two, whole or name in job.keep)


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


@dataclass
class OneRow:
    """A row's stored predictions by name, those that differ, and what else there is to say."""

    stored: dict[str, Any] = field(default_factory=dict)
    differences: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def compare_row(
    job: Job,
    stored: pa.RecordBatch,
    again: pa.RecordBatch,
    names: Sequence[str],
    exact: bool,
    largest: Callable[[str], float],
) -> OneRow:
    """Hold one row's predictions against those made again.

    `largest`: the largest value of a prediction, for which is asked only where it is a matter of the last places.
    """
    found = OneRow()
    for side in sides_of(job, stored, again, names, exact):
        value = found.stored[side.name] = side.stored[0].as_py()
        if side.again is None:
            found.differences[side.name] = {"stored": value, "again": None, "by": None}
        elif side.refusal:
            found.notes.append(side.refusal)
        elif _differs(side, largest):
            other = side.again[0].as_py()
            found.differences[side.name] = {"stored": value, "again": other, "by": _by(value, other)}
    return found


def _differs(side: Sides, largest: Callable[[str], float]) -> bool:
    if not differing(side.stored, side.again, exact=side.exact).any():
        return False
    return side.exact or bool(differing(side.stored, side.again, largest=largest(side.name)).any())


def _by(one: Any, two: Any) -> float | None:
    return two - one if isinstance(one, (int, float)) and isinstance(two, (int, float)) else None
