"""`score(job)`: source → units → worker → manifest → verdict → intent → publish → record. Read this first."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import audit, delta, ledger, model
from lakehouse.audit import Tally, Verdict
from lakehouse.contract import REASONS, conform
from lakehouse.engines import local
from lakehouse.errors import Blocked, ConfigError, LakehouseError, NotReady, Partial, Unavailable
from lakehouse.ledger import Intent
from lakehouse.plan import Plan, comments, identity_of, make_plan, prepare, table_schema
from lakehouse.progress import Watch, listen
from lakehouse.sinks import delta as sink
from lakehouse.sources import delta as source
from lakehouse.staging import Staging
from lakehouse.storage import Location, locate, shown

if TYPE_CHECKING:
    from lakehouse.config import Job

Say = Callable[[str, Mapping[str, Any]], None]
"""Told of a run's steps: an event's name and its values."""


@dataclass(frozen=True)
class Request:
    """How to run a job: `engine` is "spark" or "local"; `now` and `run_id` are the run's clock and name."""

    engine: str
    now: datetime
    run_id: str
    rescore: bool = False
    dry_run: bool = False
    say: Say = lambda event, values: None
    watch: Watch | None = None


@dataclass(frozen=True)
class Result:
    """The outcome of a run, as `--json` prints it. `plan` only on a dry run."""

    status: str
    run_id: str
    job: str
    date: str | None
    rows_read: int = 0
    rows_scored: int = 0
    rows_quarantined: int = 0
    model: Mapping[str, Any] | None = None
    input: Mapping[str, Any] | None = None
    sinks: tuple[Mapping[str, Any], ...] = ()
    checks: Mapping[str, Any] | None = None
    seconds: Mapping[str, float] | None = None
    carrier: str | None = None
    engine: str | None = None
    message: str | None = None
    plan: Mapping[str, Any] | None = None


def new_run_id() -> str:
    """A run's name: a random UUID."""
    return str(uuid.uuid4())


def score(job: Job, request: Request) -> Result:
    """Score what the job names and publish it, once.

    Raises the kinds of lakehouse.errors: Blocked (the checks, or a person's change, stand against it), NotReady
    (too few rows), ModelRefused, ConfigError, Unavailable, and Partial (some of its commits are made).
    """
    clock = _Clock()
    state = ledger.state_of(job)
    finished = None if request.dry_run else _finish_earlier(job, state, request)
    with tempfile.TemporaryDirectory(prefix="lakehouse-") as folder, ExitStack() as stack:
        plan = make_plan(job, request.run_id, request.now, request.rescore, Path(folder))
        request.say("plan", plan.described())
        if plan.unchanged and not request.dry_run:
            return finished or _result(plan, request, "unchanged", clock.seconds)
        _require_rows(job, plan.pinned.rows)
        carry = _carriers(plan, request, stack)
        staging = prepare(plan, carry.sample())
        clock.lap("plan")
        if request.dry_run:
            units = len(_units(plan, local.cores())) if plan.carrier == source.FILES else None
            described = {**plan.described(), "units": units}
            return replace(_result(plan, request, "planned", clock.seconds), plan=described)
        tally = audit.tally(carry.run(staging))
        clock.lap("score")
    _require_rows(job, tally.read)
    verdict = audit.judge(tally.read, tally.quarantined, tally.reasons, job.checks.quarantine)
    intent = _intend(plan, staging, tally, verdict, request, clock)
    ledger.declare(state, intent)
    result = _carry_out(intent, state, request)
    if job.tracking is not None and result.status == "published":
        _track(job, plan, result, request)
    if verdict.problems:
        raise Blocked(_blocked(plan, staging, tally, verdict), result)
    return result


class _Clock:
    """Seconds a stage."""

    def __init__(self) -> None:
        self.last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self.last, 3)
        self.last = now


def _require_rows(job: Job, rows: int | None) -> None:
    if rows is not None and rows < job.source.min_rows:
        raise NotReady(
            f"{job.source.table}: {rows:,} rows to score, source.min_rows asks for {job.source.min_rows:,}: "
            "nothing was replaced; run again when the input is there"
        )


@dataclass(frozen=True)
class _Carrier:
    """How the plan's batches reach the worker: a few for a look, all for the run."""

    sample: Callable[[], Iterator[pa.RecordBatch]]
    run: Callable[[Staging], list[dict[str, Any]]]


def _carriers(plan: Plan, request: Request, stack: ExitStack) -> _Carrier:
    """The carrier that the plan chose, on the engine that was asked for. Spark is started when first needed."""
    if request.engine == "local":
        if plan.carrier == source.FRAME:
            raise ConfigError(f"the local engine can't read {plan.pinned.name}: {plan.reason}; use --engine spark")
        cores = local.cores()

        def run_locally(staging: Staging) -> list[dict[str, Any]]:
            with listen("127.0.0.1", request.watch) as address:
                shares = source.balance(_units(plan, cores), cores)
                request.say("units", {"units": sum(map(len, shares)), "tasks": len(shares), "rows": plan.pinned.rows})
                return local.run(shares, replace(staging, progress=address), plan.model.path)

        return _Carrier(lambda: _first_batches(plan), run_locally)

    from lakehouse.engines import spark as engine

    if plan.carrier == source.FILES:

        def run_files(staging: Staging) -> list[dict[str, Any]]:
            spark = stack.enter_context(engine.session(delta=False))
            cores = engine.cores(spark)
            shares = source.balance(_units(plan, cores), cores)
            request.say("units", {"units": sum(map(len, shares)), "tasks": len(shares), "rows": plan.pinned.rows})
            with listen(engine.driver_host(spark), request.watch) as address:
                return engine.run_units(spark, shares, replace(staging, progress=address), plan.model)

        return _Carrier(lambda: _first_batches(plan), run_files)

    spark = stack.enter_context(engine.session(delta=True))
    rows = source.frame(spark, plan.pinned, plan.columns)
    schema = pa.schema([plan.pinned.snapshot.schema.field(c) for c in plan.columns])

    def run_frame(staging: Staging) -> list[dict[str, Any]]:
        with listen(engine.driver_host(spark), request.watch) as address:
            return engine.run_frame(spark, rows, replace(staging, progress=address), plan.model)

    return _Carrier(lambda: (conform(b, schema) for b in engine.first_batches(rows)), run_frame)


def _units(plan: Plan, cores: int) -> list[source.FileUnit]:
    return source.units(plan.pinned, plan.columns, plan.job.model.batch_rows, cores)


def _first_batches(plan: Plan) -> Iterator[pa.RecordBatch]:
    small = min(plan.job.model.batch_rows, 1024)
    for unit in source.units(plan.pinned, plan.columns, small, 1):
        yield from unit.batches()


def _intend(plan: Plan, staging: Staging, tally: Tally, verdict: Verdict, request: Request, clock: _Clock) -> Intent:
    """What is to be committed, in order: quarantine, then the sink unless the run is blocked. Creates the tables."""
    told = comments(plan)
    targets = []
    if tally.quarantined:
        _ensure_quarantine(plan, staging, told)
        targets.append(_with_files(plan.quarantine, tally.quarantined_files, tally.quarantined, plan))
    if not verdict.problems:
        if delta.open_table(staging.scored_root) is None:
            columns = table_schema(plan, staging.scored_schema)
            sink.create(staging.scored_root, columns, list(plan.sink.slice), told)
        targets.append(_with_files(plan.sink, tally.scored_files, tally.scored, plan))
    status = "blocked" if verdict.problems else "published"
    record = {
        "run_id": plan.run_id, "job": plan.job.job, "date": plan.job.date, "identity": plan.sink.identity,
        "status": status, "started_at": plan.started_at, "generation": plan.sink.generation,
        "rows_read": tally.read, "rows_scored": tally.scored, "rows_quarantined": tally.quarantined,
        "rows_per_second": round(tally.read / max(clock.seconds["score"], 1e-3), 1),
        "model_name": plan.model.name, "model_version": plan.model.version, "model_digest": plan.model.digest,
        "input_table": plan.pinned.name, "input_version": plan.pinned.snapshot.version,
        "fingerprint": plan.sink.fingerprint, "carrier": plan.carrier, "engine": request.engine,
        "checks": {"passed": verdict.passed, "failed": verdict.failed}, "seconds": dict(clock.seconds),
        "message": "; ".join(verdict.problems) or None,
    }  # fmt: skip
    return Intent(plan.run_id, plan.sink.identity, status, tuple(targets), record)


def _with_files(target: sink.Target, files: tuple[Mapping[str, Any], ...], rows: int, plan: Plan) -> sink.Target:
    adds = tuple(delta.Add(f["path"], f["bytes"], f["detail"]) for f in files)
    metadata = {
        "job": plan.job.job,
        "slice": dict(plan.sink.slice),
        "generation": plan.sink.generation,
        "model": plan.model.name,
        "model_version": plan.model.version,
        "model_digest": plan.model.digest,
        "input": plan.pinned.name,
        "input_version": plan.pinned.snapshot.version,
        "fingerprint": plan.sink.fingerprint,
        "rows": rows,
    }
    return replace(target, files=adds, rows=rows, metadata=metadata)


def _ensure_quarantine(plan: Plan, staging: Staging, told: Mapping[str, str]) -> None:
    """Create the quarantine table, or add the columns it lacks in a commit of its own."""
    wanted = table_schema(plan, staging.quarantine_schema)
    snapshot = delta.open_table(staging.quarantine_root)
    if snapshot is None:
        sink.create(staging.quarantine_root, wanted, list(plan.sink.slice), told)
        return
    missing = [f for f in wanted if f.name not in snapshot.schema.names]
    snapshot = delta.add_columns(snapshot, missing) if missing else snapshot
    sink.check_target(snapshot, pa.schema(_merged(snapshot.schema, wanted)), list(plan.sink.slice), "append")


def _merged(have: pa.Schema, wanted: pa.Schema) -> list[pa.Field]:
    """The table's columns with this run's types where it has them: columns of earlier jobs' inputs may stay."""
    return [wanted.field(f.name) if f.name in wanted.names else f for f in have]


def _carry_out(intent: Intent, state: Location, request: Request) -> Result:
    """Make the intent's commits that are not made yet, then record the run. Idempotent by run id."""
    started = time.perf_counter()
    done: list[dict[str, Any]] = []
    for target in intent.targets:
        location = locate(target.uri)
        try:
            version = sink.publish(target, intent.run_id, location)
        except (sink.Overtaken, sink.Gone):
            ledger.close(state, intent)
            raise
        except (Unavailable, OSError) as error:
            kind = Partial if done else Unavailable
            raise kind(f"{error}; the next run of this job and slice goes on from here") from error
        done.append({"type": "delta", "table": shown(location), "version": version, "kind": target.kind})
    seconds = {**intent.record["seconds"], "publish": round(time.perf_counter() - started, 3)}
    record = {**intent.record, "finished_at": ledger.now(), "sinks": done, "seconds": seconds}
    try:
        ledger.record(state, record)
        ledger.close(state, intent)
    except (LakehouseError, OSError, ValueError) as error:
        # The tables are the truth; the intent stays, so that the next run writes the record.
        request.say("warning", {"message": f"the run is {intent.verdict}, but could not be recorded: {error}"})
    return from_record(record)


def _finish_earlier(job: Job, state: Location, request: Request) -> Result | None:
    """Roll unfinished runs of this job and slice forward, without scoring; the last one that was published."""
    result = None
    for intent in ledger.unfinished(state, identity_of(job)):
        try:
            done = _carry_out(intent, state, request)
        except (sink.Overtaken, sink.Gone) as error:
            request.say("warning", {"message": f"run {intent.run_id} can't be finished any more: {error}"})
            continue
        request.say("resumed", {"run_id": intent.run_id, "status": done.status})
        result = done if done.status == "published" else result
    return result


def status(job: Job) -> tuple[Result, int]:
    """How the newest run of this job and date ended, and its exit code, from the ledger and the target's log."""
    state, identity = ledger.state_of(job), identity_of(job)
    records = [r for r in ledger.runs(state, job.job) if r["identity"] == identity]
    half = ledger.unfinished(state, identity)
    if half:
        record = {**half[-1].record, "sinks": [], "status": "partial"}
        return replace(from_record(record), message="stopped half way: the next run finishes it"), Partial.exit_code
    snapshot = delta.open_table(locate(job.sinks[0].table))
    generation = (snapshot.transaction(identity) if snapshot else None) or 0
    newest = records[0] if records else None
    if newest is not None and (newest["status"] != "published" or newest["generation"] == generation):
        return from_record(newest), Blocked.exit_code if newest["status"] == "blocked" else 0
    if generation:
        place = {"type": "delta", "table": job.sinks[0].table, "version": snapshot and snapshot.version, "kind": "sink"}
        told = Result("published", "", job.job, job.date, sinks=(place,))
        return replace(told, message=f"generation {generation} is published, the ledger has no record of it"), 0
    message = "no run of this job and date yet"
    return Result("not_ready", "", job.job, job.date, message=message), NotReady.exit_code


def from_record(record: Mapping[str, Any]) -> Result:
    """A run's record as a result."""
    return Result(
        status=record["status"],
        run_id=record["run_id"],
        job=record["job"],
        date=record["date"],
        rows_read=record["rows_read"],
        rows_scored=record["rows_scored"],
        rows_quarantined=record["rows_quarantined"],
        model={
            "name": record["model_name"], "version": record["model_version"], "digest": record["model_digest"],
        },
        input={"table": record["input_table"], "version": record["input_version"]},
        sinks=tuple(record["sinks"]),
        checks=record["checks"],
        seconds=record["seconds"],
        carrier=record["carrier"],
        engine=record["engine"],
        message=record["message"],
    )  # fmt: skip


def _result(plan: Plan, request: Request, ended: str, seconds: Mapping[str, float]) -> Result:
    table = {"type": "delta", "table": shown(locate(plan.sink.uri)), "version": plan.state.version, "kind": "sink"}
    return Result(
        status=ended,
        run_id=plan.run_id,
        job=plan.job.job,
        date=plan.job.date,
        model={"name": plan.model.name, "version": plan.model.version, "digest": plan.model.digest},
        input={"table": plan.pinned.name, "version": plan.pinned.snapshot.version},
        sinks=(table,),
        seconds=seconds,
        carrier=plan.carrier,
        engine=request.engine,
    )


def _blocked(plan: Plan, staging: Staging, tally: Tally, verdict: Verdict) -> str:
    lines = ["; ".join(verdict.problems)]
    if tally.quarantined_files:
        path = tally.quarantined_files[0]["path"]
        for row in delta.head(staging.quarantine_root, path, [*plan.job.keys, REASONS], 3):
            why = "; ".join(" ".join(filter(None, (r["rule"], r["column"], r["observed"]))) for r in row[REASONS])
            lines.append("    " + ", ".join(f"{k}={row[k]}" for k in plan.job.keys) + f": {why}")
    lines.append(
        f"Nothing was published; the last good scores stay. The rows are in {shown(staging.quarantine_root)}. To allow "
        "more: checks: {quarantine: {max_fraction: …}}"
    )
    return "\n".join(lines)


def _track(job: Job, plan: Plan, result: Result, request: Request) -> None:
    """Log the run's figures to MLflow; whatever goes wrong there is only worth a warning."""
    figures = {
        "rows_read": result.rows_read, "rows_scored": result.rows_scored, "rows_quarantined": result.rows_quarantined,
        **{f"seconds_{stage}": value for stage, value in (result.seconds or {}).items()},
    }  # fmt: skip
    tags = {"lakehouse.run_id": plan.run_id, "lakehouse.date": str(job.date), "lakehouse.status": result.status}
    resolved = model.Resolved(plan.model.uri, plan.model.name, plan.model.version)
    try:
        model.log_run(job, resolved, job.tracking.experiment, figures, tags)  # type: ignore[union-attr]  # caller asks
    except Exception as error:
        request.say("warning", {"message": f"the run is published, but MLflow did not take its figures: {error}"})
