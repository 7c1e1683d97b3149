"""Whether a model may be used in this environment: by its versions, and by rows whose predictions are known.

Versions alone decide before any row is read. Golden rows are of the model's input example, else of the first sample of
the input; what the model answered when they were first scored is kept in the job's state folder, under its digest.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import formats, models
from lakehouse.errors import ConfigError, ModelRefused
from lakehouse.planning import isolating
from lakehouse.planning.plan import Plan, Request, Say
from lakehouse.planning.prepare import Prepared
from lakehouse.scoring import golden
from lakehouse.scoring.golden import Expected, Golden
from lakehouse.scoring.inputs import features_in
from lakehouse.storage import Location, content, display_name, write_durably

if TYPE_CHECKING:
    from lakehouse.config import Job


@dataclass(frozen=True)
class Environment:
    """How this process's environment stands to the model's.

    `recorded` and `here`: the versions; `doubt`: what the job lets pass; `notes`: what is only worth a remark.
    `isolated`: the environment of its own that the model runs in, and `here` is of that.
    """

    recorded: models.Recorded
    here: Mapping[str, str | None]
    doubt: str = ""
    notes: tuple[str, ...] = ()
    isolated: models.Built | None = None

    @property
    def expected(self) -> models.Recorded:
        """What the environments of executors must be like: anything, where the model brings its own."""
        if self.isolated is not None:
            return models.Recorded({}, {})
        return models.expected_environment(self.recorded, self.here)


def compare(job: Job, fetched: models.FetchedModel, say: Say = lambda event, values: None) -> Environment:
    """The versions recorded with a model against those here; nothing is imported, and no row is read.

    An isolated model's environment is built, which `say` is told of, and those in it are looked at. Raises ModelRefused
    where one differs that decides, unless the job lets it pass, and as `isolating.build`.
    """
    recorded = models.recorded_environment(Path(fetched.path))
    if job.model.environment == "isolated":
        built = isolating.build(job, fetched, lambda message: say("environment", {"message": message}))
        versions = models.versions_in(recorded.packages, built.versions, built.python)
        notes = tuple(f"environment: isolated: {note}" for note in built.notes)
        return Environment(recorded, versions, notes=notes, isolated=built)
    here = models.environment_here(recorded.packages)
    differing = models.differences(recorded, here)
    decisive = [d for d in differing if d.decides]
    if decisive and job.model.environment == "strict":
        raise ModelRefused(models.environment_refusal(decisive, {"here": here}))
    doubt = models.environment_summary(decisive)
    rest = models.environment_summary([d for d in differing if not d.decides])
    return Environment(
        recorded,
        here,
        f"environment: the model was logged with {doubt}" if doubt else "",
        (f"environment: the model was logged with {rest}, which is let pass",) if rest else (),
    )


def isolate(plan: Plan, found: Environment, request: Request) -> Plan:
    """The plan whose model, and challengers, have environments of their own where the job asks for that.

    Their processes are started, and load the models meanwhile. A challenger that can't have one is left out.
    """
    if found.isolated is None:
        return plan
    model = isolating.isolated(plan.job, plan.model)
    rivals = []
    for rival in plan.challengers:
        try:
            own = isolating.isolated(rival.job, rival.model, lambda m: request.say("environment", {"message": m}))
        except (ConfigError, ModelRefused) as error:
            request.warn(f"model.challengers: {rival.label} is left out: {error}")
            continue
        rivals.append(replace(rival, model=own))
    return replace(plan, model=model, challengers=tuple(rivals))


def require(plan: Plan, found: Environment, tables: Prepared, state: Location) -> Prepared:
    """Golden rows, scored here and held against what is stored; the tables with what workers are held against.

    Raises ModelRefused where the model answers differently now, unless
    the job lets it pass. A model whose answers differ from call to call is only worth a warning.
    """
    doubts = [found.doubt] if found.doubt else []
    strict = plan.job.model.environment != "warn"
    made, doubt = _golden(plan, tables, state)
    doubts += [doubt] if doubt else []
    staging = replace(tables.staging, expected=Expected(found.expected, made, strict))
    return replace(tables, staging=staging, doubts=(*tables.doubts, *doubts))


def _golden(plan: Plan, tables: Prepared, state: Location) -> tuple[Golden | None, str]:
    """The golden rows with today's answers, None where there are none to hold anything against; and a doubt."""
    scoring, predict = tables.staging.scoring, tables.predict
    file = _file(plan, state)
    stored = _stored(file, _key(plan, tables))
    if stored is not None:
        return _hold_against(stored, plan, tables, display_name(file))
    for rows, origin in _candidates(plan, tables):
        first, second = (golden.answer(rows, scoring, predict) for _ in range(2))
        if isinstance(first, str):  # an example that the model can't score: the rows on which it was tried are next
            continue
        if golden.describe_differences(first, second):
            return None, _RANDOM
        return Golden(rows, first, origin), ""
    return None, ""


def keep_golden_rows(plan: Plan, tables: Prepared, state: Location) -> None:
    """Store the golden rows of a run that begins to publish, unless they are there."""
    expected = tables.staging.expected
    found = expected.golden if expected is not None else None
    if found is not None and found.origin:
        _store(_file(plan, state), _key(plan, tables), found)


def _file(plan: Plan, state: Location) -> Location:
    return state.join("golden", f"{plan.job.job}-{plan.model.one.digest[:16]}.json")


_RANDOM = (
    "environment: the model's predictions differ from call to call, so that it can't be told whether it answers "
    "everywhere as it does here"
)


def _hold_against(stored: Golden, plan: Plan, tables: Prepared, file: str) -> tuple[Golden | None, str]:
    scoring, predict = tables.staging.scoring, tables.predict
    now = golden.answer(stored.rows, scoring, predict)
    differs = golden.describe_differences(stored.answers, now)
    if not differs:
        return stored, ""
    if not isinstance(now, str) and golden.describe_differences(now, golden.answer(stored.rows, scoring, predict)):
        return None, _RANDOM
    said = f"the model answers its golden rows differently than when they were first scored: {differs}"
    if plan.job.model.environment != "warn":
        raise ModelRefused(
            f"{said}. Install what it was used with before, train it again, accept it: model: {{environment: warn}}, "
            f"or remove {file} if the new answers are right"
        )
    return None, f"environment: {said}"


def _candidates(plan: Plan, tables: Prepared) -> list[tuple[pa.RecordBatch, str]]:
    """Rows that may become golden ones, the best first, and where each are from."""
    features = tables.staging.scoring.features
    example = models.input_example(Path(plan.model.one.path), features, golden.ROWS)
    found = [] if example is None else [(example, "the model's input example")]
    if tables.tried is not None:
        found.append((features_in(tables.tried.slice(0, golden.ROWS), features), f"a sample of {plan.pinned.name}"))
    return found


def _key(plan: Plan, tables: Prepared) -> str:
    """The digest of what decides how golden rows are called and read: with another one they are made afresh."""
    scoring, staging = tables.staging.scoring, tables.staging
    said = {
        "model": plan.model.one.digest,
        "method": staging.method,
        "params": staging.params,
        "tensors": [[t.name, t.dtype, t.shape, t.columns] for t in scoring.tensors],
        "features": [[f.name, str(f.type)] for f in scoring.features],
        "predictions": [[o.name, o.part, str(o.type)] for o in scoring.outputs],
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def _stored(file: Location, key: str) -> Golden | None:
    held = content(file)
    if held is None:
        return None

    def make(said: Mapping[str, Any]) -> Golden | None:
        return Golden(_batch(said["rows"]), _batch(said["answers"])) if said["key"] == key else None

    return formats.parse(formats.GOLDEN, held, display_name(file), make)


def _store(file: Location, key: str, found: Golden) -> None:
    said = {"key": key, "origin": found.origin, "rows": _text(found.rows), "answers": _text(found.answers)}
    write_durably(file, json.dumps(formats.with_version(formats.GOLDEN, said)).encode())


def _text(batch: pa.RecordBatch) -> str:
    """A batch as Arrow's stream in base64, which keeps every bit."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return base64.b64encode(sink.getvalue()).decode()


def _batch(text: str) -> pa.RecordBatch:
    (batch,) = pa.ipc.open_stream(base64.b64decode(text))
    return batch
