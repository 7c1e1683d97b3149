"""Sessions in Snowflake, names in its SQL, its errors as ours. The only importer of its connector."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from lakehouse.errors import ConfigError, LakehouseError, Unavailable, nearest

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

STATEMENT_TIMEOUT_S = 3600
LOCK_TIMEOUT_S = 600
"""Longer than the 5 minutes after which Snowflake ends a dead client's transaction that others wait for."""
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
_REFUSED = {250001: None, 390100: "login", 390144: "login", 390195: "login", 394507: "login"}
_LOCKED = (625, 604)  # a lock not released in time; cancelled because of it
_ABSENT = (2003, 2043)


class Unknown(Unavailable):
    """A statement was sent, and whether it was carried out is not known."""


class Locked(Unavailable):
    """Another transaction holds the lock."""


class Absent(ConfigError):
    """What a statement names isn't there, or this role may not see it."""


@dataclass(frozen=True)
class Table:
    """A table of an account: the connection's name in connections.toml, and its three names as Snowflake has them."""

    connection: str
    database: str
    schema: str
    name: str

    @property
    def sql(self) -> str:
        """The table in SQL, every part quoted."""
        return ".".join(map(quoted, (self.database, self.schema, self.name)))

    @property
    def uri(self) -> str:
        """One text for all of it, which `parse` reads back."""
        return "snowflake://" + "/".join(re.sub(r"[%/]", _escape, p) for p in (self.connection, *self.parts))

    @property
    def parts(self) -> tuple[str, str, str]:
        return self.database, self.schema, self.name

    @property
    def shown(self) -> str:
        """The table as people write it."""
        return ".".join(p if p == folded(p) and _PLAIN.fullmatch(p) else quoted(p) for p in self.parts)

    def beside(self, suffix: str) -> Table:
        """The table in the same schema with `suffix` appended to its name."""
        return Table(self.connection, self.database, self.schema, self.name + suffix)

    @staticmethod
    def named(connection: str, name: str) -> Table:
        """A table that is named with its database and schema. Raises ConfigError where it isn't."""
        parts = names_in(name)
        if len(parts) < 3:
            raise ConfigError(f"{name}: write database.schema.table")
        return Table(connection, *parts)

    @staticmethod
    def parse(uri: str) -> Table:
        parts = uri.removeprefix("snowflake://").split("/")
        return Table(*(re.sub("%(2F|25)", lambda m: "/" if m[1] == "2F" else "%", p) for p in parts))


def _escape(match: re.Match[str]) -> str:
    return "%2F" if match[0] == "/" else "%25"


def folded(name: str) -> str:
    """A name as Snowflake keeps it when it stands unquoted: plain ones in upper case, others as they are."""
    return name.upper() if _PLAIN.fullmatch(name) else name


def quoted(name: str) -> str:
    """An identifier in SQL, exactly as given."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A string literal in SQL."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def names_in(table: str) -> list[str]:
    """The parts of `table`, `schema.table` or `database.schema.table` as Snowflake keeps them; "…" quotes a part.

    Raises ConfigError for anything else.
    """
    parts = re.findall(r'(?:^|\.)(?:"((?:[^"]|"")+)"|([^".]+))(?=\.|$)', table)
    names = [quoted_part.replace('""', '"') or folded(plain) for quoted_part, plain in parts]
    if not 1 <= len(names) <= 3 or sum(len(a or b) + 2 * bool(a) for a, b in parts) + len(names) - 1 != len(table):
        raise ConfigError(f'{table!r} is no name of a table: write table, schema.table or database.schema.table, '
                          'parts with other characters as "part"')  # fmt: skip
    return names


@contextmanager
def session(connection: str, tag: str = "lakehouse") -> Iterator[Session]:
    """A session of the named connection, in UTC, tagged, with time-outs; closed afterwards.

    `connection` is a name in the connector's connections.toml (or SNOWFLAKE_CONNECTIONS), where the way to log in is:
    a key pair, OAuth, a programmatic access token. Raises ConfigError for an unknown name, a refused login or no
    current database; Unavailable where Snowflake can't be reached.
    """
    opened = _connected(connection, tag)
    try:
        yield Session(opened, connection)
    finally:
        opened.close()


def _connected(connection: str, tag: str) -> SnowflakeConnection:
    import snowflake.connector as driver
    from snowflake.connector.errors import Error

    settings = {
        "STATEMENT_TIMEOUT_IN_SECONDS": STATEMENT_TIMEOUT_S, "LOCK_TIMEOUT": LOCK_TIMEOUT_S, "JSON_INDENT": 0,
        "CLIENT_TELEMETRY_ENABLED": False, "AUTOCOMMIT": True,
    }  # fmt: skip
    try:
        return driver.connect(
            connection_name=connection, timezone="UTC", query_tag=tag[:2000], application="lakehouse",
            session_parameters=settings, client_out_of_band_telemetry_enabled=False,
        )  # fmt: skip
    except Error as error:
        message = _first_line(error)
        if "not found in config" in message:
            from snowflake.connector.config_manager import CONFIG_MANAGER

            CONFIG_MANAGER.clear_cache()
            known = list(cast("dict[str, Any]", CONFIG_MANAGER["connections"]))
            raise ConfigError(
                f"Snowflake: there is no connection {connection!r} in connections.toml, {nearest(connection, known)}"
            ) from error
        if error.errno == 250001 or "after retries" in message:
            raise Unavailable(f"Snowflake, connection {connection!r}: {message}: try again") from error
        raise ConfigError(f"Snowflake, connection {connection!r}: {message}") from error


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
        cursor = self.cursor(sql, *values)
        try:
            return [tuple(row) for row in cursor.fetchall()]
        finally:
            cursor.close()

    def cursor(self, sql: str, *values: Any) -> Any:
        """The connector's cursor after a statement. Raises as `run` does."""
        from snowflake.connector.errors import Error

        cursor = self.opened.cursor()
        try:
            cursor.execute(sql, values or None)
        except Error as error:
            cursor.close()
            raise spoken(error, self.connection, sql) from error
        return cursor

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

    def columns(self, table: Table) -> Sequence[Any] | None:
        """The columns' descriptions of a table or view (name, type_code, precision, scale); None: there is none."""
        from snowflake.connector.errors import Error

        cursor = self.opened.cursor()
        try:
            return list(cursor.describe(f"SELECT * FROM {table.sql}") or ())
        except Error as error:
            said = spoken(error, self.connection, f"SELECT * FROM {table.sql}")
            if isinstance(said, Absent):
                return None
            raise said from error
        finally:
            cursor.close()


def spoken(error: Any, connection: str, sql: str) -> LakehouseError:
    """The connector's error as ours; nothing of the statement's values is in it."""
    message, where = _first_line(error), f"Snowflake, connection {connection!r}"
    if error.errno in _LOCKED:
        return Locked(f"{where}: another transaction holds the lock: {message}: try again")
    if error.errno in _ABSENT:
        return Absent(f"{where}: {message}")
    if error.sqlstate in ("08001", "08003", "08006") or "after retries" in message or error.errno in (4, 250001):
        return Unknown(f"{where}: no answer to {sql.split(None, 1)[0]}: {message}: try again")
    if error.errno in (603, 300002, 370001):  # Snowflake's own internal errors
        return Unavailable(f"{where}: {sql.split(None, 1)[0]}: {message}: try again")
    return ConfigError(f"{where}: {sql.split(None, 1)[0]}: {message}")


def _first_line(error: Any) -> str:
    return re.sub(r"\s*\(request_id=[^)]*\)", "", str(error).strip().splitlines()[0])
