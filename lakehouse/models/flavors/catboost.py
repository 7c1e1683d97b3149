"""CatBoost: a model of its own binary format or JSON, which is data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lakehouse.models.flavors import calling
from lakehouse.models.flavors.calling import Predictor, Trained

NAME, LIBRARY = "catboost", ("catboost", "catboost_version")

settings = calling.no_settings
_PREDICTS = ("predict", "predict_proba", "predict_log_proba")


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    """MLflow takes only the names of CatBoost's own classes, and the file is read as data."""
    if "data" not in function:
        yield "python_function", "it names no file, so MLflow reads a description beside its folder instead of its own"


def open_model(loaded: Any, method: str | None, params: Mapping[str, Any]) -> Predictor:
    """CatBoost takes all cores at each call unless the call says how many threads."""
    native = calling.native_of(loaded)
    for name in _PREDICTS:
        if callable(call := getattr(native, name, None)):
            setattr(native, name, _in_threads(call))  # MLflow's own function calls it as well
    return calling.open_native(loaded, method, params)


def _in_threads(call: Callable[..., Any]) -> Callable[..., Any]:
    """The method with one thread where this process is kept to one."""

    @functools.wraps(call)
    def counted(*args: Any, **kwargs: Any) -> Any:
        own = {"thread_count": 1} if calling.one_thread() else {}
        return call(*args, **{**own, **kwargs})

    return counted


def trained_on(native: Any) -> Trained:
    """The names that it was trained with, which CatBoost compares with a frame's; it numbers columns without a name."""
    names = tuple(map(str, native.feature_names_))
    own = all(name == str(place) for place, name in enumerate(names))
    return Trained(() if own else names, len(names), by_name=not own)
