"""Publishing to a table in Snowflake: the staged files are uploaded, then one transaction loads them.

Beside the table `T` stand `T_RUNS`, a row a published run, by which the table remembers what was published to it;
`T_STAGE`, where the files of a run are uploaded to; and while a run publishes, `T_LOAD_…`, which takes their rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.config.systems.snowflake import SnowflakeSink
from lakehouse.connectors import snowflake
from lakehouse.connectors.snowflake import Table
from lakehouse.connectors.snowflake.types import declare_column
from lakehouse.sinks.snowflake import history as published_to
from lakehouse.sinks.snowflake import loading
from lakehouse.sinks.snowflake.former import require_there
from lakehouse.sinks.snowflake.inspect import _columns_by_stored_name, _stored_name
from lakehouse.sinks.snowflake.positions import require_at
from lakehouse.sinks.target import (
    StagedFilesMissing,
    Target,
    require_staged,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

IN_PLACE = SnowflakeSink.HOLDS_STAGED_FILES


def ensure(target: Target, comments: Mapping[str, str]) -> None:
    """Create the table, its columns described, or add those that it lacks."""
    table = Table.parse(target.uri)
    with snowflake.session(table.connection) as session:
        columns = session.columns(table)
        if columns is None:
            declared = ", ".join(_declare_columns(field, comments) for field in target.schema)
            session.run(f"CREATE TABLE IF NOT EXISTS {table.sql} ({declared}) COMMENT = 'Written by lakehouse score'")
            return
        there = [c.name for c in columns]
        for field in target.schema:
            if _stored_name(field.name, there) is None:
                session.run(f"ALTER TABLE {table.sql} ADD COLUMN {_declare_columns(field, comments)}")


def require_room(target: Target) -> None:
    """Nothing: the rows are merged in the account."""


def _declare_columns(field: pa.Field, comments: Mapping[str, str]) -> str:
    comment = f" COMMENT {snowflake.text_literal(comments[field.name])}" if comments.get(field.name) else ""
    return declare_column(field) + comment


@dataclass(frozen=True)
class ColumnNames:
    """The table's own names of the columns that are written."""

    stored: Mapping[str, str]


def check(target: Target, run: str) -> ColumnNames:
    """Look at the table as it is now. Raises what `publish` would raise; commits nothing."""
    table = Table.parse(target.uri)
    with snowflake.session(table.connection) as session:
        columns = session.columns(table)
        if columns is None:
            raise StagedFilesMissing(
                f"{table.display_name}: the table was there when the run was planned, and is not any more"
            )
        stored = _columns_by_stored_name(target.schema.names, columns)
        if stored is None:
            raise StagedFilesMissing(
                f"{table.display_name}: the table is another one than when the run was planned; run again"
            )
        known = published_to.ledger(session, table, target.identity)
        if not known.has(run):
            require_staged(target, table.display_name)
            published_to.require_turn(session, target, stored, known)
            require_at(session, target)
            if target.restores:
                require_there(session, target, stored, known)
    return ColumnNames(stored)


def publish(target: Target, run: str, checked: ColumnNames, spark: SparkSession | None = None) -> int:
    """Load the run's staged files, once; the table's generation then. `spark` shares the uploads out.

    Raises Overtaken when another run published meanwhile, Unavailable when Snowflake can't be reached or stays locked.
    """
    return loading.load(target, run, checked.stored, spark)


def published(target: Target, run: str) -> bool:
    """Whether this run's transaction is in the ledger."""
    table = Table.parse(target.uri)
    with snowflake.session(table.connection) as session:
        return published_to.ledger(session, table, target.identity).has(run)
