"""`score(job)`: source → units → worker → manifest → verdict → intent → publish → record. Read this first."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from lakehouse import checks, models, observe
from lakehouse.checks import rules
from lakehouse.engines import scratch
from lakehouse.errors import Blocked, NotReady
from lakehouse.planning import access, carriers, catalog, environment, naming, quarantine, ranges, routes, starting
from lakehouse.planning.plan import Plan, Request, new_run_id, plan_once
from lakehouse.planning.prepare import Prepared, comments, prepare
from lakehouse.runs import (
    announcing,
    comparing,
    drift,
    evidence,
    forecast,
    held,
    judging,
    lease,
    ledger,
    sealing,
    tracking,
)
from lakehouse.runs.publication import (
    carry_out,
    ensure_tables,
    finish_earlier,
    make_intent,
    warn_after_commit,
    warn_on_failure,
)
from lakehouse.runs.results import Result, blocked_message, result_of
from lakehouse.runs.tables import keep_logs, logs_read_once
from lakehouse.scoring import explanations

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.storage import Location

__all__ = ["Request", "Result", "new_run_id", "score"]


UNTRIED = "not_tried"
"""The entry of a dry run's plan that says what could not be tried."""
_UNFIT = "what the model answers: none of the rows that were looked at can be given to it, such as for"
_COMES_AGAIN = "its messages could not all be acknowledged: they come again, and are left out then"


def score(job: Job, request: Request) -> Result:
    """Score what the job names and publish it, once.

    Raises the kinds of lakehouse.errors: Blocked (the checks, or a person's change, stand against it), NotReady
    (too few rows), ModelRefused, ConfigError, Unavailable, and Partial (some of its commits are made).
    """
    with observe.watch(job, request) as watched:
        try:
            ranges.require_plain(job, request)
            opened = catalog.open_job(job, f"run={request.run_id}", request.engine, request.warn)
            with opened as at_places, logs_read_once(naming.state_of(at_places)):
                if request.replays is not None:
                    at_places = quarantine.replay_job(at_places, request.replays)
                result = _score(at_places, request, watched)
            return watched.ended(result)
        finally:
            models.forget()  # a notebook's process lives on


def _score(job: Job, request: Request, watched: observe.Watched) -> Result:
    """The run, step by step; what one step finds out is handed to the next as a value."""
    sealing.require_key(job)
    clock, state, ended = _Clock(watched.stage), naming.state_of(job), list[Result]()
    finished = None if request.dry_run else finish_earlier(job, state, request, watched.finished)
    with (
        warn_after_commit(request, lambda: ended[0] if ended else None),
        scratch.folder() as folder,
        ExitStack() as stack,
    ):
        job, taking = ranges.take(job, state, request, stack)
        starting.expect(job, request, stack)  # Spark starts meanwhile, where it will surely be needed
        plan = plan_once(job, request, folder, state)  # the input is pinned, the model judged, the tables looked at
        request.say("plan", plan.describe())
        watched.planned(plan, state)
        if plan.unchanged and not request.dry_run:
            _remember(plan, state, request)
            warn_on_failure(request, _COMES_AGAIN, taking.settle)
            return finished or result_of(plan, request, "unchanged", clock.seconds)
        if (waits := held.found(plan, state, request)) is not None:
            return waits
        request.enter("environment", "")
        # Another Python or library than a model was logged with is refused before a row is read.
        surroundings = routes.compare_environments(job, plan.model, request.say)
        _warn(request, surroundings.notes)
        plan = environment.isolate(plan, surroundings, request)  # or the model gets an environment of its own
        starting.begin(plan, request, stack)
        request.enter("sinks", "")
        access.require(plan, state)
        announcing.require(job, request.warn)
        request.enter("predictions", "")
        plan = plan.read(request)
        if request.dry_run and plan.has_nothing_new:
            return _nothing_to_try(plan, request, clock)
        _require_rows(job, plan.pinned.rows, request)
        carry = carriers.choose(plan, request, stack)
        missing = routes.find_missing(plan, request, carry.executors)  # values of model.by that have no model
        tables = prepare(plan, carry.sample(), request.replays, carry.predictor)  # it is tried, all schemas are fixed
        plan = replace(plan, model=tables.model, quarantine=tables.aside.target)
        access.require_quarantine(plan)
        request.enter("environment", "")
        tables = environment.require(plan, surroundings, tables, state)  # the model answers as it did before
        _warn(request, tables.notes)
        rules.require_engine(plan.on_features, request.engine)
        rules.require_engine(tables.staging.scoring.on_scores, request.engine)
        clock.lap("plan")
        if request.dry_run:
            carry.probe(tables.staging)
            _warn(request, tables.doubts)
            return _dry_run_result(plan, tables, request, clock, state, missing)
        waits_on = stack.enter_context(lease.hold(tables.staging.roots, plan.run_id, state, request.warn))
        tally = checks.tally(carry.run(tables.staging))  # the one pass: files are staged, a manifest comes back
        watched.passed(tally.tasks)
        clock.lap("score")
        if not tally.hopeless:
            _require_rows(job, tally.read, request)
        verdict, moved = judging.judge(plan, tables, tally, carry, state, request)
        receipt = sealing.seal(plan, tables, tally, verdict, carry)
        clock.lap("checks")
        intent = make_intent(plan, tables, tally, verdict, request, clock.seconds, receipt)
        watched.judged(intent, tables)
        against = blocked_message(plan, tables.staging, tally, verdict) if verdict.problems else ""
        compared = comparing.facts(tables.staging, tally)
        facts = functools.partial(evidence.gather_facts, plan, tables.staging, tally, verdict, moved, compared)
        what = "the golden rows of its model could not be kept"
        warn_on_failure(request, what, lambda: environment.keep_golden_rows(plan, tables, state))
        warn_on_failure(request, "its report will be missing", lambda: evidence.save_facts(state, plan.run_id, facts()))
        if why := held.reason(plan, verdict, moved, state, request):
            ended.append(held.hold(intent, comments(plan), why, job, state, request))  # it waits for a person
            waits_on(target.root for target in intent.targets)
        else:
            ensure_tables(intent, comments(plan), tables.missing_columns)
            if not verdict.problems:
                taking.declared()
            ledger.save_intent(
                state, intent
            )  # from here on the run is finished by whoever comes next, if not by itself
            ended.append(carry_out(intent, state, request))
        clock.lap("publish")
        request.patience.renew()
        if ended[0].status == "published":
            warn_on_failure(request, _COMES_AGAIN, taking.settle)
            what = "the profile of this first run could not be kept with the model"
            _remember(plan, state, request)
            warn_on_failure(request, what, lambda: drift.save_first_baseline(plan, state, moved, request.patience))
    if job.tracking is not None:
        tracking.track(job, plan, ended[0], state, request)
    _warn(request, [*verdict.warnings, tables.aside.notice if tally.quarantined else ""])
    told = explanations.in_words(tally.explained, tally.scored)
    for line in [*verdict.summary_lines, *comparing.in_words(compared), *told]:
        request.say("checks", {"message": line})
    if verdict.problems:
        raise Blocked(against, ended[0])
    return ended[0]


def _dry_run_result(
    plan: Plan, tables: Prepared, request: Request, clock: _Clock, state: Location, missing: str
) -> Result:
    """The result of a dry run: the whole plan, with what would be added to tables and what would be checked."""
    added = list(dict.fromkeys(f.name for s in plan.sinks for f in tables.missing_columns[s.target.uri] or ()))
    described = {
        **plan.describe(),
        "units": carriers.units(plan),
        "forecast": forecast.forecast(ledger.runs(state, plan.job.job), plan.pinned.rows, request.engine),
        "adds_columns": added,
        **({"models_missing": missing} if missing else {}),
        **({UNTRIED: f"{_UNFIT}: {tables.untried}"} if tables.untried else {}),
        "checks": judging.describe_checks(plan, tables.staging, state, request),
    }
    return replace(result_of(plan, request, "planned", clock.seconds), plan=described)


def _nothing_to_try(plan: Plan, request: Request, clock: _Clock) -> Result:
    """The result of a dry run to which nothing came that the model could be tried on."""
    said = "what the model answers, and whether the tables take it: nothing new has come to score"
    described = {**plan.describe(), "units": 0, UNTRIED: said}
    return replace(result_of(plan, request, "planned", clock.seconds), plan=described)


def _remember(plan: Plan, state: Location, request: Request) -> None:
    """Keep what the next run need not ask for again if nothing changes: what the model is, and long logs."""
    what = "what its model is could not be kept: the next run fetches it again"
    warn_on_failure(request, what, lambda: models.remember(plan.job.model, plan.model, state))
    warn_on_failure(request, "the tables' logs could not be kept: the next run reads them again", keep_logs)


def _warn(request: Request, messages: Iterable[str]) -> None:
    for message in filter(None, messages):
        request.warn(message)


class _Clock:
    """Seconds a stage; `ended` is told of each at its end."""

    def __init__(self, ended: Callable[[str], None]) -> None:
        self.last = time.perf_counter()
        self.seconds: dict[str, float] = {}
        self.ended = ended

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(now - self.last, 3)
        self.last = now
        self.ended(stage)


def _require_rows(job: Job, rows: int | None, request: Request) -> None:
    """Raise NotReady for too few rows. Of what comes when it comes a dry run warns: the job itself may be fine."""
    if rows is None or rows >= job.source.min_rows:
        return
    name, least = job.source.name, f"{job.source.min_rows:,}"
    if request.dry_run and job.source.IN_RANGES:
        few = f"{name}: {rows:,} rows to score, source.min_rows asks for {least}"
        request.warn(f"{few}: a run that finds no more ends as not ready (exit 6)")
        return
    raise NotReady(
        f"{name}: {rows:,} rows to score, source.min_rows asks for {least}: nothing was replaced; run again when the "
        "input is there"
    )
