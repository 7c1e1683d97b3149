"""Delta tables without a JVM: read a snapshot, create a table, commit staged files. The only importer of deltalake."""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Field, Schema, Transaction
from deltalake.exceptions import (
    CommitFailedError,
    DeltaError,
    DeltaProtocolError,
    TableNotFoundError,
)
from deltalake.transaction import AddAction, RemoveAction

from lakehouse.errors import ConfigError, Unavailable
from lakehouse.schemas import conform
from lakehouse.storage import Location, shown

ATTEMPTS = 20
"""Tries of one commit while other writers come first."""
_LINE = 400
"""Characters of what the library says that are enough; it can go on with its own stack."""
_UNREACHABLE = re.compile(r"Generic \w+ error|error sending request|Unauthenticated|lacked the necessary|HTTP error")


class Conflict(Unavailable):
    """Another writer committed first: look again before trying again."""


@dataclass(frozen=True)
class DataFile:
    """One live file of a table. `path` is as the log spells it (URL-encoded); `rows` None where unknown.

    `bounds`: column → (least, greatest, nulls), for the columns asked for that have statistics.
    `kept`: True a row that is not deleted, where a deletion vector applies.
    """

    path: str
    size: int
    rows: int | None
    partition: Mapping[str, Any]
    bounds: Mapping[str, tuple[Any, Any, int | None]] = field(default_factory=dict)
    kept: tuple[bool, ...] | None = None

    @property
    def relative(self) -> str:
        """The path below the table's root as the filesystem spells it."""
        return unquote(self.path)

    def fingerprint(self) -> tuple[str, int, str]:
        """What tells this content from any other: path, size, and the rows that are deleted."""
        deleted = hashlib.sha256(bytes(self.kept)).hexdigest() if self.kept is not None else ""
        return self.path, self.size, deleted


@dataclass(frozen=True)
class Snapshot:
    """One version of a table, read once."""

    location: Location
    version: int
    schema: pa.Schema
    partition_columns: tuple[str, ...]
    configuration: Mapping[str, str]
    features: frozenset[str]
    metadata: Mapping[str, Mapping[str, Any]]  # column → its metadata in the log
    table: DeltaTable = field(repr=False)

    def files(self, bounds_of: Sequence[str] = ()) -> list[DataFile]:
        """The live files, with statistics for the columns named."""
        actions = pa.table(self.table.get_add_actions(flatten=True))
        columns = {name: actions.column(name).to_pylist() for name in ("path", "size_bytes", "num_records")}
        partitions = {c: actions.column(f"partition.{c}").to_pylist() for c in self.partition_columns}
        logged = {c: self.physical(c) for c in bounds_of if not self._is_path(self.physical(c))}
        bounds = {c: _bounds(actions, name) for c, name in logged.items() if f"min.{name}" in actions.column_names}
        kept = self._kept() if "deletionVectors" in self.features else {}
        return [
            DataFile(
                path=path,
                size=columns["size_bytes"][i],
                rows=columns["num_records"][i],
                partition={c: values[i] for c, values in partitions.items()},
                bounds={c: values[i] for c, values in bounds.items()},
                kept=kept.get(unquote(path)),
            )
            for i, path in enumerate(columns["path"])
        ]

    def physical(self, column: str) -> str:
        """How the data files spell a column's name."""
        return str(self.metadata[column].get("delta.columnMapping.physicalName", column))

    def _is_path(self, name: str) -> bool:
        """Whether a column's name could be that of a field in another column, which statistics don't tell apart."""
        return any(name.startswith(f"{other}.") for other in self.schema.names)

    def _kept(self) -> dict[str, tuple[bool, ...]]:
        root = self.location.path.rstrip("/") + "/"
        try:
            rows = pa.table(self.table.deletion_vectors()).to_pylist()
        except DeltaError as error:
            raise ConfigError(
                f"{shown(self.location)}: its deletion vectors can't be read: {_line(error)}; "
                "REORG TABLE … APPLY (PURGE) does away with them"
            ) from error
        return {unquote(r["filepath"]).split(root, 1)[-1]: tuple(r["selection_vector"]) for r in rows}

    def unknown_files(self) -> set[str]:
        """The files below the table's folder that its log does not know, neither as live nor as removed."""
        away = {"retention_hours": 0, "dry_run": True, "enforce_retention_duration": False}
        everything = self.table.vacuum(full=True, **away)  # type: ignore[arg-type]  # mypy merges the values' types
        removed = self.table.vacuum(full=False, **away)  # type: ignore[arg-type]  # as above
        return {unquote(path) for path in everything} - {unquote(path) for path in removed}

    def transaction(self, app_id: str) -> int | None:
        """The version last committed under a transaction id, None where there is none."""
        return self.table.transaction_version(app_id)

    @property
    def written_by_spark(self) -> bool:
        """Whether the newest commit is Spark's."""
        return any("Apache-Spark" in str(commit.get("engineInfo")) for commit in self.table.history(1))

    def history(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest commits first, as their commit information."""
        return self.table.history(limit)


def _bounds(actions: pa.Table, column: str) -> list[tuple[Any, Any, int | None]]:
    parts = [
        actions.column(name).to_pylist() if name in actions.column_names else [None] * actions.num_rows
        for name in (f"min.{column}", f"max.{column}", f"null_count.{column}")
    ]
    return list(zip(*parts, strict=True))


def open_table(location: Location, version: int | None = None, timestamp: str | None = None) -> Snapshot | None:
    """A snapshot of the table at a version or time (ISO 8601), by default the newest; None if there is no table.

    Raises ConfigError for a version that is not there and for a table this reader doesn't understand.
    """
    try:
        table = DeltaTable(location.uri, version=version, storage_options=location.delta_options())
        if timestamp is not None:
            table.load_as_version(datetime.fromisoformat(timestamp))
        return _snapshot(location, table)
    except TableNotFoundError:
        return None
    except (DeltaError, DeltaProtocolError, ValueError, OSError) as error:
        if _has_no_log(location):
            return None
        _refuse_unreachable(location, error)
        if not location.remote and Path(location.path).is_file():
            raise ConfigError(f"{shown(location)} is a file: a Delta table is a folder, name that") from error
        if "catalog-managed" in str(error):
            raise ConfigError(
                f"{shown(location)}: a catalog manages the table's commits (catalogManaged), which is not supported "
                "yet: name a table whose own log is the truth"
            ) from error
        if version is not None and (newest := open_table(location)) is not None and newest.version < version:
            raise ConfigError(f"{shown(location)} has no version {version}, the newest is {newest.version}") from error
        which = f" at version {version}" if version is not None else f" at {timestamp}" if timestamp else ""
        raise ConfigError(f"{shown(location)}{which}: the Delta table can't be read: {_line(error)}") from error


def _has_no_log(location: Location) -> bool:
    """Whether no table is in a local folder, which may come and go while the library looks at it.

    The first run to end that left no file in a table yet to be created takes its empty folder away.
    """
    folder = Path(location.path)
    return not location.remote and not folder.is_file() and not (folder / "_delta_log").exists()


def _refuse_unreachable(location: Location, error: Exception) -> None:
    """Raise Unavailable where it is the storage that failed, and not what lies there."""
    if location.remote and _UNREACHABLE.search(str(error)):
        raise Unavailable(f"{location.uri}: the storage can't be used: {_line(error)}") from error


def _line(error: Exception) -> str:
    """The library's tree of causes, which it draws in colours, as one line."""
    text = " ".join(re.sub(r"\x1b\[\d*m|↳| 0: <unknown>[\s\S]*", "", str(error)).split())
    return text if len(text) <= _LINE else text[:_LINE] + "…"


def _snapshot(location: Location, table: DeltaTable) -> Snapshot:
    protocol, metadata, schema = table.protocol(), table.metadata(), table.schema()
    return Snapshot(
        location=location,
        version=table.version(),
        schema=_plain(pa.schema(schema.to_arrow())),
        partition_columns=tuple(metadata.partition_columns),
        configuration=dict(metadata.configuration),
        features=frozenset([*(protocol.reader_features or ()), *(protocol.writer_features or ())]),
        metadata={f.name: f.metadata or {} for f in schema.fields},
        table=table,
    )


def _plain(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(f.name, f.type, f.nullable) for f in schema])


def create_table(
    location: Location,
    schema: pa.Schema,
    partition_by: Sequence[str],
    comments: Mapping[str, str],
    description: str,
    properties: Mapping[str, str] | None = None,
) -> Snapshot:
    """Create an empty table whose columns carry comments. Raises Conflict if another process created it first."""
    try:
        table = DeltaTable.create(
            location.uri, Schema(_described(schema, comments)), mode="error", partition_by=list(partition_by),
            description=description, storage_options=location.delta_options(),
            configuration=dict(properties or {}),
            # A retry would put this table's description over the one that another process has just created.
            commit_properties=CommitProperties(max_commit_retries=0),
        )  # fmt: skip
    except (CommitFailedError, DeltaError, OSError) as error:
        _refuse_unreachable(location, error)
        if isinstance(error, CommitFailedError) or "exist" in str(error):
            raise Conflict(f"{shown(location)}: another process created the table first: {_line(error)}") from error
        raise ConfigError(f"{shown(location)}: the table can't be created: {_line(error)}") from error
    return _snapshot(location, table)


def _described(schema: pa.Schema, comments: Mapping[str, str]) -> list[Field]:
    """Nullable columns with their comments, which Arrow's schemas don't hold."""
    return [
        Field(f.name, f.type, nullable=True, metadata={"comment": comments[f.name]} if f.name in comments else {})
        for f in Schema.from_arrow(schema).fields
    ]


def add_columns(snapshot: Snapshot, fields: Sequence[pa.Field], comments: Mapping[str, str]) -> Snapshot:
    """Add nullable columns in a commit of their own."""
    snapshot.table.alter.add_columns(_described(pa.schema(fields), comments))
    fresh = open_table(snapshot.location)
    assert fresh is not None
    return fresh


@dataclass(frozen=True)
class Add:
    """A staged file to commit: path below the table's root, size in bytes, Delta statistics as strict JSON."""

    path: str
    size: int
    stats: str


def commit(
    snapshot: Snapshot,
    adds: Sequence[Add],
    *,
    replace: Mapping[str, str] | None,
    partition: Mapping[str, str],
    removes: Sequence[DataFile] = (),
    blind: bool = False,
    transactions: Mapping[str, int],
    metadata: Mapping[str, Any],
) -> int:
    """Add files and take others away in one commit right after `snapshot`, with transaction ids; the new version.

    `replace`: the partition whose live files go ({} is the whole table), None to take away only `removes`.
    `blind`: nothing that was read of the table has a part in it, so that other writers need not mind it.
    It never retries by itself: a table that moved on raises Conflict, and the caller looks again.
    `metadata` is what DESCRIBE HISTORY shows as userMetadata.
    """
    now = int(time.time() * 1000)
    actions: list[AddAction | RemoveAction] = [
        AddAction(add.path, add.size, dict(partition), now, True, add.stats) for add in adds
    ]
    # The library encodes the path of a removal itself, so it is given the decoded one.
    actions += [
        RemoveAction(f.relative, True, now, size=f.size, partition_values=_logged(f.partition)) for f in removes
    ]
    properties = CommitProperties(
        custom_metadata={"userMetadata": json.dumps(metadata, sort_keys=True), "isBlindAppend": blind},
        max_commit_retries=0,
        app_transactions=[Transaction(app_id, version) for app_id, version in transactions.items()],
    )
    try:
        snapshot.table.create_write_transaction(
            actions,
            "append" if replace is None else "overwrite",
            snapshot.table.schema(),
            partition_by=list(snapshot.partition_columns),
            partition_filters=[(c, "=", v) for c, v in replace.items()] if replace else None,
            commit_properties=properties,
        )
    except (CommitFailedError, OSError) as error:
        # Whether the commit was made is asked of the log, as after a conflict: the reply may have been lost.
        raise Conflict(f"{shown(snapshot.location)}: another writer committed first: {_line(error)}") from error
    return snapshot.version + 1


def _logged(partition: Mapping[str, Any]) -> dict[str, str | None]:
    """Partition values as the log writes them: strings."""
    return {c: partition_text(v) for c, v in partition.items()}


def partition_text(value: Any) -> str | None:
    """A partition value as Delta's protocol serialises it."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    return str(value)


def rows_of(snapshot: Snapshot, columns: Sequence[str], files: Sequence[DataFile]) -> pa.Table:
    """Some columns of some of a small table's files; a column that a file lacks is null."""
    schema = pa.schema([snapshot.schema.field(c) for c in columns])
    return pa.Table.from_batches([b for file in files for b in batches_of(snapshot, columns, file)], schema)


def batches_of(snapshot: Snapshot, columns: Sequence[str], file: DataFile) -> Iterator[pa.RecordBatch]:
    """Some columns of the live rows of one file in the table's types, a batch a row group."""
    root = snapshot.location
    schema = pa.schema([snapshot.schema.field(c) for c in columns])
    spelled = {snapshot.physical(c): c for c in columns}
    kept, position = None if file.kept is None else np.array(file.kept, dtype=bool), 0
    with pq.ParquetFile(
        f"{root.path}/{file.relative}", filesystem=root.filesystem(), coerce_int96_timestamp_unit="us"
    ) as stored:
        present = [name for name in stored.schema_arrow.names if name in spelled]
        for group in range(stored.num_row_groups):
            table = stored.read_row_group(group, columns=present).rename_columns([spelled[n] for n in present])
            rows = stored.metadata.row_group(group).num_rows
            if kept is not None:
                table = table.filter(pa.array(kept[position : position + rows]))
                rows_left = int(kept[position : position + rows].sum())
            else:
                rows_left = rows
            position += rows
            yield conform(_one_batch(table, rows_left), schema)


def _one_batch(table: pa.Table, rows: int) -> pa.RecordBatch:
    """A table as one batch, which knows its rows even where it has no column."""
    if not table.num_columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))
    return table.combine_chunks().to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], table.schema)


def read_files(root: Location, paths: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Some columns of Parquet files below a table's root, all of which have them."""
    filesystem = root.filesystem()
    return pa.concat_tables(
        pq.read_table(f"{root.path}/{path}", columns=list(columns), filesystem=filesystem, partitioning=None)
        for path in paths
    )


def pause(attempt: int) -> None:
    """Wait before the next attempt of a commit: a random time, longer each time, 3 seconds at most."""
    time.sleep(random.uniform(0.05, 0.1 * 2 ** min(attempt, 5)))
