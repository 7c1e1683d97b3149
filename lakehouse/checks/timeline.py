"""When each task of the pass was at work, where and on what; bounded, however many tasks there were. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MOST = 256
"""Tasks that are told of each by itself: the longest ones. The others are told of as one."""


def entry(task: int, began: float, ended: float, host: str, rows: int, work: Mapping[str, float]) -> dict[str, Any]:
    """What is told of a task. Its times are seconds since 1970 by the clock of its machine, `work` seconds by what
    they went to."""
    return {"task": task, "tasks": 1, "began": began, "ended": ended, "host": host, "rows": rows, "work": dict(work)}


def bounded(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The entries in the order they began, the shortest made one where there are too many; the same for those of some
    tasks, and of others, and then of all."""
    by_length = sorted(map(dict, entries), key=lambda e: (e["tasks"], e["began"] - e["ended"], e["task"]))
    kept, others = [e for e in by_length[:MOST] if e["tasks"] == 1], [e for e in by_length if e["tasks"] > 1]
    others += by_length[len(kept) : len(by_length) - len(others)]
    rest = [_joined(others)] if len(others) > 1 else others
    return sorted([*kept, *rest], key=lambda e: (e["began"], e["task"]))


def _joined(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Several entries as one, of no host: from the first one's beginning to the last one's end."""
    names = dict.fromkeys(name for entry in entries for name in entry["work"])
    return {
        "task": min(entry["task"] for entry in entries),
        "tasks": sum(entry["tasks"] for entry in entries),
        "began": min(entry["began"] for entry in entries),
        "ended": max(entry["ended"] for entry in entries),
        "host": "",
        "rows": sum(entry["rows"] for entry in entries),
        "work": {name: round(sum(entry["work"].get(name, 0.0) for entry in entries), 4) for name in names},
    }
