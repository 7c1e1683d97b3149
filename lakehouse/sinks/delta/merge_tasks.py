"""The look for staged keys in live files on executors, for `merge`: neither keys nor rows come to the driver.

Tasks read the keys of the staged and of the live files. By their hash all rows of a key come together in one task,
which tells the rows that are replaced; by file these come together again where its other rows are written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from lakehouse.checks.hashes import hash_rows, normalise
from lakehouse.connectors import delta
from lakehouse.sinks.delta import merge
from lakehouse.sinks.target import Target
from lakehouse.storage.parquet import open_parquet

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_READ_ROWS, _STAGED_ROWS, _LIVE_ROWS, _WRITTEN_BYTES = 1 << 24, 1 << 21, 1 << 26, 1 << 30
"""What a task gets, about: rows whose keys it reads, staged keys that it holds, live keys it looks up, files' bytes."""
_TOGETHER = 1 << 20
"""Live keys that a task looks up together, at least: the set of the staged ones is made once for them."""
_STAGED = -1
_HASH, _FILE, _ROW, _SAID = "hash", "file", "row", "said"
_REPLACED = pa.schema([(_FILE, pa.int32()), (_ROW, pa.int64())])
_WRITTEN = pa.schema([(_FILE, pa.int32()), (_SAID, pa.string())])


@dataclass(frozen=True)
class Work:
    """What is shipped. `files`: live ones, of `snapshot`; `shares`: of tasks, the places of files in `files` and of
    staged files in `staged`.
    """

    snapshot: delta.Snapshot
    target: Target
    run: str
    files: tuple[delta.DataFile, ...]
    staged: tuple[str, ...]
    shares: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]

    @property
    def keys(self) -> pa.Schema:
        """The keys as they go from task to task, in the table's types."""
        return pa.schema(
            [pa.field(f"key{i}", self.snapshot.schema.field(k).type) for i, k in enumerate(self.target.keys)]
        )


def rewrite(
    spark: SparkSession, snapshot: delta.Snapshot, files: Sequence[delta.DataFile], target: Target, run: str
) -> list[merge.Others]:
    """Have executors write the rows of each of these live files that no staged row replaces, to new files.

    None for a file of which none is replaced. Raises Unavailable where files can't be read or written.
    """
    from lakehouse.engines import spark as engine

    cores, live = engine.cores(spark), sum(map(merge.rows_in, files))
    read = _tasks(target.rows + live, _READ_ROWS, cores, len(files) + len(target.files))
    looking = max(_tasks(target.rows, _STAGED_ROWS, cores), _tasks(live, _LIVE_ROWS, cores))
    writing = _tasks(sum(f.size for f in files), _WRITTEN_BYTES, 3 * cores, len(files))
    shares = tuple(
        (tuple(range(i, len(files), read)), tuple(range(i, len(target.files), read))) for i in reversed(range(read))
    )
    alone = replace(snapshot, table=cast(Any, None), copy=None)  # what reads a log stays here
    staged = tuple(f.path for f in target.files)
    work = Work(alone, replace(target, files=()), run, tuple(files), staged, shares)
    keyed = pa.schema([(_HASH, pa.int64()), *_REPLACED, *work.keys])
    rows = engine.run_steps(
        spark,
        work,
        [
            engine.Step(read_keys, keyed, read),
            engine.Step(find_replaced, _REPLACED, looking, by=_HASH, order=(_FILE,)),
            engine.Step(write_others, _WRITTEN, writing, by=_FILE, order=(_FILE, _ROW)),
        ],
    )
    written = {row[_FILE]: tuple(delta.Add(*add) for add in json.loads(row[_SAID])) for row in rows}
    return [written.get(number) for number in range(len(files))]


def _tasks(size: int, each: int, least: int, most: int | None = None) -> int:
    wanted = max(-(-size // each), least, 1)
    return wanted if most is None else min(wanted, most)


def read_keys(work: Work, numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The keys of each task's share of the files, with their hash, and of live files with file and row."""
    names = work.target.keys
    for batch in numbers:
        for live, staged in map(work.shares.__getitem__, batch.column(0).to_pylist()):
            for path in map(work.staged.__getitem__, staged):
                with open_parquet(work.snapshot.location, path) as file:
                    for rows in file.iter_batches(columns=list(names), use_threads=False):
                        yield _keyed(work, rows, _STAGED, 0)
            for number in live:
                position = 0
                for rows in delta.batches_of(work.snapshot, names, work.files[number]):
                    yield _keyed(work, rows, number, position)
                    position += rows.num_rows


def _keyed(work: Work, rows: pa.RecordBatch, file: int, first: int) -> pa.RecordBatch:
    """A batch's keys; a row that lacks one is left out, since it is no staged row's."""
    keys = [rows.column(name).cast(field.type) for name, field in zip(work.target.keys, work.keys, strict=True)]
    numbers = np.arange(first, first + rows.num_rows)
    whole = pa.RecordBatch.from_arrays(
        [pa.array(np.full(rows.num_rows, file, np.int32)), pa.array(numbers), *keys],
        schema=pa.schema([*_REPLACED, *work.keys]),
    ).drop_null()
    hashes = pa.array(hash_rows([normalise(key) for key in whole.columns[2:]]).view(np.int64))
    return pa.RecordBatch.from_arrays([hashes, *whole.columns], [_HASH, *whole.schema.names])


def find_replaced(work: Work, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Of rows as `read_keys` gives them, in the order of their files, the live ones whose key is staged."""
    begun, staged = list[pa.RecordBatch](), None
    waiting, many = list[pa.RecordBatch](), 0
    for batch in batches:
        first = int(np.searchsorted(batch.column(_FILE).to_numpy(), 0))
        begun += [batch.slice(0, first)] if first else []
        if first == batch.num_rows:
            continue
        if not begun:
            return  # no staged key has come here
        staged = _table(work, begun) if staged is None else staged
        waiting.append(batch.slice(first))
        many += waiting[-1].num_rows
        if many >= max(staged.num_rows, _TOGETHER):
            yield from _look_up(work, waiting, staged)
            waiting, many = [], 0
    if waiting and staged is not None:
        yield from _look_up(work, waiting, staged)


def _look_up(work: Work, batches: Sequence[pa.RecordBatch], staged: pa.Table) -> Iterator[pa.RecordBatch]:
    places = pa.Table.from_batches(batches).select(_REPLACED.names)
    return iter(places.take(pa.array(merge.replaced(_table(work, batches), staged))).cast(_REPLACED).to_batches())


def _table(work: Work, batches: Sequence[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(batches).select(work.keys.names)


def write_others(work: Work, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """For each file of rows that are replaced, which come in order: the files its other rows were written to."""
    for number, rows in _by_file(batches):
        adds = merge.write_others(work.snapshot, work.files[number], rows, work.target, work.run) or ()
        said = json.dumps([[add.path, add.size, add.stats] for add in adds])
        yield pa.RecordBatch.from_pylist([{_FILE: number, _SAID: said}], _WRITTEN)


def _by_file(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, Any]]:
    """The numbers of each file's rows (int64)."""
    current, held = _STAGED, list[Any]()
    for batch in batches:
        numbers, rows = batch.column(_FILE).to_numpy(), batch.column(_ROW).to_numpy()
        for start, end in _runs(numbers):
            if numbers[start] != current:
                if held:
                    yield current, np.concatenate(held)
                current, held = int(numbers[start]), []
            held.append(rows[start:end])
    if held:
        yield current, np.concatenate(held)


def _runs(numbers: Any) -> Iterator[tuple[int, int]]:
    """The starts and ends of equal numbers in a row."""
    bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    return ((start, end) for start, end in pairwise(bounds) if end > start)
