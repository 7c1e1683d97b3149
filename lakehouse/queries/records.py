"""The views over the run ledger and the quarantine, each defined once as a syntax tree."""

from __future__ import annotations

from sqlglot import exp

from lakehouse.contract import JOB, REASON, REASONS, RUN_ID, SCORED_AT
from lakehouse.queries.views import Place, Runs, Scored, chosen

_FIELDS = [field.name for field in REASON]
_RULE, _COLUMN, _ = _FIELDS


def ledger(scored: Scored, place: Place, runs: Runs) -> exp.Select:
    """The job's runs, in no order: a view has none. A row without a run is the lock that publishing takes."""
    columns: list[exp.Expr] = [exp.Star()]
    if place.dialect == "athena":
        moments = runs.columns.items()
        columns = [place.named(place.instant(n), n) if is_moment else place.column(n) for n, is_moment in moments]
    return chosen(runs.table, columns).where(*_recorded(scored, place))


def _recorded(scored: Scored, place: Place) -> tuple[exp.Expr, exp.Expr]:
    mine = exp.EQ(this=place.column("job"), expression=exp.Literal.string(scored.job))
    return mine, exp.NEQ(this=place.column("run_id"), expression=exp.Literal.string(""))


def reasons(scored: Scored, place: Place, runs: Runs, aside: exp.Table) -> exp.Select:
    """Quarantined rows by run, rule and column, without runs that a later published one of their identity superseded.

    A run that the ledger lacks, as one in Snowflake lacks blocked runs, is of the identity that its slice gives.
    """
    at = place.column(runs.at)
    published = [*_recorded(scored, place)]
    if runs.every:
        published.append(exp.EQ(this=place.column("status"), expression=exp.Literal.string("published")))
    newest = chosen(runs.table, [place.column("identity"), place.named(exp.Max(this=at), "newest")])
    newest = newest.where(*published).group_by(place.column("identity"))
    own = chosen(runs.table, [place.column(name) for name in ("run_id", "identity", runs.at)])
    own = own.where(*_recorded(scored, place))
    identity, end = place.column("identity", "own"), place.column(runs.at, "own")
    of = identity if scored.appended else exp.Coalesce(this=identity, expressions=[_identity(scored, place)])
    ended = exp.Coalesce(this=end, expressions=[place.column(SCORED_AT, "aside")])
    last = place.column("newest", "later")
    by = [place.column(RUN_ID, "aside"), *(place.column(name, "aside") for name in (_RULE, _COLUMN))]
    query = chosen(
        _exploded(scored, place, aside).subquery(copy=False),
        [*by, place.named(exp.Count(this=exp.Star()), "rows")],
        "aside",
    )
    query = query.join(
        exp.alias_(own.subquery(copy=False), "own", table=True, quoted=True), join_type="left",
        on=exp.EQ(this=place.column("run_id", "own"), expression=place.column(RUN_ID, "aside")),
    ).join(
        exp.alias_(newest.subquery(copy=False), "later", table=True, quoted=True), join_type="left",
        on=exp.EQ(this=place.column("identity", "later"), expression=of),
    )  # fmt: skip
    unsurpassed = exp.or_(exp.Is(this=last, expression=exp.Null()), exp.GTE(this=ended, expression=last.copy()))
    return query.where(unsurpassed).group_by(*(column.copy() for column in by))


def _identity(scored: Scored, place: Place) -> exp.Expr:
    """`<job>/<slice>` of a row, as runs are named."""
    text: exp.Expr = exp.Literal.string(f"{scored.job}/")
    for number, name in enumerate(sorted(scored.slice)):
        column = place.column(name, "aside")
        words = exp.case().when(column, exp.Literal.string("True")).else_(exp.Literal.string("False"))
        value = words if name in scored.flags else exp.cast(column, exp.DType.VARCHAR)
        for part in (exp.Literal.string(f"{',' if number else ''}{name}="), value):
            text = exp.DPipe(this=text, expression=part, safe=True)
    return text


def _exploded(scored: Scored, place: Place, aside: exp.Table) -> exp.Select:
    """A row a reason of each of the job's quarantined rows: lateral in every dialect, each with fields of its own."""
    fields: list[exp.Expr]
    array = place.column(REASONS, "q")
    if place.dialect == "snowflake":
        # an ARRAY of any kind: in Iceberg tables it has a type of its own
        flat = exp.Explode(this=exp.Kwarg(this=exp.var("INPUT"), expression=exp.cast(array, exp.DType.ARRAY)))
        join = exp.Join(this=exp.Lateral(this=flat, alias=exp.TableAlias(this=exp.to_identifier("r", quoted=True))))
        value = exp.column("VALUE", table="r", quoted=True)
        fields = [exp.cast(exp.func("GET_PATH", value.copy(), exp.Literal.string(n)), exp.DType.VARCHAR)
                  for n in (_RULE, _COLUMN)]  # fmt: skip
    else:
        # Athena makes columns of a row's fields, the others give the row itself
        names = _FIELDS if place.dialect == "athena" else ["reason"]
        held = [exp.to_identifier(name, quoted=True) for name in names]
        alias = exp.TableAlias(this=exp.to_identifier("r", quoted=True), columns=held)
        join = exp.Join(this=exp.Unnest(expressions=[array], alias=alias), kind="CROSS")
        whole = exp.column("reason", quoted=True)
        fields = [exp.column(n, table="r", quoted=True) if place.dialect == "athena"
                  else exp.Dot(this=whole.copy(), expression=exp.to_identifier(n, quoted=True))
                  for n in (_RULE, _COLUMN)]  # fmt: skip
    kept = [place.column(name, "q") for name in (RUN_ID, SCORED_AT, *scored.slice)]
    columns = [*kept, *map(place.named, fields, (_RULE, _COLUMN))]
    query = chosen(aside, columns, "q")
    query.append("joins", join)
    return query.where(exp.EQ(this=place.column(JOB, "q"), expression=exp.Literal.string(scored.job)))
