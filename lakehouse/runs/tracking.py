"""A run's figures and its page as a run in MLflow, for a job that asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse import models
from lakehouse.planning.plan import Plan
from lakehouse.runs import evidence
from lakehouse.runs.results import Result
from lakehouse.storage import Location

if TYPE_CHECKING:
    from lakehouse.config import Job


def track(job: Job, plan: Plan, result: Result, state: Location) -> None:
    """Log the run's figures and its page to MLflow."""
    assert job.tracking is not None  # whoever calls has looked
    page = evidence.page_of(state, plan.run_id)
    figures = {
        "rows_read": result.rows_read,
        "rows_scored": result.rows_scored,
        "rows_quarantined": result.rows_quarantined,
        **{f"seconds_{stage}": value for stage, value in (result.seconds or {}).items()},
    }
    tags = {"lakehouse.run_id": plan.run_id, "lakehouse.date": str(job.date), "lakehouse.status": result.status}
    models.log_run(job, plan.model.resolved, job.tracking.experiment, figures, tags, page)
