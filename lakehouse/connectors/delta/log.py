"""The files of a table's log: copied from an object storage, each asked for once.

A file of a log never changes. One that a listing shows with the size and time that it had before is the same, so that
a fresh look at a table costs a listing and the commits that are new.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakehouse import formats
from lakehouse.errors import LakehouseError
from lakehouse.storage import Location, content, entries_of, read_lines, write_durably

LOG = "_delta_log"
_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")
_OTHER_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\..+\.(?:parquet|json)")
"""Checkpoints in several files, which are left to the library."""
_LONGEST = 5_000
"""Commits after which a log may take long to list: where its end can't be listed alone, the library reads it."""
_LARGEST = 64 << 20
"""Bytes of a checkpoint that is copied."""
_MANY = 5
"""Commits that were asked for one by one, from which on they are kept together in one file."""
_LARGEST_KEPT = 8 << 20
_AT_ONCE = 16


@dataclass(frozen=True)
class LogCopy:
    """A log's newest checkpoint and the commits since, in the folder of a table without data; gone with this object.

    `files`: what was copied, by name its size and time of writing; `asked_for`: those that no earlier run had kept.
    """

    table: Path
    files: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    asked_for: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where the log's files are."""
        return self.table / LOG


@dataclass(frozen=True)
class _Reading:
    """The copies that were made, by the tables' URIs; `kept`: the folder of what earlier runs kept of logs."""

    kept: Location
    copies: dict[str, LogCopy] = field(default_factory=dict)


_reading: ContextVar[_Reading | None] = ContextVar("_reading", default=None)


@contextmanager
def logs_read_once(kept: Location) -> Iterator[None]:
    """Until the block ends, no file of a log is asked for again; what was copied goes with it.

    `kept`: the folder in which runs keep the commits of long logs, see `keep_logs`.
    """
    token = _reading.set(_Reading(kept))
    try:
        yield
    finally:
        _reading.reset(token)


def keep_logs() -> None:
    """Keep the commits since the last checkpoint of each log of which many had to be asked for, in one file each."""
    reading = _reading.get()
    for uri, copy in reading.copies.items() if reading else ():
        commits = {name for name in copy.files if _COMMIT.fullmatch(name)}
        size = sum(copy.files[name][0] for name in commits)
        if reading and sum(name in commits for name in copy.asked_for) >= _MANY and size <= _LARGEST_KEPT:
            texts = {n: [copy.files[n][1].isoformat(), (copy.folder / n).read_text("utf-8")] for n in commits}
            said = formats.with_version(formats.LOG, {"commits": texts})
            write_durably(_kept_file(reading, uri), json.dumps(said, ensure_ascii=False).encode())
            copy.asked_for.clear()


def _kept_file(reading: _Reading, uri: str) -> Location:
    return reading.kept.join(f"{hashlib.sha256(uri.encode()).hexdigest()[:32]}.json")


def _take_kept(reading: _Reading, uri: str, copy: LogCopy, listed: Mapping[str, tuple[int, datetime]]) -> None:
    """Put those commits into the copy that an earlier run kept, as far as the listing shows them as they were."""
    held = content(_kept_file(reading, uri), no_folder=True)
    with suppress(ValueError, KeyError, AttributeError, TypeError):  # whatever it is then, it isn't what a run kept
        said = json.loads(held or b"{}")
        if formats.is_newer(formats.LOG, said):
            return
        for name, (at, text) in said["commits"].items():
            found = text.encode()
            if name in listed and (len(found), at) == (listed[name][0], listed[name][1].isoformat()):
                (copy.folder / name).write_bytes(found)
                copy.files[name] = listed[name]


def copy_log(location: Location) -> tuple[LogCopy, range] | None:
    """The log of a table in an object storage as it is now, and the versions that the copy can tell of.

    None where there is no table, and where the library has to read it by itself.
    """
    reading = _reading.get()
    held = reading.copies.get(location.uri) if reading else None
    try:
        log = location.join(LOG)
        begin = last_checkpoint(log) if held is None else min(int(name[:20]) for name in held.files)
        if begin >= _LONGEST and not log.lists_from:
            return None
        listed = entries_of(log, f"{begin:020d}")
        wanted = _wanted(listed)
        if wanted is None and begin:  # that checkpoint may be gone
            listed = entries_of(log)
            wanted = _wanted(listed)
        if wanted is None:
            return None
        if held is None or any(held.files[name] != listed[name] for name in wanted[0] if name in held.files):
            held = _new_copy()
            if reading and len(wanted[0]) >= _MANY:
                _take_kept(reading, location.uri, held, {name: listed[name] for name in wanted[0]})
        _fetch(location, held, {name: listed[name] for name in wanted[0] if name not in held.files})
    except (LakehouseError, OSError, ValueError, pa.ArrowException):
        return None  # the library says what is wrong
    if reading:
        reading.copies[location.uri] = held
    return held, wanted[1]


def _new_copy() -> LogCopy:
    copy = LogCopy(Path(tempfile.mkdtemp(prefix="lakehouse-log-")))
    copy.folder.mkdir()
    weakref.finalize(copy, shutil.rmtree, copy.table, ignore_errors=True)
    return copy


def last_checkpoint(log: Location) -> int:
    """The version of the last checkpoint, as the log notes it: which may be gone, or not the last. 0 where none is."""
    held = content(log.join("_last_checkpoint"), no_folder=True)
    try:
        version = json.loads(held or b"{}")["version"]
    except (ValueError, KeyError, TypeError):
        return 0
    return version if isinstance(version, int) and version > 0 else 0


def _wanted(listed: Mapping[str, tuple[int, datetime]]) -> tuple[list[str], range] | None:
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


def newest(listed: Iterable[str]) -> int:
    """The version of a table whose log has files of these names, -1 where there is none."""
    found = (
        _COMMIT.fullmatch(name) or _CHECKPOINT.fullmatch(name) or _OTHER_CHECKPOINT.fullmatch(name) for name in listed
    )
    return max((int(m[1]) for m in found if m), default=-1)


def _fetch(location: Location, copy: LogCopy, missing: Mapping[str, tuple[int, datetime]]) -> None:
    def fetch(name: str) -> None:
        file = location.join(LOG, name)
        text = name.endswith(".json")
        held = read_lines(file, missing[name][0]) if text else content(file)
        if held is None or len(held) != missing[name][0]:
            raise FileNotFoundError(file.uri)
        (copy.folder / name).write_bytes(held)
        copy.files[name] = missing[name]
        copy.asked_for.append(name)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(fetch, missing))


def actions(commit: bytes, kind: str) -> Iterator[Mapping[str, Any]]:
    """A commit's actions of a kind."""
    key = f'"{kind}"'.encode()
    for line in commit.splitlines():
        if key in line and kind in (action := json.loads(line)):
            yield action[kind]
