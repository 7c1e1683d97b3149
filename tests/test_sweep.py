"""`lakehouse sweep`: what finished and dead runs left behind goes, whatever a run still needs stays."""

from __future__ import annotations

import json
import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from sklearn.linear_model import LinearRegression

from lakehouse import delta, lease, ledger
from lakehouse.engines import local
from lakehouse.errors import Unavailable
from lakehouse.storage import locate
from lakehouse.sweep import sweep
from tests.conftest import read, score, write

DEAD = "00000000-0000-4000-8000-00000000dead"


@pytest.fixture(params=["disk", "S3"])
def lake(request):
    return "lake" if request.param == "disk" else request.getfixturevalue("bucket")


@pytest.fixture
def job(make_job, register, monkeypatch, lake):
    monkeypatch.setattr(local, "cores", lambda: 1)
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    uri = register(LinearRegression().fit(x, x["a"]), x)
    write(f"{lake}/features", pa.table({"id": pa.array([1, 2, None]), "a": [0.1, 0.2, 0.3]}))
    return make_job(uri, lake=lake, predictions={"p": 0}, checks={"quarantine": {"max_fraction": 0.5}})


def leave(table: str, run: str = DEAD, **said: Any) -> None:
    """A staged file of a run, and its lease if it says anything."""
    folder = locate(table).join(f"run-{run}")
    files = {"scored-00000-x.parquet": b"abc", **({lease.NAME: json.dumps(said).encode()} if said else {})}
    for name, content in files.items():
        if not folder.remote:
            Path(folder.path).mkdir(parents=True, exist_ok=True)
        with folder.filesystem().open_output_stream(folder.join(name).path) as stream:
            stream.write(content)


def swept(job, take_away=True, now=None):
    found = sweep(job, now or ledger.now(), take_away=take_away)
    return [(f.table.rsplit("/", 1)[1], f.run_id, f.files, f.bytes, f.kept and f.kept.split(" ")[0]) for f in found]


def lease_of(pid: int, host: str = "", age: int = 0) -> dict[str, Any]:
    at = ledger.now() - timedelta(minutes=age)
    return {"host": host or socket.gethostname(), "pid": pid, "at": at.isoformat(), "state": "nowhere/state"}


def test_published_rows_of_any_version_stay_and_a_dead_runs_go(job, lake):
    score(job)
    score(job, rescore=True)
    before = read(f"{lake}/scores"), read(f"{lake}/scores", 1)
    for table in ("scores", "scores_quarantine"):
        leave(f"{lake}/{table}")
    expected = [(table, DEAD, 1, 3, None) for table in ("scores", "scores_quarantine")]
    assert swept(job, take_away=False) == expected == swept(job)
    assert swept(job) == []
    after = read(f"{lake}/scores"), read(f"{lake}/scores", 1)
    assert [b.equals(a) for b, a in zip(before, after, strict=True)] == [True, True]
    assert score(job).status == "unchanged"


def test_what_a_second_attempt_of_a_finished_runs_task_left_goes(job, lake):
    result = score(job)
    leave(f"{lake}/scores", result.run_id)
    assert swept(job) == [("scores", result.run_id, 1, 3, None)]
    assert read(f"{lake}/scores").num_rows == 2


def test_a_run_in_progress_keeps_its_files_and_has_a_lease_while_it_works(job, lake, monkeypatch):
    seen = []

    def look(*args):
        seen.append(swept(job))
        return run(*args)

    run = local.run
    monkeypatch.setattr(local, "run", look)
    result = score(job)
    assert seen == [[(table, result.run_id, 0, 0, "in") for table in ("scores", "scores_quarantine")]]
    assert lease.read(locate(f"{lake}/scores"), result.run_id) is None
    assert swept(job) == []


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"pid": os.getpid()}, "in"),
        ({"pid": 2**22 + 1}, None),  # no such process
        ({"pid": os.getpid(), "age": 11}, None),
        ({"pid": 2**22 + 1, "host": "elsewhere"}, "in"),
        ({"pid": 2**22 + 1, "host": "elsewhere", "age": 11}, None),
    ],
    ids=["alive", "process gone", "not renewed", "on another machine", "not renewed there"],
)
@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_a_lease_tells_who_is_alive(job, lake, said, kept):
    score(job)
    leave(f"{lake}/scores", **lease_of(**said))
    assert swept(job) == [("scores", DEAD, 1, 3, kept)]
    assert Path(f"{lake}/scores/run-{DEAD}").exists() == (kept is not None)


def test_a_run_that_waits_to_be_finished_keeps_its_files(job, lake, monkeypatch):
    def broken(*_, **__):
        raise delta.Conflict("busy")

    with monkeypatch.context() as patched:
        patched.setattr(delta, "ATTEMPTS", 1)
        patched.setattr(delta, "commit", broken)
        with pytest.raises(Unavailable, match="goes on from here"):
            score(job)
    assert {kept for *_, kept in swept(job)} == {"waits"}
    assert score(job).status == "published"
    assert (swept(job), read(f"{lake}/scores").num_rows) == ([], 2)


def test_an_intent_in_another_jobs_state_is_found_by_the_lease(job, make_job, lake, monkeypatch):
    """Two jobs, one table, two states: what one left half way is not swept by the other."""
    score(job)
    said = lease_of(2**22 + 1)
    state = locate(f"{lake}/elsewhere")
    leave(f"{lake}/scores", **{**said, "state": state.uri})
    intent = state.join("intents", "x", f"{DEAD}.json")
    if not intent.remote:
        Path(intent.path).parent.mkdir(parents=True)
    with intent.filesystem().open_output_stream(intent.path) as stream:
        stream.write(b"{}")
    assert swept(job) == [("scores", DEAD, 1, 3, "waits")]


def test_without_a_table_what_a_dead_run_staged_goes(job, lake):
    leave(f"{lake}/scores")
    assert swept(job) == [("scores", DEAD, 1, 3, None)]
    assert not Path("lake/scores").exists()


@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_a_vacuum_that_retains_nothing_during_a_run_ends_in_a_clear_stop(job, lake, monkeypatch):
    score(job)
    write("lake/features", pa.table({"id": [7], "a": [0.7]}), mode="overwrite")
    run = local.run

    def then_vacuum(*args):
        manifest = run(*args)
        DeltaTable("lake/scores").vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)
        return manifest

    monkeypatch.setattr(local, "run", then_vacuum)
    with pytest.raises(Unavailable, match=r"1 staged files are missing or have another size"):
        score(job)
    monkeypatch.setattr(local, "run", run)
    assert read("lake/scores")["id"].to_pylist() == [1, 2]
    assert score(job).status == "published"
    assert read("lake/scores")["id"].to_pylist() == [7]
