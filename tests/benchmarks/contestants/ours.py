"""`lakehouse score`, with ten row rules, drift and lineage. Cold it is the command line itself (see `command`)."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.contestants import Score, Setting, Task

ENGINES = {"files": "spark", "frame": "spark", "local": "local", "unchanged": "local"}


def conf(task: Task, variant: str) -> Path:
    """The job file of a task; UNCHANGED is a run of the local engine's job once more."""
    return Path(task.jobs, f"{task.name}_{'local' if variant == 'unchanged' else variant}.yaml")


def command(task: Task, variant: str) -> list[str]:
    """The command line that scores the task."""
    again = [] if variant == "unchanged" else ["--rescore"]
    return [
        sys.executable,
        "-m",
        "lakehouse.cli",
        "score",
        str(conf(task, variant)),
        "--engine",
        ENGINES[variant],
        *again,
    ]


_open = ExitStack()
"""The session, which lives as long as the process."""


def start(variant: str, setting: Setting) -> Score:
    """Open a session where the engine is Spark."""
    from lakehouse import pipeline
    from lakehouse.config import load_job
    from lakehouse.engines import spark as engine
    from lakehouse.runs import ledger

    kind = ENGINES[variant]
    if kind == "spark":
        _open.enter_context(engine.session(delta=True))

    def score(task: Task) -> None:
        job = load_job(conf(task, variant), date=None, environ=os.environ)
        request = pipeline.Request(kind, ledger.now(), pipeline.new_run_id(), rescore=True)
        found = pipeline.score(job, request)
        wanted = {"local": None, "files": "files", "frame": "frame"}[variant]
        if wanted is not None and found.carrier != wanted:
            raise RuntimeError(f"carrier {found.carrier} instead of {wanted}")

    return score
