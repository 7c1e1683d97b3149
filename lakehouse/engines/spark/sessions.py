"""The Spark session: the active one as it is, or one of our own; its settings and cores."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.connectors.spark import may_have_delta
from lakehouse.engines import quiet, scratch
from lakehouse.engines.local import cores as local_cores
from lakehouse.engines.spark import starting

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def active_session() -> SparkSession | None:
    """The session that a notebook, spark-submit or Databricks has opened already."""
    if "pyspark.sql" not in sys.modules:
        return None
    from pyspark.sql import SparkSession

    return SparkSession.getActiveSession()


def _is_submitted() -> bool:
    return "SPARK_ENV_LOADED" in os.environ or "PYSPARK_GATEWAY_PORT" in os.environ


def is_given() -> bool:
    """Whether the session is somebody else's, or of somebody else's flags, which may lack what a run needs."""
    return active_session() is not None or _is_submitted() or bool(os.environ.get("SPARK_REMOTE"))


@contextmanager
def session(delta: bool, s3: bool = False) -> Iterator[SparkSession]:
    """The active session as it is, or one of our own, stopped at the end.

    Our own takes what spark-submit's flags and properties set, and defaults for one machine for the rest.
    `delta`: put the Delta jars on it, which only the frame carrier needs; `s3`: and those of Hadoop's S3 files.
    """
    existing = active_session()
    if existing is not None:
        yield existing
        return
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    submitted, remote = _is_submitted(), bool(os.environ.get("SPARK_REMOTE"))
    if not submitted and not remote:
        from lakehouse.engines import runtime

        os.environ["JAVA_HOME"] = str(runtime.ensure_java())
    settings = {} if remote else _submitted_settings(delta) if submitted else _local_settings(delta, s3)
    settings = {"spark.app.name": "lakehouse", **settings}
    spark = None if submitted or remote else starting.take(settings)
    if spark is None:
        spark = _start(settings, submitted)
    _ours.append(True)
    try:
        yield spark
    finally:
        _ours.clear()
        spark.stop()


def _start(settings: Mapping[str, str], submitted: bool) -> SparkSession:
    from pyspark.sql import SparkSession

    with _in_scratch(), nullcontext() if submitted else quiet.start():
        spark: SparkSession = SparkSession.builder.config(map=dict(settings)).getOrCreate()
    return spark


def begin(delta: bool, s3: bool = False) -> None:
    """Start a session of our own in the background, as `session` will ask for it, where nothing has to be fetched."""
    from lakehouse.engines import runtime

    java = runtime.find_java()
    if java is None or is_given() or (delta and not runtime.has_jars(s3)):
        return
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ["JAVA_HOME"] = str(java)
    with _in_scratch():
        starting.begin({"spark.app.name": "lakehouse", **_local_settings(delta, s3)})


abandon = starting.abandon
"""End what was begun and is not wanted any more."""


_ours: list[bool] = []
"""Whether the active session is one of our own."""


@contextmanager
def _in_scratch() -> Iterator[None]:
    """A JVM that starts meanwhile keeps its temporary files in this process's own folder, so that they go with it.

    It takes Spark's classes as they are kept, where they are.
    """
    from lakehouse.engines import classes

    name, before = "SPARK_SUBMIT_OPTS", os.environ.get("SPARK_SUBMIT_OPTS")
    java = os.environ.get("JAVA_HOME")
    ours = [f"-Djava.io.tmpdir={scratch.process_folder()}", *(classes.options(Path(java)) if java else ())]
    os.environ[name] = " ".join(filter(None, [before, *(f'"{option}"' for option in ours)]))
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


_DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}


def _submitted_settings(delta: bool) -> dict[str, str]:
    """What Delta needs of a submitted session, where its flags and properties don't say it."""
    from pyspark import SparkConf, SparkContext

    SparkContext._ensure_initialized()  # only the JVM that spark-submit has started knows its flags
    given = SparkConf()
    return {key: value for key, value in _DELTA.items() if delta and not given.contains(key) and may_have_delta(given)}


def _local_settings(delta: bool, s3: bool) -> dict[str, str]:
    settings = {
        "spark.master": "local[*,4]",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "2g",
        "spark.local.dir": str(scratch.process_folder()),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(local_cores()),
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
        **quiet.settings(),
    }
    if delta:
        from lakehouse.engines import runtime

        found = [*runtime.jars(), *(runtime.jars([runtime.s3_coordinate()]) if s3 else ())]
        settings |= {"spark.jars": ",".join(str(jar) for jar in found), **_DELTA}
    return settings


def cores(spark: SparkSession) -> int:
    """The number of tasks that run at once: from the settings, else Spark's own default parallelism."""
    told = spark.conf.get("spark.default.parallelism", None)
    if told:
        return max(int(told), 1)
    master = re.match(r"local(?:\[(\d+|\*))?", spark.conf.get("spark.master", None) or "")
    if master:
        return local_cores() if master[1] == "*" else int(master[1] or 1)
    from pyspark.sql.functions import spark_partition_id

    return spark.range(1 << 16).select(spark_partition_id()).distinct().count()


def _classic(spark: SparkSession) -> bool:
    return "connect" not in type(spark).__module__


def driver_host(spark: SparkSession) -> str:
    """Where executors find this driver; none for Spark Connect, whose driver is elsewhere."""
    return str(spark.conf.get("spark.driver.host", "")) if _classic(spark) else ""


def one_machine(spark: SparkSession) -> bool:
    """Whether driver and executors are one process: nobody has to ask, and they have the same files."""
    return bool(driver_host(spark)) and re.match(r"local(\[|$)", str(spark.conf.get("spark.master", ""))) is not None


def is_ours() -> bool:
    """Whether the active session is one of our own, in which nobody else has work."""
    return bool(_ours)
