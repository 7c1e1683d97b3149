"""The Spark engine: the worker inside `mapInArrow`, a Spark UDF over Arrow batches.

Uses what Spark Connect has too: `range`, `mapInArrow`, `addArtifact`, `SparkFiles`; no SparkContext, no JVM.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import pickle
import re
import sys
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from lakehouse import models
from lakehouse.connectors.spark import may_have_delta
from lakehouse.engines import quiet, runtime, scratch
from lakehouse.engines.local import cores as local_cores
from lakehouse.engines.local import one_thread
from lakehouse.errors import LakehouseError, Unavailable
from lakehouse.scoring.staging import Staging, Unit, failure_row, manifest_batch, stage_frame, stage_units

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_UNREADABLE = re.compile(
    r"^(?:OSError|FileNotFoundError|PermissionError|ConnectionError): .*|\[FAILED_READ_FILE.*", re.MULTILINE
)
_PASSING = re.compile(r"^lakehouse\.errors\.Unavailable: (.*)", re.MULTILINE)
T = TypeVar("T")
MANIFEST_DDL = "task int, kind string, path string, rows bigint, bytes bigint, detail string"


def active_session() -> SparkSession | None:
    """The session that a notebook, spark-submit or Databricks has opened already."""
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
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    submitted = _is_submitted()
    if not submitted and not os.environ.get("SPARK_REMOTE"):
        os.environ["JAVA_HOME"] = str(runtime.ensure_java())
    builder = SparkSession.builder.appName("lakehouse")
    if not os.environ.get("SPARK_REMOTE"):
        for key, value in (_submitted_settings(delta) if submitted else _local_settings(delta, s3)).items():
            builder = builder.config(key, value)
    with _in_scratch(), nullcontext() if submitted else quiet.start():
        spark = builder.getOrCreate()
    _ours.append(True)
    try:
        yield spark
    finally:
        _ours.clear()
        spark.stop()


_ours: list[bool] = []
"""Whether the active session is one of our own."""


@contextmanager
def _in_scratch() -> Iterator[None]:
    """A JVM that starts meanwhile keeps its temporary files in this process's own folder, so that they go with it."""
    name, before = "SPARK_SUBMIT_OPTS", os.environ.get("SPARK_SUBMIT_OPTS")
    os.environ[name] = " ".join(filter(None, [before, f'"-Djava.io.tmpdir={scratch.process_folder()}"']))
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


@dataclass
class Job:
    """A run's work on Spark, which ends as soon as a worker is known to have failed for good: `failure` is its row."""

    spark: SparkSession
    failure: dict[str, Any] | None = None

    def fail(self, row: dict[str, Any]) -> None:
        """Keep the first failure, and stop the other tasks in a session of our own; another's may have other work.

        Interrupting what has a tag would be narrower, but finds nothing of Python's on Spark 4.2.
        """
        if self.failure is not None:
            return
        self.failure = row
        if _ours:
            with suppress(Exception):  # then the others go on, and the manifest tells of the failure at their end
                self.spark.interruptAll()

    def collect(self, frame: DataFrame) -> list[dict[str, Any]]:
        """The manifest rows of all tasks, or only that of the failure."""
        try:
            return _collect(frame)
        except Exception:
            if self.failure is None:
                raise
            return [self.failure]


def run_units(
    job: Job, shares: Sequence[Sequence[Unit]], staging: Staging, fetched: models.Model
) -> list[dict[str, Any]]:
    """Run the worker with one Spark task a share; the manifest rows of all."""
    if not shares:
        return []
    with _ship(job.spark, staging, fetched, [list(s) for s in shares]) as (plan, archive):
        tasks = len(shares)
        frame = job.spark.range(0, tasks, 1, tasks)
        return job.collect(frame.mapInArrow(functools.partial(_unit_tasks, plan, archive), MANIFEST_DDL))


def run_frame(job: Job, rows: DataFrame, staging: Staging, fetched: models.Model) -> list[dict[str, Any]]:
    """Run the worker over the partitions of a DataFrame, which has the input's columns; the manifest rows of all."""
    rows = rows.toDF(*(f"c{number}" for number in range(len(rows.columns))))  # mapInArrow takes a dot for a field
    with _ship(job.spark, staging, fetched, []) as (plan, archive):
        return job.collect(rows.mapInArrow(functools.partial(_frame_task, plan, archive), MANIFEST_DDL))


def run_each(spark: SparkSession, work: Callable[[T], bool], items: Sequence[T]) -> list[T]:
    """Do work on executors, a task an item; the items of which it returned False.

    `work` is a function of a module of this package, the items are picklable.
    """
    spark.addArtifact(str(_pack_package()), pyfile=True)
    packed = base64.b64encode(pickle.dumps((work, list(items)))).decode()
    frame = spark.range(0, len(items), 1, len(items)).mapInArrow(
        functools.partial(_each, packed), "id long, done boolean"
    )
    done = {row["id"]: row["done"] for row in _collect(frame)}
    return [item for number, item in enumerate(items) if not done[number]]


def _each(packed: str, ids: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Spark's function for `run_each`: each row is the number of an item."""
    work, items = pickle.loads(base64.b64decode(packed))
    for number in (number for batch in ids for number in batch.column(0).to_pylist()):
        yield pa.RecordBatch.from_pylist([{"id": number, "done": work(items[number])}])


def frame_of(spark: SparkSession, shares: Sequence[Sequence[Unit]], schema: pa.Schema) -> DataFrame:
    """The rows of units as a DataFrame, a partition a share; its tasks read them whenever it is evaluated."""
    from pyspark.sql.pandas.types import from_arrow_schema

    spark.addArtifact(str(_pack_package()), pyfile=True)
    packed = base64.b64encode(pickle.dumps([list(share) for share in shares])).decode()
    numbers = spark.range(0, len(shares), 1, max(len(shares), 1))
    return numbers.mapInArrow(functools.partial(_rows_of, packed), from_arrow_schema(schema, prefer_timestamp_ntz=True))


def _rows_of(packed: str, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Spark's function for `frame_of`: each row is the number of a share."""
    shares = pickle.loads(base64.b64decode(packed))
    for number in (number for batch in numbers for number in batch.column(0).to_pylist()):
        for unit in shares[number]:
            yield from unit.batches()


def _collect(frame: DataFrame) -> list[dict[str, Any]]:
    from pyspark.errors import PySparkException

    try:
        rows: list[dict[str, Any]] = frame.toArrow().to_pylist()
        return rows
    except Exception as error:
        _refuse_unreadable(error)
        text = str(error)
        if not isinstance(error, PySparkException) or "Traceback" in text or "PythonException" in type(error).__name__:
            raise
        raise Unavailable(f"Spark gave up: {text.splitlines()[0] if text else type(error).__name__}") from error


def _refuse_unreadable(error: Exception) -> None:
    """Raise Unavailable where a file is the cause, which Java's own exceptions tell as well as Spark's."""
    if found := _PASSING.search(str(error)):
        raise Unavailable(found[1]) from error
    if found := _UNREADABLE.search(str(error)):
        raise Unavailable(f"a file can't be read or written: {found[0]}") from error


@contextmanager
def _ship(
    spark: SparkSession, staging: Staging, fetched: models.Model, shares: list[list[Unit]]
) -> Iterator[tuple[str, str]]:
    """Ship the plan and the model to the executors; the names they are found by."""
    with scratch.folder() as folder:
        archive = models.pack(fetched.path, fetched.digest, folder)
        named = archive.rename(archive.with_name(f"{archive.stem}-{uuid.uuid4().hex[:8]}.zip"))
        plan = folder / f"plan-{uuid.uuid4().hex}.pickle"
        plan.write_bytes(pickle.dumps((staging, shares)))
        spark.addArtifact(str(_pack_package()), pyfile=True)
        spark.addArtifact(str(plan), file=True)
        spark.addArtifact(str(named), archive=True)
        yield plan.name, named.name


def _pack_package() -> Path:
    """This very package as a zip named by its content: executors run the driver's code, installed there or not.

    It stays in one place as long as this process: Spark takes no file of one name from two.
    """
    package = resources.files("lakehouse")
    sources = sorted(_sources(package, "lakehouse"))
    digest = hashlib.sha256(b"".join(name.encode() + content for name, content in sources)).hexdigest()
    target = scratch.process_folder() / f"lakehouse-{digest[:16]}.zip"
    if target.exists():
        return target
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sources:
            archive.writestr(zipfile.ZipInfo(name), content)
    return target


def _sources(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _sources(entry, f"{path}/{entry.name}")
        elif entry.name.endswith(".py"):
            yield f"{path}/{entry.name}", entry.read_bytes()


@functools.lru_cache(maxsize=2)
def _plan(path: str) -> tuple[Staging, list[list[Unit]]]:
    one_thread()
    with open(path, "rb") as stream:
        staging, shares = pickle.load(stream)
    return staging, shares


def _open(plan: str, archive: str) -> tuple[Staging, list[list[Unit]], Any]:
    from pyspark import SparkFiles

    staging, shares = _plan(SparkFiles.get(plan))
    predictor = models.load(SparkFiles.get(archive), staging.digest, staging.method, staging.params)
    return staging, shares, predictor.predict


def _unit_tasks(plan: str, archive: str, ids: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Spark's function for units: each row is the number of a share."""
    for task in (task for batch in ids for task in batch.column(0).to_pylist()):
        try:
            staging, shares, predict = _open(plan, archive)
        except Unavailable:
            raise  # Spark tries again
        except LakehouseError as error:
            yield manifest_batch([failure_row(task, error)])
            continue
        yield manifest_batch(stage_units(task, shares[task], staging, predict))


def _frame_task(plan: str, archive: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Spark's function for the frame carrier: the rows themselves."""
    from pyspark import TaskContext

    context = TaskContext.get()
    task = context.partitionId() if context else 0
    try:
        staging, _, predict = _open(plan, archive)
    except Unavailable:
        raise  # Spark tries again
    except LakehouseError as error:
        yield manifest_batch([failure_row(task, error)])
        return
    named = (batch.rename_columns(staging.input_schema.names) for batch in batches)
    yield manifest_batch(stage_frame(task, named, staging, predict))


def first_batches(rows: DataFrame) -> Iterator[pa.RecordBatch]:
    """A few rows of a DataFrame, for a look at them."""
    for count in (256, 100_000):  # the second look only where the first rows have no key or lack features
        try:
            found = rows.limit(count).toArrow()
        except Exception as error:
            _refuse_unreadable(error)
            raise
        yield from found.to_batches()
