"""Whether a run can write where it is going to, found out before its first task."""

from __future__ import annotations

from lakehouse import sinks
from lakehouse.planning.plan import Plan
from lakehouse.sinks.target import Target
from lakehouse.storage import Location, locate, require_own, require_writable


def require(plan: Plan, state: Location) -> None:
    """Raise ConfigError where a table or the job's state can't be written to, or not be made.

    What is tried leaves nothing behind. Raises Unavailable where an object storage does not answer.
    """
    named = [(f"sinks.{number}.table", standing) for number, standing in enumerate(plan.sinks)]
    named += [("comparison.table", plan.beside)] if plan.beside is not None else []
    for what, standing in named:
        target = standing.target
        _require(target, what)
        if standing.existing is None and sinks.of(target.type).IN_PLACE:
            require_own(locate(target.uri), what, [state, plan.quarantine.root])
    require_writable(state, "state")


def require_quarantine(plan: Plan) -> None:
    """Likewise of the quarantine table, once it is known which one takes the run's rows."""
    _require(plan.quarantine, "checks.quarantine.table")


def _require(target: Target, what: str) -> None:
    require_writable(target.root, what if sinks.of(target.type).IN_PLACE else "state")
