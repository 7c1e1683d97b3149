"""PyTorch: a module stored as a pickle by `torch.save`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lakehouse.models.flavors import calling
from lakehouse.models.flavors.calling import Predictor

NAME, LIBRARY = "pytorch", ("torch", "pytorch_version")

settings, trained_on = calling.no_settings, calling.unknown_features


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    yield "pickle", f"its folder {function.get('data')!r} holds a pickle, which can run any code when it is read"


def open_model(loaded: Any, method: str | None, params: Mapping[str, Any]) -> Predictor:
    calling.refuse_method(method, "a PyTorch module")
    return calling.open_native(loaded, None, params)
