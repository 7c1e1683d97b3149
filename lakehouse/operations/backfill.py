"""One job for many dates: each slice is scored and published once, one after the other or several at a time.

A date is a run like any other, so a backfill that was stopped is gone on with by the same command: what is published is
found unchanged, and what had stopped half way is finished.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TYPE_CHECKING

from lakehouse import pipeline
from lakehouse.errors import ConfigError, Unavailable, as_ours
from lakehouse.operations import apart, as_of
from lakehouse.operations.apart import Processes
from lakehouse.operations.days import spans
from lakehouse.planning.naming import identity_of
from lakehouse.planning.plan import Say
from lakehouse.progress import Watch
from lakehouse.runs import ledger
from lakehouse.runs.results import Result
from lakehouse.sinks.target import uri_of

if TYPE_CHECKING:
    from lakehouse.config import Job

NOT_RUN = "not run"


@dataclass(frozen=True)
class Asked:
    """What every date has in common: the job file with its options, and how it is run.

    `as_of`: with the model and the input as they were at the end of each date (UTC), or so many hours after it.
    """

    conf: str
    target: str | None = None
    overrides: tuple[str, ...] = ()
    engine: str = "spark"
    rescore: bool = False
    as_of: bool = False
    hours_after: int = 0

    def load(self, day: str) -> Job:
        """The job as the date fills it in; "" for a job without dates. Raises ConfigError."""
        from lakehouse.config import load_job

        return load_job(self.conf, date=day or None, target=self.target, overrides=self.overrides, environ=os.environ)


@dataclass(frozen=True)
class Outcome:
    """How a date ended: the status and exit code of its run, its counts, seconds, and what it says of its end.

    A date that was not begun, because another one failed, has the status "not run". `traceback`: of a defect.
    """

    date: str
    status: str
    code: int = 0
    run_id: str = ""
    rows_read: int = 0
    rows_scored: int = 0
    rows_quarantined: int = 0
    seconds: float = 0.0
    message: str = ""
    warnings: tuple[str, ...] = ()
    traceback: str = ""


@dataclass
class Shown:
    """Who is told what, as it happens: that a date's run of some id begins (and then of it), and how it ended."""

    begin: Callable[[str, str], tuple[Say, Watch | None]] = lambda day, run_id: (lambda event, values: None, None)
    end: Callable[[Outcome], None] = lambda outcome: None


def require_apart(asked: Asked, days: Sequence[str]) -> None:
    """Raise ConfigError where the job can't be loaded for a date, or two dates would replace the same rows."""
    seen: dict[tuple[str, ...], str] = {}
    for day in days:
        job = asked.load(day)
        if job.source.IN_RANGES:
            raise ConfigError(
                f"{asked.conf}: source.type: {job.source.type} has no dates to score: use lakehouse score"
            )
        place = (identity_of(job), *(uri_of(sink) for sink in job.sinks))
        if place in seen:
            raise ConfigError(
                f"{asked.conf}: {seen[place]} and {day} would replace the same rows of {job.sinks[0].table}: give the "
                "job a slice of the date, such as slice: {score_date: '{date}'}, or score the last date alone"
            )
        seen[place] = day


def backfill(
    asked: Asked, days: Sequence[str], parallel: int = 1, *, keep_going: bool = False, shown: Shown | None = None
) -> list[Outcome]:
    """Score these dates, at most `parallel` at a time; how each ended, in their order.

    Spark has one session for all of them, which the first that needs it starts; the local engine a process for each
    that runs at a time. After a date that failed no other is begun, unless `keep_going`. Raises ConfigError, before
    anything is scored, where the dates have no slices of their own; KeyboardInterrupt says what is done by then.
    """
    if parallel < 1:
        raise ConfigError(f"--parallel: {parallel} is none: ask for at least 1")
    if asked.hours_after and not asked.as_of:
        raise ConfigError("--hours-after: only with --as-of, after the end of each date")
    require_apart(asked, days)
    ended: dict[str, Outcome] = {}
    try:
        with _work(asked, min(parallel, len(days)), shown or Shown()) as work:
            work.run(days, keep_going, ended)
    except KeyboardInterrupt as stop:
        left = spans([day for day in days if day not in ended], days)
        done = f"{len(ended)} of {len(days)} dates had ended; run it again to go on"
        raise type(stop)(f"{done} with {left}" if left else done) from stop
    return [ended.get(day) or Outcome(day, NOT_RUN) for day in days]


_KILLED = (
    "the process that scored {day} ended {why}, as where memory runs out: run the same command again to go on, with a "
    "smaller --parallel where memory is short"
)
_STOPPED = "stopped half way, as the process of another date was ended: run the same command again to go on"


@dataclass
class _Work:
    """The dates of a backfill under way. Several at a time are run in threads of `pool`, or in processes, `apart`."""

    asked: Asked
    shown: Shown
    stack: ExitStack
    most: int = 1
    pool: ThreadPoolExecutor | None = None
    apart: Processes | None = None
    running: dict[Future[Outcome], str] = field(default_factory=dict)
    at_a_time: int = 1

    def run(self, days: Sequence[str], keep_going: bool, ended: dict[str, Outcome]) -> None:
        """Score these; how each ended is put into `ended` as it does."""
        for outcome in self._together(days) if self.pool or self.apart else self._alone(days):
            ended[outcome.date] = outcome
            self.shown.end(outcome)
            if outcome.code and not keep_going:
                self.most = 0

    def _alone(self, days: Sequence[str]) -> Iterator[Outcome]:
        for day in takewhile(lambda _: self.most, days):
            run_id = pipeline.new_run_id()
            yield score_date(self.asked, day, run_id, *self.shown.begin(day, run_id))

    def _together(self, days: Sequence[str]) -> Iterator[Outcome]:
        left = list(reversed(days))
        while (left and self.most) or self.running:
            while left and len(self.running) < self.most:
                self._begin(left.pop())
            done, _ = wait(self.running, return_when=FIRST_COMPLETED)
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                wait(self.running)
                lost, stopped = self._after_a_kill()
                yield from lost
                left += reversed(stopped) if self.most else ()
                yield from () if self.most else (Outcome(d, NOT_RUN, message=_STOPPED) for d in stopped)
                continue
            for future in sorted(done, key=self.running.__getitem__):
                day = self.running.pop(future)
                error = future.exception()
                if self.apart is not None and error is None:
                    self.apart.wait_for(day)
                yield future.result() if error is None else _failed(day, "", 0.0, error)

    def _after_a_kill(self) -> tuple[list[Outcome], list[str]]:
        """How the dates ended that were in hand when a process was killed, with which all others are stopped; and those
        that were stopped so, which other processes can begin again."""
        assert self.apart is not None
        in_hand, self.running = {day: future for future, day in self.running.items()}, {}
        ended = [future.result() for future in in_hand.values() if future.exception() is None]
        broken = [day for day, future in sorted(in_hand.items()) if future.exception() is not None]
        why = self.apart.killed(broken) or dict.fromkeys(broken, "before it had begun")
        told = [_failed(day, "", 0.0, Unavailable(_KILLED.format(day=day, why=said))) for day, said in why.items()]
        self.apart = self.stack.enter_context(apart.processes(self.at_a_time))
        return [*ended, *told], [day for day in broken if day not in why]

    def _begin(self, day: str) -> None:
        run_id = pipeline.new_run_id()
        asked = (self.asked, day, run_id, *self.shown.begin(day, run_id))
        if self.apart is not None:
            try:
                future = self.apart.submit(score_date, *asked)
            except BrokenProcessPool as error:  # a process has just been killed
                future = Future()
                future.set_exception(error)
            self.running[future] = day
        else:
            assert self.pool is not None
            self.running[self.pool.submit(score_date, *asked)] = day


@contextmanager
def _work(asked: Asked, parallel: int, shown: Shown) -> Iterator[_Work]:
    """The work, with what all dates share; where it is stopped nothing of it goes on."""
    spark = asked.engine == "spark"
    with ExitStack() as stack:
        if spark:
            from lakehouse.engines import spark as engine

            stack.enter_context(engine.keep_session())
        work = _Work(asked, shown, stack, parallel, at_a_time=parallel)
        if parallel > 1 and spark:
            work.pool = ThreadPoolExecutor(parallel)
            stack.callback(work.pool.shutdown, cancel_futures=True)
        elif parallel > 1:
            work.apart = stack.enter_context(apart.processes(parallel))
        try:
            yield work
        except BaseException:
            if work.apart is not None:
                for child in multiprocessing.active_children():
                    child.terminate()
            elif work.pool is not None:
                engine.stop_jobs()
            raise


def score_date(asked: Asked, day: str, run_id: str, say: Say | None = None, watch: Watch | None = None) -> Outcome:
    """Score one date by a run of this id; an error of it is how it ended."""
    begun, warnings = time.perf_counter(), list[str]()

    def hear(event: str, values: object) -> None:
        if event == "warning" and isinstance(values, dict):
            warnings.append(values["message"])
        if say is not None:
            say(event, values)  # type: ignore[arg-type]

    try:
        job = asked.load(day)
        request = pipeline.Request(asked.engine, ledger.now(), run_id, asked.rescore, say=hear, watch=watch)
        if asked.as_of:
            then = as_of.as_of(job, day, asked.hours_after, request.now)
            job, request = then.job, replace(request, as_of=then.moment, digest=then.digest)
        result = pipeline.score(job, request)
    except Exception as error:
        return replace(_failed(day, run_id, time.perf_counter() - begun, error), warnings=tuple(warnings))
    return replace(_counts(day, result, time.perf_counter() - begun), warnings=tuple(warnings))


def _counts(day: str, result: Result, seconds: float) -> Outcome:
    return Outcome(
        day,
        result.status,
        0,
        result.run_id,
        result.rows_read,
        result.rows_scored,
        result.rows_quarantined,
        round(seconds, 3),
        result.message or "",
    )


def _failed(day: str, run_id: str, seconds: float, error: BaseException) -> Outcome:
    """How a date ended whose run raised."""
    ours = as_ours(error)
    found = getattr(error, "result", None)
    counted = _counts(day, found, seconds) if isinstance(found, Result) and found.run_id == run_id else Outcome(day, "")
    code, status = (1, "failed") if ours is None else (ours.exit_code, ours.status)
    message = f"{type(error).__name__}: {error}" if ours is None else str(ours)
    trace = "" if ours is not None else "".join(traceback.format_exception(error))
    ended = replace(counted, status=status, code=code, run_id=run_id, seconds=round(seconds, 3))
    return replace(ended, message=message, traceback=trace)
