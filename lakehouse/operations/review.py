"""Runs that wait for a person: found, published as they are, or discarded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from lakehouse.sinks.target import SINK
from lakehouse.storage import Location, remove

if TYPE_CHECKING:
    from lakehouse.config import Job


def held_runs(load: dated.Load, states: Sequence[Job] = ()) -> list[tuple[Job, Held]]:
    """The job's held runs of all dates, the newest first, each with the job as its date fills it in.

    `states`: as of `lookup.recorded`.
    """
    found: list[tuple[Job, Held]] = []
    for job in states or dated.with_states(load):
        with catalog.resolve_names(job) as at_places:
            state = naming.state_of(at_places)
        found += [(job, one) for one in held.all_of(state, job.job)]
    return [(load(one.record["date"]) if one.record["date"] else job, one) for job, one in found]


def find(load: dated.Load, run: str) -> tuple[Job, Held]:
    """The held run that is named by as much of its id as no other has.

    Raises ConfigError where there is none, which says how the run has ended that is meant.
    """
    found = held_runs(load)
    if not any(one.intent.run_id.startswith(run) for _, one in found) and (ended := _how_it_ended(load, run)):
        raise ConfigError(f"--run {run}: no run of this job is held by that name: {ended}")
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
        _require_waiting(state, waits)
        if waits.is_over() and waits.intent.run_id not in ledger.runs_with_intents(state):
            until = f"{waits.until:%Y-%m-%d %H:%M} UTC"
            raise ConfigError(f"run {waits.intent.run_id} was held until {until}: discard it, and score again")
        for target in waits.intent.targets:  # one that is refused goes on being held
            if sinks.of(target.type).exists(target.uri):
                sinks.of(target.type).check(target, waits.intent.run_id)
            elif target.kind == SINK and target.generation > 1:
                name = sinks.of(target.type).display_name(target.uri)
                raise ConfigError(
                    f"{name}: the table, or its log, is gone since the run was held: restore it from a backup, then "
                    "publish; or discard the run and score again"
                )
        ensure_tables(waits.intent, waits.comments)
        ledger.save_intent(state, waits.intent)  # from here on the next run finishes it, if not this command again
        if not held.waits(state, waits.intent.run_id):
            _require_waiting(state, waits)
            ledger.remove_intent(state, waits.intent)
            raise ConfigError(f"run {waits.intent.run_id} was discarded meanwhile: score again")
        result = carry_out(waits.intent, state, request)
        watched.stage("publish")
        return result


def discard(job: Job, waits: Held, request: Request) -> None:
    """Give a held run up: its staged files go, and it can't be published any more.

    Raises ConfigError where it waits no longer, or where publishing it has begun.
    """
    with observe.watch(job, request, DISCARD) as watched:
        with _opened(job, waits, request) as state:
            watched.judged(waits.intent, state=state)
            _require_waiting(state, waits)
            _refuse_begun(state, waits)
            # In this order: who publishes writes an intent, then looks whether the run waits. One of the two sees it.
            held.end(state, waits.intent.run_id)
            _refuse_begun(state, waits)
            for target in waits.intent.targets:
                for file in target.files:
                    remove(target.root.join(file.path))
                lease.end(target.root, waits.intent.run_id)
        watched.ended(from_record({**waits.record, "message": f"it was held because of {waits.why}"}))


def _require_waiting(state: Location, waits: Held) -> None:
    """Raise ConfigError for a run that has ended. Whatever still says that it waits is taken away."""
    records = ledger.runs(state, waits.intent.record["job"], identity=waits.intent.identity)
    if ended := _on_record(records, waits.intent.run_id):
        held.end(state, waits.intent.run_id)
        raise ConfigError(f"run {waits.intent.run_id} is held no longer: {ended}")


def _refuse_begun(state: Location, waits: Held) -> None:
    """Raise ConfigError where publishing the run has begun: its files are to be live, or are already."""
    run = waits.intent.run_id
    if run in ledger.runs_with_intents(state) or any(
        sinks.of(target.type).published(target, run) for target in waits.intent.targets
    ):
        raise ConfigError(
            f"publishing run {run} has begun, so its files stay: `lakehouse publish` or the next run of the slice "
            "finishes it; `lakehouse rollback` puts back what was live before"
        )


def _how_it_ended(load: dated.Load, run: str) -> str:
    """What is on record of the run whose id begins so; empty for none, or for more than one."""
    for job in dated.with_states(load):
        with catalog.resolve_names(job) as at_places:
            if run and (told := _on_record(ledger.runs(naming.state_of(at_places), job.job), run)):
                return told
    return ""


def _on_record(records: Sequence[Mapping[str, Any]], run: str) -> str:
    found = [record for record in records if record["run_id"].startswith(run)]
    if len(found) != 1:
        return ""
    (record,) = found
    said = f"run {record['run_id']} is on record as {record['status']} (generation {record['generation']})"
    mine = [other for other in records if other["identity"] == record["identity"]]
    over = record["run_id"] in ledger.superseded_runs(mine)
    return f"{said}, and another run was published since" if over else said


def facts_of(job: Job, waits: Held) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What was found out about rows: by the run whose scores are live in the slice, and by the held one.

    None where it was not kept. Of the live ones that is the last run that published the slice.
    """
    with catalog.resolve_names(job) as at_places:
        state = naming.state_of(at_places)
        published = (r for r in ledger.runs(state, job.job, waits.record["date"]) if r["status"] == "published")
        last = next((r for r in published if r["identity"] == waits.record["identity"]), None)
        return evidence.facts_of(state, last) if last else None, evidence.facts_of(state, waits.record)


@contextmanager
def _opened(job: Job, waits: Held, request: Request) -> Iterator[Location]:
    """The job's state, while sessions with its systems are open."""
    tag = f"run={waits.intent.run_id}"
    with catalog.open_job(job, tag, request.engine, request.warn) as at_places:
        yield naming.state_of(at_places)
