"""Models in MLflow: alias → version → local bytes, judged before anything of them is loaded."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import yaml

from lakehouse.errors import ConfigError, ModelRefused, nearest
from lakehouse.models.connection import connect, first_line, status_of, translated_errors
from lakehouse.models.flavors import Predictor, flavor_of
from lakehouse.models.loading import digest_of, parse_yaml, read_description
from lakehouse.models.policy import judge, needs

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.config import Model as ModelConfig

_META = "registered_model_meta"  # written by MLflow's download, not part of the model


@dataclass(frozen=True)
class FetchedModel:
    """A model version on local disk. `signature`, `outputs`, `params`: of its signature, in MLflow's own JSON form.

    `library`, `called`: the version of the flavour's library and what is called of it; None until it is loaded.
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
    flavor: str = ""
    library: str | None = None
    called: str | None = None

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names in the output signature."""
        return tuple(str(o["name"]) for o in self.outputs if o.get("name"))

    def loaded_as(self, predictor: Predictor) -> FetchedModel:
        """The same once it is known how it is called."""
        return replace(self, library=predictor.library, called=predictor.called)

    def describe(self) -> dict[str, str | None]:
        """The model for people and programs."""
        names = ("name", "version", "digest", "flavor", "library", "called")
        return {name: getattr(self, name) for name in names}

    @property
    def resolved(self) -> Resolved:
        """The version that it is of."""
        return Resolved(self.uri, self.name, self.version)


@dataclass(frozen=True)
class Resolved:
    """A model URI with its alias resolved: `uri` names one version for good."""

    uri: str
    name: str
    version: str


def resolve(config: ModelConfig) -> Resolved:
    """Look the model's alias up, once. Raises ConfigError where there is no such model, alias or version.

    A folder on this machine, a logged model and an artifact's own address name one content by themselves.
    """
    uri = config.uri
    if not uri.startswith("models:"):
        if not re.match(r"^[a-z][a-z0-9+.-]+:", uri) and not Path(uri).exists():
            raise ConfigError(
                f"model.uri: {uri!r} is no folder here and no URI of MLflow: write models:/{uri.strip('/')}@<alias>"
            )
        name = uri.rstrip("/").rsplit("/", 1)[-1]
        return Resolved(uri, name, urlsplit(uri).path.strip("/").split("/")[0] if uri.startswith("runs:") else "none")
    name, _, alias = uri.removeprefix("models:").strip("/").partition("@")
    if not alias and re.fullmatch(r"m-[0-9a-f]{32}", name):
        return Resolved(uri, name, "none")  # a logged model that is in no registry
    with connect(config) as client:
        if alias:
            version = str(_find(client, config, lambda: client.get_model_version_by_alias(name, alias)).version)
            return Resolved(f"models:/{name}/{version}", name, version)
        name, _, version = name.partition("/")
        if not version.isdecimal():
            what = f"{version!r} moves from version to version" if version else "it names no version"
            raise ConfigError(
                f"model.uri: {uri!r}: {what}: use models:/{name}@<alias> or models:/{name}/<n>; "
                f"{_known_names(client, uri)}"
            )
        _find(client, config, lambda: client.get_model_version(name, version))
    return Resolved(uri, name, version)


def _is_local(uri: str) -> bool:
    return uri.startswith("file:") or not re.match(r"^[a-z][a-z0-9+.-]+:", uri)


def fetch(config: ModelConfig, resolved: Resolved, folder: Path) -> FetchedModel:
    """Download the version into `folder`, take its digest and judge it; nothing of it is loaded.

    Raises ModelRefused by policy or for a missing signature, Unavailable if the store can't be reached.
    """
    if _is_local(resolved.uri):
        path = _copy(resolved, folder)
    else:
        with connect(config) as client:
            where = {"tracking_uri": client.tracking_uri, "registry_uri": client._registry_uri}
            with translated_errors(f"model.uri: {resolved.uri}"):
                source = _source(client, resolved.uri)
            path = _download(resolved, source, folder, where)
    (path / _META).unlink(missing_ok=True)
    digest = digest_of(path)
    mlmodel = _description(path, resolved.uri)
    judge(mlmodel, path, digest, config.trust)
    signature = mlmodel.get("signature")
    if not isinstance(signature, Mapping) or not signature.get("inputs"):
        raise ModelRefused(
            f"{resolved.uri} has no signature, so its features are not known: log it again with "
            "signature=infer_signature(X, model.predict(X))"
        )
    sides = ("inputs", "outputs", "params")
    inputs, outputs, params = (_parse(signature.get(side), side, resolved.uri) for side in sides)
    flavors = tuple(sorted(mlmodel["flavors"]))
    return FetchedModel(
        *(resolved.uri, resolved.name, resolved.version, str(path), digest),
        *(inputs, outputs, flavors, params, flavor_of(mlmodel).NAME),
    )


def _copy(resolved: Resolved, folder: Path) -> Path:
    """A folder on this machine, copied without asking MLflow for anything."""
    source = Path(unquote(urlsplit(resolved.uri).path) if resolved.uri.startswith("file:") else resolved.uri)
    if source.exists() and not source.is_dir():
        raise ConfigError(f"model.uri: {resolved.uri} is a file: name the model's folder, the one with MLmodel")
    _refuse_links(source, resolved.uri)
    with translated_errors(f"model.uri: {resolved.uri}"):
        return Path(shutil.copytree(source, folder / "model"))


def _download(resolved: Resolved, source: str, folder: Path, where: Mapping[str, str]) -> Path:
    """The files that lie at `source`, in a folder of their own."""
    import mlflow

    if "://" not in source or source.startswith("file:"):  # MLflow's copy would follow the links
        local = unquote(urlsplit(source).path) if source.startswith("file:") else source
        _refuse_links(Path(local), resolved.uri)
    try:
        with translated_errors(f"model.uri: {resolved.uri}"):
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(folder), **where))
    except ConfigError as error:
        missing = error.__cause__
        if not isinstance(missing, ImportError):
            raise
        what = "pip install 'lakehouse[s3]'" if source.startswith("s3:") else "install it beside MLflow"
        raise ConfigError(
            f"model.uri: {resolved.uri} lies at {source}, and to fetch it MLflow needs {missing.name}: {what}"
        ) from missing


def _source(client: Any, uri: str) -> str:
    """Where the version's files are. MLflow's own look-up asks its process-wide registry, whatever the job says."""
    if uri.startswith("models:/") and not client._registry_uri.startswith(("databricks", "uc:")):
        name, _, version = uri.removeprefix("models:/").partition("/")
        uri = client.get_model_version_download_uri(name, version) if version else uri
        if uri.startswith("models:/m-"):
            uri = client.get_logged_model(uri.removeprefix("models:/")).artifact_location
    return uri


def needs_of(model: FetchedModel) -> list[tuple[str, str]]:
    """(trust, reason) for everything in a fetched model that is more than data."""
    return list(needs(_description(Path(model.path), model.uri), Path(model.path)))


def _parse(text: Any, side: str, uri: str) -> list[dict[str, Any]]:
    try:
        parsed = parse_yaml(text) if isinstance(text, str) else text
    except yaml.YAMLError as error:
        raise ModelRefused(f"{uri}: the signature's {side} can't be read: {text!r}") from error
    if parsed is None:
        return []
    if not isinstance(parsed, list) or not all(isinstance(entry, dict) for entry in parsed):
        raise ModelRefused(f"{uri}: the signature's {side} can't be read: {parsed!r}")
    return parsed


def _description(path: Path, uri: str) -> dict[str, Any]:
    _refuse_links(path, uri)
    try:
        return read_description(path)
    except ModelRefused as refused:
        raise ModelRefused(f"{uri}: {refused}") from refused


def _refuse_links(path: Path, uri: str) -> None:
    if any(p.is_symlink() for p in path.rglob("*")):
        raise ModelRefused(f"{uri}: the model's folder has symbolic links, which could lead anywhere")


def log_run(
    job: Job, resolved: Resolved, experiment: str, figures: Mapping[str, float], tags: Mapping[str, str],
    page: bytes | None = None,
) -> str:  # fmt: skip
    """Log a run with these metrics, tags and page to MLflow, linked to the model version; its id."""
    from mlflow.entities import Metric, RunTag

    with connect(job.model) as client:
        found = client.get_experiment_by_name(experiment)
        home = found.experiment_id if found else client.create_experiment(experiment)
        run = client.create_run(home, run_name=job.job)
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, 0) for name, value in figures.items()]
        client.log_batch(
            run.info.run_id, metrics, tags=[RunTag(k, v) for k, v in {**tags, "model_uri": resolved.uri}.items()]
        )
        if page is not None:
            client.log_text(run.info.run_id, page.decode(), "report.html")
        client.set_terminated(run.info.run_id)
        if resolved.uri.startswith("models:/") and resolved.version != "none":
            client.set_model_version_tag(resolved.name, resolved.version, f"last_run.{job.job}", run.info.run_id)
    return str(run.info.run_id)


def _find(client: Any, config: ModelConfig, look_up: Callable[[], Any]) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return look_up()
    except MlflowException as error:
        if status_of(error) not in (400, 404) or error.error_code == "ENDPOINT_NOT_FOUND":
            raise
        raise ConfigError(
            f"model.uri: {config.uri} is not there: {first_line(error)}; {_known_names(client, config.uri)}"
        ) from error


def _known_names(client: Any, uri: str) -> str:
    """What the registry has: the model's aliases and versions, or the names of other models."""
    name = uri.removeprefix("models:").strip("/").split("@")[0].split("/")[0]
    models = {m.name: m for m in client.search_registered_models(max_results=200)}
    if name not in models:
        return f"no model {name!r}, {nearest(name, models)}"
    aliases = ", ".join(sorted(models[name].aliases)) or "none"
    versions = sorted(int(v.version) for v in client.search_model_versions(f"name = '{name}'"))
    return f"{name} has versions {versions} and aliases: {aliases}"
