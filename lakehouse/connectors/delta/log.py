"""The files of a table's log: copied from an object storage, each asked for once, and what the library doesn't tell.

A file of a log never changes. One that a listing shows with the size and time that it had before is the same, so that
a fresh look at a table costs a listing and the commits that are new.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.errors import LakehouseError
from lakehouse.storage import Location, content, entries_of, read_lines

LOG = "_delta_log"
_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")
_OTHER_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\..+\.(?:parquet|json)")
"""Checkpoints in several files, which are left to the library."""
_LONGEST = 5_000
"""Commits after which a log may take long to list: the library, which lists its end alone, reads it by itself."""
_LARGEST = 64 << 20
"""Bytes of a checkpoint that is copied."""
_AT_ONCE = 16


@dataclass(frozen=True)
class LogCopy:
    """A log's newest checkpoint and the commits since, in the folder of a table without data; gone with this object.

    `files`: what was copied, by name its size and time of writing.
    """

    table: Path
    files: dict[str, tuple[int, Any]] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the log's files are."""
        return self.table / LOG


_copies: ContextVar[dict[str, LogCopy] | None] = ContextVar("_copies", default=None)


@contextmanager
def logs_read_once() -> Iterator[None]:
    """Until the block ends, no file of a log is asked for again; what was copied goes with it."""
    token = _copies.set({})
    try:
        yield
    finally:
        _copies.reset(token)


def copy_log(location: Location) -> tuple[LogCopy, range] | None:
    """The log of a table in an object storage as it is now, and the versions that the copy can tell of.

    None where there is no table, and where the library has to read it by itself.
    """
    shared = _copies.get()
    held = shared.get(location.uri) if shared is not None else None
    try:
        if held is None and not _is_short(location):
            return None
        listed = entries_of(location.join(LOG))
        wanted = _wanted(listed)
        if wanted is None:
            return None
        if held is None or any(held.files[name] != listed[name] for name in wanted[0] if name in held.files):
            held = _new_copy()
        _fetch(location, held, {name: listed[name] for name in wanted[0] if name not in held.files})
    except (LakehouseError, OSError, pa.ArrowException):
        return None  # the library says what is wrong
    if shared is not None:
        shared[location.uri] = held
    return held, wanted[1]


def _new_copy() -> LogCopy:
    copy = LogCopy(Path(tempfile.mkdtemp(prefix="lakehouse-log-")))
    copy.folder.mkdir()
    weakref.finalize(copy, shutil.rmtree, copy.table, ignore_errors=True)
    return copy


def _is_short(location: Location) -> bool:
    said = content(location.join(LOG, "_last_checkpoint"))
    return said is None or json.loads(said)["version"] < _LONGEST


def _wanted(listed: Mapping[str, tuple[int, Any]]) -> tuple[list[str], range] | None:
    """The newest checkpoint, its commit and those since, and the versions that can be told from them."""
    commits = {int(m[1]): name for name in listed if (m := _COMMIT.fullmatch(name))}
    checkpoints = {int(m[1]): name for name in listed if (m := _CHECKPOINT.fullmatch(name))}
    others = [int(m[1]) for name in listed if (m := _OTHER_CHECKPOINT.fullmatch(name))]
    start = max(checkpoints, default=-1)
    newest = max([*commits, start], default=-1)
    since = range(start + 1, newest + 1)
    if newest < 0 or max(others, default=-1) > start or any(version not in commits for version in since):
        return None
    names = [commits[version] for version in (start, *since) if version in commits]
    if start >= 0:
        if listed[checkpoints[start]][0] > _LARGEST:
            return None
        names.append(checkpoints[start])
    return names, range(max(start, 0), newest + 1)


def _fetch(location: Location, copy: LogCopy, missing: Mapping[str, tuple[int, Any]]) -> None:
    def fetch(name: str) -> None:
        file = location.join(LOG, name)
        text = name.endswith(".json")
        held = read_lines(file, missing[name][0]) if text else content(file)
        if held is None or len(held) != missing[name][0]:
            raise FileNotFoundError(file.uri)
        (copy.folder / name).write_bytes(held)
        copy.files[name] = missing[name]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(fetch, missing))


def transactions(folder: Path, version: int) -> dict[str, int] | None:
    """All transaction ids of a table at a version, by its log in this folder; None where only the library can tell."""
    names = {path.name for path in folder.iterdir()}
    checkpoints = {int(m[1]): name for name in names if (m := _CHECKPOINT.fullmatch(name)) and int(m[1]) <= version}
    others = [int(m[1]) for name in names if (m := _OTHER_CHECKPOINT.fullmatch(name)) and int(m[1]) <= version]
    start = max(checkpoints, default=-1)
    if max(others, default=-1) > start:
        return None
    found: dict[str, int] = {}
    if start >= 0:
        ids = pq.read_table(folder / checkpoints[start], columns=["txn"])
        held = ids.column("txn").drop_null().to_pylist() if ids.num_columns else []
        found = {row["appId"]: row["version"] for row in held}
    for number in range(start + 1, version + 1):
        path = folder / f"{number:020d}.json"
        if path.name not in names:
            return None
        for action in actions(path.read_bytes(), "txn"):
            found[action["appId"]] = action["version"]
    return found


def actions(commit: bytes, kind: str) -> Iterator[Mapping[str, Any]]:
    """A commit's actions of a kind."""
    key = f'"{kind}"'.encode()
    for line in commit.splitlines():
        if key in line and kind in (action := json.loads(line)):
            yield action[kind]
