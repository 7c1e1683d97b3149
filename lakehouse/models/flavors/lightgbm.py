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
from lakehouse.models.flavors import calling, native, sklearn
from lakehouse.models.flavors.calling import Predictor, Trained

NAME, LIBRARY = "lightgbm", ("lightgbm", "lgb_version")

settings = calling.no_settings

_CODES = re.compile(r"-?[0-9]+(:-?[0-9]+)*")
"""How LightGBM writes the codes that it saw of a category column; other columns have [least:greatest]."""


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    file = str(description.get("data") or "")  # MLflow reads this one, not that of python_function
    if not calling.is_plain_name(file):
        yield "python_function", f"its file lies at {file!r}, not beside its description"
    elif description.get("model_class", "lightgbm.basic.Booster") != "lightgbm.basic.Booster":
        yield from sklearn.needs_of_file(description, path, file, True, "cloudpickle")


def load_native(path: Path, description: Mapping[str, Any], function: Mapping[str, Any]) -> native.Loaded | None:
    file = str(description.get("data") or "")
    if not calling.is_plain_name(file) or "predict_fn" in function:
        return None
    if description.get("model_class", "lightgbm.basic.Booster") == "lightgbm.basic.Booster":
        import lightgbm

        model: Any = lightgbm.Booster(model_file=str(path / file))
    else:
        model = native.read_estimator(path / file, description, "cloudpickle")
    return None if model is None else native.Loaded(model, model.predict, native.Metadata({NAME: description}))


def open_model(loaded: Any, method: str | None, params: Mapping[str, Any]) -> Predictor:
    sklearn.require_sound(loaded, NAME)
    opened = calling.open_native(loaded, method, params)
    categories = categories_of(calling.native_of(loaded))
    return replace(opened, predict=calling.with_categories(opened.predict, categories))


def trained_on(native: Any) -> Trained:
    """The names that it was trained with, if they are not its own; LightGBM goes by the columns' order alone."""
    booster = _booster_of(native)
    if booster is None:
        return Trained()
    names = tuple(booster.feature_name())
    own = all(name == f"Column_{place}" for place, name in enumerate(names))
    return Trained(() if own else names, booster.num_feature())


def _booster_of(native: Any) -> Any:
    return native if hasattr(native, "pandas_categorical") else getattr(native, "booster_", None)


def categories_of(native: Any) -> dict[int, list[Any]]:
    """The categories of each column that was trained as one, by the column's place; none for other models.

    Raises ModelRefused where the model does not tell which columns they are of.
    """
    booster = _booster_of(native)
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
