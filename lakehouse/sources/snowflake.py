"""Reading from Snowflake: one query, whose result batches are the units that workers fetch by themselves.

Columns and conditions go into the query. The workers need no login: a result's URLs are signed, for about 6 hours.
Where one isn't taken any more, a worker that has the connection asks for the result again by the query's id, which
Snowflake keeps for a day.
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from lakehouse import snowflake
from lakehouse.errors import ConfigError, Unavailable, nearest
from lakehouse.predicate import is_fickle
from lakehouse.snowflake import quoted
from lakehouse.snowflake.types import name_of, read_type, typed
from lakehouse.sources import CHUNKS

if TYPE_CHECKING:
    from lakehouse.config import Source

_UNKNOWN_SIZE = 1 << 20


@dataclass(frozen=True)
class Result:
    """A query that was run: its id, the server's time before it in ms since 1970, its pickled batches and their rows.

    `columns`: the pinned columns that it has.
    """

    query_id: str
    at_ms: int
    columns: tuple[str, ...]
    batches: tuple[bytes, ...]
    rows: tuple[int, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Pinned:
    """The input of a run: a table or query in Snowflake, and once it was read, its result.

    `stored`: each column's name there. `refused`: those of a type that isn't handed on, and the type. `seen`: what
    tells the same rows from others, of the tables that are read.
    """

    name: str
    connection: str
    origin: str
    where: str | None
    schema: pa.Schema
    stored: tuple[tuple[str, str], ...]
    refused: tuple[tuple[str, str], ...]
    seen: tuple[tuple[str, str], ...]
    result: Result | None = None

    where_columns: tuple[str, ...] = ()

    @property
    def version(self) -> int | None:
        """The server's time at which it was read, in ms since 1970."""
        return self.result.at_ms if self.result else None

    @property
    def rows(self) -> int | None:
        """The rows of the result."""
        return sum(self.result.rows) if self.result else None

    @property
    def pieces(self) -> int | None:
        """How many batches the result is in."""
        return len(self.result.batches) if self.result else None

    @property
    def comments(self) -> dict[str, str]:
        """None are asked for."""
        return {}

    def fingerprint(self) -> Any:
        """The tables and their last changes; something new each time where that can't be known."""
        return [list(pair) for pair in self.seen]

    def said(self) -> dict[str, Any]:
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
        rows = self._fetched()
        for batch in rows.to_batches(max_chunksize=self.batch_rows):
            if batch.num_rows:
                yield typed(batch, self.schema)

    def _fetched(self) -> pa.Table:
        try:
            return snowflake.fetched(pickle.loads(self.batch))
        except snowflake.Expired as error:
            try:
                return snowflake.fetched(_again(self.connection, self.query_id)[self.number])
            except (ConfigError, Unavailable) as why:
                raise Unavailable(
                    f"part {self.number} of query {self.query_id} can't be fetched ({error}), nor be asked for again "
                    f"({why}). A result's URLs live for about 6 hours and the result for a day: run again, in shorter "
                    f"parts, or let workers have the connection {self.connection!r} in their connections.toml"
                ) from error


@lru_cache(maxsize=1)
def _again(connection: str, query_id: str) -> list[Any]:
    """A result's batches with new URLs, asked for once a process."""
    with snowflake.session(connection, f"lakehouse query={query_id}") as session:
        return session.results(query_id)


def pin(source: Source, names: Sequence[str] = ()) -> Pinned:
    """See what a table or query would give, and when its tables last changed; nothing is read yet.

    Plain upper-case names become lower case, or what `names` spells them like. Raises ConfigError for what isn't there.
    """
    assert source.connection is not None  # as the job file's own checks demand
    tables: list[str] | None
    with snowflake.session(source.connection) as session:
        if source.table is not None:
            table = session.table(source.table)
            name, origin, tables = table.shown, table.sql, [table.sql]
            if source.timestamp is not None:
                origin += f" AT(TIMESTAMP => {snowflake.text(source.timestamp)}::TIMESTAMP_TZ)"
        else:
            query = (source.query or "").strip().rstrip(";").rstrip()
            name, origin, tables = source.name, f"(\n{query}\n)", _tables_in(query, session)
        try:
            described = session.described(f"SELECT * FROM {origin}")
        except snowflake.Absent as error:
            raise ConfigError(f"source.{'table' if source.table else 'query'}: {error}") from error
        columns = _chosen(described, source.columns, name)
        spelled = _spelled([c.name for c in columns], list(names))
        if source.where is not None and _is_fickle(f"SELECT 1 WHERE {source.where}"):
            tables = None
        seen = _seen(session, tables, source.timestamp)
    types = {s: read_type(c) for s, c in zip(spelled, columns, strict=True)}
    schema = pa.schema([pa.field(s, kind or pa.null()) for s, kind in types.items()])
    refused = {s: name_of(c) for s, c in zip(spelled, columns, strict=True) if types[s] is None}
    stored = tuple((s, c.name) for s, c in zip(spelled, columns, strict=True))
    return Pinned(
        name, source.connection, origin, source.where, schema, stored, tuple(refused.items()), tuple(seen.items())
    )


def _chosen(described: Sequence[Any], wanted: Sequence[str], name: str) -> list[Any]:
    """The columns that may be read. Raises ConfigError for one that isn't there."""
    if not wanted:
        return list(described)
    found = []
    for column in wanted:
        known = {c.name: c for c in described}
        match = known.get(column) or known.get(snowflake.folded(column))
        if match is None:
            raise ConfigError(f"source.columns: {name} has no column {column!r}, {nearest(column, known)}")
        found.append(match)
    return found


def _spelled(columns: Sequence[str], used: list[str]) -> list[str]:
    """Each column's name for the job; as Snowflake has it where two would be the same."""
    names = [snowflake.spelled(column, used) for column in columns]
    return [c if names.count(n) > 1 else n for n, c in zip(names, columns, strict=True)]


def _tables_in(query: str, session: snowflake.Session) -> list[str] | None:
    """The tables that a query reads; None where that, or whether it gives the same again, can't be told."""
    if _is_fickle(query):
        return None
    tree = sqlglot.parse_one(query, read="snowflake")
    if tree.find(exp.TableSample, exp.Lateral, exp.Values):
        return None
    inner = {cte.alias_or_name for cte in tree.find_all(exp.CTE)}
    tables = [t for t in tree.find_all(exp.Table) if t.db or t.name not in inner]
    if not all(isinstance(t.this, exp.Identifier) for t in tables):
        return None  # a function or a stage
    named = {".".join(p.sql("snowflake") for p in t.parts) for t in tables}
    return [session.table(name).sql for name in sorted(named)]


def _is_fickle(query: str) -> bool:
    """Whether a query may give something else though its tables don't change, as far as that can be told."""
    try:
        return any(is_fickle(node) for node in sqlglot.parse_one(query, read="snowflake").walk())
    except SqlglotError:
        return True  # Snowflake will judge it


def _seen(session: snowflake.Session, tables: list[str] | None, timestamp: str | None) -> dict[str, str]:
    """What tells the same rows from others: a moment of the past, else each table's last change."""
    if timestamp is not None:
        return {"at": timestamp}
    never_the_same = {"once": str(uuid.uuid4())}
    if tables is None:
        return never_the_same
    try:
        return {
            table: str(session.run(f"SELECT SYSTEM$LAST_CHANGE_COMMIT_TIME({snowflake.text(table)})")[0][0])
            for table in tables
        }
    except ConfigError:  # a kind of table, such as one that is shared, that doesn't tell
        return never_the_same


def carrier(pinned: Pinned, columns: Sequence[str]) -> tuple[str, str]:
    """Always the chunks of one result. Raises ConfigError for a column of a type that isn't handed on."""
    for column, kind in pinned.refused:
        if column in columns:
            raise ConfigError(
                f"column {column!r} of {pinned.name} is {kind}, which can be neither handed to a model nor kept: read "
                "it by source.query, cast to a type that can, such as VARCHAR"
            )
    return CHUNKS, "the query runs once, workers fetch its result"


def read(pinned: Pinned, columns: Sequence[str], limit: int | None = None) -> Pinned:
    """Run the query for these columns. Raises ConfigError for what Snowflake refuses, such as a wrong `where`."""
    stored = dict(pinned.stored)
    chosen = ", ".join(f"{quoted(stored[c])} AS {quoted(c)}" for c in columns)
    sql = f"SELECT {chosen} FROM {pinned.origin}"
    if pinned.where is not None:
        sql += f" WHERE (\n{pinned.where}\n)"
    if limit is not None:
        sql += f" LIMIT {limit}"
    with snowflake.session(pinned.connection) as session:
        ((at_ms,),) = session.run("SELECT DATE_PART(EPOCH_MILLISECOND, CURRENT_TIMESTAMP())")
        cursor = session.cursor(sql)
        try:
            batches, query_id = list(cursor.get_result_batches() or ()), str(cursor.sfqid)
        finally:
            cursor.close()
    result = Result(
        query_id, int(at_ms), tuple(columns),
        tuple(pickle.dumps(batch) for batch in batches),
        tuple(int(batch.rowcount) for batch in batches),
        tuple(int(batch.uncompressed_size or _UNKNOWN_SIZE) for batch in batches),
    )  # fmt: skip
    return replace(pinned, result=result)


def units(pinned: Pinned, columns: Sequence[str], batch_rows: int, tasks: int) -> list[ChunkUnit]:
    """The result's batches, in its order."""
    result = pinned.result
    assert result is not None  # whoever cuts it has read it
    schema = pa.schema([pinned.schema.field(c) for c in columns])
    return [
        ChunkUnit(pinned.connection, result.query_id, number, batch, size, schema, batch_rows)
        for number, (batch, rows, size) in enumerate(zip(result.batches, result.rows, result.sizes, strict=True))
        if rows
    ]
