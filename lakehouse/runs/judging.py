"""Whether a run may be published: its budget, suites, keys and drift, all held against what the pass counted."""

from __future__ import annotations

from collections.abc import Sequence

from lakehouse import checks
from lakehouse.checks import Finding, Problem, Tally, Verdict, uniqueness
from lakehouse.checks.rules import Delegated
from lakehouse.config import Checks, Quarantine
from lakehouse.planning.carriers import Carrier
from lakehouse.planning.plan import Plan, Request
from lakehouse.planning.prepare import Prepared
from lakehouse.runs import drift
from lakehouse.scoring.staging import Staging
from lakehouse.storage import Location


def judge(
    plan: Plan, tables: Prepared, tally: Tally, carry: Carrier, state: Location, request: Request
) -> tuple[Verdict, drift.DriftResult]:
    """The verdict of all checks, and how the run stands to its baseline."""
    staging = tables.staging
    twice, repeated = _repeated_keys(plan, staging, tally, carry)
    stands = [
        Problem("keys", twice),
        Problem("model", _cut_short(plan, tables, tally)),
        Problem("model", _guess(tables, tally)),
    ]
    if request.replays is not None:  # what is asked of a whole run can't be asked of a few rows of it
        return checks.judge(
            tally, [], Checks(quarantine=Quarantine(max_fraction=1.0)), stands, [repeated, *tables.doubts]
        ), drift.without_baseline(tally)
    found = _findings(plan, staging, tally, carry)
    moved, against, doubt = _drift(plan, tally, state, request)
    doubts = [repeated, doubt, _never_there(plan, tally, moved), *tables.doubts]
    adds = plan.sink.range is not None
    return checks.judge(tally, found, plan.job.checks, [*stands, against], doubts, adds=adds), moved


def describe_checks(plan: Plan, staging: Staging, state: Location, request: Request) -> list[str]:
    """What will be checked, and where, a line each."""
    asked, suites = plan.job.checks, {"features": plan.on_features, "scores": staging.scoring.on_scores}
    try:
        baseline = drift.origin(plan, state, request.patience) if asked.drift else ""
    except Exception as error:  # a run may do without it, see `_drift`
        baseline = f"can't be read: {error}"
    return checks.describe(suites, asked, plan.pinned.rows, baseline)


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


def _guess(tables: Prepared, tally: Tally) -> str:
    """Why scores can't be published, nor a table be made for them, whose type is a guess."""
    if tables.guessed and not tally.scored:
        names = ", ".join(tables.guessed)
        return (
            f"no row could be given to the model, so that the type of {names} isn't known for sure: the table of "
            "scores is made by a run that can score some"
        )
    if not tables.untried or not tally.scored:
        return ""
    names = ", ".join(output.name for output in tables.staging.scoring.outputs)
    return (
        f"no row of the sample had a key and all features, so that the type of {names} was not known when the scoring "
        "began: have the input begin with rows that can be scored, or use the local engine, which looks at all of them"
    )


def _never_there(plan: Plan, tally: Tally, moved: drift.DriftResult) -> str:
    """That a field may be named otherwise, where no message has a value of it; a table's columns are known to be there.

    One that the model doesn't require may well be missing.
    """
    seen = moved.profiles.get("features")
    if plan.sink.range is None or seen is None or not tally.scored:
        return ""
    columns = dict.fromkeys(f.column for f in plan.features if f.required)
    empty = [c for c in columns if c in seen.columns and seen.columns[c].nulls == seen.columns[c].rows]
    if not empty:
        return ""
    return (
        f"not one of {tally.scored:,} messages has a value for {', '.join(empty)}, which the model requires; they were "
        "scored with nulls. Is a field of source.schema named otherwise? features: {nulls: quarantine} sets such "
        "messages aside"
    )


def _findings(plan: Plan, staging: Staging, tally: Tally, carry: Carrier) -> list[Finding]:
    """What became of every expectation: most were counted in the pass, Great Expectations runs the rest."""
    found, left = checks.findings("features", plan.on_features, tally.checks["features"])
    if left and not tally.hopeless:
        found += checks.validate("features", left, carry.features(_columns_needed(left)))
    more, left = checks.findings("scores", staging.scoring.on_scores, tally.checks["scores"])
    if left and tally.scored_files and not tally.hopeless:
        more += checks.validate("scores", left, carry.scores(_columns_needed(left), staging, tally))
    return [*found, *more]


def _drift(plan: Plan, tally: Tally, state: Location, request: Request) -> tuple[drift.DriftResult, Problem, str]:
    """How the run stands to its baseline, and what of that stands against publishing or is worth a warning."""
    limit = plan.job.checks.drift
    try:
        found = drift.compare_with_baseline(plan, tally, state, request.patience)
    except Exception as error:
        if limit is not None and limit.action == "block":
            raise
        request.say("warning", {"message": f"drift is not known, the baseline can't be read: {error}"})
        return drift.without_baseline(tally), Problem("drift", ""), ""
    said, blocks = drift.describe(found.beyond(limit), limit) if limit else "", bool(limit and limit.action == "block")
    remedy = "checks: {drift: {psi: …}}, or its action: warn"
    return found, Problem("drift", said if blocks else "", remedy), "" if blocks else said


def _columns_needed(others: Sequence[Delegated]) -> tuple[str, ...]:
    """The columns that expectations read, all (none named) where one doesn't say."""
    named = [other.columns for other in others]
    return tuple(dict.fromkeys(c for columns in named for c in columns)) if all(named) else ()


def _repeated_keys(plan: Plan, staging: Staging, tally: Tally, carry: Carrier) -> tuple[str, str]:
    """What stands against publishing, and what is worth a warning, where several of the run's rows have one key."""
    there = carry.executors
    ask = None if there is None else lambda work, items: there().ask(work, items)
    found = uniqueness.find_repeated(staging, tally, ask=ask) if staging.unique_keys else uniqueness.RepeatedKeys()
    if not found.keys:
        return "", ""
    if plan.sink.write == "merge":
        return f"merge: {found}", ""
    if plan.job.keys_unique == "refuse":
        return f"keys_unique: {found}", ""
    return "", f"keys: {found} (keys_unique: refuse blocks such a run, ignore looks for none)"
