"""What people see of a backfill: a line a date as it ends, how far it is, and what came of it all."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

from lakehouse.operations.backfill import NOT_RUN, Outcome
from lakehouse.operations.days import spans
from lakehouse.planning.plan import Say
from lakehouse.progress import Watch
from lakehouse.views import logs, steps

About = Callable[[str, str], Mapping[str, Any]]


def line(outcome: Outcome) -> str:
    """A date as it ended; what was wrong is below it."""
    scored = f"{outcome.rows_scored:,} scored" if outcome.rows_scored else ""
    aside = f"{outcome.rows_quarantined:,} quarantined" if outcome.rows_quarantined else ""
    rows = ", ".join(filter(None, (scored, aside)))
    told = f"{outcome.date}  {outcome.status.replace('_', ' ').upper():<9}  {outcome.seconds:6.1f} s  {rows}".rstrip()
    below = [f"warning: {warning}" for warning in outcome.warnings]
    below += (outcome.traceback or outcome.message).splitlines() if outcome.code else []
    return "\n".join([told, *(f"    {text}" for text in below)])


def counts(found: Sequence[Outcome]) -> dict[str, int]:
    """How many dates ended how."""
    return dict(Counter(one.status for one in found))


def summary(found: Sequence[Outcome]) -> str:
    """What came of all dates, and which are to be looked at."""
    ended = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in counts(found).items())
    lines = [f"{_dates(len(found))}: {ended}"]
    if bad := [one.date for one in found if one.code]:
        lines.append(f"not scored: {', '.join(bad)}")
    if left := [one.date for one in found if one.status == NOT_RUN]:
        lines.append(f"not begun: {spans(left, [one.date for one in found])}")
        lines.append("run it again once that is put right, or with --keep-going to score the other dates meanwhile")
    return "\n".join(lines)


def _dates(many: int) -> str:
    return f"{many:,} date{'' if many == 1 else 's'}"


@dataclass
class Progress:
    """Shows a backfill on a stream as plain lines. `quiet`: nothing but what was wrong."""

    stream: TextIO
    all: int
    quiet: bool = False
    done: int = 0
    begun: float = field(default_factory=time.monotonic)

    def begin(self, day: str, run_id: str) -> tuple[Say, Watch | None]:
        """A date begins; who is told of its run."""
        return _nobody, None

    def end(self, outcome: Outcome) -> None:
        """A date has ended."""
        self.done += 1
        if not self.quiet or outcome.code or outcome.warnings:
            self.print(f"{line(outcome)}")

    def print(self, text: str) -> None:
        """Print lines."""
        print(text, file=self.stream, flush=True)

    def left(self) -> str:
        """How far it is, and how long it may take."""
        if not self.done:
            return f"0 of {_dates(self.all)}"
        seconds = (time.monotonic() - self.begun) / self.done * (self.all - self.done)
        return f"{self.done} of {_dates(self.all)}, about {seconds:,.0f} s left"


def _nobody(event: str, values: Mapping[str, Any]) -> None:
    """What is said of a single run is not shown among others."""


@contextmanager
def progress(stream: TextIO, days: Sequence[str], quiet: bool, about: About | None = None) -> Iterator[Progress]:
    """Show dates as they end: on a terminal with what is running below them, plain lines otherwise.

    `about`: of a date and its run's id what tells that run from others, where steps are logged as structured lines.
    """
    if about is not None:
        yield _InLogs(stream, len(days), about=about)
        return
    if quiet or not stream.isatty():
        yield Progress(stream, len(days), quiet)
        return
    from rich.console import Console
    from rich.live import Live

    shown = _OnTerminal(stream, len(days))
    with Live(console=Console(file=sys.stderr), transient=True, get_renderable=shown.render) as live:
        shown.live = live
        yield shown


@dataclass
class _InLogs(Progress):
    """Each date is a run among others, and its lines say which."""

    about: About = lambda day, run_id: {}
    runs: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def begin(self, day: str, run_id: str) -> tuple[Say, Watch | None]:
        about = self.runs[day] = self.about(day, run_id)
        logs.line("started", "the run begins", about)
        return steps.line_by_line(lambda event, said, values: logs.line(event, said, about, values))

    def end(self, outcome: Outcome) -> None:
        values = {name: value for name, value in asdict(outcome).items() if name not in ("date", "run_id")}
        about, level = self.runs.pop(outcome.date), "error" if outcome.code else ""
        logs.line("ended", ": ".join(filter(None, (outcome.status, outcome.message))), about, values, level)


@dataclass
class _OnTerminal(Progress):
    """Below the dates that have ended: those that run, and how many rows of them are read."""

    live: Any = None
    running: dict[str, str] = field(default_factory=dict)

    def begin(self, day: str, run_id: str) -> tuple[Say, Watch | None]:
        self.running[day] = "planning"

        def say(event: str, values: Mapping[str, Any]) -> None:
            if event == "units" and day in self.running:
                self.running[day] = "scoring"

        def watch(units: int, rows: int) -> None:
            if day in self.running:
                self.running[day] = f"{rows:,} rows read"

        return say, watch

    def end(self, outcome: Outcome) -> None:
        self.running.pop(outcome.date, None)
        super().end(outcome)

    def print(self, text: str) -> None:
        self.live.console.print(text, highlight=False, markup=False)

    def render(self) -> Any:
        """What stands below the lines."""
        from rich.text import Text

        return Text("\n".join([*(f"{day}  {at}" for day, at in sorted(self.running.items())), self.left()]))
