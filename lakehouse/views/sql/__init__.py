"""`lakehouse sql`: the statements for reading a job's tables in another system, and the views that people want there.

Nothing is asked of that system; a Delta table's log is read only where the job file leaves its columns open.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlglot import exp

from lakehouse.config.systems.snowflake import SnowflakeSink
from lakehouse.connectors.snowflake import names_in
from lakehouse.errors import ConfigError, nearest
from lakehouse.planning import catalog
from lakehouse.runs.ledger import RUNS
from lakehouse.sinks.snowflake import QUARANTINE_SUFFIX, history
from lakehouse.views.sql import columns, places, records, views
from lakehouse.views.sql.places import Statement
from lakehouse.views.sql.views import Place, Runs, Scored

if TYPE_CHECKING:
    from lakehouse.config import Job, Sink

DIALECTS = ("athena", "duckdb", "snowflake", "spark")


@dataclass(frozen=True)
class _Section:
    """What belongs to one sink. `last`: the quarantine, whose table is there only once rows were set aside."""

    heading: str
    statements: Sequence[Statement]
    last: Sequence[Statement]


def written(job: Job, dialect: str) -> str:
    """The statements for a job's tables in this dialect, as text that a client takes.

    Raises ConfigError for an unknown dialect, for columns that aren't known, and where the dialect can read none of
    the job's tables.
    """
    if dialect not in DIALECTS:
        raise ConfigError(f"{dialect!r} is no dialect of lakehouse sql, {nearest(dialect, DIALECTS)}")
    sections, refused = [], []
    for sink in job.sinks:
        try:
            sections.append(_section(job, sink, dialect))
        except _Elsewhere as error:
            refused.append(error)
    if not sections:
        raise ConfigError("; ".join(map(str, refused)))
    shown = [f"{line}\n" for error in refused for line in [_comment(f"Left out: {error}")]]
    shown += [_block(section.heading, section.statements) for section in sections]
    shown += [
        _block("== Quarantine: its table is there once a run has set rows aside ==", section.last)
        for section in sections
        if section.last
    ]
    return "\n".join(shown)


class _Elsewhere(ConfigError):
    """This dialect can't read this sink."""


def _block(heading: str, statements: Iterable[Statement]) -> str:
    parts = [_comment(heading)]
    for statement in statements:
        about = [_comment(statement.about)] if statement.about else []
        sql = re.sub("^", "--   ", statement.sql, flags=re.MULTILINE) if statement.example else f"{statement.sql};"
        parts.append("\n".join([*about, sql]))
    return "\n\n".join(parts) + "\n"


def _comment(text: str) -> str:
    """Lines of comment, without what clients that cut at semicolons and quotes would stumble over."""
    return "\n".join(f"-- {line}" for line in re.sub("[;'\"`]", "", text).splitlines())


def _section(job: Job, sink: Sink, dialect: str) -> _Section:
    if isinstance(sink, SnowflakeSink):
        if dialect != "snowflake":
            raise _Elsewhere(f"{sink.table} is in Snowflake: lakehouse sql snowflake")
        return _native(job, sink)
    return _in_place(job, sink, dialect)


def _native(job: Job, sink: SnowflakeSink) -> _Section:
    """The views beside a table in Snowflake."""
    parts = names_in(sink.table)

    def table(suffix: str = "", names: Sequence[str] = tuple(parts)) -> exp.Table:
        return _table([*names[:-1], names[-1] + suffix])

    own, aside = job.checks.quarantine.table, None
    if job.sinks[0] is sink:
        aside = table(QUARANTINE_SUFFIX) if own is None else table(names=names_in(own))
    runs = Runs(table(history.RUNS), "published_at", False, {})
    place = Place("snowflake", table(), lambda suffix: table(suffix.upper()), runs, aside)
    shown, last = _views(columns.scored(job), place, [], [], [])
    return _Section("\n".join([f"== {sink.table}, a table in Snowflake ==", *_schema_of(sink)]), shown, last)


def _schema_of(sink: SnowflakeSink) -> list[str]:
    """Where the names lie that the job file does not give in full."""
    lacking = {1: "database and schema", 2: "database"}.get(len(names_in(sink.table)))
    if lacking is None:
        return []
    return [f"In the {lacking} of the connection {sink.connection}: USE them first, or name the table in full"]


def _alone(scored: Scored) -> str:
    """Which runs can't be compared because the table has only the rows of the last one."""
    if not scored.replaced:
        return ""
    kept = "a slice keeps" if scored.slice else "the table keeps"
    return (
        f"\nTwo runs {'of one slice ' if scored.slice else ''}can not be compared: {kept} the rows of the last one only"
    )


def _table(parts: Sequence[str]) -> exp.Table:
    name, db, database = (*reversed(parts), None, None)[:3]
    return exp.table_(name or "", db=db, catalog=database, quoted=True)


def _in_place(job: Job, sink: Sink, dialect: str) -> _Section:
    """The Delta table, read where it lies, and the views over it."""
    named = catalog.is_name(sink.table)
    if named and dialect != "spark":
        raise _Elsewhere(f"{sink.table} is a name of Spark's catalog: use lakehouse sql spark, or name its location")
    scored = columns.scored(job)
    uri = sink.table if named else places.uri_of(sink.table)
    name = sink.table.split(".")[-1] if named else places.plain(uri)
    name = {"athena": name.lower(), "snowflake": name.upper()}.get(dialect, name)
    if dialect == "snowflake" and any(
        s.type == "snowflake" and names_in(s.table)[-1].upper() == name for s in job.sinks
    ):
        name += "_DELTA"
    companions, notes = _companions(job, sink, dialect)
    try:
        tables, ways = places.ways(name, {"": uri, **companions}, dialect)
    except ConfigError as error:
        raise _Elsewhere(str(error)) from error
    database = sink.table.split(".")[:-1] if named else []

    def view(suffix: str) -> exp.Table:
        suffix = suffix.upper() if dialect == "snowflake" else suffix
        return _table([*database, name + suffix])

    held = {field.name: pa.types.is_timestamp(field.type) for field in RUNS}
    runs = Runs(tables["_runs"], "finished_at", True, held) if "_runs" in tables else None
    temporary = dialect == "spark" and not named
    place = Place(dialect, tables[""], view, runs, tables.get("_quarantine"), temporary)
    shown, last = _views(scored, place, ways[""], ways.get("_runs", []), ways.get("_quarantine", []))
    return _Section("\n".join([f"== {sink.table}, a Delta table read where it lies ==", *notes]), shown, last)


def _companions(job: Job, sink: Sink, dialect: str) -> tuple[dict[str, str], list[str]]:
    """The URIs of ledger and quarantine by suffix, and what can't be told: a name of Spark's catalog tells no place."""
    named, found, notes = catalog.is_name(sink.table), {}, []
    if job.state is not None or not named:
        state = job.state or f"{sink.table.rstrip('/')}_state"
        found["_runs"] = places.uri_of(f"{state.rstrip('/')}/runs")
    else:
        notes.append("Without the ledger and the quarantine: the job file does not say where state lies")
    aside = job.checks.quarantine.table or (None if named else f"{sink.table.rstrip('/')}_quarantine")
    if job.sinks[0] is not sink:
        notes.append(f"The quarantine is beside {job.sinks[0].table}")
    elif aside is None or (catalog.is_name(aside) and dialect != "spark"):
        notes.append("Without the quarantine: the job file does not say where checks.quarantine.table lies")
    else:
        found["_quarantine"] = aside if catalog.is_name(aside) else places.uri_of(aside)
    return found, notes


def _views(
    scored: Scored, place: Place, before: list[Statement], before_runs: list[Statement], before_aside: list[Statement]
) -> tuple[list[Statement], list[Statement]]:
    """The views with what each needs before, and the one of the quarantine for itself."""

    def sql(tree: exp.Expr) -> str:
        return tree.sql(place.dialect, pretty=True, identify=True)

    def view(about: str, suffix: str, query: exp.Select) -> Statement:
        return Statement(about, sql(place.create(suffix, query)))

    unknown = ", ".join(name for name, is_number in scored.predictions.items() if is_number is None)
    which = f"\nNo difference of {unknown}: before the first run it is not known which of them are numbers"
    which = which if unknown and place.dialect != "snowflake" else ""
    once = "" if scored.slice or scored.appended else "\nThis job keeps one row a key: earlier runs have left the table"
    newest = "The newest score of each key, also of keys that later runs lack"
    beside = "Each score beside the previous one of its key" + once + which
    only = _alone(scored)
    shown = [
        *before,
        view(newest, "_current", views.current(scored, place)),
        view("Every score with the time for which it holds" + once, "_history", views.history(scored, place)),
        Statement("The scores as of a date:", sql(views.as_of(scored, place)), example=True),
        view(beside, "_changes", views.changes(scored, place)),
        Statement(f"The difference between two runs:{only}", sql(views.two_runs(scored, place)), example=True),
    ]
    if place.runs is None:
        return shown, []
    shown += [*before_runs, view("The runs of this job", "_ledger", records.ledger(scored, place, place.runs))]
    if place.aside is None:
        return shown, []
    told = "Rows that were set aside and why, without runs that a later one superseded"
    told += " or that left no record" if records.only_recorded(scored, place.runs) else ""
    told += (
        f"\nOf {place.aside.name} only: rows that it could not hold are in a table of this name with _2, _3 and so on"
    )
    counted = view(told, "_quarantine_reasons", records.reasons(scored, place, place.runs, place.aside))
    return shown, [*before_aside, counted]
