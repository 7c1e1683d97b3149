"""A fetched model's bytes: their digest, their shipping, and the one place where they are loaded."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lakehouse.errors import ModelRefused
from lakehouse.models.flavors import Flavor, Predictor, flavor_of, load_native
from lakehouse.models.flavors.calling import native_of
from lakehouse.models.parameters import Frozen

if TYPE_CHECKING:
    from lakehouse.models.isolated.calling import IsolatedFolder

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
"""MLflow's settings for a process that is nobody's notebook."""


_SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times faster where it is built in, which tells in a signature of thousands of features."""


def parse_yaml(text: str) -> Any:
    """YAML of MLflow's, in which nothing is made but plain values. Raises yaml.YAMLError."""
    return yaml.load(text, _SAFE)


def read_description(path: Path) -> dict[str, Any]:
    """A model's MLmodel file, parsed. Raises ModelRefused where it can't be read."""
    try:
        parsed = parse_yaml((path / "MLmodel").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelRefused("it has no MLmodel file, so it is no model of MLflow's") from error
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise ModelRefused(f"its MLmodel file can't be read: {error}") from error
    if not isinstance(parsed, dict):
        raise ModelRefused("its MLmodel file is not a mapping")
    return parsed


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


Folders = Mapping[str, "str | IsolatedFolder"]
"""By their digests, the folders that models lie in on a machine, with the environment of an isolated one."""


_ISOLATED = "isolated"
"""Beside the models in an archive: a folder of environments, by their keys, and which model has which."""


def pack(folders: Folders, target: Path, *, same_machine: bool = False) -> None:
    """The models as one uncompressed zip file for shipping, each below its digest, and their environments.

    `same_machine`: whoever unpacks it finds the environments where they are here.
    """
    from lakehouse.models.isolated.archives import add_folder

    own: dict[str, Any] = {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for digest, folder in folders.items():
            path = folder if isinstance(folder, str) else folder.path
            for file in sorted(p for p in Path(path).rglob("*") if p.is_file()):
                archive.write(file, f"{digest}/{file.relative_to(path).as_posix()}")
            if isinstance(folder, str):
                continue
            environment = folder.environment
            if not same_machine and all(environment.key != other["key"] for other in own.values()):
                add_folder(archive, Path(environment.packages), f"{_ISOLATED}/{environment.key}/")
            own[digest] = asdict(environment)
        if own:
            archive.writestr(f"{_ISOLATED}/models.json", json.dumps(own))


def unpacked(root: str) -> Folders:
    """The models that lie in the folder which `pack`'s archive was unpacked to.

    Raises ModelRefused where the Python of an isolated one's environment isn't on this machine.
    """
    isolated = Path(root) / _ISOLATED
    named = isolated / "models.json"
    own = json.loads(named.read_text(encoding="utf-8")) if named.is_file() else {}
    folders = (folder for folder in Path(root).iterdir() if folder.is_dir() and folder != isolated)
    return {
        folder.name: _isolated(str(folder), own[folder.name], isolated) if folder.name in own else str(folder)
        for folder in folders
    }


def _isolated(path: str, said: Mapping[str, str], shipped: Path) -> IsolatedFolder:
    """A model with its environment: the one that was shipped, with a Python of this machine's, or the driver's own."""
    from lakehouse.models.isolated import interpreters
    from lakehouse.models.isolated.calling import Environment, IsolatedFolder

    environment, packages = Environment(**said), shipped / said["key"]
    if packages.is_dir():
        python = interpreters.find(environment.minor, None, first=environment.python).path
        environment = replace(environment, packages=str(packages), python=python)
    return IsolatedFolder(path, environment)


def load(folder: str | IsolatedFolder, digest: str, method: str | None, params: Frozen) -> Predictor:
    """Load the model, in its own process where it has an environment of its own; kept for as long as this one lives.

    `method`, `params` and what is raised: as of `load_here`.
    """
    if isinstance(folder, str):
        return _kept.get((digest, method, params)) or load_here(folder, digest, method, params)
    from lakehouse.models.isolated.calling import open_isolated

    return open_isolated(folder, digest, method, params)


_kept: dict[tuple[str, str | None, Frozen], Predictor] = {}
"""In a process that workers are forked from: the models that it has for them."""


def keep(predictor: Predictor, digest: str, method: str | None, params: Frozen) -> None:
    """Have it here for as long as the process lives, whatever folder the same bytes lie in."""
    _kept[digest, method, params] = predictor


@functools.lru_cache(maxsize=16)
def load_here(path: str, digest: str, method: str | None, params: Frozen) -> Predictor:
    """Load the model into this process after checking its digest again; kept for as long as the process lives.

    `method` None calls the model as MLflow does (pyfunc); otherwise the named method of the native model.
    `params`: as `parameters.freeze` makes them.
    Raises ModelRefused for other bytes than were judged, and where the model can't be loaded here.
    """
    found = digest_of(Path(path))
    if found != digest:
        raise ModelRefused(f"the model's bytes changed on the way: sha256:{found} instead of sha256:{digest}")
    mlmodel = read_description(Path(path))
    flavor = flavor_of(mlmodel)
    described = mlmodel["flavors"].get(flavor.NAME, {})
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in params}
    allowed = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true"}  # the policy has decided
    with environment({**allowed, **QUIET, **flavor.settings(described)}), _folder_left_as_it_is():
        try:
            loaded = None if given else load_native(Path(path), mlmodel, flavor)
            if loaded is not None:
                unsigned = not (mlmodel.get("signature") or {}).get("inputs")
            else:
                loaded, unsigned = _load_by_mlflow(path, given)
        except ModuleNotFoundError as error:
            raise ModelRefused(_what_to_install(error, flavor, described)) from error
        except (Exception, SystemExit) as error:
            raise ModelRefused(f"the model can't be loaded here: {type(error).__name__}: {error}") from error
    opened = flavor.open_model(loaded, method, given)
    library = sys.modules.get(flavor.LIBRARY[0])
    return replace(
        opened,
        library=f"{flavor.LIBRARY[0]} {getattr(library, '__version__', 'unknown')}",
        trained=flavor.trained_on(native_of(loaded)) if unsigned else opened.trained,
        native=native_of(loaded),
    )


def forget() -> None:
    """Drop the loaded models that nobody else holds: a run has copies of its own, which no later one asks for."""
    load_here.cache_clear()


def _load_by_mlflow(path: str, given: Mapping[str, Any]) -> tuple[Any, bool]:
    """MLflow's own object of a model that is called with these parameters; whether no signature says its inputs."""
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    loaded = mlflow.pyfunc.load_model(path, suppress_warnings=True)  # `environment` says what differs
    unsigned = loaded.metadata.get_input_schema() is None
    if not unsigned:
        # The inputs are held to the signature already, exactly; MLflow's own look at them refuses nulls that it allows.
        loaded.metadata.signature.inputs = None
    if given and loaded.metadata.get_params_schema() is None:
        # Judged by the job's signature; MLflow leaves out what the model's own does not list.
        loaded.metadata.signature = infer_signature(params=dict(given))
    return loaded, unsigned


@contextmanager
def _folder_left_as_it_is() -> Iterator[None]:
    """While a model's own code is imported: Python writes no compiled file beside it, which would change the digest."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before


def _what_to_install(error: ModuleNotFoundError, flavor: Flavor, described: Mapping[str, Any]) -> str:
    """A library that is missing here, with the version that the model was logged with where that is known."""
    module, key = flavor.LIBRARY
    version = described.get(key) if error.name == module else None
    wanted = f"{error.name} {version}" if version else str(error.name)
    return f"the model can't be loaded here: it needs {wanted}, which is not installed"


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
