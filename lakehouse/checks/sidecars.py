"""Hashes that a worker writes beside its staged files, in order, so that a part of all workers' is read at once.

A sidecar begins with how many of its hashes are below the end of each 256th of the numbers that they can be.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np

from lakehouse.errors import LakehouseError
from lakehouse.storage import Location, create_file, remove

PARTS = 256
_HEAD = 8 * PARTS


def write(root: Location, folder: str, name: str, hashes: Any, first: Any) -> str:
    """Write hashes, which are in order; the path below `root`. `first`: the part that each is in."""
    ends = np.searchsorted(first, np.arange(PARTS, dtype=first.dtype), side="right")
    path = f"{folder}/{name}-{uuid.uuid4().hex}.hashes"
    with create_file(root.join(path)) as sidecar:
        sidecar.write(ends.astype(np.int64).tobytes())
        sidecar.write(hashes)
    return path


def ends_of(root: Location, paths: Sequence[str]) -> Any:
    """By sidecar and part where the hashes of the part begin, and at last where they end (int64)."""
    with ThreadPoolExecutor(8) as pool:
        heads = pool.map(lambda path: np.frombuffer(_read(root, path, 0, _HEAD), np.int64), paths)
        return np.array([np.concatenate([[0], head]) for head in heads], np.int64).reshape(len(paths), PARTS + 1)


def read(root: Location, paths: Sequence[str], starts: Sequence[int], ends: Sequence[int], dtype: Any) -> list[Any]:
    """The hashes of each sidecar from one number to another."""
    size = np.dtype(dtype).itemsize

    def one(path: str, start: int, end: int) -> Any:
        return np.frombuffer(_read(root, path, _HEAD + size * int(start), size * int(end - start)), dtype)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, paths, starts, ends))


def remove_all(root: Location, paths: Sequence[str]) -> None:
    """Take sidecars away; what stays, `lakehouse sweep` finds."""
    with suppress(LakehouseError, OSError), ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: remove(root.join(path)), paths))


def _read(root: Location, path: str, begin: int, size: int) -> bytes:
    with root.filesystem().open_input_file(f"{root.path}/{path}") as file:
        return bytes(file.read_at(size, begin))
