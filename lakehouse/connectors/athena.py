"""A client of AWS Glue's catalog of tables, and of Athena, which runs statements on it. Knows nothing of jobs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from lakehouse.errors import ConfigError, Unavailable, nearest
from lakehouse.storage.location import ATTEMPTS, PATIENCE_S

_STATEMENT_S = 300
"""How long a statement may take; one that only defines a view takes seconds, and may wait in a queue."""
_KEPT = ("Description", "Owner", "Retention")
"""What of an entry is given again as it is, of all that Glue says of it."""
_BUSY = ("ConcurrentModificationException", "ThrottlingException", "TooManyRequestsException", "OperationTimeout")
_SIMPLE = {
    pa.int8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.bool_(): "boolean",
    pa.date32(): "date",
}
_INPUT = "org.apache.hadoop.mapred.SequenceFileInputFormat"
_OUTPUT = "org.apache.hadoop.hive.ql.io.HiveSequenceFileOutputFormat"
_SERDE = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"
"""What AWS's own crawler says of a Delta table; nobody reads by it."""


@dataclass(frozen=True)
class Catalog:
    """A database in Glue's catalog, and the workgroup of Athena that runs statements on it.

    `output`: where Athena writes their results, empty where the workgroup says so itself.
    """

    database: str
    workgroup: str
    output: str
    glue: Any = field(repr=False)
    athena: Any = field(repr=False)


def open_catalog(database: str, workgroup: str, output: str = "") -> Catalog:
    """The catalog, once it is seen to be there. Credentials, region and endpoints are those of AWS's own tools.

    Raises ConfigError where database or workgroup aren't there or can't do, Unavailable where AWS does not answer.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise ConfigError("Athena needs boto3: pip install 'lakehouse[athena]'") from error
    config = Config(retries={"mode": "standard", "max_attempts": ATTEMPTS}, read_timeout=PATIENCE_S)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None
    with _asking("AWS"):
        session = boto3.Session(region_name=region)
        clients = [session.client(service, config=config) for service in ("glue", "athena")]
    catalog = Catalog(database, workgroup, output, *clients)
    _require_database(catalog)
    _require_workgroup(catalog)
    return catalog


def _require_database(catalog: Catalog) -> None:
    with _asking(f"Glue's database {catalog.database}"):
        try:
            catalog.glue.get_database(Name=catalog.database)
            return
        except catalog.glue.exceptions.EntityNotFoundException:
            pages = catalog.glue.get_paginator("get_databases").paginate()
            known = [found["Name"] for page in pages for found in page["DatabaseList"]]
    raise ConfigError(
        f"Glue has no database {catalog.database!r}, {nearest(catalog.database, known)}; "
        f"make it: aws glue create-database --database-input Name={catalog.database}"
    )


def _require_workgroup(catalog: Catalog) -> None:
    with _asking(f"Athena's workgroup {catalog.workgroup}"):
        found = catalog.athena.get_work_group(WorkGroup=catalog.workgroup).get("WorkGroup")
    if not found:
        raise ConfigError(f"Athena has no workgroup {catalog.workgroup!r}")
    told = found["Configuration"]
    engine = told.get("EngineVersion", {}).get("EffectiveEngineVersion", "")
    if engine.endswith("version 2"):
        raise ConfigError(
            f"Athena's workgroup {catalog.workgroup} is of {engine}, which can't read Delta tables: "
            "set it to version 3, or name another by --workgroup"
        )
    own = told.get("ResultConfiguration", {}).get("OutputLocation") or told.get("ManagedQueryResultsConfiguration")
    if not catalog.output and not own:
        raise ConfigError(
            f"Athena's workgroup {catalog.workgroup} says nowhere where results are written: "
            "name a place by --output s3://bucket/folder, or set one there"
        )


def entry(catalog: Catalog, name: str) -> Mapping[str, Any] | None:
    """What Glue says of a table or view; None where there is none of this name."""
    with _asking(f"{catalog.database}.{name}"):
        try:
            found: Mapping[str, Any] = catalog.glue.get_table(DatabaseName=catalog.database, Name=name)["Table"]
        except catalog.glue.exceptions.EntityNotFoundException:
            return None
    return found


def put_table(catalog: Catalog, table: Mapping[str, Any], there: Mapping[str, Any] | None) -> None:
    """Put a table into Glue, in the place of the entry that is `there`, of which everything else is kept.

    Raises Unavailable where somebody has changed that one meanwhile.
    """
    with _asking(f"{catalog.database}.{table['Name']}"):
        if there is None:
            catalog.glue.create_table(DatabaseName=catalog.database, TableInput=dict(table))
            return
        given = {**{key: there[key] for key in _KEPT if key in there}, **_joined(there, table)}
        catalog.glue.update_table(DatabaseName=catalog.database, TableInput=given, VersionId=there["VersionId"])


def _joined(there: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """A table, with what its entry has besides: parameters, comments on columns."""
    before, now = there.get("StorageDescriptor") or {}, table["StorageDescriptor"]
    columns = [*before.get("Columns", ()), *(there.get("PartitionKeys") or ())]
    known = {column["Name"]: column for column in columns}

    def commented(columns: list[dict[str, str]]) -> list[dict[str, Any]]:
        return [{**known.get(column["Name"], {}), **column} for column in columns]

    return {
        **table,
        "Parameters": {**there.get("Parameters", {}), **table["Parameters"]},
        "PartitionKeys": commented(table["PartitionKeys"]),
        "StorageDescriptor": {**before, **now, "Columns": commented(now["Columns"])},
    }


def execute(catalog: Catalog, statement: str, what: str) -> None:
    """Run a statement in Athena and wait for its end.

    `what` names it in messages. Raises ConfigError where Athena refuses it, Unavailable where it does not end.
    """
    place = {"ResultConfiguration": {"OutputLocation": catalog.output}} if catalog.output else {}
    with _asking(what):
        begun = catalog.athena.start_query_execution(
            QueryString=statement,
            QueryExecutionContext={"Database": catalog.database},
            WorkGroup=catalog.workgroup,
            **place,
        )["QueryExecutionId"]
        until, pause = time.monotonic() + _STATEMENT_S, 0.1
        while time.monotonic() < until:
            status = catalog.athena.get_query_execution(QueryExecutionId=begun)["QueryExecution"]["Status"]
            if status["State"] == "SUCCEEDED":
                return
            if status["State"] in ("FAILED", "CANCELLED"):
                said = status.get("StateChangeReason") or status["State"].lower()
                raise ConfigError(f"{what}: Athena refuses it (query {begun}): {said}")
            time.sleep(pause)
            pause = min(2.0, pause * 2)
    raise Unavailable(f"{what}: Athena has not ended query {begun} within {_STATEMENT_S} s: try again")


def delta_table(name: str, uri: str, schema: pa.Schema, partitions: tuple[str, ...]) -> dict[str, Any]:
    """A Delta table on S3 as Glue is told of it, for Athena and for Spark; Athena's views need its columns to be true.

    Raises ConfigError for a column that Glue has no type for.
    """

    def columns(names: list[str]) -> list[dict[str, str]]:
        return [{"Name": name.lower(), "Type": _type(schema.field(name))} for name in names]

    return {
        "Name": name,
        "TableType": "EXTERNAL_TABLE",
        "PartitionKeys": columns([*partitions]),
        "Parameters": {"EXTERNAL": "TRUE", "table_type": "DELTA", "spark.sql.sources.provider": "delta"},
        "StorageDescriptor": {
            "Columns": columns([name for name in schema.names if name not in partitions]),
            "Location": f"{uri}/",
            "InputFormat": _INPUT,
            "OutputFormat": _OUTPUT,
            "SerdeInfo": {
                "SerializationLibrary": _SERDE,
                "Parameters": {"serialization.format": "1", "path": f"{uri}/"},
            },
        },
    }


def _type(field: pa.Field) -> str:
    try:
        return _glue_type(field.type)
    except KeyError as error:
        raise ConfigError(f"column {field.name!r} is of type {field.type}, which Athena can't read") from error


def _glue_type(kind: pa.DataType) -> str:
    """A type as Glue spells it. Raises KeyError for one that it doesn't have."""
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    if pa.types.is_map(kind):
        return f"map<{_glue_type(kind.key_type)},{_glue_type(kind.item_type)}>"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"array<{_glue_type(kind.value_type)}>"
    if pa.types.is_struct(kind):
        parts = (f"{kind.field(i).name.lower()}:{_glue_type(kind.field(i).type)}" for i in range(kind.num_fields))
        return f"struct<{','.join(parts)}>"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return "binary"
    return _SIMPLE[kind]


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Raise what AWS says as ConfigError, or as Unavailable where trying again may help."""
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        said, status = error.response["Error"], error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        kind = Unavailable if status >= 500 or said["Code"].startswith(_BUSY) else ConfigError
        raise kind(f"{what}: {said['Code']}: {said.get('Message', '')}") from error
    except (exceptions.ConnectionError, exceptions.HTTPClientError) as error:  # no answer, or none in time
        raise Unavailable(f"{what}: {error}") from error
    except exceptions.BotoCoreError as error:  # no credentials, no region, no such profile
        hint = "; set AWS_REGION" if type(error).__name__ == "NoRegionError" else ""
        raise ConfigError(f"{what}: {error}{hint}") from error
