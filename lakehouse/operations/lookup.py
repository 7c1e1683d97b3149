"""What became of a job's runs, by the ledger and the log of its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lakehouse import sinks
from lakehouse.errors import Blocked, NotReady, Partial, Unavailable
from lakehouse.operations import dated
from lakehouse.planning import catalog, naming
from lakehouse.planning.naming import identity_of
from lakehouse.runs import announcing, held, ledger
from lakehouse.runs.results import Result, from_record
from lakehouse.sinks.target import uri_of

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.storage import Location

_CODES = {"published": 0, "blocked": Blocked.exit_code, "failed": Unavailable.exit_code}
"""The exit code of a run by its record."""
_SHOWN = 5
"""Other dates that are named where one has no run, at most."""


def status(job: Job) -> tuple[Result, int]:
    """How the newest run of this job and date ended, and its exit code, from the ledger and the target's log.

    A run of which nothing but events is left to do has ended as it was recorded; that they are pending is its message.
    """
    state, identity = naming.state_of(job), identity_of(job)
    records = ledger.runs(state, job.job, identity=None if job.source.IN_RANGES else identity)
    intents, _ = ledger.unfinished(state, job.job, identity, uri_of(job.sinks[0]), job.date)
    recorded = {row["run_id"] for row in records}
    if half := [intent for intent in intents if intent.run_id not in recorded]:
        record = {**half[-1].record, "sinks": [], "status": "partial"}
        return replace(from_record(record), message="stopped half way: the next run finishes it"), Partial.exit_code
    result, code = _ended(job, state, identity, records)
    said = [result.message, *map(announcing.pending, intents)]
    return replace(result, message="; ".join(filter(None, said)) or None), code


def _ended(job: Job, state: Location, identity: str, records: Sequence[Mapping[str, Any]]) -> tuple[Result, int]:
    """How the newest run ended, whose commits are all made, or which waits for a person."""
    first, uri = job.sinks[0], uri_of(job.sinks[0])
    if job.source.IN_RANGES and records:  # each range has an identity of its own
        identity = records[0]["identity"]
    generation, version = sinks.of(first.type).generation(uri, identity)
    over = ledger.superseded_runs(records)  # such as a run that another one came before
    newest = next((r for r in records if r["run_id"] not in over), None)
    waiting = [one.record for one in held.all_of(state, job.job) if one.record["identity"] == identity]
    if waiting and (newest is None or waiting[0]["started_at"] > newest["started_at"]):
        return from_record(waiting[0]), 0
    if newest is not None and (newest["status"] != "published" or newest["generation"] == generation):
        return from_record(newest), _CODES[newest["status"]]
    if generation:
        table = {"type": first.type, "table": first.table, "version": version, "kind": "sink"}
        told = Result("published", "", job.job, job.date, sinks=(table,))
        return replace(
            told, message=f"generation {generation} is published, the ledger has no record of it: {ledger.RECONCILE}"
        ), 0
    others = dict.fromkeys(row["date"] for row in ledger.runs(state, job.job) if row["date"] not in (None, job.date))
    said = f"; of other dates there are: {', '.join(list(others)[:_SHOWN])}{' …' if len(others) > _SHOWN else ''}"
    message = f"no run of this job{'' if job.source.IN_RANGES else ' and date'} yet{said if others else ''}"
    return Result("not_ready", "", job.job, job.date, message=message), NotReady.exit_code


def recorded(load: dated.Load, states: Sequence[Job] = ()) -> list[tuple[Job, dict[str, Any]]]:
    """The records of the job's runs of all dates, the newest first, each with the job as its date fills it in.

    `states`: what `dated.with_states` has found, where it was asked already.
    """
    found = []
    for job in states or dated.with_states(load):
        with catalog.resolve_names(job) as at_places:
            found += [(job, row) for row in ledger.runs(naming.state_of(at_places), job.job)]
    return sorted(found, key=lambda pair: pair[1]["finished_at"], reverse=True)


def record_of(job: Job, run: str) -> Mapping[str, Any]:
    """The record of one of the job's runs. Raises ConfigError where there is none."""
    with catalog.resolve_names(job) as at_places:
        return ledger.record_of(naming.state_of(at_places), job.job, run)
