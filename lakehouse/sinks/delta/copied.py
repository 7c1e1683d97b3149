"""Publishing by Spark: it writes the rows of the staged files to a table that a direct commit can't honour.

Generated and identity columns, defaults, column mapping, clustering and constraints that only Spark can evaluate are
Spark's business then. One transaction id goes with Spark's commit, so it can't be made twice; the others follow in
empty commits, which a rerun completes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lakehouse.connectors import delta
from lakehouse.connectors.spark import missing_support, quote, text_literal, with_settings
from lakehouse.errors import Blocked, Unavailable
from lakehouse.sinks.delta.history import live_files_of_slice, live_owners
from lakehouse.sinks.target import Overtaken, Target, slice_name, version_of
from lakehouse.storage import display_name, remove

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_REFUSED = (
    "DELTA_VIOLATE_CONSTRAINT",
    "DELTA_NOT_NULL_CONSTRAINT",
    "DELTA_EXCEED_CHAR_VARCHAR_LIMIT",
    "DELTA_REPLACE_WHERE_MISMATCH",
)
_OVERTAKEN = ("Concurrent", "DELTA_CONCURRENT")


def publish(spark: SparkSession, snapshot: delta.Snapshot, target: Target, run: str) -> int:
    """Let Spark write the run's rows, unless it has; the table's version then.

    Raises Blocked where a rule of the table stands against a row, Overtaken where another run published this
    generation, delta.Conflict where another writer came first.
    """
    version = snapshot.version
    if (snapshot.transaction(target.identity) or 0) < target.generation:
        with _translate_error(target, snapshot):
            _write(spark, snapshot, target, run)
        fresh = delta.open_table(snapshot.location)
        assert fresh is not None
        snapshot, version = fresh, version_of(fresh, run)
    _verify(snapshot, target, run)
    rest = {i: v for i, v in target.transactions(run).items() if i != target.identity}
    with _translate_error(target, snapshot):
        nothing = _rows(spark, snapshot, target).limit(0)
        for app_id, value in rest.items():
            _writer(nothing, snapshot, target, run, app_id, value).mode("append").save(snapshot.location.hadoop_uri)
    for file in target.files:  # no table will ever know them
        remove(snapshot.location.join(file.path))
    return version


def _rows(spark: SparkSession, snapshot: delta.Snapshot, target: Target) -> DataFrame:
    """The staged rows with the slice's columns, in the table's types."""
    location = snapshot.location
    table = spark.read.format("delta").options(**location.hadoop_options()).load(location.hadoop_uri)
    types = {f.name: f.dataType.simpleString() for f in table.schema.fields}
    paths = [f"{location.hadoop_uri}/{f.path}" for f in target.files]
    staged = spark.read.options(**location.hadoop_options()).parquet(*paths)
    columns = [quote(c) for c in table.columns if c in staged.columns]
    constants = [f"CAST({text_literal(v)} AS {types[c]}) AS {quote(c)}" for c, v in target.slice.items()]
    return staged.selectExpr(*columns, *constants)


def _write(spark: SparkSession, snapshot: delta.Snapshot, target: Target, run: str) -> None:
    rows, location = _rows(spark, snapshot, target), snapshot.location
    if target.write == "merge":
        _merge(spark, rows, snapshot, target, run)
        return
    writer = _writer(rows, snapshot, target, run, target.identity, target.generation)
    if target.write == "replace" and target.slice:
        writer = writer.option("replaceWhere", _where(rows, target.slice))
    writer.mode("overwrite" if target.write == "replace" else "append").save(location.hadoop_uri)


def _writer(
    rows: DataFrame, snapshot: delta.Snapshot, target: Target, run: str, app_id: str, version: int
) -> Any:  # a DataFrameWriter
    said = json.dumps(target.commit_metadata(run), sort_keys=True)
    transaction = {"txnAppId": app_id, "txnVersion": str(version), "userMetadata": said}
    return rows.write.format("delta").options(**snapshot.location.hadoop_options(), **transaction)


def _merge(spark: SparkSession, rows: DataFrame, snapshot: delta.Snapshot, target: Target, run: str) -> None:
    view = f"staged_{uuid.uuid4().hex}"
    rows.createOrReplaceTempView(view)
    keys = [f"t.{quote(k)} = s.{quote(k)}" for k in target.keys]
    within = [f"t.{quote(c)} = s.{quote(c)}" for c in target.slice]
    names = [quote(c) for c in rows.columns]
    said = json.dumps(target.commit_metadata(run), sort_keys=True)
    settings = {
        "spark.databricks.delta.write.txnAppId": target.identity,
        "spark.databricks.delta.write.txnVersion": str(target.generation),
        "spark.databricks.delta.commitInfo.userMetadata": said,
    }
    try:
        with with_settings(spark, settings):
            spark.sql(
                f"MERGE INTO delta.{quote(snapshot.location.hadoop_uri)} AS t USING {view} AS s "
                f"ON {' AND '.join([*within, *keys])} "
                f"WHEN MATCHED THEN UPDATE SET {', '.join(f't.{n} = s.{n}' for n in names)} "
                f"WHEN NOT MATCHED THEN INSERT ({', '.join(names)}) VALUES ({', '.join(f's.{n}' for n in names)})"
            )
    finally:
        spark.catalog.dropTempView(view)


def _where(rows: DataFrame, slice_texts: Mapping[str, str]) -> str:
    types = {f.name: f.dataType.simpleString() for f in rows.schema.fields}
    return " AND ".join(f"{quote(c)} = CAST({text_literal(v)} AS {types[c]})" for c, v in slice_texts.items())


@contextmanager
def _translate_error(target: Target, snapshot: delta.Snapshot) -> Iterator[None]:
    """Spark's errors as ours: what the table's rules refuse, and what another writer was faster with."""
    try:
        yield
    except Exception as error:
        text, name = str(error), display_name(snapshot.location)
        lines = text.splitlines() or [type(error).__name__]
        first = " ".join(dict.fromkeys(line.strip() for line in lines if "[DELTA_" in line)) or lines[0]
        if any(sign in text for sign in _REFUSED):
            raise Blocked(f"{name}: a rule of the table stands against {slice_name(target.slice)}: {first}") from error
        if any(sign in text for sign in _OVERTAKEN):
            raise delta.Conflict(f"{name}: another writer committed first: {first}") from error
        refusal = missing_support(error, f"{name} has to be written by Spark itself", snapshot.location)
        if refusal is not None:  # whoever finishes the run may have what is lacking
            raise Unavailable(str(refusal)) from error
        raise


def _verify(snapshot: delta.Snapshot, target: Target, run: str) -> None:
    """Spark skips a transaction id that is there already without a word, so what lives is looked at."""
    alive = live_owners(snapshot, live_files_of_slice(snapshot, target.slice))
    mine = alive.get((target.job, run), 0)
    if mine != target.rows or (target.write == "replace" and sum(alive.values()) != mine):
        raise Overtaken(
            f"{display_name(snapshot.location)}: another run published {slice_name(target.slice)} meanwhile "
            f"({mine:,} of {target.rows:,} rows live); run again"
        )
