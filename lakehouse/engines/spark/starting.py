"""Spark of our own, started in the background while the driver still imports and plans.

Whoever begins a start ends it: `sessions.session` takes it over, or `abandon` ends its JVM. A start that fails leaves
nothing, so that the session is then started as if there had been none, and says itself what is wrong.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from lakehouse.engines import quiet

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass
class _Start:
    """A start under way. `launched`: the JVM has its environment; `gateway`: it runs; `given_up`: nobody wants it."""

    settings: Mapping[str, str]
    launched: threading.Event = field(default_factory=threading.Event)
    given_up: threading.Event = field(default_factory=threading.Event)
    gateway: Any = None
    session: SparkSession | None = None
    thread: threading.Thread | None = None


_underway: list[_Start] = []


def begin(settings: Mapping[str, str]) -> None:
    """Start a session with these settings in the background, unless that is under way; another start is given up.

    Returns once the JVM has its environment, so that what is changed in this process's later does not reach workers.
    """
    from pyspark import SparkContext

    if _underway and _underway[0].settings == settings:
        return
    abandon()
    if SparkContext._gateway is not None:  # a JVM of an earlier session is there already
        return
    start = _Start(dict(settings))
    start.thread = threading.Thread(target=_run, args=(start,), name="start of Spark", daemon=True)
    _underway.append(start)
    start.thread.start()
    start.launched.wait()


def take(settings: Mapping[str, str]) -> SparkSession | None:
    """The session that was begun with these settings, once it is there; None where there is none, or it failed."""
    if not _underway:
        return None
    start = _underway[0]
    if start.settings != settings or start.thread is None:
        abandon()
        return None
    start.thread.join()
    if start.session is None:
        abandon()
        return None
    _underway.clear()
    _make_this_threads(start.session)
    return start.session


def abandon() -> None:
    """End a start that nobody has taken over, and its JVM; nothing of it is left."""
    for start in _underway:
        start.given_up.set()
        _kill(start)
        if start.thread is not None:
            start.thread.join()
        _kill(start)
        _forget(start)
    _underway.clear()


def _run(start: _Start) -> None:
    """The thread: what it raises is said by the session that is started instead."""
    with suppress(Exception):
        try:
            _start(start)
        finally:
            start.launched.set()


def _start(start: _Start) -> None:
    from pyspark import SparkConf, SparkContext, java_gateway
    from pyspark.sql import SparkSession

    launch_gateway: Any = java_gateway.launch_gateway
    conf = SparkConf(loadDefaults=False).setAll(list(start.settings.items()))
    with quiet.errors() as errors:
        start.gateway = launch_gateway(conf, {"stderr": _Errors(errors, start.launched)})
    if start.given_up.is_set():
        return
    SparkContext._ensure_initialized(gateway=start.gateway)
    start.session = SparkSession.builder.config(map=dict(start.settings)).getOrCreate()


@dataclass(frozen=True)
class _Errors:
    """Where a process writes its errors. That it is asked for says that the environment was read."""

    to: int
    launched: threading.Event

    def fileno(self) -> int:
        self.launched.set()
        return self.to


def _make_this_threads(session: SparkSession) -> None:
    """The session is the active one of this thread, too, and Ctrl-C stops its jobs, as where it is started here."""
    jvm: Any = session.sparkContext._jvm
    jvm.org.apache.spark.sql.classic.SparkSession.setActiveSession(session._jsparkSession)
    context = session.sparkContext

    def stop(*_: object) -> NoReturn:
        try:
            context.cancelAllJobs()
        finally:
            raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, stop)


def _kill(start: _Start) -> None:
    process = getattr(start.gateway, "proc", None)
    if process is not None and process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with suppress(OSError):
            process.stdin.close()


def _forget(start: _Start) -> None:
    """Let pyspark start a JVM of its own next time."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    with SparkContext._lock:
        if start.gateway is not None and SparkContext._gateway is start.gateway:
            SparkContext._gateway = SparkContext._jvm = SparkContext._active_spark_context = None
            SparkSession._instantiatedSession = SparkSession._activeSession = None
