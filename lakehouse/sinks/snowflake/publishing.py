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
from lakehouse.connectors.snowflake.types import declared
from lakehouse.sinks.snowflake import history as published_to
from lakehouse.sinks.snowflake import loading
from lakehouse.sinks.snowflake.inspect import _stored, _stored_name
from lakehouse.sinks.target import (
    Gone,
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
            declared = ", ".join(_declared(field, comments) for field in target.schema)
            session.run(f"CREATE TABLE IF NOT EXISTS {table.sql} ({declared}) COMMENT = 'Written by lakehouse score'")
            return
        there = [c.name for c in columns]
        for field in target.schema:
            if _stored_name(field.name, there) is None:
                session.run(f"ALTER TABLE {table.sql} ADD COLUMN {_declared(field, comments)}")


def _declared(field: pa.Field, comments: Mapping[str, str]) -> str:
    comment = f" COMMENT {snowflake.text(comments[field.name])}" if comments.get(field.name) else ""
    return declared(field) + comment


@dataclass(frozen=True)
class Checked:
    """The table's own names of the columns that are written."""

    stored: Mapping[str, str]


def check(target: Target, run: str) -> Checked:
    """Look at the table as it is now. Raises what `publish` would raise; commits nothing."""
    table = Table.parse(target.uri)
    with snowflake.session(table.connection) as session:
        columns = session.columns(table)
        if columns is None:
            raise Gone(f"{table.shown}: the table was there when the run was planned, and is not any more")
        stored = _stored(target.schema.names, columns)
        if stored is None:
            raise Gone(f"{table.shown}: the table is another one than when the run was planned; run again")
        known = published_to.ledger(session, table, target.identity)
        if not known.has(run):
            require_staged(target, table.shown)
            published_to.require_turn(session, target, stored, known)
    return Checked(stored)


def publish(target: Target, run: str, checked: Checked, spark: SparkSession | None = None) -> int:
    """Load the run's staged files, once; the table's generation then. `spark` shares the uploads out.

    Raises Overtaken when another run published meanwhile, Unavailable when Snowflake can't be reached or stays locked.
    """
    return loading.load(target, run, checked.stored, spark)


def published(target: Target, run: str) -> bool:
    """Whether this run's transaction is in the ledger."""
    table = Table.parse(target.uri)
    with snowflake.session(table.connection) as session:
        return published_to.ledger(session, table, target.identity).has(run)
