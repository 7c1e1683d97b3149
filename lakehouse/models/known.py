"""What a model version is, as an earlier run of its job found it: a run that changes nothing needs none of its bytes.

A file a version and a way of using it, in the job's state. It holds only for a version that its registry describes as
it did then; whoever loads a model fetches and judges it, whatever is known.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from typing import TYPE_CHECKING

from lakehouse import formats
from lakehouse.models.registry import FetchedModel, Resolved
from lakehouse.storage import Location, content, write_durably

if TYPE_CHECKING:
    from lakehouse.config import Model as ModelConfig

_KEPT = (
    "uri",
    "name",
    "version",
    "digest",
    "signature",
    "outputs",
    "flavors",
    "params",
    "declared",
    "flavor",
    "origin",
)


def may_be_known(config: ModelConfig) -> bool:
    """Whether it can be told of this model that it is the same: not of many, of signed ones, and of one kept here."""
    return config.by is None and config.signed_by is None and config.offline != "allowed"


def recall(config: ModelConfig, resolved: Resolved, state: Location) -> FetchedModel | None:
    """The version without its files (`path` is empty), None where it is not known as it is now."""
    if not resolved.origin or not may_be_known(config):
        return None
    held = content(_file(config, resolved.uri, resolved.origin, state))
    if held is None:
        return None
    try:
        said = json.loads(held)
    except ValueError:  # whatever it is, it isn't what a run kept
        return None
    if not isinstance(said, dict) or formats.is_newer(formats.KNOWN, said) or any(name not in said for name in _KEPT):
        return None
    return FetchedModel(**{**{name: said[name] for name in _KEPT}, "flavors": tuple(said["flavors"]), "path": ""})


def remember(config: ModelConfig, model: FetchedModel, state: Location) -> None:
    """Keep what a fetched and judged version is."""
    if not model.origin or not model.path or not may_be_known(config):
        return
    said = {f.name: getattr(model, f.name) for f in fields(model) if f.name in _KEPT}
    place = _file(config, model.uri, model.origin, state)
    write_durably(place, json.dumps(formats.with_version(formats.KNOWN, said)).encode())


def _file(config: ModelConfig, uri: str, origin: str, state: Location) -> Location:
    """Its name has all that decides what a version is taken for: the job's whole section, such as what it trusts."""
    said = [uri, origin, config.model_dump_json()]
    return state.join("models", f"{hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]}.json")
