"""A job's model, or a challenger of it: fetched once, and its inputs held against the table's columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse import models
from lakehouse.engines import runtime

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.planning.plan import Request
    from lakehouse.storage import Location


def obtain(job: Job, request: Request, folder: Path, resolved: models.Resolved | None = None) -> models.FetchedModel:
    """The version of the job's model in `folder`, judged; what there is to say of how it was come by is warned of.

    `resolved`: the version that MLflow says it is, where that was asked already.
    """
    if job.model.by is not None and request.replays is not None and not request.current_model:
        pins = models.pinned(job.model, request.replays["models"])
        return models.fetch(job.model, pins, folder, request.patience)
    if resolved is not None:
        return models.fetch(job.model, resolved, folder, request.patience)
    kept = runtime.cache_dir() / "models"
    fetched = models.obtain(job.model, folder, request.patience, kept, request.now, request.warn)
    if fetched.notice:
        request.warn(fetched.notice)
    return fetched


def recall(job: Job, request: Request, state: Location) -> tuple[models.FetchedModel | None, models.Resolved | None]:
    """The version of the job's model as an earlier run found it, without its files, and as it is resolved now.

    None where it isn't known, and where MLflow has to be asked to fetch it.
    """
    if request.replays is not None or models.is_local(job.model.uri) or not models.may_be_known(job.model):
        return None, None
    seen = models.look_up(job.model)
    if seen is not None:
        return models.recall(job.model, seen, state), seen if seen.files else None
    resolved = models.resolve(job.model, request.patience)
    return models.recall(job.model, resolved, state), resolved


def inputs_of(job: Job, fetched: models.FetchedModel, request: Request, schema: pa.Schema, table: str) -> models.Inputs:
    """The model's inputs. Raises ConfigError where the table or the job's parameters don't fit them."""
    inputs = models.features_of(fetched, job.features, schema, table, set_aside=request.replays is not None)
    if job.model.method is None:
        models.require_params(fetched.params, job.model.params, fetched.uri, by_job=fetched.declared)
    return inputs
