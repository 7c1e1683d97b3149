"""The table of comparisons, in each system and for each way of writing: rows of the same runs as the scored table's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.linear_model import LogisticRegression

from lakehouse import sinks
from lakehouse.errors import ConfigError, Partial, Unavailable
from lakehouse.operations import sweep
from lakehouse.operations.lookup import status
from lakehouse.operations.replay import replay
from lakehouse.operations.verification import digests_of_sinks
from lakehouse.pipeline import Request, new_run_id
from lakehouse.planning.naming import state_of
from lakehouse.runs import ledger
from tests.conftest import read, score, version, write

DAY, NEXT = "2026-01-02", "2026-01-03"
X = pd.DataFrame({"a": np.linspace(0, 4, 40), "b": np.cos(np.arange(40))})
MODEL, RIVAL = (LogisticRegression().fit(X, X["a"] > above) for above in (2, 3))


@pytest.fixture(scope="module")
def uris(register):
    return register(MODEL, X, method="predict_proba"), register(RIVAL, X, method="predict_proba")


def features(day: str = DAY, start: int = 0, shift: float = 0.0, unkeyed: int = 0) -> pa.Table:
    ids = np.arange(start, start + 40)
    keys = pa.array(ids, mask=np.arange(40) < unkeyed)
    return pa.table({"id": keys, "a": X["a"] + shift, "b": X["b"], "day": pa.array([day] * 40)})


@pytest.fixture
def job(make_job, uris):
    """job(day, **sections): a job with one challenger, `rival`."""

    def make(day: str = DAY, **more: Any) -> Any:
        rivals = more.pop("challengers", [{"uri": uris[1], "name": "rival"}])
        sections = {
            "source": {"where": "day = '{date}'"}, "predictions": {"p": {"class": True}},
            "slice": {"score_date": "{date}"}, "checks": {"quarantine": {"max_fraction": 0.5}},
        }  # fmt: skip
        model = {"method": "predict_proba", "challengers": rivals}
        return make_job(uris[0], date=day, model=model, **{**sections, **more})

    return make


def assert_alike(table: str = "lake/scores") -> None:
    """Assert that both tables hold the same rows of the same runs, with what the two models say of them."""
    own, beside = read(table), read(f"{table}_challengers")
    names = [name for name in own.column_names if name in beside.column_names]
    order = [(name, "ascending") for name in ("id", *(n for n in names if n == "score_date"))]
    assert own.select(names).sort_by(order).equals(beside.select(names).sort_by(order))
    assert beside["p_rival"].null_count == 0


def test_slices_are_replaced_each_by_itself(job):
    write("lake/features", pa.concat_tables([features(), features(NEXT, 100, unkeyed=2)]), ["day"])
    first, second = score(job()), score(job(NEXT))
    assert [made["kind"] for made in first.sinks] == ["comparison", "sink"]
    assert [made["kind"] for made in second.sinks] == ["quarantine", "comparison", "sink"]
    assert_alike()
    assert len(read("lake/scores_challengers")) == 78
    assert [score(job(), rescore=True).status, score(job()).status] == ["published", "unchanged"]
    assert_alike()
    outcome, code = status(job(NEXT))
    assert (outcome.run_id, code) == (second.run_id, 0)
    write("lake/features", features(shift=0.5), ["day"], mode="overwrite", predicate=f"day = '{DAY}'")
    assert score(job()).status == "published"
    assert_alike()


def test_merge_and_append(job):
    rows = features()
    write("lake/features", rows, ["day"])
    merging = {"job": "merging", "sinks": [{"type": "delta", "table": "lake/merged", "write": "merge"}], "slice": {}}
    score(job(**merging))
    write("lake/features", features(NEXT, 20, shift=1.0), ["day"])
    score(job(NEXT, **merging))
    assert_alike("lake/merged")
    assert len(read("lake/merged_challengers")) == 60
    adding = {"job": "adding", "sinks": [{"type": "delta", "table": "lake/added", "write": "append"}], "slice": {}}
    for day in (DAY, NEXT):
        assert score(job(day, **adding)).status == "published"
        assert score(job(day, **adding)).status == "unchanged"
    assert len(read("lake/added_challengers")) == 80
    score(job(NEXT, **adding), rescore=True)
    assert len(read("lake/added_challengers")) == 80


def test_a_replay_adds_to_the_scores_alone(job):
    """What a run has set aside was given to no challenger, and a replay compares nothing."""
    write("lake/features", features(), ["day"])
    rule = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "max_value": 3.5}}
    Path("conf").mkdir(exist_ok=True)
    Path("conf/suite.json").write_text(json.dumps({"name": "low", "expectations": [rule], "meta": {}}))
    first = score(job(checks={"features": "conf/suite.json", "quarantine": {"max_fraction": 0.5}}))
    assert (first.rows_scored, first.rows_quarantined) == (35, 5)
    record = ledger.record_of(state_of(job()), "scores", first.run_id)
    again = replay(job(), record, Request("local", ledger.now(), new_run_id()))
    assert [made["kind"] for made in again.sinks] == ["sink"]
    assert (len(read("lake/scores")), len(read("lake/scores_challengers"))) == (40, 35)


def test_a_run_that_ends_between_the_two_commits_is_finished_by_the_next(job, monkeypatch):
    write("lake/features", features(), ["day"])
    score(job())
    write("lake/features", features(shift=0.5), ["day"], mode="overwrite", predicate=f"day = '{DAY}'")
    publish = sinks.of("delta").publish

    def fail(target: Any, *more: Any) -> int:
        if target.kind == "sink":
            raise Unavailable("storage: connection refused")
        return publish(target, *more)

    with monkeypatch.context() as broken:
        broken.setattr(sinks.of("delta"), "publish", fail)
        with pytest.raises(Partial):
            score(job())
    before = version("lake/scores_challengers")
    assert score(job()).status == "published"
    assert_alike()
    assert version("lake/scores_challengers") == before


def test_left_overs_beside_the_table_of_comparisons_are_swept(job, monkeypatch):
    write("lake/features", features(), ["day"])

    def fail(*_: Any) -> None:
        raise Unavailable("storage: connection refused")

    with monkeypatch.context() as broken:
        broken.setattr("lakehouse.pipeline.make_intent", fail)
        with pytest.raises(Unavailable):
            score(job())
    found = sweep.sweep(job(), take_away=True)
    assert {Path(left.table).name for left in found if left.files} == {"scores", "scores_challengers"}
    assert [left for left in sweep.sweep(job(), take_away=False) if left.files] == []


@pytest.mark.parametrize(
    ("table", "said"),
    [("lake/features", "source.table"), ("lake/scores", "comparison.table"), ("lake/aside", "checks.quarantine.table")],
)
def test_the_table_of_comparisons_is_no_other(job, table, said):
    checks = {"quarantine": {"table": "lake/aside"}}
    with pytest.raises(ConfigError, match=rf"{table}' is also {said}"):
        job(comparison={"table": table}, checks=checks)


@pytest.mark.long
def test_comparisons_in_snowflake(job, account):
    write("lake/features", pa.concat_tables([features(), features(NEXT, 100)]), ["day"])
    sink = {"type": "snowflake", "connection": account.name, "table": account.table("scores")}
    given = {"sinks": [sink], "state": "state"}
    first = score(job(**given))
    other = score(job(NEXT, **given))
    assert [(made["type"], made["kind"]) for made in first.sinks] == [
        ("snowflake", "comparison"),
        ("snowflake", "sink"),
    ]
    assert first.sinks[0]["table"].endswith("SCORES_CHALLENGERS")

    def held() -> list[Any]:
        query = "SELECT id, p, p_rival, _RUN_ID, TO_VARCHAR(score_date) FROM scores_challengers ORDER BY id"
        return list(account.run(query))

    expected = [model.predict_proba(X)[:, 1] for model in (MODEL, RIVAL)]
    rows = held()
    assert len(rows) == 80
    np.testing.assert_allclose([row[1] for row in rows[:40]], expected[0], rtol=1e-9)
    np.testing.assert_allclose([row[2] for row in rows[:40]], expected[1], rtol=1e-9)
    assert score(job(**given)).status == "unchanged"
    again = score(job(**given), rescore=True)
    assert {row[3] for row in held()} == {again.run_id, other.run_id}
    assert len(held()) == 80
    left = [one for one in sweep.sweep(job(**given), take_away=True) if one.files]
    assert left == []


@pytest.mark.long
def test_comparisons_of_a_job_with_two_sinks_are_in_the_first_ones_system(job, account):
    write("lake/features", features(), ["day"])
    snow = {"type": "snowflake", "connection": account.name, "table": account.table("scores")}
    result = score(job(sinks=[{"type": "delta", "table": "lake/scores"}, snow]))
    kinds = [(made["type"], made["kind"]) for made in result.sinks]
    assert kinds == [("delta", "comparison"), ("delta", "sink"), ("snowflake", "sink")]
    assert_alike()
    assert len(digests_of_sinks(job(sinks=[{"type": "delta", "table": "lake/scores"}, snow]))) == 2
    named = {"sinks": [snow], "state": "state", "job": "other", "comparison": {"table": "other_compared"}}
    snow["table"] = account.table("others")
    score(job(**named))
    assert account.run("SELECT COUNT(*) FROM other_compared") == [(40,)]
    assert pc.sum(read("lake/scores_challengers")["p_rival"]).as_py() > 0
