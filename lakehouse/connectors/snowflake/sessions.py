"""Sessions in Snowflake and its errors as ours. The only importer of its connector."""

from __future__ import annotations

import logging
import os
import re
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lakehouse.connectors.snowflake.names import Table, names_in
from lakehouse.errors import ConfigError, LakehouseError, Unavailable, nearest

if TYPE_CHECKING:
    import pyarrow as pa
    from snowflake.connector import SnowflakeConnection

STATEMENT_TIMEOUT_S = 3600
LOCK_TIMEOUT_S = 600
"""Longer than the 5 minutes after which Snowflake ends a dead client's transaction that others wait for."""
IDLE_S = 600.0
"""A kept session that was not used for so long may have ended; another one is opened."""
_LOCKED = (625, 604)  # a lock not released in time; cancelled because of it
_ABSENT = (2003, 2043)
_NO_ANSWER = (4, 250001)  # no or no good answer over HTTP, however often it was asked for
_INTERNAL = (6, 603, 300002, 370001)  # rows that can't be fetched; Snowflake's own internal errors
_NO_WAREHOUSE = 606
_NO_PAST = "Time travel data is not available"
_VAGUE = "SQL compilation error"
_NOISE = re.compile(r"\s*\(request_id=[^)]*\)|^\d{6} \(\w{5}\): (?=\d{6} \()")


class Unknown(Unavailable):
    """A statement was sent, and whether it was carried out is not known."""


class Locked(Unavailable):
    """Another transaction holds the lock."""


class Expired(Unavailable):
    """Rows of a result that can't be fetched from its URL."""


class PastRetention(ConfigError):
    """A table's rows as they were are not kept so long."""


class Absent(ConfigError):
    """What a statement names isn't there, or this role may not see it."""


@dataclass
class _ReusedSessions:
    """Sessions that wait to be used again, by connection, and since when."""

    tag: str
    idle: dict[str, list[tuple[float, SnowflakeConnection]]] = field(default_factory=dict)


_KEPT: ContextVar[_ReusedSessions | None] = ContextVar("kept", default=None)


@contextmanager
def reuse_sessions(tag: str) -> Iterator[None]:
    """While the block runs, this thread's sessions carry the tag and are used again instead of being closed."""
    if _KEPT.get() is not None:
        yield
        return
    here = _ReusedSessions(tag)
    token = _KEPT.set(here)
    try:
        yield
    finally:
        _KEPT.reset(token)
        for _, connection in (pair for pairs in here.idle.values() for pair in pairs):
            connection.close()


@contextmanager
def session(connection: str, tag: str = "lakehouse") -> Iterator[Session]:
    """A session of the named connection, in UTC, tagged, with time-outs; closed afterwards unless it's kept.

    `connection` is a name in the connector's connections.toml, where the way to log in is: a key pair, OAuth, a
    programmatic access token. Raises ConfigError for an unknown name or a refused login; Unavailable where Snowflake
    can't be reached.
    """
    here = _KEPT.get()
    waiting = here.idle.setdefault(connection, []) if here else []
    opened = None
    while waiting and opened is None:
        since, candidate = waiting.pop()
        if time.monotonic() - since < IDLE_S:
            opened = candidate
        else:
            candidate.close()
    opened = opened or _connect(connection, here.tag if here else tag)
    try:
        yield Session(opened, connection)
    except BaseException:
        opened.close()  # and with it the transaction that may be open
        raise
    if here and here is _KEPT.get():
        waiting.append((time.monotonic(), opened))
    else:
        opened.close()


def _connect(connection: str, tag: str) -> SnowflakeConnection:
    import snowflake.connector as driver
    from snowflake.connector.errors import Error

    # Where nobody has set logging up, its warnings (of proxies, say) would go to people's terminals.
    logging.getLogger("snowflake").addHandler(logging.NullHandler())
    settings = {
        "STATEMENT_TIMEOUT_IN_SECONDS": STATEMENT_TIMEOUT_S,
        "LOCK_TIMEOUT": LOCK_TIMEOUT_S,
        "JSON_INDENT": 0,
        "CLIENT_TELEMETRY_ENABLED": False,
        "AUTOCOMMIT": True,
    }
    try:
        return driver.connect(
            connection_name=connection,
            timezone="UTC",
            query_tag=tag[:2000],
            application="lakehouse",
            session_parameters=settings,
            client_out_of_band_telemetry_enabled=False,
            enable_server_session_keep_alive_auto_detection=False,
        )
    except Error as error:
        message, where = _first_line(error), f"Snowflake, connection {connection!r}"
        if "not found in config" in message:
            raise ConfigError(
                f"Snowflake: there is no connection {connection!r} in {_file()}, {nearest(connection, _known())}"
            ) from error
        if _is_unreachable(error):
            raise Unavailable(f"{where}: {message}: try again") from error
        raise ConfigError(f"{where}: the login is refused: {message}") from error


def _file() -> Path:
    """Where the connector looks for the named connections."""
    home = Path(os.environ.get("SNOWFLAKE_HOME") or "~/.snowflake").expanduser()
    return home / "connections.toml"


def _known() -> list[str]:
    try:
        return list(tomllib.loads(_file().read_text()))
    except (OSError, tomllib.TOMLDecodeError):
        return []


@dataclass
class Session:
    """An open session."""

    opened: SnowflakeConnection
    connection: str

    def run(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """A statement's rows; `values` are bound to its %s.

        Raises Absent for what isn't there, Locked, Unknown where no answer came, ConfigError for what Snowflake
        refuses to do, all with its own message.
        """
        with self._cursor(sql) as cursor:
            cursor.execute(*_bound(sql, values))
            # fetchall() of the connector's 5.2 takes the first chunk's width of a number for that of all chunks.
            return [tuple(row) for batch in cursor.get_result_batches() or () for row in batch]

    def query(self, sql: str, *values: Any) -> tuple[str, list[Any]]:
        """A query's id and result batches, of which those beyond the first are fetched later; else as `run`."""
        with self._cursor(sql) as cursor:
            cursor.execute(*_bound(sql, values))
            return str(cursor.sfqid), list(cursor.get_result_batches() or ())

    def put(self, sql: str, stream: BinaryIO) -> None:
        """A PUT statement that takes its content from a stream. Raises as `run` does."""
        with self._cursor(sql) as cursor:
            cursor.execute(sql, file_stream=stream)

    @contextmanager
    def _cursor(self, sql: str) -> Iterator[Any]:
        """A cursor of the connector for a statement, its errors as ours."""
        from snowflake.connector.errors import Error

        cursor = self.opened.cursor()
        try:
            yield cursor
        except Error as error:
            raise translate_error(error, self.connection, sql) from error
        finally:
            cursor.close()

    def table(self, name: str) -> Table:
        """The table of this name, in the connection's own database and schema where it doesn't say."""
        parts = names_in(name)
        if len(parts) < 3:
            ((database, schema),) = self.run("SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()")
            given = [database, schema][: 3 - len(parts)]
            if None in given:
                raise ConfigError(
                    f"{name}: connection {self.connection!r} has no current database and schema: set them in "
                    "connections.toml, or write database.schema.table"
                )
            parts = [*given, *parts]
        return Table(self.connection, *parts)

    def columns(self, table: Table) -> list[Any] | None:
        """The columns' descriptions of a table or view; None: there is none."""
        try:
            return self.describe(f"SELECT * FROM {table.sql}")
        except Absent:
            return None

    def describe(self, sql: str) -> list[Any]:
        """The columns of a query that isn't run: name, type_code, precision, scale, is_nullable. Raises as `run`."""
        with self._cursor(sql) as cursor:
            return list(cursor.describe(sql) or ())

    def results(self, query_id: str) -> list[Any]:
        """The result batches of a query of the last 24 hours, with new URLs. Raises as `run` does."""
        with self._cursor(f"result of {query_id}") as cursor:
            cursor.query_result(query_id)
            return list(cursor.get_result_batches() or ())


def _bound(sql: str, values: tuple[Any, ...]) -> tuple[str, tuple[Any, ...] | None]:
    """A statement and its values as the connector takes them, for whom any other % is a mistake."""
    return (re.sub("%(?!s)", "%%", sql), values) if values else (sql, None)


def qualified(connection: str, table: str) -> str:
    """A table's name with its database and schema, which are the connection's own where it doesn't say."""
    if len(names_in(table)) == 3:
        return table
    with session(connection) as asked:
        return asked.table(table).sql


def fetch_rows(batch: Any) -> pa.Table:
    """A result batch's rows, exact: decimals stay decimals, times are cut to microseconds.

    Raises Expired where its URL isn't taken any more, or the rows can't be fetched.
    """
    from snowflake.connector.errors import Error

    try:
        return batch.to_arrow(number_to_decimal=True, force_microsecond_precision=True)
    except Error as error:
        raise Expired(_first_line(error)) from error


def translate_error(error: Any, connection: str, sql: str) -> LakehouseError:
    """The connector's error as ours; nothing of the statement's values is in it."""
    message, where = _first_line(error), f"Snowflake, connection {connection!r}"
    verb = sql.split(None, 1)[0]
    if error.errno in _LOCKED:
        return Locked(f"{where}: another transaction holds the lock: {message}: try again")
    if _NO_PAST in message:
        return PastRetention(f"{where}: {message}")
    if error.errno in _ABSENT:
        return Absent(f"{where}: {message}")
    if _is_unreachable(error):
        return Unknown(f"{where}: no answer to {verb}: {message}: try again")
    if error.errno in _INTERNAL:
        return Unavailable(f"{where}: {verb}: {message}: try again")
    if error.errno == _NO_WAREHOUSE:
        return ConfigError(f"{where}: {message}: name a `warehouse` in connections.toml")
    return ConfigError(f"{where}: {verb}: {message}")


def _is_unreachable(error: Any) -> bool:
    return error.errno in _NO_ANSWER or str(error.sqlstate or "").startswith("08")


def _first_line(error: Any) -> str:
    """What the error says; Snowflake's own begin with a line that doesn't."""
    first, *rest = str(error).strip().splitlines() or [type(error).__name__]
    return _NOISE.sub("", " ".join([first, *rest[:2]] if _VAGUE in first else [first]))
