"""`lakehouse explain` and `lakehouse verify`: scores made again from what they stand on, and what no longer can be."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from lakehouse.operations.receipts import choosing
from lakehouse.operations.receipts.holding import Verified
from tests.command import run
from tests.conftest import opened, read, score, write

DAY, OTHER = "2026-01-02", "2026-01-03"
ROWS = 3_000


def frame(rows=ROWS, seed=0):
    """Features a, b, c of an output y, a text and a category."""
    random = np.random.default_rng(seed)
    x = pd.DataFrame(random.normal(size=(rows, 3)), columns=["a", "b", "c"])
    x["text"] = random.choice(["cheap red", "dear red", "cheap blue", "dear green"], rows)
    x["kind"] = random.choice(["x", "y", "z"], rows)
    y = (x["a"] + 0.5 * x["b"] + (x["kind"] == "x") + random.normal(size=rows) * 0.3 > 0.2).astype(int)
    return x, y


def linear(x, y):
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y), ["a", "b", "c"]


def boosted(x, y):
    return HistGradientBoostingClassifier(max_iter=20).fit(x, y), ["a", "b", "c"]


def textual(x, y):
    columns = make_column_transformer(
        (TfidfVectorizer(), "text"), (OneHotEncoder(), ["kind"]), remainder=StandardScaler()
    )
    return make_pipeline(columns, LogisticRegression()).fit(x, y), ["a", "b", "c", "text", "kind"]


@pytest.fixture(scope="module")
def trained(register):
    """By name the URI of a model, each made once."""
    made = {}

    def make(train):
        if train.__name__ not in made:
            x, y = frame()
            names = ["a", "b", "c", "text", "kind"] if train is textual else ["a", "b", "c"]
            model, _ = train(x[names], y)
            made[train.__name__] = register(model, x[names], method="predict_proba", serialization_format="cloudpickle")
        return made[train.__name__]

    return make


@pytest.fixture
def scored(make_job, trained):
    """A job with 3,000 rows of features and some bad ones, scored by this model."""

    def make(train, **sections):
        x, _ = frame(seed=1)
        bad = np.arange(0, ROWS, 500)
        rows = pa.table({"id": np.arange(ROWS), **{n: pa.array(x[n]) for n in x}})
        wrong = pa.array(np.isin(np.arange(ROWS), bad))
        rows = rows.set_column(rows.schema.get_field_index("a"), "a", pc.if_else(wrong, pa.scalar(999.0), rows["a"]))
        write("lake/features", rows)
        suite = {"name": "s", "expectations": [_BETWEEN, _WARNS]}
        Path("suite.json").write_text(json.dumps(suite))
        checks = {"features": "suite.json", "quarantine": {"max_fraction": 0.1}}
        job = make_job(trained(train), predictions={"p": {"class": 1}}, keep=["kind"], checks=checks,
                       model={"uri": trained(train), "trust": ["pickle"]}, **sections)  # fmt: skip
        return job, score(job)

    return make


_BETWEEN = {
    "type": "expect_column_values_to_be_between",
    "kwargs": {"column": "a", "min_value": -100, "max_value": 100, "mostly": 0.9},
    "severity": "critical",
}
_WARNS = {
    "type": "expect_column_values_to_be_between",
    "kwargs": {"column": "b", "min_value": 0},
    "severity": "warning",
}


@pytest.fixture(scope="module")
def daily_models(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return [register(LinearRegression().fit(x, x["a"] * times), x) for times in (1, 2)]


@pytest.fixture
def daily(make_job):
    def make(uri, day=DAY, **sections):
        return make_job(uri, date=day, slice={"score_date": "{date}"}, **{"predictions": {"p": 0}, **sections})

    write("lake/features", pa.table({"id": [1, 2, 3], "a": [1.0, 2.0, 3.0]}))
    return make


def explain(capfd, *arguments):
    return run(capfd, "explain", "conf/scores.yaml", "--json", *arguments)


def test_a_live_score_is_explained_and_comes_out_equal(capfd, daily, daily_models):
    done = score(daily(daily_models[0]))
    found = explain(capfd, "--key", "2")
    told = found.json
    assert found.code == 0, found
    assert (told["status"], told["live"], told["equal"]) == ("scored", True, True)
    assert told["stored"]["p"] == pytest.approx(2.0) == pytest.approx(told["again"]["p"])
    assert told["run"]["run_id"] == done.run_id
    assert told["run"]["program"]["lakehouse"]
    assert told["model"]["digest"] == done.model["digest"]
    assert (told["input"]["version"], told["input"]["file"].endswith(".parquet")) == (0, True)
    [feature] = told["features"]
    assert feature == {"name": "a", "column": "a", "value": 2.0, "type": "double", "given_as": "float64"}
    assert told["notes"] == told["unknown"] == []


def verify(capfd, *arguments):
    return run(capfd, "verify", "conf/scores.yaml", "--json", *arguments)


def edit(table, where, **values):
    """A person changes rows of a table."""
    opened(table).update(predicate=where, updates=values)


@pytest.mark.parametrize("train", [linear, boosted, textual])
def test_a_thousand_scores_of_any_model_come_out_equal(capfd, scored, train):
    _, done = scored(train)
    found = verify(capfd, "--run", done.run_id[:8])
    told = found.json
    assert found.code == 0, found
    assert (told["checked"], told["equal"], told["differing"]) == (1_000, 1_000, 0)
    assert (told["equal_all"], told["alike"], told["same_settings"], told["notes"]) == (True, True, True, [])
    assert told["rows"] == {"table": ROWS - 6, "quarantine": 6, "input": ROWS}
    assert told["exact"] is (train is boosted)
    everything = verify(capfd, "--all").json
    assert (everything["checked"], everything["equal"]) == (ROWS - 6, ROWS - 6)


def test_a_sample_is_the_same_by_the_same_seed_and_any_rows_by_another():
    batch = pa.record_batch({"id": np.arange(ROWS)})
    chosen = []
    for seed in (0, 0, *range(1, 40)):
        hashes = choosing.mixed(batch, ["id"], seed)
        chosen.append(next(choosing.parts_of(hashes, 300, 1))(hashes))
    assert (chosen[0] == chosen[1]).all()
    assert {int(one.sum()) for one in chosen} == {300}
    together = np.array(chosen[1:]).astype(float)
    assert np.abs(np.corrcoef(together)[~np.eye(40, dtype=bool)]).max() < 0.12
    assert together.mean(axis=0).max() < 0.4
    every = [part(hashes) for part in choosing.parts_of(hashes, None, 1)]
    assert np.sum(every, axis=0).tolist() == [1] * ROWS


def test_a_score_that_was_edited_is_caught(capfd, scored):
    scored(boosted)
    stored = read("lake/scores").filter(pc.field("id") == 7)["p"][0].as_py()
    edit("lake/scores", "id = 7", p="p + 0.000000001")
    found = verify(capfd, "--all")
    told = found.json
    assert (found.code, told["equal_all"], told["checked"], told["differing"]) == (3, False, ROWS - 6, 1)
    [example] = told["examples"]
    assert example == {"kind": "differs", "key": {"id": 7}, "column": "p", "stored": stored + 1e-9, "again": stored}
    explained = explain(capfd, "--key", "7")
    assert (explained.code, explained.json["equal"]) == (3, False)
    assert explained.json["differences"]["p"]["by"] == pytest.approx(-1e-9)
    assert "DIFFERS" in run(capfd, "explain", "conf/scores.yaml", "--key", "7").out
    assert "1 other" in run(capfd, "verify", "conf/scores.yaml", "--all").out
    edit("lake/scores", "id = 8", kind="'edited'")
    assert {(one["key"]["id"], one["column"]) for one in verify(capfd, "--all").json["examples"]} == {
        (7, "p"),
        (8, "kind"),
    }
    assert verify(capfd, "--all").json["differing"] == 2


@pytest.mark.parametrize("wrong", ["differing", "missing", "extra", "unfit", "strangers"])
def test_one_row_of_any_kind_that_is_wrong_is_enough(wrong):
    found = Verified("run", "table", None, None, 0)
    assert found.proved
    setattr(found, wrong, 1)
    assert not found.proved
    assert not Verified("run", "table", None, None, 0, alike=False).proved
    assert not Verified("run", "table", None, None, 0, changed=["something"]).proved


def _replace_by_hand(table):
    rows = read(table)
    place = rows.schema.get_field_index("_run_id")
    write(table, rows.set_column(place, "_run_id", pa.array(["hand"] * len(rows))), ["score_date"], mode="overwrite")


@pytest.mark.parametrize(
    ("by_hand", "what", "strangers"),
    [
        (lambda table: opened(table).delete("id >= 0"), "(DELETE", 0),
        (lambda table: opened(table).update(updates={"_run_id": "'x'"}), "(UPDATE", 3),
        (_replace_by_hand, "(WRITE", 3),
    ],
)
def test_rows_that_a_person_took_away_are_told_and_not_read_from_the_past(
    capfd, daily, daily_models, by_hand, what, strangers
):
    done = score(daily(daily_models[0]))
    by_hand("lake/scores")
    found = verify(capfd, "--run", done.run_id)
    told = found.json
    assert (found.code, told["equal_all"], told["version"], told["strangers"]) == (3, False, None, strangers), told
    assert told["changed"][0] == "none of its 3 rows is in the table, and no later run replaced them"
    assert what in told["changed"][1]
    assert what in run(capfd, "verify", "conf/scores.yaml").out


def test_files_that_a_person_replaced_are_told_whatever_is_sampled(capfd, daily, daily_models):
    done = score(daily(daily_models[0]))
    edit("lake/scores", "id = 2", p="p")
    found = verify(capfd, "--all")
    assert (found.code, found.json["equal"], found.json["differing"]) == (3, 3, 0)
    assert ["(UPDATE" in line for line in found.json["changed"]] == [True]
    row = read("lake/scores").slice(0, 1)
    write("lake/scores", row, ["score_date"])
    twice = verify(capfd, "--run", done.run_id)
    assert "the table has 4 rows of the run, which published 3" in twice.json["changed"]


def test_files_that_optimize_has_merged_are_no_finding_and_what_a_person_did_to_them_is(capfd, daily, daily_models):
    score(daily(daily_models[0]))
    score(daily(daily_models[0], day=OTHER))
    write("lake/features", pa.table({"id": [4], "a": [4.0]}), mode="append")
    opened("lake/scores").optimize.z_order(["id"])
    assert verify(capfd, "--date", DAY).json["changed"] == []
    opened("lake/scores").delete(f"score_date = '{OTHER}'")
    assert verify(capfd, "--date", DAY).json["changed"] == []
    opened("lake/scores").delete("id = 1")
    told = verify(capfd, "--date", DAY).json["changed"]
    assert "(DELETE" in told[0]
    assert told[1:] == ["the table has 2 rows of the run, which published 3"]


def test_what_a_later_run_has_replaced_is_no_finding_but_what_a_replay_added_to_is(capfd, daily, daily_models):
    first = score(daily(daily_models[0]))
    opened("lake/scores").delete("id >= 0")
    second = score(daily(daily_models[1]))
    past = verify(capfd, "--run", first.run_id)
    assert (past.code, past.json["changed"], past.json["version"]) == (0, [], first.sinks[0]["version"])
    assert verify(capfd, "--run", second.run_id).code == 0
    run(capfd, "rollback", "conf/scores.yaml", "--date", DAY, "--engine", "local", "--run", first.run_id)
    assert verify(capfd, "--run", first.run_id).code == 0
    opened("lake/scores").delete("id >= 0")
    assert verify(capfd, "--run", first.run_id).code == 3


def test_rows_that_would_be_set_aside_now_are_neither_missing_nor_too_much(capfd, daily, daily_models):
    def suite(most):
        rule = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "max_value": most}}
        Path("suite.json").write_text(json.dumps({"name": "s", "expectations": [rule]}))

    suite(10)
    score(daily(daily_models[0], checks={"features": "suite.json", "quarantine": {"max_fraction": 0.5}}))
    suite(2.5)
    found = verify(capfd, "--all")
    told = found.json
    assert (found.code, told["unfit"], told["missing"], told["extra"], told["equal"]) == (3, 1, 0, 0, 2)
    assert told["same_settings"] is False


def test_a_row_that_an_earlier_generation_set_aside_is_not_there_any_more(capfd, daily, daily_models):
    aside = {"checks": {"quarantine": {"max_fraction": 0.5}}}
    write("lake/features", pa.table({"id": [1, 2, 3], "a": [1.0, 2.0, None]}), mode="overwrite")
    first = score(daily(daily_models[0], **aside))
    write("lake/features", pa.table({"id": [1, 2], "a": [1.0, 2.0]}), mode="overwrite")
    score(daily(daily_models[0], **aside))
    assert explain(capfd, "--key", "3").code == 2
    assert explain(capfd, "--key", "3", "--run", first.run_id).json["status"] == "quarantined"


def test_a_model_version_with_other_bytes_by_now_is_refused(capfd, daily, daily_models):
    score(daily(daily_models[0]))
    opened("lake/scores_state/runs").update(new_values={"model_digest": "0" * 64})
    refused = explain(capfd, "--key", "2")
    assert (refused.code, refused.json["equal"]) == (4, None)
    assert "has other bytes" in refused.json["unknown"][0]
    assert verify(capfd).code == 4


def test_rows_of_one_side_only_are_caught(capfd, scored):
    scored(linear)
    row = read("lake/scores").slice(0, 1)
    opened("lake/scores").delete("id IN (8, 9)")
    write("lake/scores", row.set_column(0, "id", pa.array([77_777])))
    write("lake/scores", row.set_column(0, "id", pa.array([88_888])).set_column(
        row.schema.get_field_index("_run_id"), "_run_id", pa.array(["nobody"])))  # fmt: skip
    found = verify(capfd, "--all")
    told = found.json
    assert (found.code, told["missing"], told["extra"], told["strangers"], told["differing"]) == (3, 2, 1, 1, 0)
    keys = {one["kind"]: one["key"]["id"] for one in told["examples"]}
    assert (keys["extra"], keys["missing"] in (8, 9)) == (77_777, True)
    few = verify(capfd, "--sample", "10")
    assert (few.code, few.json["alike"]) == (3, False)
    assert "NOT those of table and quarantine" in run(capfd, "verify", "conf/scores.yaml", "--sample", "10").out


def test_a_row_in_quarantine_is_explained_with_its_reasons(capfd, scored):
    _, done = scored(linear)
    found = explain(capfd, "--key", "500")
    told = found.json
    assert (found.code, told["status"], told["equal"], told["run"]["run_id"]) == (0, "quarantined", True, done.run_id)
    assert [r["column"] for r in told["reasons"]] == ["a"] == [r["column"] for r in told["again_reasons"]]
    passed = {rule["severity"]: rule["passed"] for rule in told["rules"]}
    assert passed["critical"] is False
    assert next(f["value"] for f in told["features"] if f["name"] == "a") == 999.0
    shown = run(capfd, "explain", "conf/scores.yaml", "--key", "500").out
    assert "set aside" in shown
    [line] = [one for one in shown.splitlines() if "failed" in one]
    assert line.split()[-3:] == ["a", "critical", "failed"]
    assert "failed" in shown


def test_what_a_row_warned_of_is_told(capfd, scored):
    scored(linear)
    warned = next(row["id"] for row in read("lake/scores").to_pylist() if row["_warnings"])
    told = explain(capfd, "--key", str(warned)).json
    assert told["warnings"] == [rule["name"] for rule in told["rules"] if rule["passed"] is False]


def test_a_past_run_is_explained_from_the_versions_that_it_had(capfd, daily, daily_models):
    first = score(daily(daily_models[0]))
    write("lake/features", pa.table({"id": [1, 2, 3], "a": [10.0, 20.0, 30.0]}), mode="overwrite")
    second = score(daily(daily_models[1]))
    then = explain(capfd, "--key", "2", "--run", first.run_id[:8]).json
    assert (then["live"], then["stored"]["p"], then["equal"]) == (False, pytest.approx(2.0), True)
    assert (then["input"]["version"], then["table"]["version"]) == (0, first.sinks[0]["version"])
    assert then["features"][0]["value"] == 2.0
    assert any("differs from what the run had" not in note for note in then["notes"]) is bool(then["notes"])
    now = explain(capfd, "--key", "2").json
    assert (now["live"], now["stored"]["p"], now["run"]["run_id"]) == (True, pytest.approx(40.0), second.run_id)
    past = verify(capfd, "--run", first.run_id)
    assert (past.code, past.json["equal"], past.json["version"]) == (0, 3, first.sinks[0]["version"])

    opened("lake/features").vacuum(0, dry_run=False, enforce_retention_duration=False)
    gone = explain(capfd, "--key", "2", "--run", first.run_id)
    assert (gone.code, gone.json["equal"], gone.json["stored"]["p"]) == (2, None, pytest.approx(2.0))
    assert "is gone, so that its scores can't be made again (VACUUM" in gone.json["unknown"][0]
    assert "VACUUM" in verify(capfd, "--run", first.run_id).json["message"]
    opened("lake/scores").vacuum(0, dry_run=False, enforce_retention_duration=False)
    lost = explain(capfd, "--key", "2", "--run", first.run_id)
    assert (lost.code, "VACUUM takes replaced files" in lost.json["message"]) == (2, True)


def test_a_model_version_that_is_gone_is_named(capfd, daily, daily_models, register, tracking_uri):
    import mlflow

    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    uri = register(LinearRegression().fit(x, x["a"]), x, name="short_lived")
    done = score(daily(uri))
    mlflow.MlflowClient(tracking_uri).delete_model_version("short_lived", "1")
    found = explain(capfd, "--key", "2")
    assert (found.code, found.json["equal"], found.json["stored"]["p"]) == (2, None, pytest.approx(2.0))
    assert f"short_lived v1, which run {done.run_id} used, can't be had any more" in found.json["unknown"][0]
    assert "short_lived v1" in verify(capfd).json["message"]


def test_keys_of_several_columns(capfd, make_job, daily_models):
    write("lake/features", pa.table({"id": [1, 1], "day": pa.array(["2026-01-01", "2026-01-02"]), "a": [1.0, 2.0]}))
    score(make_job(daily_models[0], keys=["id", "day"], predictions={"p": 0}))
    assert explain(capfd, "--key", "1,2026-01-02").json["stored"]["p"] == pytest.approx(2.0)
    assert explain(capfd, "--key", "1,2026-01-01").json["key"] == {"id": 1, "day": "2026-01-01"}
    assert verify(capfd).json["equal"] == 2
    wrong = explain(capfd, "--key", "1")
    assert (wrong.code, wrong.json["message"]) == (2, "--key: '1' has 1 values, the key of scores is id, day")
    broken = explain(capfd, "--key", "1,x\ny")
    assert broken.code == 2
    assert r"'1,x\ny' can't be taken apart" in broken.json["message"]


def test_a_key_that_is_nowhere_says_where_it_was_looked_for(capfd, daily, daily_models):
    done = score(daily(daily_models[0], source={"where": "a < 3"}))
    said = explain(capfd, "--key", "3").json["message"]
    assert said == (
        f"--key: no row with id=3 (score_date={DAY}): looked in lake/scores (the newest version); "
        "no quarantine table; the input lake/features v0 (where a < 3)"
    )
    assert explain(capfd, "--key", "x").json["message"] == "--key: 'x' is no value of id, which is int64"
    named = explain(capfd, "--key", "3", "--run", done.run_id).json["message"]
    assert f"lake/scores (rows of run {done.run_id})" in named


def test_runs_that_were_rolled_back_or_replayed(capfd, daily, daily_models):
    first = score(daily(daily_models[0], explanations={}))
    score(daily(daily_models[1], explanations={}))
    assert run(capfd, "rollback", "conf/scores.yaml", "--date", DAY).code == 0
    found = verify(capfd)
    assert (found.code, found.json["equal"], found.json["notes"]) == (0, 3, []), found
    told = explain(capfd, "--key", "1").json
    assert (told["run"]["run_id"], told["equal"]) == (first.run_id, True)


def test_why_is_exact_for_a_linear_model_and_adds_up_to_its_log_odds(capfd, scored):
    scored(linear)
    told = explain(capfd, "--key", "7", "--why").json
    why = told["why"]
    assert why["method"].startswith("linear, exact: coefficient × (value − mean of 64 rows of the input), in units of")
    assert (why["prediction"], {part["name"] for part in why["features"]}) == ("p", {"a", "b", "c"})
    odds = why["base"] + sum(part["contribution"] for part in why["features"])
    assert 1 / (1 + np.exp(-odds)) == pytest.approx(told["stored"]["p"], rel=1e-9)
    sizes = [abs(part["contribution"]) for part in why["features"]]
    assert sizes == sorted(sizes, reverse=True)
    assert "log-odds" in run(capfd, "explain", "conf/scores.yaml", "--key", "7", "--why").out


def test_why_tries_other_values_where_the_model_does_not_tell(capfd, scored):
    scored(textual)
    why = explain(capfd, "--key", "7", "--why").json["why"]
    assert why["method"].startswith(
        "permutation: how far the prediction is, on average, from the one with the feature's"
    )
    assert "base" not in why
    found = {part["name"]: part["contribution"] for part in why["features"]}
    x, _ = frame(seed=1)
    model, _ = textual(*frame())
    row, others = x.iloc[[7]], x.iloc[1:65]  # the first one is set aside
    own = model.predict_proba(row)[0, 1]
    for name, contribution in found.items():
        tried = pd.concat([row] * 64, ignore_index=True).assign(**{name: others[name].to_numpy()})
        assert contribution == pytest.approx(own - model.predict_proba(tried)[:, 1].mean(), abs=1e-9)


@pytest.mark.long
def test_an_upsert_and_an_append(capfd, make_job, daily_models):
    write("lake/features", pa.table({"id": [1, 2, 3], "a": [1.0, 2.0, 3.0], "day": [DAY, DAY, OTHER]}))
    merge = {"sinks": [{"type": "delta", "table": "lake/merged", "write": "merge"}], "state": "lake/state"}
    first = score(make_job(daily_models[0], predictions={"p": 0}, **merge))
    write("lake/features", pa.table({"id": [1], "a": [9.0], "day": [DAY]}), mode="overwrite")
    score(make_job(daily_models[1], predictions={"p": 0}, **merge))
    assert [explain(capfd, "--key", key).json["stored"]["p"] for key in "12"] == pytest.approx([18.0, 2.0])
    assert [explain(capfd, "--key", key).json["equal"] for key in "12"] == [True, True]
    past = verify(capfd, "--run", first.run_id)
    assert (past.code, past.json["equal"], past.json["version"]) == (0, 3, first.sinks[0]["version"])
    assert (verify(capfd).code, verify(capfd).json["equal"]) == (0, 1)

    write(
        "lake/features", pa.table({"id": [1, 2, 1], "a": [1.0, 2.0, 3.0], "day": [DAY, DAY, OTHER]}), mode="overwrite"
    )
    for day in (DAY, OTHER):
        score(make_job(
            daily_models[0], date=day, predictions={"p": 0}, source={"where": "day = '{date}'"},
            sinks=[{"type": "delta", "table": "lake/appended", "write": "append"}], state="lake/state2",
        ))  # fmt: skip
    assert explain(capfd, "--key", "1", "--date", DAY).json["stored"]["p"] == pytest.approx(1.0)
    told = explain(capfd, "--key", "1", "--date", OTHER).json
    assert (told["stored"]["p"], told["equal"]) == (pytest.approx(3.0), True)
    assert told["notes"] == ["1 more rows of the table have this key: explained is one of them"]
    assert [verify(capfd, "--date", day).json["equal"] for day in (DAY, OTHER)] == [2, 1]


@pytest.mark.long
def test_a_model_a_value_of_a_column(capfd, make_job, register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    for number, country in enumerate(("at", "de"), start=1):
        register(LinearRegression().fit(x, x["a"] * number), x, name=f"receipt_{country}")
    write("lake/features", pa.table({"id": [1, 2, 3], "a": [1.0, 2.0, 3.0], "country": ["at", "de", "xx"]}))
    checks = {"quarantine": {"max_fraction": 0.5}}
    job = make_job("models:/receipt_{country}@champion", model={"by": "country"}, predictions={"p": 0}, checks=checks)
    score(job)
    told = explain(capfd, "--key", "2").json
    assert (told["stored"]["p"], told["equal"], told["model"]["name"]) == (pytest.approx(4.0), True, "receipt_de")
    assert told["model"]["digest"]
    found = verify(capfd)
    assert (found.code, found.json["equal"], found.json["rows"]["quarantine"]) == (0, 2, 1), found
    aside = explain(capfd, "--key", "3").json
    assert (aside["status"], [reason["rule"] for reason in aside["reasons"]]) == ("quarantined", ["no_model"])


@pytest.mark.long
def test_rows_that_were_replayed(capfd, scored):
    _, done = scored(linear)
    Path("suite.json").write_text(json.dumps({"name": "s", "expectations": [_WARNS]}))
    again = run(capfd, "replay", "conf/scores.yaml", "--run", done.run_id, "--engine", "local", "--json").json
    assert again["rows_scored"] == 6
    told = explain(capfd, "--key", "500").json
    assert (told["status"], told["equal"], told["run"]["run_id"]) == ("scored", True, again["run_id"])
    found = verify(capfd, "--run", again["run_id"])
    assert (found.code, found.json["equal"], found.json["alike"]) == (0, 6, None), found


@pytest.mark.long
def test_a_folder_of_parquet_that_was_written_to_since(capfd, make_job, daily_models):
    import pyarrow.parquet as pq

    Path("lake/features").mkdir(parents=True)
    pq.write_table(pa.table({"id": [1, 2], "a": [1.0, 2.0]}), "lake/features/a.parquet")
    score(make_job(daily_models[0], predictions={"p": 0}, source={"type": "parquet"}))
    told = explain(capfd, "--key", "2").json
    assert (told["equal"], told["input"]["file"], told["notes"]) == (True, "a.parquet", [])
    pq.write_table(pa.table({"id": [1, 2], "a": [1.0, 5.0]}), "lake/features/a.parquet")
    os.utime("lake/features/a.parquet", (2_000_000_000, 2_000_000_000))
    found = explain(capfd, "--key", "2")
    assert (found.code, found.json["equal"]) == (3, False)
    assert "has no versions, and a file of it was written since the run" in found.json["notes"][0]
