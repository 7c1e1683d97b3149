"""A saved model becomes a registered version, or where a step fails nothing: what was made is taken back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import LakehouseError
from lakehouse.models.connection import ask
from lakehouse.models.importing.inspected import Inspected
from lakehouse.models.patience import Patience

if TYPE_CHECKING:
    from lakehouse.config import Model as ModelConfig

EXPERIMENT = "imported-models"
_UPLOAD_SECONDS = 900.0
"""How long a file may take to its store."""


def publish(saved: Path, inspected: Inspected, name: str, alias: str | None, config: ModelConfig) -> str:
    """Upload exactly this folder, register it as a version of `name`, and set the alias; the version's number.

    Raises ConfigError and Unavailable as `connection.ask` does, with what could not be taken back.
    """
    tags = _tags(inspected)
    left = list[str]()

    def register(client: Any) -> str:
        experiment = _experiment(client)
        run = client.create_run(experiment, run_name=name, tags=tags).info.run_id
        with ExitStack() as undo:
            _taken_back(undo, left, f"run {run}", client.set_terminated, run, "FAILED")
            logged = client.create_logged_model(experiment, name=name, source_run_id=run, tags=tags)
            _taken_back(undo, left, f"logged model {logged.model_id}", client.delete_logged_model, logged.model_id)
            client.log_model_artifacts(logged.model_id, str(saved))
            client.finalize_logged_model(logged.model_id, "READY")
            if _make_registered(client, name):
                _taken_back(undo, left, f"registered model {name}", _delete_if_empty, client, name)
            where = logged.artifact_location
            made = client.create_model_version(name, where, run, tags, model_id=logged.model_id)
            _taken_back(undo, left, f"{name} v{made.version}", client.delete_model_version, name, made.version)
            if alias:
                client.set_registered_model_alias(name, alias, made.version)
            undo.pop_all()
        client.set_terminated(run)
        return str(made.version)

    try:
        return ask(config, Patience(_UPLOAD_SECONDS), register)
    except LakehouseError as error:
        if not left:
            raise
        raise type(error)(f"{error}; what was made could not be taken back: {', '.join(left)}") from error


def _taken_back(undo: ExitStack, left: list[str], what: str, delete: Callable[..., Any], *of: Any) -> None:
    """Where a later step fails, delete `what` again; it is added to `left` where that fails, too."""

    def take_back() -> None:
        try:
            delete(*of)
        except Exception:  # the first error is the one to show
            left.append(what)

    undo.callback(take_back)


def _make_registered(client: Any, name: str) -> bool:
    """Make the registered model; False where it is there already."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return False
    return True


def _delete_if_empty(client: Any, name: str) -> None:
    """Delete the registered model, unless somebody else has given it a version meanwhile."""
    if not client.get_registered_model(name).latest_versions:
        client.delete_registered_model(name)


def _tags(inspected: Inspected) -> dict[str, str]:
    python = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    return {
        "imported.file": inspected.path.name,
        "imported.sha256": inspected.digest,
        "imported.kind": inspected.kind,
        "imported.python": python,
        **{f"imported.recorded.{name}": ", ".join(found) for name, found in inspected.versions.items() if found},
    }


def _experiment(client: Any) -> str:
    """The experiment of imported models, made on first use; artifacts lie beside a SQLite database."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    location = None
    if client.tracking_uri.startswith("sqlite:///"):
        location = (Path(client.tracking_uri.removeprefix("sqlite:///")).absolute().parent / "mlartifacts").as_uri()
    return str(client.create_experiment(EXPERIMENT, location))
