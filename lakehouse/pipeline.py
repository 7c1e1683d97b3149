"""`score(job)`: source → units → worker → manifest → verdict → intent → publish → record. Read this first."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse import audit, carriers, catalog, delta, lease, ledger, model
from lakehouse.audit import Tally, Verdict
from lakehouse.contract import REASONS
from lakehouse.errors import Blocked, NotReady
from lakehouse.plan import Plan, Request, make_plan, new_run_id
from lakehouse.prepare import prepare
from lakehouse.publication import Result, carry_out, finish_earlier, intend, status
from lakehouse.sinks import delta as sink
from lakehouse.sinks import merge
from lakehouse.staging import Staging
from lakehouse.storage import locate, shown

if TYPE_CHECKING:
    from lakehouse.config import Job

__all__ = ["Request", "Result", "new_run_id", "score", "sink", "status"]


def score(job: Job, request: Request) -> Result:
    """Score what the job names and publish it, once.

    Raises the kinds of lakehouse.errors: Blocked (the checks, or a person's change, stand against it), NotReady
    (too few rows), ModelRefused, ConfigError, Unavailable, and Partial (some of its commits are made).
    """
    with catalog.placed(job, request.engine) as at_places:
        return _score(at_places, request)


def _score(job: Job, request: Request) -> Result:
    clock = _Clock()
    state = ledger.state_of(job)
    finished = None if request.dry_run else finish_earlier(job, state, request)
    with tempfile.TemporaryDirectory(prefix="lakehouse-") as folder, ExitStack() as stack:
        plan = make_plan(job, request, Path(folder))
        request.say("plan", plan.described())
        if plan.unchanged and not request.dry_run:
            return finished or _result(plan, request, "unchanged", clock.seconds)
        _require_rows(job, plan.pinned.rows)
        carry = carriers.choose(plan, request, stack)
        tables = prepare(plan, carry.sample())
        clock.lap("plan")
        if request.dry_run:
            added = [f.name for f in tables.scored_lacks or ()]
            described = {**plan.described(), "units": carriers.units(plan), "adds_columns": added}
            return replace(_result(plan, request, "planned", clock.seconds), plan=described)
        stack.enter_context(lease.held([locate(plan.sink.uri), locate(plan.quarantine.uri)], plan.run_id, state))
        tally = audit.tally(carry.run(tables.staging))
        clock.lap("score")
        _require_rows(job, tally.read)
        verdict = audit.judge(tally.read, tally.quarantined, tally.reasons, job.checks.quarantine)
        verdict = audit.also(verdict, _twice(plan, tables.staging, tally))
        intent = intend(plan, tables, tally, verdict, request, clock.seconds)
        ledger.declare(state, intent)
        result = carry_out(intent, state, request)
    if job.tracking is not None and result.status == "published":
        _track(job, plan, result, request)
    if verdict.problems:
        raise Blocked(_blocked(plan, tables.staging, tally, verdict), result)
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


def _twice(plan: Plan, staging: Staging, tally: Tally) -> str:
    """What stands against a merge: keys that the run itself has more than once."""
    if plan.sink.write != "merge" or not tally.scored_files:
        return ""
    paths = [str(file["path"]) for file in tally.scored_files]
    count, some = merge.duplicates(staging.scored_root, paths, plan.job.keys)
    if not count:
        return ""
    shown_keys = "; ".join(", ".join(f"{k}={row[k]}" for k in plan.job.keys) + f" ×{row['count_all']}" for row in some)
    return f"merge: {count:,} keys occur more than once in this run, such as {shown_keys}"


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
    if over := tally.quarantined_files:
        path = tally.quarantined_files[0]["path"]
        for row in delta.head(staging.quarantine_root, path, [*plan.job.keys, REASONS], 3):
            why = "; ".join(" ".join(filter(None, (r["rule"], r["column"], r["observed"]))) for r in row[REASONS])
            lines.append("    " + ", ".join(f"{k}={row[k]}" for k in plan.job.keys) + f": {why}")
    lines.append("Nothing was published; the last good scores stay.")
    if over:
        lines[-1] += f" The rows are in {shown(staging.quarantine_root)}. To allow more: "
        lines[-1] += "checks: {quarantine: {max_fraction: …}}"
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
