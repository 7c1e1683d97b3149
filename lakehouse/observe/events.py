"""What there is to hear of a run: that it starts, what it is to do, each stage's end, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lakehouse.errors import Blocked, ConfigError, LakehouseError, NotReady, Unavailable, as_ours

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.planning.plan import Plan
    from lakehouse.planning.prepare import Prepared
    from lakehouse.runs.ledger import Intent
    from lakehouse.runs.results import Result


SCORE, PUBLISH, ROLLBACK, DISCARD = "score", "publish", "rollback", "discard"
"""The commands that runs are of."""
ROLLED_BACK, DISCARDED = "rolled_back", "discarded"
"""How those end that take something back."""


class Untold(LakehouseError):
    """A system did not take what it was told; the message names no secret."""


@dataclass(frozen=True)
class Run:
    """The run that is observed, and the command that it is of. A replay, too, is of SCORE."""

    job: Job
    run_id: str
    engine: str
    command: str = SCORE

    @property
    def goes_on(self) -> bool:
        """Whether it was told of before, as one that is held."""
        return self.command in (PUBLISH, DISCARD)

    @property
    def undoes(self) -> bool:
        """Whether it scores and publishes nothing of its own, but takes back what a run did."""
        return self.command in (ROLLBACK, DISCARD)


@dataclass(frozen=True)
class Started:
    """The run begins. Times of all events are UTC."""

    at: datetime


@dataclass(frozen=True)
class Planned:
    """It is decided what is read and scored."""

    at: datetime
    plan: Plan


@dataclass(frozen=True)
class StageEnded:
    """A stage of the run is over: plan, score, checks or publish."""

    name: str
    began: datetime
    at: datetime


@dataclass(frozen=True)
class Passed:
    """All rows are read. `tasks`: when each task was at work, and on what (`checks.timeline`)."""

    at: datetime
    tasks: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Judged:
    """The rows are staged and judged: what is about to be committed. `tables`: the model as it was called, schemas."""

    at: datetime
    intent: Intent
    tables: Prepared | None = None


@dataclass(frozen=True)
class Ended:
    """How a run ended, once that is certain: after its commits.

    `status` is that of the result or of the error, "stopped" for a run that was interrupted, ROLLED_BACK or DISCARDED
    for one that takes back what a run did. `result`: where the run
    has one of its own; `facts`: reads what its page shows, None where nothing was kept. `early`: it ended before a row
    of the input was read. `earlier`: it is another run, begun before, which this one has finished.
    """

    at: datetime
    run_id: str
    status: str
    result: Result | None = None
    error: BaseException | None = None
    facts: Callable[[], Mapping[str, Any] | None] = lambda: None
    early: bool = False
    earlier: bool = False

    @property
    def message(self) -> str:
        """Why it ended so, without rows or values of any but what its page shows."""
        if self.result is not None and (self.error is None or isinstance(self.error, Blocked)):
            return self.result.message or ""
        ours = as_ours(self.error) if self.error is not None else None
        if ours is None:
            return type(self.error).__name__ if self.error is not None else ""
        tells_no_row = isinstance(ours, ConfigError | Unavailable | NotReady)
        return str(ours) if self.early or tells_no_row else f"{_named(ours)}: the run's log says why"

    @property
    def rows(self) -> dict[str, int]:
        """Rows by what became of them; none where the run has no result of its own."""
        if self.result is None:
            return {}
        of = self.result
        return {"read": of.rows_read, "scored": of.rows_scored, "quarantined": of.rows_quarantined}

    @property
    def drift(self) -> dict[str, Any]:
        """How many `columns` are beyond the job's limit, and the largest `psi`; empty where none was compared."""
        drift = (self.facts() or {}).get("drift") or {}
        psi = [value for value in (drift.get("figures") or {}).get("psi", ()) if value is not None]
        return {"columns": drift.get("drifted") or 0, "psi": max(psi)} if psi else {}

    @property
    def code(self) -> int:
        """The exit code of a command that ends so."""
        if self.error is None:
            return 0
        ours = as_ours(self.error)
        return ours.exit_code if ours is not None else 130 if isinstance(self.error, KeyboardInterrupt) else 1


Event = Started | Planned | Passed | StageEnded | Judged | Ended
Observe = Callable[[Event], None]
"""Hears a run's events, in their order. The first error that it raises is told as a warning."""


def _named(error: LakehouseError) -> str:
    return "the model was refused" if error.exit_code == 4 else f"{type(error).__name__} (exit {error.exit_code})"
