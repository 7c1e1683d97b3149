"""Models: alias → version → local bytes → digest → policy → predictor. The only importer of MLflow."""

from __future__ import annotations

import functools
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pyarrow as pa
import yaml

from lakehouse.contract import Feature, column_of, widens
from lakehouse.errors import ConfigError, ModelRefused, Unavailable, nearest
from lakehouse.policy import judge, needs

if TYPE_CHECKING:
    from lakehouse.config import Features, Job
    from lakehouse.config import Model as ModelConfig

_META = "registered_model_meta"  # written by MLflow's download, not part of the model
_TYPES = {
    "boolean": pa.bool_(), "integer": pa.int32(), "long": pa.int64(), "float": pa.float32(), "double": pa.float64(),
    "string": pa.string(), "binary": pa.binary(), "datetime": pa.timestamp("us"),
}  # fmt: skip
_DTYPES = {"float64": pa.float64(), "float32": pa.float32(), "int64": pa.int64(), "int32": pa.int32()}


@dataclass(frozen=True)
class Model:
    """A model version on local disk. `signature`: MLflow's own JSON form; `output_names` of its signature."""

    uri: str
    name: str
    version: str
    path: str
    digest: str
    signature: Any
    output_names: tuple[str, ...]
    flavors: tuple[str, ...]


@dataclass(frozen=True)
class Predictor:
    """A loaded model: `predict` takes a DataFrame or matrix; `classes` in the order of its probabilities."""

    predict: Callable[[Any], Any]
    classes: tuple[Any, ...] | None


@dataclass(frozen=True)
class Resolved:
    """A model URI with its alias resolved: `uri` names one version for good."""

    uri: str
    name: str
    version: str


def resolve(config: ModelConfig) -> Resolved:
    """Look the model's alias up, once. Raises ConfigError where there is no such model, alias or version."""
    with _registry(config) as client:
        uri = config.uri
        if not uri.startswith("models:/"):
            name = uri.rstrip("/").rsplit("/", 1)[-1]
            return Resolved(uri, name, urlsplit(uri).path.strip("/").split("/")[0] if "runs:" in uri else "none")
        name, _, alias = uri.removeprefix("models:/").strip("/").partition("@")
        if alias:
            version = str(_find(client, config, lambda: client.get_model_version_by_alias(name, alias)).version)
            return Resolved(f"models:/{name}/{version}", name, version)
        name, _, version = name.partition("/")
        if not version:
            raise ConfigError(f"model.uri: {uri!r} names no version: use models:/{name}@<alias> or models:/{name}/<n>")
        _find(client, config, lambda: client.get_model_version(name, version))
        return Resolved(uri, name, version)


def fetch(config: ModelConfig, resolved: Resolved, folder: Path) -> Model:
    """Download the version into `folder`, take its digest and judge it; nothing of it is loaded.

    Raises ModelRefused by policy or for a missing signature, Unavailable if the store can't be reached.
    """
    import mlflow

    with _registry(config):
        try:
            path = Path(mlflow.artifacts.download_artifacts(artifact_uri=resolved.uri, dst_path=str(folder)))
        except mlflow.exceptions.MlflowException as error:
            raise ConfigError(f"model.uri: {resolved.uri} can't be downloaded: {_first(error)}") from error
        except OSError as error:
            raise Unavailable(f"model.uri: {resolved.uri} can't be downloaded: {error}") from error
    (path / _META).unlink(missing_ok=True)
    digest = digest_of(path)
    mlmodel = _description(path, resolved.uri)
    judge(mlmodel, digest, config.trust)
    signature = mlmodel.get("signature")
    if not isinstance(signature, Mapping) or not signature.get("inputs"):
        raise ModelRefused(
            f"{resolved.uri} has no signature, so its features are not known: log it again with "
            "signature=infer_signature(X, model.predict(X))"
        )
    inputs, outputs = (_parsed(signature.get(side), side, resolved.uri) for side in ("inputs", "outputs"))
    names = tuple(str(o["name"]) for o in outputs if o.get("name"))
    flavors = tuple(sorted(mlmodel["flavors"]))
    return Model(resolved.uri, resolved.name, resolved.version, str(path), digest, inputs, names, flavors)


def inputs_of(model: Model) -> list[tuple[str, pa.DataType, bool]]:
    """Name, type and required of the features in the model's signature; none for a model that takes a tensor."""
    if model.signature[0].get("type") == "tensor":
        return []
    return [_column_spec(spec, model.uri) for spec in model.signature]


def _parsed(text: Any, side: str, uri: str) -> list[dict[str, Any]]:
    parsed = yaml.safe_load(text) if isinstance(text, str) else text
    if parsed is None:
        return []
    if not isinstance(parsed, list) or not all(isinstance(entry, dict) for entry in parsed):
        raise ModelRefused(f"{uri}: the signature's {side} can't be read: {parsed!r}")
    return parsed


def _description(path: Path, uri: str) -> dict[str, Any]:
    if any(p.is_symlink() for p in path.rglob("*")):
        raise ModelRefused(f"{uri}: the model's folder has symbolic links, which could lead anywhere")
    try:
        parsed = yaml.safe_load((path / "MLmodel").read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ModelRefused(f"{uri}: its MLmodel file can't be read: {error}") from error
    if not isinstance(parsed, dict):
        raise ModelRefused(f"{uri}: its MLmodel file is not a mapping")
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


def pack(model: Model, folder: Path) -> Path:
    """The model as one uncompressed zip file for shipping."""
    target = folder / f"model-{model.digest[:16]}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(p for p in Path(model.path).rglob("*") if p.is_file()):
            archive.write(file, file.relative_to(model.path).as_posix())
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
            raise ModelRefused(f"the model can't be loaded here: {type(error).__name__}: {_first(error)}") from error
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


def features_of(model: Model, config: Features, schema: pa.Schema, table: str) -> tuple[tuple[Feature, ...], bool]:
    """The model's inputs against the table's columns, and whether the model takes them as one matrix.

    Raises ConfigError for a feature without a column, and for a column that can't be cast without loss.
    """
    inputs: Sequence[dict[str, Any]] = model.signature
    matrix = inputs[0].get("type") == "tensor"
    wanted = _tensor(inputs, config, model.uri) if matrix else [_column_spec(spec, model.uri) for spec in inputs]
    unknown = [name for name in config.rename if name not in {w[0] for w in wanted}]
    if unknown:
        hint = nearest(unknown[0], [w[0] for w in wanted])
        raise ConfigError(f"features.rename: the model has no feature {unknown[0]!r}, {hint}")
    features = []
    for name, kind, required in wanted:
        named = config.rename.get(name, name)
        column = column_of(schema, named, config.match == "case_insensitive")
        if column is None:
            raise ConfigError(
                f"the model's feature {name!r} has no column {named!r} in {table}, {nearest(named, schema.names)} "
                "(features.rename maps a feature to another column)"
            )
        given = schema.field(column).type
        if not widens(given, kind):
            raise ConfigError(
                f"the model's feature {name!r} is {kind}, column {column!r} of {table} is {given}: no lossless cast; "
                "cast it where the table is written, or log the model with that type"
            )
        features.append(Feature(name, column, kind, required))
    return tuple(features), matrix


def _column_spec(spec: dict[str, Any], uri: str) -> tuple[str, pa.DataType, bool]:
    kind = _TYPES.get(str(spec.get("type")))
    if kind is None or not spec.get("name"):
        raise ModelRefused(f"{uri}: the signature's input {spec} is not supported: {', '.join(_TYPES)} columns are")
    return str(spec["name"]), kind, bool(spec.get("required", True))


def _tensor(inputs: Sequence[dict[str, Any]], config: Features, uri: str) -> list[tuple[str, pa.DataType, bool]]:
    spec = inputs[0].get("tensor-spec", {})
    shape, kind = spec.get("shape", []), _DTYPES.get(str(spec.get("dtype")))
    if len(inputs) != 1 or len(shape) != 2 or kind is None:
        raise ModelRefused(f"{uri}: the signature's tensor {inputs} is not supported: one of rows × columns is")
    if len(config.tensor) != shape[1] and (shape[1] != -1 or not config.tensor):
        raise ConfigError(
            f"features.tensor: the model takes a tensor of {shape[1]} columns, {len(config.tensor)} are named: "
            "list the table's columns in the tensor's order"
        )
    return [(name, kind, True) for name in config.tensor]


def log_run(
    job: Job, resolved: Resolved, experiment: str, figures: Mapping[str, float], tags: Mapping[str, str]
) -> str:
    """Log a run with these metrics and tags to MLflow; its id."""
    import mlflow

    with _registry(job.model) as client:
        mlflow.set_experiment(experiment)
        with mlflow.start_run(run_name=job.job) as run:
            mlflow.log_metrics(dict(figures))
            mlflow.set_tags({**tags, "model_uri": resolved.uri})
        if resolved.uri.startswith("models:/"):
            client.set_model_version_tag(resolved.name, resolved.version, f"last_run.{job.job}", run.info.run_id)
        return str(run.info.run_id)


@contextmanager
def _registry(config: ModelConfig) -> Iterator[Any]:
    """An MLflow client for the job's tracking and registry, with time-outs fit for a scheduled job."""
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    for name, value in (patience | quiet).items():
        os.environ.setdefault(name, value)
    import mlflow

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    tracking = config.tracking_uri or before[0]
    for uri in (tracking, config.registry_uri or ""):
        file = uri.removeprefix("sqlite:///")
        if uri.startswith("sqlite:///") and not Path(file).exists():
            raise ConfigError(f"MLflow: there is no database {file!r} ({uri}); set model.tracking_uri")
    try:
        mlflow.set_tracking_uri(tracking)
        mlflow.set_registry_uri(config.registry_uri or (tracking if config.tracking_uri else before[1]))
        yield mlflow.MlflowClient()
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])


def _find(client: Any, config: ModelConfig, look_up: Callable[[], Any]) -> Any:
    import mlflow

    try:
        return look_up()
    except mlflow.exceptions.MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
            raise Unavailable(f"MLflow can't be reached: {_first(error)}") from error
        raise ConfigError(
            f"model.uri: {config.uri} is not there: {_first(error)}; {_known(client, config.uri)}"
        ) from error


def _known(client: Any, uri: str) -> str:
    """What the registry has: the model's aliases and versions, or the names of other models."""
    name = uri.removeprefix("models:/").split("@")[0].split("/")[0]
    models = {m.name: m for m in client.search_registered_models(max_results=200)}
    if name not in models:
        return f"no model {name!r}, {nearest(name, models)}"
    aliases = ", ".join(sorted(models[name].aliases)) or "none"
    versions = sorted(int(v.version) for v in client.search_model_versions(f"name = '{name}'"))
    return f"{name} has versions {versions} and aliases: {aliases}"


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


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


def needs_of(model: Model) -> list[tuple[str, str]]:
    """(trust, reason) for everything in a fetched model that is more than data."""
    return list(needs(_description(Path(model.path), model.uri)))
