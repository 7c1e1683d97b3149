"""Challengers: other models on the same rows in the same pass, and what is said of how they compare."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from lakehouse.errors import Blocked, ConfigError
from lakehouse.planning.naming import state_of
from lakehouse.runs import evidence
from lakehouse.scoring import comparison
from lakehouse.scoring.comparison import MOST_FAILURES, Compared, merge
from lakehouse.scoring.pairs import Pairs, pairs_of
from tests.conftest import read, score, version, write

DAY = "2026-01-02"
X = pd.DataFrame({"a": np.linspace(0, 4, 40), "b": np.cos(np.arange(40))})
Y = (X["a"] > 2).astype(int)


class Picky(LogisticRegression):
    """Raises on rows whose a is beyond 3."""

    def predict_proba(self, frame: Any) -> Any:
        if (frame["a"] > 3).any():
            raise ValueError("a is beyond me")
        return super().predict_proba(frame)


class Short(LogisticRegression):
    """Leaves a row out where there are many."""

    def predict_proba(self, frame: Any) -> Any:
        return super().predict_proba(frame)[: 64 if len(frame) > 64 else None]


def features(rows: int = 40) -> pa.Table:
    ids = np.arange(rows)
    country = np.where(ids % 2 == 0, "DE", "FR")
    return pa.table({"id": ids, "country": country, "a": ids * 0.1, "b": np.cos(ids), "day": pa.array([DAY] * rows)})


class Overwriting(LogisticRegression):
    """Changes what it is given, in place, once it has answered."""

    def predict_proba(self, frame: Any) -> Any:
        answer = super().predict_proba(frame)
        frame.iloc[:, 0] = -1.0
        return answer


@pytest.fixture(scope="module")
def champion(register):
    return register(LogisticRegression().fit(X, Y), X)


@pytest.fixture(scope="module")
def tree(register):
    return register(DecisionTreeClassifier(max_depth=1).fit(X, Y), X, serialization_format="cloudpickle")


@pytest.fixture
def daily(make_job, champion):
    def make(*challengers: Any, **more: Any) -> Any:
        given = {
            "date": DAY,
            "source": {"where": "day = '{date}'"},
            "keep": ["country"],
            "predictions": {"p": {"class": 1}, "buys": {"class": 1, "threshold": 0.5}},
            "slice": {"score_date": "{date}"},
            "checks": {"quarantine": {"max_fraction": 0.5}},
        }
        model = {"method": "predict_proba", "challengers": list(challengers), "trust": ["pickle"]}
        return make_job(champion, model=model, **{**given, **more})

    write("lake/features", features(), ["day"])
    return make


def test_predictions_of_a_challenger_stand_beside_those_that_are_published(daily, tree):
    job = daily({"uri": tree, "name": "tree"})
    assert score(job).status == "published"
    frame, beside = features().to_pandas(), read("lake/scores_challengers")
    own, theirs = LogisticRegression().fit(X, Y), DecisionTreeClassifier(max_depth=1).fit(X, Y)
    assert beside.column_names == [
        "id", "p", "buys", "p_tree", "buys_tree", "_model_name", "_model_version", "_run_id",
        "_input_version", "_scored_at", "_job", "_model_version_tree", "score_date",
    ]  # fmt: skip
    np.testing.assert_allclose(beside["p"].to_numpy(), own.predict_proba(frame[["a", "b"]])[:, 1], rtol=1e-12)
    np.testing.assert_array_equal(beside["p_tree"].to_numpy(), theirs.predict_proba(frame[["a", "b"]])[:, 1])
    assert read("lake/scores").select(["id", "p", "buys"]).equals(beside.select(["id", "p", "buys"]))
    assert score(job).status == "unchanged"
    assert score(job, rescore=True).status == "published"
    assert len(read("lake/scores_challengers")) == 40


def test_another_challenger_is_another_run(daily, tree, champion):
    score(daily({"uri": tree, "name": "tree"}))
    assert score(daily({"uri": champion, "name": "same"})).status == "published"
    beside = read("lake/scores_challengers")
    assert beside["p_same"].to_pylist() == beside["p"].to_pylist()
    assert beside["p_tree"].null_count == 40
    before = version("lake/scores")
    assert score(daily()).status == "published"  # no challengers any more: other settings
    assert version("lake/scores") == before + 1


def test_a_challenger_that_is_the_published_version_is_said_and_compared(daily, tree, champion):
    told: list[str] = []
    job = daily({"uri": champion, "name": "same"}, {"uri": tree, "name": "tree"})
    score(job, say=lambda event, values: told.append(values["message"]) if event == "warning" else None)
    [line] = [line for line in told if line.startswith("model.challengers")]
    assert line.startswith("model.challengers: same (")
    assert line.endswith(" v1) is the published version itself")
    assert read("lake/scores_challengers")["p_same"].null_count == 0


def test_a_challenger_fails_alone(daily, register):
    uri = register(Picky().fit(X, Y), X, serialization_format="cloudpickle")
    told: list[str] = []
    result = score(
        daily({"uri": uri, "name": "picky", "trust": ["pickle"]}, {"uri": "models:/nowhere@gone"}),
        say=lambda event, values: told.append(values["message"]) if event == "warning" else None,
    )
    beside = read("lake/scores_challengers")
    assert (result.status, result.rows_scored, result.rows_quarantined) == ("published", 40, 0)
    assert beside["p_picky"].null_count == sum(a > 3 for a in features()["a"].to_pylist())
    assert beside["p"].null_count == 0
    assert any("gone is left out" in line and "nowhere" in line for line in told), told


def test_a_challenger_that_answers_for_other_rows_than_it_is_given_fails_alone(daily, register):
    uri = register(Short().fit(X, Y), X, serialization_format="cloudpickle")
    write("lake/features", features(200), ["day"], mode="overwrite")
    job = daily({"uri": uri, "name": "short", "trust": ["pickle"]})
    result = score(job)
    assert (result.status, result.rows_scored) == ("published", 200)
    assert read("lake/scores_challengers")["p_short"].null_count == 200
    assert b"answered 200 rows with 64 values" in (evidence.page_of(state_of(job), result.run_id) or b"")


@pytest.mark.parametrize("kinds", [["a", "b"], ["a", "b", "country"], ["a", "b", "seen"]])
def test_models_that_change_what_they_are_given_change_nothing_for_others(make_job, register, kinds):
    """The input is made once for all that take the same; each may do with its own what it likes."""
    table = features().append_column("seen", pa.array([[float(n)] for n in range(40)]))
    frame = table.to_pandas().assign(seen=[[float(n)] for n in range(40)])[kinds]
    numbers = Overwriting().fit(X, Y)

    class Spoiling:
        """As a model of its kind, of the first two columns."""

        def predict_proba(self, given: Any) -> Any:
            answer = numbers.predict_proba(given[["a", "b"]].copy())
            given.iloc[:, 0] = -1.0
            for name in given.columns[2:]:
                given[name] = [str(value)[::-1] for value in given[name]] if name == "country" else None
            return answer

    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import Array, ColSpec, Schema

    types = {"a": "double", "b": "double", "country": "string", "seen": Array("double")}
    signature = ModelSignature(Schema([ColSpec(types[name], name) for name in kinds]), Schema([ColSpec("double", "p")]))
    logged = {"signature": signature, "serialization_format": "cloudpickle"}
    uri = register(Spoiling(), frame, method="predict_proba", **logged)
    write("lake/features", table, ["day"])
    rivals = [{"uri": uri, "name": name} for name in ("one", "two", "three")]
    job = make_job(uri, date=DAY, source={"where": "day = '{date}'"}, predictions={"p": {"output": 1}},
                   model={"method": "predict_proba", "challengers": rivals, "trust": ["pickle"]})  # fmt: skip
    score(job)
    beside = read("lake/scores_challengers")
    expected = LogisticRegression().fit(X, Y).predict_proba(features().to_pandas()[["a", "b"]])[:, 1]
    for name in ("p", "p_one", "p_two", "p_three"):
        np.testing.assert_allclose(beside[name].to_numpy(), expected, rtol=1e-12)


def test_what_the_job_says_of_a_signature_and_of_features_holds_for_challengers_as_far_as_it_suits(make_job, register):
    renamed = X.rename(columns={"a": "amount"})
    uri, narrow = (
        register(LogisticRegression().fit(renamed, Y), renamed, signature=None),
        register(LogisticRegression().fit(X[["b"]], Y), X[["b"]]),
    )
    write("lake/features", features(), ["day"])
    told: list[str] = []
    job = make_job(
        uri, date=DAY, source={"where": "day = '{date}'"}, predictions={"p": {"class": 1}},
        features={"rename": {"amount": "a"}, "cast": {"amount": "double"}},
        model={"method": "predict_proba", "signature": {"inputs": {"amount": "double", "b": "double"}},
               "challengers": [{"uri": uri, "name": "same"}, {"uri": narrow, "name": "narrow"}]},
    )  # fmt: skip
    score(job, say=lambda event, values: told.append(str(values.get("message"))))
    beside = read("lake/scores_challengers")
    assert [line for line in told if "left out" in line] == []
    assert beside["p_same"].to_pylist() == beside["p"].to_pylist()
    expected = LogisticRegression().fit(X[["b"]], Y).predict_proba(features().to_pandas()[["b"]])[:, 1]
    np.testing.assert_allclose(beside["p_narrow"].to_numpy(), expected, rtol=1e-12)


def test_segments_are_values_that_have_a_text(make_job, champion, tree):
    lists = pa.array([[1]] * 40)
    write("lake/features", features().append_column("seen", lists), ["day"])
    with pytest.raises(ConfigError, match=r"comparison\.by: 'seen' is list.*, whose values have no text: name another"):
        score(make_job(champion, keep=["seen"], comparison={"by": "seen"}, predictions={"p": {"class": 1}},
                       model={"method": "predict_proba", "challengers": [tree], "trust": ["pickle"]}))  # fmt: skip


def test_a_blocked_run_publishes_no_comparison(daily, tree):
    write("lake/features", features().set_column(2, "a", pa.array([None] * 40, pa.float64())), ["day"])
    with pytest.raises(Blocked):
        score(
            daily(
                {"uri": tree, "name": "tree"},
                checks={"quarantine": {"max_fraction": 0.1}},
                features={"nulls": "quarantine"},
            )
        )
    assert version("lake/scores_challengers") == -1


def pairs(own: list[Any], theirs: list[Any]) -> Pairs:
    return pairs_of(pa.array(own), pa.array(theirs), np.zeros(len(own), np.int64), 1)[0]


def test_figures_of_pairs():
    numbers = pairs([1.0, 2.0, float("inf"), 3.0, None], [1.5, 1.0, float("inf"), float("nan"), 1.0])
    assert (numbers.rows, numbers.missing, numbers.apart, numbers.furthest, numbers.flips) == (3, 1, 1.5, 1.0, None)
    labels = pairs([True, True, False], [True, False, False])
    assert (labels.flips, labels.shift, dict(labels.labels or {})) == (
        1, None, {("true", "true"): 1, ("true", "false"): 1, ("false", "false"): 1},
    )  # fmt: skip
    counts = pairs([1, 2], [1, 3])
    assert (counts.flips, counts.shift) == (1, 0.5)


def test_figures_by_segment_add_up_to_those_of_all():
    rng, rows = np.random.default_rng(7), 500
    codes = rng.integers(0, 5, rows)
    for own, theirs in [
        (rng.normal(size=rows).round(3), rng.normal(size=rows).round(3)),
        (rng.integers(0, 4, rows), rng.integers(0, 4, rows)),
        (rng.random(rows) < 0.5, rng.random(rows) < 0.5),
    ]:
        one, other = pa.array(own, mask=rng.random(rows) < 0.1), pa.array(theirs, mask=rng.random(rows) < 0.1)
        whole = Pairs()
        for number, part in enumerate(pairs_of(one, other, codes, 5)):
            inside = pa.array(codes == number)
            [alone] = pairs_of(one.filter(inside), other.filter(inside), np.zeros(sum(codes == number), np.int64), 1)
            assert part.labels == alone.labels
            assert vars(replace(part, labels=None)) == pytest.approx(vars(replace(alone, labels=None)))
            whole.merge(part)
        both = [(a, b) for a, b in zip(one.to_pylist(), other.to_pylist(), strict=True) if None not in (a, b)]
        assert whole.rows == len(both)
        if whole.flips is not None:
            assert whole.flips == sum(a != b for a, b in both)
        if whole.numeric:
            assert whole.shift == pytest.approx(np.mean([float(b) - float(a) for a, b in both]))


def test_flips_are_counted_where_there_are_too_many_labels_to_list():
    many = [f"label {n}" for n in range(5000)]
    found = pairs(many, [*many[:-1], "another"])
    few = pairs(["a", "b"], ["a", "a"])
    for first, second in ((found, few), (few, found)):
        whole = Pairs()
        whole.merge(first)
        whole.merge(Pairs.from_dict(second.to_dict()))
        whole.merge(few)
        assert (whole.rows, whole.flips, whole.labels) == (5004, 3, None)


def test_what_workers_saw_adds_up_in_any_order():
    parts = [Compared(rows=2, failed=1, seconds=0.5, pairs={"p": {"DE": pairs([1.0], [2.0])}}),
             Compared(rows=3, seconds=0.25, pairs={"p": {"DE": pairs([2.0], [2.0]), "FR": pairs([0.0], [1.0])}})]  # fmt: skip
    for order in (parts, parts[::-1]):
        found = merge({"c": part.to_dict()} for part in order)["c"]
        assert (found.rows, found.failed, found.seconds) == (5, 1, 0.75)
        assert (found.pairs["p"]["DE"].shift, found.pairs["p"]["FR"].rows) == (0.5, 1)


def test_values_that_read_alike_are_segments_of_their_own():
    values = [None, "null", "…", '"null"', '"…"', "", "DE", None]
    names, codes = comparison.segments_of(pa.record_batch({"by": values}), "by")
    assert (len(names), len(set(names)), codes.tolist()) == (7, 7, [0, 1, 2, 3, 4, 5, 6, 0])
    assert names[:3] == ["null", '"null"', '"…"']
    seen = Compared()
    seen.add("p", {str(n): pairs([1.0], [2.0]) for n in range(203)} | {'"…"': pairs([1.0], [2.0])})
    assert (len(seen.pairs["p"]), seen.pairs["p"][comparison.OTHERS].rows) == (201, 4)


def test_a_challenger_that_fails_on_everything_is_not_asked_row_by_row(daily, register):
    uri = register(Picky().fit(X, Y), X, serialization_format="cloudpickle")
    rows = 3 * MOST_FAILURES
    table = features(rows).set_column(2, "a", pa.array(np.where(np.arange(rows) < 64, 1.0, 9.0)))
    write("lake/features", table, ["day"])
    assert score(daily({"uri": uri, "name": "picky"})).status == "published"
    assert read("lake/scores_challengers")["p_picky"].null_count >= rows - 64


def test_the_page_shows_how_they_compare(daily, tree):
    job = daily({"uri": tree, "name": "tree"}, comparison={"by": "country"})
    result = score(job)
    page = (evidence.page_of(state_of(job), result.run_id) or b"").decode()
    assert ">Challengers</h2>" in page
    assert "published: true" in page
    assert 'data-label="country">DE</td>' in page
