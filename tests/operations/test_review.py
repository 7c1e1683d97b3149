"""Held runs: nothing is committed until somebody says so, and then the very files that were looked at."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.config import load_job
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.operations import review, sweep
from lakehouse.pipeline import Request
from lakehouse.planning import naming
from lakehouse.runs import ledger
from tests.conftest import opened, read, score, write

DAY = "2026-01-02"


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"] * 2), x)


@pytest.fixture
def daily(make_job, uri):
    def make(day=DAY, **sections):
        checks = {"quarantine": {"max_fraction": 0.5}}
        return make_job(uri, date=day, slice={"score_date": "{date}"}, **{"checks": checks, **sections})

    return make


@pytest.fixture(autouse=True)
def features(workspace):
    write("lake/features", pa.table({"id": pa.array([1, 2, None]), "a": [0.1, 0.2, 0.3]}))


def load(day):
    return load_job("conf/scores.yaml", date=day, environ={})


def find(run=""):
    return review.find(load, run)


def publish(run, **more):
    job, waits = find(run)
    return review.publish(job, waits, Request("local", ledger.now(), waits.intent.run_id, **more))


def staged():
    return {str(p.relative_to("lake/scores")): p.read_bytes() for p in Path("lake/scores").rglob("*.parquet")}


def test_nothing_is_committed_until_it_is_published_and_then_those_very_files(daily):
    result = score(daily(), hold=True)
    assert (result.status, result.rows_scored, result.rows_quarantined) == ("held", 2, 1)
    assert "held until" in str(result.message)
    assert not Path("lake/scores/_delta_log").exists()
    assert not list(Path("lake").glob("*quarantine*/_delta_log"))
    assert ledger.runs(naming.state_of(daily()), "scores") == []
    before = staged()
    assert len(before) == 1

    done = publish(result.run_id[:8])
    assert (done.status, done.run_id, done.rows_scored) == ("published", result.run_id, 2)
    assert staged() == before
    assert {a["path"] for a in pa.table(opened("lake/scores").get_add_actions()).to_pylist()} == set(before)
    assert read("lake/scores")["id"].to_pylist() == [1, 2]
    assert read("lake/scores_quarantine").num_rows == 1
    (record,) = ledger.runs(naming.state_of(daily()), "scores")
    assert (record["status"], record["run_id"]) == ("published", result.run_id)
    assert score(daily()).status == "unchanged"
    with pytest.raises(ConfigError, match="no run of this job is held"):
        find(result.run_id)


def test_a_run_that_would_hold_the_same_again_is_that_run(daily):
    first = score(daily(), hold=True)
    again = score(daily(), hold=True)
    assert (again.status, again.run_id) == ("held", first.run_id)
    assert len(staged()) == 1
    write("lake/features", pa.table({"id": [4], "a": [0.4]}))
    other = score(daily(), hold=True)
    assert (other.status, other.run_id == first.run_id) == ("held", False)
    assert [one.intent.run_id for _, one in review.held_runs(load)] == [other.run_id, first.run_id]


def test_one_that_another_run_came_before_is_refused_and_goes_on_being_held(daily):
    first = score(daily(), hold=True)
    write("lake/features", pa.table({"id": [4], "a": [0.4]}))
    assert score(daily()).status == "published"
    version = opened("lake/scores").version()
    with pytest.raises(Unavailable, match="another run"):
        publish(first.run_id)
    assert opened("lake/scores").version() == version
    assert find(first.run_id)[1].intent.run_id == first.run_id


def test_a_run_of_another_slice_does_not_stand_in_its_way(daily):
    first = score(daily(), hold=True)
    assert score(daily("2026-01-03")).status == "published"
    assert publish(first.run_id).status == "published"
    assert read("lake/scores").num_rows == 4


def test_a_discarded_run_leaves_nothing(daily):
    result = score(daily(), hold=True)
    job, waits = find(result.run_id)
    review.discard(job, waits, Request("local", ledger.now(), result.run_id))
    assert staged() == {}
    with pytest.raises(ConfigError, match="no run of this job is held"):
        find(result.run_id)


def test_its_files_stay_until_its_time_is_over(daily, monkeypatch):
    result = score(daily(), hold=True, hold_days=2)
    (left, *_) = sweep.sweep(daily(), take_away=True)
    assert (left.run_id, str(left.kept).split(" until")[0]) == (result.run_id, "held")
    later = ledger.now() + timedelta(days=2, minutes=1)
    monkeypatch.setattr(ledger, "now", lambda: later)
    with pytest.raises(ConfigError, match="discard it, and score again"):
        publish(result.run_id)
    sweep.sweep(daily(), take_away=True)
    assert staged() == {}


@pytest.mark.parametrize(
    ("publishing", "checks", "expected"),
    [
        ({"hold": "always"}, {}, ["held", "held"]),
        ({"hold": "when_drifted"}, {"drift": {"psi": 0.2}}, ["published", "held"]),
        ({"hold": "when_model_changed"}, {}, ["published", "published"]),
    ],
)
def test_a_job_may_demand_it(daily, publishing, checks, expected):
    sections = {"publish": publishing, "checks": {"quarantine": {"max_fraction": 0.5}, **checks}}
    ids = np.arange(2_000)
    write("lake/features", pa.table({"id": ids, "a": ids % 40 * 0.1}))
    first = score(daily(**sections))
    write("lake/features", pa.table({"id": ids + 10_000, "a": ids * 0.0 + 90.0}))
    second = score(daily("2026-01-03", **sections))
    assert [first.status, second.status] == expected


def test_another_model_is_held_where_the_job_demands_it(daily, register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    demand = {"publish": {"hold": "when_model_changed", "hold_days": 1}}
    assert score(daily(**demand)).status == "published"
    other = register(LinearRegression().fit(x, x["a"] * 3), x)
    result = score(daily("2026-01-03", model={"uri": other}, **demand))
    assert result.status == "held"
    assert "publish.hold: when_model_changed: " in str(result.message)


def test_drift_that_nobody_has_defined_is_refused(daily):
    with pytest.raises(ConfigError, match=r"publish\.hold: when_drifted needs checks.drift"):
        daily(publish={"hold": "when_drifted"})


def test_it_is_no_part_of_a_fingerprint(daily):
    assert score(daily()).status == "published"
    assert score(daily(publish={"hold": "always", "hold_days": 3})).status == "unchanged"
