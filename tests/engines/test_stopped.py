"""Runs that are stopped from outside, and what dead processes leave in the temporary directory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.engines import processes
from tests.conftest import score, version, write
from tests.runs.test_exactly_once import unfinished


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"]), x)


@pytest.fixture
def job(make_job, uri):
    write("lake/features", pa.table({"id": pa.array([1, 2, None]), "a": [0.1, 0.2, 0.3]}))
    return make_job(uri, predictions={"p": 0}, checks={"quarantine": {"max_fraction": 0.5}})


SLEEPING = """
import sys, time
from {module} import {name} as original
import {module} as module
def sleeping(*args):
    if {when}:
        print("ASLEEP", flush=True)
        time.sleep(100)
    return original(*args)
module.{name} = sleeping
from lakehouse.cli import main
main(["score", "{conf}", "--engine", "local", "--result", "result.json"])
"""
POINTS = {
    "scoring": ("lakehouse.scoring.staging", "score_rows", "True", "stopped: nothing of this run was published"),
    "publishing": ("lakehouse.sinks.delta", "publish", "args[0].kind == 'sink'",
                   "stopped: lake/scores_quarantine is published; the next run of this job finishes run "),
    "published": ("lakehouse.runs.evidence", "finish", "True", "stopped: all commits of the run are made"),
}  # fmt: skip


def asleep(job, point: str) -> subprocess.Popen[str]:
    """A run that sleeps at this point."""
    module, name, when, _ = POINTS[point]
    code = SLEEPING.format(module=module, name=name, when=when, conf=job.path)
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout.readline() == "ASLEEP\n"
    return run


@pytest.mark.parametrize(
    ("how", "point", "code"),
    [(signal.SIGINT, "scoring", 130), (signal.SIGINT, "publishing", 130), (signal.SIGTERM, "scoring", 143),
     (signal.SIGTERM, "published", 143)],
)  # fmt: skip
@pytest.mark.long
def test_a_run_that_is_stopped_says_what_it_has_published(job, how, point, code):
    run = asleep(job, point)
    run.send_signal(how)
    out, err = run.communicate(timeout=60)
    status = "published" if point == "published" else "failed"
    said = [line for line in err.splitlines() if line.startswith(f"{status}: ")]
    assert (run.returncode, out, len(said), POINTS[point][3] in said[0], "Traceback" in err) == (
        code,
        "",
        1,
        True,
        False,
    )
    told = json.loads(Path("result.json").read_text())
    rows = 2 if point == "published" else 0
    assert (told["status"], told["rows_scored"], POINTS[point][3] in told["message"]) == (status, rows, True)
    assert (version("lake/scores"), unfinished(job)) == {
        "scoring": (-1, 0), "publishing": (0, 1), "published": (1, 1),
    }[point]  # fmt: skip
    assert score(job).status == "published"
    assert (version("lake/scores"), unfinished(job)) == (1, 0)


@pytest.mark.long
def test_the_next_run_removes_what_a_killed_one_left_in_the_temporary_directory(job, tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with asleep(job, "scoring") as run:
        run.kill()
    (left,) = folder.glob("lakehouse-*")
    boot, _, _, started = processes.own_name().split("/")
    others = {"lakehouse-of-nobody": None, "lakehouse-alive": processes.own_name(), "spark-x": None,
              "lakehouse-elsewhere": f"{boot}/1/{2**22 + 1}/{started}"}  # fmt: skip
    for name, owner in others.items():
        (folder / name).mkdir()
        (folder / name / ".owner").write_text(owner) if owner else None
    command = [sys.executable, "-m", "lakehouse.cli", "score", job.path, "--engine", "local"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert (left.exists(), {path.name for path in folder.iterdir()} & {left.name, *others}) == (False, set(others))
    assert len(list(folder.glob("lakehouse-*"))) == 3  # its own is gone with it


@pytest.mark.slow
@pytest.mark.long
def test_what_spark_keeps_in_the_temporary_directory_goes_with_the_process(job, tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    command = [sys.executable, "-m", "lakehouse.cli", "score", job.path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr if done.returncode else "") == (0, "")
    assert [path.name for path in folder.iterdir() if path.name.startswith(("spark", "blockmgr", "artifact"))] == []
