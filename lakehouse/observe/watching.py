"""Tell whoever asked for it of a run: each in a thread of its own, for which the run waits at its end only."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import import_module
from pkgutil import iter_modules
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol, cast

from lakehouse.errors import LakehouseError, as_ours
from lakehouse.observe.events import (
    DISCARD,
    DISCARDED,
    ROLLED_BACK,
    SCORE,
    Ended,
    Event,
    Judged,
    Observe,
    Passed,
    Planned,
    Run,
    StageEnded,
    Started,
)
from lakehouse.runs import evidence, ledger
from lakehouse.runs.restoring import is_rollback

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.planning.plan import Plan, Request
    from lakehouse.planning.prepare import Prepared
    from lakehouse.runs.ledger import Intent
    from lakehouse.runs.results import Result
    from lakehouse.storage import Location

PATIENCE_S = 5.0
"""The seconds that a run waits at its end, for all who are told of it together."""
LATE_S, REST_S = 1.0, 600.0
"""Who fails, and keeps a run waiting longer than the one, is told of no run of the job for the other: of the runs of a
backfill, not each waits for it."""
_resting: dict[tuple[str, str], _Rest] = {}
"""By job and name those who are not told of its runs."""


@dataclass
class _Rest:
    """Until when (monotonic, and UTC), and whether that was said."""

    over: float
    until: datetime
    said: bool = False


class Observer(Protocol):
    """What a module of this package has that tells a system of runs."""

    NAME: str
    """Who is told, for a warning."""

    def observers(self, run: Run) -> Mapping[str, Callable[[], Observe]]:
        """By name those who are told of the run, none where nobody asked for it.

        Each is called before the first event and returns what hears them; libraries are imported there only.
        """


@dataclass
class _Listener:
    """One who is told, with what it is yet to hear."""

    name: str
    begin: Callable[[], Observe]
    events: SimpleQueue[Event | None] = field(default_factory=SimpleQueue)
    error: Exception | None = None
    thread: threading.Thread | None = None
    heard_at: float = math.inf

    def start(self) -> None:
        self.thread = threading.Thread(target=self._listen, name=f"tells {self.name}", daemon=True)
        self.thread.start()

    def _listen(self) -> None:
        try:
            self._hear_all(self.begin())
        except Exception as error:
            self.error = error
        self.heard_at = time.monotonic()

    def _hear_all(self, hear: Observe) -> None:
        while (event := self.events.get()) is not None:
            try:
                hear(event)
            except Exception as error:
                self.error = self.error or error

    def end(self, until: float) -> str:
        """Wait until it has heard everything, at most until then; what went wrong."""
        assert self.thread is not None  # it is started first
        self.thread.join(max(0.0, until - time.monotonic()))
        if self.error is not None:
            return f"{self.name} could not be told of the run: {_in_words(self.error)}"
        if self.thread.is_alive():
            return f"{self.name} could not be told of the run: no answer within {PATIENCE_S:g} s"
        return ""


@dataclass
class Watched:
    """A run that others are told of; nobody is, where there are no listeners."""

    run: Run
    listeners: list[_Listener]
    state: Location | None = None
    began: datetime = field(default_factory=ledger.now)
    planned_at: datetime | None = None

    def planned(self, plan: Plan, state: Location) -> None:
        """It is decided what is read and scored; `state`: where the run keeps what it finds out."""
        self.state, self.planned_at = state, ledger.now()
        self._tell(lambda: Planned(ledger.now(), plan))

    def passed(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        """All rows are read; when each task was at work."""
        self._tell(lambda: Passed(ledger.now(), tasks))

    def stage(self, name: str) -> None:
        """A stage is over, and the next one begins."""
        began, self.began = self.began, ledger.now()
        self._tell(lambda: StageEnded(name, began, self.began))

    def judged(self, intent: Intent, tables: Prepared | None = None, state: Location | None = None) -> None:
        """Everything is staged and judged, nothing is committed."""
        self.state = state or self.state
        self._tell(lambda: Judged(ledger.now(), intent, tables))

    def finished(self, result: Result, state: Location) -> None:
        """An earlier run, which had stopped half way, is finished by this one."""
        facts, status = _facts(state, result.run_id), _status_of(result)
        self._tell(lambda: Ended(ledger.now(), result.run_id, status, result, facts=facts, earlier=True))

    def ended(self, result: Result) -> Result:
        """The run has ended; its result, which may be that of an earlier run where this one had nothing to do."""
        own = result.run_id == self.run.run_id
        status = DISCARDED if self.run.command == DISCARD else _status_of(result) if own else "unchanged"
        self._tell(lambda: self._end(status, result if own else None, None))
        return result

    def failed(self, error: BaseException) -> None:
        """The run has ended with an error, or was stopped."""
        ours, found = as_ours(error), getattr(error, "result", None)
        status = "stopped" if isinstance(error, KeyboardInterrupt) else ours.status if ours is not None else "failed"
        own = found if getattr(found, "run_id", None) == self.run.run_id else None
        self._tell(lambda: self._end(status, own, error))

    def _end(self, status: str, result: Result | None, error: BaseException | None) -> Ended:
        facts = _facts(self.state, self.run.run_id)
        early = self.planned_at is None
        return Ended(ledger.now(), self.run.run_id, status, result, error, facts, early=early)

    def _tell(self, make: Callable[[], Event]) -> None:
        if self.listeners:
            event = make()
            for listener in self.listeners:
                listener.events.put(event)


@contextmanager
def watch(job: Job, request: Request, command: str = SCORE) -> Iterator[Watched]:
    """Whoever is to be told of a run hears of it while the block runs, and of an error that ends it.

    A dry run is told to nobody.
    """
    run = Run(job, request.run_id, request.engine, command)
    watched = Watched(run, [] if request.dry_run else _listeners(run, request))
    watched._tell(lambda: Started(watched.began))
    try:
        yield watched
    except BaseException as error:
        watched.failed(error)
        raise
    finally:
        asked = time.monotonic()
        for listener in watched.listeners:
            listener.events.put(None)
        for listener in watched.listeners:
            if said := listener.end(asked + PATIENCE_S):
                request.warn(said)
                if listener.heard_at - asked > LATE_S:
                    rest = _Rest(time.monotonic() + REST_S, ledger.now() + timedelta(seconds=REST_S))
                    _resting[job.job, listener.name] = rest


def _listeners(run: Run, request: Request) -> list[_Listener]:
    found = []
    for module in modules():
        try:
            there = module.observers(run).items()
            found += [_Listener(name, begin) for name, begin in there if not _rests(run, name, request)]
        except Exception as error:
            request.warn(f"{module.NAME} could not be told of the run: {_in_words(error)}")
    for listener in found:
        listener.start()
    return found


def _rests(run: Run, name: str, request: Request) -> bool:
    """Whether it is not to be told of the run; that is said once."""
    rest = _resting.get((run.job.job, name))
    if rest is None or time.monotonic() >= rest.over:
        return False
    if not rest.said:
        rest.said = True
        said = f"{name} is told of no run of {run.job.job} before {rest.until:%H:%M} UTC: it had not answered in time"
        request.warn(said)
    return True


def modules() -> list[Observer]:
    """The modules of this package that tell a system of runs."""
    from lakehouse import observe

    names = sorted(module.name for module in iter_modules(observe.__path__))
    found = [import_module(f"lakehouse.observe.{name}") for name in names]
    return [cast(Observer, module) for module in found if hasattr(module, "observers")]


def _status_of(result: Result) -> str:
    back = result.status == "published" and is_rollback({"message": result.message})
    return ROLLED_BACK if back else result.status


def _facts(state: Location | None, run_id: str) -> Callable[[], Mapping[str, Any] | None]:
    """Reads them when somebody asks, once."""
    return functools.cache(lambda: None if state is None else evidence.kept_facts(state, run_id))


def _in_words(error: Exception) -> str:
    """What went wrong, in one line; of errors that are not known by what they say only the kind, since it may be a
    secret."""
    return str(error) if isinstance(error, LakehouseError) else type(error).__name__
