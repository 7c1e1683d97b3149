"""What commits did to a table's files, as the JSON files of its log say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from lakehouse.connectors.delta.snapshot import Snapshot
from lakehouse.storage import content

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
