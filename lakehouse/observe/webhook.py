"""What any web service gets that a job notifies: a message as plain JSON, whose format has a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lakehouse.observe.notify import Message

FORMAT = 1
"""Goes up when a reader that doesn't know what is new would read a message wrongly; other keys may be added."""


def payload(message: Message) -> Mapping[str, Any]:
    """The message; README.md lists its keys. `id` is the same where a message comes twice."""
    said = asdict(message)
    return {
        "format": FORMAT,
        "id": f"{message.run_id}/{message.outcome}",
        **{name: value for name, value in said.items() if name not in ("at", "code")},
        "at": message.at.isoformat(timespec="milliseconds"),
        "exit_code": message.code,
    }
