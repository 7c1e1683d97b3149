"""A Delta table at one version: its files, schema, properties and rows, read without a JVM."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import (
    DeltaError,
    DeltaProtocolError,
    TableNotFoundError,
)

from lakehouse.conditions import Comparison, admits, may_admit
from lakehouse.connectors.delta.log import LOG, LogCopy, actions, copy_log
from lakehouse.connectors.delta.transactions import transactions
from lakehouse.connectors.live_rows import LiveRows, pack
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.schemas import conform
from lakehouse.storage import Location, content, display_name, locate
from lakehouse.storage.parquet import SMALL_BYTES, open_parquet

_LINE = 400
"""Characters of what the library says that are enough; it can go on with its own stack."""
_UNREACHABLE = re.compile(r"Generic \w+ error|error sending request|Unauthenticated|lacked the necessary|HTTP error")


@dataclass(frozen=True)
class DataFile:
    """One live file of a table. `path` is as the log spells it (URL-encoded); `rows` None where unknown.

    `bounds`: column → (least, greatest, nulls), for the columns asked for that have statistics.
    `live_mask`: the rows that are not deleted, where a deletion vector applies.
    """

    path: str
    size: int
    rows: int | None
    partition: Mapping[str, Any]
    bounds: Mapping[str, tuple[Any, Any, int | None]] = field(default_factory=dict)
    live_mask: LiveRows | None = None

    @property
    def live_rows(self) -> int | None:
        """How many rows are not deleted, None where that is unknown."""
        return self.rows if self.live_mask is None else self.live_mask.live

    @property
    def relative(self) -> str:
        """The path below the table's root as the filesystem spells it."""
        return unquote(self.path)

    def may_hold(self, values: Mapping[str, Any]) -> bool:
        """Whether a row may have these values, by the bounds of these columns as far as there are any."""
        bounds = ((value, *self.bounds.get(column, (None, None, None))[:2]) for column, value in values.items())
        return all(least is None or greatest is None or least <= value <= greatest for value, least, greatest in bounds)

    def fingerprint(self) -> tuple[str, int, str]:
        """What tells this content from any other: path, size, and the rows that are deleted."""
        deleted = "" if self.live_mask is None else hashlib.sha256(self.live_mask.mask().tobytes()).hexdigest()
        return self.path, self.size, deleted


@dataclass(frozen=True)
class Snapshot:
    """One version of a table, read once; by a copy of its log where it lies in an object storage."""

    location: Location
    version: int
    schema: pa.Schema
    partition_columns: tuple[str, ...]
    configuration: Mapping[str, str]
    features: frozenset[str]
    metadata: Mapping[str, Mapping[str, Any]]  # column → its metadata in the log
    table: DeltaTable = field(repr=False)
    copy: LogCopy | None = field(default=None, repr=False)

    def files(
        self,
        bounds_of: Sequence[str] = (),
        comparisons: Sequence[Comparison] = (),
        partition: Mapping[str, str] | None = None,
    ) -> list[DataFile]:
        """The live files that can hold rows that pass all comparisons, with statistics for the columns named.

        `partition`: only those with these values of partition columns, as `partition_text` spells them.
        """
        # Not by pa.table, which imports pandas to know whether it was given a frame.
        actions = pa.RecordBatchReader.from_stream(self.table.get_add_actions(flatten=True)).read_all()
        for column, text in (partition or {}).items():
            actions = _with_value(actions, column, functools.partial(_is_text, text))
        actions = self._may_hold(actions, comparisons)
        columns = {name: actions.column(name).to_pylist() for name in ("path", "size_bytes", "num_records")}
        partitions = {c: actions.column(f"partition.{c}").to_pylist() for c in self.partition_columns}
        bounds = {c: bounds for c in bounds_of if (bounds := self._bounds(actions, c)) is not None}
        kept = self._kept(set(map(unquote, columns["path"]))) if "deletionVectors" in self.features else {}
        return [
            DataFile(
                path=path,
                size=columns["size_bytes"][i],
                rows=columns["num_records"][i],
                partition={c: values[i] for c, values in partitions.items()},
                bounds={c: values[i] for c, values in bounds.items()},
                live_mask=kept.get(unquote(path)),
            )
            for i, path in enumerate(columns["path"])
        ]

    def _may_hold(self, actions: pa.Table, comparisons: Sequence[Comparison]) -> pa.Table:
        """The files that partition values and statistics don't rule out, each rule by itself, as Arrow."""
        inside = set(self.partition_columns)
        blank = {c.column for c in comparisons if self._has_blank(actions, c.column)}
        for c in (c for c in comparisons if c.column in inside - blank):
            actions = _with_value(actions, c.column, functools.partial(admits, c))
        for c in (c for c in comparisons if c.column not in inside):
            bounds, rows = self._bounds(actions, c.column), actions.column("num_records").to_pylist()
            if bounds is not None:
                kept = [may_admit(c, *found, count) for found, count in zip(bounds, rows, strict=True)]
                actions = actions.filter(_booleans(kept))
        return actions

    def _has_blank(self, actions: pa.Table, column: str) -> bool:
        """Whether a partition's value is an empty text, which deltalake writes; it reads it as null, Spark as it is."""
        name = f"partition.{column}"
        nulls = name in actions.column_names and actions.column(name).null_count
        return bool(nulls) and "" in self.partition_texts(column)

    def _bounds(self, actions: pa.Table, column: str) -> list[tuple[Any, Any, int | None]] | None:
        """(least, greatest, nulls) of a column for each file; None where there are no statistics of it."""
        name = self.physical(column)
        if self._is_path(name) or f"min.{name}" not in actions.column_names:
            return None
        parts = [
            actions.column(part).to_pylist() if part in actions.column_names else [None] * actions.num_rows
            for part in (f"min.{name}", f"max.{name}", f"null_count.{name}")
        ]
        return list(zip(*parts, strict=True))

    def physical(self, column: str) -> str:
        """How the log, and where fields have no numbers the data files, spell a column's name."""
        return column if self.mapping is None else str(self.metadata[column]["delta.columnMapping.physicalName"])

    @property
    def mapping(self) -> str | None:
        """The mode of column mapping (`connectors.mapping`), None where files spell columns as the table does."""
        mode = self.configuration.get("delta.columnMapping.mode", "none")
        return None if mode == "none" else mode

    def noted(self, columns: Sequence[str]) -> pa.Schema:
        """These columns with all that the log notes at them and at the fields in them."""
        schema = pa.schema(self.table.schema().to_arrow())
        return pa.schema([schema.field(c) for c in columns])

    def partition_texts(self, column: str) -> set[str | None]:
        """The values that live files have in a partition column, as the log spells them."""
        return {values[column] for values in self.table.partitions()}

    def _is_path(self, name: str) -> bool:
        """Whether a column's name could be that of a field in another column, which statistics don't tell apart."""
        return any(name.startswith(f"{self.physical(other)}.") for other in self.schema.names)

    def _kept(self, files: Collection[str]) -> dict[str, LiveRows]:
        """The rows that are not deleted of those of these files of which some are."""
        root, found = self.location.path.rstrip("/") + "/", dict[str, LiveRows]()
        try:
            vectors = pa.RecordBatchReader.from_stream(self.in_place().deletion_vectors()) if files else ()
            for batch in vectors:
                for name, vector in zip(batch["filepath"].to_pylist(), batch["selection_vector"], strict=True):
                    path = unquote(name).split(root, 1)[-1]
                    if path in files:
                        found[path] = pack(vector.values.to_numpy(zero_copy_only=False))
        except DeltaError as error:
            raise ConfigError(
                f"{display_name(self.location)}: its deletion vectors can't be read: {one_line(error)}; "
                "REORG TABLE … APPLY (PURGE) does away with them"
            ) from error
        return found

    def unknown_files(self) -> set[str]:
        """The files below the table's folder that its log does not know, neither as live nor as removed."""
        away = {"retention_hours": 0, "dry_run": True, "enforce_retention_duration": False}
        table = self.in_place()
        everything = table.vacuum(full=True, **away)  # type: ignore[arg-type]  # mypy merges the values' types
        removed = table.vacuum(full=False, **away)  # type: ignore[arg-type]  # as above
        return {unquote(path) for path in everything} - {unquote(path) for path in removed}

    def outdated_files(self, *, take_away: bool) -> set[str]:
        """The files below the table's folder that no version needs which is younger than the table keeps (a week,
        where it doesn't say); removed if `take_away`."""
        return {unquote(path) for path in self.in_place().vacuum(dry_run=not take_away, full=True)}

    def transaction(self, app_id: str) -> int | None:
        """The version last committed under a transaction id, None where there is none."""
        return self.transaction_ids.get(app_id)

    @cached_property
    def transaction_ids(self) -> Mapping[str, int]:
        """All transaction ids with their versions."""
        return transactions(self.location if self.copy is None else locate(str(self.copy.table)), self.version)

    @property
    def _log(self) -> Path | None:
        """The folder of its log, or of a copy of it."""
        if self.copy is not None:
            return self.copy.folder
        return None if self.location.remote else Path(self.location.path) / LOG

    def in_place(self) -> DeltaTable:
        """The table as the library opens it where it lies, at this version: what is written is written there."""
        if self.copy is None:
            return self.table
        return DeltaTable(self.location.uri, version=self.version, storage_options=self.location.delta_options())

    @property
    def written_by_spark(self) -> bool:
        """Whether the newest commit is Spark's."""
        newest = None if self._log is None else self._log / f"{self.version:020d}.json"
        commits = list(actions(newest.read_bytes(), "commitInfo")) if newest and newest.exists() else self.history(1)
        return any("Apache-Spark" in str(commit.get("engineInfo")) for commit in commits)

    def history(self, limit: int | None = 20) -> list[dict[str, Any]]:
        """The newest commits first, as their commit information."""
        return self.in_place().history(limit)


def _with_value(actions: pa.Table, column: str, passes: Callable[[Any], bool]) -> pa.Table:
    """The files whose value of a partition column passes, each value asked for once."""
    values = actions.column(f"partition.{column}").combine_chunks().dictionary_encode("encode")
    passing = _booleans([passes(value) for value in values.dictionary.to_pylist()])
    return actions.filter(passing.take(values.indices))


def _booleans(values: Sequence[bool]) -> pa.BooleanArray:
    """The values as Arrow's. Not by pa.array, which imports pandas to know whether it was given a frame's column."""
    bits = np.packbits(np.array(values, dtype=bool), bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits.tobytes())])


def _is_text(text: str, value: Any) -> bool:
    return partition_text(value) == text


def open_table(location: Location, version: int | None = None, *, in_place: bool = False) -> Snapshot | None:
    """A snapshot of the table at a version, by default the newest; None if there is no table.

    `in_place`: no copy of the log is made, as for a table that is opened only to be written to.
    Raises ConfigError for a version that is not there and for a table this reader doesn't understand.
    """
    if not in_place and (found := _copied(location, version)) is not None:
        return found
    try:
        table = DeltaTable(location.uri, version=version, storage_options=location.delta_options())
        return snapshot_of(location, table)
    except TableNotFoundError:
        if version is not None and (newest := open_table(location)) is not None:
            raise _lacks(newest, version) from None
        return None
    except (DeltaError, DeltaProtocolError, ValueError, OSError) as error:
        if _has_no_log(location):
            return None
        refuse_unreachable(location, error)
        if not location.remote and Path(location.path).is_file():
            raise ConfigError(f"{display_name(location)} is a file: a Delta table is a folder, name that") from error
        if "catalog-managed" in str(error):
            raise ConfigError(
                f"{display_name(location)}: a catalog manages the table's commits (catalogManaged), which is "
                "not supported yet: name a table whose own log is the truth"
            ) from error
        if version is not None and (newest := open_table(location)) is not None and not _has_commit(newest, version):
            raise _lacks(newest, version) from error
        which = f" at version {version}" if version is not None else ""
        raise ConfigError(
            f"{display_name(location)}{which}: the Delta table can't be read: {one_line(error)}"
        ) from error


def _has_commit(newest: Snapshot, version: int) -> bool:
    """Whether the log has a version's own file."""
    file = newest.location.join(LOG, f"{version:020d}.json")
    return version <= newest.version and content(file, no_folder=True) is not None


def _lacks(newest: Snapshot, version: int) -> ConfigError:
    """What is raised for a version that isn't there yet, or that the log has dropped."""
    name = display_name(newest.location)
    if version > newest.version:
        return ConfigError(f"{name} has no version {version}, the newest is {newest.version}")
    return ConfigError(
        f"{name}: its log can't give version {version} any more: commits are gone from it (by "
        f"delta.logRetentionDuration, or by hand); the newest is {newest.version}"
    )


def _copied(location: Location, version: int | None) -> Snapshot | None:
    """The snapshot by a copy of the log; None where the library has to read it where it lies."""
    copied = copy_log(location) if location.remote else None
    if copied is None or (version is not None and version not in copied[1]):
        return None
    copy, versions = copied
    try:
        return snapshot_of(location, DeltaTable(copy.table, version=versions[-1] if version is None else version), copy)
    except (DeltaError, DeltaProtocolError, ValueError, OSError):
        return None


def _has_no_log(location: Location) -> bool:
    """Whether no table is in a local folder, which may come and go while the library looks at it.

    The first run to end that left no file in a table yet to be created takes its empty folder away.
    """
    folder = Path(location.path)
    return not location.remote and not folder.is_file() and not (folder / "_delta_log").exists()


def refuse_unreachable(location: Location, error: Exception) -> None:
    """Raise Unavailable where it is the storage that failed, and not what lies there."""
    if location.remote and _UNREACHABLE.search(str(error)):
        raise Unavailable(f"{location.uri}: the storage can't be used: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """The library's tree of causes, which it draws in colours, as one line."""
    text = " ".join(re.sub(r"\x1b\[\d*m|↳| 0: <unknown>[\s\S]*", "", str(error)).split())
    return text if len(text) <= _LINE else text[:_LINE] + "…"


def snapshot_of(location: Location, table: DeltaTable, copy: LogCopy | None = None) -> Snapshot:
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
        copy=copy,
    )


def _plain(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(f.name, f.type, f.nullable) for f in schema])


def partition_text(value: Any) -> str | None:
    """A partition value as Delta's protocol serialises it."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    return str(value)


def statistics_of(snapshot: Snapshot, paths: Sequence[str]) -> dict[str, str]:
    """The statistics of files of this version, as the commits have them that added them.

    Raises ConfigError where the log has dropped one of these commits.
    """
    wanted, found = set(paths), dict[str, str]()
    for version in range(snapshot.version, -1, -1):
        text = content(snapshot.location.join(LOG, f"{version:020d}.json")) if wanted else None
        if text is None:
            break
        for add in actions(text, "add"):
            if (path := unquote(add["path"])) in wanted:
                found[path] = add.get("stats") or ""
                wanted.discard(path)
    if wanted:
        raise ConfigError(
            f"{display_name(snapshot.location)}: the log no longer has the commit that added {min(wanted)} "
            "(delta.logRetentionDuration): score again"
        )
    return found


def rows_of(snapshot: Snapshot, columns: Sequence[str], files: Sequence[DataFile]) -> pa.Table:
    """Some columns of some of a small table's files; a column that a file lacks is null."""
    schema = pa.schema([snapshot.schema.field(c) for c in columns])
    return pa.Table.from_batches([b for file in files for b in batches_of(snapshot, columns, file)], schema)


def batches_of(snapshot: Snapshot, columns: Sequence[str], file: DataFile) -> Iterator[pa.RecordBatch]:
    """Some columns of the live rows of one file in the table's types, a batch a row group."""
    root = snapshot.location
    schema = pa.schema([snapshot.schema.field(c) for c in columns])
    spelled = {snapshot.physical(c): c for c in columns}
    kept, position = None if file.live_mask is None else file.live_mask.mask(), 0
    with open_parquet(root, file.relative, whole=file.size <= SMALL_BYTES) as stored:
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
