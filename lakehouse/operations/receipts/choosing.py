"""Which rows of a run are looked at: a sample that is the same on every side, or all, in parts that fit into memory.

Rows are told by the hashes of their keys, so that a row which only one side has is chosen on that side too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.checks.hashes import hash_rows, normalise
from lakehouse.engines import memory

_BYTES = 160
"""About what a row of either side takes, besides its values, while both are matched by their keys."""

Hashes = Any  # a numpy array of uint64, one a row
Chosen = Callable[[Hashes], Any]
"""Which rows are looked at, by the hashes of their keys."""


def parts_of(hashes: Hashes, sample: int | None, columns: int) -> Iterator[Chosen]:
    """What is looked at, one part after the other: a sample, or all rows in as many parts as memory asks for."""
    if sample is not None:
        last = np.partition(hashes, sample - 1)[sample - 1] if sample < len(hashes) else np.uint64(2**64 - 1)
        yield partial(_up_to, last)
        return
    left, needed = memory.available(), 2 * len(hashes) * (_BYTES + 16 * columns)
    parts = 1 if left is None else max(1, -(-needed // max(left // 2, 1)))
    for part in range(parts):
        yield partial(_of_part, part, parts)


def _up_to(last: Any, hashes: Hashes) -> Any:
    return hashes <= last


def _of_part(part: int, parts: int, hashes: Hashes) -> Any:
    return hashes % np.uint64(parts) == np.uint64(part)


def hashes_of(batches: Iterator[pa.RecordBatch], keys: Sequence[str], seed: int) -> Hashes:
    """The hashes of all keys (uint64), in no order."""
    parts = [mixed(batch, keys, seed) for batch in batches]
    return np.concatenate([np.empty(0, np.uint64), *parts])


def mixed(batch: pa.RecordBatch, keys: Sequence[str], seed: int) -> Hashes:
    """A hash of each row's key, mixed with the seed (splitmix64), so that the least ones are any rows."""
    if not batch.num_rows:
        return np.empty(0, np.uint64)
    salt = np.frombuffer(hashlib.sha256(str(seed).encode()).digest(), "<u8", 1)
    mixed: Hashes = hash_rows([normalise(batch.column(name)) for name in keys]) ^ salt
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def with_key(batch: pa.RecordBatch, keys: Sequence[str]) -> pa.RecordBatch:
    """The rows whose keys are not null."""
    for name in keys:
        if batch.column(name).null_count:
            batch = batch.filter(batch.column(name).is_valid())
    return batch


def chosen_rows(batch: pa.RecordBatch, keys: Sequence[str], seed: int, chosen: Chosen) -> pa.RecordBatch:
    """The rows of a batch, which all have keys, that are looked at."""
    return batch.filter(pa.array(chosen(mixed(batch, keys, seed)), pa.bool_()))


def sum_of(hashes: Hashes) -> int:
    """The sum of all hashes as 64 bits: the same for the same keys in whatever order."""
    return int(hashes.sum(dtype=np.uint64))
