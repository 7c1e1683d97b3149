"""`score(job)`: source → units → worker → manifest → verdict → intent → publish → record. Read this first."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from lakehouse import checks, models, sinks
from lakehouse.checks import Finding, Problem, Tally, Verdict, rules, uniqueness
from lakehouse.checks.rules import Other
from lakehouse.config import Checks, Quarantine
from lakehouse.connectors import delta, snowflake
from lakehouse.engines import scratch
from lakehouse.errors import Blocked, NotReady
from lakehouse.planning import access, carriers, catalog, naming, quarantine
from lakehouse.planning.carriers import Carrier
from lakehouse.planning.plan import Plan, Request, make_plan, new_run_id
from lakehouse.planning.prepare import Prepared, prepare
from lakehouse.runs import drift, evidence, lease, ledger
from lakehouse.runs.publication import Result, carry_out, finish_earlier, intend, optional, standing
from lakehouse.schemas import REASONS
from lakehouse.scoring.staging import Staging
from lakehouse.storage import Location

if TYPE_CHECKING:
    from lakehouse.config import Job

__all__ = ["Request", "Result", "new_run_id", "score"]


def score(job: Job, request: Request) -> Result:
    """Score what the job names and publish it, once.

    Raises the kinds of lakehouse.errors: Blocked (the checks, or a person's change, stand against it), NotReady
    (too few rows), ModelRefused, ConfigError, Unavailable, and Partial (some of its commits are made).
    """
    tag = f"lakehouse job={job.job} run={request.run_id}"
    with snowflake.kept(tag), catalog.placed(job, request.engine, request.warn) as at_places:
        return _score(
            at_places if request.replays is None else quarantine.replayed(at_places, request.replays), request
        )


def _score(job: Job, request: Request) -> Result:
    clock = _Clock()
    state = naming.state_of(job)
    finished = None if request.dry_run else finish_earlier(job, state, request)
    done: list[Result] = []
    with standing(request, lambda: done[0] if done else None), scratch.folder() as folder, ExitStack() as stack:
        plan = make_plan(job, request, folder)
        request.say("plan", plan.described())
        if plan.unchanged and not request.dry_run:
            return finished or _result(plan, request, "unchanged", clock.seconds)
        access.require(plan, state)
        plan = plan.read(request)
        _require_rows(job, plan.pinned.rows)
        carry = carriers.choose(plan, request, stack)
        tables = prepare(plan, carry.sample(), request.replays)
        plan = replace(plan, quarantine=tables.aside.target)
        access.require_quarantine(plan)
        for note in tables.notes:
            request.warn(note)
        for suite in (plan.on_features, tables.staging.scoring.on_scores):
            rules.require_engine(suite, request.engine)
        clock.lap("plan")
        if request.dry_run:
            added = list(dict.fromkeys(f.name for s in plan.sinks for f in tables.lacks[s.target.uri] or ()))
            described = {**plan.described(), "units": carriers.units(plan), "adds_columns": added,
                         "checks": _described(plan, tables.staging, state)}  # fmt: skip
            return replace(_result(plan, request, "planned", clock.seconds), plan=described)
        stack.enter_context(lease.held([plan.sink.root, plan.quarantine.root], plan.run_id, state, request.warn))
        tally = checks.tally(carry.run(tables.staging))
        clock.lap("score")
        if not tally.hopeless:
            _require_rows(job, tally.read)
        verdict, moved = _judge(plan, tables, tally, carry, state, request)
        clock.lap("checks")
        intent = intend(plan, tables, tally, verdict, request, clock.seconds)
        stands = _blocked(plan, tables.staging, tally, verdict) if verdict.problems else ""
        facts = functools.partial(evidence.gather, plan, tables.staging, tally, verdict, moved)
        optional(request, "its report will be missing", lambda: evidence.keep(state, plan.run_id, facts()))
        ledger.declare(state, intent)
        done.append(carry_out(intent, state, request))
        if done[0].status == "published":
            what = "the profile of this first run could not be kept with the model"
            optional(request, what, lambda: drift.first_baseline(plan, state, moved))
    if job.tracking is not None:
        optional(request, "MLflow did not take its figures", lambda: _track(job, plan, done[0], state))
    for doubt in (*verdict.warnings, tables.aside.said if tally.quarantined else ""):
        if doubt:
            request.warn(doubt)
    for line in verdict.told:
        request.say("checks", {"message": line})
    if verdict.problems:
        raise Blocked(stands, done[0])
    return done[0]


class _Clock:
    """Seconds a stage."""

    def __init__(self) -> None:
        self.last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self.last, 3)
        self.last = now


def _described(plan: Plan, staging: Staging, state: Location) -> list[str]:
    """What will be checked, and where, a line each."""
    asked, suites = plan.job.checks, {"features": plan.on_features, "scores": staging.scoring.on_scores}
    try:
        baseline = drift.origin(plan, state) if asked.drift else ""
    except Exception as error:  # a run may do without it, see `_drift`
        baseline = f"can't be read: {error}"
    return checks.described(suites, asked, plan.pinned.rows, baseline)


def _require_rows(job: Job, rows: int | None) -> None:
    if rows is not None and rows < job.source.min_rows:
        raise NotReady(
            f"{job.source.name}: {rows:,} rows to score, source.min_rows asks for {job.source.min_rows:,}: "
            "nothing was replaced; run again when the input is there"
        )


def _judge(
    plan: Plan, tables: Prepared, tally: Tally, carry: Carrier, state: Location, request: Request
) -> tuple[Verdict, drift.Moved]:
    """The verdict of all checks, and how the run stands to its baseline."""
    staging = tables.staging
    twice, repeated = _repeated(plan, staging, tally)
    stands = [
        Problem("keys", twice),
        Problem("model", _cut_short(plan, tables, tally)),
        Problem("model", _guessed(tables, tally)),
    ]
    if request.replays is not None:  # what is asked of a whole run can't be asked of a few rows of it
        return checks.judge(
            tally, [], Checks(quarantine=Quarantine(max_fraction=1.0)), stands, [repeated]
        ), drift.unmoved(tally)
    found = _findings(plan, staging, tally, carry)
    moved, against, doubt = _drift(plan, tally, state, request)
    return checks.judge(tally, found, plan.job.checks, [*stands, against], [repeated, doubt]), moved


def _cut_short(plan: Plan, tables: Prepared, tally: Tally) -> str:
    """That not all was read, where the model fails on so many rows that nothing could be published."""
    if not tally.hopeless:
        return ""
    rows, allowed = plan.pinned.rows, tables.staging.scoring.allowed
    of = f" of at most {rows:,}" if rows is not None else ""
    return (
        f"scoring stopped after {tally.read:,}{of} rows: the model can't score more rows than the {allowed:,} that may "
        "be set aside; those of them that were not tried one by one any more say not_tried"
    )


def _guessed(tables: Prepared, tally: Tally) -> str:
    """Why scores can't be published whose type is a guess."""
    if not tables.untried or not tally.scored:
        return ""
    names = ", ".join(output.name for output in tables.staging.scoring.outputs)
    return (
        f"no row of the sample had a key and all features, so that the type of {names} was not known when the scoring "
        "began: have the input begin with rows that can be scored, or use the local engine, which looks at all of them"
    )


def _findings(plan: Plan, staging: Staging, tally: Tally, carry: Carrier) -> list[Finding]:
    """What became of every expectation: most were counted in the pass, Great Expectations runs the rest."""
    found, left = checks.findings("features", plan.on_features, tally.checks["features"])
    if left and not tally.hopeless:
        found += checks.validate("features", left, carry.features(_needed(left)))
    more, left = checks.findings("scores", staging.scoring.on_scores, tally.checks["scores"])
    if left and tally.scored_files and not tally.hopeless:
        more += checks.validate("scores", left, carry.scores(_needed(left), staging, tally))
    return [*found, *more]


def _drift(plan: Plan, tally: Tally, state: Location, request: Request) -> tuple[drift.Moved, Problem, str]:
    """How the run stands to its baseline, and what of that stands against publishing or is worth a warning."""
    limit = plan.job.checks.drift
    try:
        found = drift.moved(plan, tally, state)
    except Exception as error:
        if limit is not None and limit.action == "block":
            raise
        request.say("warning", {"message": f"drift is not known, the baseline can't be read: {error}"})
        return drift.unmoved(tally), Problem("drift", ""), ""
    said, blocks = drift.said(found.beyond(limit), limit) if limit else "", bool(limit and limit.action == "block")
    remedy = "checks: {drift: {psi: …}}, or its action: warn"
    return found, Problem("drift", said if blocks else "", remedy), "" if blocks else said


def _needed(others: Sequence[Other]) -> tuple[str, ...]:
    """The columns that expectations read, all (none named) where one doesn't say."""
    named = [other.columns for other in others]
    return tuple(dict.fromkeys(c for columns in named for c in columns)) if all(named) else ()


def _repeated(plan: Plan, staging: Staging, tally: Tally) -> tuple[str, str]:
    """What stands against publishing, and what is worth a warning, where several of the run's rows have one key."""
    found = uniqueness.repeated(staging, tally) if staging.unique_keys else uniqueness.Repeated()
    if not found.keys:
        return "", ""
    if plan.sink.write == "merge":
        return f"merge: {found}", ""
    if plan.job.keys_unique == "refuse":
        return f"keys_unique: {found}", ""
    return "", f"keys: {found} (keys_unique: refuse blocks such a run, ignore looks for none)"


def _result(plan: Plan, request: Request, ended: str, seconds: Mapping[str, float]) -> Result:
    tables = [
        {"type": s.target.type, "table": sinks.of(s.target.type).shown(s.target.uri), "version": s.state.version,
         "kind": "sink"}
        for s in plan.sinks
    ]  # fmt: skip
    return Result(
        status=ended,
        run_id=plan.run_id,
        job=plan.job.job,
        date=plan.job.date,
        model={"name": plan.model.name, "version": plan.model.version, "digest": plan.model.digest},
        input=plan.pinned.said(),
        sinks=tuple(tables),
        seconds=seconds,
        carrier=plan.carrier,
        engine=request.engine,
    )


def _blocked(plan: Plan, staging: Staging, tally: Tally, verdict: Verdict) -> str:
    lines = [problem.said for problem in verdict.problems]
    if tally.quarantined_files:
        path = tally.quarantined_files[0]["path"]
        for row in delta.head(staging.quarantine_root, path, [*plan.job.keys, REASONS], 3):
            why = "; ".join(" ".join(filter(None, (r["rule"], r["column"], r["observed"]))) for r in row[REASONS])
            lines.append("    " + ", ".join(f"{k}={row[k]}" for k in plan.job.keys) + f": {why}")
    lines.append("Nothing was published; the last good scores stay.")
    if tally.quarantined_files:
        lines[-1] += f" The rows are in {sinks.of(plan.quarantine.type).shown(plan.quarantine.uri)}."
    if remedies := dict.fromkeys(problem.remedy for problem in verdict.problems if problem.remedy):
        lines[-1] += f" To allow more: {'; '.join(remedies)}"
    return "\n".join(lines)


def _track(job: Job, plan: Plan, result: Result, state: Location) -> None:
    """Log the run's figures and its page to MLflow."""
    assert job.tracking is not None  # whoever calls has looked
    page = evidence.page_of(state, plan.run_id)
    figures = {
        "rows_read": result.rows_read, "rows_scored": result.rows_scored, "rows_quarantined": result.rows_quarantined,
        **{f"seconds_{stage}": value for stage, value in (result.seconds or {}).items()},
    }  # fmt: skip
    tags = {"lakehouse.run_id": plan.run_id, "lakehouse.date": str(job.date), "lakehouse.status": result.status}
    models.log_run(job, plan.model.resolved, job.tracking.experiment, figures, tags, page)
