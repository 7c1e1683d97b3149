"""`mlflow.pyfunc.spark_udf` on Spark: in a default session, in a tuned one, and as Databricks' mlops-stacks has it.

Tuned as by somebody who knows how: partition counts sized to the cores instead of 200 and 50, large Arrow batches, only
the columns needed, one write. All of them need Delta's jars on the session, so the default one has these and no more.
mlops-stacks is its template's `predict.py` less `display()`, which would score a second time: the whole table as one
struct, all its columns written with the score, the version looked up by the alias a second time.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests.benchmarks.contestants import KEY, SCORE, Score, Setting, Task

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

RESULT = "array<double>"


def start(variant: str, setting: Setting) -> Score:
    """Start the session."""
    if variant == "bare":
        return lambda task: _bare()
    import mlflow

    mlflow.set_tracking_uri(setting.tracking)
    spark = _session(setting, tuned=variant != "default")
    return lambda task: {"default": _plain, "tuned": _plain, "stacks": _stacks}[variant](spark, task)


def _session(setting: Setting, tuned: bool) -> SparkSession:
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    settings = {
        "spark.jars": setting.jars,
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    }
    if tuned:
        settings |= {
            "spark.sql.shuffle.partitions": str(setting.cores),
            "spark.databricks.delta.snapshotPartitions": "2",
            "spark.sql.execution.arrow.maxRecordsPerBatch": "50000",
            "spark.driver.memory": "2g",
            "spark.ui.enabled": "false",
        }
    builder = SparkSession.builder.master(f"local[{setting.cores}]").appName("score")
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def _plain(spark: SparkSession, task: Task) -> None:
    import mlflow
    from pyspark.sql import functions as F

    predict = mlflow.pyfunc.spark_udf(spark, task.model, result_type=RESULT, env_manager="local")
    rows = spark.read.format("delta").load(task.table)
    scored = rows.select(KEY, predict(F.struct(*task.features))[1].alias(SCORE))
    scored.write.format("delta").mode("overwrite").save(task.out)


def _stacks(spark: SparkSession, task: Task) -> None:
    import mlflow
    from pyspark.sql import functions as F

    name, alias = task.model.removeprefix("models:/").split("@")
    version = mlflow.MlflowClient().get_model_version_by_alias(name, alias).version
    predict = mlflow.pyfunc.spark_udf(spark, task.model, result_type=RESULT, env_manager="local")
    table = spark.read.format("delta").load(task.table)
    scored = (
        table.withColumn(SCORE, predict(F.struct(*table.columns))[1])
        .withColumn("model_id", F.lit(version))
        .withColumn("timestamp", F.lit(datetime.now(UTC)))
    )
    scored.write.format("delta").mode("overwrite").save(task.out)


def _bare() -> None:
    """What a Spark session alone takes."""
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.master("local[*]").getOrCreate()
    print(spark.range(10_000).count())
    spark.stop()
