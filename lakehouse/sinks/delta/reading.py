"""How a published Delta table is read by people: its columns, and a few of its rows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.conditions import equals
from lakehouse.connectors import delta
from lakehouse.connectors.digest import Digest, of_batches
from lakehouse.connectors.spark import is_catalog_name
from lakehouse.errors import ConfigError
from lakehouse.schemas import JOB, REASONS, RUN_ID
from lakehouse.scoring import files
from lakehouse.sinks import LiveFile, LiveTable
from lakehouse.sinks.delta.history import live_files_of_slice, live_owners
from lakehouse.sinks.slices import slice_texts, slice_types
from lakehouse.storage import Location, display_name, locate, sizes

if TYPE_CHECKING:
    from lakehouse.config import Sink

SYSTEM = "Delta"
NATIVE = None


def columns(section: Sink) -> pa.Schema | None:
    """The table's columns by its log, none where there is no table yet; None for a name of Spark's catalog."""
    if is_catalog_name(section.table):
        return None
    snapshot = delta.open_table(locate(section.table))
    return snapshot.schema if snapshot else pa.schema([])


def stored_columns(section: Sink, names: Sequence[str]) -> pa.Schema:
    """By its log."""
    return columns(section) or pa.schema([])


def preview(
    section: Sink,
    table: str,
    run: str,
    values: Mapping[str, str],
    chosen: Callable[[Sequence[str]], Sequence[str]],
    limit: int,
) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """Rows of the slice's first file, of the run's own files where there are any."""
    snapshot = delta.open_table(locate(table))
    live = snapshot.files() if snapshot else []
    mine = [f for f in live if all(delta.partition_text(f.partition.get(c)) == v for c, v in values.items())]
    if snapshot is None or not mine:
        return [], []
    mine = [f for f in mine if f.relative.startswith(f"run-{run}/")] or mine
    names = chosen(snapshot.schema.names)
    rows = files.head(snapshot.location, mine[0].relative, names, limit)
    return names, [[row.get(name) for name in names] for row in rows]


def set_aside(section: Sink, job: str, runs: Collection[str] | None) -> Iterator[pa.RecordBatch]:
    """Run and reasons of a job's quarantined rows; files are read that may hold some of these runs."""
    snapshot, names = delta.open_table(locate(section.table)), None if runs is None else sorted(runs)
    for file in snapshot.files([JOB, RUN_ID]) if snapshot else ():
        if snapshot and file.may_hold({JOB: job}) and (names is None or _may_hold_one(file, names)):
            for rows in delta.batches_of(snapshot, [RUN_ID, JOB, REASONS], file):
                yield rows.filter(pc.equal(rows.column(JOB), job)).select([RUN_ID, REASONS])


def live_runs(section: Sink, job: str, of: Collection[str]) -> set[str]:
    """By the log; files are opened that may hold rows of one of the runs, and of which it doesn't tell."""
    snapshot, names = delta.open_table(locate(section.table)), sorted(of)
    if snapshot is None or not {JOB, RUN_ID} <= set(snapshot.schema.names):
        return set()
    files = [f for f in snapshot.files([JOB, RUN_ID]) if f.may_hold({JOB: job}) and _may_hold_one(f, names)]
    return {run for owner, run in live_owners(snapshot, files) if owner == job} & set(of)


def _may_hold_one(file: delta.DataFile, runs: Sequence[str]) -> bool:
    """Whether one of these runs, in order, lies between the file's bounds."""
    least, greatest, _ = file.bounds.get(RUN_ID, (None, None, None))
    if least is None or greatest is None:
        return True
    at = bisect_left(runs, least)
    return at < len(runs) and runs[at] <= greatest


def digest(section: Sink, values: Mapping[str, str], types: Mapping[str, pa.DataType]) -> Digest:
    """The digest of the slice's rows, made here from the live files."""
    return of_batches(rows(section, values, list(types)), list(types))


def rows(section: Sink, values: Mapping[str, str], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Columns of the slice's rows, from the live files."""
    snapshot = delta.open_table(locate(section.table))
    for file in live_files_of_slice(snapshot, values) if snapshot else []:
        assert snapshot is not None  # as it has files
        yield from delta.batches_of(snapshot, names, file)


def rows_at(
    section: Sink, values: Mapping[str, str], names: Sequence[str], version: int | None, only: Mapping[str, Any]
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """From the files that were live then; those are opened that by their bounds may hold such rows."""
    location = locate(section.table)
    snapshot = delta.open_table(location, version)
    if snapshot is None:
        return
    if lacks := [name for name in only if name not in snapshot.schema.names]:
        raise ConfigError(f"{display_name(location)} v{snapshot.version} has no column {lacks[0]!r}")
    asked = [name for name in snapshot.schema.names if name in names or name in only]
    sure = {name: value for name, value in only.items() if type(value) in (int, str)}  # Delta cuts bounds of times
    snapshot, files = _readable(snapshot, values, sure, version)
    for file in files:
        try:
            for batch in delta.batches_of(snapshot, asked, file):
                found = _having(batch, only)
                if found.num_rows:
                    yield file.relative, found
        except FileNotFoundError as error:
            raise ConfigError(
                f"{display_name(location)}: {file.relative} of version {snapshot.version} is gone (VACUUM takes "
                "replaced files after a week, and so does maintain)"
            ) from error


def _readable(
    snapshot: delta.Snapshot, values: Mapping[str, str], sure: Mapping[str, Any], version: int | None
) -> tuple[delta.Snapshot, list[delta.DataFile]]:
    """The files that may hold such rows; where some were merged since, and are gone, those that took their place."""

    def chosen(at: delta.Snapshot) -> list[delta.DataFile]:
        return [file for file in live_files_of_slice(at, values, list(sure)) if file.may_hold(sure)]

    files = chosen(snapshot)
    if version is not None and None in sizes(snapshot.location, [file.relative for file in files]).values():
        until = delta.rewritten_until(snapshot, values, grows=RUN_ID in sure)
        later = delta.open_table(snapshot.location, until) if until > version else None
        return (snapshot, files) if later is None else (later, chosen(later))
    return snapshot, files


def live_files(section: Sink, known: int | None, values: Mapping[str, Any], keys: Sequence[str]) -> LiveTable | None:
    """By the log; no file is opened before somebody asks for its rows."""
    location = locate(section.table)
    snapshot = delta.open_table(location)
    if snapshot is None:
        raise ConfigError(f"{display_name(location)}: there is no such table")
    if snapshot.version == known:
        return None
    texts = slice_texts(values, slice_types(values, snapshot.schema))
    found = live_files_of_slice(snapshot, texts, keys)
    return LiveTable(snapshot.version, snapshot.schema, [_live_file(snapshot, file) for file in found])


def _live_file(snapshot: delta.Snapshot, file: delta.DataFile) -> LiveFile:
    names = [name for name in snapshot.schema.names if name not in snapshot.partition_columns]
    read = partial(delta.batches_of, snapshot, names, file)
    return LiveFile(" ".join(map(str, file.fingerprint())), file.may_hold, read)


def _having(batch: pa.RecordBatch, only: Mapping[str, Any]) -> pa.RecordBatch:
    """The rows whose columns have these values."""
    for name, value in only.items():
        if batch.num_rows:
            batch = batch.filter(equals(batch.column(name), value))
    return batch


def as_scored(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """As it is."""
    return column


def folder(section: Sink) -> Location:
    """The table's folder, in which runs stage their files."""
    return locate(section.table)


def unknown_files(folder: Location) -> set[str] | None:
    """The files that the log doesn't know, be it as removed ones; None where there is no table."""
    snapshot = delta.open_table(folder, in_place=True)
    return None if snapshot is None else snapshot.unknown_files()


def uploaded(section: Sink) -> Mapping[str, tuple[int, int]]:
    """Nothing: files are staged in the table's folder."""
    return {}


def remove_uploaded(section: Sink, run: str) -> None:
    """Nothing: files are staged in the table's folder."""
