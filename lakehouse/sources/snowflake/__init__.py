"""Reading from Snowflake: one query, whose result batches are the units that workers fetch by themselves.

Columns and conditions go into the query. The workers need no login: a result's URLs are signed, for about 6 hours.
Where one isn't taken any more, a worker that has the connection asks for the result again by the query's id, which
Snowflake keeps for a day.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.connectors import snowflake
from lakehouse.connectors.snowflake import fold, quote
from lakehouse.errors import ConfigError
from lakehouse.schemas import RUN_ID
from lakehouse.sources import CHUNKS, FileUse
from lakehouse.sources.snowflake.pinning import EPOCH, PinnedQuery, condition, pin
from lakehouse.sources.snowflake.results import ChunkUnit, QueryResult

if TYPE_CHECKING:
    from lakehouse.config.systems.snowflake import SnowflakeSource

__all__ = [
    "KEEPS_FINGERPRINT", "as_of", "at_version", "carrier", "first_file", "folder", "frame", "narrowed", "pin",
    "qualify", "read", "rows_of_run", "supported_columns", "units", "uri_of", "use_of_file",
]  # fmt: skip

KEEPS_FINGERPRINT = False

_UNKNOWN_SIZE = 1 << 20


def qualify(source: SnowflakeSource) -> SnowflakeSource:
    """The source with its table named in full, by the connection's own database and schema."""
    if source.table is None or source.connection is None:
        return source
    return source.model_copy(update={"table": snowflake.qualified(source.connection, source.table)})


def uri_of(source: SnowflakeSource) -> str | None:
    """The URI of the table, None for a query. Raises ConfigError where it isn't named in full."""
    if source.table is None or source.connection is None:
        return None
    return snowflake.Table.named(source.connection, source.table).uri


def rows_of_run(run: str) -> str:
    """The condition that selects the rows of one run in a table of the product's own."""
    return f"{fold(RUN_ID)} = '{run}'"


def at_version(source: SnowflakeSource, version: int | None) -> SnowflakeSource:
    """The table by Time Travel. Raises ConfigError for a query, of which isn't known what it would have given then."""
    if version is None:
        return source
    if source.table is None:
        raise ConfigError(f"{source.name}: a table of it has changed since, or may have: what it gave isn't known")
    return source.model_copy(update={"timestamp": (EPOCH + timedelta(milliseconds=version)).isoformat()})


def narrowed(source: SnowflakeSource, pinned: PinnedQuery, values: Mapping[str, Any]) -> SnowflakeSource:
    """By whole numbers, texts and days."""
    stored = dict(pinned.stored)
    terms = [f"{stored[name]} = {text}" for name, value in values.items() if (text := _literal(value))]
    own = [f"(\n{source.where}\n)"] if source.where is not None else []
    return source.model_copy(update={"where": " AND ".join([*terms, *own]) or None})


def _literal(value: Any) -> str:
    """A value in SQL; empty for one of another type."""
    if type(value) is int:
        return str(value)
    if type(value) is str:
        return snowflake.text_literal(value)
    return f"'{value.isoformat()}'::DATE" if type(value) is date else ""


def carrier(pinned: PinnedQuery, columns: Sequence[str]) -> tuple[str, str]:
    """Always the chunks of one result. Raises ConfigError for a column of a type that isn't handed on."""
    for column, why in pinned.refused:
        if column in columns:
            raise ConfigError(f"column {column!r} of {pinned.name} {why}")
    return CHUNKS, "the query runs once, workers fetch its result"


def supported_columns(pinned: PinnedQuery) -> list[str]:
    """The columns of types that are handed on."""
    refused = dict(pinned.refused)
    return [name for name in pinned.schema.names if name not in refused]


def read(pinned: PinnedQuery, columns: Sequence[str], limit: int | None = None) -> PinnedQuery:
    """Run the query for these columns. Raises ConfigError for what Snowflake refuses, such as a wrong `where`."""
    stored = dict(pinned.stored)
    chosen = ", ".join(f"{stored[c]} AS {quote(c)}" for c in columns)
    sql = f"SELECT {chosen} FROM {pinned.origin}{condition(pinned.where)}"
    if limit is not None:
        sql += f" LIMIT {limit}"
    with snowflake.session(pinned.connection) as session:
        ((at_ms,),) = session.run("SELECT DATE_PART(EPOCH_MILLISECOND, CURRENT_TIMESTAMP())")
        query_id, batches = session.query(sql)
    rows = tuple(int(batch.rowcount) for batch in batches)
    result = QueryResult(
        query_id,
        int(at_ms),
        tuple(pickle.dumps(batch) for batch in batches),
        rows,
        tuple(int(batch.uncompressed_size or _UNKNOWN_SIZE) for batch in batches),
        sum(rows) == limit,
    )
    return replace(pinned, result=result)


def units(pinned: PinnedQuery, columns: Sequence[str], batch_rows: int, tasks: int) -> list[ChunkUnit]:
    """The result's batches, in its order."""
    result = pinned.result
    assert result is not None  # whoever cuts it has read it
    schema = pa.schema([pinned.schema.field(c) for c in columns])
    return [
        ChunkUnit(pinned.connection, result.query_id, number, batch, size, schema, batch_rows)
        for number, (batch, rows, size) in enumerate(zip(result.batches, result.rows, result.sizes, strict=True))
        if rows
    ]


def folder(pinned: Any) -> None:
    """None: a result is fetched from Snowflake."""


def first_file(pinned: Any) -> None:
    """None: a result is fetched from Snowflake."""


def frame(spark: Any, pinned: Any, columns: Sequence[str], reason: str) -> Any:
    """Never asked for: `carrier` says `chunks`."""
    raise AssertionError("a result of Snowflake is carried in chunks")


def as_of(source: SnowflakeSource, moment: datetime) -> SnowflakeSource:
    """The table by Time Travel, which Snowflake refuses past its retention. Raises ConfigError for a query."""
    if source.timestamp is not None:
        raise ConfigError("source.timestamp: the job reads one moment whatever the date: leave it out")
    if source.table is None:
        raise ConfigError(f"{source.name}: what a query would have given then isn't known: name a table")
    return source.model_copy(update={"timestamp": (moment - timedelta(microseconds=1)).isoformat()})


def use_of_file(source: SnowflakeSource, file: str, readings: Sequence[tuple[int, str | None]]) -> FileUse:
    """Refused: a table in Snowflake has no files of its own."""
    raise ConfigError(f"{source.name}: what is read from Snowflake has no files: use --input-version or --model")
