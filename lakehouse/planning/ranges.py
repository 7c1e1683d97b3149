"""Inputs of which each run takes what came since the last published one: where reading goes on, what that rules out.

The ranges of a job have no dates and replace nothing: each is published once, under an identity of its own, which is
where it begins. So of two runs that begin at the same place one is published, and where a run was blocked, the next one
that is published from there on takes its place.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from lakehouse import sinks, sources
from lakehouse.errors import ConfigError
from lakehouse.planning.naming import identity_of
from lakehouse.sinks.target import Overtaken, uri_of

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.config.systems import Source
    from lakehouse.connectors.messages import Range
    from lakehouse.planning.plan import Request
    from lakehouse.sources import Taking, TakingModule
    from lakehouse.storage import Location


def going_on(job: Job) -> Source:
    """The job's source, from where the scored tables remember to have come.

    Raises Overtaken where one of them remembers something else than the first.
    """
    if not job.source.IN_RANGES:
        return job.source
    first, *others = job.sinks
    positions = sinks.of(first.type).positions(uri_of(first), job.job)
    for sink in others:
        if sinks.of(sink.type).positions(uri_of(sink), job.job) != positions:
            names = [sinks.of(each.type).display_name(uri_of(each)) for each in (sink, first)]
            raise Overtaken(
                f"{names[0]} was not published up to the same messages as {names[1]}: another run is about to do that, "
                "so run again; if it stays so (one of them was added to the job, or made anew), give the job another "
                "name and new tables"
            )
    return job.source.after(positions)


@dataclass(frozen=True)
class NothingTaken:
    """What a run takes of a system that hands nothing out."""

    def declared(self) -> None:
        """Nothing is to be done."""

    def settle(self) -> None:
        """Nothing is to be done."""


def take(job: Job, state: Location, request: Request, stack: ExitStack) -> tuple[Job, Taking]:
    """The job as this run reads it, and what it takes where its system hands rows out: given back when `stack` ends."""
    if not job.source.TAKES:
        return job, NothingTaken()
    module = cast("TakingModule", sources.of(job.source.type))
    taking = stack.enter_context(module.taken(job.job, state, few=request.dry_run))
    return job.model_copy(update={"source": job.source.with_taking(taking)}), taking


def identity(job: Job, span: Range | None) -> str:
    """The name of what a run publishes: the job's with its slice, or with where the range begins."""
    return identity_of(job) if span is None else f"{identity_of(job)}from={span.digest}"


def require_use_of_date(job: Job, date: str | None) -> None:
    """Raise ConfigError for a date that plays no part, where each run takes what came since the last one."""
    if job.source.IN_RANGES and date is not None and not job.is_dated:
        raise ConfigError(
            f"--date plays no part with source.type: {job.source.type}: a run takes what came since the last one, "
            "whatever its date, and nothing in the job file uses {date}; leave --date out"
        )


def require_plain(job: Job, request: Request) -> None:
    """Raise ConfigError for what can't be asked of a run that takes what came since the last one."""
    if not job.source.IN_RANGES:
        return
    require_use_of_date(job, job.date)
    asked = {
        "--rescore": (request.rescore, "what was published is not read again"),
        "--hold": (request.hold, "a run that waits would have its messages scored again by the next"),
        "a replay": (request.replays is not None, "what was set aside can't be scored again yet"),
        "--as-of": (request.as_of is not None, "what the topic held then isn't known"),
    }
    for what, (given, why) in asked.items():
        if given:
            raise ConfigError(f"{what} does not go together with source.type: {job.source.type}: {why}")
