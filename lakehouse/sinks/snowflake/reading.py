"""How a published table in Snowflake is read by people: where it is, and a few of its rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.connectors import digest as digests
from lakehouse.connectors import snowflake
from lakehouse.connectors.digest import Digest
from lakehouse.connectors.snowflake import Table, equality_condition, fold, names_in, quote, spelling_of
from lakehouse.connectors.snowflake.types import cast_rows, parse_json, read_expression, read_type
from lakehouse.errors import ConfigError
from lakehouse.schemas import JOB, REASON, REASONS, RUN_ID
from lakehouse.sinks import LiveTable, Native
from lakehouse.sinks.snowflake.former import next_after, past_retention, time_travel
from lakehouse.sinks.snowflake.history import RUNS, identity_of, ledger
from lakehouse.sinks.snowflake.loading import left_over, remove_left_over
from lakehouse.sinks.snowflake.naming import uri_of
from lakehouse.storage import Location

if TYPE_CHECKING:
    from lakehouse.config import Sink
    from lakehouse.config.systems.snowflake import SnowflakeSink

SYSTEM = "Snowflake"


def _missing_parts(section: SnowflakeSink) -> str:
    lacks = {1: "database and schema", 2: "database"}.get(len(names_in(section.table)))
    return f"{lacks} of the connection {section.connection}" if lacks else ""


NATIVE = Native("snowflake", names_in, _missing_parts, RUNS, "published_at")


def columns(section: Sink) -> pa.Schema | None:
    """None: Snowflake would have to be asked."""
    return None


def stored_columns(section: SnowflakeSink, names: Sequence[str]) -> pa.Schema:
    """As Snowflake describes them, but for those of types that are not handed on."""
    table = Table.parse(uri_of(section))
    with snowflake.session(table.connection) as session:
        described = session.columns(table) or ()
    return pa.schema([(name, read_type(column)) for name, column in _readable(described, names).items()])


def _readable(described: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """By its name for the job each described column that is handed on."""
    return {spelling_of(column.name, names): column for column in described if read_type(column) is not None}


def preview(
    section: SnowflakeSink,
    table: str,
    run: str,
    values: Mapping[str, str],
    chosen: Callable[[Sequence[str]], Sequence[str]],
    limit: int,
) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """Any rows of the slice."""
    assert section.connection is not None  # as the job file's own checks demand
    with snowflake.session(section.connection) as session:
        found = session.table(table)
        names = chosen([c.name for c in session.columns(found) or ()])
        where = equality_condition({fold(name): value for name, value in values.items()})
        query = f"SELECT {', '.join(map(quote, names))} FROM {found.sql}"
        rows = session.run(f"{query}{' WHERE ' + where if where else ''} LIMIT {limit}")
    return [spelling_of(name, ()) for name in names], [list(row) for row in rows]


def set_aside(section: SnowflakeSink, job: str, runs: Collection[str] | None) -> Sequence[pa.RecordBatch]:
    """Run and reasons of a job's quarantined rows, of all its runs; none where there is no such table."""
    aside = Table.parse(uri_of(section))
    with snowflake.session(aside.connection) as session:
        names, owner = ", ".join(quote(fold(name)) for name in (RUN_ID, REASONS)), quote(fold(JOB))
        try:
            found = session.run(f"SELECT {names} FROM {aside.sql} WHERE {owner} = %s", job)
        except snowflake.Absent:
            return ()
    rows = [{RUN_ID: run, REASONS: json.loads(reasons)} for run, reasons in found]
    return [pa.RecordBatch.from_pylist(rows, pa.schema([(RUN_ID, pa.string()), (REASONS, pa.list_(REASON))]))]


def live_runs(section: SnowflakeSink, job: str, of: Collection[str]) -> set[str]:
    """Asked of Snowflake."""
    table = Table.parse(uri_of(section))
    with snowflake.session(table.connection) as session:
        run, owner = quote(fold(RUN_ID)), quote(fold(JOB))
        try:
            found = session.run(f"SELECT DISTINCT {run} FROM {table.sql} WHERE {owner} = %s", job)
        except snowflake.Absent:
            return set()
    return {str(name) for (name,) in found} & set(of)


def digest(section: SnowflakeSink, values: Mapping[str, str], types: Mapping[str, pa.DataType]) -> Digest:
    """The digest of the slice's rows, made by Snowflake."""
    table = Table.parse(uri_of(section))
    where = equality_condition({fold(name): value for name, value in values.items()})
    with snowflake.session(table.connection) as session:
        (row,) = session.run(digests.sql(types, table.sql, where))
    return digests.from_row(row, types)


def rows(section: SnowflakeSink, values: Mapping[str, str], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Columns of the slice's rows, under these names."""
    for _, batch in rows_at(section, values, names, None, {}):
        yield batch.select(list(names))


def rows_at(
    section: SnowflakeSink,
    values: Mapping[str, str],
    names: Sequence[str],
    version: int | None,
    only: Mapping[str, Any],
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """As they are now, or by Time Travel; a table in Snowflake has no files that people know."""
    table, asked = Table.parse(uri_of(section)), [*names, *only, *values]
    with snowflake.session(table.connection) as session:
        run = str(only.get(RUN_ID))
        known = None if version is None else ledger(session, table, identity_of(session, table, run) or "")
        then = next_after(known, version) if known and version else None
        try:
            there = _readable(session.describe(f"SELECT * FROM {table.sql}{time_travel(then)}"), asked)
            chosen = {name: column for name, column in there.items() if name in names or name in only}
            wanted = [f"{quote(there[name].name)} = %s" for name in (*values, *only)]
            selected = ", ".join(f"{read_expression(column)} AS {quote(name)}" for name, column in chosen.items())
            where = f" WHERE {' AND '.join(wanted)}" if wanted else ""
            sql = f"SELECT {selected} FROM {table.sql}{time_travel(then)}{where}"
            _, found = session.query(sql, *values.values(), *only.values())
        except snowflake.Absent:
            return
        except snowflake.PastRetention as error:
            assert then is not None  # as only the past is kept no longer
            raise ConfigError(past_retention(f"{table.display_name}: generation {version}", then)) from error
    schema = pa.schema([(name, read_type(column)) for name, column in chosen.items()])
    for batch in found:
        for rows in snowflake.fetch_rows(batch).to_batches():
            if rows.num_rows:
                yield "", cast_rows(rows, schema)


def as_scored(column: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Lists and structs are kept as ARRAY and OBJECT, which come as JSON."""
    return parse_json(column, kind) if pa.types.is_nested(kind) and pa.types.is_string(column.type) else column


def live_files(section: Sink, known: int | None, values: Mapping[str, Any], keys: Sequence[str]) -> LiveTable | None:
    """Never: Snowflake finds a row by its key better than copies of its files here would."""
    raise ConfigError(f"{section.table}: scores in Snowflake are looked up there, by SQL; name a Delta sink, too")


def folder(section: SnowflakeSink) -> None:
    """None: files are uploaded."""


def unknown_files(folder: Location) -> None:
    """None: files are uploaded."""


def uploaded(section: SnowflakeSink) -> Mapping[str, tuple[int, int]]:
    """Files on the table's stage, and tables that took rows."""
    return left_over(Table.parse(uri_of(section)))


def remove_uploaded(section: SnowflakeSink, run: str) -> None:
    """Remove them of a run."""
    remove_left_over(Table.parse(uri_of(section)), run)
