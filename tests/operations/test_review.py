"""Held runs: nothing is committed until somebody says so, and then the very files that were looked at."""

from __future__ import annotations

import math
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.linear_model import LinearRegression

from lakehouse.config import load_job
from lakehouse.engines import memory
from lakehouse.errors import Blocked, ConfigError, Unavailable
from lakehouse.operations import difference, review, sweep
from lakehouse.pipeline import Request
from lakehouse.planning import naming
from lakehouse.runs import ledger
from tests.command import run
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
        return make_job(uri, date=day, **{"slice": {"score_date": "{date}"}, "checks": checks, **sections})

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
    assert score(daily(), hold=True, rescore=True).run_id not in (first.run_id, other.run_id)
    assert score(daily()).status == "published"  # nobody asked for it to be held


def test_held_runs_of_another_job_are_its_own(daily):
    mine, other = score(daily(), hold=True), score(daily(job="other", slice={"part": "b"}), hold=True)
    assert [one.intent.run_id for _, one in review.held_runs(load)] == [mine.run_id]
    with pytest.raises(ConfigError, match="has no run"):
        find(other.run_id)


def test_a_run_that_is_blocked_is_not_held(daily):
    with pytest.raises(Blocked):
        score(daily(checks={"quarantine": {"max_rows": 0}}), hold=True)
    assert review.held_runs(load) == []


def test_one_that_another_run_came_before_is_refused_and_goes_on_being_held(daily):
    first = score(daily(), hold=True)
    write("lake/features", pa.table({"id": [4], "a": [0.4]}))
    assert score(daily()).status == "published"
    version = opened("lake/scores").version()
    with pytest.raises(Unavailable, match="another run"):
        publish(first.run_id)
    assert opened("lake/scores").version() == version
    assert find(first.run_id)[1].intent.run_id == first.run_id


def test_publishing_that_was_cut_off_is_finished_by_the_next_run(daily, monkeypatch):
    result = score(daily(), hold=True)
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "save_intent", lambda *_: sys.exit())
        with pytest.raises(SystemExit):
            publish(result.run_id)
    assert find(result.run_id)[1].intent.run_id == result.run_id  # it is held as before
    with monkeypatch.context() as patched:
        patched.setattr("lakehouse.runs.publication._commit", lambda *_: sys.exit())
        with pytest.raises(SystemExit):
            publish(result.run_id)
    assert (score(daily()).status, read("lake/scores").num_rows) == ("published", 2)
    assert [r["run_id"] for r in ledger.runs(naming.state_of(daily()), "scores")] == [result.run_id]


def test_a_run_of_another_slice_does_not_stand_in_its_way(daily):
    first = score(daily(), hold=True)
    assert score(daily("2026-01-03")).status == "published"
    assert publish(first.run_id).status == "published"
    assert read("lake/scores").num_rows == 4


def test_a_discarded_run_leaves_nothing(daily):
    result = score(daily(), hold=True)
    job, waits = find(result.run_id)
    assert list(Path("lake/scores_quarantine").rglob("*.parquet"))
    review.discard(job, waits, Request("local", ledger.now(), result.run_id))
    assert (staged(), list(Path("lake/scores_quarantine").rglob("*.parquet"))) == ({}, [])
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
    again = score(daily(), hold=True)
    assert (again.status, again.run_id == result.run_id) == ("held", False)


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
    assert f"held until {ledger.now() + timedelta(days=1):%Y-%m-%d}" in str(result.message)


def test_a_run_that_was_blocked_had_no_model_that_the_next_one_changes(daily, register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    demand = {"publish": {"hold": "when_model_changed"}}
    assert score(daily(**demand)).status == "published"
    other = register(LinearRegression().fit(x, x["a"] * 3), x)
    with pytest.raises(Blocked):
        score(daily("2026-01-03", model={"uri": other}, checks={"quarantine": {"max_rows": 0}}, **demand))
    assert score(daily("2026-01-04", **demand)).status == "published"


def test_drift_that_nobody_has_defined_is_refused(daily):
    with pytest.raises(ConfigError, match=r"publish\.hold: when_drifted needs checks.drift"):
        daily(publish={"hold": "when_drifted"})


def test_it_is_no_part_of_a_fingerprint(daily):
    assert score(daily()).status == "published"
    assert score(daily(publish={"hold": "always", "hold_days": 3})).status == "unchanged"


@pytest.fixture
def changed(make_job, register):
    """A slice with a live generation and a held one: other rows, another model, decisions, a kept column."""
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    uris = [register(LinearRegression().fit(x, x["a"] * times), x) for times in (0.25, 0.5)]
    rng = np.random.default_rng(3)
    ids = np.arange(500)
    country = pa.array(rng.choice(["DE", "AT", None], 500))
    write(
        "lake/features",
        pa.table({"id": ids, "a": rng.uniform(0, 4, 500), "country": country}),
        mode="overwrite",
        schema_mode="overwrite",
    )

    def job(uri, where):
        return make_job(
            uri, date=DAY, slice={"score_date": "{date}"}, keep=["country"], source={"where": where},
            predictions={"p": 0, "high": {"output": 0, "threshold": 0.6}},
        )  # fmt: skip

    assert score(job(uris[0], "id < 450")).status == "published"
    result = score(job(uris[1], "id >= 20"), hold=True)
    assert result.status == "held"
    return result.run_id


def test_the_difference_is_what_duckdb_finds(changed):
    import duckdb

    job, waits = find(changed)
    found = difference.difference(job, waits, "country")
    held = pq.ParquetDataset([f"lake/scores/{f.path}" for f in waits.intent.targets[-1].files]).read()
    live = read("lake/scores")
    assert (held.num_rows, live.num_rows) == (found.held, found.live) == (480, 450)
    both = "FROM held h JOIN live l USING (id)"
    changes = f"count(*) FILTER (WHERE h.p <> l.p OR h.high <> l.high) {both}"
    (one,) = duckdb.sql(
        f"SELECT (SELECT count(*) FROM held ANTI JOIN live USING (id)), (SELECT count(*) FROM live ANTI JOIN held USING (id)), {changes}"
    ).fetchall()
    assert (found.added, found.gone, found.changed) == one
    assert found.same == 430 - found.changed
    figures = "count(*), avg(l.p), avg(h.p), avg(h.p) - avg(l.p), avg(abs(h.p - l.p)), max(abs(h.p - l.p)), count(*) FILTER (WHERE h.high <> l.high)"
    for country, *expected in duckdb.sql(f"SELECT coalesce(h.country, 'null'), {figures} {both} GROUP BY 1").fetchall():
        p, high = (next(s for s in one["segments"] if s["segment"] == country) for one in found.predictions)
        told = [p[k] for k in ("rows", "own_mean", "their_mean", "shift", "mean_distance", "furthest")]
        assert told == pytest.approx(expected[:-1])
        assert high["flips"] == expected[-1] > 0
    (most,) = duckdb.sql(f"SELECT id {both} ORDER BY abs(h.p - l.p) DESC LIMIT 1").fetchall()
    assert tuple(found.examples[0]["key"].values()) == most


def test_the_difference_of_what_was_never_published(daily):
    job, waits = find(score(daily(), hold=True).run_id)
    found = difference.difference(job, waits)
    assert (found.held, found.live, found.added, found.gone, found.changed, found.same) == (2, 0, 2, 0, 0, 0)
    with pytest.raises(ConfigError, match="--by: 'countri' is no column of the scored rows"):
        difference.difference(job, waits, "countri")


def test_rows_whose_key_is_there_twice_are_told(changed):
    rows = pa.table({"k": [1, 1, 2, 3], "p": [0.1, 0.2, 0.3, math.nan]})
    found = difference.compare("r", rows, pa.table({"k": [1, 2, 3], "p": [0.1, 0.3, math.nan]}), ["k"], ["p"])
    assert (found.held, found.live, found.repeated, found.same, found.changed, found.gone) == (4, 3, 2, 2, 0, 1)
    twice = difference.compare(
        "r", pa.table({"k": [1], "p": [0.1]}), pa.table({"k": [2, 2], "p": [0.1, 0.2]}), ["k"], ["p"]
    )
    assert (twice.repeated, twice.added, twice.gone) == (2, 1, 0)


def test_null_is_a_value_like_others():
    held, live = ({"k": [1, 2, 3], "p": p} for p in ([0.1, None, None], [None, 0.2, None]))
    found = difference.compare("r", pa.table(held), pa.table(live), ["k"], ["p"])
    assert (found.changed, found.same) == (2, 1)


def test_what_does_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1_000_000)
    difference.require_room(1_000, ["id", "p"])
    with pytest.raises(ConfigError, match=r"to compare 10,000 rows takes about 0.0 GB"):
        difference.require_room(10_000, ["id", "p"])


def test_the_commands(changed, capfd):
    seen = run(capfd, "diff", "conf/scores.yaml", "--run", changed[:8], "--by", "country")
    assert (seen.code, seen.err) == (0, "")
    assert seen.out.startswith("held 480 rows, live 450: 50 added, 20 gone, ")
    assert "p by country" in seen.out
    as_json = run(capfd, "diff", "conf/scores.yaml", "--run", changed[:8], "--json").json
    assert (as_json["added"], as_json["held_because"]) == (50, "--hold")
    assert as_json["beside"][1] == {"what": "rows scored", "live": "450", "held": "480"}
    done = run(capfd, "publish", "conf/scores.yaml", "--run", changed[:8], "--engine", "local", "--json")
    assert (done.code, done.json["status"], done.json["run_id"]) == (0, "published", changed)
    gone = run(capfd, "discard", "conf/scores.yaml", "--run", changed[:8])
    assert (gone.code, gone.out) == (2, "")
    assert "no run of this job is held" in gone.err


def test_checks_and_drift_of_both_runs_stand_beside_each_other(daily, capfd):
    between = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "min_value": 0.15}}
    suite = {"name": "low", "expectations": [{**between, "severity": "warning", "meta": {"name": "a_low"}}]}
    Path("conf").mkdir(exist_ok=True)
    Path("conf/low.yaml").write_text(yaml.safe_dump(suite))
    checks = {"quarantine": {"max_fraction": 0.5}, "features": "conf/low.yaml"}
    assert score(daily(checks=checks)).status == "published"
    write("lake/features", pa.table({"id": [1, 2, 3], "a": [0.1, 0.12, 3.0]}), mode="overwrite")
    result = score(daily(checks=checks), hold=True)
    seen = run(capfd, "diff", "conf/scores.yaml", "--run", result.run_id, "--out", "diff.html")
    lines = [" ".join(line.split()) for line in seen.out.splitlines()]
    assert "rows scored 2 3" in lines
    assert "rule a_low warning, 1 row warning, 2 rows" in lines
    page = Path("diff.html").read_text()
    assert "Beside the live scores" in page
    assert "warning, 2 rows" in page
    assert "Nothing is published yet" in page


def test_score_says_how_to_publish_what_it_holds(daily, capfd):
    daily()
    done = run(capfd, "score", "conf/scores.yaml", "--date", DAY, "--engine", "local", "--hold", "--hold-days", "2")
    assert done.code == 0
    assert "HELD" in done.out
    last = done.out.splitlines()[-1]
    assert last.startswith("next     lakehouse publish conf/scores.yaml --run ")
    listed = run(capfd, "runs", "conf/scores.yaml")
    assert [line.split()[3] for line in listed.out.splitlines()[1:]] == ["held"]
    now = run(capfd, "status", "conf/scores.yaml", "--date", DAY, "--json")
    assert (now.code, now.json["status"]) == (0, "held")
