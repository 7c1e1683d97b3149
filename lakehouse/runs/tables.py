"""The tables of the state folder: run records, metrics, profiles. They are Delta tables, whatever the job's own are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa

from lakehouse.connectors import delta
from lakehouse.formats import KEY, Format
from lakehouse.scoring.files import Files
from lakehouse.storage import Location


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


def rows(location: Location, columns: Sequence[str], only: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """A table's rows with those of the columns that it has; none where there is no table.

    `only`: by column the value that a row must have; files that by their statistics hold no such row are not read.
    """
    only = only or {}
    snapshot = delta.open_table(location)
    if snapshot is None:
        return []
    names = [name for name in columns if name in snapshot.schema.names]
    files = [file for file in snapshot.files(list(only)) if file.may_hold(only)]
    held = delta.rows_of(snapshot, names, files).to_pylist()
    return [row for row in held if all(row.get(name) == value for name, value in only.items())]
