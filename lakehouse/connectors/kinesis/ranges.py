"""Which records of a stream a run takes: of each shard from where the table remembers to have come, to its last one.

A position is the sequence number of the last record that was scored, plus one; a shard that has been read to its end
has FINISHED. Shards are split and merged: what comes out of it is read once that is so of all it was made from, in the
same run at the earliest. The last record of a shard is looked for, since nobody tells its number; so a range is the
same whenever it is read again. Numbers have gaps, and none can be asked for that no record has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from lakehouse.connectors import kinesis
from lakehouse.connectors.kinesis import Look, Page, Shard, Stream, number
from lakehouse.connectors.kinesis.seen import Seen
from lakehouse.connectors.messages import Piece, Range, lose, remembered

FINISHED = 1 << 186
"""The position of a shard that has been read to its end: sequence numbers have 186 bits at most."""
_FIRST_LOOK_MS = 10_000
_FURTHER = 6
"""The last record of a shard is looked for among those of the last 10 s, then of 6 times as long, and so on."""


@dataclass(frozen=True)
class Asked:
    """What is read of a stream, as it was at `at_ms` (ms since 1970).

    `began_ms`: since when, where no position is known; `most`: how many records of a shard. `seen`: what earlier runs
    have noted of shards.
    """

    client: Any
    stream: Stream
    look: Look
    at_ms: int
    began_ms: int | None = None
    most: int | None = None
    seen: Mapping[str, Seen] = field(default_factory=dict)

    def loses_nothing(self, shard: str, position: int | None) -> bool:
        """Whether earlier runs have seen that nothing can be gone of what came to the shard after this position."""
        known = self.seen.get(shard)
        return known is not None and known.rules_out_loss(position, self.at_ms, self.look.retention_ms)


@dataclass(frozen=True)
class Found:
    """What a shard has more than was scored; `ends`: whether it ends with that, `lost`: whether some may be gone.

    `whole`: whether nothing came after it yet.
    """

    piece: Piece | None
    ends: bool
    lost: bool
    whole: bool = True


@dataclass
class _Course:
    """The shards one after the other: what of each is taken, which are read to their end, what is to be noted."""

    asked: Asked
    known: Mapping[str, int]
    finished: set[str]
    accept_loss: bool
    notes: list[str] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    until: dict[str, int] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)

    def note(self, shard: str, position: int, *, ended: bool) -> None:
        self.seen[shard] = Seen(position, self.asked.at_ms, self.asked.look.retention_ms, ended)

    def end(self, shard: str) -> None:
        """It is read to its end, or is gone."""
        self.finished.add(shard)
        self.until[shard] = FINISHED


def next_range(
    asked: Asked, positions: Mapping[str, int], *, accept_loss: bool
) -> tuple[Range, tuple[Piece, ...], Mapping[str, Seen]]:
    """What a run takes of a stream, and what is to be noted of its shards when that is published, or there is none.

    Raises Blocked where messages may be gone that were not scored, unless accepted.
    """
    name, notes = asked.stream.name, list[str]()
    since = remembered(name, asked.look.id, positions, notes, accept_loss)
    known = {part.rpartition("/")[2]: at for part, at in since.items()}
    finished = {shard for shard, at in known.items() if at == FINISHED}
    course = _Course(asked, known, finished, accept_loss, notes)
    for gone in sorted(known.keys() - asked.look.shards.keys() - finished):
        _take_leave(course, gone)
    for _, shard in sorted(asked.look.shards.items()):  # what comes out of others has a higher number
        if shard.id not in finished and not {p for p in shard.parents if p in asked.look.shards} - finished:
            _go_on(course, shard)
    if since and (new := [str(piece.partition) for piece in course.pieces if piece.partition not in known]):
        notes.append(f"{name}: shards without a position so far: {', '.join(new)}; they are read as well")
    stream = f"{name}/{asked.look.id}"
    taken = {f"{stream}/{part}": at for part, at in course.until.items()} if course.pieces else {}
    wanted = {shard for shard, at in known.items() if at != FINISHED}
    seen = {shard: one for shard, one in asked.seen.items() if shard in wanted} | course.seen
    return Range(stream, since, taken, tuple(notes)), tuple(course.pieces), seen


def _take_leave(course: _Course, gone: str) -> None:
    """Deal with a shard that isn't there any more, and that no commit says to have been scored to its end."""
    at, seen = course.known[gone], course.asked.seen.get(gone)
    if seen is None or not seen.ended or seen.position != at:
        lose(
            f"{course.asked.stream.name}: {gone} is not there any more, and was not known to have been scored to its "
            "end: messages of it may be gone",
            course.notes, course.accept_loss,
        )  # fmt: skip
    course.note(gone, at, ended=True)
    course.end(gone)


def _go_on(course: _Course, shard: Shard) -> None:
    """Deal with a shard that isn't known to be read to its end, and what it was made from is."""
    position, seen = course.known.get(shard.id), course.asked.seen.get(shard.id)
    if seen is not None and seen.ended and seen.position == position:
        course.end(shard.id)
        return
    found = _find(course.asked, shard, position)
    if found.lost and (found.piece or found.ends):
        lose(
            f"{course.asked.stream.name}: the last message of {shard.id} that was scored is not kept any more, such as "
            "by retention: others may have been deleted before they were scored",
            course.notes, course.accept_loss,
        )  # fmt: skip
    if found.piece:
        course.pieces.append(found.piece)
        course.until[shard.id] = position = found.piece.stop
    if position is not None and found.whole and (found.piece or found.ends or not found.lost):
        course.note(shard.id, position, ended=found.ends)
    if found.ends:
        course.end(shard.id)


def _find(asked: Asked, shard: Shard, position: int | None) -> Found:
    pages, lost = _new(asked, shard, position)
    first: Any = None
    last: Any = None
    count = 0
    for page in pages:
        records = page.records if asked.most is None else page.records[: asked.most - count]
        if records:
            first, last = first or records[0], records[-1]
            count += len(records)
        if asked.most is not None and count >= asked.most:
            whole = page.caught_up and len(records) == len(page.records)
            return _found(shard, first, last, count, page.ended and whole, lost, whole=whole)
        if page.caught_up:
            return _found(shard, first, last, count, page.ended, lost)
        if first and asked.most is None:
            if shard.last is not None:
                piece = Piece(shard.id, number(first), shard.last + 1, dense=False)
                return Found(piece, ends=True, lost=lost)
            newest, ends = _newest(asked, shard, page, pages)
            last = max(newest or last, last, key=number)  # times may go back
            return _found(shard, first, last, None, ends, lost)
    return _found(shard, first, last, count, True, lost)


def _found(
    shard: Shard, first: Any, last: Any, count: int | None, ends: bool, lost: bool, *, whole: bool = True
) -> Found:
    if first is None:
        return Found(None, ends, lost, whole)
    piece = Piece(shard.id, number(first), number(last) + 1, dense=False, count=count)
    return Found(piece, ends, lost, whole)


def _new(asked: Asked, shard: Shard, position: int | None) -> tuple[Iterator[Page], bool]:
    """The shard's records that were not scored yet, and whether others before these may be gone.

    That is so where the last one that was scored is gone, unless earlier runs have seen enough: from its number on a
    shard may then give nothing at all.
    """
    if position is None:
        where = kinesis.oldest() if asked.began_ms is None else kinesis.since(asked.began_ms)
        return kinesis.pages(asked.client, asked.stream, shard.id, **where), False
    scored = position - 1
    pages = kinesis.pages(asked.client, asked.stream, shard.id, **kinesis.at(scored))
    for page in pages:
        if page.records and number(page.records[0]) == scored:
            return chain([Page(page.records[1:], page.behind_ms, page.ended)], pages), False
        if page.records or page.caught_up or page.behind_ms >= asked.look.retention_ms - 60_000:
            break
    lost = not asked.loses_nothing(shard.id, position)
    return kinesis.pages(asked.client, asked.stream, shard.id, **kinesis.oldest()), lost


def _newest(asked: Asked, shard: Shard, page: Page, rest: Iterator[Page]) -> tuple[Any, bool]:
    """The last record of a shard that has many, and whether the shard ends with it; `page`: the first ones.

    It is looked for by time, by the clock that the records have.
    """
    reached = kinesis.ms_of(page.records[-1])
    tip, back = reached + page.behind_ms, _FIRST_LOOK_MS
    while tip - back > reached:
        found, ends = _last(kinesis.pages(asked.client, asked.stream, shard.id, **kinesis.since(tip - back)))
        if found is not None:
            return found, ends
        back *= _FURTHER
    return _last(rest)


def _last(pages: Iterator[Page]) -> tuple[Any, bool]:
    """The last record up to where nothing comes any more, and whether the shard ends there."""
    last = None
    for page in pages:
        last = page.records[-1] if page.records else last
        if page.caught_up:
            return last, page.ended
    return last, True
