"""A run's scores made again: the input and the model that it had, and the one function that scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import checks, models, sources
from lakehouse.checks import rules
from lakehouse.engines import scratch
from lakehouse.errors import ConfigError, ModelRefused, NotReady, Unavailable
from lakehouse.planning import fetching, isolating, plan, routes
from lakehouse.planning.plan import Request
from lakehouse.planning.trial import scoring_for
from lakehouse.schemas import EXPLANATIONS
from lakehouse.scoring import explanations, looking
from lakehouse.scoring.explanations import Explainer, with_predictor
from lakehouse.scoring.routing import Predictors
from lakehouse.scoring.score import Counters, Predict, Scoring, score_rows
from lakehouse.sources import FRAME, PinnedInput, Unit

if TYPE_CHECKING:
    from lakehouse.config import Job


@dataclass(frozen=True)
class Basis:
    """What scores stand on, by a run's record or by the row itself; what isn't on record is None.

    `models`: where a column says which model a row is for, (value, name, version) of each. `explaining`: what the
    explanations of scores were held against (`explanations.from_record`), where there are any.
    """

    run_id: str
    model: str
    version: str
    digest: str | None
    input_version: int | None
    fingerprint: str | None = None
    models: tuple[tuple[str, ...], ...] = ()
    explaining: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Input:
    """The input as a run read it. `columns`: those that are read; `notes`: where it may be another by now.

    `names`: columns as the job spells them. `lost`: why it can't be had as the run read it, so that it is what is there
    now.
    """

    job: Job
    pinned: PinnedInput
    names: tuple[str, ...]
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()
    lost: ConfigError | None = None

    @property
    def label(self) -> str:
        """What is read, for people."""
        return self.pinned.name + ("" if self.pinned.version is None else f" v{self.pinned.version}")

    def units(self, limit: int | None = None) -> Sequence[Unit]:
        """The input in pieces, read one after the other; about `limit` rows of it, where its system can tell."""
        module = sources.of(self.job.source.type)
        read = module.read(self.pinned, self.columns, limit)
        return module.units(read, self.columns, self.job.model.batch_rows, 1)

    def batches(self, unit: Unit) -> Iterator[pa.RecordBatch]:
        """The rows of a piece. Raises ConfigError where its file is gone."""
        try:
            yield from unit.batches()
        except Unavailable as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise ConfigError(
                f"{self.label}: {getattr(unit, 'path', '')} is gone, so that its scores "
                "can't be made again (VACUUM takes replaced files after a week, or delta.deletedFileRetentionDuration)"
            ) from error


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


def pin_input(job: Job, basis: Basis, columns: Sequence[str] = ()) -> Input:
    """The job's input as the run had it; `columns` are to be read. Raises ConfigError where it can't be had again."""
    source, names = sources.of(job.source.type), _names(job, columns)
    try:
        then = job.model_copy(update={"source": source.at_version(job.source, basis.input_version)})
        pinned = source.pin(then.source, names)
    except ConfigError as error:
        raise ConfigError(f"the input of run {basis.run_id} can't be read again: {error}") from error
    notes = []
    if basis.input_version is not None and pinned.version != basis.input_version:
        notes.append(
            f"{pinned.name} has no versions, and a file of it was written since the run (v{pinned.version} now, "
            f"v{basis.input_version} then): these are the rows that are there now"
        )
    return Input(then, pinned, names, tuple(columns), tuple(notes))


def _names(job: Job, columns: Sequence[str]) -> tuple[str, ...]:
    return (*job.keys, *job.keep, *job.features.rename.values(), *columns)


def _pin_or_now(job: Job, basis: Basis, columns: Sequence[str]) -> Input:
    """As `pin_input`; where the input can't be had as it was, what is there now, which may be the same."""
    try:
        return pin_input(job, basis, columns)
    except ConfigError as error:
        names = _names(job, columns)
        try:
            now = sources.of(job.source.type).pin(job.source, names)
        except ConfigError:
            raise error from None
        return Input(job, now, names, tuple(columns), lost=error)


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
    read = _pin_or_now(job, basis, checks.columns_named(suites.features))
    schema, name = read.pinned.schema, read.pinned.name
    model = _fetch(job, basis, request, folder)
    around = routes.compare_environments(job, model)
    notes = [*read.notes, *filter(None, [around.doubt]), *around.notes]
    if not model.members:
        model = isolating.isolated(job, model)
    inputs = fetching.inputs_of(job, model, request, schema, name)
    on_features = rules.compile_suite(suites.features, schema)
    routed = () if job.model.by is None else (job.model.by,)
    wanted = (*job.keys, *job.keep, *routed, *(f.column for f in inputs.features), *checks.columns_read(on_features))
    columns = tuple(dict.fromkeys([*wanted, *read.pinned.where_columns]))
    carrier, reason = sources.of(job.source.type).carrier(read.pinned, columns)
    if carrier == FRAME:
        raise ConfigError(f"{name} has to be read by Spark itself ({reason}): its scores can't be made again yet")
    read = replace(read, columns=columns)
    same = _is_same(job, read, model, suites, basis)
    if read.lost and not same:
        raise read.lost
    try:
        scoring = scoring_for(job, model, schema, _sample(read))
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
    if model.on_frames:
        raise ConfigError(f"{model.uri} is {model.on_frames}, which Spark applies: its scores can't be made again yet")
    if basis.digest is not None and model.digest != basis.digest:
        raise ModelRefused(
            f"{model.uri} has other bytes (sha256:{model.digest[:8]}…) than when run {basis.run_id} used it "
            f"(sha256:{basis.digest[:8]}…): its scores can't be made again"
        )
    return model


UNKNOWN = f"{EXPLANATIONS} is not compared: what the run's were held against is not on record"


def is_unknown(schema: pa.Schema, basis: Basis, facts: Mapping[str, Any] | None) -> bool:
    """Whether a table has explanations that can't be made again, as far as the run's facts tell."""
    may_have = facts is None or facts.get("explained") is not None
    return EXPLANATIONS in schema.names and basis.explaining is None and may_have


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
