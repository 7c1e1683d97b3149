"""A prepared job at work: a batch in, and what becomes of each of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse import models
from lakehouse.schemas import INPUT_VERSION, JOB, LINEAGE, RUN_ID, SCORED_AT, WARNINGS
from lakehouse.scoring.explanations import Explainer, with_predictor
from lakehouse.scoring.routing import Predictors
from lakehouse.scoring.score import Predict, score_rows, start_counters
from lakehouse.serving.prepared import Prepared


@dataclass(frozen=True)
class Open:
    """A prepared job whose model is loaded."""

    prepared: Prepared
    predict: Predict
    predictor: models.Predictor | None


@dataclass(frozen=True)
class Scored:
    """The rows of a request. `scored`, `aside`: as `score_batch` gives them; `rows`, `rows_aside`: their numbers.

    `lineage`: the columns that are the same in every row, by name.
    """

    scored: pa.RecordBatch
    aside: pa.RecordBatch | None
    rows: Any
    rows_aside: Any
    lineage: Mapping[str, Any]


def load(prepared: Prepared) -> Open:
    """Load the model into this process, where it isn't yet. Raises ModelRefused where that fails."""
    if prepared.scoring.route is not None:
        route, how = prepared.scoring.route, (prepared.method, prepared.params, prepared.digest)
        return Open(prepared, Predictors(prepared.folders, route, *how, direct=prepared.direct), None)
    folder = prepared.folders[prepared.digest]
    predictor = models.load(folder, prepared.digest, prepared.method, prepared.params)
    return Open(prepared, predictor.way(direct=prepared.direct), predictor)


def warm_up(job: Open) -> None:
    """Score a row, so that what libraries put off until a first call is done."""
    score(job, job.prepared.row, "", datetime.now(UTC))


def score(job: Open, batch: pa.RecordBatch, request: str, now: datetime) -> Scored:
    """Score a batch of the prepared schema: rules, model and reasons are those of a run.

    `request`: its id, which stands where the batch has the run's.
    """
    prepared = job.prepared
    scored, aside, rows = score_rows(batch, prepared.scoring, job.predict, start_counters(prepared.scoring))
    if prepared.explaining is not None and job.predictor is not None:
        explainer = Explainer(prepared.explaining, prepared.scoring, with_predictor(job.predict, job.predictor))
        scored = explainer.add_to(scored, batch, rows)
    if WARNINGS not in scored.schema.names:  # there in every answer, whether or not this one warns
        nothing = pa.array(np.zeros(scored.num_rows + 1, np.int32))
        scored = scored.append_column(WARNINGS, pa.ListArray.from_arrays(nothing, pa.array([], pa.string())))
    numbers = np.arange(batch.num_rows)
    kept = numbers if rows is None else rows
    left = numbers[:0] if rows is None else np.setdiff1d(numbers, rows, assume_unique=True)
    lineage = {**prepared.lineage, RUN_ID: request, INPUT_VERSION: None, SCORED_AT: now, JOB: prepared.job}
    return Scored(scored, aside, kept, left, lineage)


def with_lineage(batch: pa.RecordBatch, lineage: Mapping[str, Any]) -> pa.RecordBatch:
    """Rows with the columns that say where a score comes from, as the scored table has them."""
    for field in LINEAGE:
        if field.name in batch.schema.names:
            continue
        value = None if field.name == WARNINGS else lineage.get(field.name)
        batch = batch.append_column(field, pa.repeat(pa.scalar(value, field.type), batch.num_rows))
    return batch
