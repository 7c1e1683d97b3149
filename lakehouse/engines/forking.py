"""Processes for the local engine, forked from one that has imported what they need and loaded the model already.

That one, multiprocessing's fork server, is begun while the driver still plans, so that its imports run beside the
driver's own. It is a process of its own: the driver, in which Arrow, BLAS, OpenMP and MLflow have threads, is never
forked. Forking the server is sound because it has no second thread: a fork copies only the thread that asks for it, and
a lock or a pool that another one holds would stay as it is in the copy for good. Libraries of BLAS and OpenMP are told
before they are loaded to make no threads, Arrow makes its own when it is first used, and the server counts its threads
when it is ready (`lakehouse.engines.preloading`): where some library started one all the same, it starts over and loads
nothing. Only Linux tells a process its threads; elsewhere each process is spawned and imports for itself.

What it imports takes as long as scoring some millions of rows, so that it outlives a run for a minute: the next one of
the same process has it at once where it asks for the same models in the same surroundings.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from lakehouse.engines import threads
from lakehouse.models.loading import environment

PRELOAD = "LAKEHOUSE_PRELOAD"
"""The variable that tells a server of models to load: JSON, arguments of `models.load` each."""


@dataclass(frozen=True)
class Model:
    """A model that is loaded before there are workers: the arguments of `models.load`."""

    folder: str
    digest: str
    method: str | None
    params: tuple[tuple[str, Any], ...]


_IDLE_SECONDS = 60.0
"""So long a server waits for the next run."""


@dataclass
class _Server:
    """A server that was begun here."""

    process: int
    asked: object
    """What it was begun for (`_asked`)."""
    since: float = field(default_factory=time.monotonic)
    ending: threading.Timer | None = None
    """What ends it, while no run uses it."""


_begun: list[_Server] = []
"""The server, where one was begun here."""
_lock = threading.RLock()
_READY = "lakehouse-ready"
"""The name that a server takes when it has loaded all: at most 15 characters."""


def is_possible() -> bool:
    """Whether this system has fork servers whose threads can be counted."""
    return sys.platform == "linux" and "forkserver" in multiprocessing.get_all_start_methods()


def is_begun() -> bool:
    """Whether a server is there, or on its way."""
    return bool(_begun)


def is_in_use() -> bool:
    """Whether a run has a server."""
    with _lock:
        return any(server.ending is None for server in _begun)


def is_ready() -> bool:
    """Whether a process that is asked for now starts at once: the server has loaded all, or there is none."""
    with _lock:
        return all(_name_of(server.process) == _READY for server in _begun)


def _name_of(process: int) -> str:
    """What a process calls itself; of one that is gone, as if it were ready, since nobody need wait for it."""
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return _READY


def say_ready() -> None:
    """In the server: it has loaded all that it was told, and forks whoever is asked for from now on."""
    Path("/proc/self/comm").write_text(_READY)


def age() -> float | None:
    """Seconds since the server was begun; None where there is none."""
    return next((time.monotonic() - server.since for server in _begun), None)


def begin(loaded: Sequence[Model]) -> None:
    """Start the server, unless there is one; it imports what a worker needs, and loads these models. Returns at once.

    One that rests after an earlier run is taken where it was begun for the same. Ctrl-C is not for it and its workers:
    this process tells them.
    """
    if not is_possible():
        return
    with _lock:
        asked = _asked(loaded)
        for server in list(_begun):
            if server.ending is not None:
                server.ending.cancel()
                server.ending = None
                if server.asked != asked or _process() != server.process:
                    end()
        if _process() is not None:
            return
        told = json.dumps([[model.folder, model.digest, model.method, model.params] for model in loaded])
        variables = {**threads.WITHOUT_THREADS, PRELOAD: told, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        forkserver.set_forkserver_preload(["lakehouse.engines.preloading"])
        with environment(variables), uninterrupted():
            forkserver.ensure_running()
        _begun.extend(_Server(process, asked) for process in filter(None, [_process()]))


def _asked(loaded: Sequence[Model]) -> object:
    """All that workers get by the server: its models, variables, folder and where it looks for modules."""
    models = [(model.digest, model.method, model.params) for model in loaded]
    return models, dict(os.environ), os.getcwd(), list(sys.path)


def rest() -> None:
    """The run that began the server needs it no more: it is ended in a minute, unless another one comes."""
    with _lock:
        for server in _begun:
            if server.ending is None:
                server.ending = threading.Timer(_IDLE_SECONDS, _end_if, [server])
                server.ending.daemon = True
                server.ending.start()


def _end_if(server: _Server) -> None:
    with _lock:
        if server in _begun and server.ending is not None:
            end()


def _process() -> int | None:
    """The process number of the server of this process, whoever has begun it."""
    found: int | None = _server()._forkserver_pid
    return found


def _server() -> Any:
    """Python's own handle of it, which alone knows its process."""
    return forkserver._forkserver


def end() -> None:
    """End the server that was begun here, at once."""
    with _lock:
        for server in _begun:
            if server.ending is not None:
                server.ending.cancel()
            if _process() == server.process:
                with suppress(ProcessLookupError):
                    os.kill(server.process, signal.SIGKILL)
                _server()._stop()  # waits for the process, and forgets it
        _begun.clear()
        forkserver.set_forkserver_preload(["__main__"])  # Python's own


@contextmanager
def server(loaded: Sequence[Model]) -> Iterator[BaseContext]:
    """How worker processes are started: forked from the server that was begun, or from one that is here meanwhile.

    Where there can't be one each is spawned, and imports for itself.
    """
    before = is_in_use()
    begin(loaded)
    try:
        yield multiprocessing.get_context("forkserver" if is_begun() else "spawn")
    finally:
        if not before:
            end()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Processes that start meanwhile don't get the terminal's Ctrl-C: this one does, and tells them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def without_script() -> Iterator[None]:
    """Processes that start meanwhile don't import the script that runs here, which would run it once more in each.

    What they are given is of this package's own modules, so that they need nothing of it, and the script need not keep
    what it does below `if __name__ == "__main__":`.
    """
    main = sys.modules["__main__"]
    before = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    for name in before:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(main, name, value)


def start_over_if_threaded() -> None:
    """In the server: start over, with nothing to load, where a library has started a thread."""
    if threads.count() > 1 or threading.active_count() > 1:
        os.environ.pop(PRELOAD, None)
        os.execv(sys.executable, sys.orig_argv)
