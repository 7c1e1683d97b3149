"""Models that run in environments of their own: built before a row is read, and held against what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse import models
from lakehouse.engines import runtime
from lakehouse.errors import ModelRefused

if TYPE_CHECKING:
    from lakehouse.config import Job


def isolated(
    job: Job, fetched: models.FetchedModel, say: Callable[[str], None] = lambda message: None
) -> models.FetchedModel:
    """The model with its own environment, where the job asks for one; else as it is.

    Its process is started and loads the model meanwhile. Raises as `build`.
    """
    if job.model.environment != "isolated" or fetched.environment is not None:
        return fetched
    built = build(job, fetched, say)
    ready = replace(fetched, environment=built.environment)
    models.begin(
        models.IsolatedFolder(ready.path, built.environment),
        ready.digest,
        job.model.method,
        models.freeze(job.model.params),
    )
    return ready


def build(job: Job, fetched: models.FetchedModel, say: Callable[[str], None]) -> models.Built:
    """The environment of a judged model, from a cache or built.

    Raises ModelRefused where it can't be built, or is another than the model was logged in for want of pinned versions;
    Unavailable where the package index can't be reached.
    """
    path = Path(fetched.path)
    built = models.environment_for(path, job.model.isolation, runtime.cache_dir() / "environments", say)
    recorded = models.recorded_environment(path)
    there = models.versions_in(recorded.packages, built.versions, built.python)
    decisive = [d for d in models.differences(recorded, there) if d.decides]
    if decisive:
        raise ModelRefused(models.isolation_refusal(decisive, there))
    return built


def in_words(built: models.Built, recorded: models.Recorded) -> str:
    """An environment's versions that decide, and how it was come by."""
    there: Mapping[str, str | None] = models.versions_in(recorded.parts, built.versions, built.python)
    versions = ", ".join(f"{name} {there[name]}" for name in recorded.parts if there.get(name))
    return f"isolated: {versions} ({built.how} as {built.environment.key[:16]}…)"
