"""The environment verdict: what a model was logged with against what is here, before any row is read."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import sklearn
import yaml
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

from lakehouse import models
from lakehouse.engines import likeness, probing
from lakehouse.engines import spark as engine
from lakehouse.errors import ModelRefused
from lakehouse.models.environment import PICKLE
from lakehouse.runs import ledger
from lakehouse.storage import locate
from tests.command import run, tree
from tests.conftest import read, score, write

HERE = ".".join(map(str, sys.version_info[:2]))
SKLEARN = ".".join(sklearn.__version__.split(".")[:2])
X = pd.DataFrame({"a": np.linspace(0, 4, 40), "b": np.cos(np.arange(40))})


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A model of two features as MLflow saves it, with an input example."""
    path = tmp_path_factory.mktemp("models") / "model"
    fitted = LinearRegression().fit(X, X["a"] * 2)
    mlflow.sklearn.save_model(
        fitted, path, signature=infer_signature(X, fitted.predict(X)), input_example=X.head(3),
        pip_requirements=["scikit-learn"], skops_trusted_types=["numpy.dtype"],
    )  # fmt: skip
    return path


@pytest.fixture
def model(saved, workspace) -> Path:
    """A copy of the model in the working directory, and forty rows."""
    write("lake/features", pa.table({"id": np.arange(40), **{c: X[c].to_numpy() for c in X}}))
    return Path(shutil.copytree(saved, workspace / "model"))


@pytest.fixture
def job(make_job, model) -> Callable[..., Any]:
    """The job over it; keywords are sections."""
    return lambda **sections: make_job("model", **{"predictions": {"p": "*"}, **sections})


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the description of a model."""
    content = yaml.safe_load((path / "MLmodel").read_text())
    change(content)
    (path / "MLmodel").write_text(yaml.safe_dump(content))


def other_python(content: dict[str, Any]) -> None:
    content["flavors"]["python_function"]["python_version"] = "3.9.18"


def other_sklearn(content: dict[str, Any]) -> None:
    content["flavors"]["sklearn"]["sklearn_version"] = "0.24.2"


OTHERS = [(other_python, "python", "3.9.18"), (other_sklearn, "scikit-learn", "0.24.2")]


def without_rows() -> None:
    """The input's log is there, its files are not: whoever reads a row fails."""
    for file in Path("lake/features").glob("*.parquet"):
        file.unlink()


def said(**request: Any) -> tuple[list[str], dict[str, Any]]:
    """Warnings as they come, and what a request needs to be told of them."""
    warnings: list[str] = []

    def say(event: str, values: Any) -> None:
        if event == "warning":
            warnings.append(values["message"])

    return warnings, {"say": say, **request}


@pytest.mark.parametrize(("change", "package", "recorded"), OTHERS)
def test_another_python_or_library_is_refused_before_a_row_is_read(job, model, change, package, recorded):
    edit(model, change)
    job = job()
    without_rows()
    with pytest.raises(ModelRefused) as refused:
        score(job)
    assert re.search(rf"^ +recorded +here\n +{package} +{recorded} +\d+\.\d+\.\d+$", str(refused.value), re.MULTILINE)
    assert str(refused.value).endswith("accept it: model: {environment: warn}")
    assert not Path("lake/scores").exists()


@pytest.mark.parametrize(("change", "package", "recorded"), OTHERS)
def test_check_says_the_same_before_a_row_is_read(job, model, capfd, change, package, recorded):
    edit(model, change)
    job()
    without_rows()
    before = tree(Path("lake"))
    done = run(capfd, "check", "conf/scores.yaml", "--json", "--engine", "local")
    (found,) = done.json["jobs"]
    assert (done.code, found["code"], found["steps"]["environment"]["status"]) == (4, 4, "failed")
    assert re.search(rf"{package} +{recorded}", found["message"])
    assert found["steps"]["input"]["status"] == "not looked at"
    assert tree(Path("lake")) == before


def test_the_job_may_let_it_pass_with_a_warning_that_is_recorded(job, model):
    edit(model, other_python)
    edit(model, other_sklearn)
    warnings, request = said()
    result = score(job(model={"environment": "warn"}), **request)
    assert (result.status, result.rows_scored) == ("published", 40)
    expected = f"environment: the model was logged with python 3.9.18 (here {sys.version.split()[0]}), "
    expected += f"scikit-learn 0.24.2 (here {sklearn.__version__})"
    assert [w for w in warnings if w.startswith("environment")] == [expected]
    facts = json.loads(next(Path("lake/scores_state/reports").glob("*.json")).read_text())
    assert facts["warnings"] == [expected]


def test_the_setting_changes_no_fingerprint(job):
    assert score(job()).status == "published"
    assert score(job(model={"environment": "warn"})).status == "unchanged"


def test_what_was_logged_here_passes_without_a_word(job):
    warnings, request = said()
    assert score(job(), **request).status == "published"
    assert warnings == []


def test_patch_levels_are_said_once_in_a_line(job, model):
    edit(model, lambda content: content["flavors"]["sklearn"].update(sklearn_version=f"{SKLEARN}.99"))
    (model / "requirements.txt").write_text("requests==1.0\nnumpy\nnot a requirement==\nsix==0.1 ; sys_platform == 'x'\n")
    warnings, request = said()
    assert score(job(), **request).status == "published"
    (line,) = warnings
    assert line.startswith("environment: the model was logged with ")
    assert f"scikit-learn {SKLEARN}.99 (here {sklearn.__version__})" in line
    assert "requests 1.0 (here " in line
    assert "six" not in line


def test_a_library_that_is_missing_is_named_with_its_version(job, model):
    def keras(content: dict[str, Any]) -> None:
        content["flavors"]["python_function"]["loader_module"] = "mlflow.catboost"
        content["flavors"]["catboost"] = {"catboost_version": "1.2.7"}

    if "catboost" in sys.modules or models.environment_here(["catboost"])["catboost"]:
        pytest.skip("it is here")
    edit(model, keras)
    with pytest.raises(ModelRefused, match=r"catboost +1\.2\.7 +missing\npip install catboost==1\.2\.7, train it again"):
        score(job())


def test_a_model_that_says_nothing_is_unknown_and_not_refused(job, model, capfd):
    edit(model, lambda content: content["flavors"]["python_function"].pop("python_version"))
    edit(model, lambda content: content["flavors"]["sklearn"].pop("sklearn_version"))
    for name in ("python_env.yaml", "conda.yaml", "requirements.txt"):
        (model / name).unlink()
    assert score(job()).status == "published"
    done = run(capfd, "check", "conf/scores.yaml", "--json", "--engine", "local")
    assert (done.code, done.json["jobs"][0]["steps"]["environment"]["status"]) == (0, "unknown")


def test_python_is_taken_from_the_files_beside_where_the_description_lacks_it(model):
    edit(model, lambda content: content["flavors"]["python_function"].pop("python_version"))
    assert models.recorded_environment(model).versions["python"] == sys.version.split()[0]
    (model / "python_env.yaml").unlink()
    (model / "conda.yaml").write_text("dependencies: [python=3.8.1, {pip: ['scikit_learn==0.1', numpy]}]")
    recorded = models.recorded_environment(model).versions
    assert (recorded["python"], recorded["scikit-learn"]) == ("3.8.1", sklearn.__version__)


@pytest.mark.parametrize("name", ["../outside.yaml", "/etc/hosts"])
def test_files_outside_the_model_are_not_read(model, name):
    (model.parent / "outside.yaml").write_text("python: 1.2.3")
    edit(model, lambda content: content["flavors"]["python_function"].update(env={"virtualenv": name}))
    edit(model, lambda content: content["flavors"]["python_function"].pop("python_version"))
    assert "python" not in models.recorded_environment(model).versions


@pytest.mark.parametrize(
    ("package", "recorded", "here", "decides"),
    [
        ("python", "3.11.2", "3.11.9", False),
        ("python", "3.11.2", "3.12.2", True),
        ("scikit-learn", "1.7.0", "1.7.2", False),
        ("scikit-learn", "1.7", "1.8.0", True),
        ("scikit-learn", "1.7.0", "2.7.0", True),
        ("numpy", "1.26.4", "1.25.0", False),
        ("numpy", "1.26.4", "2.0.0", True),
        ("pandas", "2.2.0", "3.0.0", True),
        ("cloudpickle", "2.1.0", "3.1.0", True),
        ("xgboost", "2.0.0", "3.0.0", True),
        ("requests", "2.0.0", "3.0.0", False),
        ("scikit-learn", "1.7.0", None, True),
        ("requests", "2.0.0", None, False),
        ("scikit-learn", "1.7.0", "unknown", None),
    ],
)  # fmt: skip
def test_what_decides(model, package, recorded, here, decides):
    (model / "model.pkl").write_bytes(b"\x80\x05.")
    (model / "requirements.txt").write_text("xgboost==2.0.0")
    known = models.recorded_environment(model)
    found = models.differences(models.Recorded({package: recorded}, known.parts, 5), {package: here, PICKLE: "5"})
    assert [(d.package, d.decides) for d in found] == ([] if decides is None else [(package, decides)])


def test_what_only_pickles_need_does_not_decide_for_data(model):
    assert set(models.recorded_environment(model).parts) == {"python", "scikit-learn", "numpy"}


def test_a_pickle_of_a_protocol_that_is_not_known_here_is_refused(model):
    (model / "model.pkl").write_bytes(b"\x80\x06.")
    known = models.recorded_environment(model)
    found = models.differences(known, models.environment_here(known.packages))[0]
    assert (found.package, found.recorded, found.found, found.decides) == (PICKLE, "6", "5", True)
