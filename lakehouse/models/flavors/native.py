"""Models loaded by their own library, in the way of MLflow's own loader, so that MLflow need not be imported for it.

Importing MLflow takes longer than all else that a worker does before its first row. A flavour's `load_native` makes the
call that its loader in MLflow makes, and nothing else; where more belongs to a model than that call, MLflow loads it.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_SINCE = 3
"""The first major version of MLflow whose loaders are as they are followed here."""
_DECIDES = frozenset(["auth_policy", "is_signature_from_type_hint", "resources", "type_hint_from_example"])
"""What an MLmodel file may say that has MLflow do more than what its flavour's loader does."""
_EXTERNAL = "mlflow.model.isExternal"
_FUNCTION_KEYS = frozenset(["data", "env", "loader_module", "model_path", "predict_fn", "python_version"])
"""What of python_function is known: others, such as `code` or `config`, are for MLflow."""


@dataclass(frozen=True)
class Metadata:
    """What MLflow's object says of a model of these `flavors` that takes no parameters."""

    flavors: Mapping[str, Any]

    def get_params_schema(self) -> None:
        """None: a model with parameters is left to MLflow."""
        return None


@dataclass(frozen=True)
class Loaded:
    """A model as `open_model` takes it from MLflow: `predict` is what its pyfunc calls with the data as they are."""

    native: Any
    predict: Callable[[Any], Any]
    metadata: Metadata

    def get_raw_model(self) -> Any:
        """The library's own object."""
        return self.native


def is_plain(mlmodel: Mapping[str, Any]) -> bool:
    """Whether nothing but its flavour's own loader belongs to a model (its MLmodel file, parsed), and no parameter."""
    function = mlmodel["flavors"].get("python_function") or {}
    signature, metadata = mlmodel.get("signature") or {}, mlmodel.get("metadata") or {}
    return (
        not any(mlmodel.get(key) for key in _DECIDES)
        and {key for key, value in function.items() if value is not None} <= _FUNCTION_KEYS
        and isinstance(metadata, Mapping)
        and not metadata.get(_EXTERNAL)
        and isinstance(signature, Mapping)
        and not signature.get("params")
        and _is_known_version()
    )


def _is_known_version() -> bool:
    """Whether MLflow's loaders here are known: an isolated model's environment may have older ones, a package none."""
    for package in ("mlflow", "mlflow-skinny"):
        try:
            major = re.match(r"\d+", version(package))
        except PackageNotFoundError:
            continue
        return major is not None and int(major[0]) >= _SINCE
    return True


def read_estimator(file: Path, description: Mapping[str, Any], default: str) -> Any:
    """The object in a file that is stored as the flavour's description says, as `mlflow.sklearn` reads it.

    None for a format that MLflow doesn't know.
    """
    stored = description.get("serialization_format", default)
    if stored == "skops":
        import skops.io

        return skops.io.load(str(file), trusted=description.get("skops_trusted_types"))
    if stored not in ("pickle", "cloudpickle"):
        return None
    if stored == "cloudpickle":
        importlib.import_module(stored)  # as MLflow does before it reads such a file
    with open(file, "rb") as stream:
        return pickle.load(stream)


def takes_params(call: Callable[..., Any]) -> bool:
    """Whether pyfunc would hand a function its own argument `params`."""
    found = inspect.signature(call).parameters.get("params")
    return found is not None and found.kind is not inspect.Parameter.VAR_KEYWORD
