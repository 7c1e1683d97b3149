"""What commits did to a table's files, and when, as the JSON files of its log say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from lakehouse.connectors.delta.log import LOG, actions
from lakehouse.connectors.delta.snapshot import Snapshot
from lakehouse.errors import ConfigError
from lakehouse.storage import Location, content, display_name, entries_of

COMMITS = 1_000
"""Commits that are read at most: each is a file, and a request where the table is in an object storage."""


def data_changes(snapshot: Snapshot, since: int) -> list[Mapping[str, Any]] | None:
    """The files that came or went after version `since`, up to the snapshot's, in commits that change data.

    Each is an action of the log (`add` or `remove`). Those by which OPTIMIZE and its kin put the same rows into other
    files are left out. None where a commit is not there any more, and where there are more than `COMMITS`.
    """
    found: list[Mapping[str, Any]] = []
    if snapshot.version - since > COMMITS:
        return None
    for version in range(since + 1, snapshot.version + 1):
        text = content(snapshot.location.join("_delta_log", f"{version:020d}.json"))
        if text is None:
            return None
        found += _changes(text)
    return found


def _changes(commit: bytes) -> Iterator[Mapping[str, Any]]:
    for line in commit.decode().splitlines():
        action = json.loads(line) if line.strip() else {}
        for kind in ("add", "remove"):
            if kind in action and action[kind].get("dataChange", True):
                yield action[kind]


@dataclass(frozen=True)
class Commit:
    """A commit as its file in the log tells: what it says of itself, transaction ids, the files that it added."""

    version: int
    at: datetime | None
    said: Mapping[str, Any]
    transactions: Mapping[str, int]
    adds: tuple[Mapping[str, Any], ...]


def said_by(metadata: object, wanted: str) -> Mapping[str, Any]:
    """What a commit's `userMetadata` says where it is an object of JSON with this key; {} for any other text."""
    text = str(metadata)
    if wanted not in text:
        return {}
    with suppress(ValueError, RecursionError):
        said = json.loads(text)
        if isinstance(said, dict) and wanted in said:
            return said
    return {}


def commits_of(snapshot: Snapshot, wanted: str) -> Iterator[Commit]:
    """The commits of which the log still has the file, newest first, whose `userMetadata` has this key."""
    for version in range(snapshot.version, -1, -1):
        text = content(snapshot.location.join(LOG, f"{version:020d}.json"), no_folder=True)
        if text is None:
            return
        info = next(actions(text, "commitInfo"), {}) if wanted.encode() in text else {}
        said = said_by(info.get("userMetadata"), wanted)
        if said:
            at = info.get("inCommitTimestamp", info.get("timestamp"))
            ids = {action["appId"]: int(action["version"]) for action in actions(text, "txn")}
            moment = None if at is None else datetime.fromtimestamp(at / 1000, UTC)
            yield Commit(version, moment, said, ids, tuple(actions(text, "add")))


def rewritten_until(snapshot: Snapshot, partition: Mapping[str, str], *, grows: bool = False) -> int:
    """The newest version since the snapshot's of which a partition holds the same rows, in whatever files.

    As after OPTIMIZE and its kin. `partition`: its values as the log spells them, {} for the whole table. `grows`: or
    more rows than these. At most `COMMITS` commits are read.
    """
    place = {snapshot.physical(column): text for column, text in partition.items()}
    last = snapshot.version
    for version in range(last + 1, last + 1 + COMMITS):
        text = content(snapshot.location.join(LOG, f"{version:020d}.json"), no_folder=True)
        if text is None:
            break
        here = {kind: [a for a in actions(text, kind) if lies_in(place, a)] for kind in ("add", "remove")}
        matter = here["remove"] if grows else [*here["remove"], *here["add"]]
        if any(action.get("dataChange", True) for action in matter):
            break
        last = version if here["remove"] else last
    return last


def lies_in(place: Mapping[str, str], action: Mapping[str, Any]) -> bool:
    """Whether an action's file lies in a partition; taken for granted where the action doesn't say."""
    values = action.get("partitionValues")
    return values is None or all(values.get(name) == text for name, text in place.items())


def partition_value(snapshot: Snapshot, action: Mapping[str, Any], column: str) -> Any:
    """The value that a file of an action has in a partition column; None where that is null or can't be told."""
    text = (action.get("partitionValues") or {}).get(snapshot.physical(column))
    kind = snapshot.schema.field(column).type
    if not text or pa.types.is_timestamp(kind):
        return None
    try:
        return pa.scalar(text).cast(kind).as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


@dataclass(frozen=True)
class FileLife:
    """When a file of a table came and went, as far back as its log tells: from version `since` on.

    `changes`: version → whether the file was there before that commit (None: the commit doesn't tell), and after it.
    `last`: whether it is there at the newest version. `path`: below the table's root.
    """

    path: str
    since: int
    last: bool
    changes: Mapping[int, tuple[bool | None, bool]] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """Whether the table, or what is left of its log, has it at all."""
        return self.last or bool(self.changes)

    def was_in(self, version: int) -> bool | None:
        """Whether it was among the files of a version; None where the log doesn't tell, or not that far back."""
        if version < self.since:
            return None
        before = [number for number in self.changes if number <= version]
        after = [number for number in self.changes if number > version]
        if before:
            return self.changes[max(before)][1]
        if not after:
            return self.last
        there = self.changes[min(after)][0]
        return False if there is None and self.since == 0 else there

    @property
    def added(self) -> int | None:
        """The version that first had it; None where that is further back than the log reaches."""
        first = min(self.changes, default=None)
        return first if first is not None and not self.changes[first][0] else None

    @property
    def removed(self) -> int | None:
        """The version from which on it is not there any more; None where it is."""
        return None if self.last else max(self.changes, default=None)


def life_of(snapshot: Snapshot, name: str) -> FileLife:
    """When a file came and went: its path below the table, its whole path or URI, or its name alone.

    It reads every commit that is left, and none of the data. Raises ConfigError where a name is that of several files.
    """
    wanted = _below(snapshot.location, name)
    plain = re.sub(r".*/", "", wanted).encode()
    spelled_alike = re.fullmatch(rb"[\w.-]+", plain)  # the log spells other names in its own way
    changes: dict[str, dict[int, tuple[bool | None, bool]]] = {}
    version = snapshot.version
    while version >= 0 and (text := content(snapshot.location.join(LOG, f"{version:020d}.json"))) is not None:
        for path, change in _comings_and_goings(text).items() if plain in text or not spelled_alike else ():
            if _is_named(wanted, path):
                changes.setdefault(path, {})[version] = change
        version -= 1
    here = {file.relative for file in snapshot.files() if _is_named(wanted, file.relative)}
    found = sorted({*changes, *here})
    if len(found) > 1:
        raise ConfigError(f"{display_name(snapshot.location)}: {name} may be {' or '.join(found[:5])}: give its path")
    path = found[0] if found else wanted
    return FileLife(path, max(version, 0), path in here, changes.get(path, {}))


def _comings_and_goings(commit: bytes) -> dict[str, tuple[bool | None, bool]]:
    """By path whether a commit's files were there before it, and after it."""
    gone = {unquote(action["path"]) for action in actions(commit, "remove")}
    come = {unquote(action["path"]): action.get("dataChange", True) for action in actions(commit, "add")}
    # One that is added again without being removed has only got other statistics; OPTIMIZE adds new ones like that.
    were = dict[str, tuple[bool | None, bool]].fromkeys(gone, (True, False))
    return were | {path: (True if path in gone else False if new else None, True) for path, new in come.items()}


def _below(root: Location, name: str) -> str:
    """A file's path below the table's root, where it was given with that."""
    for prefix in (root.uri, root.path, display_name(root)):
        if name.startswith(prefix.rstrip("/") + "/"):
            return name[len(prefix.rstrip("/")) + 1 :]
    return name


def _is_named(wanted: str, path: str) -> bool:
    return path == wanted or ("/" not in wanted and path.rsplit("/", 1)[-1] == wanted)


def version_before(location: Location, moment: datetime) -> int:
    """The newest version of a table that was there before a moment, by the times at which its commits were written.

    Those are the storage's own, as for Spark, or the commits' where the table keeps them there (in-commit timestamps).
    Raises ConfigError where no commit is that old: the table wasn't there yet, or its log doesn't reach back so far.
    """
    name, commits, last = display_name(location), dict[str, datetime](), datetime.min.replace(tzinfo=UTC)
    for file, (_, at) in sorted(entries_of(location.join(LOG)).items()):
        if re.fullmatch(r"\d{20}\.json", file):  # as for Spark, in whole ms, and each later than the one before it
            whole = at.astimezone(UTC) - timedelta(microseconds=at.microsecond % 1000)
            commits[file] = last = max(whole, last + timedelta(milliseconds=1))
    newest, ordered = None, list(commits)
    if not ordered:
        raise ConfigError(f"{name}: there is no Delta table, or nothing is left of its log's commits")
    low, high = 0, len(ordered)  # times of commits go up: half of them are left out at each look
    while low < high:
        middle = (low + high) // 2
        if _written_at(location, ordered[middle], commits) < moment:
            low, newest = middle + 1, int(ordered[middle].partition(".")[0])
        else:
            high = middle
    if newest is None:
        at = _written_at(location, ordered[0], commits)
        first = int(ordered[0].partition(".")[0])
        why = "its first version is" if first == 0 else f"its log begins with version {first}, which is"
        raise ConfigError(f"{name}: {why} of {at:%Y-%m-%d %H:%M:%S} UTC, and what it held before that isn't known")
    return newest


def _written_at(location: Location, name: str, commits: Mapping[str, datetime]) -> datetime:
    """When a commit was made: as it says itself where it does, else when its file was written."""
    text = content(location.join(LOG, name)) or b""
    said = next(
        (info["inCommitTimestamp"] for info in actions(text, "commitInfo") if "inCommitTimestamp" in info), None
    )
    return datetime.fromtimestamp(said / 1000, UTC) if said is not None else commits[name]
