"""A run's scores made again: the input and the model that it had, and the one function that scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import checks, models, sources
from lakehouse.engines import scratch
from lakehouse.errors import ConfigError, ModelRefused, NotReady, Unavailable
from lakehouse.planning import alone, fetching, plan
from lakehouse.planning.plan import Request
from lakehouse.scoring.routing import Predictors
from lakehouse.scoring.score import Predict, Scoring
from lakehouse.sources import PinnedInput, Unit

if TYPE_CHECKING:
    from lakehouse.config import Job


@dataclass(frozen=True)
class Basis:
    """What scores stand on, by a run's record or by the row itself; what isn't on record is None.

    `models`: where a column says which model a row is for, (value, name, version) of each.
    """

    run_id: str
    model: str
    version: str
    digest: str | None
    input_version: int | None
    fingerprint: str | None = None
    models: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Input:
    """The input as a run read it. `columns`: those that are read; `notes`: where it may be another by now."""

    job: Job
    pinned: PinnedInput
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def units(self) -> Sequence[Unit]:
        """The input in pieces, read one after the other."""
        return sources.of(self.job.source.type).units(self.pinned, self.columns, self.job.model.batch_rows, 1)

    def batches(self, unit: Unit) -> Iterator[pa.RecordBatch]:
        """The rows of a piece. Raises ConfigError where its file is gone."""
        try:
            yield from unit.batches()
        except Unavailable as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise ConfigError(
                f"{self.pinned.name} v{self.pinned.version}: {getattr(unit, 'path', '')} is gone, so that its scores "
                "can't be made again (VACUUM takes replaced files after a week, or delta.deletedFileRetentionDuration)"
            ) from error


@dataclass(frozen=True)
class Again:
    """What makes a run's scores again.

    `exact`: nothing in the model rounds otherwise from batch to batch, so that floats are identical. `same`: whether
    input, model and settings are those of the run, by their fingerprint; None where that can't be told. `notes`: what
    may be another than then.
    """

    read: Input
    model: models.FetchedModel
    scoring: Scoring
    predict: Predict
    predictor: models.Predictor
    exact: bool
    same: bool | None
    notes: tuple[str, ...]


def pin_input(job: Job, basis: Basis, columns: Sequence[str] = ()) -> Input:
    """The job's input as the run had it; `columns` are to be read. Raises ConfigError where it can't be had again."""
    source = sources.of(job.source.type)
    then = job.model_copy(update={"source": source.at_version(job.source, basis.input_version)})
    try:
        pinned = source.pin(then.source, [*job.keys, *job.keep, *job.features.rename.values(), *columns])
    except ConfigError as error:
        raise ConfigError(f"the input of run {basis.run_id} can't be read again: {error}") from error
    notes = []
    if basis.input_version is not None and pinned.version != basis.input_version:
        notes.append(
            f"{pinned.name} has no versions, and a file of it was written since the run (v{pinned.version} now, "
            f"v{basis.input_version} then): these are the rows that are there now"
        )
    return Input(then, pinned, tuple(columns), tuple(notes))


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
    read = pin_input(job, basis, checks.columns_named(suites.features))
    model = _fetch(job, basis, request, folder)

    def batches(columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        whole = replace(read, columns=tuple(columns))
        return (batch for unit in whole.units() for batch in whole.batches(unit))

    try:
        found = alone.ready(job, model, read.pinned, request, batches, "its scores can't be made again yet")
    except NotReady as error:
        name = f"{read.pinned.name} v{read.pinned.version}"
        raise ConfigError(f"{name}: it has no row to make a score of again: {error}") from error
    model, scoring, config = found.model, found.trial.scoring, job.model
    predictor = models.load(model.one.folder, model.one.digest, config.method, models.freeze(config.params))
    predict: Predict = predictor.predict
    if scoring.route is not None:
        folders = {one.digest: one.folder for one in model.members.values()}
        params = models.freeze(config.params)
        predict = Predictors(folders, scoring.route, config.method, params, model.one.digest, direct=False)
    same = plan.is_fingerprint(job, read.pinned.fingerprint(found.columns), model, suites, basis.fingerprint)
    notes = (*read.notes, *found.notes, *([_CHANGED] if same is False else ()))
    read = replace(read, columns=found.columns)
    return Again(read, model, scoring, predict, predictor, models.is_exact(predictor), same, notes)


_CHANGED = (
    "the job file, a suite or the input differs from what the run had, by its fingerprint: scores are made again as "
    "the job file says now"
)


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


def basis_of(record: Mapping[str, Any], listed: Sequence[Sequence[str]] = ()) -> Basis:
    """What a run's scores stand on, by its record; `listed`: the models of a run that had many."""
    return Basis(
        str(record["run_id"]),
        record["model_name"],
        record["model_version"],
        record["model_digest"],
        record["input_version"],
        record["fingerprint"],
        tuple(tuple(str(text) for text in one[:3]) for one in listed),
    )
