"""A model a value of a column: all versions that one URI names, resolved at once, fetched, and judged each.

    models:/churn_{segment}@champion     the value `north` has the model churn_north, by its alias champion
    models:/churn@{segment}              the value `north` has the version of churn with the alias north

Which values have a model the registry says: it is asked for all models whose names fit. Registries that can't be asked
so (Unity Catalog) list all names, and are asked for the alias of each that fits.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lakehouse.errors import ConfigError, ModelRefused
from lakehouse.models import registry
from lakehouse.models.connection import ask, status_of
from lakehouse.models.patience import Patience
from lakehouse.models.registry import FetchedModel, Resolved, judged

if TYPE_CHECKING:
    from lakehouse.config import Model as ModelConfig

_AT_ONCE = 16
"""Requests that a registry, or a store, is sent at the same time."""
_PAGE = 1_000
_NEWEST = 10_000
"""Versions that are asked for at once, those first that were changed last; others are asked for one by one."""
_SHOWN = 5
_A = TypeVar("_A")
_B = TypeVar("_B")


def resolve(config: ModelConfig, patience: Patience | None = None) -> Resolved:
    """Look the job's aliases up, each once: that of its model, or those of all models that its URI names.

    Raises ConfigError where there is none, and as `registry.resolve` does.
    """
    if config.by is None:
        return registry.resolve(config, patience)
    found, left_out = ask(config, patience, lambda client: _look_up(client, config))
    notice = _left_out_notice(config, left_out) if left_out else ""
    if not found:
        raise ConfigError(
            f"model.uri: no model in the registry fits {config.uri}: register one by the name that it has for a value "
            f"of {config.by}, with this alias or version" + (f"; {notice}" if notice else "")
        )
    return replace(_together(config, found), notice=notice)


def _left_out_notice(config: ModelConfig, left_out: Sequence[str]) -> str:
    """Which registered models are not taken although their names fit."""
    return (
        f"model.uri: registered models are left out that fit {config.uri}, since what stands for {{{config.by}}} is "
        f"empty or has '/', '@', ':' or '..' in it: {_named(left_out)}: rows of such values have no model"
    )


def pinned(config: ModelConfig, versions: Iterable[Sequence[str]]) -> Resolved:
    """The versions that an earlier run used: (value, name, version) each."""
    return _together(config, [(value, Resolved(f"models:/{n}/{v}", n, v)) for value, n, v, *_ in versions])


def _together(config: ModelConfig, members: Iterable[tuple[str, Resolved]]) -> Resolved:
    """Versions as one: called by the URI without its alias."""
    ordered = tuple(sorted(members, key=lambda member: member[0]))
    name = re.split(r"@|/[0-9]+$", config.uri.removeprefix("models:/"))[0]
    return Resolved(config.uri, name, f"{len(ordered)} versions", members=ordered)


def fetch(config: ModelConfig, resolved: Resolved, folder: Path, patience: Patience | None = None) -> FetchedModel:
    """Download into `folder` what was resolved, and judge it, each model by itself; nothing of them is loaded.

    Of many models all that are refused are named. Raises as `registry.fetch` does, and ModelRefused where two models
    don't take and give the same.
    """
    if not resolved.members:
        return registry.fetch(config, resolved, folder, patience)
    patience = patience or Patience()
    places = ask(config, patience, lambda client: _places(client, config, [one for _, one in resolved.members]))
    kept = folder / "many"
    kept.mkdir()
    paths = ask(config, patience, lambda _: _download_all(places, kept), kept, f"model.uri: {resolved.uri}")
    members, refused = dict[str, FetchedModel](), list[tuple[Resolved, ModelRefused]]()
    for (value, one), path in zip(resolved.members, paths, strict=True):
        try:
            members[value] = judged(config, one, path)
            if members[value].on_frames:
                raise ModelRefused(f"it is {members[value].on_frames}, which can only be a job's one model")
        except ModelRefused as error:
            refused.append((one, error))
    if refused:
        raise ModelRefused(_refusals(refused, len(resolved.members)))
    _require_alike(config, list(members.values()))
    return _as_one(resolved, members)


def _as_one(resolved: Resolved, members: Mapping[str, FetchedModel]) -> FetchedModel:
    """What is said of them all: one digest over who has which version with which bytes."""
    said = [[value, model.name, model.version, model.digest] for value, model in members.items()]
    first, (chosen, *_) = next(iter(members.values())), members
    return replace(
        first,
        uri=resolved.uri,
        name=resolved.name,
        version=resolved.version,
        digest=hashlib.sha256(json.dumps(said).encode()).hexdigest(),
        flavor=", ".join(sorted({model.flavor for model in members.values()})),
        flavors=tuple(sorted({flavor for model in members.values() for flavor in model.flavors})),
        members=members,
        chosen=chosen,
        notice=resolved.notice,
    )


def _look_up(client: Any, config: ModelConfig) -> tuple[list[tuple[str, Resolved]], list[str]]:
    """By value the version that it has, and the names that fit but for what stands for the value."""
    said = config.uri.removeprefix("models:/")
    before, after = said.split(f"{{{config.by}}}")
    fits = re.compile(rf"{re.escape(before)}(.*){re.escape(after)}", re.DOTALL)
    _, _, alias = said.partition("@")
    bulk = not client._registry_uri.startswith(("databricks-uc", "uc"))
    own, at, _ = before.partition("@")  # with the column's value as the alias it is one model
    found_models = _aliases_of(client, config, own) if at else _registered(client, before if bulk else "")
    wanted: list[tuple[str, str, str]] = []  # value, name, and version or alias
    left_out = list[str]()
    for name, aliases in found_models:
        if not alias:
            named = [(f"{name}/{said.rpartition('/')[2]}", said.rpartition("/")[2])]
        elif bulk or at:
            named = [(f"{name}@{one}", str(version)) for one, version in aliases.items()]
        else:
            named = [(f"{name}@{alias}", alias)]
        for text, version in named:
            if (found := fits.fullmatch(text)) is None:
                continue
            if re.fullmatch(r"[^/@:]+", found[1]) and ".." not in found[1]:
                wanted.append((found[1], name, version))
            else:
                left_out.append(repr(name))
    if not alias or not (bulk or at):
        by_alias = bool(alias)
        asked = _each(wanted, lambda one: _version(client, one[1], one[2], by_alias))
        wanted = [(value, name, version) for (value, name, _), version in zip(wanted, asked, strict=True) if version]
    return [(value, Resolved(f"models:/{name}/{version}", name, version)) for value, name, version in wanted], left_out


def _aliases_of(client: Any, config: ModelConfig, name: str) -> list[tuple[str, Mapping[str, Any]]]:
    """One registered model and its aliases."""
    model = registry.find(client, config, lambda: client.get_registered_model(name))
    return [(name, dict(model.aliases or {}))]


def _registered(client: Any, begins: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The names of registered models that begin so, and the aliases of each as far as a list of them tells."""
    only = f"name LIKE '{begins}%'" if _is_quotable(begins) else None
    token = None
    while True:
        page = client.search_registered_models(filter_string=only, max_results=_PAGE, page_token=token)
        for model in page:
            yield model.name, dict(model.aliases or {})
        token = page.token
        if not token:
            return


def _version(client: Any, name: str, version: str, by_alias: bool) -> str | None:
    """The version that a model has under an alias or number, None where it has none."""
    from mlflow.exceptions import MlflowException

    try:
        found = (
            client.get_model_version_by_alias(name, version) if by_alias else client.get_model_version(name, version)
        )
    except NotImplementedError:  # Unity Catalog's open server
        raise ConfigError(f"model.uri: {name}: this registry has no aliases: use models:/<name>/<version>") from None
    except MlflowException as error:
        if status_of(error) not in (400, 404) or error.error_code == "ENDPOINT_NOT_FOUND":
            raise
        return None
    return str(found.version)


def _each(items: Sequence[_A], ask_for: Callable[[_A], _B]) -> list[_B]:
    """What is answered for each item, several asked for at the same time."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(ask_for, items))


Place = tuple[Resolved, str, Mapping[str, str]]
"""A version, where its files are, and which servers know of them."""


def _places(client: Any, config: ModelConfig, versions: Sequence[Resolved]) -> list[Place]:
    """Where the files of each version are: of most by one list, of others by a request each."""
    known = _listed(client, config) if not client._registry_uri.startswith(("databricks", "uc")) else {}

    def place(one: Resolved) -> Place:
        source = known.get((one.name, one.version), "models:/")
        if source.startswith("models:/"):
            return one, *registry.source_of(client, one.uri)
        return one, source, registry.servers_of(client)

    return _each(versions, place)


def _listed(client: Any, config: ModelConfig) -> dict[tuple[str, str], str]:
    """The sources of the versions that were changed last, by name and version, of models that may be meant."""
    begins = re.split(r"[{@]", config.uri.removeprefix("models:/"))[0]
    only = f"name LIKE '{begins}%'" if _is_quotable(begins) else ""
    return {(v.name, str(v.version)): str(v.source) for v in client.search_model_versions(only, max_results=_NEWEST)}


def _is_quotable(text: str) -> bool:
    return bool(text) and not set(text) & set("'\"%\\")


def _download_all(places: Sequence[Place], folder: Path) -> list[Path]:
    """The files of each version in a folder of its own."""

    def download(number: int) -> Path:
        resolved, source, where = places[number]
        if source.startswith(("file:", "/")):
            return registry.copy_of(resolved, source, folder / f"{number:05d}")
        return registry.download(resolved, source, folder / f"{number:05d}", where)

    return _each(range(len(places)), download)


def _refusals(refused: Sequence[tuple[Resolved, ModelRefused]], of: int) -> str:
    """Which models are refused and why, those with the same reason together."""
    why: dict[str, list[str]] = {}
    for one, error in refused:
        said = re.sub(r"\nor accept exactly this content\n.*", "", str(error))
        why.setdefault(said.replace(one.uri, "it"), []).append(f"{one.name} v{one.version}")
    lines = [f"{_named(names)}: {said}" for said, names in why.items()]
    return f"{len(refused)} of {of} models are refused: " + "\n".join(lines)


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _require_alike(config: ModelConfig, models: Sequence[FetchedModel]) -> None:
    """Raise ModelRefused unless all models take and give the same, by their signatures."""
    first = models[0]
    others = [model for model in models if model.signature_digest != first.signature_digest]
    if not first.signature or any(not model.signature for model in others):
        unsigned = [model for model in models if not model.signature]
        named = _named([f"{model.name} v{model.version}" for model in unsigned])
        raise ModelRefused(f"with model.by every model must have been logged with a signature; without one: {named}")
    if not others:
        return
    other = others[0]
    sides = [s for s in ("signature", "outputs", "params") if getattr(first, s) != getattr(other, s)]
    what = " and ".join({"signature": "inputs", "outputs": "outputs", "params": "parameters"}[side] for side in sides)
    more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
    raise ModelRefused(
        f"with model.by all models must take and give the same, and {other.name} v{other.version}{more} has other "
        f"{what} than {first.name} v{first.version}: log them with the same signature, or move the alias back"
    )


_OF_ITS_OWN = re.compile(
    rb"^(?:run_id|model_uuid|model_id|utc_time_created|artifact_path|model_size_bytes):.*\n", re.MULTILINE
)
"""What differs between two models that were logged in one environment."""


def environment_key(path: Path) -> str:
    """The same for fetched models that say the same of their environment; told without parsing what they say."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        with open(file, "rb") as stream:
            whole = file.name == "MLmodel" or file.suffix in (".yaml", ".yml", ".txt")
            said = _OF_ITS_OWN.sub(b"", stream.read()) if whole else stream.read(3)
        digest.update(b"%s:%d:%s" % (file.relative_to(path).as_posix().encode(), len(said), said))
    return digest.hexdigest()
