"""How the local engine's processes share the work: each takes the next unit, or the next block of rows of all units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakehouse.errors import Unavailable
from lakehouse.schemas import FAILED
from lakehouse.scoring.staging import BatchSource

DIED = "a worker process died (out of memory, or killed): nothing was published"
_TURN_SECONDS = 60.0
"""A turn takes microseconds; who waits for one so long waits for a process that died in it."""


@dataclass(frozen=True)
class Divided:
    """A unit that all processes read and share by blocks of about `rows` rows, since there are few units.

    Its batches have to be the same ones in each process.
    """

    unit: BatchSource
    rows: int

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its blocks, all of them."""
        for batch in self.unit.batches():
            each = -(-batch.num_rows // max(-(-batch.num_rows // self.rows), 1))
            yield from (batch.slice(at, each) for at in range(0, batch.num_rows, max(each, 1)))


@dataclass(frozen=True)
class Turns:
    """Whose turn it is. `number`: the next unit's or block's, a shared integer; shared flags, `over`: nobody takes any
    more, `lost`: the run has failed, who is at a unit leaves it, `joined`: another process was there to take one."""

    number: Any
    over: Any
    lost: Any
    joined: Any

    def of(self, work: Sequence[BatchSource]) -> Iterator[BatchSource]:
        """The units, or the parts of them, that no other process has taken, each taken when it is asked for."""
        if any(isinstance(unit, Divided) for unit in work):
            place = _Place()
            yield from (_OwnBlocks(unit, self, place) for unit in work)
            return
        while (turn := self.take()) is not None and turn < len(work):
            yield UntilTurnsEnd(work[turn], self.lost)

    def take(self) -> int | None:
        """The next number, which is nobody else's then; None where no more are taken."""
        if self.over.value:
            return None
        if not self.number.acquire(timeout=_TURN_SECONDS):
            raise Unavailable(DIED)
        try:
            turn = int(self.number.value)
            self.number.value += 1
        finally:
            self.number.release()
        return turn

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left, for a process that was slow to start."""
        return bool(self.over.value)

    def stop(self, task: Future[list[dict[str, Any]]]) -> None:
        """Let nobody take another turn, since a process has found none or has failed."""
        self.over.value = True
        self.lost.value |= task.cancelled() or bool(task.exception()) or has_failed(task.result())

    @contextmanager
    def led(self) -> Iterator[None]:
        """While this process works: that nobody takes a turn once it is done, and all stop where it raises."""
        try:
            yield
        except BaseException:
            self.lost.value = True
            raise
        finally:
            self.over.value = True


@dataclass(frozen=True)
class UntilTurnsEnd:
    """A unit that ends early once the run has failed: no more of it is needed."""

    unit: BatchSource
    lost: Any

    def batches(self) -> Iterator[pa.RecordBatch]:
        for batch in self.unit.batches():
            if self.lost.value:
                return
            yield batch


@dataclass
class _Place:
    """Where a process is in the blocks of all units: how many lie behind it, and which one it has taken."""

    passed: int = 0
    taken: int | None = None
    asked: bool = False


@dataclass(frozen=True)
class _OwnBlocks:
    """The blocks of a unit that this process takes. What it has taken it scores, even where nobody takes more."""

    unit: BatchSource
    turns: Turns
    place: _Place

    def batches(self) -> Iterator[pa.RecordBatch]:
        place = self.place
        if not place.asked:
            place.taken, place.asked = self.turns.take(), True
        if place.taken is None:
            return
        for block in self.unit.batches():
            if self.turns.lost.value:
                return
            own, place.passed = place.taken == place.passed, place.passed + 1
            if not own:
                continue
            yield block
            place.taken = self.turns.take()
            if place.taken is None:
                return


def has_failed(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a worker's manifest tells of a failure for good."""
    return any(row["kind"] == FAILED for row in rows)
