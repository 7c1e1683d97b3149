"""The live scores of a job's slice beside those of another table, such as what a script writes that it replaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import ConfigError
from lakehouse.operations import counterpart, reasons
from lakehouse.operations.counterpart import Asked, Both
from lakehouse.operations.difference import different
from lakehouse.operations.distances import Distances, by_equality, is_number, measure, whole
from lakehouse.operations.matching import match, without_repeated
from lakehouse.planning import catalog
from lakehouse.runs.comparing import figures
from lakehouse.scoring.pairs import Pairs, pairs_of

if TYPE_CHECKING:
    from lakehouse.config import Job

_SHOWN = 5


@dataclass(frozen=True)
class Counts:
    """Rows of both sides: `only_here`, `only_there` have a key that the other side hasn't.

    `repeated_here`, `repeated_there`: those whose key is there more than once on one side, which are compared with
    nothing, like those `without_key` there; `matched`: all others, once a pair.
    """

    here: int
    there: int
    only_here: int
    only_there: int
    repeated_here: int
    repeated_there: int
    without_key: int
    matched: int


@dataclass(frozen=True)
class Compared:
    """Live scores of a slice and the rows of another table, matched by key; `rows_there`: which of its rows.

    `on`: which column was compared with which. `predictions`: each with `figures` (own being ours), rows by `sizes` of
    their difference, `differing`, `flips` at the job's `threshold` if it has one, and `examples`. `only`: some keys of
    one side. `reasons`: what explains the differences (`reasons.Reason`).
    """

    table: str
    slice: str
    rows_there: str
    rows: Counts
    on: Mapping[str, str]
    predictions: tuple[dict[str, Any], ...]
    only: Mapping[str, list[dict[str, Any]]]
    reasons: tuple[dict[str, Any], ...] = ()
    not_compared: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As an object."""
        return asdict(self)


def compare(job: Job, asked: Asked) -> Compared:
    """Compare the live scores of the job's slice, of its first table, with another table; it reads both.

    Raises ConfigError for columns that aren't there or are of another kind, where nothing is published in the slice,
    where only Spark can read the other table, and where the rows don't fit into this process's memory.
    """
    with catalog.open_job(job, "compare") as at_places:
        return _compare(at_places, asked)


def _compare(job: Job, asked: Asked) -> Compared:
    both = counterpart.read_both(job, asked)
    sides = _match(both.here, both.there, both.keys, [*both.on.values(), *both.beside.values()])
    return _told(job, asked, sides, both)


@dataclass(frozen=True)
class _Sides:
    """Rows of both tables side by side, keys under our names.

    `columns`: by the name of a column of theirs what it is called beside these. `only_here`, `only_there`: rows of one
    side; `kinds`: each key's types, ours and theirs.
    """

    ours: pa.Table
    theirs: pa.Table
    only_here: pa.Table
    only_there: pa.Table
    columns: Mapping[str, str]
    kinds: Mapping[str, tuple[pa.DataType, pa.DataType]]
    counts: Counts

    def pair(self, name: str, column: str) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
        """A column of ours and one of theirs."""
        return self.ours[name], self.theirs[self.columns[column]]


def _match(here: pa.Table, there: pa.Table, pairs: Mapping[str, str], columns: Sequence[str]) -> _Sides:
    """Both sides by their keys, without the rows whose key is there more than once, on whichever side."""
    keys = list(pairs)
    values = {name: _key(name, column, here.schema.field(name).type, there[column]) for name, column in pairs.items()}
    called = {column: " ".join([*keys, str(place)]) for place, column in enumerate(columns)}  # longer than any key
    theirs = pa.table(values | {name: there[column] for column, name in called.items()})
    keyed = theirs.filter(_all_there(theirs, keys))
    mine, other = without_repeated(here, keyed, keys), without_repeated(keyed, here, keys)
    ours, matched, only_here, only_there = match(mine, other, keys)
    counts = Counts(
        here=here.num_rows,
        there=there.num_rows,
        only_here=only_here.num_rows,
        only_there=only_there.num_rows,
        repeated_here=here.num_rows - mine.num_rows,
        repeated_there=keyed.num_rows - other.num_rows,
        without_key=there.num_rows - keyed.num_rows,
        matched=ours.num_rows,
    )
    kinds = {name: (here.schema.field(name).type, there.schema.field(column).type) for name, column in pairs.items()}
    return _Sides(ours, matched, only_here, only_there, called, kinds, counts)


def _told(job: Job, asked: Asked, sides: _Sides, both: Both) -> Compared:
    """What there is to say of both sides."""
    on = both.on
    nested = {n for n, c in on.items() if any(pa.types.is_nested(side.type) for side in sides.pair(n, c))}
    predictions, why, differs = [], list[reasons.Reason](), np.zeros(sides.ours.num_rows, bool)
    for name, column in on.items():
        if name not in nested:
            own, theirs = _comparable(name, column, *sides.pair(name, column))
            found = measure(own, theirs) if is_number(own.type) else by_equality(own, theirs)
            differs |= different(own, theirs)
            predictions.append(_prediction(job, name, column, sides, (own, theirs), found))
            why += reasons.of_numbers(name, column, found, (own.type, sides.pair(name, column)[1].type))
    for name, column in both.beside.items():
        if name.lower() in counterpart.VERSIONS:
            why += reasons.of_versions(name, column, *sides.pair(name, column), differs)
        else:
            why += reasons.of_kept(name, column, *sides.pair(name, column))
    for name, kinds in sides.kinds.items():
        why += reasons.of_keys(name, sides.only_here, sides.only_there, sides.ours, kinds)
    keys = list(sides.kinds)
    alone = {"here": _keys(sides.only_here, keys), "there": _keys(sides.only_there, keys)}
    nothing = tuple(sorted(nested))
    place = asked.table, both.slice, both.rows_there
    return Compared(*place, sides.counts, dict(on), tuple(predictions), alone, tuple(why), nothing)


def _prediction(
    job: Job, name: str, column: str, sides: _Sides, pair: tuple[pa.ChunkedArray, pa.ChunkedArray], found: Distances
) -> dict[str, Any]:
    """How the values of a prediction compare."""
    own, theirs = pair
    pairs = pairs_of(whole(own), whole(theirs), np.zeros(len(own), np.int64), 1)[0] if len(own) else Pairs()
    threshold = _threshold(job, name) if is_number(own.type) else None
    keys = list(sides.kinds)
    shown = {
        size: [
            {"key": {k: sides.ours[k][r].as_py() for k in keys}, "here": own[r].as_py(), "there": theirs[r].as_py()}
            for r in rows
        ]
        for size, rows in found.examples.items()
    }
    told = {"name": name, "column": column, **figures(pairs), "threshold": threshold}
    if threshold is not None:
        told["flips"] = _flips(own, theirs, threshold)
    return told | {"sizes": found.sizes, "differing": found.differing, "examples": shown}


def _threshold(job: Job, name: str) -> float | None:
    """The job's threshold for the part of the model's output that a prediction is; None where it has none."""
    declared = job.predictions or {}
    mine = next((p for n, p in declared.items() if n.lower() == name.lower()), None)
    if mine is None or mine.threshold is not None:
        return None
    alike = [p for p in declared.values() if (p.output, p.class_) == (mine.output, mine.class_)]
    return next((p.threshold for p in alike if p.threshold is not None), None)


def _flips(own: pa.ChunkedArray, theirs: pa.ChunkedArray, threshold: float) -> int:
    """The rows that are decided otherwise, of those with both values."""
    decided = [pc.greater_equal(side.cast(pa.float64(), safe=False), threshold) for side in (own, theirs)]
    either = pc.or_(pc.is_null(own, nan_is_null=True), pc.is_null(theirs, nan_is_null=True))
    return pc.sum(pc.and_(pc.not_equal(*decided), pc.invert(either))).as_py() or 0


def _key(name: str, column: str, kind: pa.DataType, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A key of theirs in our type. Raises ConfigError where it can't be."""
    said = f"--keys {name}={column}"
    if _is_text(kind) != _is_text(values.type):
        raise ConfigError(f"{said}: {column} is {values.type} there, {name} is {kind} here: compare keys of one kind")
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    try:
        return values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ConfigError(f"{said}: {column} has values that {name} can't have, which is {kind}: {error}") from None


def _is_text(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner))


def _comparable(
    name: str, column: str, own: pa.ChunkedArray, theirs: pa.ChunkedArray
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """The two columns where they are of one kind: numbers, or the same type once the other is read as ours.

    Raises ConfigError for others.
    """
    if is_number(own.type) and is_number(theirs.type):
        return own, theirs
    if pa.types.is_boolean(own.type) and is_number(theirs.type):
        odd = pc.any(
            pc.invert(pc.is_in(theirs.cast(pa.float64(), safe=False), pa.array([0.0, 1.0, float("nan"), None])))
        )
        if not odd.as_py():
            there = theirs.cast(pa.float64(), safe=False)
            return own, pc.equal(pc.if_else(pc.is_nan(there), None, there), 1.0)
    elif is_number(own.type) == is_number(theirs.type) and _is_text(own.type) == _is_text(theirs.type):
        try:
            return own, theirs.cast(own.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
    raise ConfigError(f"--on {name}={column}: {column} is {theirs.type} there, {name} is {own.type} here")


def _all_there(table: pa.Table, keys: Sequence[str]) -> pa.ChunkedArray:
    """Which rows have all of their key."""
    there = pc.is_valid(table[keys[0]])
    for name in keys[1:]:
        there = pc.and_(there, pc.is_valid(table[name]))
    return there


def _keys(table: pa.Table, keys: Sequence[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table.select(list(keys)).slice(0, _SHOWN).to_pylist()
    return found
