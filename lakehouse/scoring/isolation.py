"""Finds the rows of a batch that can't be done: few calls where few are at fault, about one a row where many are.

It knows nothing of models: whoever asks says how a range of rows is done, and what is returned where it can't be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

CHUNK = 32
"""Rows that are asked for together once halving has cost too much."""
_HALVING = 8
"""Halving may take a call for so many rows: enough for one row in a hundred at fault."""

Ask = Callable[[int, int], Any]
Answer = tuple[int, int, Any]
"""(start, stop, what was answered): an exception for a single row only; `NOT_TRIED` for rows nobody asked for."""

NOT_TRIED = object()


class _Hopeless(Exception):
    """More rows are at fault than there is room for."""


def isolate(rows: int, error: Exception, ask: Ask, room: int | None = None) -> list[Answer]:
    """What is answered for each part of `rows` rows which, asked for together, gave `error`; in order, without gaps.

    `ask(start, stop)` returns an exception where these rows can't be done together. It is called at most about 1.2
    times a row, and 2·k·log2(rows) times where only k rows are at fault. Once more than `room` rows are known to be at
    fault it is not called again; the rows that were not asked for one by one by then are `NOT_TRIED`.
    """
    search = _Search(ask, room)
    try:
        search.split(0, rows, error)
        search.finish()
    except _Hopeless:
        pass
    return list(_without_gaps(sorted(search.found, key=lambda answer: answer[0]), rows))


class _Search:
    """What is known so far. `raising`: chunks of several rows that can't be done together."""

    def __init__(self, ask: Ask, room: int | None) -> None:
        self.ask, self.room = ask, room
        self.found: list[Answer] = []
        self.raising: list[tuple[int, int]] = []
        self.at_fault = 0
        self.open: list[tuple[int, int]] = []

    def split(self, start: int, stop: int, error: Exception) -> None:
        """Halve what can't be done until single rows are left, for a while; what is left then stays open."""
        self._note(start, stop, error)
        calls = (stop - start) // _HALVING + 2 * CHUNK
        while self.open and calls > 0:
            start, stop = self.open.pop()
            self._note(start, stop, self.ask(start, stop))
            calls -= 1

    def finish(self) -> None:
        """Do what is open in chunks, then the chunks that can't be done row by row: at most about a call a row."""
        chunks = [
            (at, min(at + CHUNK, stop)) for start, stop in reversed(self.open) for at in range(start, stop, CHUNK)
        ]
        for start, stop in chunks:
            answer = self.ask(start, stop)
            if isinstance(answer, Exception) and stop - start > 1:
                self.raising.append((start, stop))
                self._require_room()
            else:
                self._note(start, stop, answer)
        while self.raising:
            start, stop = self.raising.pop()
            for row in range(start, stop):
                self._note(row, row + 1, self.ask(row, row + 1))

    def _note(self, start: int, stop: int, answer: Any) -> None:
        if not isinstance(answer, Exception):
            self.found.append((start, stop, answer))
        elif stop - start > 1:
            middle = (start + stop) // 2
            self.open += [(middle, stop), (start, middle)]
        else:
            self.found.append((start, stop, answer))
            self.at_fault += 1
            self._require_room()

    def _require_room(self) -> None:
        # Each chunk that can't be done has a row at fault in it.
        if self.room is not None and self.at_fault + len(self.raising) > self.room:
            raise _Hopeless


def _without_gaps(found: list[Answer], rows: int) -> Iterator[Answer]:
    at = 0
    for start, stop, answer in found:
        if at < start:
            yield at, start, NOT_TRIED
        yield start, stop, answer
        at = stop
    if at < rows:
        yield at, rows, NOT_TRIED
