"""Models in MLflow: alias → version → local bytes, judged before anything of them is loaded."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import yaml

from lakehouse.errors import ConfigError, ModelRefused, nearest
from lakehouse.models.connection import ask, first_line, status_of, translated_errors
from lakehouse.models.declared import Specs, require_equal, specs_of
from lakehouse.models.flavors import ON_FRAMES, Predictor, flavor_of
from lakehouse.models.isolated.calling import Environment, IsolatedFolder
from lakehouse.models.loading import digest_of, parse_yaml, read_description
from lakehouse.models.patience import Patience
from lakehouse.models.policy import judge, needs
from lakehouse.models.signed import require_signed

if TYPE_CHECKING:
    from lakehouse.config import Model as ModelConfig

_META = "registered_model_meta"  # written by MLflow's download, not part of the model
_SHOWN = 100
"""Characters of what can't be read."""


@dataclass(frozen=True)
class FetchedModel:
    """A model version on local disk. `signature`, `outputs`, `params`: of its signature, in MLflow's own JSON form.

    `declared`: they are the job's, as the model has none. Without either, `signature` is empty. `notice`: what a run
    must say of how it came by the model, "" where there is nothing.
    `library`, `called`: the version of the flavour's library and what is called of it; None until it is loaded.
    `members`: where a column says which model a row is for, those models by its values, all with one signature; name,
    version and digest then speak of them all, and `chosen` is the value of the one that was tried.
    `environment`: its own, for an isolated model. `origin`: as `Resolved` has it. `path` is empty for one that is only
    known (`models.known`).
    """

    uri: str
    name: str
    version: str
    path: str
    digest: str
    signature: Any
    outputs: Any
    flavors: tuple[str, ...]
    params: Any = ()
    notice: str = ""
    declared: bool = False
    flavor: str = ""
    library: str | None = None
    called: str | None = None
    members: Mapping[str, FetchedModel] = field(default_factory=dict)
    chosen: str = ""
    environment: Environment | None = None
    origin: str = ""

    @property
    def one(self) -> FetchedModel:
        """The model that stands for all where there are many; itself where it is one."""
        return self.members[self.chosen] if self.members else self

    @property
    def folder(self) -> str | IsolatedFolder:
        """Where it is loaded from: the folder of its files, with its own environment if it has one."""
        return self.path if self.environment is None else IsolatedFolder(self.path, self.environment)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names in the output signature."""
        return tuple(str(o["name"]) for o in self.outputs if o.get("name"))

    def loaded_as(self, predictor: Predictor, *, direct: bool = False) -> FetchedModel:
        """The same once it is known how it is called, and in which Python, if not in this one."""
        own = f", isolated, in Python {self.environment.minor}" if self.environment else ""
        called = f"{predictor.direct_called} on a matrix" if direct else predictor.called
        return replace(self, library=predictor.library, called=f"{called}{own}")

    def describe(self) -> dict[str, Any]:
        """The model for people and programs."""
        names = ("name", "version", "digest", "flavor", "library", "called")
        many = {"count": len(self.members)} if self.members else {}
        return {**{name: getattr(self, name) for name in names}, "signature": self.signature_digest, **many}

    @property
    def signature_digest(self) -> str:
        """SHA-256 of what the model takes and gives: the same for two versions that can stand in for each other."""
        sides = {"inputs": self.signature, "outputs": self.outputs, "params": self.params}
        return hashlib.sha256(json.dumps(sides, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def on_frames(self) -> str:
        """What it is, in words, where Spark itself applies it to a DataFrame; empty for a model that workers call."""
        flavor = ON_FRAMES.get(self.flavor)
        return flavor.WHAT if flavor is not None else ""

    @property
    def resolved(self) -> Resolved:
        """The version that it is of."""
        members = tuple((value, member.resolved) for value, member in self.members.items())
        return Resolved(self.uri, self.name, self.version, members=members)


@dataclass(frozen=True)
class Resolved:
    """A model URI with its alias resolved: `uri` names one version for good.

    `origin` is what a registry says of where the version's files are and when they were registered, "" where none was
    asked: a name and number that were deleted and given again have another. `files`: the folder on this machine that
    they are in, where that is known without asking MLflow. `members`, `notice`: see `FetchedModel`.
    """

    uri: str
    name: str
    version: str
    origin: str = ""
    members: tuple[tuple[str, Resolved], ...] = ()
    notice: str = field(default="", compare=False)
    files: str = field(default="", compare=False)

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"{len(self.members):,} models {self.name}" if self.members else f"{self.name} v{self.version}"


def resolve(config: ModelConfig, patience: Patience | None = None) -> Resolved:
    """Look the model's alias up, once. Raises ConfigError where there is no such model, alias or version.

    A folder on this machine, a logged model and an artifact's own address name one content by themselves.
    """
    uri = config.uri
    if not uri.startswith("models:"):
        if is_local(uri) and not uri.startswith("file:") and not Path(uri).exists():
            raise ConfigError(f"model.uri: {uri!r} is no folder here and no URI of MLflow{_meant(uri)}")
        name = uri.rstrip("/").rsplit("/", 1)[-1]
        return Resolved(uri, name, urlsplit(uri).path.strip("/").split("/")[0] if uri.startswith("runs:") else "none")
    name, _, alias = uri.removeprefix("models:").strip("/").partition("@")
    if not alias and re.fullmatch(r"m-[0-9a-f]{32}", name):
        return Resolved(uri, name, "none")  # a logged model that is in no registry
    return ask(config, patience, lambda client: _look_up(client, config, name, alias))


def _meant(uri: str) -> str:
    """What a URI that is none may have been meant as."""
    name = uri.strip(" /")
    if name.startswith(("models:", "runs:")):
        return f": write {name}, without blanks"
    if uri.startswith((".", "/")) or not name:
        return ""
    return f": write models:/{name}" + ("" if re.search(r"@|/[0-9]+$", name) else "@<alias>")


def _look_up(client: Any, config: ModelConfig, name: str, alias: str) -> Resolved:
    """The version that the registry has under an alias, or under the number that follows the name."""
    name, _, version = (name, "", "") if alias else name.partition("/")
    what = "" if alias else _why_no_version(version)
    what = what if name else "it names no model"
    if what:
        raise ConfigError(
            f"model.uri: {config.uri!r}: {what}: use models:/{name or '<name>'}@<alias> or "
            f"models:/{name or '<name>'}/<n>; {_known_names(client, config.uri)}"
        )
    if alias:
        found = find(client, config, lambda: client.get_model_version_by_alias(name, alias))
    else:
        found = find(client, config, lambda: client.get_model_version(name, version))
    origin = f"{found.source} {found.creation_timestamp}"
    return Resolved(f"models:/{name}/{found.version}", name, str(found.version), origin)


def _why_no_version(text: str) -> str:
    """Why what follows a model's name is no version's number; nothing where it is one."""
    if text.lower() in ("latest", "none", "staging", "production", "archived"):
        return f"{text!r} moves from version to version"
    if not text:
        return "it names no version"
    return "" if re.fullmatch(r"[0-9]+", text) else f"{text!r} is no version's number"


def local_path(place: str) -> Path:
    """The path of a place on this machine, which may be a `file:` URI."""
    return Path(unquote(urlsplit(place).path) if place.startswith("file:") else place)


def is_local(uri: str) -> bool:
    """Whether a model is a folder on this machine."""
    return uri.startswith("file:") or not re.match(r"^[a-z][a-z0-9+.-]+:", uri)


def fetch(config: ModelConfig, resolved: Resolved, folder: Path, patience: Patience | None = None) -> FetchedModel:
    """Download the version into `folder`, take its digest and judge it; nothing of it is loaded.

    The job's signature stands in for a missing one. Raises ModelRefused by policy, ConfigError where both are there
    and differ, Unavailable if the store can't be reached.
    """
    if is_local(resolved.uri):
        path = _copy(resolved, folder)
    elif resolved.files:
        path = copy_of(resolved, resolved.files, folder / "fetched")
    else:
        patience = patience or Patience()
        source, where = ask(config, patience, lambda client: source_of(client, resolved.uri))
        path = ask(
            config,
            patience,
            lambda _: download(resolved, source, folder, where),
            folder,
            f"model.uri: {resolved.uri} at {source}",
        )
    return judged(config, resolved, path)


def judged(config: ModelConfig, resolved: Resolved, path: Path, notice: str = "") -> FetchedModel:
    """The model whose files are in the folder, with its digest; nothing of it is loaded. Raises ModelRefused."""
    (path / _META).unlink(missing_ok=True)
    _refuse_links(path, resolved.uri)
    if config.signed_by is not None:
        require_signed(path, config.signed_by, resolved.uri)
    digest = digest_of(path)
    mlmodel = _description(path, resolved.uri)
    judge(mlmodel, path, digest, config.trust)
    sides, declared = _signature(mlmodel, config, resolved.uri)
    return FetchedModel(
        *(resolved.uri, resolved.name, resolved.version, str(path), digest),
        signature=sides["inputs"],
        outputs=sides["outputs"],
        params=sides["params"],
        flavors=tuple(sorted(mlmodel["flavors"])),
        flavor=flavor_of(mlmodel).NAME,
        notice=notice,
        declared=declared,
        origin=resolved.origin,
    )


def _signature(mlmodel: Mapping[str, Any], config: ModelConfig, uri: str) -> tuple[dict[str, Specs], bool]:
    """The sides of the model's signature in MLflow's form, and whether they are the job's."""
    stored = mlmodel.get("signature")
    if stored is not None and not isinstance(stored, Mapping):
        raise ModelRefused(f"{uri}: its signature can't be read: {str(stored)[:_SHOWN]!r}")
    found = stored if isinstance(stored, Mapping) else {}
    own = {side: _parse(found.get(side), side, uri) for side in ("inputs", "outputs", "params")}
    if config.signature is None:
        return own, False
    given = specs_of(config.signature)
    if own["inputs"]:
        require_equal(own, given, uri)
        return own, False
    return {side: specs or own[side] for side, specs in given.items()}, True


def _copy(resolved: Resolved, folder: Path) -> Path:
    """A folder on this machine, copied without asking MLflow for anything."""
    source = local_path(resolved.uri)
    if source.exists() and not source.is_dir():
        raise ConfigError(f"model.uri: {resolved.uri} is a file: name the model's folder, the one with MLmodel")
    if source.is_dir() and not (source / "MLmodel").exists():
        raise ConfigError(
            f"model.uri: {resolved.uri} holds no model, as it has no MLmodel file: name the folder that has one"
        )
    _refuse_links(source, resolved.uri)
    with translated_errors(f"model.uri: {resolved.uri}"):
        return Path(shutil.copytree(source, folder / "model"))


def copy_of(resolved: Resolved, source: str, place: Path) -> Path:
    """The files of a version that lie on this machine, copied to `place`."""
    own = local_path(source)
    _refuse_links(own, resolved.uri)
    with translated_errors(f"model.uri: {resolved.uri}"):
        return Path(shutil.copytree(own, place))


def download(resolved: Resolved, source: str, folder: Path, where: Mapping[str, str]) -> Path:
    """The files that lie at `source`, in a folder of their own below this one, in which others may lie."""
    import mlflow

    if is_local(source):  # MLflow's copy would follow the links
        _refuse_links(local_path(source), resolved.uri)
    try:
        with translated_errors(f"model.uri: {resolved.uri}"):
            return Path(
                mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(folder / "fetched"), **where)
            )
    except ValueError as error:  # MLflow takes what such an address has to have for granted
        raise ConfigError(f"model.uri: {resolved.uri} can't be fetched from {source}: {error}") from error
    except ConfigError as error:
        missing = error.__cause__
        if not isinstance(missing, ImportError):
            raise
        what = "pip install 'lakehouse[s3]'" if source.startswith("s3:") else "install it beside MLflow"
        raise ConfigError(
            f"model.uri: {resolved.uri} lies at {source}, and to fetch it MLflow needs {missing.name}: {what}"
        ) from missing


def source_of(client: Any, uri: str) -> tuple[str, dict[str, str]]:
    """Where the version's files are, and which servers know of them.

    MLflow's own look-up asks its process-wide registry, whatever the job says. That of Databricks' Unity Catalog gives
    the credentials for the files too, so it is left to MLflow.
    """
    where = servers_of(client)
    with translated_errors(f"model.uri: {uri}"):
        name, _, version = uri.removeprefix("models:/").partition("/")
        if not uri.startswith("models:/") or client._registry_uri.startswith("databricks"):
            return uri, where
        source = client.get_model_version_download_uri(name, version) if version else uri
        if client._registry_uri.startswith("uc:") and not source.startswith(("file:", "/")):
            return uri, where
        if source.startswith("models:/m-"):
            source = client.get_logged_model(source.removeprefix("models:/")).artifact_location
    return str(source), where


def servers_of(client: Any) -> dict[str, str]:
    """The servers that a client asks, as MLflow's downloads are told."""
    return {"tracking_uri": client.tracking_uri, "registry_uri": client._registry_uri}


def needs_of(model: FetchedModel) -> list[tuple[str, str]]:
    """(trust, reason) for everything in a fetched model that is more than data."""
    return list(needs(_description(Path(model.path), model.uri), Path(model.path)))


def _parse(text: Any, side: str, uri: str) -> list[dict[str, Any]]:
    try:
        parsed = _json_or_yaml(text) if isinstance(text, str) else text
    except yaml.YAMLError as error:
        raise ModelRefused(f"{uri}: the signature's {side} can't be read: {text[:_SHOWN]!r}") from error
    if parsed is None:
        return []
    if not isinstance(parsed, list) or not all(isinstance(entry, dict) for entry in parsed):
        raise ModelRefused(f"{uri}: the signature's {side} can't be read: {str(parsed)[:_SHOWN]!r}")
    return parsed


def _json_or_yaml(text: str) -> Any:
    """MLflow writes JSON, which is read much faster, and which is YAML."""
    try:
        return json.loads(text)
    except ValueError:
        return parse_yaml(text)


def _description(path: Path, uri: str) -> dict[str, Any]:
    _refuse_links(path, uri)
    try:
        return read_description(path)
    except ModelRefused as refused:
        raise ModelRefused(f"{uri}: {refused}") from refused


def _refuse_links(path: Path, uri: str) -> None:
    if any(p.is_symlink() for p in path.rglob("*")):
        raise ModelRefused(f"{uri}: the model's folder has symbolic links, which could lead anywhere")


def find(client: Any, config: ModelConfig, look_up: Callable[[], Any]) -> Any:
    """What a look-up in the registry finds. Raises ConfigError, with what there is instead, where it finds nothing."""
    from mlflow.exceptions import MlflowException

    try:
        return look_up()
    except NotImplementedError:  # Unity Catalog's open server
        raise ConfigError(
            f"model.uri: {config.uri}: this registry has no aliases: use models:/<name>/<version>"
        ) from None
    except MlflowException as error:
        if status_of(error) not in (400, 404) or error.error_code == "ENDPOINT_NOT_FOUND":
            raise
        raise ConfigError(
            f"model.uri: {config.uri} is not there: {first_line(error)}; {_elsewhere(client, config.uri)}"
        ) from error


def _elsewhere(client: Any, uri: str) -> str:
    """Where else the model may be: a name of three levels is in no registry of a workspace's own."""
    registry = client._registry_uri
    if uri.count(".") >= 2 and re.match(r"databricks($|://)", registry):
        return f"names of three levels are in Unity Catalog: set model.registry_uri: databricks-uc{registry[10:]}"
    return _known_names(client, uri)


def _known_names(client: Any, uri: str) -> str:
    """What the registry has: the model's aliases and versions, or the names of other models."""
    name = uri.removeprefix("models:").strip("/").split("@")[0].split("/")[0]
    from mlflow.exceptions import MlflowException

    try:
        models = [m.name for m in client.search_registered_models()]
        if not name:
            return f"known: {', '.join(sorted(models)[:20])}" if models else "there are none"
        if name not in models:
            return f"no model {name!r}, {nearest(name, models)}"
        aliases = ", ".join(sorted(client.get_registered_model(name).aliases)) or "none"
        versions = sorted(int(v.version) for v in client.search_model_versions(f"name = '{name}'"))
    except (MlflowException, NotImplementedError):
        return "what else there is can't be listed"
    return f"{name} has versions {versions} and aliases: {aliases}"
