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
from lakehouse.errors import ConfigError
from lakehouse.schemas import JOB, REASON, REASONS, RUN_ID
from lakehouse.sinks import LiveTable, Native
from lakehouse.sinks.snowflake.history import RUNS
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
    table = Table.parse(uri_of(section))
    where = equality_condition({fold(name): value for name, value in values.items()})
    columns = ", ".join(quote(fold(name)) for name in names)
    with snowflake.session(table.connection) as session:
        _, found = session.query(f"SELECT {columns} FROM {table.sql}{' WHERE ' + where if where else ''}")
        for batch in found:
            yield from snowflake.fetch_rows(batch).rename_columns(list(names)).to_batches()


def rows_at(
    section: SnowflakeSink,
    values: Mapping[str, str],
    names: Sequence[str],
    version: int | None,
    only: Mapping[str, Any],
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Refused: not built."""
    raise ConfigError(f"{section.table}: single scores of a table in Snowflake can't be looked up yet: only of Delta")


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
