"""What a job's runs left in its state folder: records that are kept no longer, and small files that are to be merged.

A run appends a small file to each table of the state folder and merges none: that is left to `sweep`, so that no run
takes longer for those before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lakehouse import sinks
from lakehouse.operations.leftover import OUTDATED, RECORD, SMALL, Leftover
from lakehouse.planning import naming
from lakehouse.runs import evidence, ledger, tables
from lakehouse.runs.restoring import is_rollback
from lakehouse.sinks.target import QUARANTINE, uri_of
from lakehouse.storage import Location, display_name, remove

if TYPE_CHECKING:
    from lakehouse.config import Job

_BUSY = "another run was recorded meanwhile: sweep again"


def tidy(job: Job, state: Location, now: datetime, *, take_away: bool) -> Iterator[Leftover]:
    """Records that are kept no longer, and files that are worth merging or were merged; done if `take_away`."""
    runs = expired(job, state, now)
    reports = evidence.report_files(state, runs)
    places = [state.join(name) for name in evidence.TABLES]
    found = {place: tables.untidy(place, job.job) for place in places}
    busy = None
    if take_away:
        for file in (file for files in reports.values() for file in files):
            remove(state.join(file))
        # The record goes last, so that what is cut off here is found again.
        done = all(tables.rewrite(place, job.job, runs) for place in places if runs or found[place][0])
        busy = None if done else _BUSY
        for place in (place for place, (_, outdated) in found.items() if outdated):
            tables.remove_outdated(place)
    for run, files in reports.items():
        yield Leftover(display_name(state), run, len(files), sum(files.values()), busy, RECORD)
    for place, (small, outdated) in found.items():
        for what, sizes, kept in ((SMALL, small, busy), (OUTDATED, outdated, None)):
            if sizes:
                yield Leftover(display_name(place), "", len(sizes), sum(sizes), kept, what)


def expired(job: Job, state: Location, now: datetime, known: Sequence[Mapping[str, Any]] | None = None) -> list[str]:
    """The job's runs that ended longer ago than `retention` keeps them, and that nothing stands on.

    That is, none of whose rows live in a table of the job, after which their slice was published again, or emptied;
    and that don't wait to be finished. Those that published to a table which the job doesn't name stay: nothing is
    known of it here. `known`: all runs, by default those on record.
    """
    if job.retention.age is None:
        return []
    sections = [*job.sinks, *naming.tables_beside(job)]
    named = {sinks.of(one.type).display_name(uri_of(one)) for one in sections}
    known = ledger.runs(state, job.job) if known is None else known
    records = [record for record in known if _tables_of(record) <= named]
    before, waiting = now - job.retention.age, ledger.runs_with_intents(state)
    old = {str(r["run_id"]): r for r in records if r["finished_at"] < before and r["run_id"] not in waiting}
    if not old:
        return []
    alive = set().union(*(sinks.of(one.type).live_runs(one, job.job, old) for one in sections))
    over = ledger.superseded_runs(records)
    return [run for run, record in old.items() if run not in alive and (run in over or _had_rows(record))]


def _tables_of(record: Mapping[str, Any]) -> set[str]:
    """The tables that a run published to, as people write them; that of its quarantine is no concern here."""
    return {str(sink["table"]) for sink in record["sinks"] or () if sink.get("kind") != QUARANTINE}


def _had_rows(record: Mapping[str, Any]) -> bool:
    """Whether rows named it once; those that a rollback put back name the run that had scored them."""
    return bool(record["status"] == "published" and record["rows_scored"] and not is_rollback(record))
