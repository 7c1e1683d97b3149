"""Left-overs of runs: files and tables that nobody needs, of runs that are finished or dead; listed, and removed.

What runs left in the state folder is `retention`'s.

A run in progress says so in a lease beside its staged files; a run that waits to be finished has an intent. Files that
a table's log knows, be it only as removed ones that time travel may still ask for, are VACUUM's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from lakehouse import sinks, sources
from lakehouse.operations import retention
from lakehouse.operations.leftover import TAKEN, Leftover
from lakehouse.planning import naming, quarantine, ranges
from lakehouse.planning.naming import staging_folders
from lakehouse.runs import held, lease, ledger
from lakehouse.storage import Location, display_name, locate, remove, remove_empty, tree

if TYPE_CHECKING:
    from lakehouse.config import Job, Sink

PREFIX = "run-"
_DAY_S = 86_400
_UNDER_WAY = "its run may be under way: it goes when it is a day old"
_WAITS = "waits to be finished by the next run of its job"


@dataclass(frozen=True)
class _FolderContent:
    """A run's folder as it was found: what in it no log knows, and why it must stay."""

    files: Mapping[str, int]
    kept: str | None


def sweep(job: Job, *, take_away: bool, warn: Callable[[str], None] = lambda message: None) -> list[Leftover]:
    """The left-overs in the job's scored and quarantine tables and its state; removed, or merged, if `take_away`.

    `warn` is told where its own lease can't be taken away at the end; the next one does that.
    Raises Unavailable where the storage can't be reached.
    """
    named, state = [*job.sinks, *naming.tables_beside(job), *quarantine.tables(job)], naming.state_of(job)
    folders_of: list[tuple[Location, sinks.SinkModule | None]] = [
        (folder, sinks.of(one.type)) for one in named if (folder := sinks.of(one.type).folder(one))
    ]
    folders_of += [(folder, None) for folder in staging_folders(job)]
    found = [left for folder, sink in folders_of for left in _sweep_folder(folder, sink, state, take_away, warn)]
    for section in named:
        found += _sweep_uploads(section, [folder for folder, _ in folders_of], state, take_away)
    found += _sweep_taken(job, state, take_away)
    return [*found, *retention.tidy(job, state, ledger.now(), take_away=take_away)]


def _sweep_taken(job: Job, state: Location, take_away: bool) -> Iterator[Leftover]:
    """What runs were handed out by their source and have put down, but for what one may publish yet."""
    if not job.source.TAKES:
        return
    # The order matters: what has no intent now was published before the positions are read, or its run is under way.
    waits = any(intent.record.get("job") == job.job for intent in ledger.intents(state))
    module = cast("sources.TakingModule", sources.of(job.source.type))
    for left in module.left(ranges.going_on(job), job.job, state):
        files, young = tree(left.folder), time.time() - left.at_s < _DAY_S
        kept = None if left.over else _WAITS if waits else _UNDER_WAY if young else None
        if take_away and kept is None:
            for name in files:
                remove(left.folder.join(name))
            remove_empty(left.folder)
        yield Leftover(display_name(left.folder), "", len(files), sum(files.values()), kept, TAKEN)


def _sweep_uploads(
    section: Sink, folders_of: Sequence[Location], state: Location, take_away: bool
) -> Iterator[Leftover]:
    """What runs left in a table's system. Whoever uploads has a lease on its staged files, or an intent."""
    sink = sinks.of(section.type)
    found = sink.uploaded(section)

    def kept(runs: Iterable[str]) -> dict[str, str]:
        why = dict.fromkeys(ledger.runs_with_intents(state), _WAITS) | held.runs_that_wait(state)
        for folder in folders_of:
            why |= lease.alive_runs(folder, {run: lease.read(folder, run) for run in runs})
        return why

    stays = kept(found)
    for run, (files, size) in found.items():
        if take_away and run not in stays:
            stays |= kept([run])  # one that was taken for dead may have woken up
        yield Leftover(sink.display_name(sink.uri_of(section)), run, files, size, stays.get(run))
        if take_away and run not in stays:
            sink.remove_uploaded(section, run)


def _sweep_folder(
    table: Location,
    sink: sinks.SinkModule | None,
    state: Location,
    take_away: bool,
    warn: Callable[[str], None],
) -> Iterator[Leftover]:
    found = _look(table, sink, state)
    doubted = [run for run, seen in found.items() if seen.kept is None]
    if take_away and doubted:
        with lease.sweep(table, state, warn):
            # One that was taken for dead may have woken up, and published; a rollback may have begun.
            found = _agree(found, _look(table, sink, state, doubted))
            for run, seen in found.items():
                for path in seen.files if seen.kept is None else ():
                    remove(table.join(f"{PREFIX}{run}", path))
                if seen.kept is None:
                    lease.end(table, run)
    for run, seen in found.items():
        yield Leftover(display_name(table), run, len(seen.files), sum(seen.files.values()), seen.kept)


def _agree(first: Mapping[str, _FolderContent], then: Mapping[str, _FolderContent]) -> dict[str, _FolderContent]:
    """What both looks found: a run is kept that either of them keeps, a file may go that both would take."""
    return {
        run: _FolderContent(
            {path: size for path, size in first[run].files.items() if path in seen.files},
            first[run].kept or seen.kept,
        )
        for run, seen in then.items()
        if run in first
    }


def _look(
    table: Location, sink: sinks.SinkModule | None, state: Location, doubted: Collection[str] = ()
) -> dict[str, _FolderContent]:
    """What is in the folders of runs, by one listing. Leases are read that are listed, and those of `doubted` runs: one
    that began while the folder was listed may have files in it without its lease."""
    listed: dict[str, dict[str, int]] = {}
    for path, size in tree(table).items():
        folder, below, name = path.partition("/")
        if below and folder.startswith(PREFIX):
            listed.setdefault(folder.removeprefix(PREFIX), {})[name] = size
    # The order matters: whoever is neither alive nor waiting now has made its commits before the log is read.
    leases = {run: lease.read(table, run) for run, files in listed.items() if lease.NAME in files or run in doubted}
    alive = lease.alive_runs(table, leases)
    states = {state} | {locate(said["state"]) for said in leases.values() if said and said.get("state")}
    waiting = {run: _WAITS for place in states for run in ledger.runs_with_intents(place)}
    waiting |= {run: why for place in states for run, why in held.runs_that_wait(place).items()}
    named: dict[str, str] = {}  # whosever folder they are in
    for place in states:
        named |= held.files_that_wait(place, table.uri)
    begun = [run for run in alive if (leases[run] or {}).get("restores") and run not in named.values()]
    restoring = f"run {begun[0]} is about to put former files back" if begun else None  # nobody knows yet which
    unknown = sink.unknown_files(table) if sink else None
    found = {}
    for run, there in listed.items():
        files = {path: size for path, size in there.items() if not path.endswith(lease.NAME)}
        if unknown is not None:
            files = {path: size for path, size in files.items() if f"{PREFIX}{run}/{path}" in unknown}
        kept = alive.get(run) or waiting.get(run) or restoring
        files = files if kept else {path: size for path, size in files.items() if f"{PREFIX}{run}/{path}" not in named}
        if files or kept or leases.get(run):
            found[run] = _FolderContent(files, kept)
    return found
