"""Delta tables without a JVM: snapshots, creation, commits, statistics of files. The only importer of deltalake."""

from lakehouse.connectors.delta.commits import data_changes, partition_value
from lakehouse.connectors.delta.tables import (
    ATTEMPTS,
    Add,
    Conflict,
    DataFile,
    Snapshot,
    add_columns,
    batches_of,
    commit,
    create_table,
    open_table,
    partition_text,
    pause,
    read_files,
    rows_of,
)

__all__ = [
    "ATTEMPTS", "Add", "Conflict", "DataFile", "Snapshot", "add_columns", "batches_of", "commit", "create_table",
    "data_changes", "open_table", "partition_text", "partition_value", "pause", "read_files", "rows_of",
]  # fmt: skip
