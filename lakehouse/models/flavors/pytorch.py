"""PyTorch: a module stored as a pickle by `torch.save`, or the graph that `torch.export` has traced of one.

Neither is data: of a graph, too, PyTorch has Python evaluate the expressions that stand for sizes, and unpickles parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lakehouse.models.flavors import calling
from lakehouse.models.flavors.calling import Predictor

NAME, LIBRARY = "pytorch", ("torch", "pytorch_version")

_PICKLE, _GRAPH = "model.pth", "model.pt2"

settings, trained_on = calling.no_settings, calling.unknown_features


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    folder = path / str(function.get("data", ""))
    if (folder / _GRAPH).is_file() and not (folder / _PICKLE).exists():  # as MLflow decides which it reads
        yield "python_function", f"its {_GRAPH} is a graph of torch.export, which can run any code when it is read"
        return
    yield "pickle", f"its folder {function.get('data')!r} holds a pickle, which can run any code when it is read"


def open_model(loaded: Any, method: str | None, params: Mapping[str, Any]) -> Predictor:
    calling.refuse_method(method, "a PyTorch module")
    return calling.open_native(loaded, None, params)
