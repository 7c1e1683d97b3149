"""Custom Python models, and whatever else has a loader of its own: code that is called through MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lakehouse.models.flavors import calling

NAME, LIBRARY = "python_function", ("mlflow", "mlflow_version")

settings, open_model = calling.no_settings, calling.open_native
trained_on = calling.unknown_features


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    loader = function.get("loader_module")
    yield "python_function", f"it is a custom Python model (loader {loader!r})"
    if loader == "mlflow.pyfunc.model" and "model_code_path" not in function:
        yield "pickle", "its Python object is stored as cloudpickle"
