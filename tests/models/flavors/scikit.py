"""Models of scikit-learn, logged with no more than a signature: pyfunc's own function is then `predict`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, Schema
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.models.flavors.case import Case, Entry, labels, logger, numbers, with_text

CLOSE = 1e-12


def logged(model: Any, x: pd.DataFrame, signature: Any = None, **logging: Any) -> Any:
    logging = {"skops_trusted_types": ["numpy.dtype"], **logging}
    return logger(
        mlflow.sklearn.log_model, model, "scikit-learn", signature=signature or infer_signature(x, model.predict(x)),
        **logging,
    )  # fmt: skip


def of_classes(method: str, names: Sequence[Any], job: Any) -> Case:
    x = numbers()
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, labels(x, *names))
    answer = getattr(model, method)(x)
    columns = answer.reshape(len(x), -1).T
    native = dict(zip(job, columns, strict=True))
    return Case(
        logged(model, x), x, native, {"model": {"method": method}, "predictions": job},
        close=0.0 if method == "predict" else CLOSE,
    )  # fmt: skip


def text_pipeline() -> Case:
    x = with_text()
    encoded = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["c"]), remainder="passthrough")
    model = make_pipeline(encoded, LogisticRegression()).fit(x, labels(x, "low", "high"))
    rows = x.assign(c=["purple", *x["c"][1:]])
    return Case(
        logged(model, x), rows, {"high": model.predict_proba(rows)[:, 0]},
        {"model": {"method": "predict_proba"}, "predictions": {"high": {"class": "high"}}}, close=CLOSE,
    )  # fmt: skip


def labels_of_text() -> Case:
    x = with_text()
    encoded = make_column_transformer((OneHotEncoder(), ["c"]), remainder="passthrough")
    model = make_pipeline(encoded, LogisticRegression()).fit(x, labels(x, "low", "high"))
    return Case(logged(model, x), x, {"prediction": model.predict(x)}, result_type="string")


def several_targets(named: bool) -> Case:
    x = numbers()
    model = LinearRegression().fit(x, np.column_stack([x["a"] - x["b"], x["b"] * 3]))
    up, down = model.predict(x).T
    if named:
        outputs = Schema([ColSpec("double", "up"), ColSpec("double", "down")])
        signature = ModelSignature(infer_signature(x).inputs, outputs)
        return Case(logged(model, x, signature), x, {"up": up, "down": down}, close=CLOSE, result_type="array<double>")
    job = {"predictions": {"both": "*"}}
    return Case(logged(model, x), x, {"both": model.predict(x)}, job, close=CLOSE, result_type="array<double>")


def forest() -> Case:
    x = numbers()
    model = RandomForestClassifier(8, random_state=0).fit(x, labels(x, 0, 1, 2))
    native = dict(zip(("none", "some", "all"), model.predict_proba(x).T, strict=True))
    job = {"predictions": {name: {"class": n} for n, name in enumerate(native)}}
    return Case(
        logged(model, x, serialization_format="pickle", skops_trusted_types=None), x, native,
        {"model": {"method": "predict_proba", "trust": ["pickle"]}, **job},
    )  # fmt: skip


ENTRIES = [
    Entry("sklearn", "doubles", "predict", lambda: of_classes("predict", (0, 1), {"label": 0})),
    Entry("sklearn", "doubles", "predict_proba",
          lambda: of_classes("predict_proba", (0, 1), {"no": {"class": 0}, "yes": {"class": 1}})),
    Entry("sklearn", "doubles", "predict_log_proba",
          lambda: of_classes("predict_log_proba", ("l", "m", "h"), {"h": 0, "l": 1, "m": 2})),
    Entry("sklearn", "doubles", "decision_function, two classes",
          lambda: of_classes("decision_function", (0, 1), {"distance": "*"})),
    Entry("sklearn", "doubles", "decision_function, three classes",
          lambda: of_classes("decision_function", (0, 1, 2), {"a": 0, "b": 1, "c": 2})),
    Entry("sklearn", "doubles", "predict_proba of a forest", forest),
    Entry("sklearn", "doubles and text", "predict", labels_of_text),
    Entry("sklearn", "doubles and text, one unseen", "predict_proba", text_pipeline),
    Entry("sklearn", "doubles", "several targets, named", lambda: several_targets(True)),
    Entry("sklearn", "doubles", "several targets, as a list", lambda: several_targets(False)),
]  # fmt: skip
