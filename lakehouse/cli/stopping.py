"""Commands that are stopped from outside: by Ctrl-C, or by SIGTERM as somebody who stops a service sends it."""

from __future__ import annotations

import signal
import threading
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


def stop_error(stop: KeyboardInterrupt, stands: str) -> Stopped:
    """The stop as an error. What it says comes from where the run stood; where nothing did, from `stands`."""
    kind = StoppedByTerm if isinstance(stop, Terminated) else Stopped
    said, *results = stop.args or (stands,)
    return kind(": ".join(filter(None, ("stopped", said))), *results)
