"""A job's model made ready to score with no plan and no table to publish to: for scores made again, and for serving."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse import checks, models, sources
from lakehouse.checks import rules
from lakehouse.errors import ConfigError
from lakehouse.planning import fetching, isolating, routes
from lakehouse.scoring import looking
from lakehouse.sources import FRAME, PinnedInput, Unit

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.planning.plan import Request


@dataclass(frozen=True)
class Fitted:
    """A model that fits the input. `needed`: the columns that scoring takes; `columns`: those that are read.

    `model`: with its own environment, where it has one. `notes`: what is worth a remark.
    """

    model: models.FetchedModel
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


def fit(job: Job, model: models.FetchedModel, pinned: PinnedInput, request: Request, against: str) -> Fitted:
    """Hold the model's environment and inputs against what is here. `against`: what Spark would have to do.

    Raises ModelRefused where the model can't be used here, ConfigError where the input doesn't fit it, or Spark would
    have to apply the one or read the other.
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
    notes = (*filter(None, [around.doubt]), *around.notes)
    return Fitted(model, tuple(dict.fromkeys(wanted)), columns, notes)


def first_rows(job: Job, pinned: PinnedInput, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
    """The input in small batches, on the first of which the model is tried, as far as about so many rows need it."""
    source = sources.of(job.source.type)
    units: Sequence[Unit] = source.units(source.read(pinned, columns, rows), columns, job.model.batch_rows, 1)
    for unit in units:
        for batch in unit.batches():
            yield from (batch.slice(start, looking.ROWS) for start in range(0, batch.num_rows, looking.ROWS))
