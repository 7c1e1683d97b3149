"""Jobs whose model runs in an environment of its own, of this process's packages: as if it were built already."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
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

from lakehouse import models
from lakehouse.config.model import Isolation
from lakehouse.errors import ConfigError, ModelRefused, Unavailable
from lakehouse.models.isolated import interpreters
from tests.command import run
from tests.conftest import read, score, write
from tests.models.isolated import warm

# MLflow's advice on type hints, while a model is saved
pytestmark = pytest.mark.filterwarnings("ignore:(?s).*Add type hints:UserWarning")

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


def test_scores_are_those_of_the_same_model_that_is_not_isolated_which_another_setting_scores_again(job):
    score(job(environment="strict"))
    expected = read("lake/scores")["p"]
    result = score(job())
    assert result.status == "published"  # other libraries may give other scores: not unchanged
    assert result.model["called"] == f"LogisticRegression.predict_proba, isolated, in Python {interpreters.HERE}"
    assert read("lake/scores")["p"].equals(expected)
    assert score(job()).status == "unchanged"


@pytest.mark.long
def test_spark_scores_with_it_too(job, spark):
    score(job(environment="strict"))
    expected = read("lake/scores")["p"]
    assert score(job(), "spark").status == "published"
    assert read("lake/scores")["p"].equals(expected)


@pytest.mark.long
def test_check_says_what_is_in_it(job, capfd):
    job()
    found = run(capfd, "check", "conf", "--engine", "local", "--json").json["jobs"][0]
    assert (found["code"], found["warnings"]) == (0, [])
    said = found["steps"]["environment"]["found"]
    assert re.fullmatch(r"isolated: python 3\.\S+, scikit-learn \S+, numpy \S+ \(kept as [0-9a-f]{16}…\)", said)


def test_what_the_requirements_leave_open_must_be_what_was_recorded(job, model, capfd):
    description = (model / "MLmodel").read_text()
    (model / "MLmodel").write_text(re.sub(r"sklearn_version: .*", "sklearn_version: 0.24.2", description))
    job()
    done = run(capfd, "score", "conf/scores.yaml", "--engine", "local")
    assert done.code == 4
    assert "the model's own requirements make another environment than it was logged in" in done.err
    assert re.search(r"pip_requirements.*scikit-learn==0\.24\.2", done.err)


def test_strict_names_it_as_a_remedy(job, model):
    description = (model / "MLmodel").read_text()
    (model / "MLmodel").write_text(re.sub(r"sklearn_version: .*", "sklearn_version: 0.24.2", description))
    with pytest.raises(ModelRefused, match=r"model: \{environment: isolated\}"):
        score(job(environment="strict"))


@pytest.mark.parametrize("line", ["--index-url https://elsewhere.example/simple", "./evil"])
def test_requirements_that_look_elsewhere_are_refused_before_anything_runs(job, model, line):
    (model / "evil").mkdir()
    (model / "evil" / "setup.py").write_text(f"open({str(model.parent / 'canary')!r}, 'w').close()")
    with (model / "requirements.txt").open("a") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(ModelRefused, match=r"(?s)environment: isolated: requirements\.txt has .*accept"):
        score(job())
    assert not Path("canary").exists()
    assert not Path("lake/scores").exists()


def test_without_network_and_without_the_environment_it_is_said(job, model):
    shutil.rmtree("environments")
    with pytest.raises(Unavailable, match="the package index is not reached"):
        score(job(model={"isolation": {"cache": "environments", "index": "http://127.0.0.1:9/simple"}}))
    assert not any(path.is_dir() for path in Path("environments").iterdir())


@pytest.mark.quick("[]")
@pytest.mark.parametrize("manifest", ['{"cut', "[]", '{"format": 1}', None])
def test_an_environment_that_is_damaged_is_built_anew(job, model, manifest):
    index = "http://127.0.0.1:9/simple"
    place = Path("environments", warm.keep(Path("environments"), model, Isolation(index=index)))
    (place / "manifest.json").unlink()
    if manifest is not None:
        (place / "manifest.json").write_text(manifest)
    with pytest.raises(Unavailable, match="the package index is not reached"):
        score(job(model={"isolation": {"cache": "environments", "index": index}}))
    assert not place.exists()


@pytest.mark.long
def test_an_index_that_the_job_names_may_stand_in_the_requirements(job, model):
    index = "http://127.0.0.1:9/simple"
    with (model / "requirements.txt").open("a") as file:
        file.write(f"\n--extra-index-url {index}\n")
    isolation = {"cache": "environments", "index": index}
    warm.keep(Path("environments"), model, Isolation(index=index))
    assert score(job(model={"isolation": isolation})).status == "published"  # kept: no network is needed


def test_keys_that_do_nothing_are_refused(job):
    with pytest.raises(ConfigError, match=r"model\.isolation: there is nothing to isolate"):
        job(environment="strict", model={"isolation": {"cache": "environments"}})


FAILING = """
import os, sys, time
import mlflow
from mlflow.pyfunc import PythonModel

class Failing(PythonModel):
    def predict(self, context, model_input, params=None):
        print("on stdout, where answers go")
        print("last words", file=sys.stderr, flush=True)
        for value in model_input["a"]:
            if value == 1: os._exit(7)
            if value == 2: sys.exit("enough")
            if value == 3: raise KeyError("no such thing")
            if value == 4 and os.fork() == 0: time.sleep(0.2)  # and both answer
            if value == 5:
                started = os.fork()
                if started == 0: time.sleep(600)
                with open("left", "w") as file: file.write(str(started))
                os._exit(8)
            if value == 6: print("." * 4_000_000, end="", file=sys.stderr, flush=True)
        return model_input["a"] * 2

mlflow.models.set_model(Failing())
"""


@pytest.fixture
def failing(make_job, workspace) -> Callable[..., Any]:
    """A job over rows of `a`, of which 1, 2 and 3 are too much for its model."""
    (workspace / "code.py").write_text(FAILING)
    x = pd.DataFrame({"a": [0.5]})
    mlflow.pyfunc.save_model(
        "failing", python_model="code.py", signature=infer_signature(x, x["a"]), pip_requirements=["numpy"]
    )
    warm.keep(workspace / "environments", workspace / "failing")

    def make(values: list[float], **sections: Any) -> Any:
        write("lake/features", pa.table({"id": np.arange(len(values)), "a": values}), mode="overwrite")
        section = {"environment": "isolated", "isolation": {"cache": "environments"}, "trust": ["python_function"]}
        return make_job("failing", predictions={"p": "*"}, model=section, **sections)

    return make


@pytest.mark.long
def test_rows_that_the_model_or_its_process_does_not_survive_are_set_aside(failing):
    job = failing([2.0, 7.0, 1.0, 3.0], checks={"quarantine": {"max_fraction": 0.8}})
    assert score(job).status == "published"
    assert read("lake/scores")["p"].to_pylist() == [14.0]
    aside = read("lake/scores_quarantine")
    said = {row["a"]: row["_reasons"][0]["observed"] for row in aside.to_pylist()}
    assert said[2.0] == "RuntimeError: the model ends the process: SystemExit('enough')"
    assert said[3.0] == "KeyError: 'no such thing'"
    assert said[1.0].startswith("ModelProcessDied: the model's own process ended with exit code 7: ")
    assert said[1.0].endswith("last words")


@pytest.mark.long
def test_a_copy_that_a_model_makes_of_its_process_answers_nothing(failing):
    values = [4.0, *np.arange(8.0, 27.0)]
    job = failing(values)
    assert score(job.model_copy(update={"model": job.model.model_copy(update={"batch_rows": 4})})).rows_scored == 20
    table = read("lake/scores").sort_by("id")
    assert table["p"].to_pylist() == [2 * value for value in values]


@pytest.mark.long
def test_what_a_model_has_started_ends_with_its_process(failing):
    assert score(failing([7.0, 5.0], checks={"quarantine": {"max_fraction": 0.5}})).rows_quarantined == 1
    left = int(Path("left").read_text())
    for _ in range(200):
        if not _runs(left):
            return
        time.sleep(0.05)
    pytest.fail("it still runs")


@pytest.mark.long
def test_of_what_a_model_prints_the_end_is_kept(failing):
    job = failing([6.0, 7.0, 1.0], checks={"quarantine": {"max_fraction": 0.5}})
    assert score(job).rows_scored == 2
    [why] = read("lake/scores_quarantine")["_reasons"].to_pylist()[0]
    assert why["observed"].endswith("last words")


@pytest.mark.long
def test_a_model_whose_process_always_dies_is_refused_with_its_last_words(failing):
    with pytest.raises(ModelRefused, match=r"(?s)raises on every row .*ended with exit code 7: .*last words"):
        score(failing([1.0, 1.0]))


PARENT = """
import sys, time
from pathlib import Path
from lakehouse import models
from lakehouse.models.isolated.calling import Environment, IsolatedFolder, _process
import os
key, packages, python, minor, path, digest = sys.argv[1:]
environment = Environment(key, packages, python, minor)
models.load(IsolatedFolder(path, environment), digest, "predict_proba", ())
print(_process(os.getpid(), environment).held[0].pid, flush=True)
time.sleep(600)
"""


@pytest.mark.long
def test_the_models_process_ends_with_its_parent(model, tmp_path):
    there = warm.environment(tmp_path)
    given = [there.key, there.packages, there.python, there.minor, str(model), models.digest_of(model)]
    with subprocess.Popen([sys.executable, "-c", PARENT, *given], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)
        parent.kill()
    for _ in range(200):
        if not _runs(child):
            return
        time.sleep(0.05)
    pytest.fail("it still runs")


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
