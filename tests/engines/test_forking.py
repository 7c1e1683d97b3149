"""The process that local workers are forked from: it has one thread, and has loaded the model."""

from __future__ import annotations

import os
import shutil
import sys
import time
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
        assert seen["parent"] == forking._begun[0].process != os.getpid()
        assert len(os.listdir(f"/proc/{forking._begun[0].process}/task")) == 1
    assert not forking.is_begun()
    return {name: value for name, value in seen.items() if name != "parent"}


def test_a_worker_has_the_model_when_it_begins(stored):
    assert worker_of(stored) == {"loaded": 1, "mlflow": False, "told": False}


def ask(folder: Path) -> dict[str, object]:
    """What a worker sees that has the model of this folder, whoever begun the server that it was forked from."""
    model = forking.Model(str(folder), loading.digest_of(folder), None, ())
    forking.begin([model])
    try:
        with forking.server([]) as context, ProcessPoolExecutor(1, mp_context=context) as pool:
            answer = pool.submit(answer_of, model).result()
        return {"server": forking._begun[0].process, "answer": answer}
    finally:
        forking.rest()


def answer_of(model: forking.Model) -> float:
    """Of the model, which the process must have: its folder isn't looked at."""
    predict = loading.load("nowhere", model.digest, model.method, model.params)
    return float(predict.predict(pd.DataFrame({"a": [2.0]}))[0])


@pytest.fixture
def nothing_rests():
    forking.end()
    yield
    forking.end()


def test_the_next_run_has_the_server_of_the_one_before(stored, tmp_path, nothing_rests, monkeypatch):
    first = ask(stored)
    assert first["answer"] == pytest.approx(20.0)
    assert (forking.is_begun(), forking.is_in_use()) == (True, False)
    assert ask(Path(shutil.copytree(stored, tmp_path / "fetched_again"))) == first
    monkeypatch.setenv("AWS_SESSION_TOKEN", "renewed")  # as all variables the workers' are those of the server
    assert ask(stored)["server"] != first["server"]


@pytest.mark.long
def test_another_model_has_a_server_of_its_own(stored, nothing_rests):
    first = ask(stored)
    (stored / "note.txt").write_text("other bytes")
    assert ask(stored)["server"] != first["server"]


def test_it_says_when_it_is_ready(stored, nothing_rests):
    assert forking.is_ready()  # there is none to wait for
    forking.begin([forking.Model(str(stored), loading.digest_of(stored), None, ())])
    assert not forking.is_ready()
    for _ in range(600):
        if forking.is_ready():
            break
        time.sleep(0.05)
    assert forking.is_ready()


def test_a_server_that_nobody_asks_for_ends(stored, nothing_rests, monkeypatch):
    monkeypatch.setattr(forking, "_IDLE_SECONDS", 0.05)
    process = ask(stored)["server"]
    for _ in range(200):
        if not forking.is_begun():
            break
        time.sleep(0.05)
    assert not forking.is_begun()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
