"""The benchmark: `lakehouse` against those who do the same, on the same rows, in turns, warm and cold.

Makes its tables and models, runs everybody, and writes Markdown, JSON and a chart to tests/benchmarks/results. Every
figure is a median of turns that were taken one after the other in this run; what was written is held against the
floor's, row by row.

    python -m tests.benchmarks [--full] [--rows N] [--turns N] [--seconds N] [--results FOLDER]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lakehouse.engines import local, runtime
from tests.benchmarks import growth, machine, models, peers, report, tables, workloads
from tests.benchmarks.contestants import ALL, Setting, Task
from tests.benchmarks.measuring import Runner, running
from tests.benchmarks.taking_turns import Record, Tasks, take_turns
from tests.benchmarks.workloads import Workload

RESULTS = Path(__file__).with_name("results")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--full", action="store_true", help="all models, shapes and contestants, within half an hour")
    parser.add_argument("--rows", type=int, help="of the largest table; by default 1,000,000, or 4,000,000 with --full")
    parser.add_argument("--turns", type=int, help="at most so many")
    parser.add_argument("--seconds", type=float, help="no turn begins that would end later")
    parser.add_argument("--only", nargs="+", help="contestants, by the names in contestants/__init__.py")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(argv)
    rows = given.rows or (4_000_000 if given.full else 1_000_000)
    seconds = given.seconds or (workloads.FULL_S if given.full else workloads.SHORT_S)
    asked = workloads.full(rows) if given.full else workloads.short(rows)
    if given.turns:
        asked = [replace(one, turns=given.turns) for one in asked]
    if given.only:
        asked = [replace(w, contestants=tuple(n for n in w.contestants if n in ("floor", *given.only))) for w in asked]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    begun = machine.describe(_command(sys.argv[1:] if argv is None else argv))
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        found = measure(asked, Path(folder), time.monotonic() + seconds, given.full, rows)
    report.write(given.results, "full" if given.full else "short", begun | machine.load_at_end(), *found)


def _command(arguments: Sequence[str]) -> str:
    """What to type for a run like this one."""
    short = {"": "make bench", "--full": "make bench FULL=1"}
    given = " ".join(arguments)
    return short.get(given, f"python -m tests.benchmarks {given}")


def measure(
    asked: Sequence[Workload], folder: Path, until: float, full: bool, rows: int
) -> tuple[list[tuple[Workload, dict[str, Record]]], list[growth.Grown]]:
    """Everything, in order; workloads and growth."""
    absent, pythons = {}, {False: Path(sys.executable)}
    if any(ALL[name].peer for workload in asked for name in workload.contestants):
        python, why = peers.python()
        if python is None:
            absent = {name: f"not installed: {why}" for name, one in ALL.items() if one.peer}
        else:
            pythons[True] = python
    setting = Setting(local.cores(), ",".join(map(str, runtime.jars())), f"sqlite:///{folder}/mlflow.db")
    found, made = [], _Made(folder, setting.tracking)
    with running(setting, folder, pythons) as runner:
        left = sum(workload.share for workload in asked) * (1.2 if full else 1.0)  # growth has the rest
        for workload in asked:
            mine = time.monotonic() + (until - time.monotonic()) * workload.share / left
            left -= workload.share
            found.append((workload, _take(workload, made, runner, absent, mine)))
            later = {ALL[name].home for one in asked[len(found) :] for name in one.contestants if one.mode == "warm"}
            for home in set(runner.warm) - later:
                runner.stop(home)
        grown = growth.measure(runner, made.task, rows, until) if full else []
    return found, grown


def _take(workload: Workload, made: _Made, runner: Runner, absent: dict[str, str], until: float) -> dict[str, Record]:
    print(f"{workload.name}: {workload.rows:,} rows, {workload.mode}", file=sys.stderr, flush=True)
    task = made.task(workload.name, workload.shape, workload.model, made.table(workload))
    tasks, warming = _outputs(task, workload), {}
    if workload.mode == "warm":
        warm_up = made.task(f"{workload.name}_warm_up", workload.shape, workload.model, made.warm_up(workload))
        warming = _outputs(warm_up, workload)
    return take_turns(workload, tasks, warming, runner, absent, until)


def _outputs(task: Task, workload: Workload) -> Tasks:
    return {name: replace(task, out=str(Path(task.out, name, "scores"))) for name in workload.contestants}


class _Made:
    """Tables, models and job files, each made when it is first asked for."""

    def __init__(self, folder: Path, tracking: str):
        self.folder, self.tracking = folder, tracking
        self.models: dict[tuple[str, str], tuple[str, str]] = {}
        (folder / "jobs").mkdir()

    def table(self, workload: Workload) -> Path:
        path = self.folder / f"{workload.shape}_{workload.rows}_{workload.files}"
        if not path.exists():
            tables.make(path, tables.SHAPES[workload.shape], workload.rows, workload.files)
        return path

    def warm_up(self, workload: Workload) -> Path:
        """An eighth of the rows; of a table in one file or in many, of the same rows in 16."""
        path = self.folder / f"{workload.shape}_{workload.rows}_warm_up"
        if not path.exists():
            tables.link(self.table(replace(workload, files=16)), path, 2)
        return path

    def task(self, name: str, shape: str, model: str, table: Path) -> Task:
        if (model, shape) not in self.models:
            self.models[model, shape] = models.register(model, tables.SHAPES[shape], self.tracking, self.folder)
        uri, files = self.models[model, shape]
        features, form = tables.SHAPES[shape].features, tables.SHAPES[shape].form
        out = self.folder / "out" / name
        out.mkdir(parents=True, exist_ok=True)
        task = Task(name, str(table), features, form, uri, files, str(self.folder / "jobs"), str(out))
        models.write_jobs(task, shape, self.tracking, out)
        return task


if __name__ == "__main__":
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    main()
