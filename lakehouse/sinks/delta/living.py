"""Which runs' rows live in which slice of a Delta table, by its log alone: no file of rows is opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakehouse.connectors import delta
from lakehouse.schemas import JOB, RUN_ID
from lakehouse.sinks import Living
from lakehouse.sinks.delta.history import constant
from lakehouse.sinks.delta.remembering import SAID
from lakehouse.sinks.target import run_id
from lakehouse.storage import locate

if TYPE_CHECKING:
    from lakehouse.config import Sink

_COMMITS = 1000

Slice = tuple[tuple[str, str], ...]


def living(section: Sink, job: str, known: Mapping[str, str]) -> Sequence[Living]:
    """By the statistics of the live files; of one that holds rows of several runs they tell only who may be among them.

    `known`: the job's runs on record, and the identity of each.
    """
    snapshot = delta.open_table(locate(section.table))
    if snapshot is None or not {JOB, RUN_ID} <= set(snapshot.schema.names):
        return []
    found: dict[tuple[Slice, str], tuple[int, bool]] = {}
    for file in snapshot.files([JOB, RUN_ID]):
        place = _place(file)
        for run, rows in _runs_of(snapshot, file, place, section.write, job, known):
            sure, perhaps = found.get((place, run), (0, False))
            found[place, run] = (sure + (rows or 0), perhaps or rows is None)
    unknown = {run for (_, run), _ in found.items()} - set(known)
    said = _said_by_commits(snapshot) if unknown else {}
    return [
        Living(dict(place), run, rows, perhaps, said.get(run, {}) if run in unknown else {})
        for (place, run), (rows, perhaps) in found.items()
        if rows or perhaps
    ]


def _runs_of(
    snapshot: delta.Snapshot, file: delta.DataFile, place: Slice, write: str, job: str, known: Mapping[str, str]
) -> Iterator[tuple[str, int | None]]:
    """The runs of the job that have rows in a file, and how many; None for those that may have some."""
    if not file.may_hold({JOB: job}):
        return
    run = constant(file, RUN_ID)
    if run is not None and constant(file, JOB) == job:
        yield run, file.live_rows
        return
    named = _identity(job, place)
    may = [run for run in known if file.may_hold({RUN_ID: run})]
    if write != "append":  # whose identity is its date
        may = [run for run in may if known[run].lower() == named] or may
    if write == "replace":
        may = [run for run in may if _is_last(snapshot, known[run], run)]
    only = len(may) == 1 and write == "replace" and constant(file, JOB) == job
    for run in may:
        yield run, file.live_rows if only else None


def _place(file: delta.DataFile) -> Slice:
    return tuple((name, str(delta.partition_text(value))) for name, value in file.partition.items())


def _identity(job: str, place: Slice) -> str:
    return (f"{job}/" + ",".join(f"{name}={text}" for name, text in sorted(place))).lower()


def named_place(job: str, file: delta.DataFile) -> str:
    """The identity of a job whose slice is the one that a file lies in, in lower case."""
    return _identity(job, _place(file))


def _is_last(snapshot: delta.Snapshot, identity: str, run: str) -> bool:
    """Whether the run's rows are among those of the last generation of its slice."""
    return snapshot.transaction(run_id(identity, run)) == snapshot.transaction(identity)


def _said_by_commits(snapshot: delta.Snapshot) -> dict[str, dict[str, Any]]:
    """By run what the newest commits say of theirs, with the names of the ledger's columns."""
    found = {}
    for commit in snapshot.history(_COMMITS):
        said = delta.said_by(commit.get("userMetadata"), "lakehouse_run")
        if "model" in said:
            found[str(said["lakehouse_run"])] = {name: said.get(key) for key, name in SAID.items()}
    return found
