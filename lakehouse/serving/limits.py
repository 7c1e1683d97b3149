"""What a server takes at once: bytes, rows, time, requests that wait, and requests a second of each client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Waited
from dataclasses import dataclass
from typing import TypeVar

from lakehouse.serving.messages import Refusal

_A = TypeVar("_A")
_CLIENTS = 4_096
"""Clients whose last requests are remembered."""


@dataclass(frozen=True)
class Limits:
    """`body`: bytes; `rows`: of one request; `seconds`: from when a request is read to its answer; `queue`: requests
    that wait in one worker; `rate`: requests a second of one client in one worker, None for any number."""

    body: int = 16 << 20
    rows: int = 10_000
    seconds: float = 30.0
    queue: int = 16
    rate: float | None = None


class Gate:
    """Lets one request after the other have the model: no model need stand being called twice at once."""

    def __init__(self, limits: Limits, stuck: Callable[[], None] = lambda: None) -> None:
        """`stuck` is called where a model has not answered in time: its thread can't be stopped."""
        self._limits, self._stuck = limits, stuck
        self._lock, self._inside = threading.Lock(), 0
        self._pool: ThreadPoolExecutor | None = None

    @property
    def full(self) -> bool:
        """Whether the next request would be sent away."""
        return self._inside > self._limits.queue

    @property
    def inside(self) -> int:
        """How many requests wait or are at work."""
        return self._inside

    def run(self, work: Callable[[], _A]) -> _A:
        """The work's result. Raises Refusal (503) where too many wait already, or it takes too long."""
        with self._lock:
            if self.full:
                raise Refusal(503, f"{self._inside} requests wait already: try again", Retry_After="1")
            self._inside += 1
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "scoring")
        future = self._pool.submit(work)
        future.add_done_callback(self._leave)  # without the lock: work that is done already leaves in this thread
        try:
            return future.result(self._limits.seconds)
        except Waited:
            if future.done():  # just now, or the work itself timed out
                return future.result()
            if not future.cancel():
                self._stuck()
            said = f"no answer in {self._limits.seconds:g} seconds: try again, with fewer rows"
            raise Refusal(503, said, Retry_After="5") from None

    def _leave(self, _: Future[_A]) -> None:
        with self._lock:
            self._inside -= 1


class Rates:
    """Counts each client's requests: a bucket that fills by `rate` a second, up to that of a second, or one request."""

    def __init__(self, rate: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._lock, self._left = threading.Lock(), dict[str, tuple[float, float]]()

    def require(self, client: str) -> None:
        """Raise Refusal (429) for a client that has asked too often."""
        if self._rate is None:
            return
        most, now = max(self._rate, 1.0), self._clock()
        with self._lock:
            left, since = self._left.pop(client, (most, now))
            left = min(most, left + (now - since) * self._rate)
            enough = left >= 1
            self._left[client] = (left - 1 if enough else left, now)
            while len(self._left) > _CLIENTS:
                self._left.pop(next(iter(self._left)))
        if not enough:
            wait = max(1, round((1 - left) / self._rate + 0.5))
            raise Refusal(429, f"more than {self._rate:g} requests a second: wait", Retry_After=str(wait))
