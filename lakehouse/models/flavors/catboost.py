"""CatBoost: a model of its own binary format or JSON, which is data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lakehouse.models.flavors import calling
from lakehouse.models.flavors.calling import Trained

NAME, LIBRARY = "catboost", ("catboost", "catboost_version")

settings, open_model = calling.no_settings, calling.open_native


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    """MLflow takes only the names of CatBoost's own classes, and the file is read as data."""
    if "data" not in function:
        yield "python_function", "it names no file, so MLflow reads a description beside its folder instead of its own"


def trained_on(native: Any) -> Trained:
    """The names that it was trained with, which CatBoost compares with a frame's; it numbers columns without a name."""
    names = tuple(map(str, native.feature_names_))
    own = all(name == str(place) for place, name in enumerate(names))
    return Trained(() if own else names, len(names), by_name=not own)
