"""A look at what a registry says of a version, without MLflow: to import it takes longer than a run without changes.

It is a look and no more: what it can't tell for certain, MLflow is asked. Files that lie in a folder on this machine
are taken from there; all others MLflow fetches.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import urlencode

from lakehouse.models.registry import Resolved, is_local, local_path

if TYPE_CHECKING:
    from lakehouse.config import Model as ModelConfig

_SECONDS = 5
_URI = re.compile(r"models:/+([^/@]+)(?:@([^/@]+)|/([0-9]+))")
_LOGGED = re.compile(r"models:/(m-[0-9a-f]{32})")
_OTHERWISE = re.compile(r"MLFLOW_(?:TRACKING_(?!URI$)|WORKSPACE|REGISTRY_(?!URI$)|.*_(?:CERT|AUTH|PROXY))|DATABRICKS_")
"""Settings by which MLflow asks otherwise than here: logins, certificates, workspaces."""


def look_up(config: ModelConfig) -> Resolved | None:
    """The version that the job's URI names now; None where only MLflow can tell."""
    asked = _URI.fullmatch(config.uri)
    if "mlflow" in sys.modules or asked is None or any(map(_OTHERWISE.match, os.environ)):
        return None
    name, alias, version = asked.groups()
    tracking = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    registry = config.registry_uri or (None if config.tracking_uri else os.environ.get("MLFLOW_REGISTRY_URI"))
    server = registry or tracking or ""
    if (alias or "").lower() == "latest":
        return None
    if server.startswith("sqlite:///"):
        return _in_database(Path(server.removeprefix("sqlite:///")), name, alias, version)
    if re.fullmatch(r"https?://[^@]+", server):
        return _on_server(server.rstrip("/"), name, alias, version)
    return None


def _in_database(file: Path, name: str, alias: str | None, version: str | None) -> Resolved | None:
    """By MLflow's own tables; more than one row means workspaces, which are MLflow's to choose from."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_SECONDS)) as database:
            if alias:
                said = "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = ?"
                aliases = database.execute(said, (name, alias)).fetchall()
                version = str(aliases[0][0]) if len(aliases) == 1 else None
            said = "SELECT source, creation_time, current_stage FROM model_versions WHERE name = ? AND version = ?"
            found = database.execute(said, (name, version)).fetchall()
            said = "SELECT artifact_location FROM logged_models WHERE model_id = ? AND lifecycle_stage = 'active'"
            logged = [database.execute(said, (id_,)).fetchall() for id_ in _LOGGED.findall(str(found[:1]))]
    except (sqlite3.Error, OSError):
        return None
    if len(found) != 1 or version is None or str(found[0][2]).startswith("Deleted"):
        return None
    place = str(logged[0][0][0]) if logged and len(logged[0]) == 1 else ""
    source, created, _ = found[0]
    return _resolved(name, version, source, created, place)


def _on_server(server: str, name: str, alias: str | None, version: str | None) -> Resolved | None:
    """By MLflow's REST API, version 2.0: `registered-models/alias` and `model-versions/get`."""
    from urllib.request import urlopen

    what, given = (
        ("registered-models/alias", {"alias": alias}) if alias else ("model-versions/get", {"version": version})
    )
    try:
        with urlopen(f"{server}/api/2.0/mlflow/{what}?{urlencode({'name': name, **given})}", timeout=_SECONDS) as reply:
            said: Any = json.load(reply)["model_version"]
        place = ""
        if logged := _LOGGED.match(str(said["source"])):
            with urlopen(f"{server}/api/2.0/mlflow/logged-models/{logged[1]}", timeout=_SECONDS) as reply:
                place = str(json.load(reply)["model"]["info"]["artifact_uri"])
        return _resolved(name, str(said["version"]), said["source"], said["creation_timestamp"], place)
    except (URLError, OSError, ValueError, KeyError, TypeError):
        return None


def _resolved(name: str, version: str, source: Any, created: Any, place: str = "") -> Resolved | None:
    """As `registry.resolve` has it. `place`: where the files of a logged model are that is the source."""
    origin = f"{source} {created}" if source and created else ""
    files = _folder_here(str(place or source))
    return Resolved(f"models:/{name}/{version}", name, version, origin, files=files) if origin else None


def _folder_here(place: str) -> str:
    """A folder on this machine that has a model's files; empty for any other place."""
    if not is_local(place):
        return ""
    path = local_path(place)
    return str(path) if path.is_absolute() and (path / "MLmodel").is_file() else ""
