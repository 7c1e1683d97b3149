"""A model a value of a column: every row has the answer of its own model, and rows without one are set aside."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression, LogisticRegression

from lakehouse import api, models
from lakehouse.config import Job
from lakehouse.errors import Blocked, ConfigError, ModelRefused
from lakehouse.models import held
from lakehouse.operations.replay import replay
from lakehouse.pipeline import Request, new_run_id
from lakehouse.planning.naming import state_of
from lakehouse.runs import evidence, ledger
from lakehouse.scoring import routing, staging
from lakehouse.views import page, planned, terminal
from tests.conftest import read, score, version, write

X = pd.DataFrame({"a": np.linspace(-3, 3, 60), "b": np.cos(np.arange(60))})
SEGMENTS = ("north", "south", "wést", "4")


class Picky(LinearRegression):
    """Raises on rows whose a is beyond 2."""

    def predict(self, frame: Any) -> Any:
        if (frame["a"] > 2).any():
            raise ValueError("a is beyond me")
        return super().predict(frame)


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.file),)


def fitted(number: int) -> LinearRegression:
    return LinearRegression().fit(X, X["a"] * number + X["b"] ** 2)


@pytest.fixture(scope="module")
def family(tracking_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """family(prefix, {value: model}, **save_model arguments) → URI with {segment}; registered as new versions."""
    home = tmp_path_factory.mktemp("models")
    client = mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def make(prefix: str, members: Mapping[str, Any], **saving: Any) -> str:
        for value, model in members.items():
            name, folder = f"{prefix}_{value}", home / f"{prefix}_{value}-{new_run_id()}"
            method = saving.get("pyfunc_predict_fn", "predict")
            mlflow.sklearn.save_model(
                model, folder, **{
                    "signature": infer_signature(X, getattr(model, method)(X[:20])),
                    "pip_requirements": ["scikit-learn"], "skops_trusted_types": ["numpy.dtype"], **saving,
                },
            )  # fmt: skip
            if not client.search_registered_models(f"name = '{name}'"):
                client.create_registered_model(name)
            made = client.create_model_version(name, str(folder))
            client.set_registered_model_alias(name, "champion", made.version)
        return f"models:/{prefix}_{{segment}}@champion"

    return make


@pytest.fixture(scope="module")
def churn(family: Callable[..., str]) -> str:
    return family("churn", {value: fitted(number) for number, value in enumerate(SEGMENTS)})


def features(rows: int = 400, segments: Any = SEGMENTS) -> pa.Table:
    rng, ids = np.random.default_rng(1), np.arange(rows)
    chosen = [segments[i] for i in rng.integers(0, len(segments), rows)]
    return pa.table({"id": ids, "segment": chosen, "a": rng.normal(size=rows), "b": rng.normal(size=rows)})


@pytest.fixture
def by(make_job: Callable[..., Job]) -> Callable[..., Job]:
    def make(uri: str, model: Mapping[str, Any] | None = None, **more: Any) -> Job:
        return make_job(uri, model={"by": "segment", **(model or {})}, **{"predictions": {"p": "*"}, **more})

    return make


def native(rows: pa.Table, tracking_uri: str, prefix: str = "churn") -> np.ndarray:
    """What mlflow.pyfunc answers for each row by the model of its segment."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri)
    try:
        frame = rows.to_pandas()
        answers = np.full(len(frame), np.nan)
        for value, part in frame.groupby("segment"):
            model = mlflow.pyfunc.load_model(f"models:/{prefix}_{value}@champion")
            answers[part.index] = model.predict(part[["a", "b"]])
        return answers
    finally:
        mlflow.set_tracking_uri(before)


@pytest.mark.parametrize("engine", ["local", "spark"])
def test_each_row_has_its_own_models_answer_and_version(engine, by, churn, tracking_uri, request):
    if engine == "spark":
        request.getfixturevalue("spark")
    rows = features()
    write("lake/features", rows)
    result = score(by(churn), engine)
    assert (result.status, result.rows_scored, result.model["count"]) == ("published", 400, 4)
    scored = read("lake/scores")
    np.testing.assert_allclose(scored["p"].to_numpy(), native(rows, tracking_uri), rtol=1e-12)
    assert scored["_model_name"].to_pylist() == [f"churn_{value}" for value in rows["segment"].to_pylist()]
    assert set(scored["_model_version"].to_pylist()) == {"1"}


@pytest.mark.parametrize(("gathered", "a_call"), [(7, 3), (64, 65536), (1 << 20, 10)])
def test_rows_stay_in_their_order_however_many_are_gathered(gathered, a_call, by, churn, tracking_uri, monkeypatch):
    monkeypatch.setattr(routing.Route, "gathered_rows", gathered)
    rows = features(301)
    write("lake/features", rows)
    assert score(by(churn, {"batch_rows": a_call})).rows_scored == 301
    (file,) = Path("lake/scores").rglob("scored-*.parquet")
    scored = pa.parquet.read_table(file)
    assert scored["id"].to_pylist() == list(range(301))
    np.testing.assert_allclose(scored["p"].to_numpy(), native(rows, tracking_uri), rtol=1e-12)


def test_the_frame_carrier_routes_as_well(spark, by, churn, tracking_uri):
    rows = features(50)
    write("lake/features", rows)
    job = by(churn, source={"where": "id % 2 = 0"})
    result = score(job, "spark")
    assert (result.carrier, result.rows_scored) == ("frame", 25)
    np.testing.assert_allclose(read("lake/scores")["p"].to_numpy(), native(rows, tracking_uri)[::2], rtol=1e-12)
