"""Models that are loaded without MLflow: which, and that a process that has loaded one has not imported it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from lakehouse.models import loading
from lakehouse.models.flavors import flavor_of, load_native

X = pd.DataFrame({"a": np.linspace(-3, 3, 40), "b": np.linspace(0, 4, 40) % 1})


def save(folder: Path, **more) -> Path:
    model = LogisticRegression().fit(X, (X["a"] > 0).astype(int))
    mlflow.sklearn.save_model(
        model,
        folder,
        signature=mlflow.models.infer_signature(X, model.predict(X)),
        serialization_format="skops",
        pip_requirements=["scikit-learn"],  # or MLflow looks for them, which takes long
        **more,
    )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("native") / "model")


LOOK = """
import json, sys
from pathlib import Path
import pandas as pd
from lakehouse.models.loading import digest_of, load_here
folder = sys.argv[1]
answer = load_here(folder, digest_of(Path(folder)), None, ()).predict(pd.DataFrame(json.load(sys.stdin)))
print(json.dumps([answer.tolist(), "mlflow" in sys.modules]))
"""


@pytest.mark.quick("predict_proba")
@pytest.mark.parametrize("name", ["predict", "predict_proba"])
def test_a_process_that_loads_a_model_does_not_import_mlflow_and_answers_as_pyfunc_does(name, tmp_path):
    folder = save(tmp_path / "model", pyfunc_predict_fn=name)
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(folder)],
        input=json.dumps(X.to_dict("list")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer, imported = json.loads(done.stdout)
    assert not imported
    np.testing.assert_allclose(answer, mlflow.pyfunc.load_model(str(folder)).predict(X), rtol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"flavors": {"python_function": {"code": "code"}}},
        {"flavors": {"python_function": {"config": {"a": 1}}}},
        {"flavors": {"python_function": {"predict_fn": "score"}}},
        {"flavors": {"python_function": {"data": "model.skops"}}},
        {"flavors": {"python_function": {"model_path": "../model.skops"}}},
        {"flavors": {"sklearn": {"serialization_format": "joblib"}}},
        {"metadata": {"mlflow.model.isExternal": True}},
        {"signature": {"params": '[{"name": "t", "type": "double", "default": 0.5, "shape": null}]'}},
        {"type_hint_from_example": True},
    ],
    ids=lambda change: str(change)[:60],
)
def test_where_more_belongs_to_a_model_mlflow_loads_it(change, folder):
    mlmodel = loading.read_description(folder)
    assert load_native(folder, mlmodel, flavor_of(mlmodel)) is not None
    assert load_native(folder, merged(mlmodel, change), flavor_of(mlmodel)) is None


def merged(whole, part):
    """A mapping with what another says besides, at every depth."""
    return {
        **whole,
        **{k: merged(whole.get(k) or {}, v) if isinstance(v, dict) and k != "config" else v for k, v in part.items()},
    }
