"""A fetched model's bytes: their digest, their shipping, and the one place where they are loaded."""

from __future__ import annotations

import functools
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lakehouse.errors import ConfigError, ModelRefused
from lakehouse.models.categories import as_trained, categories_of
from lakehouse.models.parameters import require_arguments

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
"""MLflow's settings for a process that is nobody's notebook."""


@dataclass(frozen=True)
class Predictor:
    """A loaded model: `predict` takes a DataFrame or matrix; `classes` in the order of its probabilities.

    `without_classes`: why there are none.
    """

    predict: Callable[[Any], Any]
    classes: tuple[Any, ...] | None
    without_classes: str = "it has no classes"


def digest_of(path: Path) -> str:
    """SHA-256 over the whole folder: every file's name, size and content, in order."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path).as_posix().encode()
        digest.update(b"%d:%s:%d:" % (len(name), name, file.stat().st_size))
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def pack(path: str, digest: str, folder: Path) -> Path:
    """The model as one uncompressed zip file for shipping."""
    target = folder / f"model-{digest[:16]}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(p for p in Path(path).rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(path).as_posix())
    return target


@functools.lru_cache(maxsize=4)
def load(path: str, digest: str, method: str | None, params: tuple[tuple[str, Any], ...]) -> Predictor:
    """Load the model after checking its digest again; kept for as long as the process lives.

    `method` None calls the model as MLflow does (pyfunc); otherwise the named method of the native model.
    `params`: as `parameters.freeze` makes them.
    Raises ModelRefused for other bytes than were judged, and where the model can't be loaded here.
    """
    found = digest_of(Path(path))
    if found != digest:
        raise ModelRefused(f"the model's bytes changed on the way: sha256:{found} instead of sha256:{digest}")
    import mlflow.pyfunc

    with environment({"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true", **QUIET}):  # the policy has decided
        try:
            loaded = mlflow.pyfunc.load_model(path)
        except (Exception, SystemExit) as error:
            raise ModelRefused(f"the model can't be loaded here: {type(error).__name__}: {error}") from error
    if loaded.metadata.signature is not None:
        # The inputs are held to the signature already, exactly; MLflow's own look at them refuses nulls that it allows.
        loaded.metadata.signature.inputs = None
    native = _native(loaded)
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in params}
    several = getattr(native, "n_outputs_", 1) != 1 or isinstance(getattr(native, "classes_", None), list)
    why = "it classifies several targets at once, each with classes of its own" if several else "it has no classes"
    return Predictor(as_trained(_call(loaded, native, method, given), categories_of(native)), _classes(native), why)


def _call(loaded: Any, native: Any, method: str | None, given: Mapping[str, Any]) -> Callable[[Any], Any]:
    """What is called with a frame or matrix: MLflow's own function of the model, or the method of the native one."""
    if method is None:
        predict: Callable[..., Any] = loaded.predict
        return functools.partial(predict, params=dict(given)) if given else predict
    call = getattr(native, method, None)
    if not callable(call):
        raise ConfigError(f"model.method: {type(native).__name__} has no method {method!r}")
    require_arguments(call, given, f"{type(native).__name__}.{method}")
    return functools.partial(call, **given) if given else call


def _classes(native: Any) -> tuple[Any, ...] | None:
    """The labels of a classifier's one target; None for a model without, and for one of several targets."""
    classes = getattr(native, "classes_", None)
    if classes is None or any(np.ndim(c) for c in classes):
        return None
    return tuple(c.item() if hasattr(c, "item") else c for c in classes)


def _native(loaded: Any) -> Any:
    try:
        return loaded.get_raw_model()
    except Exception:  # flavours without a native model say so in many ways
        return None


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that are set for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
