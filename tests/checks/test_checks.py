"""Suites in whole runs: bad rows aside with their reasons, bad days blocked, warnings in the rows, nothing lost."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from lakehouse import pipeline
from lakehouse.config import settings as settings_of
from lakehouse.errors import Blocked, ConfigError
from lakehouse.operations.lookup import record_of
from lakehouse.operations.replay import replay
from lakehouse.runs import evidence, ledger
from lakehouse.storage import locate
from lakehouse.views import planned
from tests.conftest import read, score, version, write
from tests.tables import assert_tables_equal

DAY = "2026-01-02"


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"] * 10), x)  # ten times as much


def rule(kind: str, severity: str = "critical", name: str | None = None, **kwargs: Any) -> dict[str, Any]:
    """An expectation as a suite file has it."""
    return {
        "type": f"expect_{kind}",
        "kwargs": kwargs,
        "severity": severity,
        **({"meta": {"name": name}} if name else {}),
    }


def suite(path: str, *expectations: dict[str, Any]) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(yaml.safe_dump({"name": path, "expectations": list(expectations)}))
    return path


@pytest.fixture
def checked(make_job, uri):
    """A job with these expectations on features and scores."""

    def make(features=(), scores=(), **sections):
        checks = {"quarantine": {"max_fraction": 0.5}, **sections.pop("checks", {})}
        if features:
            checks["features"] = suite("conf/expectations/features.yaml", *features)
        if scores:
            checks["scores"] = suite("conf/expectations/scores.yaml", *scores)
        return make_job(uri, predictions={"p": 0}, checks=checks, **sections)

    return make


def give(**columns: Any) -> None:
    write("lake/features", pa.table(columns), mode="overwrite")


def kept() -> dict[int, float]:
    rows = read("lake/scores")
    return dict(zip(rows["id"].to_pylist(), np.round(rows["p"].to_numpy(), 9).tolist(), strict=True))


def reasons() -> dict[int, list[tuple[str, str, str | None]]]:
    return {
        row["id"]: [tuple(r.values()) for r in row["_reasons"]] for row in read("lake/scores_quarantine").to_pylist()
    }


def newest() -> tuple[Any, Any]:
    """The state folder, and the record of the newest run."""
    state = locate("lake/scores_state")
    return state, ledger.runs(state, "scores")[0]


def test_rows_that_break_critical_rules_are_set_aside_with_every_reason(checked):
    give(id=[1, 2, 3, 4], a=[1.0, 5.0, None, 2.0], land=["DE", "XX", "DE", "ZZ"])
    features = [
        rule("column_values_to_be_between", column="a", min_value=0, max_value=4, mostly=0.5),
        rule("column_values_to_not_be_null", column="a", mostly=0.5),
        rule("column_values_to_be_in_set", column="land", value_set=["DE", "FR"], mostly=0.1, name="known_land"),
    ]
    result = score(checked(features, checks={"quarantine": {"max_fraction": 1.0}}))
    assert (result.status, result.checks) == ("published", {"passed": 4, "failed": 0, "warned": 0})
    assert kept() == {1: 10.0}
    assert reasons() == {
        2: [("expect_column_values_to_be_between", "a", "5"), ("known_land", "land", "XX")],
        3: [("expect_column_values_to_not_be_null", "a", None)],
        4: [("known_land", "land", "ZZ")],
    }
    assert read("lake/scores_quarantine").column_names[:3] == ["id", "a", "land"]


def test_rows_that_break_a_rule_never_reach_the_model(checked, register):
    """The model raises on negative numbers; a row rule keeps them from it."""
    give(id=[1, 2, 3], a=[1.0, -1.0, 2.0])
    seen = []
    job = checked([rule("column_values_to_be_between", column="a", min_value=0, mostly=0.5)])
    from lakehouse.scoring import score as scoring

    original = scoring.model_input
    try:
        scoring.model_input = lambda batch, *more: seen.extend(batch.column("a").to_pylist()) or original(batch, *more)
        score(job)
    finally:
        scoring.model_input = original
    assert set(seen) == {1.0, 2.0}


def test_scores_that_break_a_rule_are_set_aside_with_their_input(checked):
    give(id=[1, 2], a=[1.0, 3.0])
    score(checked(scores=[rule("column_values_to_be_between", column="p", max_value=20, mostly=0.5)]))
    assert kept() == {1: 10.0}
    assert reasons() == {2: [("expect_column_values_to_be_between", "p", "30")]}
    assert read("lake/scores_quarantine")["a"].to_pylist() == [3.0]


def test_rules_that_warn_are_written_into_the_rows(checked):
    give(id=[1, 2, 3, 4], a=[1.0, 2.0, 3.0, -1.0])
    features = [
        rule("column_values_to_be_between", "warning", "big", column="a", max_value=1, mostly=0.2),
        rule("column_values_to_be_between", column="a", min_value=0, mostly=0.5),
        rule("column_values_to_be_in_set", "info", column="a", value_set=[9.0]),
    ]
    scores = [rule("column_values_to_be_between", "warning", "very_big", column="p", max_value=20)]
    said: list[tuple[str, Any]] = []
    result = score(checked(features, scores), say=lambda event, values: said.append((event, values.get("message"))))
    rows = read("lake/scores")
    assert dict(zip(rows["id"].to_pylist(), rows["_warnings"].to_pylist(), strict=True)) == {
        1: [], 2: ["big"], 3: ["big", "very_big"]
    }  # fmt: skip
    assert (result.status, result.checks) == ("published", {"passed": 3, "failed": 0, "warned": 1})
    assert [m for m in said if m[0] in ("warning", "checks")] == [
        ("warning", "scores: very_big p (max_value 20): 1 of 3 rows (33.33%) fail, such as 30"),
        ("checks", "3 passed, 1 warned"),
        ("checks", "1 of 4 rows (25.00%) went to quarantine, 2 are allowed (max_fraction 0.5): "
                   "expect_column_values_to_be_between a ×1"),
    ]  # fmt: skip


# Critical rules of rows, and the budget


FIFTY = rule("column_values_to_be_between", column="a", max_value=4)


def test_rows_that_break_a_critical_rule_count_against_the_budget_which_decides(checked):
    """50 of 6,666 rows, of which 66 may be set aside, don't hold the day up; Great Expectations still says failed."""
    give(id=list(range(6666)), a=[1.0] * 6616 + [40.0, 41.0] * 25)
    said: list[str] = []
    job = checked([FIFTY], checks={"quarantine": {"max_fraction": 0.01}})
    result = score(job, say=lambda event, values: said.append(values["message"]) if event == "checks" else None)
    assert (result.status, result.rows_quarantined) == ("published", 50)
    assert result.checks == {"passed": 1, "failed": 0, "warned": 0}
    assert said == [
        "1 passed, 1 set rows aside",
        "50 of 6,666 rows (0.75%) went to quarantine, 66 are allowed (max_fraction 0.01): "
        "expect_column_values_to_be_between a ×50",
    ]
    facts = evidence.facts_of(*newest())
    [told] = facts["rules"]
    assert (told["success"], told["blocks"], told["set_aside"]) == (False, False, True)
    assert facts["budget"] == {"max_fraction": 0.01, "max_rows": None, "quarantined": 50, "allowed": 66}
    _, pages = evidence.native_pages(job, None)
    assert pages["features"][0]["success"] is False
    page = evidence.page(job, None)[1].decode()
    assert "50 rows were set aside, within the budget." in page
    assert "PUBLISHED WITH WARNINGS" not in page


def test_over_the_budget_the_run_is_blocked_by_it_and_every_page_says_so(checked):
    give(id=list(range(100)), a=[1.0] * 95 + [40.0] * 5)
    job = checked([FIFTY], checks={"quarantine": {"max_fraction": 0.01}})
    with pytest.raises(Blocked) as blocked:
        score(job)
    lines = str(blocked.value).splitlines()
    assert lines[0] == (
        "5 of 100 rows (5.00%) went to quarantine, 1 are allowed (max_fraction 0.01): "
        "expect_column_values_to_be_between a ×5"
    )
    assert lines[-1].endswith("To allow more: checks: {quarantine: {max_fraction: …}}")
    assert blocked.value.result.checks == {"passed": 0, "failed": 1, "warned": 0}
    assert (
        "Nothing was published: 5 of 100 rows had to be set aside, only 1 may be."
        in evidence.page(job, None)[1].decode()
    )


@pytest.mark.parametrize("mostly", [1, 1.0, 0.97])
def test_an_explicit_mostly_decides_by_itself(checked, mostly):
    give(id=list(range(100)), a=[1.0] * 95 + [40.0] * 3 + [41.0, 42.0])
    strict = {**FIFTY, "kwargs": {**FIFTY["kwargs"], "mostly": mostly}}
    with pytest.raises(Blocked) as blocked:
        score(checked([strict]))
    asked = ", mostly 0.97" if mostly < 1 else ""
    lines = str(blocked.value).splitlines()
    assert lines[0] == (
        f"features: expect_column_values_to_be_between a (max_value 4): 5 of 100 rows (5.00%) fail{asked}, "
        "such as 40, 41, 42"
    )
    assert lines[-1].endswith("To allow more: give the rule a lower mostly, or severity: warning")


def test_with_strict_checks_one_row_blocks_as_great_expectations_reads_it(checked):
    give(id=[1, 2, 3], a=[1.0, 2.0, 40.0])
    assert score(checked([FIFTY])).status == "published"
    with pytest.raises(Blocked, match=r"1 of 3 rows .* fail, such as 40"):
        score(checked([FIFTY], checks={"strict": True}))
    assert settings_of(checked([FIFTY])) == settings_of(checked([FIFTY], checks={"strict": False}))
    assert settings_of(checked([FIFTY])) != settings_of(checked([FIFTY], checks={"strict": True}))


def test_a_rule_of_which_no_row_need_pass_says_so(checked):
    give(id=[1, 2], a=[1.0, 40.0])
    none = {**FIFTY, "kwargs": {**FIFTY["kwargs"], "mostly": 0}}
    score(checked([none]))
    [told] = evidence.facts_of(*newest())["rules"]
    assert told["mostly"] == 0.0


def test_a_blocked_day_keeps_the_last_scores_and_publishes_once_it_is_mended(checked):
    features = [rule("column_values_to_be_between", column="a", max_value=4, mostly=1)]
    where = {"table": "lake/features", "where": "day = '{date}'"}
    sections = {"date": DAY, "source": where, "slice": {"score_date": "{date}"}}
    give(id=[1, 2, 3, 4], a=[1.0, 2.0, 3.0, 4.0], day=[DAY] * 4)
    score(checked(features, **sections))
    at = version("lake/scores")
    give(id=[1, 2, 3, 4], a=[1.0, 2.0, 3.0, 40.0], day=[DAY] * 4)
    with pytest.raises(Blocked) as blocked:
        score(checked(features, **sections))
    assert str(blocked.value).splitlines() == [
        "features: expect_column_values_to_be_between a (max_value 4): 1 of 4 rows (25.00%) fail, such as 40",
        "    id=4: expect_column_values_to_be_between a 40",
        "Nothing was published; the last good scores stay. The rows are in lake/scores_quarantine. "
        "To allow more: give the rule a lower mostly, or severity: warning",
    ]
    assert (version("lake/scores"), kept()[4]) == (at, 40.0)
    job = checked(features, **sections)
    [before] = evidence.quarantine_counts(job, every=False)
    assert (before["rule"], before["rows"], before["superseded"], before["status"]) == (
        "expect_column_values_to_be_between", 1, False, "blocked"
    )  # fmt: skip
    give(id=[1, 2, 3, 4], a=[1.0, 2.0, 3.0, 0.5], day=[DAY] * 4)
    assert score(checked(features, **sections)).status == "published"
    assert kept()[4] == 5.0
    assert read("lake/scores_quarantine").num_rows == 1
    assert evidence.quarantine_counts(job, every=False) == []
    assert [row["superseded"] for row in evidence.quarantine_counts(job, every=True)] == [True]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (rule("column_values_to_be_betwen", column="a"), "expect_column_values_to_be_between"),
        (rule("column_values_to_not_be_null", column="aa"), "'a'"),
        (rule("column_values_to_be_between", column="a", minimum=3), "minimum"),
        ({"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "a"}, "severity": "fatal"}, "critical"),
    ],
)
def test_a_suite_with_a_mistake_is_refused_before_any_task(checked, bad, said):
    give(id=[1], a=[1.0])
    with pytest.raises(ConfigError, match=r"conf/expectations/features.yaml: expectations\[0\]") as refused:
        score(checked([bad]))
    assert said in str(refused.value)
    with pytest.raises(ConfigError, match=r"conf/expectations/scores.yaml: expectations\[0\]"):
        score(checked(scores=[bad]))
    assert version("lake/scores") == -1
    assert not Path("lake/scores").exists()


def test_a_suite_that_is_not_there_is_named(make_job, uri):
    give(id=[1], a=[1.0])
    suite("conf/expectations/games_features.yaml")
    with pytest.raises(
        ConfigError,
        match=r"checks.features: there is no file conf/expectations/game_features.yaml.*'games_features.yaml'",
    ):
        score(make_job(uri, predictions={"p": 0}, checks={"features": "conf/expectations/game_features.yaml"}))


def test_another_suite_is_another_run(checked):
    give(id=[1, 2], a=[1.0, 2.0])
    assert score(checked([rule("column_values_to_not_be_null", column="a")])).status == "published"
    assert score(checked([rule("column_values_to_not_be_null", column="a")])).status == "unchanged"
    assert score(checked([rule("column_values_to_not_be_null", column="id")])).status == "published"


# Rows that were set aside, scored again after a fix


def test_a_replay_adds_the_rows_that_pass_now_once(checked):
    give(id=[1, 2, 3], a=[1.0, 5.0, 50.0])
    wide = rule("column_values_to_be_between", column="a", max_value=4, mostly=0.1)
    first = score(checked([wide], checks={"quarantine": {"max_fraction": 1.0}}))
    assert kept() == {1: 10.0}
    fixed = checked([{**wide, "kwargs": {**wide["kwargs"], "max_value": 10}}])

    def again(run: str) -> pipeline.Result:
        request = pipeline.Request("local", ledger.now(), pipeline.new_run_id())
        return replay(fixed, record_of(fixed, run), request)

    second = again(first.run_id)
    assert (second.status, second.rows_read, second.rows_scored, second.rows_quarantined) == ("published", 2, 1, 1)
    assert kept() == {1: 10.0, 2: 50.0}
    assert again(first.run_id).status == "unchanged"
    assert kept() == {1: 10.0, 2: 50.0}
    assert [row["run_id"] for row in evidence.quarantine_counts(fixed, every=False)] == [second.run_id]
    assert set(read("lake/scores")["_input_version"].to_pylist()) == {0}
    # The first job, as it was: what it read is still what is published, with the rows that were added.
    assert score(checked([wide], checks={"quarantine": {"max_fraction": 1.0}})).status == "unchanged"
    with pytest.raises(Blocked, match="not one could be scored"):
        again(second.run_id)


def test_a_run_that_was_superseded_or_blocked_has_nothing_to_replay_into(checked):
    give(id=[1, 2], a=[1.0, 5.0])
    loose = rule("column_values_to_be_between", column="a", max_value=4, mostly=0.1)
    first = score(checked([loose]))
    give(id=[1, 2], a=[2.0, 5.0])
    score(checked([loose]))
    job = checked([loose])
    request = pipeline.Request("local", ledger.now(), pipeline.new_run_id())
    with pytest.raises(Blocked, match="was superseded"):
        replay(job, record_of(job, first.run_id), request)
    with pytest.raises(ConfigError, match="has no run 'nonsense' on record"):
        record_of(job, "nonsense")


def test_a_replay_takes_a_mended_model_where_it_is_told_to(checked):
    """A model in a folder has no versions: other bytes are taken only by the person's word."""
    import mlflow

    x = pd.DataFrame({"a": [0.0, 1.0]})
    signature = mlflow.models.infer_signature(x, x["a"])
    for steps, folder in (([], "first"), ([SimpleImputer()], "mended")):
        model = make_pipeline(*steps, LinearRegression()).fit(x, x["a"])
        trusted = {"skops_trusted_types": ["numpy.dtype"], "pip_requirements": ["scikit-learn"]}
        mlflow.sklearn.save_model(model, folder, signature=signature, **trusted)
    os.rename("first", "model")
    give(id=[1, 2], a=[1.0, None])
    first = score(checked([], checks={"quarantine": {"max_fraction": 1.0}}, model={"uri": "model"}))
    os.rename("model", "old")
    os.rename("mended", "model")
    fixed = checked([], checks={"quarantine": {"max_fraction": 1.0}}, model={"uri": "model"})
    record, request = record_of(fixed, first.run_id), pipeline.Request("local", ledger.now(), "again")
    with pytest.raises(ConfigError, match=r"has other bytes .* or replay with --current-model"):
        replay(fixed, record, request)
    assert replay(fixed, record, request, current_model=True).rows_scored == 1
    assert read("lake/scores")["id"].to_pylist() == [1, 2]


# Nothing is lost


NUMBERS = itertools.count()
VALUES = st.one_of(st.none(), st.sampled_from([0.0, -1.0, 1.5, float("nan"), float("inf"), 1e300]))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 5)), VALUES), min_size=1, max_size=12),
    on_features=st.lists(st.sampled_from(["null", "between", "set", "pair"]), max_size=3),
    on_scores=st.lists(st.sampled_from(["p_between", "p_null", "key"]), max_size=3),
    severities=st.lists(st.sampled_from(["critical", "warning", "info"]), min_size=6, max_size=6),
    mostly=st.sampled_from([0.01, 1.0]),
)
def test_every_row_that_was_read_is_scored_or_set_aside(checked, rows, on_features, on_scores, severities, mostly):
    """Also where it breaks several rules, the model, and a rule on its score."""
    known = {
        "null": rule("column_values_to_not_be_null", column="a"),
        "between": rule("column_values_to_be_between", column="a", min_value=0),
        "set": rule("column_values_to_be_in_set", column="id", value_set=[1, 2, 3]),
        "pair": rule("column_pair_values_a_to_be_greater_than_b", column_A="a", column_B="b"),
        "p_between": rule("column_values_to_be_between", column="p", max_value=10),
        "p_null": rule("column_values_to_not_be_null", column="p"),
        "key": rule("column_values_to_be_between", column="id", max_value=3),
    }
    chosen = [{**known[n], "severity": s, "kwargs": {**known[n]["kwargs"], "mostly": mostly}}
              for n, s in zip([*on_features, *on_scores], severities, strict=False)]  # fmt: skip
    rows = [*rows, (1, 1.5), (2, 0.5)]  # without a row that the model takes it would be refused
    ids, values = (list(column) for column in zip(*rows, strict=True))
    number = list(range(len(rows)))
    columns = {
        "id": pa.array(ids, pa.int64()),
        "a": pa.array(values, pa.float64()),
        "b": [0.5] * len(rows),
        "n": number,
    }
    write("lake/features", pa.table(columns), mode="overwrite", schema_mode="overwrite")
    sections = {"keep": ["n"], "sinks": [{"type": "delta", "table": f"lake/s{next(NUMBERS)}"}]}
    job = checked(
        chosen[: len(on_features)], chosen[len(on_features) :], checks={"quarantine": {"max_fraction": 1.0}}, **sections
    )
    table = sections["sinks"][0]["table"]
    try:
        result = score(job, rescore=True)
    except Blocked as blocked:
        result = blocked.result
    good = read(table)["n"].to_pylist() if result.status == "published" else []
    aside = read(f"{table}_quarantine")["n"].to_pylist() if result.rows_quarantined else []
    assert (result.rows_read, len(aside)) == (len(rows), result.rows_quarantined)
    if result.status == "published":
        assert sorted([*good, *aside]) == number
    else:
        assert len(set(aside)) == len(aside) == result.rows_read - result.rows_scored


@pytest.mark.quick("local")
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "spark"])
def test_what_only_great_expectations_can_run_is_run_by_it(checked, engine, request):
    if engine == "spark":
        request.getfixturevalue("spark")
    give(id=[1, 2, 2, 4], a=[1.0, 2.0, 3.0, 4.0])
    job = checked(
        [
            rule("column_values_to_be_unique", "warning", column="id"),
            rule("column_median_to_be_between", column="a", min_value=1),
        ],
        [rule("column_values_to_be_unique", column="p"), rule("column_median_to_be_between", column="p", max_value=24)],
    )
    with pytest.raises(Blocked) as blocked:
        score(job, engine)
    assert (
        str(blocked.value).splitlines()[0]
        == "scores: expect_column_median_to_be_between p (max_value 24): observed 25.0"
    )
    assert blocked.value.result.checks == {"passed": 3, "failed": 1, "warned": 2}  # the suite, and the run of its keys


@pytest.mark.parametrize(("where", "carrier"), [("id < 90", "files"), ("id < 90 OR id < 80", "frame")])
@pytest.mark.quick("id < 90-files")
def test_both_engines_and_carriers_give_the_same(checked, spark, where, carrier):
    give(id=list(range(50)), a=[float(i % 7) for i in range(50)])
    features = [rule("column_values_to_be_between", column="a", max_value=5, mostly=0.5)]
    scores = [rule("column_values_to_be_between", "warning", column="p", max_value=30)]
    score(checked(features, scores))
    local = read("lake/scores").select(["id", "p", "_warnings"])
    aside = reasons()
    source = {"table": "lake/features", "where": where}
    assert score(checked(features, scores, source=source), "spark", rescore=True).carrier == carrier
    assert_tables_equal(read("lake/scores").select(["id", "p", "_warnings"]), local)
    assert reasons() == aside
    sums = [m["unexpected"] for m in evidence.facts_of(*newest())["rules"]]
    assert sums == [7, 14]


def test_the_counts_of_the_pass_become_great_expectations_own_results(checked):
    """Held against what it says itself of the same rows, on pandas."""
    a, b = [1.0, 5.0, None, 2.0, 7.0], [1.0, 5.0, 3.0, 4.0, None]
    give(id=[1, 2, 3, 4, 5], a=a, b=b)
    suite_of = [
        rule("column_values_to_be_between", column="a", max_value=4, mostly=0.5),
        rule("column_values_to_not_be_null", column="a", mostly=0.1),
        rule("column_pair_values_to_be_equal", "info", column_A="a", column_B="b"),
        rule("column_mean_to_be_between", column="a", min_value=1),
        rule("table_row_count_to_equal", value=5),
        rule("column_values_to_be_unique", column="id"),
    ]
    job = checked(suite_of, checks={"quarantine": {"max_fraction": 1.0}})
    score(job)
    _, pages = evidence.native_pages(job, None)
    result, page = pages["features"]
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    frame = pd.DataFrame({"id": [1, 2, 3, 4, 5], "a": a, "b": b})
    batch = context.data_sources.add_pandas("p").add_dataframe_asset("p").add_batch_definition_whole_dataframe("p")
    asked = gx.ExpectationSuite("p")
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    for e in suite_of:
        asked.add_expectation_configuration(ExpectationConfiguration(type=e["type"], kwargs=e["kwargs"]))
    told = batch.get_batch({"dataframe": frame}).validate(asked, result_format="BASIC").to_json_dict()
    names = ("element_count", "unexpected_count", "missing_count", "unexpected_percent", "observed_value")

    def compared(results):
        return {r["expectation_config"]["type"]: (r["success"], *(r["result"].get(n) for n in names)) for r in results}

    ours, theirs = compared(result["results"]), compared(told["results"])
    only_counted = "expect_column_values_to_be_unique"  # run by it, of which the verdict is kept
    assert ours.pop(only_counted)[0] == theirs.pop(only_counted)[0]
    assert ours == theirs
    assert "expect_column_values_to_be_between" in page or "less than or equal" in page


@pytest.mark.parametrize("how", ["slice", "append", "merge"])
def test_a_replay_goes_into_the_right_rows_whatever_the_job_writes(checked, how):
    """Of a slice, of an append's date, of an upsert: the other rows stay, and the date stays unchanged."""
    write("lake/features", pa.table({"id": [1, 2, 3], "a": [1.0, 5.0, 2.0], "day": [DAY, DAY, "2026-01-03"]}))
    where = {"table": "lake/features", "where": "day = '{date}'"}
    sections: dict[str, Any] = {"source": where}
    if how == "slice":
        sections["slice"] = {"score_date": "{date}"}
    else:
        sections["sinks"] = [{"type": "delta", "table": "lake/scores", "write": how}]
    tight = rule("column_values_to_be_between", column="a", max_value=4, mostly=0.1)
    loose = rule("column_values_to_be_between", column="a", max_value=9, mostly=0.1)
    score(checked([tight], date="2026-01-03", **sections))
    run = score(checked([tight], date=DAY, **sections)).run_id
    assert kept() == {1: 10.0, 3: 20.0}
    job = checked([loose], date=DAY, **sections)
    request = pipeline.Request("local", ledger.now(), pipeline.new_run_id())
    assert replay(job, record_of(job, run), request).status == "published"
    assert kept() == {1: 10.0, 2: 50.0, 3: 20.0}
    assert replay(job, record_of(job, run), request).status == "unchanged"
    # To an upsert of the whole table each date is the next generation, so only the last one is unchanged.
    for day in [DAY] if how == "merge" else [DAY, "2026-01-03"]:
        assert score(checked([tight], date=day, **sections)).status == "unchanged"
    assert kept() == {1: 10.0, 2: 50.0, 3: 20.0}


# Conditions and names


@pytest.mark.parametrize(
    ("text", "parser", "asided"),
    [
        ("country == 'fr'", "spark", [2]),
        ("country == 'fr' and a < 3", "pandas", [2]),
        ('col("country") == "fr"', "great_expectations", [2]),
        ({"type": "pass_through", "pass_through_filter": "country IN ('fr', 'it')"}, None, [2, 4]),
    ],
)
def test_a_row_condition_of_any_parser_is_evaluated_row_by_row(checked, text, parser, asided):
    """Its columns are read, though nothing else of the job names them."""
    give(id=[1, 2, 3, 4], a=[1.0, 2.0, 3.0, 4.0], country=["de", "fr", None, "it"], zip=["1", None, None, None])
    condition = {"row_condition": text} | ({"condition_parser": parser} if parser else {})
    score(checked([rule("column_values_to_not_be_null", column="zip", mostly=0, **condition)]))
    assert sorted(reasons()) == asided


def test_a_rule_with_a_condition_in_sql_decides_by_itself(checked):
    """As it does where Great Expectations has to run it: the verdict doesn't depend on how simple the SQL is."""
    give(id=[1, 2], a=[1.0, 2.0], country=["de", "fr"], zip=["1", None])
    condition = {"row_condition": "country == 'fr'", "condition_parser": "spark"}
    with pytest.raises(Blocked, match=r"1 of 1 rows .* fail"):
        score(checked([rule("column_values_to_not_be_null", column="zip", **condition)]))


def test_great_expectations_gets_the_rows_that_a_condition_leaves_on_the_local_engine_too(checked):
    give(id=[1, 2, 2, 4], a=[1.0, 2.0, 2.0, 4.0], country=["de", "fr", "it", "fr"])
    for parser, text in (("great_expectations", 'col("country") == "fr"'), ("spark", "country = 'fr'")):
        unique = rule("column_values_to_be_unique", column="a", row_condition=text, condition_parser=parser)
        assert score(checked([unique]), rescore=True).status == "published"
    with pytest.raises(Blocked, match="observed 2 unexpected"):
        score(checked([rule("column_values_to_be_unique", column="a")]))


def test_a_condition_that_only_spark_knows_is_refused_before_anything_is_scored(checked):
    give(id=[1], a=[1.0], country=["de"])
    odd = rule(
        "column_values_to_not_be_null", column="a", row_condition="upper(country) = 'DE'", condition_parser="spark"
    )
    with pytest.raises(ConfigError, match=r"only Spark can evaluate the row_condition.*use --engine spark"):
        score(checked([odd]))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "spark"])
def test_what_is_raised_inside_great_expectations_is_told(checked, engine, request):
    if engine == "spark":
        request.getfixturevalue("spark")
    give(id=[1, 2], a=[1.0, 2.0], country=["de", "fr"])
    parser = "spark" if engine == "spark" else "pandas"
    typo = rule("column_values_to_not_be_null", column="a", row_condition="contry == 'de'", condition_parser=parser)
    with pytest.raises(Blocked) as blocked:
        score(checked([typo]), engine)
    said = str(blocked.value).splitlines()[0]
    assert "observed nothing: Great Expectations could not evaluate it: " in said
    assert "contry" in said.split("could not evaluate it")[1]


def test_a_dry_run_tells_what_is_checked_where(checked):
    give(id=[1, 2], a=[1.0, 2.0])
    features = [
        FIFTY,
        rule("column_mean_to_be_between", column="a", min_value=0),
        rule("column_values_to_be_unique", column="id"),
    ]
    job = checked(features, checks={"drift": {"psi": 0.3}, "quarantine": {"max_fraction": 0.5}})
    told = score(job, dry_run=True).plan
    assert told["checks"] == [
        "features: in the scoring pass 1 of single rows, 1 of the whole table",
        "features: by Great Expectations after the pass 1: expect_column_values_to_be_unique (compares each row with all others)",
        "at most max_fraction 0.5 may be set aside, 1 of 2 rows; beyond that the run is blocked",
        "drift beyond PSI 0.3 warns; baseline: none yet, this run's profile becomes it once it is published",
    ]
    assert "checks       features: in the scoring pass 1 of single rows" in planned.plan_text(told)


@pytest.mark.parametrize(
    ("engine", "where", "carrier"),
    [("local", "`Product.Id` <> 'x-1'", "files"), ("spark", "`Product.Id` <> 'x-1'", "files"),
     ("spark", "`Product.Id` <> 'x-1' OR `f.x` < 0", "frame")],
)  # fmt: skip
@pytest.mark.parametrize("write_as", ["replace", "merge"])
@pytest.mark.quick("replace-local-`Product.Id` <> 'x-1'-files", "merge-local-`Product.Id` <> 'x-1'-files")
def test_names_with_dots_go_through_every_carrier_and_check(
    make_job, register, request, engine, where, carrier, write_as
):
    """Beside columns that their first part, and a field of a struct, could be taken for."""
    if engine == "spark":
        request.getfixturevalue("spark")
    x = pd.DataFrame({"f.x": np.linspace(0, 4, 40), "f": np.ones(40)})
    uri = register(LinearRegression().fit(x, x["f.x"] * 10), x)
    product = pa.array([{"Id": "no"}] * 5)
    give(**{"Product.Id": [f"x-{i}" for i in range(5)], "Product": product, "f.x": [0.0, 1.0, 2.0, 3.0, 4.0],
            "f": [1.0] * 5, "Kind.Of": ["k", "l", "k", "l", "k"]})  # fmt: skip
    features = suite(
        "conf/expectations/features.yaml",
        rule("column_values_to_be_between", column="f.x", max_value=3),
        rule("column_values_to_be_unique", "warning", column="Kind.Of"),
    )
    scores = suite("conf/expectations/scores.yaml", rule("column_values_to_be_unique", column="Product.Id"))
    job = make_job(
        uri, source={"table": "lake/features", "where": where}, keys=["Product.Id"], keep=["Kind.Of"],
        predictions={"p.hat": 0}, sinks=[{"type": "delta", "table": "lake/scores", "write": write_as}],
        checks={"features": features, "scores": scores, "quarantine": {"max_fraction": 0.5}},
    )  # fmt: skip
    for _ in range(2 if write_as == "merge" else 1):
        result = score(job, engine, rescore=True)
    assert (result.status, result.carrier, result.rows_quarantined) == ("published", carrier, 1)
    assert result.checks == {"passed": 2, "failed": 0, "warned": 1}
    rows = read("lake/scores")
    assert rows["Product.Id"].to_pylist() == ["x-0", "x-2", "x-3"]
    assert rows["Kind.Of"].to_pylist() == ["k", "k", "l"]
    assert np.round(rows["p.hat"].to_numpy(), 6).tolist() == [0.0, 20.0, 30.0]
