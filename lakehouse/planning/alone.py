"""A job's model made ready to score with no plan and no table to publish to: for scores made again, and for serving."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse import checks, models, sources
from lakehouse.checks import rules
from lakehouse.errors import ConfigError
from lakehouse.planning import fetching, isolating, routes
from lakehouse.planning.trial import Held, Trial, trial_for
from lakehouse.scoring import looking
from lakehouse.sources import FRAME, PinnedInput, Unit

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.planning.plan import Request


@dataclass(frozen=True)
class Alone:
    """A model that was tried on the input. `needed`: the columns that scoring takes; `columns`: those that are read.

    `model`: with its own environment, where it has one. `notes`: what is worth a remark.
    """

    model: models.FetchedModel
    trial: Trial
    needed: tuple[str, ...]
    columns: tuple[str, ...]
    notes: tuple[str, ...]


def pin(job: Job) -> PinnedInput:
    """The job's input as it is now. Raises ConfigError where it lacks what the job names."""
    named = checks.columns_named(checks.suites_of(job.checks).features)
    found: PinnedInput = sources.of(job.source.type).pin(
        job.source, [*job.keys, *job.keep, *job.features.rename.values(), *named]
    )
    return found


def ready(
    job: Job,
    model: models.FetchedModel,
    pinned: PinnedInput,
    request: Request,
    read: Callable[[Sequence[str]], Iterator[pa.RecordBatch]],
    against: str,
    held: Held | None = None,
) -> Alone:
    """Hold the model's environment and inputs against what is here, and try it on the input's first rows.

    `read`: the input's batches of these columns; `against`: what can't be done where Spark would have to read it;
    `held`: as of `try_model`.
    Raises ModelRefused where the model can't be used here, ConfigError where the input doesn't fit it, NotReady where
    there is no row.
    """
    schema, name = pinned.schema, pinned.name
    if model.on_frames:
        raise ConfigError(f"{model.uri} is {model.on_frames}, which Spark applies: {against}")
    around = routes.compare_environments(job, model)
    if not model.members:
        model = isolating.isolated(job, model)
    inputs = fetching.inputs_of(job, model, request, schema, name)
    on_features = rules.compile_suite(checks.suites_of(job.checks).features, schema)
    routed = () if job.model.by is None else (job.model.by,)
    wanted = (*job.keys, *job.keep, *routed, *(f.column for f in inputs.features), *checks.columns_read(on_features))
    columns = tuple(dict.fromkeys([*wanted, *pinned.where_columns]))
    carrier, reason = sources.of(job.source.type).carrier(pinned, columns)
    if carrier == FRAME:
        raise ConfigError(f"{name} has to be read by Spark itself ({reason}): {against}")
    trial = trial_for(job, model, schema, _in_pieces(read(columns)), name, held)
    notes = (*filter(None, [around.doubt]), *around.notes)
    return Alone(model, trial, tuple(dict.fromkeys(wanted)), columns, notes)


def first_rows(job: Job, pinned: PinnedInput, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
    """The input in batches, as far as a sample of about so many rows needs it."""
    source = sources.of(job.source.type)
    units: Sequence[Unit] = source.units(source.read(pinned, columns, rows), columns, job.model.batch_rows, 1)
    for unit in units:
        yield from unit.batches()


def _in_pieces(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Small batches, on the first of which the model is tried."""
    for batch in batches:
        yield from (batch.slice(start, looking.ROWS) for start in range(0, batch.num_rows, looking.ROWS))
