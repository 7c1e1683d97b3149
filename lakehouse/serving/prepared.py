"""What is known of a job that has been made ready, in `preparing`: all that a process needs to answer for it.

A process that only answers imports neither the reader of job files nor what plans runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import models
from lakehouse.scoring.explanations import Explaining
from lakehouse.scoring.score import Scoring

if TYPE_CHECKING:
    from lakehouse.config import Job


@dataclass(frozen=True)
class JobFile:
    """A job file and how it is filled in; called with a date it gives the job. None: a run's that had none."""

    conf: str
    target: str | None = None
    overrides: tuple[str, ...] = ()

    def __call__(self, day: str | None) -> Job:
        from lakehouse.config import load_job

        return load_job(self.conf, date=day, target=self.target, overrides=self.overrides, environ=os.environ)

    def records(self) -> list[dict[str, Any]]:
        """The records of runs that published, the newest date and of that the newest run first."""
        from lakehouse.operations import dated
        from lakehouse.planning import catalog, naming
        from lakehouse.runs import ledger

        found = []
        for job in dated.with_states(self):
            with catalog.resolve_names(job, "local") as at_places:
                found += ledger.runs(naming.state_of(at_places), job.job)
        mine = [row for row in found if row["status"] == "published"]
        return sorted(mine, key=lambda row: (row["date"] or "", row["finished_at"]), reverse=True)


@dataclass(frozen=True)
class Prepared:
    """What a server has to know to score for a job; picklable.

    `schema`: the columns that a request brings, in the input's types. `folders`, `digest`, `method`, `params`,
    `direct`: how the model is loaded and called, as of `Staging`. `lineage`: of the model, where it is one.
    `resolved`: the version by which it is seen that the alias has moved. `preloads`: it may be loaded before the
    workers are forked. `row`: one that the model has answered, with which a process is warmed up.
    """

    file: JobFile
    job: str
    keys: tuple[str, ...]
    scoring: Scoring
    schema: pa.Schema
    optional: tuple[str, ...]
    folders: models.Folders
    digest: str
    method: str | None
    params: Any
    direct: bool
    explaining: Explaining | None
    lineage: Mapping[str, str]
    model: Mapping[str, Any]
    resolved: models.Resolved
    preloads: bool
    row: pa.RecordBatch
    notes: tuple[str, ...] = ()
