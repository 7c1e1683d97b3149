"""Models of XGBoost, LightGBM and CatBoost."""

from __future__ import annotations

from typing import Any

import mlflow.catboost
import mlflow.lightgbm
import mlflow.xgboost
import numpy as np
import pandas as pd
from mlflow.models import infer_signature

from tests.models.flavors.case import Case, Entry, labels, logger, numbers, with_nulls, with_text

FLOAT32 = 1e-5


def xgboost_classifier(method: str) -> Case:
    from xgboost import XGBClassifier

    x = with_nulls(numbers())
    model = XGBClassifier(n_estimators=6).fit(x, labels(numbers(), 0, 1, 2))
    log = logger(mlflow.xgboost.log_model, model, "xgboost", signature=infer_signature(x, model.predict(x)))
    if method == "predict":
        return Case(log, x, {"prediction": model.predict(x)})
    native = {f"p{n}": column for n, column in enumerate(model.predict_proba(x).T)}
    job = {"predictions": {name: {"class": n} for n, name in enumerate(native)}}
    return Case(log, x, native, {"model": {"method": "predict_proba"}, **job})


def xgboost_booster(params: dict[str, Any] | None = None) -> Case:
    import xgboost

    x = with_nulls(numbers())
    matrix = xgboost.DMatrix(x, labels(numbers(), 0, 1))
    model = xgboost.train({"objective": "binary:logistic"}, matrix, 6)
    native = model.predict(matrix, **(params or {}))
    log = logger(mlflow.xgboost.log_model, model, "xgboost", signature=infer_signature(x, native, params))
    return Case(log, x, {"prediction": native})


def xgboost_categories(booster: bool) -> Case:
    """The categories come in another order than in training, and one of them is not known."""
    import xgboost

    x = with_text()
    trained = x.assign(c=pd.Categorical(x["c"], ["red", "green", "blue"]))
    y = (x["c"] == "green").astype(int)
    rows = x.assign(c=["purple", *x["c"][1:]])
    known = rows.assign(c=pd.Categorical(rows["c"], ["red", "green", "blue"]))
    if booster:
        model = xgboost.train({"max_depth": 3}, xgboost.DMatrix(trained, y, enable_categorical=True), 6)
        native = model.predict(xgboost.DMatrix(known, enable_categorical=True))
    else:
        model = xgboost.XGBClassifier(n_estimators=6, enable_categorical=True).fit(trained, y)
        native = model.predict(known)
    log = logger(mlflow.xgboost.log_model, model, "xgboost", signature=infer_signature(trained, native))
    return Case(log, rows, {"prediction": native}, aside=(0,))


def lightgbm_booster() -> Case:
    import lightgbm

    x = with_nulls(numbers())
    model = lightgbm.train({**QUIET, "objective": "binary"}, lightgbm.Dataset(x, labels(numbers(), 0, 1)), 6)
    log = logger(mlflow.lightgbm.log_model, model, "lightgbm", signature=infer_signature(x, model.predict(x)))
    return Case(log, x, {"prediction": model.predict(x)})


QUIET: dict[str, Any] = {"min_child_samples": 2, "verbose": -1, "num_threads": 1}


def lightgbm_categories(booster: bool) -> Case:
    """The categories come in another order than in training; one that is not known is missing, for LightGBM."""
    import lightgbm

    x = with_text()
    trained = x.assign(c=pd.Categorical(x["c"], ["red", "green", "blue"]))
    y = np.where(x["c"] == "green", "yes", "no") if not booster else (x["c"] == "green").astype(int)
    rows = x.assign(c=["purple", *x["c"][1:]])
    known = rows.assign(c=pd.Categorical(rows["c"], ["red", "green", "blue"]))
    if booster:
        model = lightgbm.train({**QUIET, "objective": "binary"}, lightgbm.Dataset(trained, y), 6)
        signature = infer_signature(trained, model.predict(trained))
        log = logger(mlflow.lightgbm.log_model, model, "lightgbm", signature=signature)
        return Case(log, rows, {"prediction": model.predict(known)})
    model = lightgbm.LGBMClassifier(n_estimators=6, **QUIET).fit(trained, y)
    signature = infer_signature(trained, model.predict(trained))
    log = logger(mlflow.lightgbm.log_model, model, "lightgbm", signature=signature)
    return Case(
        log, rows, {"yes": model.predict_proba(known)[:, 1]},
        {"model": {"method": "predict_proba"}, "predictions": {"yes": {"class": "yes"}}},
    )  # fmt: skip


def catboost_classifier(method: str) -> Case:
    from catboost import CatBoostClassifier

    x = with_nulls(with_text())
    y = labels(with_text(), "low", "mid", "high")
    model = CatBoostClassifier(iterations=6, cat_features=["c"], **CAT).fit(x, y)
    log = logger(mlflow.catboost.log_model, model, "catboost", signature=infer_signature(x, model.predict(x).ravel()))
    rows = x.assign(c=["purple", *x["c"][1:]])
    if method == "predict":
        return Case(log, rows, {"prediction": model.predict(rows).ravel()}, result_type="string")
    native = dict(zip(("high", "low", "mid"), model.predict_proba(rows).T, strict=True))
    job = {"predictions": {name: {"class": name} for name in native}}
    return Case(log, rows, native, {"model": {"method": "predict_proba"}, **job})


CAT: dict[str, Any] = {"verbose": False, "allow_writing_files": False, "thread_count": 1}


def catboost_regressor() -> Case:
    from catboost import CatBoostRegressor

    x = with_nulls(numbers())
    model = CatBoostRegressor(iterations=6, **CAT).fit(x, numbers()["a"])
    log = logger(mlflow.catboost.log_model, model, "catboost", signature=infer_signature(x, model.predict(x)))
    return Case(log, x, {"prediction": model.predict(x)})


ENTRIES = [
    Entry("xgboost", "doubles with nulls", "predict, three classes", lambda: xgboost_classifier("predict")),
    Entry("xgboost", "doubles with nulls", "predict_proba, three classes", lambda: xgboost_classifier("predict_proba")),
    Entry("xgboost", "doubles with nulls", "a Booster's predict", xgboost_booster),
    Entry("xgboost", "a category, one unseen", "predict", lambda: xgboost_categories(False)),
    Entry("xgboost", "a category, one unseen", "a Booster's predict", lambda: xgboost_categories(True)),
    Entry("lightgbm", "doubles with nulls", "a Booster's predict", lightgbm_booster),
    Entry("lightgbm", "a category, one unseen", "a Booster's predict", lambda: lightgbm_categories(True)),
    Entry("lightgbm", "a category, one unseen", "predict_proba", lambda: lightgbm_categories(False)),
    Entry("catboost", "doubles with nulls", "predict", catboost_regressor),
    Entry("catboost", "a category, one unseen, and nulls", "predict, three classes", lambda: catboost_classifier("predict")),
    Entry("catboost", "a category, one unseen, and nulls", "predict_proba, three classes",
          lambda: catboost_classifier("predict_proba")),
]  # fmt: skip
