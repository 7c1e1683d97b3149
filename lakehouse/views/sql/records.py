"""The views over the run ledger and the quarantine, each defined once as a syntax tree."""

from __future__ import annotations

from sqlglot import exp

from lakehouse.runs.restoring import PUT_BACK
from lakehouse.schemas import JOB, REASON, REASONS, RUN_ID, SCORED_AT
from lakehouse.views.sql.views import Runs, Scored, TablePlaces, chosen

_FIELDS = [field.name for field in REASON]
_RULE, _COLUMN, _ = _FIELDS


def ledger(scored: Scored, place: TablePlaces, runs: Runs) -> exp.Select:
    """The job's runs, in no order: a view has none. A row without a run is the lock that publishing takes."""
    columns: list[exp.Expr] = [exp.Star()]
    if not place.dialect.ZONES:
        moments = runs.columns.items()
        columns = [place.named(place.instant(n), n) if is_moment else place.column(n) for n, is_moment in moments]
    return chosen(runs.table, columns).where(*_is_recorded(scored, place))


def _is_recorded(scored: Scored, place: TablePlaces) -> tuple[exp.Expr, exp.Expr]:
    mine = exp.EQ(this=place.column("job"), expression=exp.Literal.string(scored.job))
    return mine, exp.NEQ(this=place.column("run_id"), expression=exp.Literal.string(""))


def reasons(scored: Scored, place: TablePlaces, runs: Runs, aside: exp.Table) -> exp.Select:
    """Quarantined rows by run, rule and column, without runs that a later published one of their identity superseded.

    Where the ledger has messages, a run stands, too, whose rows the newest one, a rollback, has put back.

    A run that left no record was overtaken, or died: nothing says that its rows are of what is live. But a ledger in
    Snowflake lacks blocked runs too: there such a run is of the identity that its slice gives, if there is a slice.
    """
    recorded = only_recorded(scored, runs)
    owned = ["run_id", "identity", "generation", runs.at, *(["status"] if runs.every else [])]
    own = chosen(runs.table, [place.column(name) for name in owned]).where(*_is_recorded(scored, place))
    if runs.every:  # it was overtaken after its quarantine commit
        own = own.where(exp.NEQ(this=place.column("status"), expression=exp.Literal.string("failed")))
    identity = place.column("identity", "own")
    of = identity if recorded else exp.Coalesce(this=identity, expressions=[_identity(scored, place)])
    by = [place.column(RUN_ID, "aside"), *(place.column(name, "aside") for name in (_RULE, _COLUMN))]
    query = chosen(
        _explode(scored, place, aside).subquery(copy=False),
        [*by, place.named(exp.Count(this=exp.Star()), "rows")],
        "aside",
    )
    query = query.join(
        exp.alias_(own.subquery(copy=False), "own", table=True, quoted=True),
        join_type="inner" if recorded else "left",
        on=exp.EQ(this=place.column("run_id", "own"), expression=place.column(RUN_ID, "aside")),
    ).join(
        exp.alias_(_newest(scored, place, runs).subquery(copy=False), "later", table=True, quoted=True),
        join_type="left",
        on=exp.EQ(this=place.column("identity", "later"), expression=of),
    )
    return query.where(_stands(place, runs)).group_by(*(column.copy() for column in by))


def _newest(scored: Scored, place: TablePlaces, runs: Runs) -> exp.Select:
    """By identity its newest published generation, when the last one was published, and since when generations count.

    They begin with 1 again where a table was made anew: then those from before it don't count.
    """

    def column(name: str, table: str) -> exp.Column:
        return place.column(name, table)

    def published(table: str) -> list[exp.Expr]:
        found = [
            exp.EQ(this=column("job", table), expression=exp.Literal.string(scored.job)),
            exp.NEQ(this=column("run_id", table), expression=exp.Literal.string("")),
        ]
        if runs.every:
            found.append(exp.EQ(this=column("status", table), expression=exp.Literal.string("published")))
        return list(found)

    several = exp.GT(this=exp.Count(this=exp.Star()), expression=exp.Literal.number(1))
    begun = exp.case().when(several, exp.Max(this=column(runs.at, "first")))
    first = chosen(runs.table, [column("identity", "first"), place.named(begun, "begun")], "first")
    is_first = exp.EQ(this=column("generation", "first"), expression=exp.Literal.number(1))
    first = first.where(*published("first"), is_first).group_by(column("identity", "first"))
    since = column("begun", "first")
    counts = exp.or_(
        exp.Is(this=since, expression=exp.Null()), exp.GTE(this=column(runs.at, "run"), expression=since.copy())
    )
    newest = exp.Max(this=exp.case().when(counts, column("generation", "run")))
    columns = [
        *([place.named(_last_message(place, counts.copy()), "said")] if runs.every else []),
        place.named(newest, "newest"),
        place.named(exp.Max(this=column(runs.at, "run")), "ended"),
        place.named(exp.Max(this=since.copy()), "begun"),
    ]
    query = chosen(runs.table, [column("identity", "run"), *columns], "run").join(
        exp.alias_(first.subquery(copy=False), "first", table=True, quoted=True),
        join_type="left",
        on=exp.EQ(this=column("identity", "first"), expression=column("identity", "run")),
    )
    return query.where(*published("run")).group_by(column("identity", "run"))


def _last_message(place: TablePlaces, counts: exp.Expr) -> exp.Expr:
    """What the newest published run says."""
    said = exp.Coalesce(this=place.column("message", "run"), expressions=[exp.Literal.string("")])
    return exp.ArgMax(this=said, expression=exp.case().when(counts, place.column("generation", "run")))


def _stands(place: TablePlaces, runs: Runs) -> exp.Expr:
    """Whether no later run superseded a row's: by generation, and by time where the run has no record to tell it."""
    generation, newest = place.column("generation", "own"), place.column("newest", "later")
    begun = place.column("begun", "later")
    ahead: exp.Expr = exp.GTE(this=generation, expression=newest)
    if runs.every:
        same = exp.EQ(this=generation.copy(), expression=newest.copy())
        status = exp.EQ(this=place.column("status", "own"), expression=exp.Literal.string("published"))
        prefix = exp.Literal.string(PUT_BACK)
        named = exp.DPipe(this=prefix, expression=place.column("run_id", "own"), safe=True)
        named = exp.DPipe(this=named, expression=exp.Literal.string(" %"), safe=True)
        again = exp.Like(this=place.column("said", "later"), expression=named)
        ahead = exp.or_(exp.GT(this=generation.copy(), expression=newest.copy()), exp.and_(same, status), again)
    counts = exp.or_(
        exp.Is(this=begun, expression=exp.Null()),
        exp.GTE(this=place.column(runs.at, "own"), expression=begun.copy()),
    )
    unknown = exp.Is(this=generation.copy(), expression=exp.Null())
    after = exp.GTE(this=place.column(SCORED_AT, "aside"), expression=place.column("ended", "later"))
    never = exp.Is(this=newest.copy(), expression=exp.Null())
    known = exp.not_(unknown.copy())
    return exp.or_(never, exp.and_(unknown, after), exp.and_(known, counts, ahead))


def only_recorded(scored: Scored, runs: Runs) -> bool:
    """Whether rows of runs that the ledger lacks are left out."""
    return runs.every or scored.appended


def _identity(scored: Scored, place: TablePlaces) -> exp.Expr:
    """`<job>/<slice>` of a row, as runs are named."""
    text: exp.Expr = exp.Literal.string(f"{scored.job}/")
    for number, name in enumerate(sorted(scored.slice)):
        column = place.column(name, "aside")
        words = exp.case().when(column, exp.Literal.string("True")).else_(exp.Literal.string("False"))
        value = words if name in scored.flags else exp.cast(column, exp.DType.VARCHAR)
        for part in (exp.Literal.string(f"{',' if number else ''}{name}="), value):
            text = exp.DPipe(this=text, expression=part, safe=True)
    return text


def _explode(scored: Scored, place: TablePlaces, aside: exp.Table) -> exp.Select:
    """A row a reason of each of the job's quarantined rows."""
    join, values = place.dialect.exploded(place.column(REASONS, "q"), _FIELDS)
    kept = [place.column(name, "q") for name in (RUN_ID, SCORED_AT, *scored.slice)]
    columns = [*kept, *map(place.named, values, (_RULE, _COLUMN))]
    query = chosen(aside, columns, "q")
    query.append("joins", join)
    return query.where(exp.EQ(this=place.column(JOB, "q"), expression=exp.Literal.string(scored.job)))
