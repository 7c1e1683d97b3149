"""A run's figures and its page as a run in MLflow, for a job that asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse import models
from lakehouse.planning.plan import Plan, Request
from lakehouse.runs import evidence
from lakehouse.runs.publication import warn_on_failure
from lakehouse.runs.results import Result
from lakehouse.storage import Location

if TYPE_CHECKING:
    from lakehouse.config import Job


def track(job: Job, plan: Plan, result: Result, state: Location, request: Request) -> None:
    """Log the run's figures and its page to MLflow, and tag the model version with it; what fails is warned of."""
    logged: list[str] = []
    warn_on_failure(
        request, "MLflow did not take its figures", lambda: logged.append(_log(job, plan, result, state, request))
    )
    if logged and job.tracking is not None and job.tracking.tag_versions:
        what = "its model version could not be tagged (tracking.tag_versions: false leaves that out)"
        warn_on_failure(
            request, what, lambda: models.tag_version(job, plan.model.resolved, logged[0], request.patience)
        )


def _log(job: Job, plan: Plan, result: Result, state: Location, request: Request) -> str:
    assert job.tracking is not None  # whoever calls has looked
    page = evidence.page_of(state, plan.run_id)
    figures = {
        "rows_read": result.rows_read,
        "rows_scored": result.rows_scored,
        "rows_quarantined": result.rows_quarantined,
        **{f"seconds_{stage}": value for stage, value in (result.seconds or {}).items()},
    }
    tags = {
        "lakehouse.run_id": plan.run_id,
        "lakehouse.date": str(job.date),
        "lakehouse.status": result.status,
        "lakehouse.model_name": plan.model.name,
        "lakehouse.model_version": plan.model.version,
        "lakehouse.model_digest": plan.model.digest,
        "lakehouse.model_signature": plan.model.signature_digest,
    }
    return models.log_run(job, plan.model.resolved, job.tracking.experiment, figures, tags, page, request.patience)
