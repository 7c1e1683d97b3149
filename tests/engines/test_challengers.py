"""Challengers on Spark: the same pass, by whatever carrier, gives what the local engine gives."""

from __future__ import annotations

import functools
import pickle
import sys
from collections.abc import Mapping
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from lakehouse import models
from lakehouse.engines import likeness
from lakehouse.engines.spark import tasks
from lakehouse.errors import ModelRefused
from lakehouse.planning.naming import state_of
from lakehouse.runs import evidence, ledger
from lakehouse.scoring import staging
from tests.conftest import read, score, write

DAY = "2026-01-02"
CLASS = {"class": 1}
X = pd.DataFrame({"a": np.linspace(0, 4, 40), "b": np.cos(np.arange(40))})
Y = (X["a"] > 2).astype(int)


def picky() -> Any:
    """A model that raises on rows whose a is beyond 3; of a class that is pickled by value."""

    class Picky(LogisticRegression):
        def predict_proba(self, frame: Any) -> Any:
            if (frame["a"] > 3).any():
                raise ValueError("a is beyond me")
            return super().predict_proba(frame)

    return Picky().fit(X, Y)


@pytest.fixture(scope="module")
def uris(register, tracking_uri):
    """By name a champion and its challengers."""
    import xgboost

    found = {
        "champion": register(LogisticRegression().fit(X, Y), X),
        "picky": register(picky(), X, serialization_format="cloudpickle"),
        "narrow": register(LogisticRegression().fit(X[["b"]], Y), X[["b"]]),
        "wide": register(LogisticRegression().fit(X.assign(c=0.0), Y), X.assign(c=0.0)),
        "gone": "models:/nowhere@gone",
    }
    boosted = xgboost.XGBClassifier(n_estimators=3).fit(X, Y)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri)
    try:
        mlflow.set_experiment("tests")
        mlflow.xgboost.log_model(
            boosted, name="boosted", registered_model_name="challengers_boosted",
            signature=infer_signature(X, boosted.predict(X)), pip_requirements=["xgboost"],
        )  # fmt: skip
    finally:
        mlflow.set_tracking_uri(before)
    return {**found, "boosted": "models:/challengers_boosted/1"}


@pytest.fixture
def make(make_job, uris):
    ids = np.arange(40)
    country = np.where(ids % 2 == 0, "DE", "FR")
    day = pa.array([DAY] * 40)
    for _ in range(2):  # two files
        write("lake/features", pa.table({"id": ids, "country": country, "a": X["a"], "b": np.cos(ids), "day": day}))
        ids = ids + 100

    def job(name: str, where: str, *challengers: str, part: Mapping[str, int] = CLASS, **more: Any) -> Any:
        features = more.pop("features", {})
        rivals = [{"uri": uris[rival], "name": rival, **more} for rival in challengers]
        return make_job(
            uris["champion"], date=DAY, job=name, source={"where": where}, keep=["country"],
            predictions={"p": dict(part), "buys": {**part, "threshold": 0.5}},
            model={"method": "predict_proba", "challengers": rivals, "trust": ["pickle"]},
            sinks=[{"type": "delta", "table": f"lake/{name}"}], comparison={"by": "country"},
            features=features,
        )  # fmt: skip

    return job


def found(job: Any, run_id: str) -> list[dict[str, Any]]:
    """What a run found of its challengers, without what differs from run to run."""
    record = ledger.record_of(state_of(job), job.job, run_id)
    facts = evidence.facts_of(state_of(job), record)
    assert facts is not None
    timeless = [{k: v for k, v in one.items() if not k.endswith("seconds")} for one in facts["challengers"]]
    return timeless


@pytest.mark.long
def test_spark_compares_as_the_local_engine_does(spark, make):
    rivals, told = ("boosted", "picky", "narrow", "wide", "gone"), list[str]()
    here = make("here", f"day = '{DAY}'", *rivals)
    there = make("there", f"day = '{DAY}'", *rivals)
    framed = make("framed", "day LIKE '2026%'", *rivals)
    first = score(here)
    others = {
        job.job: (job, score(job, "spark", say=lambda event, values: told.append(str(values.get("message")))))
        for job in (there, framed)
    }
    beside, beyond = read("lake/here_challengers"), int((X["a"] > 3).sum())
    assert [other.carrier for _, other in others.values()] == ["files", "frame"]
    assert [name for name in beside.column_names if name.startswith("p")] == ["p", "p_boosted", "p_picky", "p_narrow"]
    assert beside["p_picky"].null_count == 2 * beyond
    compared = found(here, first.run_id)
    for name, (job, other) in others.items():
        own = read(f"lake/{name}_challengers")
        assert own.column_names == beside.column_names
        for column in ("id", "country", "buys", "buys_boosted", "buys_picky", "buys_narrow"):
            assert own[column].to_pylist() == beside[column].to_pylist(), column
        for column in ("p", "p_boosted", "p_picky", "p_narrow"):
            one, two = (table[column].to_numpy() for table in (own, beside))
            np.testing.assert_allclose(one, two, rtol=1e-6 if "boosted" in column else 1e-12)
        theirs = found(job, other.run_id)
        assert [one["failed"] for one in theirs] == [0, 2 * beyond, 0] == [one["failed"] for one in compared]
        for mine, yours in zip(compared, theirs, strict=True):
            assert [p["matrix"] for p in mine["predictions"]] == [p["matrix"] for p in yours["predictions"]]
            assert [len(p["segments"]) for p in yours["predictions"]] == [2, 2]
    assert sum("wide is left out" in line and "'c'" in line for line in told) == 2, told
    assert sum("gone is left out" in line for line in told) == 2


def test_a_challenger_that_a_worker_can_not_load_has_no_predictions(make, monkeypatch):
    job = make("unloaded", f"day = '{DAY}'", "boosted", "narrow")
    load = models.load

    def refuse(path: str, digest: str, *more: Any) -> Any:
        if sys._getframe(1).f_code is staging._open_challenger.__code__ and "challenger-0" in path:
            raise ModelRefused("the model can't be loaded here: it needs xgboost, which is not installed")
        return load(path, digest, *more)

    monkeypatch.setattr(models, "load", functools.wraps(load)(refuse))
    result = score(job)
    beside = read("lake/unloaded_challengers")
    assert (result.status, beside["p_boosted"].null_count, beside["p_narrow"].null_count) == ("published", 80, 0)
    [boosted, _] = found(job, result.run_id)
    assert boosted["failed"] == 80
    assert "it needs xgboost, which is not installed" in boosted["examples"][0]


def test_models_are_opened_once_a_worker_process(tmp_path, monkeypatch):
    from pyspark import SparkFiles

    plan, opened = tmp_path / "plan", list[object]()
    plan.write_bytes(pickle.dumps((None, [])))
    (tmp_path / "archive").mkdir()
    monkeypatch.setattr(SparkFiles, "get", lambda name: str(tmp_path / name))
    monkeypatch.setattr(likeness, "open_if_alike", lambda folders, given: (opened.append(folders) or print, ()))
    monkeypatch.setattr(tasks, "one_thread", lambda: None)
    for _ in range(3):
        assert tasks._open("plan", "archive") == (None, [], print, ())
    assert len(opened) == 1


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras calls numpy's older way
def test_a_network_of_keras_beside_a_model_of_scikit_learn(spark, make, uris, tracking_uri, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    import keras

    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri)
    try:
        mlflow.set_experiment("tests")
        mlflow.keras.log_model(
            network, name="network", registered_model_name="challengers_network", pip_requirements=["keras"],
            signature=infer_signature(X.to_numpy(), network.predict(X.to_numpy())),
        )  # fmt: skip
    finally:
        mlflow.set_tracking_uri(before)
    uris["network"] = "models:/challengers_network/1"
    told: list[str] = []
    for name, engine in (("keras_here", "local"), ("keras_there", "spark")):
        job = make(
            name, f"day = '{DAY}'", "network", part={"output": 1}, method="pyfunc", features={"tensor": ["a", "b"]}
        )
        score(job, engine, say=lambda event, values: told.append(str(values.get("message"))))
    assert [line for line in told if "left out" in line] == []
    one, two = (read(f"lake/{name}_challengers")["p_network"].to_numpy() for name in ("keras_here", "keras_there"))
    rows = read("lake/features").sort_by("id").to_pandas()
    np.testing.assert_allclose(one, network.predict(rows[["a", "b"]].to_numpy())[:, 1], rtol=1e-5)
    np.testing.assert_allclose(one, two, rtol=1e-5)
