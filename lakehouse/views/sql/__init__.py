"""`lakehouse sql`: the statements for reading a job's tables in another system, and the views that people want there.

`written` is their text, `sections` are the same statements for whoever runs them (`integrations`).

Nothing is asked of that system; a table's own files are looked at only where the job file leaves its columns open.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlglot import exp

from lakehouse import sinks
from lakehouse.connectors.spark import is_catalog_name
from lakehouse.errors import ConfigError
from lakehouse.runs.ledger import RUNS
from lakehouse.sinks import Native
from lakehouse.views.sql import columns, dialects, places, records, views
from lakehouse.views.sql.dialects import Dialect, Statement
from lakehouse.views.sql.views import Runs, Scored, TablePlaces

if TYPE_CHECKING:
    from lakehouse.config import Job, Sink


@dataclass(frozen=True)
class Section:
    """What belongs to one sink. `last`: the quarantine, whose table is there only once rows were set aside.

    `tables`: of a table that is read where it lies, and of ledger and quarantine beside it, names there and URIs; the
    scored one first.
    """

    heading: str
    statements: Sequence[Statement]
    last: Sequence[Statement]
    tables: Mapping[str, str] = field(default_factory=dict)


def written(job: Job, dialect: str) -> str:
    """The statements for a job's tables in this dialect, as text that a client takes.

    Raises ConfigError for an unknown dialect, for columns that aren't known, and where the dialect can read none of
    the job's tables.
    """
    found, refused = sections(job, dialect)
    shown = [f"{line}\n" for error in refused for line in [_comment(f"Left out: {error}")]]
    shown += [_block(section.heading, section.statements) for section in found]
    shown += [
        _block("== Quarantine: its table is there once a run has set rows aside ==", section.last)
        for section in found
        if section.last
    ]
    return "\n".join(shown)


def sections(job: Job, dialect: str) -> tuple[list[Section], list[str]]:
    """What `written` writes, a section a sink, and why sinks are left out. Raises what `written` does."""
    spoken = dialects.of(dialect)
    found, refused = [], []
    for sink in job.sinks:
        try:
            found.append(_section(job, sink, spoken))
        except _Elsewhere as error:
            refused.append(str(error))
    if not found:
        raise ConfigError("; ".join(refused))
    return found, refused


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


def _section(job: Job, sink: Sink, dialect: Dialect) -> Section:
    system, native = sinks.of(sink.type).SYSTEM, sinks.of(sink.type).NATIVE
    if native is None:
        return _in_place(job, sink, dialect)
    if native.dialect != dialect.NAME:
        raise _Elsewhere(f"{sink.table} is in {system}: lakehouse sql {native.dialect}")
    place = _beside(job, sink, native, dialect)
    shown, last = _views(columns.scored(job), place, {})
    lacking = native.lacking(sink)
    where = f"In the {lacking}: USE them first, or name the table in full"
    heading = [f"== {sink.table}, a table in {system} ==", *([where] if lacking else [])]
    return Section("\n".join(heading), shown, last)


def _beside(job: Job, sink: Sink, native: Native, dialect: Dialect) -> TablePlaces:
    """The table in its own system, where its ledger and its views stand beside it."""
    parts = native.parts(sink.table)

    def table(suffix: str = "") -> exp.Table:
        return _table([*parts[:-1], parts[-1] + suffix])

    own, aside = job.checks.quarantine.table, None
    if job.sinks[0] is sink:
        aside = table(sinks.of(sink.type).QUARANTINE_SUFFIX) if own is None else _table(native.parts(own))
    runs = Runs(table(native.runs), native.published_at, False, {})
    return TablePlaces(dialect, table(), lambda suffix: table(dialect.cased(suffix)), runs, aside)


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


def _in_place(job: Job, sink: Sink, dialect: Dialect) -> Section:
    """The table read where its files lie, and the views over it."""
    named = is_catalog_name(sink.table)
    if named and not dialect.CATALOG:
        raise _Elsewhere(f"{sink.table} is a name of Spark's catalog: use lakehouse sql spark, or name its location")
    scored = columns.scored(job)
    uri = sink.table if named else places.uri_of(sink.table)
    *database, name = sink.table.split(".") if named else [places.plain(uri)]
    name = _free(job, sink, dialect, dialect.cased(name))
    companions, notes = places.companions(job, sink, names=dialect.CATALOG)
    try:
        tables, before = dialect.reading(name, {"": uri, **companions})
    except ConfigError as error:
        raise _Elsewhere(str(error)) from error

    def view(suffix: str) -> exp.Table:
        return _table([*database, name + dialect.cased(suffix)])

    held = {field.name: pa.types.is_timestamp(field.type) for field in RUNS}
    runs = Runs(tables["_runs"], "finished_at", True, held) if "_runs" in tables else None
    place = TablePlaces(dialect, tables[""], view, runs, tables.get("_quarantine"), in_catalog=named)
    shown, last = _views(scored, place, before)
    heading = f"== {sink.table}, a {sinks.of(sink.type).SYSTEM} table read where it lies =="
    named_there = {tables[suffix].name: at for suffix, at in {"": uri, **companions}.items()}
    return Section("\n".join([heading, *notes]), shown, last, named_there)


def _free(job: Job, sink: Sink, dialect: Dialect, name: str) -> str:
    """The name, or another where a table of the job that is in the dialect's own system has this one."""
    natives = [(sinks.of(s.type).NATIVE, s.table) for s in job.sinks]
    taken = {
        dialect.cased(native.parts(table)[-1]) for native, table in natives if native and native.dialect == dialect.NAME
    }
    return name + dialect.cased(f"_{sink.type}") if name in taken else name


def _views(
    scored: Scored, place: TablePlaces, before: Mapping[str, Sequence[Statement]]
) -> tuple[list[Statement], list[Statement]]:
    """The views, with what each table needs `before` by its suffix, and the one of the quarantine for itself."""

    def sql(tree: exp.Expr) -> str:
        return tree.sql(place.dialect.NAME, pretty=True, identify=True)

    def view(about: str, suffix: str, query: exp.Select) -> Statement:
        ctes = {cte.alias for cte in query.find_all(exp.CTE)}
        reads = {table.name for table in query.find_all(exp.Table)} - ctes
        return Statement(about, sql(place.create(suffix, query)), view=place.view(suffix).name, reads=frozenset(reads))

    unknown = ", ".join(views.untold(scored, place))
    which = f"\nNo difference of {unknown}: before the first run it is not known which of them are numbers"
    which = which if unknown else ""
    once = "" if scored.slice or scored.appended else "\nThis job keeps one row a key: earlier runs have left the table"
    newest = "The newest score of each key, also of keys that later runs lack"
    beside = "Each score beside the previous one of its key" + once + which
    only = _alone(scored)
    shown = [
        *before.get("", ()),
        view(newest, "_current", views.current(scored, place)),
        view("Every score with the time for which it holds" + once, "_history", views.history(scored, place)),
        Statement("The scores as of a date:", sql(views.as_of(scored, place)), example=True),
        view(beside, "_changes", views.changes(scored, place)),
        Statement(f"The difference between two runs:{only}", sql(views.two_runs(scored, place)), example=True),
    ]
    if place.runs is None:
        return shown, []
    shown += [
        *before.get("_runs", ()),
        view("The runs of this job", "_ledger", records.ledger(scored, place, place.runs)),
    ]
    if place.aside is None:
        return shown, []
    told = "Rows that were set aside and why, without runs that a later one superseded"
    told += " or that left no record" if records.only_recorded(scored, place.runs) else ""
    told += (
        f"\nOf {place.aside.name} only: rows that it could not hold are in a table of this name with _2, _3 and so on"
    )
    counted = view(told, "_quarantine_reasons", records.reasons(scored, place, place.runs, place.aside))
    return shown, [*before.get("_quarantine", ()), counted]
