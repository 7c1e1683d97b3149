"""The views over a scored table, each defined once as a syntax tree, and the two queries that come with them.

Those over the ledger and the quarantine are in `records`. `Scored` says what the table holds, `TablePlaces` where it is
and in which dialect it is asked. Pure: nothing is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from lakehouse.schemas import JOB, LINEAGE, RUN_ID, SCORED_AT
from lakehouse.views.sql.dialects import Dialect

DAY = "2026-01-02"
"""The date of the examples."""


@dataclass(frozen=True)
class Scored:
    """What a job's scored table holds.

    `predictions`: whether each is a number, None where that isn't known. `dated`: the slice's column of dates where it
    has exactly one. `flags`: the slice's booleans. `appended`: a run's identity is its date, which no row has.
    `replaced`: a run takes the rows of the earlier one of its slice away.
    """

    job: str
    keys: tuple[str, ...]
    keep: tuple[str, ...]
    predictions: Mapping[str, bool | None]
    slice: tuple[str, ...]
    dated: str | None
    flags: frozenset[str]
    appended: bool
    replaced: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the views, in their order."""
        return (*self.keys, *self.keep, *self.predictions, *self.slice, *LINEAGE.names)


@dataclass(frozen=True)
class Runs:
    """The ledger's table.

    `at`: when a run was published, or ended. `every`: it has runs that were not published, too. `columns`: its columns,
    and whether each is a moment, where they are known.
    """

    table: exp.Table
    at: str
    every: bool
    columns: Mapping[str, bool]


@dataclass(frozen=True)
class TablePlaces:
    """Where the tables are: `view` gives the view with a suffix. `runs` and `aside` (quarantine) may be elsewhere.

    `in_catalog`: the scored table is named by a system, not by the folder that it lies in.
    """

    dialect: Dialect
    scored: exp.Table
    view: Callable[[str], exp.Table]
    runs: Runs | None
    aside: exp.Table | None
    in_catalog: bool = True

    def column(self, name: str, table: str | None = None) -> exp.Column:
        return exp.column(self.dialect.column(name), table=table, quoted=True)

    def instant(self, name: str, table: str | None = None) -> exp.Expr:
        """A column that is a moment, in UTC without a time zone where views can't hold one."""
        column = self.column(name, table)
        if self.dialect.ZONES:
            return column
        return exp.cast(exp.AtTimeZone(this=column, zone=exp.Literal.string("UTC")), exp.DType.TIMESTAMP)

    def named(self, value: exp.Expr, name: str) -> exp.Expr:
        return exp.alias_(value, self.dialect.column(name), quoted=True)

    def shown(self, names: Iterable[str], table: str | None = None) -> list[exp.Expr]:
        """Columns by their names, moments as the place can show them."""
        return [
            self.named(self.instant(n, table), n)
            if n == SCORED_AT and not self.dialect.ZONES
            else self.column(n, table)
            for n in names
        ]

    def create(self, suffix: str, query: exp.Select) -> exp.Create:
        kept = [*self.dialect.properties(named=self.in_catalog)]
        properties = exp.Properties(expressions=kept) if kept else None
        return exp.Create(this=self.view(suffix), kind="VIEW", replace=True, expression=query, properties=properties)


def free(name: str, taken: Iterable[str]) -> str:
    """The name, with as many underscores appended as it takes to be no other column's."""
    lower = {other.lower() for other in taken}
    while name.lower() in lower:
        name += "_"
    return name


def _moment(scored: Scored, place: TablePlaces) -> exp.Expr:
    """Since when a row's scores hold: the slice's date, else when its run began."""
    return exp.cast(place.column(scored.dated), exp.DType.DATE) if scored.dated else place.instant(SCORED_AT)


def _over(scored: Scored, place: TablePlaces, what: exp.Expr, *, newest_first: bool = False) -> exp.Window:
    """Something about a row among those of its key, in the order of time. Jobs that share a table are told apart."""
    names = [name for name in scored.slice if name != scored.dated]
    order = [_moment(scored, place), *([place.column(SCORED_AT)] if scored.dated else []), *map(place.column, names)]
    return exp.Window(
        this=what,
        partition_by=[place.column(JOB), *map(place.column, scored.keys)],
        order=exp.Order(expressions=[exp.Ordered(this=by, desc=newest_first) for by in order]),
    )


def chosen(table: exp.Expr, columns: Sequence[exp.Expr], alias: str | None = None) -> exp.Select:
    """Columns of a table, which gets the alias."""
    source = exp.alias_(table, alias, table=True, quoted=True) if alias else table
    return exp.select(*columns).from_(source)


def current(scored: Scored, place: TablePlaces) -> exp.Select:
    """The newest row of each key."""
    rank = free("_row", scored.columns)
    number = place.named(_over(scored, place, exp.RowNumber(), newest_first=True), rank)
    ranked = chosen(place.scored, [*place.shown(scored.columns), number]).subquery("ranked", copy=False)
    names = [place.column(name) for name in scored.columns]
    return chosen(ranked, names).where(exp.EQ(this=place.column(rank), expression=exp.Literal.number(1)))


def validity(scored: Scored) -> tuple[str, str]:
    """The names of the history's two columns of time."""
    return free("valid_from", scored.columns), free("valid_to", scored.columns)


def history(scored: Scored, place: TablePlaces) -> exp.Select:
    """Every row, with the time from which and until which it was its key's newest; the end is null for that one."""
    start, end = validity(scored)
    following = _over(scored, place, exp.Lead(this=_moment(scored, place)))
    columns = [*place.shown(scored.columns), place.named(_moment(scored, place), start), place.named(following, end)]
    return chosen(place.scored, columns)


def as_of(scored: Scored, place: TablePlaces) -> exp.Select:
    """The history's rows as of a date, or as of its first moment (UTC)."""
    start, end = map(place.column, validity(scored))
    zone, kind = ("+00:00", exp.DType.TIMESTAMPTZ) if place.dialect.ZONES else ("", exp.DType.TIMESTAMP)
    text, kind = (DAY, exp.DType.DATE) if scored.dated else (f"{DAY} 00:00:00{zone}", kind)
    moment: exp.Expr = exp.cast(exp.Literal.string(text), kind)
    begun, ended = exp.LTE(this=start, expression=moment), exp.LT(this=moment.copy(), expression=end)
    open_end = exp.Is(this=end.copy(), expression=exp.Null())
    return chosen(place.view("_history"), [exp.Star()]).where(begun, exp.or_(open_end, ended))


def _pairs(scored: Scored) -> tuple[dict[str, tuple[str, str]], str]:
    """For each prediction the names of its previous value and of the difference; the name of the previous run."""
    taken = [*scored.columns]
    pairs = {}
    for name in scored.predictions:
        both = free(f"previous_{name}", taken), free(f"{name}_difference", taken)
        taken += both
        pairs[name] = both
    return pairs, free(f"_previous{RUN_ID}", taken)


def _difference(number: bool | None, place: TablePlaces, now: exp.Expr, before: exp.Expr) -> exp.Expr | None:
    """By how much a value has risen; None where it is no number, or where that can't be told."""
    if number:
        return exp.Sub(this=now, expression=before)
    return place.dialect.rise(now, before) if number is None else None


def untold(scored: Scored, place: TablePlaces) -> list[str]:
    """The predictions of which nothing tells whether they are numbers: they have no difference."""
    unknown = [name for name, is_number in scored.predictions.items() if is_number is None]
    return [name for name in unknown if place.dialect.rise(place.column(name), place.column(name)) is None]


def changes(scored: Scored, place: TablePlaces) -> exp.Select:
    """Each key's predictions beside those of the key's previous run, with the difference of numbers and both runs."""
    pairs, earlier = _pairs(scored)
    ids = (*scored.keys, *scored.slice)
    lags = [_over(scored, place, exp.Lag(this=place.column(name))) for name in (RUN_ID, *pairs)]
    names = [earlier, *(before for before, _ in pairs.values())]
    held = [*(place.column(name) for name in (*ids, *pairs, RUN_ID)), *map(place.named, lags, names)]
    beside = chosen(place.scored, held).subquery("beside", copy=False)
    columns: list[exp.Expr] = [*map(place.column, ids)]
    for name, (before, difference) in pairs.items():
        columns += [place.column(name), place.column(before)]
        rise = _difference(scored.predictions[name], place, place.column(name), place.column(before))
        columns += [place.named(rise, difference)] if rise else []
    return chosen(beside, [*columns, place.column(RUN_ID), place.column(earlier)])


def two_runs(scored: Scored, place: TablePlaces) -> exp.Select:
    """The predictions of two runs side by side; a key that only one of them has shows too."""
    pairs, _ = _pairs(scored)
    columns: list[exp.Expr] = [
        place.named(exp.Coalesce(this=place.column(k, "new"), expressions=[place.column(k, "old")]), k)
        for k in scored.keys
    ]
    for name, (before, difference) in pairs.items():
        new, old = place.column(name, "new"), place.column(name, "old")
        columns += [new, place.named(old, before)]
        rise = _difference(scored.predictions[name], place, new.copy(), old.copy())
        columns += [place.named(rise, difference)] if rise else []

    def run(which: str) -> exp.Select:
        own = exp.EQ(this=place.column(RUN_ID), expression=exp.Literal.string(f"<the {which} run>"))
        return chosen(place.scored, [place.column(n) for n in (*scored.keys, *pairs)]).where(own)

    same = [exp.EQ(this=place.column(k, "new"), expression=place.column(k, "old")) for k in scored.keys]
    earlier = exp.alias_(run("old").subquery(copy=False), "old", table=True, quoted=True)
    return chosen(run("new").subquery(copy=False), columns, "new").join(
        earlier, on=exp.and_(*same), join_type="full outer"
    )
