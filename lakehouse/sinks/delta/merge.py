"""Upserts by key without a JVM: staged files come in as they are, live files that hold their keys are written anew.

Only files of which a row has a staged key are read whole; the others are ruled out by their bounds or their key
columns, those of many files at a time. Memory holds all staged keys, or it is said beforehand that it doesn't; where
there are executors they look for what is much (`merge_tasks`). Every row that no staged row replaces stays as it was,
byte for byte in every column.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.connectors import delta
from lakehouse.engines import local, memory
from lakehouse.errors import ConfigError
from lakehouse.scoring.files import Files
from lakehouse.scoring.staging import folder_of
from lakehouse.scoring.statistics import bounds_of
from lakehouse.sinks.delta.history import live_files_of_slice
from lakehouse.sinks.target import DIRECT, Target
from lakehouse.storage import display_name, locate
from lakehouse.storage.parquet import open_parquet

Rewritten = dict[tuple[str, int, str], tuple[delta.Add, ...] | None]
"""By a file's fingerprint: what its other rows were written to; None where it has no staged key."""

Others = tuple[delta.Add, ...] | None
Elsewhere = Callable[[delta.Snapshot, Sequence[delta.DataFile], Target, str], Sequence[Others]]
"""Has executors write what of each of these files is not replaced, as `write_others` does."""

_ROW = "__row"
_FEWEST = 1 << 20
"""Rows of live files whose keys are looked up together, at least."""
FEW = 1 << 20
"""Rows, those staged and those of live files together, of which this process looks the keys up though it has others."""
_LOOKED_AT = 3
_ROW_BYTES = 16
"""A row of a file of which nothing is known."""


def rewrite(
    snapshot: delta.Snapshot, target: Target, run: str, known: Rewritten, elsewhere: Elsewhere | None = None
) -> tuple[list[delta.DataFile], list[delta.Add]]:
    """The live files that hold staged keys, and new files of their other rows.

    `known` keeps what was found out, for a later attempt. `elsewhere` does what is much, or more than memory holds.
    Raises ConfigError where this process has to do it and can't.
    """
    live = live_files_of_slice(snapshot, target.slice, target.keys)
    if not (live and target.files):
        return [], []
    bounds = _bounds_of_staged(target)
    files = [f for f in live if _may_hold(f, bounds)]
    new = [f for f in files if f.fingerprint() not in known]
    lack = lack_of_room(target, live)
    if elsewhere is not None and (lack or target.rows + sum(map(rows_in, new)) > FEW):
        found = elsewhere(snapshot, new, target, run) if new else ()
        known |= zip((file.fingerprint() for file in new), found, strict=True)
    elif lack:
        raise ConfigError(lack)
    elif new:
        _rewrite_here(snapshot, target, run, new, known)
    removes = [f for f in files if known[f.fingerprint()] is not None]
    return removes, [add for f in removes for add in known[f.fingerprint()] or ()]


def _rewrite_here(
    snapshot: delta.Snapshot, target: Target, run: str, files: Sequence[delta.DataFile], known: Rewritten
) -> None:
    staged = delta.read_files(snapshot.location, [f.path for f in target.files], target.keys)
    with ThreadPoolExecutor(local.cores()) as pool:
        for some in _gathered(files, max(staged.num_rows, _FEWEST)):
            replaced = _by_file(list(pool.map(lambda f: delta.rows_of(snapshot, target.keys, [f]), some)), staged)
            adds = pool.map(lambda file, rows: write_others(snapshot, file, rows, target, run), some, replaced)
            known |= zip((file.fingerprint() for file in some), adds, strict=True)


def rows_in(file: delta.DataFile) -> int:
    """About how many rows a file has, by its bytes where the log doesn't say."""
    return file.size // _ROW_BYTES if file.rows is None else file.rows


def require_room(target: Target) -> None:
    """Raise ConfigError where this machine's memory does not hold what `lack_of_room` speaks of."""
    if lack := lack_of_room(target):
        raise ConfigError(lack)


def lack_of_room(target: Target, live: Sequence[delta.DataFile] | None = None) -> str:
    """That this machine's memory does not hold the staged keys in the way that they are looked up; "" where it does.

    By the footers of a few of the staged files: those keys of so many bytes a row, a set of them, and as many keys of
    live files. (Measured: 56 to 92 bytes a row besides the keys themselves, for one integer and for two.) `live`: the
    files of the slice, by default those that are there now; without any no key is looked up.
    """
    left = memory.available()
    if target.write != "merge" or target.how != DIRECT or left is None or not target.files:
        return ""
    width = _bytes_of_keys(target)
    needed = int(target.rows * (4 * width + 72))
    if needed <= left or not (_live(target) if live is None else live):
        return ""
    return (
        f"{display_name(locate(target.uri))}: to merge {target.rows:,} rows, {width:.0f} bytes of keys each, takes "
        f"about {needed / 1e9:.1f} GB of memory in this process, which has {left / 1e9:.1f} GB left: run it where "
        "there is more, merge fewer rows at a time, by source.where, or publish a slice by write: replace"
    )


def _live(target: Target) -> list[delta.DataFile]:
    snapshot = delta.open_table(locate(target.uri))
    return live_files_of_slice(snapshot, target.slice) if snapshot is not None else []


def _bytes_of_keys(target: Target) -> float:
    """About the bytes that a row's keys have: at least 8 each, more where the first of the staged files say so."""
    sizes, rows = Counter[str](), 0
    for file in target.files[:_LOOKED_AT]:
        with open_parquet(target.root, file.path) as stored:
            footer = stored.metadata
        for group in map(footer.row_group, range(footer.num_row_groups)):
            columns = map(group.column, range(group.num_columns))
            sizes.update(
                {c.path_in_schema: c.total_uncompressed_size for c in columns if c.path_in_schema in target.keys}
            )
        rows += footer.num_rows
    return sum(max(sizes[key] / max(rows, 1), 8.0) for key in target.keys)


def _bounds_of_staged(target: Target) -> dict[str, tuple[Any, Any]]:
    """The least and the greatest value of each key, by the statistics of all staged files; the others are left out.

    So are timestamps: other writers cut the upper bounds of theirs to milliseconds.
    """
    kinds = {k: kind for k in target.keys if not pa.types.is_timestamp(kind := target.schema.field(k).type)}
    told = [bounds_of(file.stats, kinds) for file in target.files]
    known = [k for k in kinds if told and all(k in bounds for bounds in told)]
    return {k: (min(bounds[k][0] for bounds in told), max(bounds[k][1] for bounds in told)) for k in known}


def _may_hold(file: delta.DataFile, staged: Mapping[str, tuple[Any, Any]]) -> bool:
    for key, (first, last) in staged.items():
        least, greatest, _ = file.bounds.get(key, (None, None, None))
        if least is None or greatest is None:
            continue
        try:
            if greatest < first or least > last:
                return False
        except TypeError:  # a bound that the log spells in another type
            continue
    return True


def _gathered(files: Sequence[delta.DataFile], rows: int) -> Iterator[list[delta.DataFile]]:
    """Files that have about so many rows together: the staged keys are made a set once for all of them."""
    some, many = list[delta.DataFile](), 0
    for file in files:
        some.append(file)
        many += rows if file.rows is None else file.rows  # one that may have any number ends a lot
        if many >= rows:
            yield some
            some, many = [], 0
    if some:
        yield some


def _by_file(keys: Sequence[pa.Table], staged: pa.Table) -> list[Any]:
    """By file the numbers of the rows whose key is staged (int64); None where none of its keys is."""
    ends = np.cumsum([table.num_rows for table in keys])
    found = replaced(pa.concat_tables(keys), staged)
    parts = np.split(found, np.searchsorted(found, ends[:-1]))
    return [
        part - (end - table.num_rows) if len(part) else None for table, part, end in zip(keys, parts, ends, strict=True)
    ]


def write_others(snapshot: delta.Snapshot, file: delta.DataFile, replaced: Any, target: Target, run: str) -> Others:
    """Write a live file to new files without the rows of these numbers (int64, in order); for None there are none."""
    if replaced is None:
        return None
    inside_file = [f for f in snapshot.schema if f.name not in snapshot.partition_columns]
    schema = pa.schema([pa.field(f.name, f.type) for f in inside_file])
    writer = Files(
        f"merged-{uuid.uuid4().hex[:8]}", 0, snapshot.location, schema, folder_of(run, target.slice), first=target.keys
    )
    position = 0
    try:
        for batch in delta.batches_of(snapshot, schema.names, file):
            begin, end = np.searchsorted(replaced, [position, position + batch.num_rows])
            others = np.delete(np.arange(batch.num_rows), replaced[begin:end] - position)
            position += batch.num_rows
            writer.write(batch.take(pa.array(others)))
        writer.close()
    finally:
        writer.abandon()
    return delta.adds_of(writer.done)


def replaced(keys: pa.Table, staged: pa.Table) -> Any:
    """The numbers of the rows whose key is among the staged ones, in order (int64)."""
    return np.delete(np.arange(keys.num_rows), _without(keys, staged))


def _without(keys: pa.Table, staged: pa.Table) -> Any:
    """The numbers of the rows whose key is not among the staged ones, in order (int64)."""
    if keys.num_columns == 1:
        found = pc.is_in(keys.column(0), staged.column(0))
        return np.flatnonzero(~found.to_numpy())
    numbered = keys.append_column(_ROW, pa.array(np.arange(keys.num_rows)))
    left = numbered.join(staged, keys=keys.column_names, join_type="left anti")
    return np.sort(left[_ROW].to_numpy())
