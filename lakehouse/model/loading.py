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

from lakehouse.errors import ConfigError, ModelRefused


@dataclass(frozen=True)
class Predictor:
    """A loaded model: `predict` takes a DataFrame or matrix; `classes` in the order of its probabilities."""

    predict: Callable[[Any], Any]
    classes: tuple[Any, ...] | None


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
    Raises ModelRefused for other bytes than were judged, and where the model can't be loaded here.
    """
    found = digest_of(Path(path))
    if found != digest:
        raise ModelRefused(f"the model's bytes changed on the way: sha256:{found} instead of sha256:{digest}")
    import mlflow.pyfunc

    with _environment({"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true"}):  # the policy has decided
        try:
            loaded = mlflow.pyfunc.load_model(path)
        except Exception as error:
            raise ModelRefused(f"the model can't be loaded here: {type(error).__name__}: {error}") from error
    native = _native(loaded)
    classes = getattr(native, "classes_", None)
    given = dict(params)
    if method is None:
        answer = functools.partial(loaded.predict, params=given) if given else loaded.predict
    else:
        call = getattr(native, method, None)
        if not callable(call):
            raise ConfigError(f"model.method: {type(native).__name__} has no method {method!r}")
        answer = functools.partial(call, **given) if given else call
    return Predictor(answer, None if classes is None else tuple(c.item() if hasattr(c, "item") else c for c in classes))


def _native(loaded: Any) -> Any:
    try:
        return loaded.get_raw_model()
    except Exception:  # flavours without a native model say so in many ways
        return None


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
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
