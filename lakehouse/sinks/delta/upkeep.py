"""Keeping a Delta table in order: its small files merged, and files taken away that no version needs any more.

A merged file holds rows of one slice, and of one run wherever the log tells whose rows a file has. It lies in the
folder of the maintenance's own run, as a run's files do, so that all that is said of runs' files goes for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.connectors import delta
from lakehouse.connectors.spark import quote, with_settings
from lakehouse.engines import local
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.schemas import JOB, RUN_ID
from lakehouse.scoring.files import Files
from lakehouse.scoring.staging import folder_of
from lakehouse.sinks import Compaction, SmallFiles
from lakehouse.sinks.delta import compatibility
from lakehouse.sinks.delta.history import constant
from lakehouse.sinks.target import COPIED
from lakehouse.storage import Location, locate, remove

if TYPE_CHECKING:
    from lakehouse.config import Sink

UPKEEP = ""
Session = Callable[[Location], AbstractContextManager[Any]]
_FULL = 0.75
"""Of the wanted size, from which on a file is large enough."""
_NULL = "__HIVE_DEFAULT_PARTITION__"
_LOT = 4 << 30
"""Bytes that are merged before they are committed: whoever stops it later loses no more."""


@dataclass(frozen=True)
class _Group:
    """Small files of one slice that become fewer: of one run, or, where `run` is None, of whichever."""

    files: tuple[delta.DataFile, ...]
    run: str | None

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


def compact(section: Sink, asked: Compaction) -> SmallFiles:
    """Merge the table's small files, by commits that change no data; see `SinkModule.compact`."""
    snapshot = delta.open_table(locate(section.table))
    if snapshot is None or not {JOB, RUN_ID} <= set(snapshot.schema.names):
        return SmallFiles(0, 0)
    groups = _groups(snapshot, asked.bytes)
    found = SmallFiles(sum(len(group.files) for group in groups), sum(group.bytes for group in groups))
    try:
        decision = compatibility.decide(snapshot, "append", {})
    except ConfigError as error:
        return found.staying(str(error))
    if decision.how == COPIED and asked.spark is None:
        return found.staying(f"only Spark can merge them ({'; '.join(decision.why)}): use --engine spark")
    if asked.begin is None or not groups:
        return found
    if decision.how == COPIED and asked.spark is not None:
        _optimize(snapshot, asked.bytes, asked.spark)
        return found
    with asked.begin() as run:
        for lot in _lots(groups):
            snapshot = _merge(snapshot, lot, asked, run)
    return found


def _groups(snapshot: delta.Snapshot, target: int) -> list[_Group]:
    """The small files by slice and run, where merging leaves fewer of them."""
    blank = [c for c in snapshot.partition_columns if "" in snapshot.partition_texts(c)]
    found: dict[Any, list[delta.DataFile]] = {}
    for file in snapshot.files([JOB, RUN_ID]):
        unclear = any(file.partition[c] is None for c in blank)  # the library reads both "" and null as null
        if file.size < _FULL * target and file.live_mask is None and not unclear:
            slice_ = tuple(str(delta.partition_text(value)) for value in file.partition.values())
            found.setdefault((slice_, constant(file, JOB), constant(file, RUN_ID)), []).append(file)
    groups = [_Group(tuple(sorted(files, key=lambda f: f.path)), run) for (_, _, run), files in found.items()]
    return [group for group in groups if -(-group.bytes // target) < len(group.files)]


def _lots(groups: Sequence[_Group]) -> Iterator[list[_Group]]:
    lot = list[_Group]()
    for group in groups:
        lot.append(group)
        if sum(one.bytes for one in lot) >= _LOT:
            yield lot
            lot = []
    if lot:
        yield lot


def _merge(snapshot: delta.Snapshot, groups: Sequence[_Group], asked: Compaction, run: str) -> delta.Snapshot:
    """Write the groups' rows to new files and commit these; the table as it is then."""
    with ThreadPoolExecutor(local.cores()) as pool:
        written = list(pool.map(lambda group: _write(snapshot, group, asked, run), groups))
    pending = list(zip(groups, written, strict=True))
    for attempt in range(1, delta.ATTEMPTS + 1):
        said = {"lakehouse_run": run, "merged_files": sum(len(group.files) for group, _ in pending)}
        try:
            delta.rewrite(snapshot, [(group.files, adds) for group, adds in pending], said)
            return _reopened(snapshot.location)
        except delta.Conflict as error:
            snapshot = _reopened(snapshot.location)
            live = {file.fingerprint(): file.relative for file in snapshot.files()}
            if {add.path for _, adds in pending for add in adds} <= set(live.values()):
                return snapshot  # it was made, only the reply was lost
            pending = _still_there(snapshot.location, pending, live)
            if not pending:
                return snapshot
            if attempt == delta.ATTEMPTS:
                raise Unavailable(f"{error}; {attempt} times in a row: try again") from error
            delta.pause(attempt)
    raise AssertionError("unreachable")


def _write(snapshot: delta.Snapshot, group: _Group, asked: Compaction, run: str) -> tuple[delta.Add, ...]:
    inside = [f for f in snapshot.schema if f.name not in snapshot.partition_columns]
    schema = pa.schema([pa.field(f.name, f.type) for f in inside])
    first = [name for name in (JOB, RUN_ID, *asked.first) if name in schema.names]
    values = group.files[0].partition.items()
    texts = {c: _NULL if value is None else str(delta.partition_text(value)) for c, value in values}
    kind = f"of-{group.run}" if group.run else "of-several"
    written = Files(kind, 0, snapshot.location, schema, folder_of(run, texts), first=first, target=asked.bytes)
    rows = 0
    try:
        for file in group.files:
            for batch in delta.batches_of(snapshot, schema.names, file):
                rows += batch.num_rows
                written.write(batch)
        written.close()
    finally:
        written.abandon()
    told = [file.rows for file in group.files]
    if sum(one["rows"] for one in written.done) != rows or (None not in told and sum(filter(None, told)) != rows):
        raise RuntimeError(f"{snapshot.location.uri}: merged files of {kind} don't have the rows of those before")
    return delta.adds_of(written.done)


def _still_there(
    location: Location, pending: Sequence[tuple[_Group, tuple[delta.Add, ...]]], live: Collection[Any]
) -> list[tuple[_Group, tuple[delta.Add, ...]]]:
    """Those of which every file still lives as it was; what was written for the others goes."""
    kept = []
    for group, adds in pending:
        if all(file.fingerprint() in live for file in group.files):
            kept.append((group, adds))
            continue
        for add in adds:
            remove(location.join(add.path))
    return kept


def _reopened(location: Location) -> delta.Snapshot:
    fresh = delta.open_table(location)
    if fresh is None:
        raise Unavailable(f"{location.uri}: the table was taken away meanwhile")
    return fresh


def _optimize(
    snapshot: delta.Snapshot, target: int, session: Callable[[Location], AbstractContextManager[Any]]
) -> None:
    """Have Spark merge them, as the table's features ask for."""
    sizes = {"minFileSize": int(_FULL * target), "maxFileSize": target}
    settings = {f"spark.databricks.delta.optimize.{name}": str(size) for name, size in sizes.items()}
    with session(snapshot.location) as spark, with_settings(spark, settings):
        spark.sql(f"OPTIMIZE delta.{quote(snapshot.location.hadoop_uri)}")


def keep_files(section: Sink, wanted: timedelta, *, change: bool) -> str:
    """Have the table keep removed files so long where it keeps them for less; what was, or would be, changed."""
    snapshot = delta.open_table(locate(section.table))
    if snapshot is None or delta.is_kept_for(snapshot, wanted):
        return ""
    if change:
        delta.keep_for(snapshot, wanted)
    return f"{delta.KEPT} {'is' if change else 'would be'} {wanted.days} days"


def outdated(section: Sink, kept_for: timedelta | None) -> Mapping[str, int]:
    """The files, with their bytes, that the log has known as removed for longer than the table, or `kept_for`, says."""
    snapshot = delta.open_table(locate(section.table), in_place=True)
    return {} if snapshot is None else delta.removed_files(snapshot, kept_for)


def remove_outdated(section: Sink, paths: Collection[str]) -> None:
    """Take such files away."""
    root = locate(section.table)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda path: remove(root.join(path)), paths))
