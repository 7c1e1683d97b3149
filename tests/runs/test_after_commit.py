"""Once a run's commits are made nothing else decides how it ends: whatever fails afterwards is said, and worth no more."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse import storage
from lakehouse.engines import local, scratch
from lakehouse.planning import naming
from lakehouse.runs import lease, ledger
from lakehouse.sinks import delta as sink
from lakehouse.sinks.delta import publishing
from lakehouse.storage import locate
from tests import command
from tests.conftest import read, score, version, write
from tests.runs.test_exactly_once import in_the_middle, unfinished


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"]), x)


@pytest.fixture
def job(make_job, uri, monkeypatch, bucket):
    """One of four rows has no key; a request that is refused is tried once more."""
    monkeypatch.setattr(storage.s3, "ATTEMPTS", 2)
    monkeypatch.setattr(storage.s3, "DELTA_PATIENCE", {"max_retries": "1", "retry_timeout": "5s"})
    storage.s3._filesystem.cache_clear()
    monkeypatch.setattr(local, "cores", lambda: 1)
    write(f"{bucket}/features", pa.table({"id": pa.array([1, 2, 3, None]), "a": [0.1, 0.2, 0.3, 0.4]}))

    def make(max_fraction=0.5, **sections):
        checks = {"quarantine": {"max_fraction": max_fraction}}
        return make_job(uri, lake=bucket, predictions={"p": 0}, checks=checks, **sections)

    yield make
    storage.s3._filesystem.cache_clear()


FAULTS = {
    "DELETE .*/scores/run-.*_lease": "is still there",
    "DELETE .*/scores_state/intents/": "its intent could not be taken away",
    "PUT .*/scores_state/reports/.*json": "its report will be missing",
    "PUT .*/scores_state/reports/.*html": "its report could not be written",
    "PUT .*/scores_state/metrics/": "its report could not be written",
    "PUT .*/scores_state/runs/": "could not be recorded",
    "PUT .*/scores_state/baselines/": "the profile of this first run could not be kept",
    "PUT .*/copy.json": "can't be written",
}
"""Requests that the storage refuses for good, and what is said of it."""


@pytest.mark.parametrize(
    ("fault", "budget"),
    [*((fault, 0.5) for fault in FAULTS), *((fault, 0.1) for fault in FAULTS if "runs" in fault or "copy" in fault)],
)
@pytest.mark.quick("PUT .*/copy.json-0.1")
def test_a_fault_after_the_first_commit_does_not_change_how_a_run_ends(job, bucket, s3, capfd, fault, budget):
    made, code, status = (job(budget), 0, "published") if budget == 0.5 else (job(budget), 3, "blocked")
    s3((fault, "refuse", 10_000))
    ended = command.run(capfd, "score", made.path, "--engine", "local", "--json", "--result", f"{bucket}/copy.json")
    assert (ended.code, ended.json["status"], FAULTS[fault] in ended.err) == (code, status, True)
    assert (version(f"{bucket}/scores"), read(f"{bucket}/scores_quarantine").num_rows) == (-1 if code else 1, 1)
    s3(("", "refuse", 0))
    if not code:
        assert (score(made).status in ("published", "unchanged"), unfinished(made)) == (True, 0)


def test_a_preview_that_can_not_be_read_is_no_part_of_the_run(job, bucket, s3, capfd):
    made = job()
    s3(("GET .*/scores/run-", "refuse", 10_000))
    ended = command.run(capfd, "score", made.path, "--engine", "local")
    assert (ended.code, "PUBLISHED" in ended.out, "can't be shown" in ended.out) == (0, True, True)


def test_figures_that_mlflow_does_not_take_are_no_part_of_the_run(job, monkeypatch):
    from lakehouse import models

    said = []
    monkeypatch.setattr(models, "log_run", lambda *_: (_ for _ in ()).throw(RuntimeError("gone")))
    result = score(job(tracking={"experiment": "runs"}), say=lambda event, values: said.append((event, dict(values))))
    assert (result.status, [v["message"] for e, v in said if e == "warning"]) == (
        "published",
        ["the run stands, but MLflow did not take its figures: gone"],
    )


def test_a_commit_that_can_not_be_read_back_is_a_commit(job, bucket, monkeypatch):
    said = []
    monkeypatch.setattr(publishing, "_verify", lambda *_: (_ for _ in ()).throw(OSError("unplugged")))
    result = score(job(), say=lambda event, values: said.append(str(values.get("message"))))
    assert (result.status, result.sinks[-1]["version"], unfinished(job())) == ("published", 1, 0)
    assert sum("could not be read back: unplugged" in text for text in said) == 2  # quarantine, too


def test_a_folder_that_can_not_be_cleared_afterwards_is_no_part_of_the_run(job, monkeypatch):
    said, folder = [], scratch.folder

    class Busy:
        def __enter__(self):
            self.inner = folder()
            return self.inner.__enter__()

        def __exit__(self, *_):
            raise OSError("busy")

    monkeypatch.setattr(scratch, "folder", Busy)
    result = score(job(), say=lambda event, values: said.append(str(values.get("message"))))
    assert (result.status, any("something went wrong after it: OSError: busy" in line for line in said)) == (
        "published",
        True,
    )


# What is left for later runs


@pytest.fixture
def daily(make_job, uri, monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 1)
    days = ("2026-01-01", "2026-01-02")
    rows = [(i, day) for day in days for i in (1, 2, None)]
    write("lake/features", pa.table({"id": [r[0] for r in rows], "a": [0.1] * 6, "day": [r[1] for r in rows]}), ["day"])

    def make(day=days[0], max_fraction=0.5, **sections):
        return make_job(
            uri, date=day, source={"where": "day = '{date}'"}, predictions={"p": 0}, slice={"score_date": "{date}"},
            checks={"quarantine": {"max_fraction": max_fraction}}, **sections,
        )  # fmt: skip

    return make


def records(job):
    return {r["run_id"]: (r["status"], r["date"]) for r in ledger.runs(naming.state_of(job), job.job)}


def test_a_record_that_could_not_be_written_is_written_by_the_next_dates_run(daily, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "record", lambda *_: (_ for _ in ()).throw(OSError("unplugged")))
        first = score(daily())
    assert (first.status, records(daily()), unfinished(daily())) == ("published", {}, 1)
    assert set(lease.read(locate("lake/scores"), first.run_id)) >= {"waits", "state"}
    said = []
    second = score(daily("2026-01-02"), say=lambda event, values: said.append((event, values.get("run_id"))))
    assert records(daily()) == {first.run_id: ("published", "2026-01-01"), second.run_id: ("published", "2026-01-02")}
    assert (("resumed", first.run_id) in said, unfinished(daily())) == (True, 0)
    assert lease.read(locate("lake/scores"), first.run_id) is None


def test_a_run_into_another_dates_table_is_finished_too(daily, monkeypatch):
    def of(day):
        return daily(day, state="lake/state", sinks=[{"type": "delta", "table": f"lake/scores_{day}"}])

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "record", lambda *_: (_ for _ in ()).throw(OSError("unplugged")))
        first = score(of("2026-01-01"))
    assert records(of("2026-01-01")) == {}
    second = score(of("2026-01-02"))
    assert set(records(of("2026-01-02"))) == {first.run_id, second.run_id}
    assert not [*Path("lake/state/intents").rglob("*.json")]


def test_another_dates_run_that_is_still_at_it_is_left_alone(daily, monkeypatch):
    other = in_the_middle(monkeypatch, ledger, "save_intent", lambda: score(daily("2026-01-02")), late=True)
    said = []
    result = score(daily(), say=lambda event, values: said.append(event))
    assert (result.status, other[0].status, "resumed" in said) == ("published", "published", False)


def test_another_dates_run_that_can_not_be_finished_does_not_stand_in_the_way(daily, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(sink, "publish", lambda *_: (_ for _ in ()).throw(OSError("unplugged")))
        with pytest.raises(Exception, match="unplugged"):
            score(daily())
    (declared,) = Path("lake/scores_state/intents").rglob("*.json")
    intent = json.loads(declared.read_text())
    intent["targets"][-1]["type"] = "unheard"
    declared.write_text(json.dumps(intent))
    said = []
    result = score(daily("2026-01-02"), say=lambda event, values: said.append(str(values.get("message"))))
    assert (result.status, unfinished(daily())) == ("published", 1)
    assert any("of scores/score_date=2026-01-01 can't be finished now" in text for text in said)


def test_a_run_overtaken_after_its_quarantine_commit_is_recorded_and_superseded(daily, monkeypatch):
    publish, winner = sink.publish, []

    def overtaken_at_the_sink(target, *args):
        if target.kind == "sink" and not winner:
            winner.append(None)
            winner[0] = score(daily(state="lake/elsewhere"))
        return publish(target, *args)

    monkeypatch.setattr(sink, "publish", overtaken_at_the_sink)
    with pytest.raises(Exception, match="another run published generation 1"):
        score(daily())
    (mine,) = set(read("lake/scores_quarantine")["_run_id"].to_pylist()) - {winner[0].run_id}
    assert records(daily()) == {mine: ("failed", "2026-01-01")}
    assert unfinished(daily()) == 0
    assert score(daily(), rescore=True).status == "published"
    found = ledger.runs(naming.state_of(daily()), "scores")
    assert ledger.superseded_runs(found) == {mine}
