"""XGBoost: a Booster or a model of its scikit-learn interface, stored as JSON or binary JSON, which is data."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lakehouse.errors import ModelRefused
from lakehouse.models.flavors import calling, native
from lakehouse.models.flavors.calling import Predictor, Trained
from lakehouse.models.parameters import require_arguments

NAME, LIBRARY = "xgboost", ("xgboost", "xgb_version")

settings = calling.no_settings

_CLASSES = ("Classifier", "Regressor", "Ranker", "RFClassifier", "RFRegressor")
KNOWN_CLASSES = frozenset(["xgboost.core.Booster", *(f"xgboost.sklearn.XGB{name}" for name in _CLASSES)])


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    """MLflow imports whatever class the description names and calls it: only XGBoost's own are known to be harmless."""
    file = str(description.get("data") or "")  # MLflow reads this one, not that of python_function
    if not calling.is_plain_name(file):
        yield "python_function", f"its file lies at {file!r}, not beside its description"
    named = description.get("model_class", "xgboost.core.Booster")
    if named not in KNOWN_CLASSES:
        yield "python_function", f"it is loaded by {named!r}, which is no model of XGBoost's own"


def load_native(path: Path, description: Mapping[str, Any], function: Mapping[str, Any]) -> native.Loaded | None:
    named, file = description.get("model_class", "xgboost.core.Booster"), str(description.get("data") or "")
    if named not in KNOWN_CLASSES or not calling.is_plain_name(file) or "predict_fn" in function:
        return None
    import xgboost

    model = getattr(xgboost, named.rpartition(".")[2])()
    model.load_model(str(path / file))
    predict = model.predict
    if isinstance(model, xgboost.XGBModel):
        predict = functools.partial(predict, validate_features=True)
    return native.Loaded(model, predict, native.Metadata({NAME: description}))


def open_model(loaded: Any, method: str | None, params: Mapping[str, Any]) -> Predictor:
    model = calling.native_of(loaded)
    booster = _booster_of(model)
    if model is booster and method not in (None, "predict"):
        calling.refuse_method(method, "a Booster of XGBoost, whose objective decides what predict gives,")
    if model is booster:
        opened = Predictor(_call_booster(loaded, booster, params), None, called="Booster.predict")
    else:
        opened = calling.open_native(loaded, method, params)
    categories = _categories(booster)
    opened = replace(opened, predict=_categorized(opened.predict, categories))
    if model is booster or categories or (method is None and params):
        return opened
    own = method or "predict"
    direct = calling.on_matrix(calling.call_method(model, own, params), opened.predict, mixed=False)
    return replace(opened, direct=direct, direct_called=f"{type(model).__name__}.{own}")


def _call_booster(loaded: Any, booster: Any, params: Mapping[str, Any]) -> Callable[[Any], Any]:
    """A Booster called as MLflow does, with the signature's own parameters, but for categories, which it refuses."""
    import xgboost

    require_arguments(booster.predict, params, "Booster.predict")
    takes = inspect.signature(booster.predict).parameters
    declared = {spec.name: spec.default for spec in loaded.metadata.get_params_schema() or () if spec.name in takes}
    given = {**declared, **params}
    return lambda frame: booster.predict(xgboost.DMatrix(frame, enable_categorical=True), **given)


def trained_on(native: Any) -> Trained:
    """The names that it was trained with, which XGBoost compares with a frame's, or how many columns."""
    booster = _booster_of(native)
    return Trained(tuple(booster.feature_names or ()), booster.num_features(), by_name=bool(booster.feature_names))


def _booster_of(native: Any) -> Any:
    return native.get_booster() if hasattr(native, "get_booster") else native


def _categories(booster: Any) -> dict[int, list[Any]]:
    """The categories of each column that was trained as one, by the column's place.

    Raises ModelRefused where the model does not have them: XGBoost would take a value's place in a batch's own ones.
    """
    places = [place for place, kind in enumerate(booster.feature_types or ()) if kind == "c"]
    if not places:
        return {}
    stored = booster.get_categories(export_to_arrow=True).to_arrow()
    found = {place: stored[place][1] for place in places} if stored else {}
    if any(found.get(place) is None for place in places):
        raise ModelRefused(
            "the model was trained on category columns by an XGBoost before 3.1, which did not store their values: "
            "train it with a later one, or log it in a pipeline that makes numbers of them"
        )
    return {place: values.to_pylist() for place, values in found.items()}


def _categorized(predict: Callable[[Any], Any], categories: Mapping[int, list[Any]]) -> Callable[[Any], Any]:
    """`predict` with columns as the categories of training. Raises ValueError for another value, as XGBoost does."""
    known = calling.with_categories(predict, categories)

    def refusing(frame: Any) -> Any:
        for place, values in categories.items():
            column = frame.iloc[:, place]
            strange = column[column.notna() & ~column.isin(values)]
            if len(strange):
                raise ValueError(f"{frame.columns[place]!r}: {strange.iloc[0]!r} is no category that was trained on")
        return known(frame)

    return refusing if categories else predict
