"""How long a run waits for MLflow and for the stores behind it: some seconds in all, in whatever way they fail."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from lakehouse.errors import Unavailable

SECONDS = 15.0
LONGER = "MLFLOW_HTTP_REQUEST_TIMEOUT"
"""MLflow's own setting for one request, in seconds; where it is more than `SECONDS`, a run waits that long in all."""
_LOOK = 0.25
_Answer = TypeVar("_Answer")
_asking: list[threading.Thread] = []


def allowed() -> float:
    """The seconds that a run waits in all."""
    try:
        return max(SECONDS, float(os.environ.get(LONGER) or 0))
    except ValueError:  # MLflow says what is wrong with it
        return SECONDS


@dataclass
class Patience:
    """How many of a run's seconds are left; every look-up takes from them.

    Nothing is left once one of them took too long: nobody is asked again.
    """

    whole: float = field(default_factory=allowed)
    left: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.whole

    def renew(self) -> None:
        """Begin anew, unless it was used up: for what comes after the commits."""
        if self.left > 0:
            self.left = self.whole


def wait_for(ask: Callable[[], _Answer], patience: Patience, who: str, folder: Path | None = None) -> _Answer:
    """What `ask` returns or raises.

    It is left behind at its work, and Unavailable raised, when the patience is used up. With a `folder` that it writes
    to, time counts only from the last moment at which something was written there.
    """
    if patience.left <= 0:
        raise Unavailable(f"{who} is not asked again: within {patience.whole:g} s there was no answer before")
    answers, errors = list[_Answer](), list[BaseException]()

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            errors.append(error)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(run,), name=f"asks {who}", daemon=True)
    _asking[:] = [*(other for other in _asking if other.is_alive()), thread]
    thread.start()
    waited = _wait(thread, patience.left, folder)
    patience.left = max(0.0, patience.left - waited)
    if errors:
        raise errors[0]
    if answers:
        return answers[0]
    patience.left = 0.0
    raise Unavailable(
        f"{who}: no answer in time: {'nothing more came' if folder else 'nothing came'} in {waited:.0f} s; "
        f"if it is only slow, set {LONGER} to more"
    )


def _wait(thread: threading.Thread, most: float, folder: Path | None) -> float:
    """Wait until the thread ends, at most so many seconds since something was last written; how many those were."""
    begun = time.monotonic()
    if folder is None:
        thread.join(most)
    seen = None
    while folder is not None and thread.is_alive() and time.monotonic() - begun < most:
        if (now := _written(folder)) != seen:
            seen, begun = now, time.monotonic()
        thread.join(min(_LOOK, most))
    return time.monotonic() - begun


def _written(folder: Path) -> tuple[int, int]:
    """The newest change and the size of all files in a folder."""
    found = []
    for path in folder.rglob("*"):
        try:
            found.append(path.lstat())
        except FileNotFoundError:  # under its first name while it was fetched
            continue
    return max((f.st_mtime_ns for f in found), default=0), sum(f.st_size for f in found)


def still_waiting() -> bool:
    """Whether something that was left behind is at its work yet, and would keep this process from ending."""
    return any(thread.is_alive() for thread in _asking)
