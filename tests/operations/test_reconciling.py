"""`lakehouse reconcile`: ledger and metrics again, from what the job's tables themselves remember."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties

from lakehouse.config import load_job
from lakehouse.errors import Blocked
from lakehouse.operations import lookup, reconciling, sweep
from lakehouse.operations.rollback import rollback
from lakehouse.pipeline import Request, new_run_id
from lakehouse.planning import naming
from lakehouse.runs import ledger
from tests.command import run
from tests.conftest import opened, read, score, write
from tests.operations.conftest import registered

DAY, OTHER = "2026-01-02", "2026-01-03"
TOLD = [
    "run_id", "job", "date", "identity", "status", "generation", "rows_read", "rows_scored", "rows_quarantined",
    "model_name", "model_version", "model_digest", "model_signature", "input_table", "input_version", "fingerprint",
    "as_of", "sinks", "message",
]  # fmt: skip


@pytest.fixture(scope="module")
def models(register):
    return registered(register, 1, 2)


@pytest.fixture
def daily(make_job):
    write("lake/features", pa.table({"id": pa.array([1, 2, None]), "a": [1.0, 2.0, 3.0]}))

    def make(uri, day=DAY, **sections):
        checks = {"quarantine": {"max_fraction": 0.5}}
        return make_job(
            uri, date=day, **{"slice": {"score_date": "{date}"}, "predictions": {"p": 0}, "checks": checks, **sections}
        )

    return make


def load(day):
    return load_job("conf/scores.yaml", date=day, environ={})


def records(job):
    return [{name: row[name] for name in TOLD} for row in ledger.runs(naming.state_of(job), "scores")]


def metrics():
    return sorted(
        (r["run_id"], r["subject"], r["name"], r["column"], r["metric"], r["value"])
        for r in read("lake/scores_state/metrics").to_pylist()
    )


def back(job, to=None):
    return rollback(job, Request("local", ledger.now(), new_run_id()), to)


def test_the_ledger_is_what_it_was_as_far_as_the_tables_tell(daily, models):
    score(daily(models[0]))
    score(daily(models[0], OTHER))
    second = score(daily(models[1]))
    back(daily(models[1]))
    job, figures = daily(models[0]), None
    before, times = records(job), [r["finished_at"] for r in ledger.runs(naming.state_of(job), "scores")]
    figures = metrics()
    for name in ("runs", "metrics"):
        shutil.rmtree(f"lake/scores_state/{name}")
    assert records(job) == []
    would = reconciling.reconcile(load, dry_run=True)
    assert (len(would.records), len(would.metrics), records(job)) == (4, 3, [])
    assert not Path("lake/scores_state/metrics").exists()
    done = reconciling.reconcile(load, dry_run=False)
    assert (len(done.records), done.notes) == (4, [reconciling.UNTOLD])
    assert records(job) == before
    again = [r["finished_at"] for r in ledger.runs(naming.state_of(job), "scores")]
    assert all(abs(one - two) < timedelta(seconds=5) for one, two in zip(times, again, strict=True))
    assert metrics() == figures
    assert reconciling.reconcile(load, dry_run=False) == reconciling.Reconciled("scores")
    assert lookup.status(daily(models[0]))[0].status == "published"
    assert score(daily(models[0])).status == "unchanged"
    assert back(daily(models[0])).status == "unchanged"
    assert back(daily(models[0]), second.run_id).status == "published"


def test_the_record_of_a_rollback_is_made_again_of_the_one_that_it_put_back(daily, models):
    score(daily(models[0]))
    score(daily(models[1]))
    job = daily(models[1])
    done, state = back(job), naming.state_of(job)
    assert reconciling.reconcile(load, dry_run=False) == reconciling.Reconciled("scores")
    before = ledger.record_of(state, "scores", done.run_id)
    opened(state.join("runs").uri).delete(f"run_id = '{done.run_id}'")
    assert [one["run_id"] for one in reconciling.reconcile(load, dry_run=False).records] == [done.run_id]
    after = ledger.record_of(state, "scores", done.run_id)
    assert {name for name in before if before[name] != after[name]} == {"started_at", "finished_at", "seconds"}
    assert (before["alias"], after["alias"]) == (None, None)  # it looked none up


def test_runs_of_another_job_in_the_same_tables_are_its_own(daily, models):
    mine = score(daily(models[0], slice={"part": "a"}))
    score(daily(models[0], job="other", slice={"part": "b"}))
    shutil.rmtree("lake/scores_state")
    assert [one["run_id"] for one in reconciling.reconcile(load, dry_run=False).records] == [mine.run_id]
    opened("lake/scores").create_checkpoint()
    for file in Path("lake/scores/_delta_log").glob("0*.json"):
        file.unlink()
    shutil.rmtree("lake/scores_state")
    found = reconciling.reconcile(load, dry_run=False)
    assert ([one["run_id"] for one in found.records], found.notes) == ([mine.run_id], [reconciling.UNTOLD])


def test_a_run_that_waits_to_be_recorded_is_left_to_it(daily, models, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "record", lambda *_: 1 / 0)
        done = score(daily(models[0]))
    assert reconciling.reconcile(load, dry_run=False).records == []
    assert score(daily(models[0])).status == "published"  # which records it
    assert [(r["run_id"], bool(r["seconds"])) for r in ledger.runs(naming.state_of(daily(models[0])), "scores")] == [
        (done.run_id, True)
    ]


def test_each_date_where_every_one_has_a_table(daily, models):
    table = [{"type": "delta", "table": "lake/scores_{date}"}]
    for day in (DAY, OTHER):
        score(daily(models[0], day, slice={}, sinks=table))
        shutil.rmtree(f"lake/scores_{day}_state")
    found = reconciling.reconcile(load, dry_run=False).records
    assert [one["sinks"][-1]["table"] for one in found] == [f"lake/scores_{OTHER}", f"lake/scores_{DAY}"]


def test_only_what_is_missing_is_added(daily, models):
    first, second = score(daily(models[0])), score(daily(models[0], OTHER))
    place = naming.state_of(daily(models[0])).join("runs")
    opened(place.uri).delete(f"run_id = '{first.run_id}'")
    done = reconciling.reconcile(load, dry_run=False)
    assert [one["run_id"] for one in done.records] == [first.run_id]
    there = ledger.runs(naming.state_of(daily(models[0])), "scores")
    assert {r["run_id"]: bool(r["seconds"]) for r in there} == {first.run_id: False, second.run_id: True}
    assert timedelta(0) < there[0]["started_at"] - there[1]["started_at"] < timedelta(minutes=10)
    assert there[1]["started_at"] < there[1]["finished_at"]


def test_metrics_without_what_was_kept_of_a_run_are_those_that_the_tables_tell(daily, models):
    done = score(daily(models[0]))
    shutil.rmtree("lake/scores_state")
    reconciling.reconcile(load, dry_run=False)
    assert metrics() == [
        (done.run_id, "run", "", "", "rows_quarantined", 1.0),
        (done.run_id, "run", "", "", "rows_read", 3.0),
        (done.run_id, "run", "", "", "rows_scored", 2.0),
        (done.run_id, "run", "key_not_null", "id", "quarantined", 1.0),
    ]


def test_the_date_of_an_append_and_a_table_without_one(daily, models):
    write("lake/days", pa.table({"id": [1, 2], "a": [1.0, 2.0], "day": [DAY, DAY]}), ["day"])
    appending = {"slice": {}, "sinks": [{"type": "delta", "table": "lake/scores", "write": "append"}]}
    appending["source"] = {"table": "lake/days", "where": "day = '{date}'"}
    job = daily(models[0], **appending)
    score(job)
    before = records(job)
    shutil.rmtree("lake/scores_state")
    assert [one["date"] for one in reconciling.reconcile(load, dry_run=False).records] == [DAY]
    assert records(job) == before
    score(daily(models[0], slice={}, sinks=[{"type": "delta", "table": "lake/whole"}]))
    shutil.rmtree("lake/whole_state")
    assert [(one["date"], one["identity"]) for one in reconciling.reconcile(load, dry_run=False).records] == [
        (None, "scores/")
    ]


def test_runs_that_published_nothing_are_named(daily, models):
    job = daily(models[0], checks={"quarantine": {"max_rows": 0}})
    with pytest.raises(Blocked) as blocked:
        score(job)
    shutil.rmtree("lake/scores_state")
    done = reconciling.reconcile(load, dry_run=False)
    assert done.records == []
    assert done.notes == [
        f"run {blocked.value.result.run_id} set rows aside and published nothing: what stood against it isn't told; no record"
    ]


def test_what_is_left_of_runs_whose_commits_the_log_has_dropped(daily, models):
    first, second = score(daily(models[0])), score(daily(models[1]))
    before = records(daily(models[1]))
    opened("lake/scores").create_checkpoint()
    for file in Path("lake/scores/_delta_log").glob("0*.json"):
        file.unlink()
    shutil.rmtree("lake/scores_state")
    done = reconciling.reconcile(load, dry_run=False)
    assert [one["run_id"] for one in done.records] == [second.run_id]
    assert any(note.startswith(f"run {first.run_id}: the log has dropped its commit") for note in done.notes)
    kept = {
        name: value
        for name, value in before[0].items()
        if name not in ("model_digest", "model_signature", "input_table", "sinks")
    }
    assert {name: done.records[0][name] for name in kept} == kept


def test_what_retention_took_away_stays_away(daily, models, monkeypatch):
    score(daily(models[0]))
    score(daily(models[1]))
    job = daily(models[1], retention={"runs": "1 day"})
    later = ledger.now() + timedelta(days=2)
    monkeypatch.setattr(ledger, "now", lambda: later)
    sweep.sweep(job, take_away=True)
    assert len(records(job)) == 1
    assert reconciling.reconcile(load, dry_run=False).records == []


def test_the_command_says_what_is_added(daily, models, capfd):
    done = score(daily(models[0]))
    shutil.rmtree("lake/scores_state")
    shown = run(capfd, "reconcile", "conf/scores.yaml")
    assert shown.code == 0
    assert shown.out.splitlines()[:2] == [
        f"{done.run_id}  {DAY}  generation 1", "scores: 1 records, metrics of 1 runs added",
    ]  # fmt: skip
    listed = run(capfd, "runs", "conf/scores.yaml")
    assert (listed.code, done.run_id in listed.out) == (0, True)
    assert run(capfd, "status", "conf/scores.yaml", "--date", DAY, "--json").json["run_id"] == done.run_id
    assert (
        run(capfd, "recall", "conf/scores.yaml", "--model", "1", "--json").json["standing"][0]["run_id"] == done.run_id
    )
    assert run(capfd, "reconcile", "conf/scores.yaml", "--json").json["records"] == []


def test_commands_that_find_no_run_say_where_the_ledger_lacks_some(daily, models, capfd):
    done = score(daily(models[0]))
    known = run(capfd, "report", "conf/scores.yaml", "--run", "nobody")
    assert (known.code, "reconcile" in known.err) == (2, False)
    shutil.rmtree(Path("lake/scores_state/runs"))
    hint = "the scored table remembers 1 run that has no record: `lakehouse reconcile` makes them again"
    for words in (("report",), ("verify",), ("verify", "--run", done.run_id), ("explain", "--key", "1", "--run", "x")):
        said = run(capfd, words[0], "conf/scores.yaml", *words[1:])
        assert (said.code, hint in said.err) == (2, True), said
    assert hint in run(capfd, "runs", "conf/scores.yaml").out
    assert "`lakehouse reconcile`" in run(capfd, "status", "conf/scores.yaml", "--date", DAY).out
    assert "`lakehouse reconcile`" in run(capfd, "explain", "conf/scores.yaml", "--key", "1", "--date", DAY).out
    run(capfd, "reconcile", "conf/scores.yaml")
    assert run(capfd, "verify", "conf/scores.yaml").code == 0


def test_what_other_commits_say_of_themselves_is_let_be(daily, models, capfd):
    """Text that looks like ours, and JSON that isn't an object."""
    done = score(daily(models[0]))
    for text in ('see lakehouse_run "x"', '["lakehouse_run"]', '"lakehouse_run"', f"after {done.run_id}"):
        write(
            "lake/scores", opened("lake/scores").to_pyarrow_table().slice(0, 0),
            commit_properties=CommitProperties(custom_metadata={"userMetadata": text}),
        )  # fmt: skip
    where = ("conf/scores.yaml", "--date", DAY)
    for words in (
        ("status", *where), ("runs", where[0]), ("verify", where[0]), ("explain", *where, "--key", "1"),
        ("reconcile", where[0]), ("recall", where[0], "--model", "1"), ("maintain", where[0]),
        ("score", *where, "--engine", "local"),
    ):  # fmt: skip
        assert (run(capfd, *words).code, words) == (0, words)
