"""Models whose answer to a row is the same whatever rows are beside it, bit by bit: trees, where nothing is added up by
BLAS or by threads in no order."""

from __future__ import annotations

from typing import Any

from lakehouse.models.flavors.calling import Predictor

_BOOSTED = ("xgboost", "lightgbm", "catboost")
_TREES = (
    "sklearn.tree",
    "sklearn.ensemble._forest",
    "sklearn.ensemble._gb",
    "sklearn.ensemble._hist_gradient_boosting",
)
_BY_VALUE = ("sklearn.preprocessing._data", "sklearn.preprocessing._encoders", "sklearn.preprocessing._discretization",
             "sklearn.preprocessing._target_encoder", "sklearn.impute._base", "sklearn.feature_extraction")  # fmt: skip
"""Steps of a pipeline that look at each row by itself."""


def is_exact(predictor: Predictor) -> bool:
    """Whether the model is one of trees, also behind steps that look at each row by itself."""
    *before, last = [step for _, step in getattr(predictor.native, "steps", [("", predictor.native)])]
    return is_tree(last) and all(map(_is_by_value, before))


def _is_by_value(step: Any) -> bool:
    if isinstance(step, str):  # passthrough, drop
        return True
    if inside := getattr(step, "steps", None) or getattr(step, "transformers_", None):
        return all(_is_by_value(part[1]) for part in inside)
    return _is_of(step, _BY_VALUE)


def is_tree(native: Any) -> bool:
    """Whether the library's object is a tree or made of trees, which are added up in one order."""
    if getattr(native, "booster", None) == "gblinear":
        return False
    return _is_of(native, _BOOSTED) or (is_sklearn_tree(native) and getattr(native, "n_jobs", None) in (None, 1))


def is_sklearn_tree(native: Any) -> bool:
    """Whether it is a tree of scikit-learn, or made of such."""
    return _is_of(native, _TREES)


def _is_of(native: Any, modules: tuple[str, ...]) -> bool:
    return type(native).__module__.startswith(modules)
