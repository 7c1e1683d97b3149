"""LightGBM: a Booster stored as text, which is data, or a model of its scikit-learn interface as skops or a pickle.

It codes a category column by its dtype, so that text, or a batch's own categories, is not what it was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lakehouse.errors import ModelRefused
from lakehouse.models.flavors import calling, sklearn
from lakehouse.models.flavors.calling import Predictor

NAME, LIBRARY = "lightgbm", ("lightgbm", "lgb_version")

settings = calling.no_settings

_OWN_TYPES = frozenset([
    "collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
])  # fmt: skip
"""What MLflow has skops make of every model of its interface: a Booster's own state is the model's text."""
_CODES = re.compile(r"-?[0-9]+(:-?[0-9]+)*")
"""How LightGBM writes the codes that it saw of a category column; other columns have [least:greatest]."""


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    if description.get("model_class", "lightgbm.basic.Booster") != "lightgbm.basic.Booster":
        file = str(function.get("data"))
        yield from sklearn.needs_of_file(description, file, True, "cloudpickle", sklearn.HARMLESS_TYPES | _OWN_TYPES)


def open_model(loaded: Any, method: str | None, params: Mapping[str, Any]) -> Predictor:
    opened = calling.open_native(loaded, method, params)
    categories = categories_of(calling.native_of(loaded))
    return replace(opened, predict=calling.with_categories(opened.predict, categories))


def categories_of(native: Any) -> dict[int, list[Any]]:
    """The categories of each column that was trained as one, by the column's place; none for other models.

    Raises ModelRefused where the model does not tell which columns they are of.
    """
    booster = native if hasattr(native, "pandas_categorical") else getattr(native, "booster_", None)
    stored = getattr(booster, "pandas_categorical", None)
    if booster is None or not stored:
        return {}
    text = booster.model_to_string(num_iteration=1)
    infos = (
        next((line for line in text.splitlines() if line.startswith("feature_infos=")), "=").partition("=")[2].split()
    )
    found = [place for place, info in enumerate(infos) if _CODES.fullmatch(info)]
    if len(found) != len(stored):  # a column of one value only is "none", whatever it was
        found = [place for place, info in enumerate(infos) if info == "none" or _CODES.fullmatch(info)]
    if len(found) != len(stored):
        names = ", ".join(map(str, booster.feature_name()))
        raise ModelRefused(
            f"the model was trained on {len(stored)} category columns, and does not tell which of {names} they are: "
            "log it in a pipeline that makes the categories itself"
        )
    return dict(zip(found, stored, strict=True))
