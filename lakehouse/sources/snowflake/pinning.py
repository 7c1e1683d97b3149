"""What a table or query would give, and what tells the same rows from others, before anything is read."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.connectors import snowflake
from lakehouse.connectors.snowflake import quote
from lakehouse.connectors.snowflake.changes import last_changes, tables_beside, tables_in
from lakehouse.connectors.snowflake.types import name_of, read_expression, read_type
from lakehouse.errors import ConfigError, nearest
from lakehouse.sources import instant_of
from lakehouse.sources.snowflake.results import QueryResult

if TYPE_CHECKING:
    from lakehouse.config.systems.snowflake import SnowflakeSource

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


def pin(source: SnowflakeSource, names: Sequence[str] = ()) -> PinnedQuery:
    """See what a table or query would give, and when its tables last changed; nothing is read yet.

    Plain upper-case names become lower case, or what `names` spells them like. Raises ConfigError for what isn't there.
    """
    assert source.connection is not None  # as the job file's own checks demand
    moment = instant_of(source.timestamp) if source.timestamp is not None else None
    at = moment.isoformat(" ") if moment is not None else None
    with snowflake.session(source.connection) as session:
        table = session.table(source.table) if source.table is not None else None
        if table is not None:
            name, origin = table.display_name, table.sql
        else:
            name, origin = source.name, f"(\n{_query(source)}\n)"
        pinned_at = origin if at is None else f"{origin} AT(TIMESTAMP => {snowflake.text_literal(at)}::TIMESTAMP_TZ)"
        try:
            described = session.describe(f"SELECT * FROM {pinned_at}{condition(source.where)}")
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
        moment=(moment - EPOCH) // timedelta(milliseconds=1) if moment is not None else None,
    )


_UNREADABLE = (
    "is {}, which can be neither handed to a model nor kept: read it by source.query, cast to a type that can, such as "
    "VARCHAR"
)
_TWICE = "is there twice: name one of them otherwise in source.query"


def _query(source: SnowflakeSource) -> str:
    return (source.query or "").strip().rstrip(";").rstrip()


def condition(where: str | None) -> str:
    """As a clause of SQL; empty where there is none."""
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
    inside = tables_in(f"SELECT 1{condition(source.where)}", named)
    if at is not None:
        ((past,),) = session.run(f"SELECT {snowflake.text_literal(at)}::TIMESTAMP_TZ < CURRENT_TIMESTAMP()")
        tables = tables if past else None
    known = last_changes(session, [*tables, *inside], at) if tables is not None and inside is not None else None
    return known if known is not None else {"once": str(uuid.uuid4())}
