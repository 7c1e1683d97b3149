"""The last look before the tasks: try the model on a few rows, fix the schemas, check the target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import checks, models, schemas, sinks
from lakehouse.planning import challengers
from lakehouse.planning.explaining import explaining_for
from lakehouse.planning.plan import Plan
from lakehouse.planning.quarantine import QuarantineChoice, choose_table
from lakehouse.planning.trial import try_model
from lakehouse.scoring.explanations import with_predictor
from lakehouse.scoring.receipts import Model
from lakehouse.scoring.score import Predict
from lakehouse.scoring.staging import Staging

if TYPE_CHECKING:
    from lakehouse.config import Job

_FOR_CHALLENGERS = 4
"""Batches of the sample that challengers are tried on."""

BATCH_BYTES = 64 << 20
"""A batch of more bytes than this is made of fewer rows; a model makes some copies of what it is given."""


@dataclass(frozen=True)
class Prepared:
    """The model as it is called, what workers are told, the schemas of the two kinds of table, and by URI what each
    lacks; None: all of it.

    `aside` is the table that takes the quarantined rows. `notes`: what there is to say of it all. `untried`: why
    a row of the sample could not be given to the model, where none could, and `guessed` the predictions of which the
    table doesn't tell the type; `tried`: rows that it answered, in the input's columns; `predict` calls it. `doubts`:
    warnings that belong into the run's record.
    """

    model: models.FetchedModel
    staging: Staging
    predict: Predict
    scored: pa.Schema
    quarantine: pa.Schema
    missing_columns: Mapping[str, tuple[pa.Field, ...] | None]
    aside: QuarantineChoice
    notes: tuple[str, ...] = ()
    untried: str = ""
    guessed: tuple[str, ...] = ()
    tried: pa.RecordBatch | None = None
    doubts: tuple[str, ...] = ()


def prepare(
    plan: Plan,
    sample: Iterable[pa.RecordBatch],
    replays: Mapping[str, Any] | None = None,
    predictor: models.Predictor | None = None,
) -> Prepared:
    """Try the model on a few rows of the input, and with what it answers fix the schemas; check the target.

    `predictor`: what calls the model, where Spark applies it (`Carrier.predictor`).

    Raises ConfigError for predictions that the model doesn't give and for a target with another schema,
    ModelRefused when the model raises on every row of the sample.
    """
    job, schema, notes = plan.job, plan.pinned.schema, list[str]()
    sample = iter(sample)
    looked_at = list(islice(sample, _FOR_CHALLENGERS)) if plan.challengers else []
    held = plan.sinks[0].held
    tried = try_model(
        job,
        plan.model,
        plan.inputs,
        plan.on_features,
        plan.suites,
        schema,
        chain(looked_at, sample),
        name=plan.pinned.name,
        constraints=plan.constraints,
        held=held,
        own=held if replays is not None else None,
        allowed=None if replays is not None else job.checks.quarantine.allowed(plan.pinned.rows),
        predictor=predictor,
    )
    slices = [pa.field(name, kind) for name, kind in plan.slice_types.items()]
    aside = choose_table(plan, pa.schema([*_set_aside(plan), *schemas.LINEAGE, *slices]), replays is not None)
    lineage = _lineage(plan, replays)
    explaining = explaining_for(job, tried, plan.model.uri)
    beside = None if tried.untried else challengers.side_by_side(plan, looked_at, tried.columns, lineage, notes)
    staging = Staging(
        run_id=plan.run_id,
        slice=dict(plan.sink.slice),
        scoring=tried.scoring,
        input_schema=pa.schema([schema.field(c) for c in plan.columns]),
        scored_schema=pa.schema([*tried.columns, *_told(job), *schemas.LINEAGE]),
        quarantine_schema=pa.schema([f for f in aside.fit.schema if f.name not in plan.slice_types]),
        scored_root=plan.sink.root,
        quarantine_root=aside.target.root,
        lineage=lineage,
        digest=(tried.model or plan.model).one.digest,
        method=job.model.method,
        params=models.freeze(job.model.params),
        batch_rows=batch_rows(job.model.batch_rows, plan.features, tried.rows),
        unique_keys=job.keys_unique != "ignore" or plan.sink.write == "merge",
        beside=beside,
        direct=tried.direct,
        explaining=explaining,
        provable=() if job.receipts is None else models_of(plan),
    )
    scored_table = pa.schema([*staging.scored_schema, *slices])
    lacks = {s.target.uri: sinks.of(s.target.type).missing_columns(s, scored_table) for s in plan.sinks}
    lacks[aside.target.uri] = aside.fit.missing_columns
    lacks |= challengers.missing_columns(plan, beside)
    model, notes = (tried.model or plan.model).loaded_as(tried.predictor, direct=tried.direct), [*tried.notes, *notes]
    predict = tried.predictor.way(direct=tried.direct)
    return Prepared(
        model,
        staging,
        predict if explaining is None else with_predictor(predict, tried.predictor),
        scored_table,
        aside.fit.schema,
        lacks,
        aside,
        tuple(notes),
        tried.untried,
        tried.guessed,
        tried.rows,
    )


def _set_aside(plan: Plan) -> list[pa.Field]:
    """What is kept of a quarantined row, lineage and slice aside: all that was read of it, and the reasons."""
    job, schema = plan.job, plan.pinned.schema
    routed = [job.model.by] if job.model.by is not None else []
    read = [*job.keys, *job.keep, *routed, *(f.column for f in plan.features), *checks.columns_read(plan.on_features)]
    read += [name for name in job.source.PLACES if name != schemas.UNREADABLE]  # which is among the reasons
    sliced = {name.lower() for name in plan.slice_types}  # the table has a column of the name, with the slice's value
    names = [name for name in dict.fromkeys(read) if name.lower() not in sliced]
    kept = [pa.field(name, schemas.nullable_type(schema.field(name).type)) for name in names]
    return [*kept, pa.field(schemas.REASONS, pa.list_(schemas.REASON))]


def _told(job: Job) -> list[pa.Field]:
    """What the job file asks for beside the predictions of a row."""
    told = [] if job.explanations is None else [pa.field(schemas.EXPLANATIONS, schemas.EXPLAINED)]
    return told if job.receipts is None else [*told, pa.field(schemas.FEATURE_DIGEST, pa.binary())]


def models_of(plan: Plan) -> tuple[Model, ...]:
    """The model of the run, or those of it, as receipts name them."""
    return tuple(Model(one.name, one.version, one.digest) for one in plan.model.members.values() or [plan.model])


def batch_rows(most: int, features: Sequence[schemas.Feature], seen: pa.RecordBatch | None) -> int:
    """Rows of a batch: `most`, or as many as have BATCH_BYTES bytes.

    A row has 8 bytes a feature, or as many as those of the sample, such as arrays and texts, have on average.
    """
    row = 8.0 * len(features)
    if seen is not None and seen.num_rows:
        row = max(row, seen.nbytes / seen.num_rows)
    return max(1, min(most, int(BATCH_BYTES // max(row, 1.0))))


def comments(plan: Plan) -> dict[str, str]:
    """What each column of the scored and the quarantine table is, for whoever describes the table."""
    job, source_comments = plan.job, plan.pinned.comments
    told = {**schemas.COMMENTS, **{c: source_comments.get(c, f"Column of {plan.pinned.name}") for c in plan.columns}}
    for name, prediction in (job.predictions or {}).items():
        part = f"class {prediction.class_!r}" if prediction.class_ is not None else f"output {prediction.output!r}"
        told[name] = f"Prediction of {plan.model.name}: {part}" + (
            f", true from {prediction.threshold:g} on" if prediction.threshold is not None else ""
        )
    return told | dict.fromkeys(job.slice, f"Slice of {job.job}")


def _lineage(plan: Plan, replays: Mapping[str, Any] | None) -> dict[str, Any]:
    # Rows that are scored again are of the input that they were read from at first.
    read = replays["input_version"] if replays is not None else plan.pinned.version
    one = {schemas.MODEL_NAME: plan.model.name, schemas.MODEL_VERSION: plan.model.version}
    return {
        **({} if plan.model.members else one),  # of many models each row says its own
        schemas.RUN_ID: plan.run_id,
        schemas.INPUT_VERSION: read,
        schemas.SCORED_AT: plan.started_at,
        schemas.JOB: plan.job.job,
    }
