"""A worker that is kept to one thread has a model that keeps to it, whether it was loaded before or afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

X = pd.DataFrame(np.random.default_rng(7).normal(size=(200, 6)).astype(np.float32), columns=list("abcdef"))
Y = (X["a"] * X["b"] > 0).astype(int)

LOOK = """
import json, sys, time
from pathlib import Path
import numpy as np
import pandas as pd
from lakehouse.engines import local
from lakehouse.models.loading import digest_of, load_here

def others():
    return time.process_time_ns() - time.thread_time_ns()  # of threads that have ended as well

folder, method, before = sys.argv[1], sys.argv[2] or None, sys.argv[3] == "before"
rows = pd.DataFrame(np.random.default_rng(8).normal(size=(100_000, 6)).astype(np.float32), columns=list("abcdef"))
def answer():
    return load_here(folder, digest_of(Path(folder)), method, ()).predict(rows.copy())
if before:
    answer()
else:
    local.one_thread()  # as in a worker
with local.one_thread_meanwhile():
    answer()  # what is set up at a first call
    time.sleep(0.2)  # threads that spin a while after the call before
    started, own = others(), time.thread_time_ns()
    answer()
    pinned = (others() - started) / (time.thread_time_ns() - own)
started, own = others(), time.thread_time_ns()
answer()
print(json.dumps([pinned, (others() - started) / (time.thread_time_ns() - own)]))
"""
"""What threads other than the first use of the processor, beside it: kept to one, and then not."""


def onnx(folder: Path) -> None:
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingClassifier

    model = GradientBoostingClassifier(n_estimators=300, max_depth=4).fit(X.to_numpy(), Y)
    graph = to_onnx(model, X.to_numpy()[:1], options={"zipmap": False})
    mlflow.onnx.save_model(graph, folder, pip_requirements=["onnxruntime"])


def catboost(folder: Path) -> None:
    from catboost import CatBoostClassifier

    model = CatBoostClassifier(iterations=300, verbose=False, allow_writing_files=False).fit(X, Y)
    mlflow.catboost.save_model(model, folder, pip_requirements=["catboost"])


def forest(folder: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    save_sklearn(RandomForestClassifier(60, n_jobs=3, random_state=0), folder)


def boosting(folder: Path) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    save_sklearn(HistGradientBoostingClassifier(), folder)


def save_sklearn(model: Any, folder: Path) -> None:
    requirements = ["scikit-learn"]
    mlflow.sklearn.save_model(model.fit(X, Y), folder, serialization_format="pickle", pip_requirements=requirements)


def xgboost(folder: Path) -> None:
    from xgboost import XGBClassifier

    mlflow.xgboost.save_model(XGBClassifier(n_estimators=200).fit(X, Y), folder, pip_requirements=["xgboost"])


def lightgbm(folder: Path) -> None:
    from lightgbm import LGBMClassifier

    model = LGBMClassifier(n_estimators=200, verbose=-1).fit(X, Y)
    mlflow.lightgbm.save_model(model, folder, pip_requirements=["lightgbm"])


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("save", [onnx, catboost, forest, boosting, xgboost, lightgbm])
@pytest.mark.quick("onnx-before")
def test_a_model_keeps_to_one_thread(save: Callable[[Path], None], when, tmp_path):
    save(tmp_path / "model")
    method = "" if save is onnx else "predict_proba"
    command = [sys.executable, "-c", LOOK, str(tmp_path / "model"), method, when]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    pinned, free = json.loads(done.stdout.splitlines()[-1])
    print(f"{save.__name__}, {when}: {pinned:.3f} of the first thread, not pinned {free:.3f}")
    assert pinned < 0.05
    if save is forest and when == "before":  # the others take more threads only where there are cores for them
        assert free > 0.2
