"""How a table in Snowflake is named, and the tables beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.connectors import snowflake
from lakehouse.connectors.snowflake import Table, names_in

if TYPE_CHECKING:
    from lakehouse.config.systems.snowflake import SnowflakeSink

QUARANTINE_SUFFIX, COMPARISON_SUFFIX = "_QUARANTINE", "_CHALLENGERS"
"""What is appended to the name of a scored table for that of its quarantine."""


def qualify(table: SnowflakeSink) -> SnowflakeSink:
    """The sink with its table named in full, by the connection's own database and schema."""
    assert table.connection is not None  # as its model demands
    return table.model_copy(update={"table": snowflake.qualified(table.connection, table.table)})


def uri_of(table: SnowflakeSink) -> str:
    """Connection, database, schema and name in one. Raises ConfigError where the table isn't named in full."""
    assert table.connection is not None  # as its model demands
    return Table.named(table.connection, table.table).uri


def beside(uri: str, suffix: str) -> str:
    """The quoted name of the table in the same schema with a suffix to its name."""
    return Table.parse(uri).beside(suffix).sql


def exists(uri: str) -> bool:
    """Whether the table is there."""
    table = Table.parse(uri)
    with snowflake.session(table.connection) as session:
        return session.columns(table) is not None


def name_in(display_name: str) -> str:
    """The name without database and schema."""
    return names_in(display_name)[-1]
