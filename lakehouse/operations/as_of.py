"""A job as it would have run right after a date: the model that its alias named then, and the input as it was then.

What an alias named when is told by three things: what the job's own runs found when they looked it up (the ledger),
what `lakehouse promote` moved (the table `promotions`), and a tag of model versions that teams may set. A moment is
known where what is known before it and after it agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from lakehouse import models, sources
from lakehouse.errors import ConfigError, NotReady
from lakehouse.operations import promotion
from lakehouse.planning import catalog, naming
from lakehouse.runs import ledger

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.storage import Location


@dataclass(frozen=True)
class Event:
    """The alias named `version` at this time; `moved`: from then on. `digest`: the version's bytes as they were found.

    `told`: who says so, for people.
    """

    at: datetime
    version: str
    told: str
    moved: bool = False
    digest: str = ""


@dataclass(frozen=True)
class Then:
    """A job as of a moment (UTC), and the digest that its model must have, "" where none was seen."""

    job: Job
    moment: datetime
    digest: str


def moment_of(day: str, hours: int) -> datetime:
    """The end of a date in UTC, and so many hours later. Raises ConfigError where there is no such time."""
    try:
        return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC) + timedelta(days=1, hours=hours)
    except OverflowError as error:
        raise ConfigError(
            f"{day} as of {hours:,} hours after its end: there is no such time: give fewer hours"
        ) from error


def as_of(job: Job, day: str, hours: int, now: datetime) -> Then:
    """The job with the version that its alias named right before the moment, and the input as it was right before it.

    Raises ConfigError where one of them isn't known, NotReady where the moment is still to come.
    """
    moment = moment_of(day, hours)
    if moment > now:
        raise NotReady(f"{day}: as of {_text(moment)}, which is still to come: run again then")
    _require_one_model(job)
    with catalog.open_job(job, "as of") as at_places:
        uri, digest = _model_then(at_places, moment, now)
        there = sources.of(job.source.type).as_of(at_places.source, moment)
    kept = {key: getattr(there, key) for key in ("version", "timestamp") if hasattr(there, key)}
    model = job.model.model_copy(update={"uri": uri})
    return Then(job.model_copy(update={"model": model, "source": job.source.model_copy(update=kept)}), moment, digest)


def _require_one_model(job: Job) -> None:
    """Raise ConfigError for models whose past can't be told."""
    if job.model.by is not None:
        raise ConfigError(f"model.by: which versions the models by {job.model.by} had on a date isn't kept: no --as-of")
    if job.model.challengers:
        raise ConfigError("model.challengers: which versions they had on a date isn't kept: leave them out for --as-of")
    if models.is_local(job.model.uri):
        raise ConfigError(f"model.uri: {job.model.uri} is a folder, whose former content isn't known: no --as-of")


def _model_then(job: Job, moment: datetime, now: datetime) -> tuple[str, str]:
    """The URI of one version for good, and its digest where a run has seen it; as it is for one that names no alias."""
    named = models.alias_in(job.model.uri)
    if named is None:
        return job.model.uri, ""
    said = models.alias_now(job.model)
    events = [Event(now, said.version, "the registry's alias now")]
    events += [Event(at, v, f"its tag {models.tag_of(said.alias)}", moved=True) for at, v in said.since if at <= now]
    events += _seen(naming.state_of(job), job.job, said)
    known = held_at(events, moment, f"{said.name}@{said.alias}")
    digest = next((one.digest for one in events if one.version == known and one.digest), "")
    return f"models:/{said.name}/{known}", digest


def _seen(state: Location, job: str, said: models.Alias) -> Iterable[Event]:
    """What the ledger knows of an alias: what runs found, and what was moved by `promote`."""
    for record in ledger.runs(state, job):
        if record.get("alias") == said.alias and record["model_name"] == said.name:
            run = f"run {record['run_id']}"
            yield Event(record["started_at"], record["model_version"], run, digest=record["model_digest"])
    for moved in promotion.moves(state, said.name, said.alias):
        yield Event(moved["begun_at"], moved["version"], f"promoted from version {moved['before']}", moved=True)


def held_at(events: Sequence[Event], moment: datetime, alias: str) -> str:
    """The version that an alias named right before a moment. Raises ConfigError where that isn't known."""
    ordered = sorted(events, key=lambda event: event.at)
    before = [event for event in ordered if event.at < moment]
    after = next((event for event in ordered if event.at >= moment), None)
    if not before:
        first = f"; {after.told} says version {after.version} at {_text(after.at)}" if after else ""
        raise ConfigError(
            f"{alias} as of {_text(moment)} isn't known: no run had looked it up by then, and no version has the tag "
            f"{models.tag_of(alias.rpartition('@')[2])} with an earlier time{first}; give it to the version that had "
            "the alias, such as 2026-01-02T03:04:05Z"
        )
    last = before[-1]
    if after is None or (after.version != last.version) == after.moved:
        return last.version
    raise ConfigError(
        f"{alias} as of {_text(moment)} isn't known: {_says(last)}, {_says(after)}, and it moved in between; the "
        f"tag {models.tag_of(alias.rpartition('@')[2])} of the version that it moved to would tell when, such as "
        "2026-01-02T03:04:05Z"
    )


def _says(event: Event) -> str:
    return f"version {event.version} at {_text(event.at)} ({event.told})"


def _text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
