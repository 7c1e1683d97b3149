"""Delta tables without a JVM: snapshots, creation, commits. The only importer of deltalake."""

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
    "open_table", "partition_text", "pause", "read_files", "rows_of",
]  # fmt: skip
