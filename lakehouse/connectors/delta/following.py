"""What became of the files of one commit since: which were replaced, and by whose commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from lakehouse.connectors.delta.commits import COMMITS, lies_in
from lakehouse.connectors.delta.log import LOG, actions
from lakehouse.connectors.delta.snapshot import Snapshot
from lakehouse.storage import content


@dataclass(frozen=True)
class Replaced:
    """A commit by which files went whose rows it didn't keep, and how many of those that are followed."""

    version: int
    at: datetime | None
    operation: str
    said: str
    files: int


@dataclass(frozen=True)
class _Step:
    version: int
    info: Mapping[str, Any]
    adds: frozenset[str]
    removes: Mapping[str, bool]  # by path whether the commit changes data

    @property
    def said(self) -> str:
        return str(self.info.get("userMetadata") or "")


def replaced_since(
    snapshot: Snapshot, partition: Mapping[str, str], is_first: Callable[[str], bool]
) -> list[Replaced] | None:
    """The commits since the first one that took away or replaced files of its rows in a partition, oldest first.

    `is_first` tells that commit by its `userMetadata`. Files into which OPTIMIZE and its kin put the same rows are
    followed too, and so are those that took the place of replaced ones. None where the log doesn't have that commit any
    more, or it is more than `COMMITS` back.
    """
    place, steps = {snapshot.physical(column): text for column, text in partition.items()}, list[_Step]()
    for version in range(snapshot.version, max(snapshot.version - COMMITS, -1), -1):
        text = content(snapshot.location.join(LOG, f"{version:020d}.json"), no_folder=True)
        if text is None:
            return None
        steps.append(_step(version, text, place))
        if is_first(steps[-1].said):
            break
    else:
        return None
    first, *since = reversed(steps)
    followed, found = set(first.adds), list[Replaced]()
    for step in since:
        mine = followed & set(step.removes)
        if mine:
            followed = (followed - mine) | step.adds
        if lost := sum(step.removes[path] for path in mine):
            at = step.info.get("inCommitTimestamp", step.info.get("timestamp"))
            moment = None if at is None else datetime.fromtimestamp(at / 1000, UTC)
            found.append(Replaced(step.version, moment, str(step.info.get("operation")), step.said, lost))
    return found


def _step(version: int, text: bytes, place: Mapping[str, str]) -> _Step:
    def here(kind: str) -> dict[str, bool]:
        found = [action for action in actions(text, kind) if lies_in(place, action)]
        return {unquote(action["path"]): bool(action.get("dataChange", True)) for action in found}

    info = next(actions(text, "commitInfo"), {})
    return _Step(version, info, frozenset(here("add")), here("remove"))
