"""A run's scores made again: the input and the model that it had, and the one function that scores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse import checks, models, sources
from lakehouse.engines import scratch
from lakehouse.errors import ConfigError, ModelRefused, NotReady
from lakehouse.operations.receipts.inputs import Basis, Input, pin_or_now
from lakehouse.planning import alone, fetching, plan
from lakehouse.planning.plan import Request
from lakehouse.planning.trial import scoring_for
from lakehouse.scoring import explanations, looking
from lakehouse.scoring.explanations import Explainer, with_predictor
from lakehouse.scoring.routing import Predictors
from lakehouse.scoring.score import Counters, Predict, Scoring, score_rows

if TYPE_CHECKING:
    from lakehouse.config import Job


@dataclass(frozen=True)
class Again:
    """What makes a run's scores again.

    `exact`: nothing in the model rounds otherwise from batch to batch, so that floats are identical. `same`: whether
    input, model and settings are those of the run, by their fingerprint; None where that can't be told. `notes`: what
    may be another than then. `explainer`: makes the explanations of scores, where the run had any.
    """

    read: Input
    model: models.FetchedModel
    scoring: Scoring
    predict: Predict
    predictor: models.Predictor
    exact: bool
    same: bool | None
    notes: tuple[str, ...]
    explainer: Explainer | None = None

    def score(self, batch: pa.RecordBatch, counters: Counters) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
        """The rows of a batch scored, with their explanations, and those that are set aside."""
        good, bad, numbers = score_rows(batch, self.scoring, self.predict, counters)
        return (good if self.explainer is None else self.explainer.add_to(good, batch, numbers)), bad


@contextmanager
def made_again(job: Job, basis: Basis, request: Request) -> Iterator[Again]:
    """What makes the scores of a run again, until the block ends.

    Raises ConfigError where the input or the model version is gone, or Spark would be needed; ModelRefused where the
    model can't be used here, or has other bytes than the run's.
    """
    with scratch.folder() as folder:
        try:
            yield _made_again(job, basis, request, folder)
        finally:
            models.forget()


def _made_again(job: Job, basis: Basis, request: Request, folder: Path) -> Again:
    suites = checks.suites_of(job.checks)
    read = pin_or_now(job, basis, checks.columns_named(suites.features))
    model = _fetch(job, basis, request, folder)
    found = alone.fit(job, model, read.pinned, request, "its scores can't be made again yet")
    model, read = found.model, replace(read, columns=found.columns)
    notes = [*read.notes, *found.notes]
    same = _is_same(job, read, model, suites, basis)
    if read.lost and not same:
        raise read.lost
    try:
        scoring = scoring_for(job, model, read.pinned.schema, _sample(read))
    except NotReady as error:
        raise ConfigError(f"{read.label}: it has no row to make a score of again: {error}") from error
    config = job.model
    predictor = models.load(model.one.folder, model.one.digest, config.method, models.freeze(config.params))
    predict: Predict = predictor.predict
    if scoring.route is not None:
        folders = {one.digest: one.folder for one in model.members.values()}
        params = models.freeze(config.params)
        predict = Predictors(folders, scoring.route, config.method, params, model.one.digest, direct=False)
    if same is False:
        notes.append(_CHANGED)
    explainer = None
    if basis.explaining is not None:
        explaining = explanations.from_record(basis.explaining)
        explainer = Explainer(explaining, scoring, with_predictor(predictor.predict, predictor))
    return Again(read, model, scoring, predict, predictor, models.is_exact(predictor), same, tuple(notes), explainer)


_CHANGED = (
    "the job file, a suite or the input differs from what the run had, by its fingerprint: scores are made again as "
    "the job file says now"
)


def _is_same(job: Job, read: Input, model: models.FetchedModel, suites: checks.Suites, basis: Basis) -> bool | None:
    """Whether input, model and settings are those of the run, as `Again.same`."""
    module, columns = sources.of(job.source.type), read.columns
    same = plan.is_fingerprint(job, read.pinned.fingerprint(columns), model, suites, basis.fingerprint)
    if same is not False or module.KEEPS_FINGERPRINT:
        return same
    now = module.pin(job.source, read.names)  # of another time, but it may not have changed since
    return plan.is_fingerprint(job, now.fingerprint(columns), model, suites, basis.fingerprint) or None


def _sample(read: Input) -> Iterator[pa.RecordBatch]:
    """The input in small batches, on the first of which the model is tried; all of it where few rows don't do."""
    for limit in (looking.ROWS, None):
        for unit in read.units(limit):
            for batch in read.batches(unit):
                yield from (batch.slice(start, looking.ROWS) for start in range(0, batch.num_rows, looking.ROWS))


def _fetch(job: Job, basis: Basis, request: Request, folder: Path) -> models.FetchedModel:
    """The model version that the run used, judged. Raises ConfigError where it is gone."""
    if basis.models:
        request = replace(request, replays={"models": basis.models})
    elif basis.version != "none" and job.model.uri.startswith("models:/"):
        uri = f"models:/{basis.model}/{basis.version}"
        job = job.model_copy(update={"model": job.model.model_copy(update={"uri": uri})})
    try:
        model = fetching.obtain(job, request, folder)
    except ConfigError as error:
        raise ConfigError(
            f"{basis.model} v{basis.version}, which run {basis.run_id} used, can't be had any more: {error}"
        ) from error
    if basis.digest is not None and model.digest != basis.digest:
        raise ModelRefused(
            f"{model.uri} has other bytes (sha256:{model.digest[:8]}…) than when run {basis.run_id} used it "
            f"(sha256:{basis.digest[:8]}…): its scores can't be made again"
        )
    return model
