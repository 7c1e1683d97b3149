"""Since when versions have an alias, as far as a registry tells: MLflow keeps no history but tags that teams set."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakehouse.errors import ConfigError
from lakehouse.models.connection import ask
from lakehouse.models.patience import Patience

if TYPE_CHECKING:
    from lakehouse.config import Model as ModelConfig


@dataclass(frozen=True)
class Alias:
    """What a registry says of an alias now: the version that has it, and since when versions have, or had it.

    `since`: (moment, version) of each that says so.
    """

    name: str
    alias: str
    version: str
    since: tuple[tuple[datetime, str], ...]


def tag_of(alias: str) -> str:
    """The tag of a version that says since when it has the alias, such as 2026-01-02T03:04:05Z."""
    return f"lakehouse.alias.{alias}.since"


def alias_in(uri: str) -> tuple[str, str] | None:
    """The name and alias that a model's URI has; None for any other."""
    name, at, alias = uri.removeprefix("models:").strip("/").partition("@")
    return (name, alias) if uri.startswith("models:") and at and name and alias else None


def alias_now(config: ModelConfig, patience: Patience | None = None) -> Alias:
    """Ask the registry for the alias in the job's URI. Raises ConfigError for a tag that can't be right."""
    from lakehouse.models.registry import resolve

    named = alias_in(config.uri)
    assert named is not None  # whoever asks has looked
    (name, alias), version = named, resolve(config, patience).version

    def look(client: Any) -> list[tuple[datetime, str]]:
        versions = client.search_model_versions(f"name = '{name}'")
        return [
            (_moment(one.tags[tag_of(alias)], name, one), str(one.version))
            for one in versions
            if (one.tags or {}).get(tag_of(alias))
        ]

    return Alias(name, alias, version, tuple(sorted(ask(config, patience, look))))


def _moment(text: str, name: str, version: Any) -> datetime:
    where = f"{name} v{version.version}: tag {text!r}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{where} is no time: write one in ISO 8601, such as 2026-01-02T03:04:05Z") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    made = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    if moment < made:
        raise ConfigError(f"{where} lies before {made:%Y-%m-%d %H:%M:%S} UTC, when the version was registered")
    return moment
