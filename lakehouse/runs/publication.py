"""From a run's manifest to its commits: the intent, the commits in order, the record; and rolling them forward."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lakehouse import models, sinks
from lakehouse.checks import Tally, Verdict
from lakehouse.errors import Blocked, ConfigError, LakehouseError, Partial, Unavailable
from lakehouse.planning import challengers
from lakehouse.planning.naming import identity_of
from lakehouse.planning.plan import Plan, Request
from lakehouse.planning.prepare import Prepared
from lakehouse.runs import announcing, evidence, held, lease, ledger
from lakehouse.runs.ledger import Intent
from lakehouse.runs.results import Result, from_record
from lakehouse.sinks.target import COPIED, QUARANTINE, CommitNotVerified, Overtaken, StagedFilesMissing, Target, uri_of
from lakehouse.storage import Location, locate, remove

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.config import Job
    from lakehouse.connectors.messages import Range


def make_intent(
    plan: Plan, tables: Prepared, tally: Tally, verdict: Verdict, request: Request, seconds: Mapping[str, float],
    receipt: Mapping[str, Any] | None = None,
) -> Intent:  # fmt: skip
    """What is to be committed, in order: quarantine, then the sink unless the run is blocked.

    Of two runs over the same messages only one comes to the sink, and only that one may set messages aside: its
    quarantine comes last.

    Raises ConfigError where there are no executors and this machine can't hold what a commit would take.
    """
    targets = []
    if tally.quarantined:
        aside = plan.quarantine.with_schema(tables.quarantine)
        targets.append(_with_files(aside, tally.quarantined_files, tally.quarantined, plan))
    if not verdict.problems:
        if plan.beside is not None and tables.staging.beside is not None:
            compared = plan.beside.target.with_schema(challengers.table_schema(plan, tables.staging.beside))
            targets.append(_with_files(compared, tally.compared_files, tally.scored, plan))
        for standing in plan.sinks:
            scored = standing.target.with_schema(tables.scored)
            made = _with_files(scored, tally.scored_files, tally.scored, plan)
            targets.append(made if receipt is None else replace(made, metadata={**made.metadata, "receipt": receipt}))
    if plan.sink.range is not None:
        targets.sort(key=lambda target: target.kind == QUARANTINE)
    if request.as_of is not None:
        then = {"as_of": request.as_of.isoformat()}
        targets = [replace(target, metadata={**target.metadata, **then}) for target in targets]
    if _open_session(request) is None:
        for target in targets:
            sinks.of(target.type).require_room(target)
    status = "blocked" if verdict.problems else "published"
    record = {
        "run_id": plan.run_id,
        "job": plan.job.job,
        "date": plan.job.date,
        "identity": plan.sink.identity,
        "status": status,
        "started_at": plan.started_at,
        "generation": plan.sink.generation,
        "rows_read": tally.read,
        "rows_scored": tally.scored,
        "rows_quarantined": tally.quarantined,
        "rows_per_second": round(tally.read / max(seconds["score"], 1e-3), 1),
        **{f"model_{name}": value for name, value in plan.model.describe().items()},
        "input_table": plan.pinned.name,
        "input_version": plan.pinned.version,
        "input_query": plan.pinned.describe().get("query_id"),
        "alias": _alias(plan),
        "as_of": request.as_of.isoformat() if request.as_of else None,
        "fingerprint": plan.sink.fingerprint,
        "input_range": ends_of(plan.sink.range),
        "receipt": receipt,
        "carrier": plan.carrier,
        "engine": request.engine,
        "checks": {"passed": verdict.passed, "failed": verdict.failed, "warned": len(verdict.warnings)},
        "seconds": dict(seconds),
        "work": dict(tally.work),
        "message": "; ".join(filter(None, [*(p.message for p in verdict.problems), plan.model.notice])) or None,
    }
    streams = announcing.streams_of(plan.job)
    return Intent(plan.run_id, identity_of(plan.job), plan.sink.uri, status, tuple(targets), record, streams)


def ends_of(span: Range | None) -> dict[str, list[int | None]] | None:
    """By part of an input that is read in ranges from where to where a run took it; None for another input."""
    return None if span is None else {name: [span.since.get(name), end] for name, end in span.until.items()}


def _alias(plan: Plan) -> str | None:
    """The alias that was looked up, from which others may tell what it named then; None where MLflow wasn't reached."""
    named = models.alias_in(plan.job.model.uri)
    return named[1] if named and not plan.model.members and not plan.model.notice else None


def ensure_tables(intent: Intent, told: Mapping[str, str], missing: Mapping[str, object] | None = None) -> None:
    """Create the tables; columns that they lack are added in commits of their own. `told`: comments of columns.

    `missing`: by table the columns that it is known to lack, none where it lacks nothing.
    """
    for target in intent.targets:
        if missing is None or missing[target.uri] != ():
            sinks.of(target.type).ensure(target, told)


def _with_files(target: Target, files: tuple[Mapping[str, Any], ...], rows: int, plan: Plan) -> Target:
    metadata = {
        "job": plan.job.job,
        "slice": dict(target.slice),
        "generation": target.generation,
        "model": plan.model.name,
        "model_version": plan.model.version,
        "model_digest": plan.model.digest,
        "model_signature": plan.model.signature_digest,
        "input": plan.pinned.name,
        "input_version": plan.pinned.version,
        "fingerprint": target.fingerprint,
        "rows": rows,
        **({} if plan.sink.range is None else {"input_range": ends_of(plan.sink.range)}),
    }
    return target.with_files(files, rows, metadata)


def carry_out(intent: Intent, state: Location, request: Request) -> Result:
    """Make the intent's commits that are not made yet, then record the run. Idempotent by run id.

    Once they are made nothing else decides how the run ends: what goes wrong afterwards is only worth a warning.
    """
    started = time.perf_counter()
    done: list[dict[str, Any]] = []

    def stands() -> Result | None:
        return from_record({**intent.record, "sinks": done}) if len(done) == len(intent.targets) else None

    with warn_after_commit(request, stands), ExitStack() as stack:
        spark = _spark(intent, request, stack)
        _commit(intent, state, spark, done, request)
    seconds = {**intent.record["seconds"], "publish": round(time.perf_counter() - started, 3)}
    record = {**intent.record, "finished_at": ledger.now(), "sinks": done, "seconds": seconds}
    result = from_record(record)
    with warn_after_commit(request, lambda: result):
        _finish(intent, state, record, request)
    return result


def _finish(intent: Intent, state: Location, record: Mapping[str, Any], request: Request) -> None:
    """Record the run, and take away what only an unfinished one needs."""
    try:
        ledger.record(state, record)
    except Exception as error:
        # The tables are the truth; the intent stays, so that the next run writes the record.
        request.warn(f"the run is {record['status']}, but could not be recorded: {error}")
        return
    warn_on_failure(request, "its report could not be written", lambda: evidence.finish(state, record))
    if not _all_told(intent, state, record, request):
        return  # as long as the intent is there, the next run comes here again
    warn_on_failure(request, "its intent could not be taken away", lambda: _close(intent, state))
    warn_on_failure(request, "its staged files could not be removed", lambda: _tidy(intent))


def _all_told(intent: Intent, state: Location, record: Mapping[str, Any], request: Request) -> bool:
    """Send the run's events, and keep which streams have them where not all do."""
    unsent = request.unsent
    done = announcing.announce(intent, record, unsent.why)
    if done.notes:
        request.warn(f"the run stands, but {'; '.join(done.notes)}")
    if done.untold:
        why = "; ".join(done.untold)
        if intent.untold and announcing.all_silent([s for s in intent.streams if s not in done.told], unsent.why):
            unsent.runs.add(intent.run_id)  # told once of all such runs
        else:
            request.warn(
                f"the run stands, but its events could not be sent: {why}; the next run of this job sends them"
            )
        left = replace(intent, told=(*intent.told, *done.told), untold=done.untold)
        what = "which streams have its events could not be kept: the next run sends them to all"
        warn_on_failure(request, what, lambda: ledger.save_intent(state, left))
    elif intent.untold:
        ended = "are sent" if intent.streams else "are not sent: the job names no stream any more that lacks them"
        request.say("events", {"message": f"those of run {intent.run_id} {ended}"})
    return not done.untold


def _close(intent: Intent, state: Location) -> None:
    """Take the intent away, and with it what says that the run is held, and the leases that it has left behind."""
    held.end(state, intent.run_id)  # first: without an intent nobody would finish a run that still seems to wait
    ledger.remove_intent(state, intent)
    for root in {target.root for target in intent.targets}:
        lease.end(root, intent.run_id)


@contextmanager
def warn_after_commit(request: Request, stands: Callable[[], Result | None]) -> Iterator[None]:
    """Once the run stands, whatever else goes wrong in the block is only worth a warning; a stop carries its result."""
    try:
        yield
    except Exception as error:
        if stands() is None:
            raise
        request.warn(f"the run stands, but something went wrong after it: {type(error).__name__}: {error}")
    except KeyboardInterrupt as stop:
        result = stands()
        if result is None or stop.args:
            raise
        raise type(stop)("all commits of the run are made", result) from stop


def _tidy(intent: Intent) -> None:
    """Remove the staged files that no table of the run has made its own."""
    own = {target.root for target in intent.targets if sinks.of(target.type).IN_PLACE}
    for target in intent.targets:
        for file in target.files if target.root not in own else ():
            remove(target.root.join(file.path))


def warn_on_failure(request: Request, what: str, act: Callable[[], object]) -> None:
    """Do something that only follows from a run; whatever goes wrong there is only worth a warning."""
    try:
        act()
    except Exception as error:
        request.warn(f"the run stands, but {what}: {error}")


def _spark(intent: Intent, request: Request, stack: ExitStack) -> SparkSession | None:
    """The Spark session that is open; one is opened where a target has to be written by it, or needs its executors."""
    waiting = [t for t in intent.targets if t.how == COPIED and not sinks.of(t.type).published(t, intent.run_id)]
    if waiting and request.engine == "local":
        raise ConfigError(f"run {intent.run_id} can only be finished by Spark: use --engine spark")
    there = None if waiting else _open_session(request)
    if there is not None or not (waiting or _needs_executors(intent, request)):
        return there
    from lakehouse.engines import spark as engine

    storages = locate(waiting[0].uri).spark_needs() if waiting else frozenset()
    return stack.enter_context(engine.session(delta=bool(waiting), storages=storages))


def _needs_executors(intent: Intent, request: Request) -> bool:
    """Whether this machine can't hold what the commits take, and executors may: as where a run is finished later."""
    if request.engine == "local":
        return False
    for target in intent.targets:
        sink = sinks.of(target.type)
        try:
            sink.require_room(target)
        except ConfigError:
            if not sink.published(target, intent.run_id):
                return True
    return False


def _open_session(request: Request) -> SparkSession | None:
    """The session that has scored the rows: its executors can upload or merge them too. None is opened for that."""
    if request.engine == "local":
        return None
    from lakehouse.engines import spark as engine

    return engine.active_session()


def _commit(
    intent: Intent, state: Location, spark: SparkSession | None, done: list[dict[str, Any]], request: Request
) -> None:
    """Make the commits; `done` gets each as it is made."""
    try:
        # All are looked at before the first is committed: a run that can't end leaves nothing in quarantine either.
        checked = [sinks.of(target.type).check(target, intent.run_id) for target in intent.targets]
        for target, seen in zip(intent.targets, checked, strict=True):
            try:
                version = sinks.of(target.type).publish(target, intent.run_id, seen, spark)
            except CommitNotVerified as error:
                request.warn(f"the commit is made, but could not be read back: {error}")
                version = error.version
            done.append(_commit_entry(target, version))
    except (Blocked, StagedFilesMissing, Overtaken) as error:
        _give_up(intent, state, done, error, request)
        raise
    except (Unavailable, OSError) as error:
        kind = Partial if done else Unavailable
        raise kind(f"{error}; the next run of this job and slice goes on from here") from error
    except KeyboardInterrupt as stop:
        there = ", ".join(str(made["table"]) for made in done)
        said = f"{there} is published" if done else "its commits may not be made yet"
        raise type(stop)(f"{said}; the next run of this job finishes run {intent.run_id}") from stop


def _commit_entry(target: Target, version: int | None) -> dict[str, Any]:
    sink = sinks.of(target.type)
    return {"type": target.type, "table": sink.display_name(target.uri), "version": version, "kind": target.kind}


def _give_up(
    intent: Intent, state: Location, done: list[dict[str, Any]], error: LakehouseError, request: Request
) -> None:
    """Close the intent of a run that can never be finished: left there, it would stop every later run.

    One of whose commits some are made is recorded, or nobody could tell whose rows they are.
    """

    def close() -> None:
        made = done or [_commit_entry(t, None) for t in intent.targets if sinks.of(t.type).published(t, intent.run_id)]
        if made:
            record = {
                **intent.record,
                "status": error.status,
                "finished_at": ledger.now(),
                "sinks": made,
                "message": str(error),
            }
            ledger.record(state, record)
        _close(intent, state)

    try:
        close()
    except Exception as fault:  # the next run comes here again
        request.warn(f"run {intent.run_id} could not be closed: {fault}")


def finish_earlier(
    job: Job, state: Location, request: Request, told: Callable[[Result, Location], None] = lambda result, state: None
) -> Result | None:
    """Roll unfinished runs of this job forward, without scoring; the last one of this slice that was published.

    Those of other slices only where their runs are no longer at it, and without standing in this one's way. `told`: of
    the result of each, and where it is kept.
    """
    result = None
    mine, others = ledger.unfinished(state, job.job, identity_of(job), uri_of(job.sinks[0]), job.date)

    def finish(intent: Intent) -> Result | None:
        """The result, None where it was told by the run itself, which only had events left to send."""
        streams = announcing.still_to_tell(intent, job)
        if intent.untold and announcing.all_silent(streams, request.unsent.why):
            request.unsent.runs.add(intent.run_id)
            return None
        done = carry_out(replace(intent, streams=streams), state, request)
        if intent.untold:
            return None
        request.say("resumed", {"run_id": intent.run_id, "status": done.status})
        told(done, state)
        return done

    for intent in mine:
        try:
            done = finish(intent)
        except (Blocked, StagedFilesMissing, Overtaken) as error:
            request.warn(f"run {intent.run_id} can't be finished any more: {error}")
            continue
        result = done if done is not None and done.status == "published" else result
    for intent in others:
        try:
            if not _being_committed(intent):
                finish(intent)
        except Exception as error:
            request.warn(f"run {intent.run_id} of {intent.identity} can't be finished now: {error}")
    if waiting := len(request.unsent.runs):
        request.warn(announcing.waiting(waiting, announcing.streams_of(job), request.unsent.why))
    return result


def _being_committed(intent: Intent) -> bool:
    """Whether the intent's own run still works on it."""
    run = intent.run_id
    return any(lease.alive_runs(target.root, {run: lease.read(target.root, run)}) for target in intent.targets)
