"""An import in order: the file is opened, tried on its features, saved, compared with what was saved, registered."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lakehouse.errors import ConfigError, ModelRefused
from lakehouse.models.answers import alike
from lakehouse.models.connection import ask
from lakehouse.models.flavors import Predictor, skops_files
from lakehouse.models.importing import features as features_
from lakehouse.models.importing.features import Features
from lakehouse.models.importing.inspected import Inspected
from lakehouse.models.importing.opening import Opened, open_file, predictor_of, quiet
from lakehouse.models.importing.publishing import publish
from lakehouse.models.importing.versions import requirements
from lakehouse.models.loading import digest_of, environment, load, read_description
from lakehouse.models.policy import needs

if TYPE_CHECKING:
    from lakehouse.config import Model as ModelConfig


@dataclass(frozen=True)
class Wish:
    """What a person asks for. `table`: of its features; `excluded`, `target`: columns of it that are none."""

    name: str
    table: str
    method: str | None = None
    alias: str | None = None
    excluded: tuple[str, ...] = ()
    target: str | None = None
    trust: tuple[str, ...] = ()


@dataclass(frozen=True)
class Imported:
    """A registered version. `trust`: what a job that scores with it accepts; `notes`: what a person should know."""

    name: str
    version: str
    stored: str
    rows: int
    features: tuple[str, ...]
    trust: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Saved:
    path: Path
    stored: str
    trust: tuple[str, ...]


def register(inspected: Inspected, wish: Wish, config: ModelConfig, folder: Path) -> Imported:
    """Load the file, and register it as a new version once what was saved answers as the file does.

    Raises ModelRefused where it may not be loaded, can't be called, or answers otherwise; ConfigError for a wrong
    name, table or method; Unavailable where MLflow can't be reached.
    """
    if not wish.name or set(wish.name) & set("/:@"):
        raise ConfigError(f"--name {wish.name!r}: a registered model's name has none of / : @")
    notes = _make_database(config.tracking_uri)
    with _quiet_mlflow():  # what is wrong there is said before anything is loaded
        ask(config, None, lambda client: client.search_registered_models(max_results=1))
    opened = open_file(inspected, wish.trust)
    features = features_.of_table(opened, wish.table, wish.excluded, wish.target)
    predictor = predictor_of(opened, wish.method)
    with _quiet_mlflow(), quiet():
        expected = _answer(predictor, features, inspected.path)
        signature = _signature(opened, features, expected, wish.method)
        saved, tried = _save(inspected, opened, wish.method, signature, features, expected, folder)
        version = publish(saved.path, inspected, wish.name, wish.alias, config)
    notes += [*features.notes, *tried]
    if wish.method is None and predictor.classes:
        notes.append("predict gives labels; for probabilities import it with --method predict_proba")
    names = tuple(name for name, _, _ in features.specs)
    return Imported(wish.name, version, saved.stored, len(features.frame), names, saved.trust, tuple(notes))


def _make_database(uri: str | None) -> list[str]:
    """Make the SQLite database that is named and not there yet, and say so."""
    file = Path((uri or "").removeprefix("sqlite:///"))
    if uri is None or not uri.startswith("sqlite:///") or file.exists():
        return []
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"--tracking-uri: there is no folder {file.parent} for the database {file.name}")
    file.touch()
    return [f"a new MLflow database was made: {file}"]


@contextmanager
def _quiet_mlflow() -> Iterator[None]:
    """Advice of MLflow's on models' forms, and the making of its tables, are kept from the terminal."""
    from mlflow.utils.logging_utils import MLFLOW_LOGGING_STREAM

    alembic = logging.getLogger("alembic")
    level, MLFLOW_LOGGING_STREAM.enabled = alembic.level, False
    alembic.setLevel(logging.WARNING)
    try:
        yield
    finally:
        MLFLOW_LOGGING_STREAM.enabled = True
        alembic.setLevel(level)


def _answer(predictor: Predictor, features: Features, path: Path) -> Any:
    try:
        return predictor.predict(features.frame)
    except Exception as error:
        columns = ", ".join(f"{name} ({kind})" for name, kind, _ in features.specs)
        raise ModelRefused(
            f"{path}: the model raises on the table's rows: {type(error).__name__}: {error}\nit was given {columns}"
        ) from error


def _signature(opened: Opened, features: Features, answer: Any, method: str | None) -> Any:
    """Inputs from the table; outputs from the answer, none where pyfunc answers with something else."""
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types import ColSpec, Schema

    inputs = Schema([ColSpec(kind, name, required) for name, kind, required in features.specs])
    if method not in (None, "predict") and opened.flavor.NAME != "sklearn":
        return ModelSignature(inputs=inputs)
    try:
        return ModelSignature(inputs=inputs, outputs=infer_signature(features.frame, answer).outputs)
    except MlflowException:
        return ModelSignature(inputs=inputs)


def _save(
    inspected: Inspected, opened: Opened, method: str | None, signature: Any, features: Features, expected: Any,
    folder: Path,
) -> tuple[_Saved, list[str]]:  # fmt: skip
    """The model saved by MLflow, in the safest form that answers as the file does; and what else was tried."""
    from mlflow.models import Model

    tried = list[str]()
    modules = tuple(dict.fromkeys((*inspected.needs, opened.flavor.LIBRARY[0])))
    common = {"signature": signature, "input_example": features.frame.head(5)}
    for stored, write, more in _forms(inspected, opened, method, folder, tried):
        path = folder / f"model-{stored}"
        pins = list(requirements((*modules, *more)))
        if opened.flavor.NAME == "keras":  # MLflow takes a tensor only, which does not name the features
            write(path=str(path), pip_requirements=pins)
            description = Model.load(str(path))
            description.signature = signature
            description.save(str(path / "MLmodel"))
        else:
            write(path=str(path), pip_requirements=pins, **common)
        trust = tuple(dict.fromkeys(word for word, _ in needs(read_description(path), path)))
        with environment(dict(opened.flavor.settings({}))):
            loaded = load(str(path), digest_of(path), method, ())
        difference = differ(expected, loaded.predict(features.frame))
        if difference is None:
            return _Saved(path, stored, trust), tried
        tried.append(f"{stored} was not taken: the loaded copy answers otherwise ({difference})")
    raise ModelRefused(f"{inspected.path}: what MLflow saves does not answer as the file does: {'; '.join(tried)}")


Form = tuple[str, Callable[..., None], tuple[str, ...]]
"""A form in which a model is stored, what writes it, and the modules that it needs besides."""


def _forms(inspected: Inspected, opened: Opened, method: str | None, folder: Path, tried: list[str]) -> Iterator[Form]:
    """The forms that a model may be stored in, the safest first; why one is not among them goes to `tried`."""
    import functools
    import importlib

    name, native = opened.flavor.NAME, opened.native
    flavor = importlib.import_module(f"mlflow.{name}")
    if name == "sklearn" or (name == "lightgbm" and hasattr(native, "booster_")):
        how = {"pyfunc_predict_fn": method or "predict"} if name == "sklearn" else {}
        types = _types_for_skops(native, folder, tried)
        if types is not None:
            trusted = {"serialization_format": "skops", "skops_trusted_types": types}
            yield "skops", functools.partial(flavor.save_model, native, **how, **trusted), ("skops",)
        plain = functools.partial(flavor.save_model, native, **how, serialization_format="cloudpickle")
        yield "cloudpickle", plain, ("cloudpickle",)
        return
    if name == "onnx":
        import onnx

        native = onnx.load(str(inspected.content))
        yield name, functools.partial(flavor.save_model, native, onnx_execution_providers=["CPUExecutionProvider"]), ()
        return
    more = tuple(m for m in ("jax", "torch", "tensorflow") if name == "keras" and m in sys.modules)
    yield name, functools.partial(flavor.save_model, native), more


def _types_for_skops(native: Any, folder: Path, tried: list[str]) -> list[str] | None:
    """The types that skops has to be allowed, all of them harmless; None where it can't hold the model so.

    The very file is judged as that of a registered model is: by its types, and the way in which it makes each.
    """
    import skops.io

    file = folder / "tried.skops"
    try:
        skops.io.dump(native, file)
        strange = skops_files.unknown_types(file)
    except Exception as error:
        why = str(error) if isinstance(error, ModelRefused) else f"{type(error).__name__}: {error}"
        tried.append(f"stored as cloudpickle: skops can't hold it: {why}")
        return None
    if strange:
        tried.append(f"stored as cloudpickle: skops can't vouch for {', '.join(strange)}")
        return None
    return sorted(map(str, skops.io.get_untrusted_types(file=file)))


def differ(expected: Any, answer: Any) -> str | None:
    """Where two answers differ, in words; None where they are equal, as `answers.alike` says it."""
    one, other = _named(expected), _named(answer)
    if one is not None and other is not None and list(one) == list(other):
        said = ((name, differ(one[name], other[name])) for name in one)
        return next((f"{name}: {words}" for name, words in said if words), None)
    a, b = np.asarray(expected), np.asarray(answer)
    if a.shape != b.shape:
        return f"shape {b.shape} instead of {a.shape}"
    equal = alike(a, b)
    if np.all(equal):
        return None
    at = tuple(int(n) for n in np.argwhere(~equal)[0]) if a.ndim else ()
    return f"at {at} {b[at]!r} instead of {a[at]!r}"


def _named(answer: Any) -> Mapping[str, Any] | None:
    """The parts of an answer that have names: of a dict, or the columns of a frame; None for another."""
    if isinstance(answer, pd.DataFrame):
        return {str(name): answer.iloc[:, at].to_numpy() for at, name in enumerate(answer.columns)}
    return answer if isinstance(answer, dict) else None
