"""Tables named as the Spark session's catalog knows them (`db.table`, `catalog.db.table`), as the places they lie at.

Tables in Snowflake get the names of their database and schema.
A name is resolved once, before anything else of a run; all that follows knows only locations. A table that the run
creates at a name's place is entered into the catalog afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from lakehouse import connectors, sinks, sources
from lakehouse.connectors.spark import is_catalog_name, missing_support, quote_name, text_literal
from lakehouse.errors import ConfigError, LakehouseError, nearest
from lakehouse.storage import locate

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.config import Job, Sink, Source


class CatalogTable(NamedTuple):
    """A table that the job names by the catalog: the name, the system it is in, its format as the catalog calls it."""

    name: str
    system: str
    format: str

    @property
    def kind(self) -> str:
        """What the table is, for people."""
        return f"{self.format.capitalize()} table"


def _names(job: Job) -> dict[str, CatalogTable]:
    """Where the job names a table by the catalog, and the name."""
    tables: list[tuple[str, Source | Sink, str | None]] = [("source.table", job.source, job.source.table)]
    tables += [("checks.quarantine.table", job.sinks[0], job.checks.quarantine.table)]
    tables += [("comparison.table", job.sinks[0], job.comparison.table)]
    tables += [(f"sinks.{number}.table", sink, sink.table) for number, sink in enumerate(job.sinks)]
    return {
        key: CatalogTable(table, section.type, section.CATALOG_FORMAT)
        for key, section, table in tables
        if section.CATALOG_FORMAT and table and is_catalog_name(table)
    }


@contextmanager
def open_job(job: Job, doing: str, engine: str = "spark", warn: Callable[[str], None] | None = None) -> Iterator[Job]:
    """The job as `resolve_names` gives it; until the block ends sessions with its systems stay open, tagged `doing`."""
    systems = {job.source.type, *(sink.type for sink in job.sinks)}
    tag = f"lakehouse job={job.job} {doing}"
    with connectors.reuse_sessions(systems, tag), resolve_names(job, engine, warn) as at_places:
        yield at_places


@contextmanager
def resolve_names(job: Job, engine: str = "spark", warn: Callable[[str], None] | None = None) -> Iterator[Job]:
    """The job with locations instead of catalog names; starts Spark only where there are names.

    `warn` is told where a table can't be entered into the catalog afterwards, which without it is raised. Raises
    ConfigError for a name that the catalog doesn't know as a table of its system, and on the local engine.
    """
    job = _qualify(job)
    names = _names(job)
    if not names:
        yield job
        return
    if engine == "local":
        key, (name, *_) = next(iter(names.items()))
        raise ConfigError(
            f"{key}: {name!r} is a name of Spark's catalog: use --engine spark, or the table's path (a folder of that "
            f"name is ./{name})"
        )
    from lakehouse.engines import spark as engines

    with engines.session(delta=True) as spark:
        with _of_delta(names):
            places = {key: _place(spark, named, key) for key, named in names.items()}
        try:
            yield _with_places(job, places)
        finally:
            for key, named in names.items():
                try:
                    _enter(spark, named, places[key])
                    if key == "checks.quarantine.table":
                        _enter_numbered(spark, named, places[key])
                except Exception as error:
                    if warn is None:
                        raise
                    reason = str(error).splitlines()[0]
                    warn(f"{named.name} at {places[key]} could not be entered into the catalog: {reason}")


def _enter(spark: SparkSession, named: CatalogTable, uri: str) -> None:
    """Enter the table at a place into the catalog, unless there is none or the name is taken."""
    if not spark.catalog.tableExists(named.name) and sinks.of(named.system).exists(uri):
        place = text_literal(locate(uri).hadoop_uri)
        spark.sql(f"CREATE TABLE {quote_name(named.name)} USING {named.format.upper()} LOCATION {place}")


def _enter_numbered(spark: SparkSession, named: CatalogTable, uri: str) -> None:
    """Likewise the quarantine tables of the next numbers (lakehouse.planning.quarantine)."""
    for number in count(2):
        at = sinks.of(named.system).beside(uri, f"_{number}")
        if not sinks.of(named.system).exists(at):
            return
        _enter(spark, named._replace(name=f"{named.name}_{number}"), at)


@contextmanager
def _of_delta(names: Mapping[str, CatalogTable]) -> Iterator[None]:
    """Say in a line where the session's catalog can't be asked for tables of Delta."""
    try:
        yield
    except Exception as error:
        key, (name, *_) = next(iter(names.items()))
        refusal = (
            None
            if isinstance(error, LakehouseError)
            else missing_support(error, f"{key}: {name!r} is a catalog's name")
        )
        if refusal is None:
            raise
        raise refusal from error


def _qualify(job: Job) -> Job:
    """The job with its tables named in full, where a shorter name depends on who asks."""
    first = job.sinks[0]

    def named(section: Any) -> Any:
        if section.table is None:
            return section
        whole = sinks.of(first.type).qualify(first.model_copy(update={"table": section.table}))
        return section.model_copy(update={"table": whole.table})

    moved = {
        "source": sources.of(job.source.type).qualify(job.source),
        "sinks": tuple(sinks.of(sink.type).qualify(sink) for sink in job.sinks),
        "checks": job.checks.model_copy(update={"quarantine": named(job.checks.quarantine)}),
        "comparison": named(job.comparison),
    }
    return job.model_copy(update=moved)


def _place(spark: SparkSession, named: CatalogTable, key: str) -> str:
    """Where a table lies, or would by its schema's location if it isn't there yet."""
    name = named.name
    if spark.catalog.tableExists(name):
        try:
            detail = spark.sql(f"DESCRIBE DETAIL {quote_name(name)}").first()
        except Exception as error:
            raise ConfigError(f"{key}: {name} is no {named.kind}: {str(error).splitlines()[0]}") from error
        if detail is None or detail["format"] != named.format:
            raise ConfigError(f"{key}: {name} is no {named.kind} but {detail and detail['format']}")
        return locate(str(detail["location"])).uri
    schema, table = name.rsplit(".", 1)
    if not spark.catalog.databaseExists(schema):
        raise ConfigError(f"{key}: the catalog has no schema {schema!r} for {name}")
    if key == "source.table":
        known = [row["tableName"] for row in spark.sql(f"SHOW TABLES IN {quote_name(schema)}").collect()]
        raise ConfigError(f"{key}: the catalog has no table {name}, {nearest(table, known)}")
    rows = spark.sql(f"DESCRIBE SCHEMA EXTENDED {quote_name(schema)}").collect()
    home = next(str(row["info_value"]) for row in rows if row["info_name"] == "Location")
    return locate(home).join(table).uri


def _with_places(job: Job, places: Mapping[str, str]) -> Job:
    def at(key: str, section: Any) -> Any:
        return section.model_copy(update={"table": places[key]}) if key in places else section

    scored = tuple(at(f"sinks.{number}.table", sink) for number, sink in enumerate(job.sinks))
    checks = job.checks.model_copy(update={"quarantine": at("checks.quarantine.table", job.checks.quarantine)})
    moved = {
        "source": at("source.table", job.source),
        "sinks": scored,
        "checks": checks,
        "comparison": at("comparison.table", job.comparison),
    }
    for given, sink in zip(job.sinks, scored, strict=True):
        if sources.of(job.source.type).uri_of(moved["source"]) == sinks.of(sink.type).uri_of(sink):
            raise ConfigError(f"sinks: {given.table} is also source.table ({sink.table})")
    return job.model_copy(update=moved)
