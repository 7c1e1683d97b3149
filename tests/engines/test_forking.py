"""The process that local workers are forked from: it has one thread, and has loaded the model."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.engines import forking
from lakehouse.models import loading

pytestmark = pytest.mark.skipif(not forking.is_possible(), reason="elsewhere processes are spawned")


@pytest.fixture
def stored(tmp_path):
    """A model's folder, as MLflow stores it."""
    import mlflow.sklearn

    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    folder = tmp_path / "model"
    model, quick = LinearRegression().fit(x, x["a"] * 10), ["scikit-learn"]  # or MLflow looks for what it needs
    mlflow.sklearn.save_model(model, folder, serialization_format="skops", pip_requirements=quick)
    return folder


def look() -> dict[str, object]:
    """In a worker: whose child it is, how many models it has loaded, the variables that are for the server alone."""
    return {
        "parent": os.getppid(),
        "loaded": loading.load_here.cache_info().currsize,
        "mlflow": "mlflow" in sys.modules,
        "told": forking.PRELOAD in os.environ,
    }


def worker_of(folder: Path) -> dict[str, object]:
    model = forking.Model(str(folder), loading.digest_of(folder), None, ())
    with forking.server([model]) as context, ProcessPoolExecutor(1, mp_context=context) as pool:
        seen = pool.submit(look).result()
        assert seen["parent"] == forking._begun[0] != os.getpid()
        assert len(os.listdir(f"/proc/{forking._begun[0]}/task")) == 1
    assert not forking.is_begun()
    return {name: value for name, value in seen.items() if name != "parent"}


def test_a_worker_has_the_model_when_it_begins(stored):
    assert worker_of(stored) == {"loaded": 1, "mlflow": False, "told": False}
