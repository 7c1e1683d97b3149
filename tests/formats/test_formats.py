"""What older programs stored: today's code goes on from it, and refuses by name what a newer one has stored."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lakehouse import formats
from lakehouse.config import Job, load_job
from lakehouse.connectors.messages import Range
from lakehouse.engines import local
from lakehouse.errors import Blocked, ConfigError
from lakehouse.operations.lookup import status
from lakehouse.operations.replay import replay
from lakehouse.operations.sweep import sweep
from lakehouse.pipeline import Request, new_run_id
from lakehouse.planning import naming
from lakehouse.runs import evidence, lease, ledger, tables
from lakehouse.sinks.target import Target
from lakehouse.storage import locate
from tests import command
from tests.conftest import read, score
from tests.formats.make import BLOCKED, PLACE, PUBLISHED, ROWS, WAITING

OLDEST = "unversioned"
ARCHIVES = [
    pytest.param(path, id=name, marks=() if name == OLDEST else pytest.mark.long)
    for path in sorted(Path(__file__).parent.glob("*.tar.xz"))
    for name in [path.name.removesuffix(".tar.xz")]
]
IDENTITY = "scores/score_date="


def unpack(archive: Path, folder: Path) -> None:
    """The example as if its runs had been made in this folder: with its path in files and in names made of paths."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        content, at = path.read_bytes(), path.stat()
        if PLACE.encode() in content:
            path.write_bytes(content.replace(PLACE.encode(), str(folder).encode()))
            os.utime(path, (at.st_atime, at.st_mtime))
    slice_of = f"{folder}/lake/scores\n{IDENTITY}{WAITING}"
    (intents,) = (folder / "lake/scores_state/intents").iterdir()
    intents.rename(intents.with_name(hashlib.sha256(slice_of.encode()).hexdigest()[:24]))


@pytest.fixture(params=ARCHIVES)
def job(request, tmp_path, monkeypatch) -> Callable[..., Job]:
    """The example's job of a day."""
    unpack(request.param, tmp_path)
    monkeypatch.chdir(tmp_path)

    def load(day: str, *overrides: str) -> Job:
        return load_job(Path("conf/scores.yaml"), date=day, overrides=overrides, environ=os.environ)

    return load


def records(job: Job) -> list[dict[str, Any]]:
    return ledger.runs(naming.state_of(job), job.job)


def one(pattern: str) -> Path:
    (found,) = Path("lake").glob(pattern)
    return found


def edit(path: Path, **values: Any) -> None:
    """Set keys of a stored JSON object."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_published_day_is_unchanged(job, monkeypatch):
    monkeypatch.setattr(local, "run", lambda *_: pytest.fail("scored again"))
    files = sorted(Path("lake/scores/_delta_log").iterdir())
    for path in Path("lake").rglob("_lease.json"):
        path.touch()  # the run that waits is taken for one in progress, and left alone
    assert score(job(PUBLISHED)).status == "unchanged"
    assert sorted(Path("lake/scores/_delta_log").iterdir()) == files


def test_a_run_that_waits_is_finished_without_scoring(job, monkeypatch):
    monkeypatch.setattr(local, "run", lambda *_: pytest.fail("scored again"))
    assert status(job(WAITING))[0].status == "partial"
    result = score(job(WAITING))
    assert (result.status, result.rows_scored, result.rows_quarantined) == ("published", ROWS - 3, 3)
    assert sum(str(day) == WAITING for day in read("lake/scores")["score_date"].to_pylist()) == ROWS - 3
    assert not list(Path("lake").rglob("intents/*/*.json"))
    assert not list(Path("lake").rglob("_lease.json"))
    assert {r["status"] for r in records(job(WAITING))} == {"published", "blocked"}
    assert f"{ROWS} rows" in evidence.page(job(WAITING), result.run_id)[1].decode()
    assert result.run_id in read("lake/scores_state/profiles")["run_id"].to_pylist()


def test_set_aside_rows_are_replayed(job):
    (record,) = [r for r in records(job(PUBLISHED)) if r["status"] == "published"]
    request = Request("local", ledger.now(), new_run_id())
    done = replay(job(PUBLISHED, "features.nulls=model"), record, request)
    assert (done.status, done.rows_read, done.rows_scored) == ("published", 3, 3)


def test_a_blocked_day_is_blocked_again_and_published_when_more_may_be_set_aside(job):
    with pytest.raises(Blocked, match="10 of 40 rows"):
        score(job(BLOCKED))
    result = score(job(BLOCKED, "checks.quarantine.max_fraction=0.3"))
    assert (result.status, result.rows_scored) == ("published", ROWS - 10)


def test_a_first_runs_baseline_is_what_later_runs_are_held_against(job):
    result = score(job(WAITING, "model.batch_rows=10"), rescore=True)
    facts = evidence.facts_of(naming.state_of(job(WAITING)), ledger.record_of(
        naming.state_of(job(WAITING)), "scores", result.run_id))  # fmt: skip
    assert facts["drift"]["baseline"].startswith("first published run")
    assert [c["psi"] for c in facts["drift"]["columns"]] == [pytest.approx(0, abs=0.5)] * 2


def test_commands_read_what_there_is(job, capfd):
    listed = json.loads(command.run(capfd, "runs", "conf/scores.yaml", "--json").out)
    assert [run["status"] for run in listed] == ["blocked", "published"]
    page = command.run(capfd, "report", "conf/scores.yaml", "--run", listed[1]["run_id"], "--out", "page.html")
    assert page.code == 0
    assert "40 rows" in Path("page.html").read_text()
    aside = json.loads(command.run(capfd, "quarantine", "conf/scores.yaml", "--json").out)
    assert [(row["status"], row["rows"]) for row in aside] == [("blocked", 10), ("published", 3)]
    (left,) = {x.run_id for x in sweep(job(WAITING), take_away=True) if x.kept}
    assert left == json.loads(one("scores_state/intents/*/*.json").read_text())["run_id"]


def test_old_and_new_records_are_in_one_table(job):
    old = read("lake/scores_state/runs")
    before = old["format"].to_pylist() if "format" in old.column_names else [None, None]
    score(job(WAITING))
    now = read("lake/scores_state/runs")["format"].to_pylist()
    assert sorted(now, key=str) == sorted([formats.RECORD.version, *before], key=str)


def test_an_old_lease_that_is_renewed_is_alive_and_one_of_long_ago_is_not(job):
    table, path = locate("lake/scores"), one("scores/run-*/_lease.json")
    run = path.parent.name.removeprefix("run-")
    assert lease.alive_runs(table, {run: lease.read(table, run)}) == {}
    path.touch()
    assert lease.alive_runs(table, {run: lease.read(table, run)}) == {run: "in progress on elsewhere, process 1"}


NEWER = "written by a newer lakehouse; this one reads formats up to"


def test_a_newer_intent_is_refused_by_its_own_slice_and_left_alone_by_others(job, capfd):
    path = one("scores_state/intents/*/*.json")
    edit(path, format=formats.INTENT.version + 1)
    with pytest.raises(ConfigError, match=NEWER) as refused:
        score(job(WAITING))
    assert refused.value.exit_code == 2
    assert str(refused.value).startswith(f"{path} holds an intent of format {formats.INTENT.version + 1}, ")
    assert str(refused.value).endswith("upgrade lakehouse")
    assert command.run(capfd, "status", "conf/scores.yaml", "--date", WAITING).code == 2
    assert score(job(PUBLISHED)).status == "unchanged"
    assert path.exists()


@pytest.mark.parametrize("new", ["range", "streams"])
def test_an_intent_with_positions_or_streams_is_refused_by_programs_that_know_neither(new, monkeypatch):
    place = {"kind": "sink", "uri": "t", "write": "append", "identity": "i", "job": "j", "slice": {}, "generation": 1}
    target = Target(**place, fingerprint="", range=Range("s", {}, {"s/0": 7}) if new == "range" else None)
    streams = ({"type": "a system"},) if new == "streams" else ()
    stored = json.dumps(ledger.as_json(ledger.Intent("run", "i", "t", "published", (target,), {}, streams)))
    read_again = formats.parse(formats.INTENT, stored, "here", ledger.from_json)
    assert (read_again.targets[0].range, read_again.streams) == (target.range, streams)
    monkeypatch.setattr(formats, "INTENT", replace(formats.INTENT, version=1))
    with pytest.raises(ConfigError, match=NEWER):
        formats.parse(formats.INTENT, stored, "here", ledger.from_json)


def test_a_newer_run_record_is_refused_where_it_is_read_and_stops_no_run(job, capfd, monkeypatch):
    with monkeypatch.context() as later:
        later.setattr(formats, "RECORD", replace(formats.RECORD, version=formats.RECORD.version + 1))
        score(job(WAITING))
    refused = command.run(capfd, "runs", "conf/scores.yaml")
    assert refused.code == 2
    assert "lake/scores_state/runs (run " in refused.err
    assert f" holds a record of format {formats.RECORD.version + 1}, {NEWER}" in refused.err
    assert score(job(BLOCKED, "checks.quarantine.max_fraction=0.3")).status == "published"


def test_newer_facts_are_refused(job, capfd):
    (record,) = [r for r in records(job(PUBLISHED)) if r["status"] == "published"]
    path = Path(f"lake/scores_state/reports/{record['run_id']}.json")
    edit(path, format=formats.FACTS.version + 1)
    with pytest.raises(ConfigError, match=f"^{path} holds facts of format .* {NEWER}"):
        evidence.facts_of(naming.state_of(job(PUBLISHED)), record)


@pytest.mark.parametrize("inner", [False, True])
def test_a_newer_baseline_is_refused_where_drift_blocks(job, inner):
    path = one("scores_state/baselines/*.json")
    kept = json.loads(path.read_text())
    for part in kept["baseline"].values() if inner else [kept]:
        part["version" if inner else "format"] = formats.BASELINE.version + 1
    path.write_text(json.dumps(kept))
    said = (
        "the baseline has version .*: upgrade lakehouse" if inner else f"^{path} holds a baseline of format .* {NEWER}"
    )
    with pytest.raises(ConfigError, match=said):
        score(job(WAITING, "checks.drift.action=block"), rescore=True)


def test_a_newer_lease_is_not_swept_away(job, capfd):
    edit(one("scores/run-*/_lease.json"), format=formats.LEASE.version + 1)
    with pytest.raises(ConfigError, match=f"_lease.json holds a lease of format .* {NEWER}"):
        sweep(job(WAITING), take_away=True)


def test_keys_that_are_not_known_are_ignored(job):
    path = one("scores_state/intents/*/*.json")
    intent = json.loads(path.read_text())
    for target in intent["targets"]:
        target["hint"] = "new"
        for file in target["files"]:
            file["hint"] = "new"
    edit(path, hint="new", targets=intent["targets"])
    for stored in ("scores/run-*/_lease.json", "scores_quarantine/run-*/_lease.json", "scores_state/baselines/*.json"):
        edit(one(stored), hint="new")
    for facts in Path("lake/scores_state/reports").glob("*.json"):
        edit(facts, hint="new")
    kept = json.loads(one("scores_state/baselines/*.json").read_text())
    for part in kept["baseline"].values():
        for column in part["columns"].values():
            column["hint"] = "new"
    edit(one("scores_state/baselines/*.json"), **kept)
    assert score(job(WAITING)).status == "published"
    assert score(job(WAITING, "checks.drift.action=block"), rescore=True).status == "published"
    write_deltalake(
        "lake/scores_state/runs", pa.table({"run_id": ["x"], "job": ["other"], "hint": ["new"]}), mode="append",
        schema_mode="merge",
    )  # fmt: skip
    assert len(records(job(PUBLISHED))) == 4


def test_each_stored_thing_names_its_format(job):
    score(job(BLOCKED, "checks.quarantine.max_fraction=0.3"))
    newest, *older = records(job(BLOCKED))
    run = newest["run_id"]
    assert newest["model_called"] == "Pipeline.predict on a matrix"
    assert {row["model_called"] for row in older} <= {None, newest["model_called"]}
    assert json.loads(Path(f"lake/scores_state/reports/{run}.json").read_text())["format"] == formats.FACTS.version
    for name, kind in (("runs", formats.RECORD), ("metrics", formats.METRICS), ("profiles", formats.PROFILES)):
        rows = tables.rows(locate(f"lake/scores_state/{name}"), ["run_id", "format"], formats.RECORD)
        assert {row["format"] for row in rows if row["run_id"] == run} == {kind.version}
