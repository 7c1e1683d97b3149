"""A job's tables kept in order: small files merged, files taken away that nothing needs, what runs left behind too.

No row changes, nor whose it is: readers, and the next run, find the same as before. What runs left is `sweep`'s.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse import sinks
from lakehouse.errors import as_ours
from lakehouse.operations import dated, sweep
from lakehouse.operations.leftover import OUTDATED, SMALL, Leftover
from lakehouse.planning import catalog, naming, quarantine
from lakehouse.planning.plan import new_run_id
from lakehouse.runs import held, lease, ledger
from lakehouse.runs.results import restored_run
from lakehouse.scoring.files import TARGET_BYTES
from lakehouse.sinks import Compaction
from lakehouse.sinks.target import uri_of
from lakehouse.storage import Location, locate, tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from lakehouse.config import Job, Sink

_RUN = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NAMED = re.compile(f"(?:^run-|/of-)({_RUN})")
"""The runs that a file's path names: the one that wrote it, and, of a merged file, the one whose rows it has."""


@dataclass(frozen=True)
class Asked:
    """What is asked of a maintenance: an engine for what only Spark can do, files of about so many bytes.

    `dry_run`: only to say what there is to do; `warn` is told what went wrong without stopping it.
    """

    engine: str = "spark"
    dry_run: bool = False
    bytes: int = TARGET_BYTES
    warn: Callable[[str], None] = lambda message: None


@dataclass
class Maintained:
    """What there was to do for one job file, and what else there is to say. `code`: as of other commands."""

    conf: str
    job: str = ""
    code: int = 0
    status: str = "maintained"
    message: str = ""
    found: list[Leftover] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As an object."""
        return asdict(self)


def maintain(conf: str, load: dated.Load, asked: Asked) -> Maintained:
    """Keep the tables and the state of a job in order. Raises nothing: what is wrong is part of what is returned."""
    told = Maintained(conf, Path(conf).stem, status="planned" if asked.dry_run else "maintained")
    try:
        for job in dated.with_tables(load):
            told.job = job.job
            with catalog.open_job(job, "maintain", asked.engine, asked.warn) as at_places:
                _maintain(at_places, asked, told)
    except Exception as error:
        ours = as_ours(error)
        told.code, told.status = (1, "failed") if ours is None else (ours.exit_code, ours.status)
        told.message = f"{type(error).__name__}: {error}" if ours is None else str(ours)
    told.found = list({(one.table, one.run_id, one.what, one.kept): one for one in told.found}.values())
    told.notes = list(dict.fromkeys(told.notes))
    return told


def _maintain(job: Job, asked: Asked, told: Maintained) -> None:
    state = naming.state_of(job)
    named = {uri_of(one): one for one in [*job.sinks, *naming.tables_beside(job), *quarantine.tables(job)]}
    for section in named.values():
        sink = sinks.of(section.type)
        if sink.UPKEEP:
            told.notes.append(f"{section.table}: {sink.UPKEEP}")
        told.found += _compact(job, section, state, asked)
    apart = {uri: _set_apart(job, section, state, asked, told) for uri, section in named.items()}
    told.found += sweep.sweep(job, take_away=not asked.dry_run)
    for uri, paths in apart.items() if not asked.dry_run else ():
        sink, section = sinks.of(named[uri].type), named[uri]
        needed = _needed(uri, sink.folder(section), state, paths) if paths else {}  # by a rollback begun meanwhile
        sink.remove_outdated(section, [path for path in paths if path not in needed])


def _compact(job: Job, section: Sink, state: Location, asked: Asked) -> Iterator[Leftover]:
    """Merge the small files of a table."""
    sink = sinks.of(section.type)
    folder = sink.folder(section)
    begin = None if asked.dry_run or folder is None else partial(_begin, folder, state, asked)
    spark = None if asked.engine == "local" else _session
    found = sink.compact(section, Compaction(asked.bytes, begin, tuple(job.keys), spark))
    if found.files:
        yield Leftover(sink.display_name(uri_of(section)), "", found.files, found.bytes, found.kept, SMALL)


@contextmanager
def _begin(folder: Location, state: Location, asked: Asked) -> Iterator[str]:
    """A run of the maintenance's own, whose lease keeps what it writes until it is committed."""
    run = new_run_id()
    with lease.hold([folder], run, state, asked.warn):
        yield run


def _session(place: Location) -> Any:
    from lakehouse.engines import spark

    return spark.session(delta=True, storages=place.spark_needs())


def _set_apart(job: Job, section: Sink, state: Location, asked: Asked, told: Maintained) -> list[str]:
    """The files that a table has kept long enough, but for those that a run still names; and what goes with them."""
    sink, act, kept_for = sinks.of(section.type), not asked.dry_run, job.retention.files_for
    name, folder = sink.display_name(uri_of(section)), sink.folder(section)
    if kept_for and (changed := sink.keep_files(section, kept_for, change=act)):
        told.notes.append(f"{name}: {changed}, as retention.files says")
    found = sink.outdated(section, kept_for)
    needed = _needed(uri_of(section), folder, state, found) if found else {}
    goes = [path for path in found if path not in needed]
    stays = [path for path in found if path in needed]
    if stays:
        why = f"run {', '.join(sorted({needed[path] for path in stays}))} puts them back"
        told.found.append(Leftover(name, "", len(stays), sum(found[path] for path in stays), why, OUTDATED))
    if goes:
        told.found.append(Leftover(name, "", len(goes), sum(found[path] for path in goes), None, OUTDATED))
    # What the log has dropped goes with the sweep.
    going = {*goes, *((sink.unknown_files(folder) or ()) if folder is not None else ())} - needed.keys()
    if ended := sink.lost_with(section, _concerned(ledger.runs(state, job.job), going), going):
        runs = f"rolling back to run {', '.join(ended)}"
        told.notes.append(f"{name}: {runs} {'is' if act else 'would be'} no longer possible")
    return goes


def _needed(uri: str, folder: Location | None, state: Location, found: Collection[str]) -> dict[str, str]:
    """Those of these files of a table that a run would commit which is not finished, or held, and the run of each.

    Such a run is known to the job's state folder, or to the one that a lease names. All of them are needed by a
    rollback that is in progress and has not said yet which files it puts back.
    """
    leases = _leases(folder) if folder is not None else {}
    states = {state} | {locate(said["state"]) for said in leases.values() if said.get("state")}
    named = {path: run for place in states for path, run in held.files_that_wait(place, uri).items()}
    begun = {run: said for run, said in leases.items() if said.get("restores") and run not in named.values()}
    for run in lease.alive_runs(folder, begun) if folder is not None else ():
        named |= dict.fromkeys(found, run)
    return named


def _leases(folder: Location) -> dict[str, Mapping[str, Any]]:
    """By run what the leases below a table say."""
    there = (path.split("/")[0] for path in tree(folder) if path.endswith(f"/{lease.NAME}"))
    read = {name.removeprefix(sweep.PREFIX): lease.read(folder, name.removeprefix(sweep.PREFIX)) for name in there}
    return {run: said for run, said in read.items() if said}


def _concerned(records: Sequence[Mapping[str, Any]], paths: Collection[str]) -> list[Mapping[str, Any]]:
    """The published runs on record whose rows, by the paths, some of these files may hold."""
    named = {run for path in paths for run in _NAMED.findall(path)}
    published = (record for record in records if record["status"] == "published")
    return [one for one in published if named & {one["run_id"], restored_run(one)}]
