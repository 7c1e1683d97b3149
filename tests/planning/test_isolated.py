"""Jobs whose model runs in an environment of its own, of this process's packages: as if it were built already."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from tests.conftest import read, score, write
from tests.models.isolated import warm

X = pd.DataFrame({"a": np.linspace(-2, 2, 40), "b": np.cos(np.arange(40))})
PREDICTIONS = {"p": {"class": 1}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model"
    fitted = LogisticRegression().fit(X, X["a"] > 0.3)
    fitted.classes_ = np.array([0, 1])
    mlflow.sklearn.save_model(
        fitted, path, signature=infer_signature(X, fitted.predict(X)), pip_requirements=["scikit-learn"],
        skops_trusted_types=["numpy.dtype"],
    )  # fmt: skip
    return path


@pytest.fixture
def model(saved, workspace) -> Path:
    """A copy of the model in the working directory, forty rows, and an environment that is kept for it."""
    write("lake/features", pa.table({"id": np.arange(40), **{c: X[c].to_numpy() for c in X}}))
    copy = Path(shutil.copytree(saved, workspace / "model"))
    warm.keep(workspace / "environments", copy)
    return copy


@pytest.fixture
def job(make_job, model) -> Callable[..., Any]:
    """The job over it; keywords are sections."""

    def make(environment: str = "isolated", **sections: Any) -> Any:
        own = {"isolation": {"cache": "environments"}} if environment == "isolated" else {}
        section = {"method": "predict_proba", "environment": environment, **own, **sections.pop("model", {})}
        return make_job("model", **{"predictions": PREDICTIONS, "model": section, **sections})

    return make


def test_scores_are_those_of_the_same_model_that_is_not_isolated(job):
    score(job(environment="strict"))
    expected = read("lake/scores")["p"]
    result = score(job())
    assert result.status == "published"
    assert read("lake/scores")["p"].equals(expected)
