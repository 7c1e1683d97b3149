"""The server process: Gunicorn with threads, its workers forked from one that has loaded the models where it can.

With `gunicorn_master` the only importer of Gunicorn.
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
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import ThreadWorker

from lakehouse.engines import scratch
from lakehouse.errors import ConfigError, LakehouseError
from lakehouse.serving import beginning, counting, deadlines, flask_app, preloading, watching
from lakehouse.serving.access import Keys
from lakehouse.serving.gunicorn_master import Master
from lakehouse.serving.limits import Limits
from lakehouse.serving.prepared import JobFile, Prepared
from lakehouse.serving.server import LOG, Server, look_regularly, server_for

_UNFIT = 69
"""The exit code of a worker that could not begin, which Gunicorn has no meaning for."""


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
        said = f"{', '.join(names)} at http://{settings.host}:{settings.port}, {settings.workers} workers; {who}"
        master = Master(_Application(root, limits, keys, settings), watcher, lambda: say(said))
        try:
            master.run()
        except SystemExit:
            if master.ended_by is not None:
                raise master.ended_by from None
            raise
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


class _Application(BaseApplication):  # type: ignore[misc]  # Gunicorn has no types
    """Loads what is current, once for all workers where it can be."""

    def __init__(self, root: Path, limits: Limits, keys: Callable[[], Keys], settings: Settings) -> None:
        self.root, self._limits, self._keys, self._settings = root, limits, keys, settings
        self.number, self.callable = "", None
        self._before: tuple[str, Any] = ("", None)
        super().__init__()

    def load_config(self) -> None:
        settings = self._settings
        hosted = f"[{settings.host}]" if ":" in settings.host else settings.host
        for name, value in {
            "bind": f"{hosted}:{settings.port}",
            "workers": settings.workers,
            "worker_class": _Worker,
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
            "post_worker_init": lambda worker: _begin(worker, self.root),
            "worker_exit": lambda _, worker: _end(0) if worker.booted else None,
            "child_exit": lambda master, worker: master.worker_ended(worker),
        }.items():
            self.cfg.set(name, value)

    def take_up(self, number: str) -> None:
        """Load what was made ready under this number. Raises LakehouseError, and then nothing has changed."""
        self._before, self.callable = (self.number, self.callable), None
        try:
            self.wsgi()
        finally:
            if self.callable is None:
                self.go_back()

    def go_back(self) -> None:
        """Have what there was before."""
        self.number, self.callable = self._before

    def load(self) -> Any:
        number = watching.current_number(self.root)
        keys, prepared = self._keys(), watching.current(self.root, number)
        preloading.preload(prepared)
        self.number = number
        return _Loaded(prepared, self._limits, keys, self._settings.poll)


class _Worker(ThreadWorker):  # type: ignore[misc]  # Gunicorn has no types
    """Gunicorn's own, which gives no client more time than a request may take."""

    def handle(self, conn: Any) -> Any:
        deadlines.begin(conn.sock, self.wsgi.seconds)
        try:
            return super().handle(conn)
        finally:
            deadlines.end(conn.sock)

    def murder_keepalived(self) -> None:
        """Called once a second at least."""
        super().murder_keepalived()
        deadlines.enforce()


class _Loaded:
    """The WSGI application: what it serves with is made in each worker."""

    def __init__(self, prepared: tuple[Prepared, ...], limits: Limits, keys: Keys, poll: float) -> None:
        self._given, self._poll, self.seconds = (prepared, limits, keys), poll, limits.seconds
        self._server: Server | None = None
        self._app = flask_app.application(self._serving)

    def __call__(self, environ: Any, start: Any) -> Any:
        return self._app(environ, start)

    def _serving(self) -> Server:
        assert self._server is not None  # a worker begins before it takes requests
        return self._server

    def begin(self) -> None:
        """In a worker: load what isn't loaded yet, look at the tables, and go on doing so."""
        self._server = server_for(*self._given, stuck=_replace_me, metrics=counting.Metrics().start(together=True))
        look_regularly(self._server, self._poll, self.seconds)


def _begin(worker: Any, root: Path) -> None:
    """Load what isn't loaded yet and say that it is, or end."""
    error: LakehouseError | None = None
    try:
        worker.wsgi.begin()  # as long as it takes: whether a worker hangs is looked at from its first sign of life on
    except LakehouseError as raised:
        error = raised
    except Exception as raised:
        LOG.exception("a worker can't begin")
        error = LakehouseError(f"a worker can't begin: {type(raised).__name__}: {raised}")
    beginning.say(root, error)
    if error is not None:
        _end(_UNFIT)
    os.kill(os.getppid(), signal.SIGCHLD)  # Gunicorn's process looks after its workers at once


def _end(code: int) -> None:
    """End a worker without taking Python down: threads may still be in a model, or look at a table.

    The one would hold the process up, and under the other the libraries' own ends have crashed.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _replace_me() -> None:
    LOG.error("a model has not answered in time: this worker finishes what it can and is replaced")
    os.kill(os.getpid(), signal.SIGTERM)


class _Lines(Logger):  # type: ignore[misc]  # Gunicorn has no types
    """Hands what Gunicorn says on to Python's logging."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.propagate = True
        self.error_log.handlers.clear()
        logging.getLogger("gunicorn.access").handlers.clear()
