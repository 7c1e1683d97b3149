"""A job made ready to be served: its model resolved, fetched, judged and tried, and all that scoring has to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse import models, sinks
from lakehouse.checks.rules import Compiled
from lakehouse.errors import NotReady
from lakehouse.operations.receipts import rows
from lakehouse.planning import alone, catalog, fetching
from lakehouse.planning.explaining import explaining_for
from lakehouse.planning.plan import Request, new_run_id
from lakehouse.planning.trial import trial_for
from lakehouse.schemas import MODEL_NAME, MODEL_VERSION, conform, first_rows
from lakehouse.scoring.score import Scoring
from lakehouse.serving.prepared import JobFile, Prepared

if TYPE_CHECKING:
    from lakehouse.config import Job

_SAMPLE_ROWS = 1_024


def prepare(file: JobFile, folder: Path, now: datetime, say: Callable[[str], None]) -> Prepared:
    """Make a job ready, its model's files in `folder`. Nothing of the model runs before it is judged.

    Raises ConfigError, ModelRefused, NotReady where the input has no row to try the model on, and Unavailable.
    """
    published = file.records()
    days = dict.fromkeys([*(row["date"] for row in published[:1] if row["date"]), str(now.date())])
    refused: NotReady | None = None
    for day in days:
        job = file(day)
        request = Request("local", now, new_run_id(), say=lambda event, told: say(str(told.get("message", ""))))
        with catalog.open_job(job, "serve", "local", request.warn) as at_places:
            try:
                return _prepare(file, at_places, folder, request)
            except NotReady as error:
                refused = error
    raise NotReady(f"{refused}; a server tries the model on a few rows before it takes requests") from refused


def _prepare(file: JobFile, job: Job, folder: Path, request: Request) -> Prepared:
    pinned = alone.pin(job)
    resolved = models.resolve(job.model, request.patience)
    folder.mkdir(parents=True, exist_ok=True)
    model = fetching.obtain(job, request, folder, None if job.model.offline == "allowed" else resolved)

    found = alone.fit(job, model, pinned, request, "it can't be served yet")
    sink = rows.scored_sink(job)
    held = {field.name: field.type for field in sinks.of(sink.type).columns(sink) or ()}
    sample, model = alone.first_rows(job, pinned, found.columns, _SAMPLE_ROWS), found.model
    tried = trial_for(job, model, pinned.schema, sample, pinned.name, held)
    if tried.untried or tried.rows is None:
        raise NotReady(f"{pinned.name}: no row of the sample could be given to the model: {tried.untried}")
    members = {one.digest: one.folder for one in model.members.values()}
    one = tried.model or model
    features = {feature.column: feature.required for feature in tried.scoring.features}
    optional = (*(c for c, required in features.items() if not required), *job.keep)
    schema = pa.schema([pinned.schema.field(name).with_nullable(True) for name in found.needed]).remove_metadata()
    return Prepared(
        file=file,
        job=job.job,
        keys=job.keys,
        scoring=_of_rows(tried.scoring),
        schema=schema,
        optional=tuple(name for name in optional if name not in job.keys),
        folders=members or {model.digest: model.folder},
        digest=one.one.digest,
        method=job.model.method,
        params=models.freeze(job.model.params),
        direct=tried.direct,
        explaining=explaining_for(job, tried, model.uri),
        lineage={} if model.members else {MODEL_NAME: model.name, MODEL_VERSION: model.version},
        model=one.loaded_as(tried.predictor, direct=tried.direct).describe(),
        resolved=resolved,
        preloads=model.environment is None and not model.members,
        row=conform(first_rows(tried.rows, 1), schema),
        notes=(*found.notes, *tried.notes),
    )


def _of_rows(scoring: Scoring) -> Scoring:
    """The same with the rules on single rows alone, and rows without a model set aside: a request is no table."""

    def of_rows(suite: Compiled) -> Compiled:
        return Compiled(suite.rows, (), ())

    route = None if scoring.route is None else replace(scoring.route, refuse=False)
    return replace(
        scoring,
        on_features=of_rows(scoring.on_features),
        on_scores=of_rows(scoring.on_scores),
        allowed=None,
        route=route,
    )
