"""Tables named as the Spark session's catalog knows them (`db.table`, `catalog.db.table`), as the places they lie at.

Tables in Snowflake get the names of their database and schema.
A name is resolved once, before anything else of a run; all that follows knows only locations. A table that the run
creates at a name's place is entered into the catalog afterwards.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from lakehouse.connectors import delta, snowflake
from lakehouse.errors import ConfigError, LakehouseError, nearest
from lakehouse.storage import Location, locate

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.config import Job

_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*){1,2}")


def is_name(table: str) -> bool:
    """Whether a table is named as a catalog does: two or three identifiers with dots, and no such path is there."""
    return _NAME.fullmatch(table) is not None and not os.path.exists(table)


def _names(job: Job) -> dict[str, str]:
    """Where the job names a table by the catalog, and the name."""
    tables = {"source.table": job.source.table or ""} if job.source.type == "delta" else {}
    if job.sinks[0].type == "delta":
        tables["checks.quarantine.table"] = job.checks.quarantine.table or ""
    tables |= {f"sinks.{number}.table": s.table for number, s in enumerate(job.sinks) if s.type == "delta"}
    return {key: table for key, table in tables.items() if is_name(table)}


@contextmanager
def placed(job: Job, engine: str = "spark", warn: Callable[[str], None] | None = None) -> Iterator[Job]:
    """The job with locations instead of catalog names; starts Spark only where there are names.

    `warn` is told where a table can't be entered into the catalog afterwards, which without it is raised. Raises
    ConfigError for a name that the catalog doesn't know as a Delta table, and on the local engine.
    """
    job = _in_snowflake(job)
    names = _names(job)
    if not names:
        yield job
        return
    if engine == "local":
        key, name = next(iter(names.items()))
        raise ConfigError(
            f"{key}: {name!r} is a name of Spark's catalog: use --engine spark, or the table's path (a folder of that "
            f"name is ./{name})"
        )
    from lakehouse.engines import spark as engines

    with engines.session(delta=True) as spark:
        with _of_delta(names):
            places = {key: _place(spark, name, key) for key, name in names.items()}
        try:
            yield _with_places(job, places)
        finally:
            for key, name in names.items():
                try:
                    _enter(spark, name, locate(places[key]))
                    if key == "checks.quarantine.table":
                        _enter_numbered(spark, name, locate(places[key]))
                except Exception as error:
                    if warn is None:
                        raise
                    reason = str(error).splitlines()[0]
                    warn(f"{name} at {places[key]} could not be entered into the catalog: {reason}")


def _enter(spark: SparkSession, name: str, place: Location) -> None:
    """Enter the table at a place into the catalog, unless there is none or the name is taken."""
    if not spark.catalog.tableExists(name) and delta.open_table(place) is not None:
        literal = place.hadoop_uri.replace("\\", "\\\\").replace("'", "\\'")
        spark.sql(f"CREATE TABLE {_quoted(name)} USING DELTA LOCATION '{literal}'")


def _enter_numbered(spark: SparkSession, name: str, place: Location) -> None:
    """Likewise the quarantine tables of the next numbers (lakehouse.planning.quarantine)."""
    for number in count(2):
        at = place.beside(f"_{number}")
        if delta.open_table(at) is None:
            return
        _enter(spark, f"{name}_{number}", at)


@contextmanager
def _of_delta(names: Mapping[str, str]) -> Iterator[None]:
    """Say in a line where the session's catalog can't be asked for tables of Delta."""
    from lakehouse.connectors.spark import lacking

    try:
        yield
    except Exception as error:
        key, name = next(iter(names.items()))
        refusal = None if isinstance(error, LakehouseError) else lacking(error, f"{key}: {name!r} is a catalog's name")
        if refusal is None:
            raise
        raise refusal from error


def _in_snowflake(job: Job) -> Job:
    """The job with its tables in Snowflake named in full, by the connection's own database and schema."""

    def named(section: Any, connection: str | None) -> Any:
        if connection is None or section.table is None or len(snowflake.names_in(section.table)) == 3:
            return section
        with snowflake.session(connection) as session:
            return section.model_copy(update={"table": session.table(section.table).sql})

    first, checks = job.sinks[0], job.checks
    moved = {
        "source": named(job.source, job.source.connection),
        "sinks": tuple(named(sink, sink.connection) for sink in job.sinks),
        "checks": checks.model_copy(update={"quarantine": named(checks.quarantine, first.connection)}),
    }
    return job.model_copy(update=moved)


def _quoted(name: str) -> str:
    return ".".join(f"`{part}`" for part in name.split("."))


def _place(spark: SparkSession, name: str, key: str) -> str:
    """Where a table lies, or would by its schema's location if it isn't there yet."""
    if spark.catalog.tableExists(name):
        try:
            detail = spark.sql(f"DESCRIBE DETAIL {_quoted(name)}").first()
        except Exception as error:
            raise ConfigError(f"{key}: {name} is no Delta table: {str(error).splitlines()[0]}") from error
        if detail is None or detail["format"] != "delta":
            raise ConfigError(f"{key}: {name} is no Delta table but {detail and detail['format']}")
        return locate(str(detail["location"])).uri
    schema, table = name.rsplit(".", 1)
    if not spark.catalog.databaseExists(schema):
        raise ConfigError(f"{key}: the catalog has no schema {schema!r} for {name}")
    if key == "source.table":
        known = [row["tableName"] for row in spark.sql(f"SHOW TABLES IN {_quoted(schema)}").collect()]
        raise ConfigError(f"{key}: the catalog has no table {name}, {nearest(table, known)}")
    rows = spark.sql(f"DESCRIBE SCHEMA EXTENDED {_quoted(schema)}").collect()
    home = next(str(row["info_value"]) for row in rows if row["info_name"] == "Location")
    return locate(home).join(table).uri


def _with_places(job: Job, places: Mapping[str, str]) -> Job:
    def at(key: str, section: Any) -> Any:
        return section.model_copy(update={"table": places[key]}) if key in places else section

    sinks = tuple(at(f"sinks.{number}.table", sink) for number, sink in enumerate(job.sinks))
    checks = job.checks.model_copy(update={"quarantine": at("checks.quarantine.table", job.checks.quarantine)})
    moved = {"source": at("source.table", job.source), "sinks": sinks, "checks": checks}
    for given, sink in zip(job.sinks, sinks, strict=True):
        if {sink.type, job.source.type} == {"delta"} and locate(sink.table) == locate(moved["source"].table):
            raise ConfigError(f"sinks: {given.table} is also source.table ({sink.table})")
    return job.model_copy(update=moved)
