"""What the driver calls: workers over units or over a DataFrame, and what is made of Spark's own errors."""

from __future__ import annotations

import base64
import functools
import json
import logging
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from lakehouse.connectors.spark import with_settings
from lakehouse.engines.spark import tasks
from lakehouse.engines.spark.sessions import cores, is_ours
from lakehouse.engines.spark.shipping import ship_package, ship_plan
from lakehouse.errors import ModelRefused, Unavailable
from lakehouse.scoring.merging import merge_counts
from lakehouse.scoring.staging import BatchSource, Staging

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_UNREADABLE = re.compile(
    r"^(?:OSError|FileNotFoundError|PermissionError|ConnectionError): .*|\[FAILED_READ_FILE.*", re.MULTILINE
)
_PASSING = re.compile(r"^lakehouse\.errors\.Unavailable: (.*)", re.MULTILINE)
T = TypeVar("T")
TOGETHER = 64
"""So many tasks' counters, of up to some MB each, are held in one place, here or on an executor, at a time."""
_ALL = 1 << 31
_LOOK, _FURTHER = 256, 100_000
"""Rows of a DataFrame that are looked at, and then, where that isn't enough."""
_NO_LIMIT = str((1 << 31) - 1)
MANIFEST_DDL = "task int, kind string, path string, rows bigint, bytes bigint, detail string"


@dataclass
class SparkWork:
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
        if is_ours():
            with suppress(Exception):  # then the others go on, and the manifest tells of the failure at their end
                self.spark.interruptAll()

    def collect(self, frame: DataFrame, most: int = 1) -> list[dict[str, Any]]:
        """The manifest rows of all of at most so many tasks, or only that of the failure.

        What many tasks counted comes as one row.
        """
        try:
            rows = collect(_merged(frame, most))
        except Exception:
            if self.failure is None:
                raise
            return [self.failure]
        if most <= TOGETHER:
            return rows
        return list(merge_counts(sorted(rows, key=itemgetter("task")), _ALL))


def _merged(frame: DataFrame, count: int) -> DataFrame:
    """Manifest rows of tasks with their counters merged on executors, as a tree, until few are left.

    All rows of a task go one way: of one that runs again, because what it had said was lost, only one run counts. Of
    tasks there may be fewer than `count`, so that no level takes more of them than there are cores.
    """
    from pyspark.sql import functions as F

    size, most = 1, cores(frame.sparkSession) if count > TOGETHER else 1
    while count > TOGETHER:
        size, count = size * TOGETHER, -(-count // TOGETHER)
        groups = frame.repartition(min(count, most), F.expr(f"task div {size}")).sortWithinPartitions("task")
        frame = groups.mapInArrow(functools.partial(tasks.merge_task, size), MANIFEST_DDL)
    return frame


def run_units(
    work: SparkWork, shares: Sequence[Sequence[BatchSource]], staging: Staging, archive: str
) -> list[dict[str, Any]]:
    """Run the worker with one Spark task a share; the manifest rows of all. `archive`: the model, as it was shipped."""
    if not shares:
        return []
    with ship_plan(work.spark, staging, [list(s) for s in shares]) as plan:
        count = len(shares)
        frame = work.spark.range(0, count, 1, count)
        return work.collect(frame.mapInArrow(functools.partial(tasks.unit_tasks, plan, archive), MANIFEST_DDL), count)


def run_frame(work: SparkWork, rows: DataFrame, most: int, staging: Staging, archive: str) -> list[dict[str, Any]]:
    """Run the worker over the at most so many partitions of a DataFrame of the input's columns; all manifest rows."""
    with ship_plan(work.spark, staging, []) as plan, with_settings(work.spark, _batches_of(work.spark, staging)):
        frame = _plainly_named(rows).mapInArrow(functools.partial(tasks.frame_task, plan, archive), MANIFEST_DDL)
        return work.collect(frame, most)


def _plainly_named(rows: DataFrame) -> DataFrame:
    """The columns by names that mapInArrow doesn't take for something else, as it does a dot for a field."""
    return rows.toDF(*(f"c{number}" for number in range(len(rows.columns))))


def _batches_of(spark: SparkSession, staging: Staging) -> dict[str, str]:
    """Settings by which Spark doesn't add up a batch's bytes at each row, which takes a quarter of all its time.

    There are none where as many rows as it puts into a batch may be too large.
    """
    most = int(spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch") or 0)
    return {"spark.sql.execution.arrow.maxBytesPerBatch": _NO_LIMIT} if 0 < 4 * most <= staging.batch_rows else {}


def run_each(spark: SparkSession, work: Callable[[T], bool], items: Sequence[T]) -> list[T]:
    """Do work on executors, a task an item; the items of which it returned False. Else as `ask_each`."""
    return [item for item, done in zip(items, ask_each(spark, work, items), strict=True) if not done]


def ask_each(spark: SparkSession, work: Callable[[T], Any], items: Sequence[T]) -> list[Any]:
    """Do work on executors, a task an item; what it returned for each, which JSON can hold.

    `work` is a function of a module of this package, the items are picklable.
    """
    ship_package(spark)
    packed = base64.b64encode(pickle.dumps((work, list(items)))).decode()
    frame = spark.range(0, len(items), 1, len(items)).mapInArrow(
        functools.partial(tasks.each, packed), "id long, said string"
    )
    said = {row["id"]: row["said"] for row in collect(frame)}
    return [json.loads(said[number]) for number in range(len(items))]


def frame_of(spark: SparkSession, shares: Sequence[Sequence[BatchSource]], schema: pa.Schema) -> DataFrame:
    """The rows of units as a DataFrame, a partition a share; its tasks read them whenever it is evaluated."""
    from pyspark.sql.pandas.types import from_arrow_schema

    ship_package(spark)
    packed = base64.b64encode(pickle.dumps([list(share) for share in shares])).decode()
    numbers = spark.range(0, len(shares), 1, max(len(shares), 1))
    return numbers.mapInArrow(
        functools.partial(tasks.rows_of, packed), from_arrow_schema(schema, prefer_timestamp_ntz=True)
    )


@contextmanager
def collected(what: str) -> Iterator[None]:
    """Where Spark says that a function of its own failed on a value, raise ModelRefused: `what` called it."""
    logger = logging.getLogger("SQLQueryContextLogger")  # it would print the whole of it on a terminal
    before, logger.disabled = logger.disabled, True
    try:
        yield
    except Exception as error:
        text = str(error.__cause__ if isinstance(error, Unavailable) and error.__cause__ else error)
        found = _OF_A_VALUE.search(text) or _OF_AN_EXPRESSION.search(text)
        if found is None:
            raise
        said = " ".join(found[1].split())
        raise ModelRefused(
            f"{what} raises: {said}. Spark does not tell the row, so that it can't be set aside: log the model with "
            "handleInvalid set to skip (then such rows are set aside) or keep, or set them aside before by a critical "
            "rule of checks.features"
        ) from error
    finally:
        logger.disabled = before


_OF_A_VALUE = re.compile(r"failed due to: (?:[\w.$]+: )*(.*?)\.? SQLSTATE", re.DOTALL)
_OF_AN_EXPRESSION = re.compile(
    r"(\[(?:DIVIDE_BY_ZERO|CAST_INVALID_INPUT|CAST_OVERFLOW|ARITHMETIC_OVERFLOW|INVALID_ARRAY_INDEX)[^\]]*\].*?)"
    r" SQLSTATE",
    re.DOTALL,
)


def collect(frame: DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame. Raises Unavailable where a file can't be read or written, or Spark gives up."""
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


def first_batches(rows: DataFrame) -> Iterator[pa.RecordBatch]:
    """A few rows of a DataFrame, for a look at them, from as few of its partitions as have them.

    Of a limit alone Spark makes batches of Arrow after every partition was read, so that they are taken as Python's
    values, and the batches are made of these; but for times that Python's own don't hold, as in the year 0.
    """
    try:
        first = _readably(lambda: rows.take(_LOOK))
        if not first:
            return
        found = rows.sparkSession.createDataFrame(first, rows.schema, verifySchema=False).toArrow()
    except (ValueError, OverflowError):
        found = _readably(lambda: rows.limit(_LOOK).toArrow())
    yield from found.combine_chunks().to_batches()
    # the next look only where the first rows have no key or lack features
    yield from _readably(lambda: rows.limit(_FURTHER).toArrow()).to_batches()


def _readably(ask: Callable[[], T]) -> T:
    """What Spark says. Raises Unavailable where a file can't be read."""
    try:
        return ask()
    except Exception as error:
        _refuse_unreadable(error)
        raise
