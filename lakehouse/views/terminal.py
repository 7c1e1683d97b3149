"""What people see of a run: progress while it runs, its outcome at the end, tables of runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from lakehouse import sinks
from lakehouse.errors import LakehouseError
from lakehouse.operations.leftover import RECORD, SMALL
from lakehouse.pipeline import Result
from lakehouse.planning.plan import Say
from lakehouse.progress import Watch
from lakehouse.runs import ledger
from lakehouse.runs.restoring import restored_run
from lakehouse.runs.results import at_version
from lakehouse.schemas import MODEL_VERSION
from lakehouse.views import logs, planned, steps

if TYPE_CHECKING:
    from datetime import datetime

    from lakehouse.config import Job
    from lakehouse.operations.leftover import Leftover
    from lakehouse.operations.maintenance import Maintained
    from lakehouse.operations.reconciling import Reconciled

_ROWS = 3  # of a sample


def outcome(job: Job, result: Result, then: str) -> str:
    """The end of a run, for a terminal. `then`: what may be run next."""
    lines = []
    if result.status in ("published", "held", "blocked"):
        counts = f"read {result.rows_read:,} = scored {result.rows_scored:,} + quarantined {result.rows_quarantined:,}"
        lines.append(f"{counts:<50} {result.carrier} carrier, {result.engine} engine")
    width, parts = planned.terminal_width() or sys.maxsize, [part for part in _headline(job, result) if part]
    whole = "  ".join(parts)
    lines += [whole] if len(whole) <= width else ["  ".join(parts[:2]), *(" " * 11 + part for part in parts[2:])]
    if result.status in ("published", "unchanged"):
        lines += _sample(job, result)
    if result.status == "held":
        lines.append(result.message or "")
    if result.status in ("published", "held"):
        lines.append(f"next     {then}")
    return "\n".join(lines)


def leftovers(found: Sequence[Leftover], taken_away: bool) -> str:
    """What a sweep found, a line a run and table."""
    if not found:
        return "nothing is left over"
    lines = _lines(found, taken_away)
    free = {one.what for one in found if one.kept is None}
    if free and not taken_away:
        lines.append(f"add --remove to {'merge' if free == {SMALL} else 'remove'} these")
    return "\n".join(lines)


def maintained(told: Maintained, dry_run: bool) -> str:
    """What was done for a job's tables, or is to be done."""
    lines = _lines(told.found, not dry_run) + told.notes
    lines += [f"{told.status}: {told.message}"] if told.code else [] if lines else ["nothing to do"]
    return "\n".join([f"{told.conf}  {told.job}", *(f"  {line}" for line in lines)])


def reconciled(done: Reconciled, dry_run: bool) -> str:
    """What was added to ledger and metrics, or would be."""
    act = "would be added" if dry_run else "added"
    lines = [f"{one['run_id']}  {one['date'] or ''}  generation {one['generation']}" for one in done.records]
    counts = f"{done.job}: {len(done.records):,} records, metrics of {len(done.metrics):,} runs {act}"
    return "\n".join([*lines, counts, *done.notes])


def _lines(found: Sequence[Leftover], done: bool) -> list[str]:
    lines = []
    for one in found:
        of = f"run-{one.run_id}" if one.run_id else one.what
        size = f"{'record, ' if one.what == RECORD else ''}{one.files:,} files, {one.bytes / 1e6:,.1f} MB"
        act = "merged" if one.what == SMALL else "removed"
        what = f"kept: {one.kept}" if one.kept else act if done else f"can be {act}"
        lines.append(f"{one.table}  {of}  {size:<25} {what}")
    return lines


def _headline(job: Job, result: Result) -> list[str]:
    where = ", ".join(at_version(table) for table in result.sinks if table.get("kind") == "sink")
    part = ", ".join(f"{name}={value}" for name, value in job.slice.items())
    took = f"{sum(result.seconds.values()):.1f} s" if result.seconds else ""
    model = result.model or {}
    named = f"{ledger.title_of(model)} sha256:{model['digest'][:8]}…" if model else ""
    none = "nothing new has come" if job.source.IN_RANGES and result.status == "unchanged" else ""
    return [f"{result.status.upper():<9}", where, none, part, took, named]


def _sample(job: Job, result: Result) -> list[str]:
    """A few rows of the slice, as a small table; of files that can be read at once where there are any."""
    sink = next((sink for sink in job.sinks if sinks.of(sink.type).IN_PLACE), job.sinks[0])
    table = next((s["table"] for s in result.sinks if (s.get("kind"), s["type"]) == ("sink", sink.type)), None)
    if table is None:
        return []
    values = {name: str(value) for name, value in job.slice.items()}
    try:
        names, rows = sinks.of(sink.type).preview(sink, table, result.run_id, values, partial(_shown, job), _ROWS)
    except (LakehouseError, OSError) as error:  # the run stands, a look at it is no part of it
        return [f"(its rows can't be shown: {error})"]
    return table_text(names, [[_cell(value) for value in row] for row in rows]) if rows else []


def _shown(job: Job, names: Sequence[str]) -> list[str]:
    """The columns of a sample: keys, predictions, what was kept, at most six of them; and the model's version."""
    parts = {name.lower(): part for part, given in enumerate((job.keys, (), job.keep, job.slice)) for name in given}
    own = [(parts.get(name.lower(), 1), name) for name in names if not name.startswith("_")]
    keys, predictions, kept = ([name for of, name in own if of == part] for part in range(3))
    version = next((name for name in names if name.lower() == MODEL_VERSION), MODEL_VERSION)
    return [*[*keys[:3], *predictions, *kept][:6], version]


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def table_text(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows under their names, right-aligned."""
    widths = [max(len(name), *(len(row[i]) for row in rows)) if rows else len(name) for i, name in enumerate(names)]
    return ["  " + "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in [names, *rows]]


def runs_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The ledger's records, newest first."""
    names = [
        "started (UTC)",
        "date",
        "status",
        "read",
        "scored",
        "quarantined",
        "rows/s",
        "core s/M rows",
        "model",
        "input",
        "seconds",
        "work",
        "run",
    ]
    cells = [
        [
            _moment(r["started_at"]),
            r["date"] or "",
            _status(r),
            _number(r["rows_read"]),
            _number(r["rows_scored"]),
            _number(r["rows_quarantined"]),
            _number(r["rows_per_second"]),
            _core_seconds(r),
            ledger.title_of(ledger.model_of(r)),
            f"{r['input_table']} v{r['input_version']}",
            " ".join(f"{stage} {value:.1f}" for stage, value in (r["seconds"] or {}).items()),
            _shares(r.get("work") or {}),
            r["run_id"],
        ]
        for r in rows
    ]
    return "\n".join(table_text(names, cells)) if rows else "no runs yet"


def _status(record: Mapping[str, Any]) -> str:
    """How a run ended, and what it was where it did not score the slice as it is."""
    if (former := restored_run(record)) is not None:
        return f"{record['status']}, {former[:8]} again"
    return f"{record['status']}, as of then" if record.get("as_of") else str(record["status"])


def _moment(at: datetime | None) -> str:
    """A time, nothing for one that isn't known, as in a record that was made again."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else ""


def _number(value: float | None) -> str:
    """A number without decimals, nothing for one that isn't known."""
    return "" if value is None else f"{value:,.0f}"


def _core_seconds(record: Mapping[str, Any]) -> str:
    """The seconds of processors that workers took for a million rows, nothing where they did not tell."""
    core, rows = (record.get("work") or {}).get("core"), record["rows_read"]
    return f"{core / rows * 1e6:.2f}" if core is not None and rows else ""


def _shares(work: Mapping[str, float]) -> str:
    """What the workers' time went to, in parts of a hundred."""
    parts = {name: seconds for name, seconds in work.items() if name != "core"}
    whole = sum(parts.values())
    return " ".join(f"{name} {seconds / whole:.0%}" for name, seconds in parts.items()) if whole else ""


def quarantine_text(found: Sequence[Mapping[str, Any]]) -> str:
    """Quarantined rows by run and reason, as a table; of an example its beginning, on one line."""
    names = ["run_id", "date", "status", "rule", "column", "rows", "superseded", "example"]
    said = {True: "yes", False: "", None: "unknown"}
    cells = [
        [str(row[name] if row[name] is not None else "") for name in names[:5]]
        + [f"{row['rows']:,}", said[row["superseded"]], _beginning(row["example"] or "")]
        for row in found
    ]
    return "\n".join(table_text(names, cells)) if found else "no rows are in quarantine"


_EXAMPLE = 60
"""Letters shown of an example."""


def _beginning(text: str) -> str:
    """Of what data may hold, a beginning that a terminal shows as it is."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return plain if len(plain) <= _EXAMPLE else plain[: _EXAMPLE - 1] + "…"


@contextmanager
def progress(stream: TextIO, quiet: bool, about: Mapping[str, Any] | None = None) -> Iterator[tuple[Say, Watch | None]]:
    """Show a run's steps and how far it is: a bar on a terminal, plain lines now and then otherwise.

    `about`: what tells the run from others, where its steps are logged as structured lines.
    """
    if about is not None:
        logs.line("started", "the run begins", about)
        yield steps.line_by_line(lambda event, said, values: logs.line(event, said, about, values))
    elif quiet:
        yield _warnings(stream), None
    elif stream.isatty():
        with _bar() as shown:
            yield shown
    else:
        yield steps.line_by_line(lambda event, said, values: print(said, file=stream, flush=True))


def _warnings(stream: TextIO) -> Say:
    def say(event: str, values: Mapping[str, Any]) -> None:
        if event in ("warning", "resumed", "environment"):  # the last is said before what takes minutes
            print(steps.in_words(event, values), file=stream, flush=True)

    return say


@contextmanager
def _bar() -> Iterator[tuple[Say, Watch]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("planning", total=None, rate="")
        started = [time.monotonic()]

        def say(event: str, values: Mapping[str, Any]) -> None:
            bar.console.print(steps.in_words(event, values), highlight=False, markup=False)
            if event == "units":
                started[0] = time.monotonic()
                bar.update(task, total=values["rows"], description=f"scoring {values['units']} units")

        def watch(units: int, rows: int) -> None:
            rate = rows / max(time.monotonic() - started[0], 1e-3)
            bar.update(task, completed=rows, rate=f"{units} units done, {rate:,.0f} rows/s")

        yield say, watch
