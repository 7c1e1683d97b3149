"""`lakehouse sweep`: what finished and dead runs left behind goes, whatever a run still needs stays."""

from __future__ import annotations

import functools
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

from lakehouse import checks
from lakehouse.connectors import delta
from lakehouse.engines import local, processes
from lakehouse.errors import Unavailable
from lakehouse.operations import sweep as sweeping
from lakehouse.runs import lease
from lakehouse.storage import locate
from tests.command import run
from tests.conftest import read, score, write
from tests.runs.test_exactly_once import in_the_middle

DEAD = "00000000-0000-4000-8000-00000000dead"


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


def swept(job, take_away=True):
    found = sweeping.sweep(job, take_away=take_away)
    return [(f.table.rsplit("/", 1)[1], f.run_id, f.files, f.bytes, f.kept and f.kept.split(" ")[0]) for f in found]


def lease_of(host: str = "", process: str = "", **more: Any) -> dict[str, Any]:
    said = {"host": host or socket.gethostname(), "pid": 7, "at": "2000-01-01T00:00:00+00:00", "state": "nowhere/state"}
    return {**said, "process": process, **more}


@pytest.mark.quick("disk")
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


@pytest.mark.quick("disk")
def test_what_a_second_attempt_of_a_finished_runs_task_left_goes(job, lake):
    result = score(job)
    leave(f"{lake}/scores", result.run_id)
    assert swept(job) == [("scores", result.run_id, 1, 3, None)]
    assert read(f"{lake}/scores").num_rows == 2


@pytest.mark.quick("disk")
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


BOOT, NAMESPACE, PID, STARTED = processes.own_name().split("/")


@pytest.mark.parametrize(
    ("said", "age", "kept"),
    [
        ({"process": processes.own_name()}, 0, "in"),
        ({"process": f"{BOOT}/{NAMESPACE}/{2**22 + 1}/{STARTED}"}, 0, None),  # no such process
        ({"process": f"{BOOT}/{NAMESPACE}/{PID}/1"}, 0, None),  # another one has its number now
        ({"process": f"{BOOT}/1/{2**22 + 1}/{STARTED}"}, 0, "in"),
        ({"process": f"other/{NAMESPACE}/{2**22 + 1}/{STARTED}"}, 0, "in"),
        ({}, 0, "in"),
        ({"process": processes.own_name()}, 11, None),
        ({"host": "elsewhere"}, 0, "in"),
        ({"host": "elsewhere"}, 11, None),
        ({"host": "elsewhere", "at": "2999-01-01T00:00:00+00:00"}, 11, None),
        ({"waits": True}, 0, None),
    ],
    ids=["alive", "process gone", "number taken", "another container", "another boot", "no process told", "not renewed",
         "on another machine", "not renewed there", "its clock is ahead", "its run is over"],
)  # fmt: skip
@pytest.mark.parametrize("lake", ["disk"], indirect=True)
@pytest.mark.quick("disk-alive", "disk-process gone", "disk-another container", "disk-not renewed")
def test_a_lease_tells_who_is_alive(job, lake, said, age, kept):
    """By the storage's clock: what the machine thought that it is plays no part."""
    score(job)
    leave(f"{lake}/scores", **lease_of(**said))
    written = Path(f"{lake}/scores/run-{DEAD}/{lease.NAME}")
    os.utime(written, (written.stat().st_mtime - 60 * age,) * 2)
    assert swept(job) == [("scores", DEAD, 1, 3, kept)]
    assert Path(f"{lake}/scores/run-{DEAD}").exists() == (kept is not None)
    assert [p.name for p in Path(f"{lake}/scores").glob("_lakehouse*")] == []


@pytest.mark.long
@pytest.mark.parametrize("lake", ["S3"], indirect=True)
def test_a_lease_on_s3_ends_by_the_storages_clock(job, lake, monkeypatch):
    score(job)
    leave(f"{lake}/scores", **lease_of("elsewhere"))
    assert swept(job) == [("scores", DEAD, 1, 3, "in")]
    monkeypatch.setattr(lease, "LASTS", timedelta(seconds=-1))
    assert swept(job) == [("scores", DEAD, 1, 3, None)]


@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_a_run_that_wakes_up_while_it_is_swept_keeps_what_it_publishes(job, lake, monkeypatch):
    """As after a night in which the machine slept: its lease is old, and it goes on."""
    score(job)
    tally, found = checks.tally, []

    def asleep(manifest):
        with monkeypatch.context() as patched:
            patched.setattr(lease, "LASTS", timedelta(seconds=-1))
            awake = functools.partial(patched.setattr, lease, "LASTS", timedelta(minutes=10))
            in_the_middle(patched, sweeping, "_look", awake, late=True)
            found.extend(swept(job))
        return tally(manifest)

    monkeypatch.setattr(checks, "tally", asleep)
    result = score(job, rescore=True)
    assert (found[0][1], found[0][4], result.status) == (result.run_id, "in", "published")
    assert read(f"{lake}/scores").num_rows == 2


@pytest.mark.quick("disk")
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


@pytest.mark.quick("disk")
def test_a_run_that_waits_in_another_state_keeps_its_files(job, make_job, lake, monkeypatch):
    """Two jobs, one table, two states: what one left half way is not swept by the other, nor once it is finished."""
    slices = {"predictions": {"p": 0}, "checks": {"quarantine": {"max_fraction": 0.5}}, "lake": lake}
    other = make_job(job.model.uri, job="other", state=f"{lake}/elsewhere", slice={"part": "b"}, **slices)
    mine = make_job(job.model.uri, slice={"part": "a"}, **slices)
    score(mine)
    with monkeypatch.context() as patched:
        patched.setattr(delta, "commit", lambda *_, **__: (_ for _ in ()).throw(delta.Conflict("busy")))
        patched.setattr(delta, "ATTEMPTS", 1)
        with pytest.raises(Unavailable, match="goes on from here"):
            score(other)
    assert [found[0::4] for found in swept(mine)] == [("scores", "waits"), ("scores_quarantine", "waits")]
    monkeypatch.setattr(lease, "LASTS", timedelta(seconds=-1))  # however long it takes
    assert {kept for *_, kept in swept(mine)} == {"waits"}
    assert score(other).status == "published"
    assert (swept(mine), swept(other), read(f"{lake}/scores").num_rows) == ([], [], 4)


@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_a_run_that_is_held_in_another_state_keeps_its_files_until_it_is_given_up(job, make_job, lake, capfd):
    """Two jobs, one table, two states: what a person has not looked at yet is not swept by the other."""
    slices = {"predictions": {"p": 0}, "checks": {"quarantine": {"max_fraction": 0.5}}, "lake": lake}
    mine = make_job(job.model.uri, slice={"part": "a"}, **slices)
    other = make_job(job.model.uri, job="other", state=f"{lake}/elsewhere", slice={"part": "b"}, **slices)
    score(mine)
    held = score(other, hold=True)
    assert {(kept, files) for _, run, files, _, kept in swept(mine) if run == held.run_id} == {("held", 1)}
    assert run(capfd, "publish", "conf/other.yaml", "--run", held.run_id, "--engine", "local").code == 0
    assert (swept(mine), swept(other), read(f"{lake}/scores").num_rows) == ([], [], 4)
    again = score(other, hold=True, rescore=True)
    assert run(capfd, "discard", "conf/other.yaml", "--run", again.run_id).code == 0
    assert (swept(mine), swept(other), read(f"{lake}/scores").num_rows) == ([], [], 4)


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
