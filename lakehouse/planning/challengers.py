"""A job's challengers: fetched, tried, and the table that their predictions go to beside the scored one.

They are an experiment: one that can't be used is left out with a warning, and the run goes on without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import checks, models, sinks
from lakehouse.errors import ConfigError, ModelRefused
from lakehouse.models.nested import is_nested
from lakehouse.planning import fetching
from lakehouse.planning.trial import try_model
from lakehouse.schemas import LINEAGE, MODEL_VERSION, WARNINGS
from lakehouse.scoring.comparison import Challenger
from lakehouse.scoring.score import NO_CHECKS
from lakehouse.scoring.staging import SideBySide

if TYPE_CHECKING:
    from lakehouse.config import Challenger as ChallengerConfig
    from lakehouse.config import Job
    from lakehouse.planning.plan import Plan, Request


@dataclass(frozen=True)
class FetchedChallenger:
    """A challenger on local disk. `job`: the run's job with this one as its model."""

    label: str
    job: Job
    model: models.FetchedModel
    inputs: models.Inputs


def fetch(
    job: Job, own: models.FetchedModel, request: Request, schema: pa.Schema, table: str, folder: Path
) -> tuple[FetchedChallenger, ...]:
    """Those of the job's challengers that can be used; of the others a warning is given. None where rows are replayed.

    `own`: the job's model; of a challenger that is that very version, called as it is, a warning is given too. Raises
    Unavailable where the registry can't be reached.
    """
    found = []
    for number, challenger in enumerate(job.model.challengers if request.replays is None else ()):
        try:
            changed, fetched = _obtain(job, _as_model(job, challenger), request, folder / f"challenger-{number}")
            inputs = fetching.inputs_of(changed, fetched, request, schema, table)
        except (ConfigError, ModelRefused) as error:
            request.warn(_left_out(challenger.label, error))
            continue
        if _who(fetched) == _who(own) and not _otherwise(job, changed):
            who = f"{own.name} v{own.version}"
            request.warn(f"model.challengers: {challenger.label} ({who}) is the published version itself")
        found.append(FetchedChallenger(challenger.label, changed, fetched, inputs))
    return tuple(found)


def _who(model: models.FetchedModel) -> tuple[str, str, str]:
    return model.name, model.version, model.digest


def _as_model(job: Job, challenger: ChallengerConfig) -> Job:
    """The job with a challenger as its model, which is called and trusted as the model is, unless it says otherwise."""
    own = {"method": challenger.method, "params": challenger.params, "trust": challenger.trust}
    given: dict[str, Any] = {key: value for key, value in own.items() if value is not None}
    if challenger.method == "pyfunc":
        given["method"] = None
    model = job.model.model_copy(update={"uri": challenger.uri, "challengers": (), "signature": None, **given})
    return job.model_copy(update={"model": model})


def _obtain(job: Job, own: Job, request: Request, place: Path) -> tuple[Job, models.FetchedModel]:
    """The challenger, and the job as it is for it; one without a signature takes and gives what the job's says."""
    place.mkdir()
    fetched = fetching.obtain(own, request, place)
    if fetched.on_frames:
        raise ModelRefused(f"it is {fetched.on_frames}, which can only be a job's own model")
    if not fetched.signature and job.model.signature is not None:
        own = own.model_copy(update={"model": own.model.model_copy(update={"signature": job.model.signature})})
        place = place / "declared"
        place.mkdir()
        fetched = fetching.obtain(own, request, place)
    return _with_own_features(own, fetched), fetched


def _with_own_features(job: Job, fetched: models.FetchedModel) -> Job:
    """The job with what it says of features that the challenger takes; what it says of others is no mistake."""
    names = {str(spec.get("name")) for spec in fetched.signature or ()}
    rename = {name: column for name, column in job.features.rename.items() if name in names}
    known = {*names, *rename.values()}
    cast = {name: kind for name, kind in job.features.cast.items() if name in known}
    return job.model_copy(update={"features": job.features.model_copy(update={"rename": rename, "cast": cast})})


def _left_out(label: str, error: Exception) -> str:
    return f"model.challengers: {label} is left out: {error}"


def side_by_side(
    plan: Plan, sample: list[pa.RecordBatch], columns: pa.Schema, lineage: Mapping[str, Any], notes: list[str]
) -> SideBySide | None:
    """The challengers, each tried on the sample, and the schema of what is staged of them; None where none is left.

    `columns`, `lineage`: what the scored rows have. What is said of those that are left out is added to `notes`. Raises
    ConfigError for names that clash, and for values that can't be told apart as texts.
    """
    tried: list[tuple[Challenger, pa.Schema]] = []
    for one in plan.challengers:
        try:
            tried.append(_try(plan, one, sample, columns))
        except (ConfigError, ModelRefused) as error:
            notes.append(_left_out(one.label, error))
    if not tried or plan.beside is None:
        return None
    by = plan.job.comparison.by
    if by is not None and (is_nested(columns.field(by).type) or pa.types.is_binary(columns.field(by).type)):
        raise ConfigError(f"comparison.by: {by!r} is {columns.field(by).type}, whose values have no text: name another")
    versions = {_version_column(c): c.version for c, _ in tried}
    passed_through = set(plan.job.keep) - {by}  # the scored table has them, by the same keys
    fields = [
        *(field for field in columns if field.name not in passed_through),
        *(field for _, predictions in tried for field in predictions),
        *(field for field in LINEAGE if field.name != WARNINGS),
        *(pa.field(name, pa.string()) for name in versions),
    ]
    written = [field.name for field in fields]
    if twice := next((name for name in written if written.count(name) > 1), None):
        raise ConfigError(f"model.challengers: two columns would be called {twice!r}: give a challenger another name")
    earlier = [  # of challengers that are no more
        pa.field(name, kind)
        for name, kind in plan.beside.held.items()
        if name not in written and name not in plan.slice_types
    ]
    constants = {**lineage, **versions, **dict.fromkeys(field.name for field in earlier)}
    challengers = tuple(challenger for challenger, _ in tried)
    return SideBySide(challengers, pa.schema([*fields, *earlier]), plan.beside.target.root, constants, by)


def _try(
    plan: Plan, one: FetchedChallenger, sample: list[pa.RecordBatch], columns: pa.Schema
) -> tuple[Challenger, pa.Schema]:
    """The challenger, and its columns. Raises ConfigError or ModelRefused where it answers otherwise than the model."""
    job, model, config = plan.job, one.model, one.job.model
    trial = try_model(one.job, model, one.inputs, NO_CHECKS, checks.Suites(), plan.pinned.schema, sample)
    names = {output.name for output in trial.scoring.outputs}
    if foreign := sorted(names ^ {name for name in columns.names if name not in (*job.keys, *job.keep)}):
        raise ConfigError(f"its predictions differ from the model's by {', '.join(foreign)}")
    called = (config.method, models.freeze(config.params))
    who = (one.label, model.name, model.version, model.digest)
    challenger = Challenger(*who, *called, trial.scoring, _otherwise(job, one.job))
    kinds = [(challenger.column(field.name), field.type) for field in trial.columns if field.name in names]
    return challenger, pa.schema(kinds)


def _otherwise(job: Job, own: Job) -> tuple[str, ...]:
    """The keys of `model` that the challenger has for itself, and that decide how it is called or whether it may be."""
    differing = [key for key in ("method", "params") if getattr(own.model, key) != getattr(job.model, key)]
    return (*differing, *(["trust"] if set(own.model.trust) - set(job.model.trust) else []))


def _version_column(challenger: Challenger) -> str:
    return f"{MODEL_VERSION}_{challenger.label}"


def missing_columns(plan: Plan, beside: SideBySide | None) -> Mapping[str, tuple[pa.Field, ...] | None]:
    """What the table of comparisons lacks, by its URI; None: all of it."""
    if beside is None or plan.beside is None:
        return {}
    target = plan.beside.target
    return {target.uri: sinks.of(target.type).missing_columns(plan.beside, table_schema(plan, beside))}


def table_schema(plan: Plan, beside: SideBySide) -> pa.Schema:
    """The table of comparisons, with the slice."""
    return pa.schema([*beside.schema, *(pa.field(name, kind) for name, kind in plan.slice_types.items())])
