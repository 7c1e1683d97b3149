"""How a run grows: with rows and files, in warm processes, and with a long log. Ours only.

Time should grow by as much for each further row; a worker's memory and the driver's should not grow at all. In
processes of their own the runs take what starting takes, and some seconds are lost in that.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import agreement, tables
from tests.benchmarks.contestants import Task, ours
from tests.benchmarks.measuring import FailedRunError, Runner, Taken

LOG_FILES = 50_000
ROWS_A_FILE = 100
_LINKS = 1_000
MOST_FILES = 10_000
TURNS = 3
ENGINES = {"files": "Spark", "local": "local"}


@dataclass(frozen=True)
class Grown:
    """One size: what grows ("rows", "files" or "log"), by which engine, how large, and what it took, or why nothing."""

    kind: str
    contestant: str
    rows: int
    files: int
    taken: Taken | None
    problem: str = ""


Make = Callable[[str, str, str, Path], Task]
"""A task with its model and job files, by name, shape, model and table."""


def measure(runner: Runner, make: Make, rows: int, until: float) -> list[Grown]:
    """The log first, then rows, then files, the engines in turns; what there is no time for says so."""
    folder = runner.folder / "growth"
    folder.mkdir()
    found = [_dry_run(runner, make, folder, until)]
    whole = runner.folder / f"narrow_{rows}_16"
    if not whole.exists():
        tables.make(whole, tables.NARROW, rows, 16)
    for files in (1, 4, 16):
        table = folder / f"rows_{files}"
        tables.link(whole, table, files)
        found += _score(runner, make, "rows", table, until)
    for files in (10, 100, 1_000, MOST_FILES):
        table = folder / f"files_{files}"
        if time.monotonic() < until:
            total = max(min(rows // 4, MOST_FILES * ROWS_A_FILE), files)
            tables.make(table, tables.NARROW, total, files)
        found += _score(runner, make, "files", table, until)
    return found


def _score(runner: Runner, make: Make, kind: str, table: Path, until: float) -> list[Grown]:
    if not table.exists():
        return [Grown(kind, name, 0, int(table.name.split("_")[1]), None, "no time left") for name in ENGINES]
    task = make(f"grown_{table.name}", "narrow", "logistic", table)
    return [_one(kind, name, table, partial(_median, runner, name, task), until) for name in ENGINES]


def _median(runner: Runner, name: str, task: Task) -> Taken:
    """The median of runs in a warm process, but for one that makes it warm for this job; the highest peaks."""
    runner.again(name, task)
    runs = sorted((runner.again(name, task) for _ in range(TURNS)), key=lambda taken: taken.seconds)
    agreement.tidy(Path(task.out, name, "scores"))
    kinds = {kind for taken in runs for kind in taken.peaks}
    return replace(runs[TURNS // 2], peaks={kind: max(taken.peaks.get(kind, 0) for taken in runs) for kind in kinds})


def _dry_run(runner: Runner, make: Make, folder: Path, until: float) -> Grown:
    """A dry run over a log of 50,000 files, which are links to a few."""
    few, table = folder / "few", folder / "log"
    tables.make(few, tables.NARROW, LOG_FILES // _LINKS * ROWS_A_FILE, LOG_FILES // _LINKS)
    tables.link(few, table, LOG_FILES // _LINKS, _LINKS)
    task = make("grown_log", "narrow", "logistic", table)
    command = [*ours.command(task, "unchanged"), "--dry-run"]
    return _one("log", "local", table, partial(runner.process, "local", command), until)


def _one(kind: str, name: str, table: Path, run: Callable[[], Taken], until: float) -> Grown:
    counts = [_rows(add) for add in tables.added(table)]
    size = (sum(counts), len(counts))
    if time.monotonic() > until:
        return Grown(kind, name, *size, None, "no time left")
    try:
        taken = run()
    except FailedRunError as error:
        return Grown(kind, name, *size, None, f"failed: {str(error)[:200]}")
    print(
        f"    {kind}, {name}, {size[0]:,} rows, {size[1]:,} files: {taken.seconds:.2f} s", file=sys.stderr, flush=True
    )
    return Grown(kind, name, *size, taken)


def _rows(add: dict[str, Any]) -> int:
    return int(json.loads(add["stats"])["numRecords"])
