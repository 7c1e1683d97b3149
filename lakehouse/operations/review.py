"""Runs that wait for a person: found, published as they are, or discarded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lakehouse import observe, sinks
from lakehouse.errors import ConfigError
from lakehouse.observe.events import DISCARD, PUBLISH
from lakehouse.operations import dated
from lakehouse.planning import catalog, naming
from lakehouse.planning.plan import Request
from lakehouse.runs import evidence, held, lease, ledger
from lakehouse.runs.held import Held
from lakehouse.runs.publication import carry_out, ensure_tables
from lakehouse.runs.results import Result, from_record
from lakehouse.storage import Location, remove

if TYPE_CHECKING:
    from lakehouse.config import Job


def held_runs(load: dated.Load) -> list[tuple[Job, Held]]:
    """The job's held runs of all dates, the newest first, each with the job as its date fills it in."""
    found: list[tuple[Job, Held]] = []
    for job in dated.with_states(load):
        with catalog.resolve_names(job) as at_places:
            state = naming.state_of(at_places)
        found += [(job, one) for one in held.all_of(state, job.job)]
    return [(load(one.record["date"]) if one.record["date"] else job, one) for job, one in found]


def find(load: dated.Load, run: str) -> tuple[Job, Held]:
    """The held run that is named by as much of its id as no other has. Raises ConfigError where there is none."""
    found = held_runs(load)
    if not found:
        raise ConfigError(f"--run {run}: no run of this job is held: `lakehouse score --hold` holds one")
    record = ledger.choose_record([one.record for _, one in found], found[0][0].job, run)
    return next((job, one) for job, one in found if one.intent.run_id == record["run_id"])


def publish(job: Job, waits: Held, request: Request) -> Result:
    """Commit the very files of a held run.

    Raises ConfigError where its time is over, Overtaken where another run has published the slice since, and what
    publishing raises.
    """
    with observe.watch(job, request, PUBLISH) as watched:
        return watched.ended(_publish(job, waits, request, watched))


def _publish(job: Job, waits: Held, request: Request, watched: observe.Watched) -> Result:
    with _opened(job, waits, request) as state:
        watched.judged(waits.intent, state=state)
        if waits.is_over():
            until = f"{waits.until:%Y-%m-%d %H:%M} UTC"
            raise ConfigError(f"run {waits.intent.run_id} was held until {until}: discard it, and score again")
        for target in waits.intent.targets:
            if sinks.of(target.type).exists(target.uri):
                sinks.of(target.type).check(target, waits.intent.run_id)  # one that is refused goes on being held
        ensure_tables(waits.intent, waits.comments)
        ledger.save_intent(state, waits.intent)  # from here on the next run finishes it, if not this command
        held.end(state, waits.intent.run_id)
        result = carry_out(waits.intent, state, request)
        watched.stage("publish")
        return result


def discard(job: Job, waits: Held, request: Request) -> None:
    """Give a held run up: its staged files go, and it can't be published any more."""
    with observe.watch(job, request, DISCARD) as watched:
        with _opened(job, waits, request) as state:
            watched.judged(waits.intent, state=state)
            held.end(state, waits.intent.run_id)
            for target in waits.intent.targets:
                for file in target.files:
                    remove(target.root.join(file.path))
                lease.end(target.root, waits.intent.run_id)
        watched.ended(from_record({**waits.record, "message": f"it was held because of {waits.why}"}))


def facts_of(job: Job, waits: Held) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What was found out about rows: by the run whose scores are live in the slice, and by the held one.

    None where it was not kept. Of the live ones that is the last run that published the slice.
    """
    with catalog.resolve_names(job) as at_places:
        state = naming.state_of(at_places)
        took = timedelta(seconds=sum(waits.record["seconds"].values()))
        record = waits.record | {"finished_at": waits.record["started_at"] + took}  # when it was held
        published = (r for r in ledger.runs(state, job.job, waits.record["date"]) if r["status"] == "published")
        last = next((r for r in published if r["identity"] == waits.record["identity"]), None)
        return evidence.facts_of(state, last) if last else None, evidence.facts_of(state, record)


@contextmanager
def _opened(job: Job, waits: Held, request: Request) -> Iterator[Location]:
    """The job's state, while sessions with its systems are open."""
    tag = f"run={waits.intent.run_id}"
    with catalog.open_job(job, tag, request.engine, request.warn) as at_places:
        yield naming.state_of(at_places)
