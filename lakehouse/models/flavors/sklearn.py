"""scikit-learn, stored as skops (data, as far as its types are) or as a pickle (any code)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from lakehouse.models.flavors import calling, native, skops_files, soundness
from lakehouse.models.flavors.calling import Predictor, Trained

NAME, LIBRARY = "sklearn", ("sklearn", "sklearn_version")

settings = calling.no_settings

_BY_NAME = ("ColumnTransformer", "FunctionTransformer", "TransformedTargetRegressor")
"""Estimators that take columns by name, or call a function of a person's."""
_PREDICTS = ("predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba")
"""What MLflow calls of an estimator, as it was logged."""


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    # MLflow prefers `data`, which may be a folder with a description of its own.
    file = str(function.get("data", function.get("model_path", "")))
    # MLflow falls back to pickle where the description is incomplete or elsewhere.
    sound = "data" not in function and calling.is_plain_name(file)
    yield from needs_of_file(description, path, file, sound, "pickle")


def needs_of_file(
    description: Mapping[str, Any], path: Path, file: str, sound: bool, default: str
) -> Iterator[tuple[str, str]]:
    """What a file needs that is read as the description says; `sound`: it is sure that this description is read.

    Raises ModelRefused for a file of skops that can't be read.
    """
    stored = description.get("serialization_format", default)
    if stored == "skops" and not sound:
        yield "pickle", f"its file is {file!r}, not where MLflow puts it, so that it may be read in another way"
        return
    if stored != "skops":
        yield "pickle", f"its file {file!r} is stored as {stored}, which can run any code when it is read"
        return
    types = description.get("skops_trusted_types") or ()
    yield from skops_files.needs_of(path / file, types if isinstance(types, (list, tuple)) else [types])


def load_native(path: Path, description: Mapping[str, Any], function: Mapping[str, Any]) -> native.Loaded | None:
    file, name = str(function.get("model_path", "")), str(function.get("predict_fn", "predict"))
    if "data" in function or not calling.is_plain_name(file) or name not in _PREDICTS:
        return None
    model = native.read_estimator(path / file, description, "pickle")
    predict = getattr(model, name, None)
    if not callable(predict) or (name != "predict" and native.takes_params(predict)):
        return None
    return native.Loaded(model, predict, native.Metadata({NAME: description, "python_function": function}))


def open_model(loaded: Any, method: str | None, params: Mapping[str, Any]) -> Predictor:
    require_sound(loaded, NAME)
    opened, estimator = calling.open_native(loaded, method, params), calling.native_of(loaded)
    opened = replace(opened, predict=_in_threads(opened.predict, estimator))
    if not takes_matrix(estimator) or (method is None and params):
        return opened
    function = loaded.metadata.flavors.get("python_function") or {}
    own = method or str(function.get("predict_fn", "predict"))
    call = _in_threads(calling.without_names(calling.call_method(estimator, own, params)), estimator)
    direct = calling.on_matrix(call, opened.predict, mixed=True)
    return replace(opened, direct=direct, direct_called=f"{type(estimator).__name__}.{own}")


def _in_threads(call: Callable[[Any], Any], estimator: Any) -> Callable[[Any], Any]:
    """`call`, with its `n_jobs` in one thread where this process is kept to one; a worker's cores are taken already."""
    from sklearn.base import BaseEstimator

    parts = estimator.get_params(deep=True) if isinstance(estimator, BaseEstimator) else {}
    if not any(name.split("__")[-1] == "n_jobs" and value not in (None, 1) for name, value in parts.items()):
        return call

    def counted(data: Any) -> Any:
        import joblib

        with joblib.parallel_config("sequential") if calling.one_thread() else nullcontext():
            return call(data)

    return counted


def takes_matrix(model: Any) -> bool:
    """Whether an estimator, with all that is in it, is scikit-learn's own and of those that look at numbers only.

    Others may find columns by their names, or call anybody's function on a frame.
    """
    from sklearn.base import BaseEstimator

    def plain(estimator: Any) -> bool:
        kind = type(estimator)
        return kind.__module__.startswith("sklearn.") and kind.__name__ not in _BY_NAME

    if not isinstance(model, BaseEstimator) or not plain(model):
        return False
    parts = model.get_params(deep=True).values()
    return all(plain(part) for part in parts if isinstance(part, BaseEstimator))


def require_sound(loaded: Any, flavor: str) -> None:
    """Raise ModelRefused where a model from a file of skops, which checks types only, would be read out of bounds."""
    if loaded.metadata.flavors.get(flavor, {}).get("serialization_format") == "skops":
        soundness.require_sound(calling.native_of(loaded))


def trained_on(native: Any) -> Trained:
    """What an estimator was fitted on; of a pipeline what its first step was, since the others don't see the table.

    scikit-learn refuses a frame whose columns have other names, or the same in another order.
    """
    steps = [step for _, step in getattr(native, "steps", ()) if step not in (None, "passthrough")]
    if steps:
        return trained_on(steps[0])
    names, count = getattr(native, "feature_names_in_", None), getattr(native, "n_features_in_", None)
    if names is not None:
        return Trained(tuple(map(str, names)), len(names), by_name=True)
    return Trained(count=None if count is None else int(count))
