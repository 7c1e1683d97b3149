"""What people call in notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import ValidationError

from lakehouse.config.systems.snowflake import SnowflakeSource
from lakehouse.connectors import snowflake
from lakehouse.engines import spark as engine
from lakehouse.errors import ConfigError
from lakehouse.planning.carriers import balance
from lakehouse.sources import snowflake as source

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

BATCH_ROWS = 65_536
"""As many rows are handed to Spark at once."""


def read_snowflake(
    spark: SparkSession,
    connection: str,
    *,
    table: str | None = None,
    query: str | None = None,
    columns: Sequence[str] = (),
    where: str | None = None,
    timestamp: str | None = None,
) -> DataFrame:
    """A table or query in Snowflake as a Spark DataFrame; columns and condition go into the query.

    The query runs once, now; executors fetch the parts of its result whenever the DataFrame is evaluated, so that all
    evaluations see the same rows, for as long as Snowflake keeps the result (a day). `connection` is a name in
    connections.toml, `columns` are all by default, `where` is a condition in Snowflake's SQL, `timestamp` (ISO 8601)
    reads a table as it was then. Names in upper case become lower case; types are as for a job's source: NUMBER without
    decimals is long, instants are UTC, TIME, VARIANT, ARRAY and OBJECT are text.

    Raises ConfigError for what isn't there or is refused, Unavailable where Snowflake can't be reached.
    """
    try:
        asked = SnowflakeSource(
            type="snowflake", connection=connection, table=table, query=query, columns=tuple(columns), where=where,
            timestamp=timestamp,
        )  # fmt: skip
    except ValidationError as error:
        said = "; ".join(problem["msg"].removeprefix("Value error, ") for problem in error.errors())
        raise ConfigError(f"read_snowflake: {said}") from error
    with snowflake.kept("lakehouse read_snowflake"):
        pinned = source.pin(asked, columns)
        names = pinned.schema.names
        source.carrier(pinned, names)
        pinned = source.read(pinned, names)
    units = source.units(pinned, names, BATCH_ROWS, 1)
    return engine.frame_of(spark, balance(units, 2 * engine.cores(spark)), pinned.schema)
