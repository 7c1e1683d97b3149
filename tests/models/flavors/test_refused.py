"""Models that are refused, or named in a way that is, each with what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

from lakehouse import models
from lakehouse.config import Model
from lakehouse.errors import ConfigError, ModelRefused
from tests.conftest import read, score, write
from tests.models.flavors import other, scikit
from tests.models.flavors.case import numbers
from tests.models.flavors.comparing import connect

X = numbers()


@pytest.fixture
def features(workspace):
    import pyarrow as pa

    table = pa.Table.from_pandas(X, preserve_index=False)
    write("lake/features", table.add_column(0, "id", pa.array(np.arange(len(X)))))


def refused(job) -> str:
    with pytest.raises(ModelRefused) as error:
        score(job)
    assert error.value.exit_code == 4
    return str(error.value)


def described(folder: Path, flavor: str, description: dict, **function: str) -> Path:
    """A model's folder without a model: what its MLmodel says."""
    folder.mkdir()
    loader = {"loader_module": f"mlflow.{flavor}", **function}
    content = {
        "flavors": {flavor: description, "python_function": loader},
        "signature": infer_signature(X, X["a"]).to_dict(),
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(content))
    return folder


def test_a_pytorch_model_is_a_pickle_and_its_missing_library_is_named_with_its_version(features, make_job, tmp_path):
    path = described(tmp_path / "net", "pytorch", {"pytorch_version": "2.9.1", "model_data": "data"}, data="data")
    (path / "data").mkdir()
    assert "its folder 'data' holds a pickle, which can run any code" in refused(make_job(str(path)))
    said = refused(make_job(str(path), model={"uri": str(path), "trust": ["pickle"]}))
    assert said.splitlines()[2].split() == ["torch", "2.9.1", "missing"]
    assert said.splitlines()[-1].startswith("pip install torch==2.9.1")


def test_categories_that_xgboost_did_not_store_are_refused():
    import xgboost

    from lakehouse.models.flavors import xgboost as flavor

    codes = pd.DataFrame({"a": X["a"], "c": np.arange(len(X)) % 3})
    matrix = xgboost.DMatrix(codes, X["b"], feature_types=["q", "c"], enable_categorical=True)
    booster = xgboost.train({"max_depth": 2}, matrix, 2)
    with pytest.raises(ModelRefused, match=r"category columns by an XGBoost before 3\.1, which did not store their"):
        flavor._categories(booster)


def test_what_a_model_says_of_most_rows_is_told_where_it_scores_none(features, make_job, tmp_path):
    """One row is of another category than the rest, whose trouble is what matters."""
    connect(tmp_path)
    model = other.Complaining()
    info = other.logger(other.as_python, model, "mlflow", signature=infer_signature(X, X["a"]))("complaining")
    said = refused(
        make_job(info.model_uri, model={"tracking_uri": None, "uri": info.model_uri, **other.TRUST["model"]})
    )
    assert "ValueError: no row will do" in said


@pytest.mark.parametrize("name", ["models:/{}/Production", "models:/{}/latest", "models:/{}"])
def test_names_that_move_are_refused_with_the_aliases_that_there_are(register, tracking_uri, name):
    uri = register(LinearRegression().fit(X, X["a"]), X, alias="prod")
    model = uri.removeprefix("models:/").removesuffix("@prod")
    with pytest.raises(ConfigError) as error:
        models.resolve(Model(uri=name.format(model), tracking_uri=tracking_uri))
    assert f"use models:/{model}@<alias> or models:/{model}/<n>; {model} has versions [1] and aliases: prod" in str(
        error.value
    )


def test_a_logged_model_and_a_run_s_model_are_scored_as_the_registered_one(features, make_job, tmp_path):
    connect(tmp_path)
    info = scikit.logged(LinearRegression().fit(X, X["a"]), X)("three")
    named = {"registered": "models:/three/1", "logged": info.model_uri, "run": f"runs:/{info.run_id}/three"}
    assert info.model_uri.startswith("models:/m-")
    found = {}
    for name, one in named.items():
        result = score(
            make_job(
                one,
                job=name,
                model={"uri": one, "tracking_uri": None},
                sinks=[{"type": "delta", "table": f"lake/{name}"}],
            )
        )
        found[name] = (result.model["digest"], read(f"lake/{name}").select(["id", "prediction"]).to_pydict())
    assert found["registered"] == found["logged"] == found["run"]
