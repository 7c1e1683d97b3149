"""Keras 3: a `.keras` archive of a configuration and weights, which is data unless it names code to import."""

from __future__ import annotations

import functools
import importlib.util
import json
import operator
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lakehouse.errors import ModelRefused
from lakehouse.models.flavors import calling
from lakehouse.models.flavors.calling import Predictor, Trained

NAME, LIBRARY = "keras", ("keras", "keras_version")

_MODULES = tuple(
    f"keras.{name}" for name in (
        "layers", "models", "initializers", "optimizers", "losses", "metrics", "activations", "regularizers",
        "constraints", "dtype_policies", "random",
    )
)  # fmt: skip
"""What a configuration may name: each takes numbers, names and further such objects."""
_CLASSES = (
    "keras.Sequential", "keras.Functional", "keras.DTypePolicy", "keras.src.models.functional.Functional",
    "keras.src.models.sequential.Sequential",
)  # fmt: skip
"""Models that hold nothing but layers; where Keras names its own modules by their inner places, these too."""
_CODE = ("Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer", "__lambda__")
"""What of these runs code that it brings or reads."""
_READERS = ("vocabulary", "idf_weights", "filepath")
"""Settings of layers that may name a file to read."""
_LARGEST = 8192
"""Rows a call. Each other number of rows is compiled anew, so that they go by powers of two."""


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    if description.get("save_exported_model"):
        yield "python_function", "it is a graph exported by TensorFlow, which may hold any operation"
        return
    named = str(description.get("data", "model"))
    if "data" in function or not calling.is_plain_name(named):
        yield "python_function", f"its archive lies at {function.get('data', '')}/{named}, not where MLflow puts it"
        return
    folder = path / named
    archive = folder / "model.keras" if folder.is_dir() else folder.with_name(f"{named}.keras")
    try:
        with zipfile.ZipFile(archive) as opened:
            config = json.loads(opened.read("config.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ModelRefused(f"its archive {archive.name!r} can't be read: {error}") from error
    code = list(dict.fromkeys(_code_in(config)))
    if code:
        hint = " (a Python lambda, which Keras itself does not load: write it with keras.ops, as a layer)"
        yield (
            "python_function",
            f"its layers run code of their own: {', '.join(code)}{hint if '__lambda__' in code else ''}",
        )


def _code_in(config: Any) -> Iterator[str]:
    """Everything in a configuration that is imported or called and is not on our list."""
    if isinstance(config, list):
        for part in config:
            yield from _code_in(part)
    elif isinstance(config, Mapping):
        named, module = config.get("class_name"), config.get("module")
        if named is not None:
            known = module in _MODULES or f"{module}.{named}" in _CLASSES
            known = known or (module == "builtins" and named in ("tuple", "slice"))
            known = known or named in ("__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__keras_tensor__")
            if not known or named in _CODE or config.get("registered_name") not in (None, named):
                yield f"{module}.{named}" if module else str(named)
        for name in _READERS:
            if isinstance(config.get(name), str):
                yield f"{named or 'a layer'} reads {config[name]!r}"
        for part in config.values():
            yield from _code_in(part)


def open_model(loaded: Any, method: str | None, params: Mapping[str, Any]) -> Predictor:
    """Keras called with batches of few different sizes and without its progress bar, which goes to stdout."""
    calling.refuse_method(method, "a Keras model")
    native = calling.native_of(loaded)
    if not hasattr(native, "predict_on_batch"):  # a graph of TensorFlow's
        return calling.open_native(loaded, None, params)
    return Predictor(functools.partial(_predict, native), None, called=f"{type(native).__name__}.predict_on_batch")


def trained_on(native: Any) -> Trained:
    """How many columns its matrix has, or the shape of its array; Keras knows no names."""
    shape = getattr(native, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) < 2 or not all(isinstance(size, int) for size in shape[1:]):
        return Trained()
    if len(shape) > 2:
        return Trained(shape=shape[1:], dtype=str(native.inputs[0].dtype))
    return Trained(count=shape[1])


def _predict(native: Any, data: Any) -> Any:
    import pandas as pd

    given = data.to_numpy() if isinstance(data, pd.DataFrame) else data
    rows = len(next(iter(given.values()))) if isinstance(given, Mapping) else len(given)
    cuts = [slice(start, start + _LARGEST) for start in range(0, rows, _LARGEST)]
    answers = [_padded(native, _each(given, operator.itemgetter(cut)), min(rows - cut.start, _LARGEST)) for cut in cuts]
    if isinstance(answers[0], Mapping):
        return {name: np.concatenate([a[name] for a in answers]) for name in answers[0]}
    if isinstance(answers[0], (list, tuple)):
        parts = zip(native.output_names, zip(*answers, strict=True), strict=True)
        return {name: np.concatenate(part) for name, part in parts}
    return np.concatenate(answers)


def _padded(native: Any, given: Any, rows: int) -> Any:
    """The answer to arrays that are filled up to a power of two with their last row, without the answers to those."""
    more = max(1 << (rows - 1).bit_length(), 32) - rows
    filled = _each(given, lambda array: np.concatenate([array, np.repeat(array[-1:], more, axis=0)]))
    return _each(native.predict_on_batch(filled), lambda part: np.asarray(part)[:rows])


def _each(arrays: Any, do: Callable[[Any], Any]) -> Any:
    """What is done to an array, or to each of several that have names or an order."""
    if isinstance(arrays, Mapping):
        return {name: do(array) for name, array in arrays.items()}
    return [do(array) for array in arrays] if isinstance(arrays, (list, tuple)) else do(arrays)


def settings(description: Mapping[str, Any]) -> dict[str, str]:
    """The backend that the model was logged with, or else one that is here; the environment's own choice wins."""
    known = ("jax", "torch", "tensorflow")
    wanted = str(description.get("keras_backend"))
    here = [name for name in known if importlib.util.find_spec(name) is not None]
    if "KERAS_BACKEND" in os.environ or not here:
        return {}
    return {"KERAS_BACKEND": wanted if wanted in here else here[0]}
