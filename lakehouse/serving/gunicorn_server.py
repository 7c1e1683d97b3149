"""The server process: Gunicorn with threads, its workers forked from one that has loaded the models.

The only importer of Gunicorn. A process is forked only while it has a single thread (`engines.forking` says why):
whether loading these models starts others is tried in a child first, and if it does, or the system can't tell, workers
load them.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from lakehouse import models
from lakehouse.engines import scratch, threads
from lakehouse.errors import ConfigError, LakehouseError
from lakehouse.serving import counting, flask_app, scoring, watching
from lakehouse.serving.access import Keys
from lakehouse.serving.limits import Limits
from lakehouse.serving.prepared import JobFile, Prepared
from lakehouse.serving.server import LOG, Server, look_regularly, server_for


@dataclass(frozen=True)
class Settings:
    """How a server runs. `requests`: after about so many a worker is replaced; `poll`: seconds between two looks.

    `in_lines`: what it logs is handed to Python's logging, whose handlers decide its form.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 2
    requests: int = 100_000
    poll: float = 10.0
    in_lines: bool = False


def run(
    files: tuple[JobFile, ...],
    limits: Limits,
    keys: Callable[[], Keys],
    settings: Settings,
    say: Callable[[str], None],
) -> None:
    """Serve these jobs until the process is stopped, then exit. `keys`: read at the start and at each reload.

    Raises what making the jobs ready raises: ConfigError, ModelRefused, NotReady, Unavailable.
    """
    _require_free(settings)
    own = os.getpid()
    root = Path(tempfile.mkdtemp(prefix="serve-", dir=scratch.process_folder()))  # it goes with this process
    counted = root / "metrics"
    counted.mkdir()
    os.environ[counting.FOLDER] = str(counted)
    known = keys()
    watcher = watching.Watcher(files, root, settings.poll, in_lines=settings.in_lines)
    try:
        names = watcher.start()
        who = f"{len(known)} API keys" if known else "no API keys: whoever reaches the address may ask"
        say(f"{', '.join(names)} at http://{settings.host}:{settings.port}, {settings.workers} workers; {who}")
        _Master(_Application(root, limits, keys, settings), watcher).run()
    finally:
        if os.getpid() == own:  # workers come through here, too
            watcher.end()


def _require_free(settings: Settings) -> None:
    """Raise ConfigError where this process can't listen, before anything is made ready."""
    try:
        family, *_, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        where, why = f"{settings.host} --port {settings.port}", error.strerror
        raise ConfigError(f"--host {where}: {why}: name an address and a port that are free") from error


class _Master(Arbiter):  # type: ignore[misc]  # Gunicorn has no types
    """Gunicorn's own, which keeps a watcher alive beside its workers, and replaces these by what it has made ready."""

    def __init__(self, app: _Application, watcher: watching.Watcher) -> None:
        self.watcher = watcher
        super().__init__(app)

    def manage_workers(self) -> None:
        """Called once a second at least."""
        super().manage_workers()
        self.watcher.keep_alive()
        if not self.app.is_current():
            self.reload()

    def handle_hup(self) -> None:
        """All is made ready anew; what is ready is loaded as soon as it is there."""
        self.watcher.ask()


class _Application(BaseApplication):  # type: ignore[misc]  # Gunicorn has no types
    """Loads what is current, once for all workers where it can be."""

    def __init__(self, root: Path, limits: Limits, keys: Callable[[], Keys], settings: Settings) -> None:
        self._root, self._limits, self._keys, self._settings = root, limits, keys, settings
        self._number = ""
        self.callable: Any = None
        super().__init__()

    def load_config(self) -> None:
        settings = self._settings
        hosted = f"[{settings.host}]" if ":" in settings.host else settings.host
        for name, value in {
            "bind": f"{hosted}:{settings.port}",
            "workers": settings.workers,
            "worker_class": "gthread",
            "threads": self._limits.queue + 4,
            "timeout": int(self._limits.seconds) + 30,
            "graceful_timeout": int(self._limits.seconds) + 5,
            "keepalive": 15,
            "max_requests": settings.requests,
            "max_requests_jitter": settings.requests // 10,
            "preload_app": True,
            "logger_class": _Lines if settings.in_lines else Logger,
            "loglevel": "warning",
            "control_socket_disable": True,
            "post_worker_init": _begin,
            "worker_exit": lambda _, worker: _leave(worker),
            "child_exit": lambda _, worker: counting.worker_ended(worker.pid),
        }.items():
            self.cfg.set(name, value)

    def is_current(self) -> bool:
        """Whether what is served is what was last made ready."""
        return self._number == watching.current_number(self._root)

    def reload(self) -> None:
        super().reload()
        before, self.callable = self.callable, None
        try:
            self.wsgi()
        except LakehouseError as error:
            LOG.error("what is served stays as it is: %s", error)
            self.callable = before

    def load(self) -> Any:
        self._number = watching.current_number(self._root)  # first: what can't be loaded is not tried again
        keys, prepared = self._keys(), watching.current(self._root, self._number)
        _preload(prepared)
        return _Loaded(prepared, self._limits, keys, self._settings.poll)


class _Loaded:
    """The WSGI application: what it serves with is made in each worker."""

    def __init__(self, prepared: tuple[Prepared, ...], limits: Limits, keys: Keys, poll: float) -> None:
        self._given, self._poll = (prepared, limits, keys), poll
        self._server: Server | None = None
        self._app = flask_app.application(self._serving)

    def __call__(self, environ: Any, start: Any) -> Any:
        return self._app(environ, start)

    def _serving(self) -> Server:
        assert self._server is not None  # a worker begins before it takes requests
        return self._server

    def begin(self) -> None:
        """In a worker: load what isn't loaded yet, and look at the tables from now on."""
        self._server = server_for(*self._given, stuck=_replace_me, metrics=counting.Metrics().start(together=True))
        look_regularly(self._server, self._poll)


def _begin(worker: Any) -> None:
    worker.wsgi.begin()


def _leave(worker: Any) -> None:
    """End a worker that has served without taking Python down: threads may still be in a model, or look at a table.

    The one would hold the process up, and under the other the libraries' own ends have crashed.
    """
    if worker.booted:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _replace_me() -> None:
    LOG.error("a model has not answered in time: this worker finishes what it can and is replaced")
    os.kill(os.getpid(), signal.SIGTERM)


def _preload(prepared: tuple[Prepared, ...]) -> None:
    """Load the models for all workers, and warm them up, as far as that starts no thread. Raises ModelRefused."""
    models.forget()
    wanted = [one for one in prepared if one.preloads]
    if not wanted or threads.count() != 1:
        return
    child = os.fork()
    if not child:
        steps = 0
        try:
            steps = _steps(wanted, 2)
        finally:  # whatever it raises, workers load for themselves and say it
            os._exit(steps)
    _steps(wanted, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _steps(wanted: list[Prepared], most: int) -> int:
    """How many of the two steps were taken without a thread being started: loading, warming up."""
    loaded = [scoring.load(one) for one in wanted] if most > 0 else []
    if most < 1 or threads.count() != 1:
        return 0
    if most > 1:
        for one in loaded:
            scoring.warm_up(one)
    return 2 if most > 1 and threads.count() == 1 else 1


class _Lines(Logger):  # type: ignore[misc]  # Gunicorn has no types
    """Hands what Gunicorn says on to Python's logging."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.propagate = True
        self.error_log.handlers.clear()
        logging.getLogger("gunicorn.access").handlers.clear()
