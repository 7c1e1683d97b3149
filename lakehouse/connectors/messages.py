"""Messages as input, whatever system keeps them: bounded ranges of a topic's partitions, read as units.

A run takes what came since the last published one. How far that was, the scored table's own log remembers, by names
that are given here: `<topic>/<its id>/<partition>`. A system's own part is its client, which says what there is and
reads a range (`Reader`), and `pin` of its source; all else that a source does is in `topics`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pyarrow as pa

from lakehouse.errors import Blocked
from lakehouse.schemas import (
    KEY_OF,
    MESSAGE,
    OFFSET,
    PARTITION,
    TIMESTAMP,
    TIMESTAMP_OF,
    TOPIC,
    UNREADABLE,
)

if TYPE_CHECKING:
    from lakehouse.storage import Location

LOT_BYTES = 32 << 20
"""Bytes of the messages that become rows at once, at most."""


def places(partition: pa.DataType, offset: pa.DataType) -> pa.Schema:
    """The columns that messages have besides their own, where partitions and offsets are of these types."""
    return pa.schema(
        [
            (TOPIC, pa.string()),
            (PARTITION, partition),
            (OFFSET, offset),
            (TIMESTAMP_OF, TIMESTAMP),
            (MESSAGE, pa.binary()),
            (UNREADABLE, pa.string()),
            (KEY_OF, pa.binary()),
        ]
    )


PLACES = places(pa.int32(), pa.int64())
"""These columns where both are numbers."""


def home_of(state: Location, job: str, stream: str) -> Location:
    """The folder, within that of its state, of all that a job keeps of a stream's messages."""
    return state.join("messages", hashlib.sha256(f"{job}\n{stream}".encode()).hexdigest()[:24])


@dataclass(frozen=True)
class Range:
    """What of a stream a run takes: by the name of each partition where it begins, if one was read, and where it ends.

    `stream` is what these names begin with. `since` has all that the table remembers, `until` only what there is more
    of; `notes`: what a person should know of it.
    """

    stream: str
    since: Mapping[str, int]
    until: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The same for all runs that begin where this one does."""
        said = json.dumps([self.stream, sorted(self.since.items())])
        return hashlib.sha256(said.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Messages:
    """Messages of a partition, in their order. `times`: ms since 1970, None where a message has none.

    `offsets` are as the column OFFSET has them. `problems`: by its number among these why a message can't be read,
    where its system tells that by itself.
    """

    values: list[bytes | None]
    keys: list[bytes | None]
    offsets: list[int] | list[str]
    times: list[int | None]
    problems: dict[int, str] = field(default_factory=dict)


class Event(NamedTuple):
    """What is told of a run or a row; `id`: the same each time it is sent."""

    id: str
    key: bytes
    value: bytes


class Reader(Protocol):
    """A system's client, picklable, and without secrets: it looks these up where it reads."""

    @property
    def topic(self) -> str:
        """What the column TOPIC holds."""

    def read(self, partition: Any, start: int, stop: int, most: int) -> Iterator[Messages]:
        """The messages from `start` up to before `stop`, in lots that are cut alike each time they are read.

        A lot has `most` messages, or fewer that have LOT_BYTES; the last one what is left. Raises Blocked where a
        message is gone, Unavailable where they can't be read now.
        """


@dataclass(frozen=True)
class Piece:
    """A partition's messages from `start` up to before `stop`.

    `dense`: each number in between may be a message's; else `count` has how many there are, None where nobody knows.
    """

    partition: int | str
    start: int
    stop: int
    dense: bool = True
    count: int | None = None

    @property
    def rows(self) -> int | None:
        """Its messages at most, None where that isn't known."""
        return self.stop - self.start if self.dense else self.count


def next_range(
    topic: str,
    origin: str,
    positions: Mapping[str, int],
    there: Mapping[int, tuple[int, int]],
    start: Callable[[], Mapping[int, int]],
    *,
    accept_loss: bool = False,
    most: int | None = None,
) -> tuple[Range, tuple[Piece, ...]]:
    """What a run takes of a topic: from where the table remembers to have come, up to what is there.

    `origin`: the topic's id, another one where it was made anew; `there`: by partition the first offset that is kept
    and the one after the last; `start`: where partitions begin of which the table remembers nothing.
    Raises Blocked where messages are gone that were never scored, unless that is accepted.
    """
    stream, notes = f"{topic}/{origin}", list[str]()
    since = remembered(topic, origin, positions, notes, accept_loss)
    known = {int(name.rpartition("/")[2]): at for name, at in since.items()}
    if gone := sorted(known.keys() - there.keys()):
        raise Blocked(f"{topic}: partition {gone[0]} is not there any more, of which messages were scored")
    new = sorted(there.keys() - known.keys())
    begin = start() if new else {}
    pieces, emptied = [], {}
    for partition, (first, end) in sorted(there.items()):
        at = known.get(partition)
        if at is None:
            at = _beginning(first, end, begin.get(partition), bool(known))
        if at > end:
            raise Blocked(
                f"{topic}: partition {partition} ends at offset {end}, before {at}, up to which it was scored: it has "
                "lost messages, and others may have their offsets now; give the job another name to score it afresh"
            )
        if at < first:
            lose(
                f"{topic}: {first - at:,} messages of partition {partition} (offsets {at} to {first - 1}) were deleted "
                "before they were scored, such as by retention",
                notes, accept_loss,
            )  # fmt: skip
        if max(at, first) < end:
            pieces.append(Piece(partition, max(at, first), end))
        elif at < first or partition not in known:
            emptied[f"{stream}/{partition}"] = max(at, first)
    taken = _at_most(pieces, most)
    # An empty partition's place rides along with messages: one without any is new since the last run, and what is lost
    # of one is told until a run that accepts it is published.
    until = {f"{stream}/{piece.partition}": piece.stop for piece in taken} | (emptied if taken else {})
    if since and new and taken:
        notes.append(
            f"{topic}: partitions without a position so far: {', '.join(map(str, new))}; they are read as well"
        )
    return Range(stream, since, until, tuple(notes)), taken


def _beginning(first: int, end: int, start: int | None, added: bool) -> int:
    """Where a partition begins of which nothing is remembered. `start`: what `next_range` was given, None for all.

    One that was `added` to a topic that is known has been whole since the last run: what was deleted of it is lost,
    unless it still keeps some that lie before `start`, so that those before them do too.
    """
    at = first if start is None else min(start, end)  # messages may have come since the end was looked up
    return 0 if added and at <= first else max(at, first)


def remembered(
    topic: str, origin: str, positions: Mapping[str, int], notes: list[str], accept_loss: bool
) -> dict[str, int]:
    """Of all positions those of the topic with this id. Raises Blocked where they are of an older one's, as `lose`."""
    since = {name: at for name, at in positions.items() if name.startswith(f"{topic}/{origin}/")}
    names = [name.removeprefix(f"{topic}/") for name in positions if name.startswith(f"{topic}/")]
    others = {name.rpartition("/")[0] for name in names} - {origin}  # an id may have a slash
    if others and not since:
        lose(
            f"{topic}: the topic was made anew since messages of it were last scored (its id was {sorted(others)[0]}, "
            f"now it is {origin}): what the old one held that was not scored is gone",
            notes, accept_loss,
        )  # fmt: skip
    return since


def lose(what: str, notes: list[str], accepted: bool) -> None:
    """Note that messages are gone which were never scored. Raises Blocked unless that is accepted."""
    if not accepted:
        raise Blocked(f"{what}. To go on with what is there, set source.on_loss: continue")
    notes.append(what)


def _at_most(pieces: Sequence[Piece], most: int | None) -> tuple[Piece, ...]:
    """The pieces, each cut by the same share where they have more messages than that."""
    total = sum(piece.stop - piece.start for piece in pieces)
    if most is None or total <= most:
        return tuple(pieces)
    return tuple(replace(piece, stop=piece.start + -(-(piece.stop - piece.start) * most // total)) for piece in pieces)
