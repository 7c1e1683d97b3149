"""Looking through units of the input, here or on executors: for rows that the model can be given, and for values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import LakehouseError, Unavailable
from lakehouse.scoring import texts
from lakehouse.scoring.routing import numbers_of_models
from lakehouse.scoring.score import Scoring, fit_rows
from lakehouse.scoring.staging import BatchSource

ROWS = 1_024
"""Rows of a batch of a sample, at most."""

MOST_VALUES = 10_000
"""So many values of a column that have no model are told; of more nobody wants to know each."""

Asked = tuple[Sequence[BatchSource], Scoring]
"""Units, and what tells which of their rows the model can be given."""


def fit_for(batch: pa.RecordBatch, scoring: Scoring) -> pa.RecordBatch:
    """The rows of a batch that the model, or one of many, can be given."""
    _, rows = fit_rows(batch, scoring)
    if scoring.route is None:
        return rows
    return rows.filter(pa.array(numbers_of_models(rows.column(scoring.route.by), scoring.route) >= 0, pa.bool_()))


def cut(unit: Any, size: int) -> list[Any]:
    """A unit in parts of so many bytes, where it is a whole file."""
    return list(unit.parts(size)) if hasattr(unit, "parts") else [unit]


def may_pass(unit: BatchSource) -> bool:
    """Whether a row of a unit may pass `where`, for which its columns alone are read."""
    return bool(unit.has_rows()) if hasattr(unit, "has_rows") else True


def first_rows(asked: Asked) -> dict[str, Any] | None:
    """On an executor: the first rows of units that the model can be given, as `rows_of` reads them, ROWS at most.

    Rows that it can't be given where there are no others, None where there is no row at all. What would fail again is
    told instead of raised.
    """
    return _told(lambda: _first_rows(*asked))


def _first_rows(work: Sequence[BatchSource], scoring: Scoring) -> dict[str, Any] | None:
    unfit = None
    for unit in filter(may_pass, work):
        for batch in unit.batches():
            rows = fit_for(batch, scoring)
            if rows.num_rows:
                return {"rows": texts.text_of(rows.slice(0, ROWS))}
            unfit = unfit or {"rows": texts.text_of(batch.slice(0, ROWS))}
    return unfit


def _told(look: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """What comes of a look; what it raises in words, but for what may pass."""
    try:
        return look()
    except Unavailable:
        raise
    except LakehouseError as error:
        return {"kind": type(error).__name__, "message": str(error)}


def _raise_told(said: dict[str, Any]) -> None:
    from lakehouse import errors

    if "kind" in said:
        raise getattr(errors, said["kind"], LakehouseError)(said["message"])


@dataclass
class Values:
    """Values of a column as texts: those that were asked for, and the others, MOST_VALUES at most; `more`: or so."""

    known: set[str] = field(default_factory=set)
    others: set[str | None] = field(default_factory=set)
    more: bool = False

    def add(self, known: Iterable[str], others: Iterable[str | None], more: bool = False) -> None:
        """Take in what else was found."""
        self.known |= set(known)
        self.others |= set(others)
        if more or len(self.others) > MOST_VALUES:
            self.more = True
            self.others = set(sorted(self.others, key=lambda value: (value is None, value or ""))[:MOST_VALUES])


def values_in(asked: tuple[Sequence[BatchSource], str, frozenset[str]]) -> dict[str, Any] | None:
    """On an executor: the values that a column has in units, as `values_of` reads them; asked for with those known.

    It ends once there are too many others. What would fail again is told instead of raised.
    """
    return _told(lambda: _as_json(find_values(*asked)))


def find_values(work: Iterable[BatchSource], column: str, known: Collection[str]) -> Values:
    """The values of a column in units, until there are more of others than are told."""
    found = Values()
    for unit in work:
        for batch in unit.batches():
            seen = set(pc.unique(batch.column(column)).cast(pa.string()).to_pylist())
            found.add(seen.intersection(known), seen.difference(known))
            if found.more:
                return found
    return found


def _as_json(found: Values) -> dict[str, Any]:
    """As JSON holds it."""
    return {"known": sorted(found.known), "others": list(found.others), "more": found.more}


def values_of(said: Iterable[dict[str, Any] | None]) -> Values:
    """The values that executors found. Raises what one told."""
    found = Values()
    for one in filter(None, said):
        _raise_told(one)
        found.add(**one)
    return found


def rows_of(said: dict[str, Any] | None) -> Iterator[pa.RecordBatch]:
    """The rows that an executor found. Raises what it told."""
    if said is None:
        return
    _raise_told(said)
    yield from texts.rows_in(said["rows"])
