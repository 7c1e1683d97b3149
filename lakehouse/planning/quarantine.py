"""Which tables have a job's quarantined rows: its own, and those of the next numbers, where an earlier one can't do.

A quarantine table may be too old for today's features, or be somebody else's: that stops no run. Its rows then go to
the next table by number, `T_2`, `T_3`, …: the first that can hold them, or isn't there yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import sinks, sources
from lakehouse.config import source_of
from lakehouse.planning.naming import quarantine_of
from lakehouse.planning.plan import Plan
from lakehouse.sinks.target import QUARANTINE, QuarantineFit, Target, UnfitForQuarantine, uri_of

if TYPE_CHECKING:
    from lakehouse.config import Job, Sink


@dataclass(frozen=True)
class QuarantineChoice:
    """The quarantine table of a run, how it takes the rows, and what stands against those before it, in words."""

    target: Target
    fit: QuarantineFit
    passed: tuple[str, ...] = ()

    @property
    def notice(self) -> str:
        """Which table takes the rows and why, where it is not the job's own; empty where it is."""
        name = sinks.of(self.target.type).display_name(self.target.uri)
        return f"rows that are set aside go to {name}, since {'; '.join(self.passed)}" if self.passed else ""


def numbered_table(table: Sink, number: int) -> Sink:
    """The job's quarantine table for 1, else the table of that number beside it."""
    if number == 1:
        return table
    return table.model_copy(update={"table": sinks.of(table.type).beside(uri_of(table), f"_{number}")})


def choose_table(plan: Plan, wanted: pa.Schema, replayed: bool) -> QuarantineChoice:
    """The first table, by number, that can hold rows of this schema (with the slice), or isn't there yet."""
    own, source, passed = quarantine_of(plan.job), plan.job.source, list[str]()
    taken = {standing.target.uri for standing in plan.sinks}
    if not replayed and (read := sources.of(source.type).uri_of(source)):
        taken.add(read)
    for number in count(1):
        target = replace(plan.quarantine, uri=uri_of(numbered_table(own, number)))
        sink = sinks.of(target.type)
        try:
            if target.uri in taken:
                raise UnfitForQuarantine(f"{sink.display_name(target.uri)} is another table of this job")
            return QuarantineChoice(target, sink.fit_quarantine(target, wanted), tuple(passed))
        except UnfitForQuarantine as error:
            passed.append(str(error))
    raise AssertionError("unreachable")


def tables(job: Job) -> list[Sink]:
    """The job's quarantine tables by number, and the places of the next two; what else lies there is left out."""
    found: list[Sink] = []
    absent = 0
    for number in count(1):
        table = numbered_table(quarantine_of(job), number)
        there = sinks.of(table.type).has_quarantine(uri_of(table))
        absent = absent + 1 if there is None else 0  # somebody may have dropped one between others
        if there is not False:
            found.append(table)
        if absent == 2:
            return found
    raise AssertionError("unreachable")


def of_run(job: Job, record: Mapping[str, Any]) -> Sink:
    """The table that has the rows that a run set aside, by its record."""
    table = quarantine_of(job)
    system = sinks.of(table.type)
    own, used = system.name_in(system.display_name(uri_of(table))), ""
    for sink in record["sinks"] or ():
        if sink.get("kind") == QUARANTINE and sink["type"] == table.type:
            used = system.name_in(sink["table"])
    number = re.fullmatch(re.escape(own) + r"_([2-9]|[1-9]\d+)", used)
    return numbered_table(table, int(number[1]) if number else 1)


def replay_job(job: Job, record: Mapping[str, Any]) -> Job:
    """The job with the rows as its input that one of its runs set aside."""
    run = str(record["run_id"])
    table = of_run(job, record)
    where = sources.of(table.type).rows_of_run(run)
    source = source_of(table, where=where, min_rows=job.source.min_rows)
    return job.model_copy(update={"source": source})
