"""A slice's former generation put back by one commit: its very files, or in Snowflake its rows, by Time Travel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import observe, sinks
from lakehouse.errors import Blocked, ConfigError
from lakehouse.observe.events import ROLLBACK
from lakehouse.planning import catalog, naming
from lakehouse.planning.naming import identity_of, staged_files
from lakehouse.planning.plan import Request
from lakehouse.runs import lease, ledger
from lakehouse.runs.ledger import Intent
from lakehouse.runs.publication import carry_out, finish_earlier
from lakehouse.runs.results import Result, restored_run, rolled_back
from lakehouse.schemas import nullable_type
from lakehouse.sinks.target import COPIED, SINK, SliceRequest, Target, slice_name, uri_of

if TYPE_CHECKING:
    from lakehouse.config import Job, Sink
    from lakehouse.storage import Location


def rollback(job: Job, request: Request, run: str | None = None) -> Result:
    """Put back what a run had published in the job's slice: by default the generation before the one that is live.

    It is a run of its own, with a record; a score with the input, model and settings that were rolled back is blocked
    from then on, until something of them changes or it is asked for. One that was cut off is finished instead. Raises
    ConfigError where there is no such generation, its files are gone, or the table can't be rolled back.
    """
    with observe.watch(job, request, ROLLBACK) as watched:
        with catalog.open_job(job, f"rollback={request.run_id}", request.engine, request.warn) as at_places:
            state = naming.state_of(at_places)
            result = finish_earlier(at_places, state, request, watched.finished)
            restored = restored_run({"message": result.message}) if result else None
            if result is None or restored is None or not restored.startswith(run or restored):
                result = _alone(at_places, state, request, run, watched)
            # else it was this one that was cut off: to do it again would undo it
        return watched.ended(result)


def _alone(job: Job, state: Location, request: Request, run: str | None, watched: observe.Watched) -> Result:
    """Roll back while a lease says to whoever takes files away that some may be put back."""
    for sink in job.sinks:
        _require_replacing(sink)
    folders = [sinks.of(s.type).folder(s) or staged_files(job, SINK) for s in job.sinks]
    with lease.hold(folders, request.run_id, state, request.warn, restores=True):
        return _rollback(job, state, request, run, watched)


def _rollback(job: Job, state: Location, request: Request, run: str | None, watched: observe.Watched) -> Result:
    identity = identity_of(job)
    records = [r for r in ledger.runs(state, job.job) if (r["identity"], r["status"]) == (identity, "published")]
    first = job.sinks[0]
    live, _ = sinks.of(first.type).generation(uri_of(first), identity)
    now = next((r for r in records if r["generation"] == live), None)
    former = _chosen(records, live, job, run)
    targets = tuple(_target(job, sink, former, now) for sink in job.sinks)
    record = {
        **former,
        "run_id": request.run_id,
        "started_at": request.now,
        "generation": targets[0].generation,
        "rows_per_second": 0.0,
        "seconds": {},
        "work": {},
        "alias": None,
        "message": rolled_back(former["run_id"], now["run_id"] if now else None, live),
    }
    intent = Intent(request.run_id, identity, targets[0].uri, "published", targets, record)
    watched.judged(intent, state=state)
    ledger.save_intent(state, intent)
    result = carry_out(intent, state, request)
    watched.stage("publish")
    return result


def _require_replacing(sink: Sink) -> None:
    if sink.write != "replace":
        raise ConfigError(f"{sink.table}: only a slice that is replaced can be rolled back, not write: {sink.write}")


def _chosen(records: Sequence[dict[str, Any]], live: int, job: Job, run: str | None) -> dict[str, Any]:
    """The record of the run whose rows are put back."""
    where = slice_name({name: str(value) for name, value in job.slice.items()})
    earlier = [r for r in records if r["generation"] < live]
    if not live or not earlier:
        raise ConfigError(f"{job.job}: {where} has no earlier generation on record: there is nothing to put back")
    if run is None:
        return earlier[0]
    found = ledger.choose_record(records, job.job, run)
    if found["generation"] == live:
        raise ConfigError(f"--run: run {found['run_id']} is what is live in {where}")
    return found


def _target(job: Job, sink: Sink, former: Mapping[str, Any], now: Mapping[str, Any] | None) -> Target:
    """What is committed to one table."""
    module, uri = sinks.of(sink.type), uri_of(sink)
    name = module.display_name(uri)
    version = next((s["version"] for s in former["sinks"] if (s["kind"], s["table"]) == (SINK, name)), None)
    if version is None:
        raise ConfigError(f"{name}: run {former['run_id']} is not on record as having published to it")
    plain = Target(SINK, uri, "replace", identity_of(job), job.job, {}, 0, former["fingerprint"], type=sink.type)
    if not module.IN_PLACE:
        plain = replace(plain, staged=staged_files(job, SINK).uri)
    # Whatever the engine: of a table that only Spark writes it is said below that it can't be rolled back at all.
    standing = module.inspect_table(plain, None, SliceRequest(job.slice, "spark", rescore=True))
    if standing.target.how == COPIED:
        raise ConfigError(f"{name}: only Spark can write to this table ({'; '.join(standing.why)}), which moves data")
    found = module.former(standing.target, version)
    if not found.rows:
        raise Blocked(f"{name}: nothing was live in {slice_name(standing.target.slice)} at version {version}")
    schema = found.schema or pa.schema([(column, nullable_type(kind)) for column, kind in standing.held.items()])
    target = replace(standing.target, restores=found.runs, undoes=now["fingerprint"] if now else "")
    metadata = {
        "job": job.job,
        "slice": dict(target.slice),
        "generation": target.generation,
        "model": former["model_name"],
        "model_version": former["model_version"],
        "model_digest": former["model_digest"],
        "input": former["input_table"],
        "input_version": former["input_version"],
        "fingerprint": target.fingerprint,
        "rolled_back_to": former["run_id"],
        "rows": found.rows,
    }
    return replace(target.with_schema(schema), files=found.files, rows=found.rows, metadata=metadata)
