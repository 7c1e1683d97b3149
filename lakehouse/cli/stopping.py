"""Commands that are stopped from outside: by Ctrl-C, or by SIGTERM as somebody who stops a service sends it."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import NoReturn

from lakehouse.errors import LakehouseError


class Terminated(KeyboardInterrupt):
    """SIGTERM reached this process."""


class Stopped(LakehouseError):
    """A command was stopped by Ctrl-C (exit 130); `result`: where its run stands, if it is known."""

    exit_code = 128 + signal.SIGINT

    def __init__(self, message: str, result: object | None = None) -> None:
        super().__init__(message)
        self.result = result


class StoppedByTerm(Stopped):
    """A command was stopped by SIGTERM (exit 143)."""

    exit_code = 128 + signal.SIGTERM


def handle_sigterm() -> None:
    """Let SIGTERM end a command as Ctrl-C does: by an exception, so that it can say what it leaves."""

    def stop(*_: object) -> NoReturn:
        raise Terminated

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


@contextmanager
def stopping_between() -> Iterator[Callable[[float], bool]]:
    """Until the block ends SIGTERM lets what is at work be finished first; Ctrl-C stops at once.

    Gives what waits for so many seconds, and says whether to go on.
    """
    asked = SimpleQueue[bool]()  # whose put may come while the same thread is in get, as a handler does

    def goes_on(seconds: float) -> bool:
        with suppress(Empty):
            return asked.get(timeout=seconds)
        return True

    before = signal.signal(signal.SIGTERM, lambda *_: asked.put(False))
    try:
        yield goes_on
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """End the process where the block does, though something that a run no longer waits for is still at its work.

    Python would wait for the threads in which an artifact store's library waits for its own time-out.
    """
    try:
        yield
    except SystemExit as end:
        patience = sys.modules.get("lakehouse.models.patience")
        if patience is None or not patience.still_waiting():
            raise
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else 1 if end.code else 0)


def stop_error(stop: KeyboardInterrupt, stands: str) -> Stopped:
    """The stop as an error. What it says comes from where the run stood; where nothing did, from `stands`."""
    kind = StoppedByTerm if isinstance(stop, Terminated) else Stopped
    said, *results = stop.args or (stands,)
    return kind(": ".join(filter(None, ("stopped", said))), *results)
