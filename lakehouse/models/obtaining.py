"""The model of a run: from its registry, or from what is kept of earlier runs where the job allows that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.errors import Unavailable, machine_message
from lakehouse.models import cache
from lakehouse.models.many import fetch, resolve
from lakehouse.models.patience import Patience
from lakehouse.models.registry import FetchedModel, Resolved, is_local, judged

if TYPE_CHECKING:
    from lakehouse.config import Model as ModelConfig


def obtain(
    config: ModelConfig, folder: Path, patience: Patience, cached: Path, now: datetime, warn: Callable[[str], None]
) -> FetchedModel:
    """Resolve the job's model once, fetch it into `folder` and judge it.

    With `model.offline: allowed` each version is kept in the folder `cached`, or where `model.cache` says. One that the
    registry still describes as it did is not downloaded again; its bytes are held against the digest that was
    taken when they came. Where the registry does not answer, the version that this URI was last resolved to is taken,
    and `notice` of the model says so. Raises as `resolve` and `fetch` do; what a registry refuses is never replaced.
    """
    if config.offline != "allowed" or is_local(config.uri):
        return fetch(config, resolve(config, patience), folder, patience)
    root = Path(config.cache).expanduser().absolute() if config.cache else cached
    try:
        resolved = resolve(config, patience)
    except Unavailable as error:
        return _last(config, root, folder, error)
    try:
        model = _kept(config, root, resolved, folder) or fetch(config, resolved, folder, patience)
    except Unavailable as error:
        if resolved.origin:  # the registry has answered: another version than it names would be a wrong one
            raise
        return _last(config, root, folder, error)
    try:
        cache.keep(config, root, resolved, model, now)
    except OSError as error:
        warn(f"model.offline: {resolved.uri} can't be kept in {root}: {machine_message(error) or error}")
    return model


def _kept(config: ModelConfig, root: Path, resolved: Resolved, folder: Path) -> FetchedModel | None:
    """The version from the cache, None where it is not there as it was."""
    kept = cache.version_of(config, root, resolved)
    path = cache.take(config, root, kept, folder) if kept else None
    return judged(config, resolved, path) if path else None


def _last(config: ModelConfig, root: Path, folder: Path, error: Unavailable) -> FetchedModel:
    """The version that the URI was last resolved to. Raises the error where there is none."""
    kept = cache.last_of(config, root)
    if kept is None:
        raise Unavailable(f"{error}; model.offline: no version of {config.uri} is kept in {root}") from error
    path = cache.take(config, root, kept, folder)
    if path is None:
        raise Unavailable(
            f"{error}; model.offline: what was kept of {kept.uri} in {root} is gone or has other bytes"
        ) from error
    when = datetime.fromisoformat(kept.at).strftime("%Y-%m-%d %H:%M")
    what = f"version {kept.version}" if kept.version != "none" else f"sha256:{kept.digest[:8]}…"
    notice = f"registry not reached; {config.uri} was {what} on {when} UTC, and that is used ({error})"
    return judged(config, kept.resolved, path, notice)
