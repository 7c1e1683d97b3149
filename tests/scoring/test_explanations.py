"""Explanations in the pass: the features that contributed most, equal to what the model's own library tells."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow.lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from lightgbm import LGBMClassifier
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import lakehouse
from lakehouse.errors import ConfigError
from tests.command import run
from tests.conftest import opened, read, score, write

FEATURES = ["a", "b", "c"]
ROWS = 500


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    return pd.DataFrame({"id": np.arange(ROWS), **{name: rng.normal(size=ROWS) for name in FEATURES}})


@pytest.fixture(scope="module")
def linear(register, rows):
    x = rows[FEATURES]
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, (x["a"] - 2 * x["b"] > 0).astype(int))
    return register(model, x), model


@pytest.fixture
def job(make_job, rows):
    write("lake/features", pa.Table.from_pandas(rows, preserve_index=False))

    def make(uri, explanations, **sections):
        given = {"predictions": {"p": {"class": 1}, "high": {"class": 1, "threshold": 0.7}}, **sections}
        model = {"method": "predict_proba"}
        return make_job(uri, explanations=explanations, **{"model": model, **given})

    return make


def told():
    found = read("lake/scores").sort_by("id")
    return found["_explanations"].to_pylist(), found["p"].to_numpy(), found["high"].to_pylist()


def test_linear_contributions_are_coefficients_times_distance_from_the_mean(job, linear, rows):
    uri, model = linear
    assert score(job(uri, {"top": 2})).status == "published"
    found, _, _ = told()
    scaled = model[0].transform(rows[FEATURES])
    expected = model[1].coef_[0] * (scaled - scaled[:64].mean(axis=0))
    order = np.argsort(-np.abs(expected), axis=1)[:, :2]
    for row, places, values in zip(found, order, expected, strict=True):
        assert [part["feature"] for part in row] == [FEATURES[i] for i in places]
        assert [part["contribution"] for part in row] == pytest.approx([values[i] for i in places], rel=1e-9)


@pytest.mark.parametrize(
    ("when", "mine"),
    [
        ({"above": 0.8}, lambda p: p >= 0.8),
        ({"below": 0.2}, lambda p: p <= 0.2),
        ({"above": 0.4, "below": 0.6}, lambda p: (p >= 0.4) & (p <= 0.6)),
        ("near_threshold", lambda p: np.abs(p - 0.7) <= 0.1),
    ],
)
def test_only_rows_that_matter_are_explained(job, linear, when, mine):
    lines = []
    asked = job(linear[0], {"when": when, "within": 0.1})
    result = score(asked, say=lambda event, values: lines.append(values.get("message")))
    found, p, _ = told()
    explained = [row is not None for row in found]
    assert explained == mine(p).tolist()
    assert 0 < sum(explained) < ROWS
    assert any(str(line).startswith(f"explained {sum(explained)} of {ROWS} scored rows, in ") for line in lines)
    assert result.work["explaining"] > 0
    assert score(asked).status == "unchanged"


def test_a_job_that_is_given_the_section_gets_the_column_and_its_rows_are_scored_again(job, linear):
    assert score(job(linear[0], None)).status == "published"
    again = score(job(linear[0], {}))
    assert again.status == "published"
    assert all(len(row) == 3 for row in told()[0])
    assert score(job(linear[0], {"top": 1})).status == "published"


def test_trees_of_lightgbm_tell_their_own(job, rows, tracking_uri):
    mlflow.set_tracking_uri(tracking_uri)
    x = rows[FEATURES]
    model = LGBMClassifier(n_estimators=20, verbose=-1).fit(x, (x["a"] * x["b"] > 0).astype(int))
    with mlflow.start_run():
        stored = mlflow.lightgbm.log_model(
            model, name="model", signature=infer_signature(x, model.predict(x)), pip_requirements=["lightgbm"]
        )
    score(job(stored.model_uri, {"top": 1}))
    found, _, _ = told()
    expected = model.predict(x, pred_contrib=True)[:, :-1]
    best = np.abs(expected).argmax(axis=1)
    assert [row[0]["feature"] for row in found] == [FEATURES[i] for i in best]
    assert [row[0]["contribution"] for row in found] == pytest.approx(expected[np.arange(ROWS), best].tolist())


def test_what_can_not_be_explained_is_refused_before_a_row_is_scored(job, linear, register, rows):
    x = rows[FEATURES]
    near = register(GaussianNB().fit(x, (x["a"] > 0).astype(int)), x)
    with pytest.raises(ConfigError, match=r"explanations: models:/.* does not tell what each feature contributes"):
        score(job(near, {}))
    with pytest.raises(ConfigError, match=r"explanations.of: no numeric prediction 'q'"):
        score(job(linear[0], {"of": "q"}))
    with pytest.raises(ConfigError, match="near_threshold needs a prediction with a threshold of the same output"):
        score(job(linear[0], {"when": "near_threshold"}, predictions={"p": {"class": 1}}))


def test_a_preview_explains_too(job, linear):
    job(linear[0], {"top": 1})
    seen = lakehouse.preview("conf/scores.yaml", engine="local", rows=5)
    assert [len(told) for told in seen["_explanations"]] == [1] * 5
    assert not Path("lake/scores").exists()


def test_executors_explain_as_this_process_does(job, linear, spark):
    score(job(linear[0], {"when": {"above": 0.8}}))
    here = told()[0]
    assert score(job(linear[0], {"when": {"above": 0.8}}), "spark", rescore=True).status == "published"
    for one, other in zip(here, told()[0], strict=True):
        assert (one is None) == (other is None)
        for mine, theirs in zip(one or (), other or (), strict=True):
            assert mine["feature"] == theirs["feature"]
            assert mine["contribution"] == pytest.approx(theirs["contribution"], rel=1e-12)
    seen = spark.read.format("delta").load(str(Path("lake/scores").resolve())).where("_explanations IS NOT NULL")
    assert {row[0] for row in seen.selectExpr("_explanations[0].feature").collect()} <= set(FEATURES)


@pytest.mark.parametrize("kind", ["linear", "lightgbm"])
def test_explanations_are_made_again_and_an_edited_one_is_caught(job, linear, rows, tracking_uri, capfd, kind):
    x, uri = rows[FEATURES], linear[0]
    if kind == "lightgbm":
        mlflow.set_tracking_uri(tracking_uri)
        model = LGBMClassifier(n_estimators=20, verbose=-1).fit(x, (x["a"] * x["b"] > 0).astype(int))
        with mlflow.start_run():
            uri = mlflow.lightgbm.log_model(
                model, name="model", signature=infer_signature(x, model.predict(x)), pip_requirements=["lightgbm"]
            ).model_uri
    score(job(uri, {"top": 2, "when": {"above": 0.5}}))
    every = run(capfd, "verify", "conf/scores.yaml", "--all", "--json")
    assert (every.code, every.json["equal"], every.json["notes"]) == (0, ROWS, []), every
    found, _, _ = told()
    one = next(number for number, why in enumerate(found) if why)
    told_of = run(capfd, "explain", "conf/scores.yaml", "--key", str(one), "--json").json
    assert (told_of["equal"], told_of["stored"]["_explanations"]) == (True, found[one])
    assert told_of["again"]["_explanations"] == [
        {**part, "contribution": pytest.approx(part["contribution"], rel=1e-12)} for part in found[one]
    ]

    edited = f"make_array(named_struct('feature', '{found[one][0]['feature']}', 'contribution', 0.5))"
    opened("lake/scores").update(predicate=f"id = {one}", updates={"_explanations": edited})
    caught = run(capfd, "verify", "conf/scores.yaml", "--all", "--json")
    assert (caught.code, caught.json["differing"], caught.json["equal"]) == (3, 1, ROWS - 1)
    assert (caught.json["examples"][0]["key"], caught.json["examples"][0]["column"]) == ({"id": one}, "_explanations")
    assert run(capfd, "explain", "conf/scores.yaml", "--key", str(one), "--json").json["equal"] is False


def test_what_is_not_on_record_of_explanations_is_said(job, linear, capfd):
    done = score(job(linear[0], {}))
    (facts,) = Path("lake").rglob(f"reports/{done.run_id}.json")
    kept = json.loads(facts.read_text())
    del kept["explaining"]
    facts.write_text(json.dumps(kept))
    for command in (("verify",), ("explain", "--key", "7")):
        found = run(capfd, command[0], "conf/scores.yaml", *command[1:], "--json")
        assert found.code == 0, found
        assert found.json["notes"] == [
            "_explanations is not compared: what the run's were held against is not on record"
        ]
