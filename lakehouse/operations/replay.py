"""Scoring again what a run set aside, once the model, the data or a rule has been mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lakehouse.errors import ConfigError
from lakehouse.pipeline import Request, Result, score
from lakehouse.planning.naming import state_of
from lakehouse.runs import evidence

if TYPE_CHECKING:
    from lakehouse.config import Job


def replay(job: Job, record: Mapping[str, Any], request: Request, *, current_model: bool = False) -> Result:
    """Score the rows again that a published run of the job set aside, and add those that pass now to its scores, once.

    `record`: the run's own, `job` its job file with the run's date. The model is the version that the run used, unless
    `current_model`. Checks of single rows hold, those of a whole run don't. Raises what `score` raises, and Blocked
    where the run's scores aren't what lives in the slice.
    """
    if job.model.by is not None and not current_model:
        record = {**record, "models": _versions_of(job, record)}
        return score(job, replace(request, replays=record))
    pinned = record["model_version"] != "none" and job.model.uri.startswith("models:/")
    if pinned and not current_model:
        uri = f"models:/{record['model_name']}/{record['model_version']}"
        job = job.model_copy(update={"model": job.model.model_copy(update={"uri": uri})})
    return score(job, replace(request, replays=record, current_model=current_model))


def _versions_of(job: Job, record: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    """The versions that a run with a model a value of a column used: (value, name, version, …) each."""
    facts = evidence.facts_of(state_of(job), record)
    listed = (facts or {}).get("models", {}).get("listed")
    if not listed:
        raise ConfigError(
            f"run {record['run_id']} has not left which versions it used: replay with --current-model, or score again"
        )
    return [[str(text) for text in one[:3]] for one in listed]
