"""The tables of the state folder: run records, metrics, profiles. They are Delta tables, whatever the job's own are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lakehouse.connectors import delta
from lakehouse.formats import KEY, Format
from lakehouse.scoring.files import Files
from lakehouse.storage import Location

_LOG = {"delta.checkpointInterval": "10"}
"""A run makes small commits, and each opening of a log reads every commit since its last checkpoint."""


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
            snapshot = delta.open_table(location)
            if snapshot is None:
                about = f"{what} of lakehouse score"
                snapshot = delta.create_table(location, rows.schema, [], {}, about, _LOG)
            if snapshot.transaction(once) is not None:
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


def rows(location: Location, columns: Sequence[str]) -> list[dict[str, Any]]:
    """A table's rows with those of the columns that it has; none where there is no table."""
    snapshot = delta.open_table(location)
    if snapshot is None:
        return []
    names = [name for name in columns if name in snapshot.schema.names]
    return list(delta.rows_of(snapshot, names, snapshot.files()).to_pylist())
