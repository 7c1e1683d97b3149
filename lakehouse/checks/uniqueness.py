"""Whether the keys of a run's scored rows are unique: each worker hashes its own, the driver looks for equal hashes.

A worker writes its hashes, sorted, to sidecar files beside its staged files, 8 bytes a row, and says in which ranges
its keys rise. Where all ranges are apart, every key is unique and no sidecar is read. Otherwise the driver, or of very
many rows executors, go through the hashes, one part of the 64-bit numbers after the other; of the keys, only those with
equal hashes are read.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.checks.hashes import Hashes, hash_rows, normalise, order_as_int64
from lakehouse.checks.sidecars import PARTS, ends_of, read, remove_all, write
from lakehouse.storage import Location
from lakehouse.storage.parquet import open_parquet

if TYPE_CHECKING:
    from lakehouse.checks import Tally
    from lakehouse.scoring.staging import Staging

SIDECAR_ROWS = 1 << 21
"""A worker holds so many hashes (16 MB), then sorts and writes them."""
AT_ONCE = 1 << 24
"""The driver reads hashes of so many rows (128 MB) at a time, and sorts them a 256th after the other: in the cache."""
CHECKED = 100_000
"""Keys of equal hash that are looked up in the staged files; with more, the count is a lower bound."""
_RANGES, _MERGED_RANGES = 512, 1 << 15
"""Ranges of one worker's keys, and of those of several that are merged."""
_READERS = 32
"""So many executors at most look the keys up that have equal hashes: each may come with all of them."""
_SHIFT = np.uint64(56)
_COUNT = "__rows"


@dataclass
class Keys:
    """A worker's keys. `ranges`: of the first key, a batch each, as `order_as_int64` gives them; None once they
    don't rise."""

    names: Sequence[str]
    root: Location
    folder: str
    task: int
    held: Hashes | None = None
    rows: int = 0
    ranges: list[tuple[int, int]] | None = field(default_factory=list)
    sidecars: list[str] = field(default_factory=list)

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the keys of scored rows in."""
        if batch.num_rows == 0:
            return
        columns = [batch.column(name) for name in self.names]
        self._follow(columns[0])
        found = hash_rows([normalise(column) for column in columns])
        if self.held is None:
            self.held = np.empty(SIDECAR_ROWS, np.uint64)
        while len(found):
            taken = found[: SIDECAR_ROWS - self.rows]
            self.held[self.rows : self.rows + len(taken)] = taken
            self.rows, found = self.rows + len(taken), found[len(taken) :]
            if self.rows == SIDECAR_ROWS:
                self._write()

    def _follow(self, column: pa.Array) -> None:
        numbers = None if self.ranges is None else order_as_int64(column)
        if self.ranges is None or numbers is None or not (numbers[1:] > numbers[:-1]).all():
            self.ranges = None
            return
        self.ranges.append((int(numbers[0]), int(numbers[-1])))
        if len(self.ranges) > 2 * _RANGES:
            self.ranges = _join(self.ranges)

    def _write(self) -> None:
        assert self.held is not None  # whoever calls has rows
        found = self.held[: self.rows]
        found.sort()
        self.sidecars.append(write(self.root, self.folder, f"keys-{self.task:05d}", found, found >> _SHIFT))
        self.rows = 0

    def close(self) -> dict[str, Any] | None:
        """Write what is held; what the manifest says of the keys, None where there are none."""
        if self.rows:
            self._write()
        if not self.sidecars:
            return None
        return {"ranges": None if self.ranges is None else _join(self.ranges), "sidecars": self.sidecars}


def watch_keys(staging: Staging, task: int, folder: str) -> Keys | None:
    """What a worker tells its keys, None where the job does not ask whether they are unique."""
    return Keys(staging.scoring.keys, staging.scored_root, folder, task) if staging.unique_keys else None


def merge(keys: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What several workers said of their keys, as if one had had them all; None where none had any."""
    if not keys:
        return None
    ranges = [one["ranges"] for one in keys]
    joined = None if None in ranges else _join([r for some in ranges for r in some], _MERGED_RANGES)
    return {"ranges": joined, "sidecars": [path for one in keys for path in one["sidecars"]]}


def _join(ranges: Sequence[tuple[int, int]], most: int = _RANGES) -> list[tuple[int, int]] | None:
    """Ranges as few ones, None where they overlap. Joined over the smallest gaps: other workers' lie in large ones."""
    inorder = sorted(map(tuple, ranges))
    gaps = [after[0] - before[1] for before, after in pairwise(inorder)]
    if any(gap <= 0 for gap in gaps):
        return None
    parted = sorted(sorted(range(len(gaps)), key=gaps.__getitem__, reverse=True)[: most - 1])
    starts, ends = [0, *(gap + 1 for gap in parted)], [*parted, len(inorder) - 1]
    return [(inorder[start][0], inorder[end][1]) for start, end in zip(starts, ends, strict=True)]


@dataclass(frozen=True)
class RepeatedKeys:
    """Keys that several rows have: how many, whether there are more, and some of them as rows with their count."""

    keys: int = 0
    more: bool = False
    examples: tuple[tuple[Mapping[str, Any], int], ...] = ()

    def __str__(self) -> str:
        some = "; ".join(f"{', '.join(f'{k}={v}' for k, v in key.items())} ×{count:,}" for key, count in self.examples)
        many = f"{'at least ' if self.more else ''}{self.keys:,} key{'' if self.keys == 1 else 's'}"
        return f"{many} occur{'s' if self.keys == 1 else ''} more than once in this run, such as {some}"


Ask = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
"""Has executors do work, a task an item; what came of each."""


def find_repeated(staging: Staging, tally: Tally, shown: int = 3, ask: Ask | None = None) -> RepeatedKeys:
    """The keys that several of the run's scored rows have. Takes the sidecars away.

    `ask`: where there are executors, for more than AT_ONCE rows.
    """
    root, sidecars = staging.scored_root, [path for keys in tally.keys for path in keys["sidecars"]]
    try:
        ranges = [keys["ranges"] for keys in tally.keys]
        if None not in ranges and _split([r for some in ranges for r in some]):
            return RepeatedKeys()
        suspects, more = _suspects(root, sidecars, ask)
        if not len(suspects):
            return RepeatedKeys()
        paths, names = [str(file["path"]) for file in tally.scored_files], list(staging.scoring.keys)
        if ask is None or sum(file["rows"] for file in tally.scored_files) <= AT_ONCE:
            counted = _count(root, paths, names, suspects)
        else:
            shares = [paths[i::_READERS] for i in range(min(_READERS, len(paths)))]
            told = ask(count_suspects, [(root, share, names, suspects) for share in shares])
            counted = _sum_up([pa.ipc.open_stream(base64.b64decode(text)).read_all() for text in told], names)
        return _repeated(counted, names, more, shown)
    finally:
        remove_all(root, sidecars)


def _split(ranges: Sequence[tuple[int, int]]) -> bool:
    return all(before[1] < after[0] for before, after in pairwise(sorted(ranges)))


def _suspects(root: Location, sidecars: Sequence[str], ask: Ask | None) -> tuple[Hashes, bool]:
    """The first hashes that occur more than once, in order, and whether there are more."""
    ends = ends_of(root, sidecars)
    shares = list(_shares(ends.sum(axis=0)))
    if ask is None or len(shares) == 1:
        found = (_in_parts(root, sidecars, ends[:, first : last + 1]) for first, last in shares)
        return _first_of(found)
    each = -(-4 * CHECKED // len(shares))
    said = ask(suspects_in, [(root, sidecars, first, last, each) for first, last in shares])
    suspects, more = _first_of(np.array(hashes, np.uint64) for hashes, _ in said)
    return suspects, more or any(cut for _, cut in said)


def _first_of(found: Iterable[Hashes]) -> tuple[Hashes, bool]:
    """CHECKED of these hashes at most, and whether there are more; what isn't needed isn't looked for."""
    some, many = [np.empty(0, np.uint64)], 0
    for hashes in found:
        some.append(hashes)
        many += len(hashes)
        if many > CHECKED:
            return np.concatenate(some)[:CHECKED], True
    return np.concatenate(some), False


def suspects_in(asked: tuple[Location, Sequence[str], int, int, int]) -> tuple[list[int], bool]:
    """On an executor: the hashes of some parts that occur more than once, as many as asked for; whether others do."""
    root, sidecars, first, last, most = asked
    found = _in_parts(root, sidecars, ends_of(root, sidecars)[:, first : last + 1])
    return found[:most].tolist(), len(found) > most


def _in_parts(root: Location, sidecars: Sequence[str], ends: Any) -> Hashes:
    """The hashes that occur more than once in neighbouring parts, in order. `ends`: by sidecar where these end."""
    begins = ends[:, 0]
    hashes = read(root, sidecars, begins, ends[:, -1], np.uint64)
    bounds = (ends - begins[:, None]).T
    return np.concatenate(list(map(partial(_seen_twice, hashes), bounds, bounds[1:])))


def _seen_twice(hashes: Sequence[Hashes], starts: Sequence[int], ends: Sequence[int]) -> Hashes:
    """The hashes that occur more than once between these bounds of each sidecar's, in order."""
    some = np.sort(np.concatenate([of[start:end] for of, start, end in zip(hashes, starts, ends, strict=True)]))
    again: Hashes = some[1:][some[1:] == some[:-1]]
    return np.unique(again)


def _shares(ends: Any) -> Iterator[tuple[int, int]]:
    """The parts as ranges of them that have `AT_ONCE` hashes at most, unless one part alone has more."""
    first = 0
    for last in range(1, PARTS + 1):
        if last == PARTS or ends[last + 1] - ends[first] > AT_ONCE:
            yield first, last
            first = last


def count_suspects(asked: tuple[Location, Sequence[str], Sequence[str], Hashes]) -> str:
    """On an executor: the keys with these hashes in staged files and how many rows have each, as an Arrow stream."""
    counted, sink = _count(*asked), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, counted.schema) as writer:
        writer.write_table(counted)
    return base64.b64encode(sink.getvalue()).decode()


def _count(root: Location, paths: Sequence[str], names: Sequence[str], suspects: Hashes) -> pa.Table:
    """The keys with these hashes that staged rows really have, and how many rows have each."""
    keys, counted = list(names), list[pa.Table]()
    for path in paths:
        with open_parquet(root, path) as file:
            for batch in file.iter_batches(columns=keys, use_threads=False):
                columns = [normalise(batch.column(name)) for name in keys]
                found = hash_rows(columns)
                at = np.minimum(np.searchsorted(suspects, found), len(suspects) - 1)
                rows = pa.table(dict(zip(keys, columns, strict=True))).filter(pa.array(suspects[at] == found))
                ones = pa.array(np.ones(rows.num_rows, np.int64))
                counted.append(rows.append_column(_COUNT, ones))
                if sum(part.num_rows for part in counted) > 4 * CHECKED:
                    counted = [_sum_up(counted, keys)]
    return _sum_up(counted, keys)


def _repeated(summed: pa.Table, keys: list[str], more: bool, shown: int) -> RepeatedKeys:
    twice = summed.filter(pc.greater(summed.column(len(keys)), 1))
    some = twice.slice(0, shown).to_pylist()
    examples = tuple(({name: row[name] for name in keys}, row[_COUNT]) for row in some)
    return RepeatedKeys(twice.num_rows, more, examples)


def _sum_up(parts: Sequence[pa.Table], keys: list[str]) -> pa.Table:
    whole = pa.concat_tables(parts).rename_columns([*keys, _COUNT])
    summed = whole.group_by(keys, use_threads=False).aggregate([(_COUNT, "sum")])
    return summed.select([*keys, f"{_COUNT}_sum"]).rename_columns([*keys, _COUNT])
