"""The script that everybody writes: score a Delta table with `mlflow.pyfunc.spark_udf`, in a tuned session.

It is here to be compared with, so it is written as fairly as we can: Delta's and Spark's partition counts
sized to the laptop, large Arrow batches, only the columns needed, one pass, one write. It has no checks, no
lineage and no protection against being run twice. Its last line on stdout is a JSON object with the seconds
of each phase.

    python -m lakehouse.demo.baseline --features lake/features/games --model models:/logit_games/1 \
        --date 2026-01-02 --out lake/scores/baseline --jars "$JARS"
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read while mlflow is imported

import mlflow
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse.demo.data import COUNTRY, EVENT_DATE, KEY
from lakehouse.engines import local


def start_spark(jars: str) -> SparkSession:
    """Start a session on all cores of this machine; `jars` is a folder of jars or a comma-separated list."""
    cores = local.cores()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    paths = ",".join(sorted(str(p) for p in Path(jars).glob("*.jar"))) if Path(jars).is_dir() else jars
    settings = {
        "spark.jars": paths,
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.shuffle.partitions": str(cores),
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "50000",
        "spark.sql.session.timeZone": "UTC",
        "spark.driver.memory": "2g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    builder = SparkSession.builder.appName("baseline").master(f"local[{cores}]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def score(spark: SparkSession, features: str, model: str, date: str, out: str) -> dict[str, float]:
    """Write one date's player, country and probability to the Delta table `out`; return seconds by phase."""
    started = time.perf_counter()
    signature = mlflow.models.get_model_info(model).signature
    if signature is None:
        raise SystemExit(f"{model} was logged without a signature: the columns to pass are not known")
    predict = mlflow.pyfunc.spark_udf(spark, model, result_type="array<double>", env_manager="local")
    udf_ready = time.perf_counter()
    rows = spark.read.format("delta").load(features).where(F.col(EVENT_DATE) == date)
    scored = rows.select(
        KEY,
        COUNTRY,
        F.col(EVENT_DATE).alias("score_date"),
        predict(F.struct(*signature.inputs.input_names()))[1].alias("purchase_probability"),
    )
    (
        scored.write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", f"score_date = '{date}'")
        .partitionBy("score_date")
        .save(out)
    )
    return {"udf": udf_ready - started, "job": time.perf_counter() - udf_ready}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lakehouse.demo.baseline", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--features", required=True, metavar="URI", help="the Delta table to score")
    parser.add_argument("--model", required=True, metavar="URI", help="such as models:/logit_games/1")
    parser.add_argument("--date", required=True, help="the event_date to score")
    parser.add_argument("--out", required=True, metavar="URI", help="the Delta table to write")
    parser.add_argument("--jars", required=True, help="Delta's jars: a folder, or a comma-separated list")
    parser.add_argument("--tracking-uri", metavar="URI", help="where MLflow is; by default as MLflow finds it")
    args = parser.parse_args(argv)
    if args.tracking_uri:
        mlflow.set_tracking_uri(args.tracking_uri)
        mlflow.set_registry_uri(args.tracking_uri)

    started = time.perf_counter()
    spark = start_spark(args.jars)
    session = time.perf_counter() - started
    seconds = {"session": session, **score(spark, args.features, args.model, args.date, args.out)}
    seconds["total"] = time.perf_counter() - started
    spark.stop()
    print(json.dumps({"seconds": {name: round(value, 2) for name, value in seconds.items()}}))


if __name__ == "__main__":
    main()
