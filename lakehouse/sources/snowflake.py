"""Reading from Snowflake: one query, whose result batches are the units that workers fetch by themselves.

Columns and conditions go into the query. The workers need no login: a result's URLs are signed, for about 6 hours.
Where one isn't taken any more, a worker that has the connection asks for the result again by the query's id, which
Snowflake keeps for a day.
"""

from __future__ import annotations

import pickle
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.connectors import snowflake
from lakehouse.connectors.snowflake import fold, quote
from lakehouse.connectors.snowflake.changes import last_changes, tables_beside, tables_in
from lakehouse.connectors.snowflake.types import cast_rows, name_of, read_expression, read_type
from lakehouse.errors import ConfigError, Unavailable, nearest
from lakehouse.schemas import RUN_ID
from lakehouse.sources import CHUNKS, FileUse

if TYPE_CHECKING:
    from lakehouse.config.systems.snowflake import SnowflakeSource

KEEPS_FINGERPRINT = False

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNKNOWN_SIZE = 1 << 20


@dataclass(frozen=True)
class QueryResult:
    """A query that was run: its id, the server's time before it in ms since 1970, its pickled batches and their rows.

    `cut`: there may be more rows than were asked for.
    """

    query_id: str
    at_ms: int
    batches: tuple[bytes, ...]
    rows: tuple[int, ...]
    sizes: tuple[int, ...]
    cut: bool = False


@dataclass(frozen=True)
class PinnedQuery:
    """The input of a run: a table or query in Snowflake, and once it was read, its result.

    `stored`: each column in SQL. `refused`: those that can't be handed on, and why. `seen`: what
    tells the same rows from others, of the tables that are read. `moment`: the time that they are read as of, in ms
    since 1970; None for now.
    """

    name: str
    connection: str
    origin: str
    where: str | None
    schema: pa.Schema
    stored: tuple[tuple[str, str], ...]
    refused: tuple[tuple[str, str], ...]
    seen: tuple[tuple[str, str], ...]
    result: QueryResult | None = None
    moment: int | None = None
    range: None = None

    where_columns: tuple[str, ...] = ()

    @property
    def version(self) -> int | None:
        """The time that it is read as of, else the server's at which it was read, in ms since 1970."""
        return self.moment if self.moment is not None or self.result is None else self.result.at_ms

    @property
    def rows(self) -> int | None:
        """The rows of the result; None where it was cut short."""
        return sum(self.result.rows) if self.result and not self.result.cut else None

    @property
    def pieces(self) -> int | None:
        """How many batches the result is in."""
        return len(self.result.batches) if self.result else None

    @property
    def size(self) -> None:
        """It is not said before they are fetched."""

    @property
    def comments(self) -> dict[str, str]:
        """None are asked for."""
        return {}

    def fingerprint(self, columns: Sequence[str] = ()) -> Any:
        """The tables and their last changes; something new each time where that can't be known."""
        return [list(pair) for pair in self.seen]

    def rewritten_since(self, version: int, columns: Sequence[str] = ()) -> Sequence[Any]:
        """None: a table has no versions here, and its last change is none where rows are only moved."""
        return ()

    def describe(self) -> dict[str, Any]:
        """What was read and when, and the query's id."""
        asked = {"query_id": self.result.query_id} if self.result else {}
        return {"table": self.name, "version": self.version, **asked}


@dataclass(frozen=True)
class ChunkUnit:
    """A batch of a result. `batch` is the connector's own, pickled; `number` its place in the result."""

    connection: str
    query_id: str
    number: int
    batch: bytes
    size: int
    schema: pa.Schema
    batch_rows: int

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its rows in batches of at most `batch_rows`.

        Raises Unavailable where they can't be fetched, nor the result be asked for again.
        """
        rows = self._fetch()
        for batch in rows.to_batches(max_chunksize=self.batch_rows):
            if batch.num_rows:
                yield cast_rows(batch, self.schema)

    def _fetch(self) -> pa.Table:
        try:
            return snowflake.fetch_rows(pickle.loads(self.batch))
        except ImportError as error:
            raise ConfigError(
                f"a worker has no snowflake-connector-python: install it where workers run ({error})"
            ) from error
        except snowflake.Expired as error:
            try:
                return self._fetch_again()
            except (ConfigError, Unavailable) as why:
                raise Unavailable(
                    f"part {self.number} of query {self.query_id} can't be fetched ({error}), nor be asked for again "
                    f"({why}). A result's URLs live for about 6 hours and the result for a day: run again, in shorter "
                    f"parts, or let workers have the connection {self.connection!r} in their connections.toml"
                ) from error

    def _fetch_again(self) -> pa.Table:
        try:
            return snowflake.fetch_rows(_read_again(self.connection, self.query_id)[self.number])
        except snowflake.Expired:
            _read_again.cache_clear()  # they may be hours old, too
            return snowflake.fetch_rows(_read_again(self.connection, self.query_id)[self.number])


@lru_cache(maxsize=1)
def _read_again(connection: str, query_id: str) -> list[Any]:
    """A result's batches with new URLs, asked for once a process."""
    with snowflake.session(connection, f"lakehouse query={query_id}") as session:
        return session.results(query_id)


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
    return source.model_copy(update={"timestamp": (_EPOCH + timedelta(milliseconds=version)).isoformat()})


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


def pin(source: SnowflakeSource, names: Sequence[str] = ()) -> PinnedQuery:
    """See what a table or query would give, and when its tables last changed; nothing is read yet.

    Plain upper-case names become lower case, or what `names` spells them like. Raises ConfigError for what isn't there.
    """
    assert source.connection is not None  # as the job file's own checks demand
    moment = _moment(source.timestamp) if source.timestamp is not None else None
    at = moment.isoformat(" ") if moment is not None else None
    with snowflake.session(source.connection) as session:
        table = session.table(source.table) if source.table is not None else None
        if table is not None:
            name, origin = table.display_name, table.sql
        else:
            name, origin = source.name, f"(\n{_query(source)}\n)"
        pinned_at = origin if at is None else f"{origin} AT(TIMESTAMP => {snowflake.text_literal(at)}::TIMESTAMP_TZ)"
        try:
            described = session.describe(f"SELECT * FROM {pinned_at}{_condition(source.where)}")
        except snowflake.PastRetention as error:
            raise ConfigError(
                f"{name}: its rows as of {at} are kept no longer, or it wasn't there yet: that is past the table's "
                "Time Travel (DATA_RETENTION_TIME_IN_DAYS)"
            ) from error
        except ConfigError as error:
            raise _explain(error, session, source, origin, pinned_at) from error
        columns = _choose_columns(described, source.columns, name)
        seen = _observed_range(session, source, table, at)
    spelled = _spell([c.name for c in columns], list(names))
    types = {s: read_type(c) for s, c in zip(spelled, columns, strict=True)}
    schema = pa.schema([pa.field(s, kind or pa.null()) for s, kind in types.items()])
    refused = {s: _UNREADABLE.format(name_of(c)) for s, c in zip(spelled, columns, strict=True) if types[s] is None}
    given = [c.name for c in described]
    refused |= {s: _TWICE for s, c in zip(spelled, columns, strict=True) if given.count(c.name) > 1}
    stored = tuple((s, read_expression(c)) for s, c in zip(spelled, columns, strict=True))
    return PinnedQuery(
        name,
        source.connection,
        pinned_at,
        source.where,
        schema,
        stored,
        tuple(refused.items()),
        tuple(seen.items()),
        moment=(moment - _EPOCH) // timedelta(milliseconds=1) if moment is not None else None,
    )


_UNREADABLE = (
    "is {}, which can be neither handed to a model nor kept: read it by source.query, cast to a type that can, such as "
    "VARCHAR"
)
_TWICE = "is there twice: name one of them otherwise in source.query"


def _moment(timestamp: str) -> datetime:
    """A time in ISO 8601, of UTC unless it says otherwise."""
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError as error:
        raise ConfigError(
            f"source.timestamp: {timestamp!r} is no time: write one in ISO 8601, such as 2026-01-02T03:04:05Z"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _query(source: SnowflakeSource) -> str:
    return (source.query or "").strip().rstrip(";").rstrip()


def _condition(where: str | None) -> str:
    return f" WHERE (\n{where}\n)" if where is not None else ""


_MISSING = re.compile(
    r"invalid identifier '(?P<column>.+?)'(?=\s|$)|Object '(?P<table>.+?)' does not exist"
    r"|(?P<place>(Schema|Database) '.+?') does not exist"
)


def _explain(
    error: ConfigError, session: snowflake.Session, source: SnowflakeSource, origin: str, at: str
) -> ConfigError:
    """What Snowflake refuses, with the key of the job file that is wrong, and what comes nearest to what is missing."""
    key, columns = "table" if source.table is not None else "query", []
    for tried, named in ((at, "where"), (origin, "timestamp")):
        try:
            columns = [c.name for c in session.describe(f"SELECT * FROM {tried}")]
        except ConfigError as earlier:
            error = earlier
        else:
            key = named
            break
    missing = _MISSING.search(str(error.__cause__ or error))
    if missing and missing["table"]:
        table = session.table(missing["table"])
        return ConfigError(
            f"source.{key}: there is no table or view {table.display_name} on connection "
            f"{source.connection!r} that its role may read, {nearest(table.name, tables_beside(session, table))}"
        )
    if missing and missing["place"]:
        return ConfigError(
            f"source.{key}: there is no {missing['place']} on connection {source.connection!r} that its role may use"
        )
    if missing:
        hint = f", {nearest(missing['column'], columns)}" if columns else " in what it reads"
        return ConfigError(f"source.{key}: there is no column {missing['column']}{hint}")
    return ConfigError(f"source.{key}: {error}")


def _choose_columns(described: Sequence[Any], wanted: Sequence[str], name: str) -> list[Any]:
    """The columns that may be read, each once. Raises ConfigError for one that isn't there."""
    known = {c.name: c for c in reversed(described)}
    if not wanted:
        return list(reversed(known.values()))
    found = {}
    for column in wanted:
        match = snowflake.stored_name((column, snowflake.fold(column)), known)
        if match is None:
            hint = nearest(snowflake.fold(column), known)
            raise ConfigError(f"source.columns: {name} has no column {column!r}, {hint}")
        found[match] = known[match]
    return list(found.values())


def _spell(columns: Sequence[str], used: list[str]) -> list[str]:
    """Each column's name for the job; as Snowflake has it where two would be the same."""
    names = [snowflake.spelling_of(column, used) for column in columns]
    return [c if names.count(n) > 1 else n for n, c in zip(names, columns, strict=True)]


def _observed_range(
    session: snowflake.Session, source: SnowflakeSource, table: snowflake.Table | None, at: str | None
) -> dict[str, str]:
    """What tells the same rows from others: a moment of the past, else each table's last change; once where unknown."""

    def named(parts: list[str]) -> snowflake.Table:
        return session.table(".".join(map(quote, parts)))

    tables = [table] if table is not None else tables_in(_query(source), named)
    inside = tables_in(f"SELECT 1{_condition(source.where)}", named)
    if at is not None:
        ((past,),) = session.run(f"SELECT {snowflake.text_literal(at)}::TIMESTAMP_TZ < CURRENT_TIMESTAMP()")
        tables = tables if past else None
    known = last_changes(session, [*tables, *inside], at) if tables is not None and inside is not None else None
    return known if known is not None else {"once": str(uuid.uuid4())}


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
    sql = f"SELECT {chosen} FROM {pinned.origin}{_condition(pinned.where)}"
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
