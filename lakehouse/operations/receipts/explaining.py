"""One score explained: the run, model and input that it stands on, the features as the model got them, and whether it
comes out the same when it is made again."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.errors import LakehouseError
from lakehouse.operations.difference import predictions_of
from lakehouse.operations.receipts import contributions, describing, rows
from lakehouse.operations.receipts.comparing import compare_row
from lakehouse.operations.receipts.inputs import UNKNOWN, Basis, basis_of, is_unknown
from lakehouse.operations.receipts.places import ASIDE, SCORED, Place, live_place, place_of_run, value_of
from lakehouse.operations.receipts.recomputing import Again, made_again
from lakehouse.operations.receipts.rows import Key
from lakehouse.planning import catalog, naming
from lakehouse.planning.plan import Request
from lakehouse.runs import evidence, ledger
from lakehouse.schemas import (
    EXPLANATIONS,
    INPUT_VERSION,
    MODEL_NAME,
    MODEL_VERSION,
    REASONS,
    RUN_ID,
    SCORED_AT,
    WARNINGS,
)
from lakehouse.scoring import looking
from lakehouse.scoring.equality import largest_of
from lakehouse.scoring.score import fit_rows, start_counters

if TYPE_CHECKING:
    from lakehouse.config import Job


@dataclass(frozen=True)
class Explanation:
    """What there is to say of one score, or of a row without one.

    `status`: scored or quarantined. `live`: whether the row is in the table now. `run`, `model`, `input`, `table`: what
    it stands on and where it is. `features`: name, column, value, type and what the model's library is given it as.
    `rules`: by row rule whether the row passed, None where it didn't count. `stored`, `again`: predictions by name;
    `equal`: whether they are, None where the score couldn't be made again, as `unknown` says. `why`: contributions.
    """

    key: dict[str, Any]
    status: str
    live: bool
    run: dict[str, Any]
    table: dict[str, Any]
    model: dict[str, Any]
    input: dict[str, Any]
    features: list[dict[str, Any]]
    rules: list[dict[str, Any]]
    reasons: list[dict[str, Any]]
    warnings: list[str]
    run_warnings: list[str]
    stored: dict[str, Any]
    again: dict[str, Any]
    again_reasons: list[dict[str, Any]]
    differences: dict[str, Any]
    equal: bool | None
    notes: list[str]
    unknown: list[str]
    why: dict[str, Any] | None = None
    code: int = 0

    def as_json(self) -> dict[str, Any]:
        """As an object."""
        return {name: value for name, value in asdict(self).items() if name != "code"}


def explain(
    job: Job,
    text: str,
    records: Sequence[Mapping[str, Any]],
    request: Request,
    record: Mapping[str, Any] | None = None,
    *,
    why: bool = False,
) -> Explanation:
    """Explain the row with this key, of the run whose record is given, else the one that is live.

    `records`: of the job's runs. `why`: with what each feature contributed. Raises ConfigError where no such row is
    found, with where it was looked for. What can't be found out of one that is there is said in it.
    """
    with catalog.open_job(job, "explain", request.engine, request.warn) as at_places:
        schema = rows.scored_columns(at_places)
        key = rows.key_of(at_places, text, schema)
        place = place_of_run(at_places, schema, key, record) if record else live_place(at_places, schema, key, records)
        record = next((r for r in records if r["run_id"] == place.run), record)
        return _explained(at_places, key, place, record, request, why)


def _explained(
    job: Job, key: Key, place: Place, record: Mapping[str, Any] | None, request: Request, why: bool
) -> Explanation:
    """The explanation of a row that was found."""
    state = naming.state_of(job)
    facts = evidence.facts_of(state, record) if record else None
    basis = basis_of_row(job, place, record, facts)
    unknown = place.status == SCORED and is_unknown(place.found.row.schema, basis, facts)
    stored = _predictions(job, place.found.row) if place.status == SCORED else {}
    told = Explanation(
        key=dict(key),
        status=place.status,
        live=place.live,
        run=_run(place, record, facts),
        table={"table": place.table, "version": place.version, "file": place.found.file},
        model={"uri": _uri(basis), "name": basis.model, "version": basis.version, "digest": basis.digest}
        | {name: record.get(f"model_{name}") if record else None for name in ("library", "called")},
        input={"table": record["input_table"] if record else job.source.name, "version": basis.input_version},
        features=[],
        rules=[],
        reasons=value_of(place.found, REASONS) or [] if place.status == ASIDE else [],
        warnings=value_of(place.found, WARNINGS) or [],
        run_warnings=list((facts or {}).get("warnings", [])),
        stored=stored,
        again={},
        again_reasons=[],
        differences={},
        equal=None,
        notes=[*_notes(place, record), *([UNKNOWN] if unknown else [])],
        unknown=[],
    )
    try:
        with made_again(for_one(job, place), basis, request) as again:
            return _with_again(told, again, key, place, why)
    except LakehouseError as error:
        return replace(told, unknown=[*told.unknown, str(error)], code=error.exit_code)


def for_one(job: Job, place: Place) -> Job:
    """The job with the one model that the row names, where a column says which model a row is for."""
    if job.model.by is None or not value_of(place.found, MODEL_NAME):
        return job
    uri = f"models:/{value_of(place.found, MODEL_NAME)}/{value_of(place.found, MODEL_VERSION)}"
    return job.model_copy(update={"model": job.model.model_copy(update={"uri": uri, "by": None})})


def basis_of_row(
    job: Job, place: Place, record: Mapping[str, Any] | None, facts: Mapping[str, Any] | None = None
) -> Basis:
    """What the row stands on: by the row itself, and the rest by its run's record."""
    known = basis_of(record) if record else Basis(place.run, "", "", None, None)
    name, version, read = (value_of(place.found, column) for column in (MODEL_NAME, MODEL_VERSION, INPUT_VERSION))
    alike = (name, version) == (known.model, known.version)
    return replace(
        known,
        model=name or known.model,
        version=version or known.version,
        digest=known.digest if alike else None,
        input_version=read if read is not None else known.input_version,
        fingerprint=known.fingerprint if alike and read == known.input_version else None,
        explaining=(facts or {}).get("explaining") if alike else None,
    )


def _uri(basis: Basis) -> str:
    return f"models:/{basis.model}/{basis.version}" if basis.version != "none" else basis.model


def _run(place: Place, record: Mapping[str, Any] | None, facts: Mapping[str, Any] | None) -> dict[str, Any]:
    names = ("status", "date", "started_at", "finished_at", "generation", "engine", "carrier", "message")
    known = {name: record.get(name) if record else None for name in names}
    known["started_at"] = known["started_at"] or value_of(place.found, SCORED_AT)
    times = {name: time.isoformat() for name in ("started_at", "finished_at") if (time := known[name]) is not None}
    return {"run_id": place.run, **known, **times, "program": (facts or {}).get("program")}


def _notes(place: Place, record: Mapping[str, Any] | None) -> list[str]:
    notes = []
    if record is None:
        said = f"run {place.run} is not on record: what is known of it is what the row says"
        notes.append(f"{said}; {ledger.RECONCILE}")
    if place.found.beside:
        notes.append(f"{place.found.beside} more rows of the table have this key: explained is one of them")
    return notes


def _predictions(job: Job, row: pa.RecordBatch) -> dict[str, Any]:
    """A row's predictions, and their explanation where it has one."""
    told = {name: row.column(name)[0].as_py() for name in predictions_of(job, row.schema)}
    why = row.column(EXPLANATIONS)[0].as_py() if EXPLANATIONS in row.schema.names else None
    return told if why is None else {**told, EXPLANATIONS: why}


def _with_again(told: Explanation, again: Again, key: Key, place: Place, why: bool) -> Explanation:
    """The explanation with the row's input, its features, and the score made again."""
    read, scoring = again.read, again.scoring
    row = rows.in_input(rows.narrowed(read, key), key)
    source = {
        **told.input,
        "table": read.pinned.name,
        "file": row.file if row else None,
        "where": read.job.source.where,
    }
    told = replace(told, input=source, notes=[*told.notes, *again.notes], model=told.model | _called(again))
    if row is None:
        what = f"{read.label} has no row with {rows.in_words(key)}"
        return replace(told, unknown=[*told.unknown, f"{what}: the score stands on a row that is not there"], code=3)
    notes = [*told.notes, f"{row.beside} more rows of the input have this key"] if row.beside else told.notes
    counters = start_counters(scoring)
    scored, aside = again.score(row.row, counters)
    told = replace(
        told,
        notes=notes,
        features=describing.features(row.row, again),
        rules=describing.rules_on(again, counters),
        again=_predictions(read.job, scored) if scored.num_rows else {},
        again_reasons=aside.column(REASONS)[0].as_py() if aside is not None else [],
    )
    told = _compared(told, again, scored, place)
    if why and scored.num_rows:
        return replace(told, why=contributions.contributions(again, row.row, _baseline(again)))
    return told


def _called(again: Again) -> dict[str, Any]:
    model = again.model.loaded_as(again.predictor)
    return {"uri": again.model.uri, "digest": again.model.digest, "library": model.library}


def _compared(told: Explanation, again: Again, scored: pa.RecordBatch, place: Place) -> Explanation:
    """The explanation with whether the score, or being set aside, comes out the same."""
    if place.status == ASIDE:
        alike = not scored.num_rows and _names(told.reasons) == _names(told.again_reasons)
        return replace(told, equal=alike, code=0 if alike else 3)
    if not scored.num_rows:
        return replace(told, equal=False, code=3, differences={"*": {"stored": told.stored, "again": None}})
    job = again.read.job
    row, largest = place.found.row, functools.partial(_largest, job, place)
    explained = [EXPLANATIONS] if again.explainer is not None and EXPLANATIONS in row.schema.names else []
    found = compare_row(job, row, scored, [*predictions_of(job, row.schema), *explained], again.exact, largest)
    return replace(
        told,
        stored={name: found.stored.get(name, value) for name, value in told.stored.items()},
        notes=[*told.notes, *found.notes],
        differences=found.differences,
        equal=not found.differences,
        code=3 if found.differences else 0,
    )


def _largest(job: Job, place: Place, name: str) -> float:
    """The largest value of a prediction in its run: the last places of it are rounding."""
    parts = rows.at_version(job, [name], place.version, {RUN_ID: place.run})
    return max((largest_of(batch.column(name)) for _, batch in parts), default=0.0)


def _names(reasons: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Any]]:
    return sorted((str(r["rule"]), str(r["column"])) for r in reasons)


def _baseline(again: Again) -> pa.RecordBatch:
    """Some rows of the input that the model can be given, against which a row's features are held."""
    parts, count = list[pa.RecordBatch](), 0
    for unit in again.read.units(looking.ROWS):
        for batch in again.read.batches(unit):
            parts.append(fit_rows(batch, again.scoring)[1].slice(0, contributions.ROWS - count))
            count += parts[-1].num_rows
            if count >= contributions.ROWS:
                return pa.concat_batches(parts)
    return pa.concat_batches(parts)
