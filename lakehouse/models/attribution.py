"""What each feature contributed to one prediction, told by the model itself: linear ones exactly, trees by SHAP.

SHAP values of trees: Lundberg, Erion and Lee, "Consistent individualized feature attribution for tree ensembles", 2018.
XGBoost, LightGBM and CatBoost compute them; for trees of scikit-learn the package shap does, where it is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from lakehouse.models.exactness import is_sklearn_tree
from lakehouse.models.flavors.calling import Predictor


@dataclass(frozen=True)
class Attribution:
    """Contributions (float64, rows × features, in the order of the features); `base`: what they start from, with which
    they add up. `told_apart`: the library tells those of each class."""

    method: str
    values: Any
    base: float
    told_apart: bool = False


def attribute(predictor: Predictor, given: Any, base: Any, part: Any) -> Attribution | None:
    """The contributions to the predictions of rows; None for a model that doesn't tell.

    `given`, `base`: the rows and some others as the model is called with them; `part`: which output is meant.
    """
    native = predictor.native
    way = _ways(native)
    if way is None or not hasattr(given, "dtypes"):
        return None
    try:
        found = way(native, given, base, part)
    except Exception:  # noqa: BLE001  # each library refuses columns in its own ways: then other values are tried
        return None
    first_of_two = len(predictor.classes or ()) == 2 and part == 0 and isinstance(part, int)
    if found is None or not first_of_two or found.told_apart:
        return found
    return replace(found, values=-found.values, base=-found.base)  # libraries tell those of the second class


def _ways(native: Any) -> Callable[[Any, Any, Any, Any], Attribution | None] | None:
    module = type(native).__module__
    for name, way in (("xgboost", _of_xgboost), ("lightgbm", _of_lightgbm), ("catboost", _of_catboost)):
        if module.startswith(name):
            return way
    if module.startswith("sklearn."):
        return _of_sklearn
    return None


def _of_xgboost(native: Any, given: Any, base: Any, part: Any) -> Attribution | None:
    import xgboost

    booster = native.get_booster() if hasattr(native, "get_booster") else native
    if getattr(native, "booster", None) == "gblinear":
        return None
    best = getattr(native, "best_iteration", None) if hasattr(native, "early_stopping_rounds") else None
    turns = (0, best + 1) if getattr(native, "early_stopping_rounds", None) and best is not None else (0, 0)
    matrix = xgboost.DMatrix(given, enable_categorical=True)
    values = booster.predict(matrix, pred_contribs=True, iteration_range=turns)
    return _with_base(_TREES.format(library="XGBoost"), np.asarray(values, np.float64), part)


def _of_lightgbm(native: Any, given: Any, base: Any, part: Any) -> Attribution | None:
    booster = getattr(native, "booster_", native)
    values = np.asarray(booster.predict(given, pred_contrib=True), np.float64)
    classes = booster.num_model_per_iteration()
    return _with_base(_TREES.format(library="LightGBM"), values.reshape(len(values), classes, -1), part)


def _of_catboost(native: Any, given: Any, base: Any, part: Any) -> Attribution | None:
    import catboost

    pool = catboost.Pool(given, cat_features=native.get_cat_feature_indices())
    values = np.asarray(native.get_feature_importance(pool, type="ShapValues"), np.float64)
    return _with_base(_TREES.format(library="CatBoost"), values, part)


_TREES = "SHAP values of the trees, by {library} itself; with the base they add up to the raw score"


def _with_base(method: str, values: Any, part: Any) -> Attribution | None:
    """Contributions whose last number is the base (rows × features + 1); of several outputs (rows × outputs × features
    + 1) those of the one that is meant."""
    several = values if values.ndim == 3 else values[:, np.newaxis]
    number = _own(several.shape[1], part)
    if number is None:
        return None
    own = several[:, number]
    return Attribution(method, own[:, :-1], float(own[0, -1]), several.shape[1] > 1)


def _own(outputs: int, part: Any) -> int | None:
    """The number of the output that is meant, None where that isn't known."""
    return 0 if outputs == 1 else part if isinstance(part, int) and part < outputs else None


def _of_sklearn(native: Any, given: Any, base: Any, part: Any) -> Attribution | None:
    *before, (_, last) = getattr(native, "steps", [("", native)])
    if is_sklearn_tree(last) and not before:
        return _by_shap(last, given, part)
    if not all(type(step).__name__ in _SCALERS for _, step in before) or not hasattr(last, "coef_"):
        return None
    rows, others = given, base
    for _, step in before:
        rows, others = step.transform(rows), step.transform(others)
    weights = np.atleast_2d(np.asarray(last.coef_, np.float64))
    starts = np.broadcast_to(np.atleast_1d(np.asarray(last.intercept_, np.float64)), len(weights))
    number = _own(len(weights), part)
    if number is None or not type(last).__module__.startswith(("sklearn.linear_model", "sklearn.svm._classes")):
        return None
    own, start, mean = weights[number], starts[number], np.asarray(others, np.float64).mean(axis=0)
    unit = "the decision function, log-odds of a logistic regression" if hasattr(last, "classes_") else "the prediction"
    method = f"linear, exact: coefficient × (value − mean of {len(others)} rows of the input), in units of {unit}"
    values = own * (np.asarray(rows, np.float64) - mean)
    return Attribution(method, values, float(mean @ own + start), len(weights) > 1)


_SCALERS = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler")
"""Each gives a column a feature, in their order."""


def _by_shap(native: Any, given: Any, part: Any) -> Attribution | None:
    """SHAP values of scikit-learn's trees, where the package is installed."""
    if find_spec("shap") is None:
        return None
    import shap  # type: ignore[import-not-found,unused-ignore]  # an extra

    explained = shap.TreeExplainer(native)(given)
    values = np.asarray(explained.values, np.float64)
    start = np.broadcast_to(np.asarray(explained.base_values, np.float64), (len(values), *values.shape[2:]))
    several, starts = (values, start) if values.ndim == 3 else (values[:, :, np.newaxis], start.reshape(-1, 1))
    together = np.concatenate([several.transpose(0, 2, 1), starts[:, :, np.newaxis]], axis=2)
    return _with_base("SHAP values of the trees, by the package shap", together, part)
