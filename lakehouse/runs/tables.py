"""The tables of the state folder: run records, metrics, profiles. They are Delta tables, whatever the job's own are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.connectors import delta
from lakehouse.errors import ConfigError
from lakehouse.formats import KEY, Format
from lakehouse.scoring.files import Files
from lakehouse.storage import Location, display_name, reaching, remove, told, tree

MANY = 50
"""Small files of a job in a table, from which on they are merged."""
SMALL = 8 << 20
"""Bytes below which a file is small."""
_RUN, _JOB = "run_id", "job"


def logs_read_once(state: Location) -> AbstractContextManager[None]:
    """Until the block ends, no file of a Delta log is asked for twice; those of long logs are kept in `state`."""
    return delta.logs_read_once(state.join("logs"))


keep_logs = delta.keep_logs


def append(location: Location, rows: pa.RecordBatch, once: str, what: str, kind: Format) -> None:
    """Append rows to a table of the state folder, which is created where it is not there; once under this name.

    Each row names its format in a column of its own, since programs of several versions may write to one table.

    Raises delta.Conflict when the table stays too busy.
    """
    rows = rows.append_column(KEY, pa.repeat(pa.scalar(kind.version, pa.int32()), rows.num_rows))
    file = Files("record", 0, location, rows.schema, "records")
    attempt = 0
    while True:
        try:
            snapshot = delta.open_table(location, in_place=not delta.puts_commits(location))
            if snapshot is None:
                snapshot = delta.create_table(location, rows.schema, [], {}, f"{what} of lakehouse score")
            if _is_there(snapshot, rows, once):
                return
            if missing := [f for f in rows.schema if snapshot.schema.get_field_index(f.name) < 0]:
                snapshot = delta.add_columns(snapshot, missing, {})
            if not file.done:
                try:
                    file.write(rows)
                    file.close()
                finally:
                    file.abandon()
            adds = delta.adds_of(file.done)
            delta.commit(snapshot, adds, replace=None, partition={}, blind=True, transactions={once: 1}, metadata={})
            return
        except delta.Conflict:
            attempt += 1
            if attempt == delta.ATTEMPTS:
                raise
            delta.pause(attempt)


def _is_there(snapshot: delta.Snapshot, rows: pa.RecordBatch, once: str) -> bool:
    """Whether the rows were appended under this name: by the files' statistics, where it is a run's and each is of one.

    Else by the transaction ids, which have to be read from the log again.
    """
    run = once.rpartition("/")[2]
    if "run_id" in rows.schema.names and set(rows.column("run_id").to_pylist()) == {run}:
        bounds = [file.bounds.get("run_id", (None, None, None))[:2] for file in snapshot.files(["run_id"])]
        if all(least is not None and least == greatest for least, greatest in bounds):
            return any(least == run for least, _ in bounds)
    return snapshot.transaction(once) is not None


def rows(
    location: Location, columns: Sequence[str], kind: Format, only: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """A table's rows, things of this kind, with those of the columns that it has; none where there is no table.

    `only`: by column the value that a row must have; files that by their statistics hold no such row are not read.
    Raises ConfigError where a file of the table is gone or broken.
    """
    only = only or {}
    snapshot = delta.open_table(location)
    if snapshot is None:
        return []
    names = [name for name in columns if name in snapshot.schema.names]
    files = [file for file in snapshot.files(list(only)) if file.may_hold(only)]
    held = [row for file in files for row in _rows_in(snapshot, names, file, kind)]
    return [row for row in held if all(row.get(name) == value for name, value in only.items())]


def _rows_in(
    snapshot: delta.Snapshot, names: Sequence[str], file: delta.DataFile, kind: Format
) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = delta.rows_of(snapshot, names, [file]).to_pylist()
    except (OSError, pa.ArrowException) as error:
        place = snapshot.location.join(file.relative)
        gone = isinstance(error, FileNotFoundError)
        if not gone and isinstance(error, OSError) and (place.remote or error.errno is not None):
            with reaching(place):
                raise
        why = "is gone" if gone else f"is no whole Parquet file ({told(error)})"
        table = display_name(snapshot.location)
        raise ConfigError(f"{display_name(place)}, a file of the table {table}, {why}: {kind.remedy}") from error
    return found


def untidy(location: Location, job: str) -> tuple[list[int], list[int]]:
    """The bytes of the small files that hold rows of this job alone, none where there are too few to be merged; and of
    those that no version needs any more which is less than a week old."""
    snapshot = delta.open_table(location, in_place=True)
    if snapshot is None:
        return [], []
    return [file.size for file in _small(snapshot.files([_JOB]), job)], list(_outdated(snapshot).values())


def _small(files: Sequence[delta.DataFile], job: str) -> list[delta.DataFile]:
    def alone(file: delta.DataFile) -> bool:
        return file.bounds.get(_JOB, (None,))[:2] == (job, job) and file.live_mask is None

    small = [file for file in files if file.size < SMALL and alone(file)]
    return small if len(small) > MANY else []


def rewrite(location: Location, job: str, without: Collection[str] = ()) -> bool:
    """Merge the job's small files, where there are many, and leave out the rows of the runs `without`, in one commit.

    A merged file holds rows of one job as those before did, so that other jobs' reads leave it out. False where another
    writer came first: nothing is changed then.
    """
    snapshot = delta.open_table(location, in_place=True)
    if snapshot is None:
        return True
    files = snapshot.files([_JOB, _RUN])
    chosen = {file.path: file for file in [*_small(files, job), *_holding(files, job, without)]}
    if not chosen:
        return True
    written, changed = _copy(snapshot, list(chosen.values()), without)
    try:
        delta.commit(
            snapshot, delta.adds_of(written.done), replace=None, partition={}, removes=list(chosen.values()),
            changes=changed, transactions={}, metadata={"job": job, "tidied": len(chosen)},
        )  # fmt: skip
        return True
    except delta.Conflict:
        # The commit may have been made nevertheless, and only the reply been lost.
        fresh, paths = delta.open_table(location, in_place=True), {file["path"] for file in written.done}
        live = {file.relative for file in fresh.files()} if fresh else set()
        if paths & live or (not paths and not set(chosen) & live):
            return True
        for path in paths:
            remove(location.join(path))
        return False


def _holding(files: Sequence[delta.DataFile], job: str, runs: Collection[str]) -> list[delta.DataFile]:
    """The files that may hold rows of these runs of the job. One with deleted rows is left as it is."""
    mine = [file for file in files if file.live_mask is None and file.may_hold({_JOB: job})]
    return [file for file in mine if any(file.may_hold({_RUN: run}) for run in runs)]


def _copy(snapshot: delta.Snapshot, files: Sequence[delta.DataFile], without: Collection[str]) -> tuple[Files, bool]:
    """The rows of these files in new ones, and whether any was left out."""
    names = snapshot.schema.names
    written, gone = Files("record", 0, snapshot.location, snapshot.schema, "records", first=(_RUN, _JOB)), False
    try:
        for file in files:
            for batch in delta.batches_of(snapshot, names, file):
                kept = batch.filter(pc.invert(pc.is_in(batch.column(_RUN), pa.array(list(without), pa.string()))))
                gone = gone or kept.num_rows < batch.num_rows
                written.write(kept)
        written.close()
    finally:
        written.abandon()
    return written, gone


def remove_outdated(location: Location) -> None:
    """Remove the files that no version needs any more which is less than a week old."""
    snapshot = delta.open_table(location, in_place=True)
    if snapshot and _outdated(snapshot):
        snapshot.outdated_files(take_away=True)


def _outdated(snapshot: delta.Snapshot) -> dict[str, int]:
    paths = snapshot.outdated_files(take_away=False)
    there = tree(snapshot.location) if paths else {}  # the log names those that were removed before, too
    return {path: there[path] for path in paths if path in there}
