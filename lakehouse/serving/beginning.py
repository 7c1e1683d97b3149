"""Whether workers could begin: what each says of it, in a file that the server's first process reads, and how long to
wait where one couldn't."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from lakehouse.errors import ConfigError, LakehouseError, ModelRefused, NotReady, Unavailable

_FOLDER = "workers"
_KINDS = {kind.__name__: kind for kind in (ConfigError, ModelRefused, NotReady, Unavailable)}


def as_text(error: LakehouseError) -> str:
    """An error for another process, which makes it again of this text."""
    kind = next((name for name, kind in _KINDS.items() if isinstance(error, kind)), "")
    return json.dumps({"kind": kind, "message": str(error)})


def from_text(text: str) -> LakehouseError:
    """The error that another process has had."""
    said = json.loads(text)
    return _KINDS.get(said["kind"], LakehouseError)(said["message"])


def say(root: Path, error: LakehouseError | None) -> None:
    """In a worker: say that it has begun, or why it can't."""
    place = root / _FOLDER
    place.mkdir(exist_ok=True)
    made = place / f"{os.getpid()}.made"
    made.write_text("" if error is None else as_text(error))
    made.replace(place / str(os.getpid()))


def has_begun(root: Path, worker: int) -> bool:
    """Whether this worker has said that it has begun."""
    return _said(root, worker) == ""


def why_not(root: Path, worker: int) -> LakehouseError | None:
    """Why a worker that has ended could not begin; None for one that had begun. What it said is forgotten."""
    said = _said(root, worker)
    (root / _FOLDER / str(worker)).unlink(missing_ok=True)
    if said is None:
        return ModelRefused(
            "a worker has ended while it loaded models, without a word: the log's lines above say how; "
            "perhaps there is too little memory"
        )
    return from_text(said) if said else None


def _said(root: Path, worker: int) -> str | None:
    try:
        return (root / _FOLDER / str(worker)).read_text()
    except FileNotFoundError:
        return None


class Patience:
    """Waits after failures: a second, then twice as long each time, at most `most` seconds."""

    def __init__(self, most: float) -> None:
        self._most, self._seconds, self._until = most, 0.0, 0.0

    @property
    def waits(self) -> bool:
        """Whether it is too early to try again."""
        return time.monotonic() < self._until

    def wait_longer(self) -> float:
        """After another failure: the seconds from now until the next try."""
        self._seconds = min(max(2 * self._seconds, 1.0), self._most)
        self._until = time.monotonic() + self._seconds
        return self._seconds

    def forget(self) -> None:
        """After a success."""
        self._seconds = self._until = 0.0
