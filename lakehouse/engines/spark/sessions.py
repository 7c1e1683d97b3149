"""The Spark session: the active one as it is, or one of our own; its settings and cores."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.connectors.spark import may_have_delta
from lakehouse.engines import quiet, scratch
from lakehouse.engines.local import cores as local_cores
from lakehouse.engines.spark import starting

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.storage import Location


def active_session() -> SparkSession | None:
    """The session that a notebook, spark-submit or Databricks has opened already, or that is kept for several runs."""
    if "pyspark.sql" not in sys.modules:
        return None
    if _keepers and _keepers[0].spark is not None:  # of threads only the one that started it has it as its active one
        return _keepers[0].spark
    from pyspark.sql import SparkSession

    return SparkSession.getActiveSession()


def _is_submitted() -> bool:
    return "SPARK_ENV_LOADED" in os.environ or "PYSPARK_GATEWAY_PORT" in os.environ


def is_given() -> bool:
    """Whether the session is somebody else's, or of somebody else's flags, which may lack what a run needs."""
    return active_session() is not None or _is_submitted() or bool(os.environ.get("SPARK_REMOTE"))


@contextmanager
def session(delta: bool, storages: frozenset[type[Location]] = frozenset()) -> Iterator[SparkSession]:
    """The active session as it is, or one of our own, stopped at the end.

    Our own takes what spark-submit's flags and properties set, and defaults for one machine for the rest.
    `delta`: put the Delta jars on it, which only the frame carrier needs; `storages`: and those of these storages'
    file systems (`Location.spark_needs`).
    """
    if _keepers:
        with _keepers[0].lend(delta, storages) as lent:
            yield lent
        return
    existing = active_session()
    if existing is not None:
        yield existing
        return
    spark = _open(delta, storages)
    try:
        yield spark
    finally:
        _stop(spark)


def _open(delta: bool, storages: frozenset[type[Location]]) -> SparkSession:
    """A session of our own."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    submitted, remote = _is_submitted(), bool(os.environ.get("SPARK_REMOTE"))
    if not submitted and not remote:
        from lakehouse.engines import runtime

        os.environ["JAVA_HOME"] = str(runtime.ensure_java())
    settings = {} if remote else _submitted_settings(delta) if submitted else _local_settings(delta, storages)
    settings = {"spark.app.name": "lakehouse", **settings}
    spark = None if submitted or remote else starting.take(settings)
    if spark is None:
        spark = _start(settings, submitted)
    _ours.append(True)
    return spark


def _stop(spark: SparkSession) -> None:
    _ours.clear()
    spark.stop()


@dataclass
class _Keeper:
    """One session for several runs, of which some may be at work in threads of their own.

    `given`: it is somebody else's, and stays. One of our own is started when it is first needed; where a run needs
    jars that it lacks, it is started anew with them as soon as nobody uses it.
    """

    spark: SparkSession | None
    given: bool
    has: tuple[bool, frozenset[type[Location]]] = (False, frozenset())
    users: Counter[int] = field(default_factory=Counter)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def lend(self, delta: bool, storages: frozenset[type[Location]]) -> Iterator[SparkSession]:
        me = threading.get_ident()
        with self.changed:
            if not self.given and not self.users[me]:
                self._provide(delta, storages)
            assert self.spark is not None
            lent = self.spark
            self.users[me] += 1
        try:
            yield lent
        finally:
            with self.changed:
                self.users[me] -= 1
                self.changed.notify_all()

    def _provide(self, delta: bool, storages: frozenset[type[Location]]) -> None:
        """See to it that there is a session with these jars; called with the lock held, by a thread that uses none."""
        if self.spark is None or (delta and not self.has[0]) or not storages <= self.has[1]:
            self.changed.wait_for(lambda: not self.in_use())
            self.has = (delta or self.has[0], storages | self.has[1])
            self.end()
            self.spark = _open(*self.has)

    def in_use(self) -> int:
        """How many threads use the session."""
        return sum(count > 0 for count in self.users.values())

    def end(self) -> None:
        """Stop a session of our own."""
        if self.spark is not None and not self.given:
            _stop(self.spark)
            self.spark = None


_keepers: list[_Keeper] = []
"""Of the block that keeps a session, where there is one."""


@contextmanager
def keep_session() -> Iterator[None]:
    """Until the block ends, all runs of this process share one session: the active one, or one of our own."""
    existing = active_session()
    keeper = _Keeper(existing, given=existing is not None)
    _keepers.append(keeper)
    try:
        yield
    finally:
        _keepers.remove(keeper)
        starting.abandon()
        keeper.end()


def stop_jobs() -> None:
    """End what runs in a session of our own at once; their runs end with an error."""
    spark = active_session()
    if spark is not None and is_ours():
        with suppress(Exception):
            spark.interruptAll()


def _start(settings: Mapping[str, str], submitted: bool) -> SparkSession:
    from pyspark.sql import SparkSession

    with _in_scratch(), nullcontext() if submitted else quiet.start():
        spark: SparkSession = SparkSession.builder.config(map=dict(settings)).getOrCreate()
    return spark


def begin(delta: bool, storages: frozenset[type[Location]] = frozenset()) -> None:
    """Start a session of our own in the background, as `session` will ask for it, where nothing has to be fetched."""
    from lakehouse.engines import runtime

    java = runtime.find_java()
    if java is None or is_given() or (delta and not runtime.has_jars(storages)):
        return
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ["JAVA_HOME"] = str(java)
    with _in_scratch():
        starting.begin({"spark.app.name": "lakehouse", **_local_settings(delta, storages)})


def abandon() -> None:
    """End what was begun and is not wanted any more; where a session is kept, other runs may be about to take it."""
    if not _keepers:
        starting.abandon()


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


def _local_settings(delta: bool, storages: frozenset[type[Location]]) -> dict[str, str]:
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

        found = [*runtime.jars(), *runtime.storage_jars(storages)]
        told = {f"spark.hadoop.{key}": value for one in storages for key, value in one.hadoop_settings.items()}
        settings |= {"spark.jars": ",".join(str(jar) for jar in found), **_DELTA, **told}
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
    return bool(_ours) and not (_keepers and _keepers[0].in_use() > 1)
