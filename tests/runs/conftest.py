"""Runs that are killed at a point."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lakehouse
from lakehouse.config import Job

DRIVER = Path(__file__).parents[1] / "kill_at.py"


@pytest.fixture(scope="module")
def killer() -> Iterator[subprocess.Popen[str]]:
    """The process that makes the runs which die."""
    found = os.pathsep.join([str(Path(lakehouse.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, str(DRIVER)], env={**os.environ, "PYTHONPATH": found}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        yield server
        server.stdin.close()


@pytest.fixture
def run_until(killer: subprocess.Popen[str]) -> Callable[..., None]:
    """run_until(point, job, engine="local"): run the job as its file says in a process that is killed there."""

    def run(point: str, job: Job, engine: str = "local") -> None:
        storage = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        killer.stdin.write(json.dumps([os.getcwd(), storage, point, job.path, job.date, engine]) + "\n")
        killer.stdin.flush()
        status, said = json.loads(killer.stdout.readline())
        assert status == -signal.SIGKILL, f"{point}: status {status}\n{said}"

    return run
