"""A slice's former generation put back by one commit: its very files, or in Snowflake its rows, by Time Travel.

Asked for once more it changes nothing, so that one that was cut off may be repeated, and two at once do no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import observe, sinks
from lakehouse.errors import Blocked, ConfigError, Unavailable
from lakehouse.observe.events import ROLLBACK
from lakehouse.planning import catalog, naming
from lakehouse.planning.naming import identity_of, staged_files
from lakehouse.planning.plan import Request
from lakehouse.runs import lease, ledger
from lakehouse.runs.ledger import Intent
from lakehouse.runs.publication import carry_out, finish_earlier
from lakehouse.runs.restoring import is_rollback, restored_run, rolled_back, source_of
from lakehouse.runs.results import Result, from_record
from lakehouse.schemas import nullable_type
from lakehouse.sinks.target import COPIED, SINK, SliceRequest, Target, overtaken_error, slice_name, uri_of
from lakehouse.storage import display_name

if TYPE_CHECKING:
    from lakehouse.config import Job, Sink
    from lakehouse.storage import Location


@dataclass(frozen=True)
class _Standing:
    """What is on record of the slice: its `records`, the `live` generation, and the record of that, if there is one."""

    records: Sequence[dict[str, Any]]
    live: int
    now: dict[str, Any] | None


def rollback(job: Job, request: Request, run: str | None = None) -> Result:
    """Put back what a run had published in the job's slice: by default the generation before the one that is live.

    It is a run of its own, with a record; a score with the input, model and settings that were rolled back is blocked
    from then on, until something of them changes or it is asked for. One that was cut off is finished instead. Where
    those rows are live already, as after a rollback by default, the result is "unchanged". Raises ConfigError where
    there is no such generation, its files are gone, or the table can't be rolled back.
    """
    with observe.watch(job, request, ROLLBACK) as watched:
        with catalog.open_job(job, f"rollback={request.run_id}", request.engine, request.warn) as at_places:
            state = naming.state_of(at_places)
            live = _generation(at_places)
            result = finish_earlier(at_places, state, request, watched.finished)
            restored = restored_run({"message": result.message}) if result else None
            if result is None or restored is None or not restored.startswith(run or restored):
                live = live if result is None else _generation(at_places)
                result = _alone(at_places, state, request, run, live, watched)
            # else it was this one that was cut off
        return watched.ended(result)


def _generation(job: Job) -> int:
    first = job.sinks[0]
    return sinks.of(first.type).generation(uri_of(first), identity_of(job))[0]


def _alone(job: Job, state: Location, request: Request, run: str | None, live: int, watched: observe.Watched) -> Result:
    """Roll back while a lease says to whoever takes files away that some may be put back."""
    for sink in job.sinks:
        _require_replacing(sink)
    folders = [sinks.of(s.type).folder(s) or staged_files(job, SINK) for s in job.sinks]
    with lease.hold(folders, request.run_id, state, request.warn, restores=True):
        for folder in folders:  # only now: whoever begins to sweep from here on sees that lease
            if busy := lease.sweeps(folder):
                name = display_name(folder)
                raise Unavailable(f"{name}: files are being taken away ({busy[0]}): roll back when that has ended")
        return _rollback(job, state, request, run, live, watched)


def _rollback(
    job: Job, state: Location, request: Request, run: str | None, live: int, watched: observe.Watched
) -> Result:
    # Read after the generation, and after the intents: whoever has published it is on record now, or was finished.
    stands = _standing(job, state, live)
    former = _chosen(stands, job, run)
    source = source_of(stands.records, former)
    found = [_target(job, sink, former, stands) for sink in job.sinks]
    if all(are_live for _, are_live in found):
        return _unchanged(former, source, stands, job)
    for target, are_live in found:
        if are_live and not sinks.of(target.type).IN_PLACE:
            name = sinks.of(target.type).display_name(target.uri)
            raise ConfigError(
                f"{name} has the rows of run {source} already, another table has not: score the date again"
            )
    targets = tuple(target for target, _ in found)
    if targets[0].generation != live + 1:
        name = sinks.of(targets[0].type).display_name(targets[0].uri)
        raise overtaken_error(replace(targets[0], generation=live + 1), name, targets[0].generation - 1)
    record = {
        **former,
        "run_id": request.run_id,
        "started_at": request.now,
        "generation": targets[0].generation,
        "rows_per_second": 0.0,
        "seconds": {},
        "work": {},
        "alias": None,
        "message": rolled_back(source, stands.now["run_id"] if stands.now else None, live),
    }
    intent = Intent(request.run_id, identity_of(job), uri_of(job.sinks[0]), "published", targets, record)
    watched.judged(intent, state=state)
    ledger.save_intent(state, intent)
    result = carry_out(intent, state, request)
    watched.stage("publish")
    return result


def _require_replacing(sink: Sink) -> None:
    if sink.write != "replace":
        raise ConfigError(f"{sink.table}: only a slice that is replaced can be rolled back, not write: {sink.write}")


def _where(job: Job) -> str:
    return slice_name({name: str(value) for name, value in job.slice.items()})


def _standing(job: Job, state: Location, live: int) -> _Standing:
    """What is on record of the slice, and known to its table: one that was made anew begins with generation 1 again."""
    records = ledger.runs(state, job.job, identity=identity_of(job))
    return _Standing(records, live, next(iter(_of_generation(records, live, job)), None))


def _of_generation(records: Sequence[dict[str, Any]], generation: int, job: Job) -> list[dict[str, Any]]:
    """The records of the runs that have published a generation of the slice, those that ended as published first."""
    found = [one for one in records if one["generation"] == generation and _is_known(one, job)]
    return sorted(found, key=lambda one: bool(one["status"] != "published"))


def _is_known(record: Mapping[str, Any], job: Job) -> bool:
    """Whether the job's scored table, as it is now, knows the run."""
    first = job.sinks[0]
    return sinks.of(first.type).published(_plain(job, first, record), record["run_id"])


def _chosen(stands: _Standing, job: Job, run: str | None) -> dict[str, Any]:
    """The record of the run whose rows are put back."""
    if run is not None:
        return _named(stands, job, run)
    if stands.now is not None and is_rollback(stands.now):
        return stands.now  # it is asked for once more
    for generation in range(stands.live - 1, 0, -1):
        mine = _of_generation(stands.records, generation, job)
        if not mine:
            raise ConfigError(
                f"{job.job}: generation {generation} of {_where(job)} has no record (`retention` takes old ones away): "
                "`lakehouse reconcile` adds what the table remembers; --run names another run"
            )
        if mine[0]["status"] == "published":
            return mine[0]
    raise _nothing(stands, job)


def _named(stands: _Standing, job: Job, run: str) -> dict[str, Any]:
    published = [one for one in stands.records if one["status"] == "published"]
    if not stands.live or not published:
        raise _nothing(stands, job)
    found = ledger.choose_record(published, job.job, run)
    if not _is_known(found, job):
        raise ConfigError(
            f"--run: {job.sinks[0].table} knows nothing of run {found['run_id']}: the table was made anew since"
        )
    return found


def _nothing(stands: _Standing, job: Job) -> ConfigError:
    if not stands.live and any(one["status"] == "published" for one in stands.records):
        return ConfigError(
            f"{job.job}: runs are on record, but {job.sinks[0].table} has no generation of {_where(job)}: the table, "
            "or its log, is gone or was made anew. Restore it from a backup, or score the date again"
        )
    return ConfigError(f"{job.job}: {_where(job)} has no earlier generation on record: there is nothing to put back")


def _unchanged(former: Mapping[str, Any], source: str, stands: _Standing, job: Job) -> Result:
    """The result where the very rows that were to be put back are live."""
    said = f"run {source} is what is live in {_where(job)} already: nothing was changed"
    if stands.now is not None and is_rollback(stands.now):
        undone = next(iter(_of_generation(stands.records, stands.live - 1, job)), None)
        said += f"; run {stands.now['run_id']} has put it back"
        said += f", --run {undone['run_id']} undoes that" if undone else ""
    return replace(from_record(former), status="unchanged", message=said)


def _plain(job: Job, sink: Sink, former: Mapping[str, Any]) -> Target:
    """A sink's target, without anything that its table tells."""
    uri = uri_of(sink)
    plain = Target(SINK, uri, "replace", identity_of(job), job.job, {}, 0, former["fingerprint"], type=sink.type)
    return plain if sinks.of(sink.type).IN_PLACE else replace(plain, staged=staged_files(job, SINK).uri)


def _target(job: Job, sink: Sink, former: Mapping[str, Any], stands: _Standing) -> tuple[Target, bool]:
    """What is committed to one table, and whether that is live in it already."""
    module, uri, now = sinks.of(sink.type), uri_of(sink), stands.now
    name = module.display_name(uri)
    version = next((s["version"] for s in former["sinks"] if (s["kind"], s["table"]) == (SINK, name)), None)
    if version is None:
        raise ConfigError(f"{name}: run {former['run_id']} is not on record as having published to it")
    plain, source = _plain(job, sink, former), source_of(stands.records, former)
    if not module.IN_PLACE and now and source == source_of(stands.records, now):
        return plain, True
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
        "rolled_back_to": source,
        "rows": found.rows,
    }
    target = replace(target.with_schema(schema), files=found.files, rows=found.rows, metadata=metadata)
    return target, found.are_live
