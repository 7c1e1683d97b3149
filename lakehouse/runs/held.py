"""Runs that wait for a person: everything is staged and judged, nothing is committed until somebody says so.

A held run is its intent, kept apart from those that the next run finishes. It ends when it is published or discarded,
or when its time is over, after which it can't be published any more and a sweep takes its files away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from lakehouse import formats
from lakehouse.checks import Verdict
from lakehouse.planning.plan import Plan, Request
from lakehouse.runs import drift, ledger
from lakehouse.runs.ledger import Intent
from lakehouse.runs.results import Result, from_record
from lakehouse.sinks.target import SINK
from lakehouse.storage import Location, content, display_name, remove, tree, write_durably

if TYPE_CHECKING:
    from lakehouse.config import Job


@dataclass(frozen=True)
class Held:
    """A run that is held: what it would commit, why it waits, until when, and the comments of tables not yet made."""

    intent: Intent
    why: str
    until: datetime
    comments: Mapping[str, str]

    @property
    def record(self) -> dict[str, Any]:
        """The run as the ledger's records have it, which has none of it yet: it ended when it was held."""
        message, begun = f"{self.why}; held until {self.until:%Y-%m-%d %H:%M} UTC", self.intent.record["started_at"]
        ended = begun + timedelta(seconds=sum(self.intent.record["seconds"].values()))
        said = {"status": "held", "finished_at": ended, "held_until": self.until, "sinks": [], "message": message}
        return {**self.intent.record, **said}

    def is_over(self) -> bool:
        """Whether its time is over."""
        return ledger.now() > self.until


def reason(plan: Plan, verdict: Verdict, moved: drift.DriftResult, state: Location, request: Request) -> str:
    """Why the run is to wait: as it was asked for, or as the job demands; empty where it need not, or is blocked."""
    asked = plan.job.publish.hold
    if verdict.problems:
        return ""
    if request.hold:
        return "--hold"
    if asked == "always":
        return "publish.hold: always"
    if asked == "when_drifted" and (limit := plan.job.checks.drift) and (far := moved.beyond(limit)):
        return f"publish.hold: when_drifted: {drift.describe(far, limit)}"
    if asked == "when_model_changed":
        return _changed_model(plan, state)
    return ""


def _changed_model(plan: Plan, state: Location) -> str:
    """Why the run is to wait where the last one that was published had another model; empty for the first one."""
    runs = ledger.runs(state, plan.job.job)
    last = next((r for r in runs if r["status"] == "published" and not r.get("as_of")), None)
    if last is None or last["model_digest"] == plan.model.digest:
        return ""
    before, now = ledger.title_of(ledger.model_of(last)), ledger.title_of(plan.model.describe())
    return f"publish.hold: when_model_changed: {before} → {now}"


def hold(intent: Intent, comments: Mapping[str, str], why: str, job: Job, state: Location, request: Request) -> Result:
    """Keep the run until somebody publishes or discards it."""
    days = job.publish.hold_days if request.hold_days is None else request.hold_days
    held = Held(intent, why, request.now + timedelta(days=days), comments)
    said = {
        "intent": ledger.as_json(intent),
        "why": why,
        "until": held.until.isoformat(),
        "comments": dict(comments),
    }
    write_durably(_file(state, intent.run_id), json.dumps(formats.with_version(formats.HELD, said)).encode())
    return from_record(held.record)


def all_of(state: Location, job: str) -> list[Held]:
    """The job's held runs, the newest first. Raises ConfigError where a newer program has held one of them."""
    mine = [held for held in _every(state) if held.intent.record["job"] == job]
    return sorted(mine, key=lambda held: held.until, reverse=True)


def found(plan: Plan, state: Location, request: Request) -> Result | None:
    """How the run stands that holds what this one would: the same slice, generation and fingerprint; else None.

    It is looked for only where this one may be held, too.
    """
    if request.dry_run or request.rescore or not (request.hold or plan.job.publish.hold):
        return None
    mine = [(s.target.uri, s.target.identity, s.target.generation, s.target.fingerprint) for s in plan.sinks]
    for held in all_of(state, plan.job.job):
        theirs = [t for t in held.intent.targets if t.kind == SINK]
        if not held.is_over() and [(t.uri, t.identity, t.generation, t.fingerprint) for t in theirs] == mine:
            return from_record(held.record)
    return None


def runs_that_wait(state: Location) -> dict[str, str]:
    """Runs, of whatever job, whose staged files are still needed, and why."""
    return {
        held.intent.run_id: f"held until {held.until:%Y-%m-%d}: publish or discard it"
        for held in _every(state)
        if not held.is_over()
    }


def files_that_wait(state: Location, uri: str) -> dict[str, str]:
    """The files of a table that runs would commit which wait, to be finished or for a person; by path the run of each.

    A rollback's are files that the table had before, and may have no more.
    """
    waiting = [*ledger.intents(state), *(held.intent for held in _every(state) if not held.is_over())]
    return {f.path: i.run_id for i in waiting for target in i.targets if target.uri == uri for f in target.files}


def waits(state: Location, run: str) -> bool:
    """Whether the run still waits, by what is stored now."""
    return bool(content(_file(state, run)))


def end(state: Location, run: str) -> None:
    """The run waits no longer."""
    remove(_file(state, run))


def _every(state: Location) -> list[Held]:
    return [held for path in tree(_folder(state)) if (held := _read(_folder(state).join(path)))]


def _folder(state: Location) -> Location:
    return state.join("held")


def _file(state: Location, run: str) -> Location:
    return _folder(state).join(f"{run}.json")


def _read(file: Location) -> Held | None:
    """What is in a file of a held run; None where it is gone, or is no such file."""
    if not file.path.endswith(".json") or file.path.rpartition("/")[2].startswith("."):
        return None
    text, place = content(file), display_name(file)

    def make(said: Mapping[str, Any]) -> Held:
        formats.require(formats.INTENT, said["intent"], place)
        intent = ledger.from_json(said["intent"])
        return Held(intent, said["why"], datetime.fromisoformat(said["until"]), said["comments"])

    return None if text is None else formats.parse(formats.HELD, text, place, make)
