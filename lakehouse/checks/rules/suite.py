"""Read a suite file as Great Expectations lays it out, and refuse what it would drop without a word."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from lakehouse.checks.rules.catalogue import CATALOGUE
from lakehouse.errors import ConfigError, nearest

_SEVERITIES = ("critical", "warning", "info")
_SUITE_KEYS = {"name", "expectations", "id", "meta", "notes", "suite_parameters"}
_KEYS = {"type", "kwargs", "severity", "meta", "id", "description", "notes", "rendered_content"}
_OLDER_SUITE = {"expectation_suite_name": "name", "ge_cloud_id": "id", "evaluation_parameters": "suite_parameters"}
_OLDER = {"expectation_type": "type", "ge_cloud_id": "id"}
"""What Great Expectations before 1.0 called its keys."""
_DROPPED = {"data_asset_type", "success_on_last_run", "expectation_context"}
"""Keys of then that say nothing today."""


@dataclass(frozen=True)
class Expectation:
    """One expectation of a suite, as written; `where` is its place for messages, `name` what reports show."""

    type: str
    kwargs: Mapping[str, Any]
    severity: str
    meta: Mapping[str, Any]
    where: str
    name: str


def read_suite(content: str | bytes, path: str) -> tuple[Expectation, ...]:
    """The expectations of a suite in YAML or JSON; `path` is for messages only.

    Raises ConfigError, with the place, for anything but Great Expectations' own layout, that of before 1.0 included:
    unknown keys, types of expectations it doesn't have, severities other than critical, warning and info.
    """
    suite = _parse(content, path)
    if not isinstance(suite, Mapping) or not isinstance(suite.get("expectations"), list):
        raise ConfigError(f"{path}: a suite is a mapping with a `name` and a list of `expectations`")
    suite = _modernise(suite, _OLDER_SUITE, path)
    _require_known(suite, _SUITE_KEYS, path)
    if suite.get("suite_parameters"):
        raise ConfigError(f"{path}: suite_parameters are not supported: write the values themselves")
    return tuple(_expectation(entry, f"{path}: expectations[{i}]") for i, entry in enumerate(suite["expectations"]))


def _parse(content: str | bytes, path: str) -> Any:
    try:
        # JSON first: YAML's own reader is slower, and takes 1e5 for a text.
        return json.loads(content)
    except ValueError:
        pass
    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: neither YAML nor JSON: {error}") from error


def _modernise(given: Mapping[Any, Any], older: Mapping[str, str], where: str) -> dict[Any, Any]:
    """The mapping with the keys of today in place of those before 1.0."""
    for key in given:
        if older.get(key) in given:
            raise ConfigError(f"{where}: {key!r} is the older name of {older[key]!r}: give one of them")
    return {older.get(key, key): value for key, value in given.items() if key not in _DROPPED}


def _require_known(given: Mapping[Any, Any], known: set[str], where: str) -> None:
    for key in given:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}, {nearest(str(key), known)}")


def _expectation(entry: Any, where: str) -> Expectation:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where}: an expectation is a mapping with `type` and `kwargs`, not {entry!r}")
    entry = _modernise(entry, _OLDER, where)
    _require_known(entry, _KEYS, where)
    kind, kwargs, meta = entry.get("type"), entry.get("kwargs") or {}, entry.get("meta") or {}
    if not isinstance(kind, str):
        raise ConfigError(f"{where}: no `type`, such as expect_column_values_to_not_be_null")
    if kind not in CATALOGUE:
        raise ConfigError(f"{where}: Great Expectations has no {kind!r}, {nearest(kind, CATALOGUE)}")
    if not isinstance(kwargs, Mapping) or not isinstance(meta, Mapping):
        raise ConfigError(f"{where}: `kwargs` and `meta` are mappings")
    severity = entry.get("severity") or "critical"
    if severity not in _SEVERITIES:
        raise ConfigError(f"{where}: severity {severity!r}, {nearest(str(severity), _SEVERITIES)}")
    if "severity" not in entry and meta.get("severity") in _SEVERITIES and meta["severity"] != severity:
        raise ConfigError(f"{where}: meta.severity is read by nobody: put severity beside type and kwargs")
    name = meta.get("name") or kind
    if not isinstance(name, str):
        raise ConfigError(f"{where}: meta.name is a text, not {name!r}")
    return Expectation(kind, dict(kwargs), severity, dict(meta), where, name)
