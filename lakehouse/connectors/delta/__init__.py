"""Delta tables without a JVM: snapshots, creation, commits. The only importer of deltalake.

Nothing here knows of jobs or runs, and nothing here uses Spark: what Spark has to read or write itself is in
`sources` and `sinks`.
"""

from lakehouse.connectors.delta.commits import (
    Commit,
    FileLife,
    commits_of,
    data_changes,
    life_of,
    partition_value,
    rewritten_until,
    said_by,
    version_before,
)
from lakehouse.connectors.delta.following import replaced_since
from lakehouse.connectors.delta.log import keep_logs, logs_read_once
from lakehouse.connectors.delta.putting import puts_commits
from lakehouse.connectors.delta.retaining import KEPT, is_kept_for, keep_for, removed_files
from lakehouse.connectors.delta.snapshot import (
    DataFile,
    Snapshot,
    batches_of,
    open_table,
    partition_text,
    read_files,
    rows_of,
    statistics_of,
)
from lakehouse.connectors.delta.values import values_of
from lakehouse.connectors.delta.writing import (
    ATTEMPTS,
    Add,
    Conflict,
    add_columns,
    adds_of,
    commit,
    create_table,
    pause,
    rewrite,
)

__all__ = [
    "ATTEMPTS", "KEPT", "Add", "Commit", "Conflict", "DataFile", "FileLife", "Snapshot", "add_columns", "adds_of",
    "batches_of", "commit", "commits_of", "create_table", "data_changes", "is_kept_for", "keep_for", "keep_logs",
    "life_of", "logs_read_once", "open_table", "partition_text", "partition_value", "pause", "puts_commits",
    "read_files", "removed_files", "replaced_since",
    "rewrite", "rewritten_until", "rows_of", "said_by", "statistics_of", "values_of", "version_before",
]  # fmt: skip
