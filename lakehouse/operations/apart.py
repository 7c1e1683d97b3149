"""Dates that are scored by processes of their own: what is said there of each run is heard where they were begun."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Lock
from typing import Any, TypeVar

from lakehouse.planning.plan import Say
from lakehouse.progress import Watch

T = TypeVar("T")
Score = Callable[..., T]
"""Called with what it is asked for, a date, a run's id, and who is told of the run."""
_BEGUN, _SAID, _READ, _LOGGED, _ENDED = "begun", "said", "read", "logged", "ended"
_SOON_S, _POLL_S, _LATE_S = 0.01, 0.2, 10.0


@dataclass
class Processes:
    """Processes at work, and who is told of each date's run; `submit` begins one. `at`: by date the one that has it."""

    pool: ProcessPoolExecutor
    told: dict[str, tuple[Say, Watch | None]] = field(default_factory=dict)
    heard: dict[str, threading.Event] = field(default_factory=dict)
    at: dict[str, BaseProcess] = field(default_factory=dict)

    def submit(self, score: Score[T], asked: object, day: str, run_id: str, say: Say, watch: Watch | None) -> Future[T]:
        """Score a date; `say` and `watch` are called here, with what is said there."""
        self.told[day], self.heard[day] = (say, watch), threading.Event()
        return self.pool.submit(_score, score, asked, day, run_id, watch is not None)

    def wait_for(self, day: str) -> None:
        """Wait, not for long, until all is heard that was said of a date's run, which has ended."""
        self.heard[day].wait(_LATE_S)

    def killed(self, days: Collection[str]) -> dict[str, str]:
        """Of dates that were cut off together those whose own process was ended by somebody else, and how.

        The pool ends all other processes itself, by SIGTERM.
        """
        codes = {day: _code_of(self.at[day]) for day in days if day in self.at}
        found = {day: code for day, code in codes.items() if code not in (None, -signal.SIGTERM)}
        return {day: _in_words(code) for day, code in (found or codes).items()}

    def hear(self, day: str, kind: str, what: Any) -> None:
        """Hand on what a process has said."""
        say, watch = self.told.get(day, (None, None))
        if kind == _SAID and say is not None:
            say(*what)
        elif kind == _READ and watch is not None:
            watch(*what)
        elif kind == _LOGGED:
            name, level, message = what
            logging.getLogger(name).log(level, "%s", message)
        elif kind == _BEGUN:
            for process in (one for one in multiprocessing.active_children() if one.pid == what):
                self.at[day] = process
        elif kind == _ENDED:
            self.heard[day].set()


def _code_of(process: BaseProcess) -> int | None:
    """The exit code of a process that is ending; None where it isn't, or nobody can tell."""
    until = time.monotonic() + _LATE_S
    while process.exitcode is None and time.monotonic() < until:
        process.join(_POLL_S)
        time.sleep(_SOON_S)  # the pool waits for it, too: who comes second is told at once that nothing is known
    return process.exitcode


def _in_words(code: int | None) -> str:
    if code is None:
        return "without an exit code"
    by = f" by {signal.Signals(-code).name}" if -code in set(signal.Signals) else ""
    return f"with exit code {code}{by}"


@contextmanager
def processes(count: int) -> Iterator[Processes]:
    """So many processes for as long as the block lasts."""
    from lakehouse.engines import forking

    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    with forking.without_script():
        pool = ProcessPoolExecutor(count, context, initializer=_join, initargs=(writer, context.Lock()))
    found, over = Processes(pool), threading.Event()
    thread = threading.Thread(target=_listen, args=(reader, found, over), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        pool.shutdown(cancel_futures=True)
        over.set()
        thread.join(2 * _POLL_S)  # one that was ended in the middle of a word leaves it waiting


def _listen(reader: Connection, found: Processes, over: threading.Event) -> None:
    while not over.is_set():
        if reader.poll(_POLL_S):
            message = json.loads(reader.recv_bytes())
            with suppress(Exception):  # whom it can't be shown to any more: the runs go on, and must not wait for it
                found.hear(*message)


_joined: list[tuple[Connection, Lock]] = []
"""In such a process: where what is said goes, and whose turn it is to say something."""


def _join(writer: Connection, turn: Lock) -> None:
    _joined[:] = [(writer, turn)]
    logging.getLogger().addHandler(_Hands())
    logging.captureWarnings(True)


def _tell(day: str, kind: str, what: Any) -> None:
    (writer, turn), message = _joined[0], json.dumps([day, kind, what], default=str).encode()
    with turn, suppress(OSError):  # whoever began this process may be gone: the run goes on
        writer.send_bytes(message)


class _Hands(logging.Handler):
    """Hands what libraries log to the process that began this one."""

    def emit(self, record: logging.LogRecord) -> None:
        _tell("", _LOGGED, [record.name, record.levelno, record.getMessage()])


def _score(score: Score[T], asked: object, day: str, run_id: str, watched: bool) -> T:
    def say(event: str, values: Mapping[str, Any]) -> None:
        _tell(day, _SAID, [event, dict(values)])

    def watch(units: int, rows: int) -> None:
        _tell(day, _READ, [units, rows])

    _tell(day, _BEGUN, os.getpid())
    try:
        return score(asked, day, run_id, say, watch if watched else None)
    finally:
        _tell(day, _ENDED, None)
