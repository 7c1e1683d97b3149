"""Which records of a stream a run takes: of each shard from where the table remembers to have come, to its last one.

A position is the sequence number of the last record that was scored, plus one; a shard that has been read to its end
has FINISHED. Shards are split and merged: what comes out of it is read once that is so of all it was made from, in the
same run at the earliest. The last record of a shard is looked for, since nobody tells its number; so a range is the
same whenever it is read again. Numbers have gaps, and none can be asked for that no record has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from lakehouse.connectors import kinesis
from lakehouse.connectors.kinesis import Look, Page, Shard, Stream, number
from lakehouse.connectors.messages import Piece, Range, lose, remembered

FINISHED = 1 << 186
"""The position of a shard that has been read to its end: sequence numbers have 186 bits at most."""
_FIRST_LOOK_MS = 10_000
_FURTHER = 6
"""The last record of a shard is looked for among those of the last 10 s, then of 6 times as long, and so on."""


@dataclass(frozen=True)
class Asked:
    """What is read of a stream: since when, where no position is known (ms since 1970), and how many of a shard."""

    client: Any
    stream: Stream
    look: Look
    began_ms: int | None = None
    most: int | None = None


@dataclass(frozen=True)
class Found:
    """What a shard has more than was scored; `ends`: whether it ends with that, `lost`: whether some may be gone."""

    piece: Piece | None
    ends: bool
    lost: bool


def next_range(asked: Asked, positions: Mapping[str, int], *, accept_loss: bool) -> tuple[Range, tuple[Piece, ...]]:
    """What a run takes of a stream. Raises Blocked where messages may be gone that were not scored, unless accepted."""
    name, shards, notes = asked.stream.name, asked.look.shards, list[str]()
    since = remembered(name, asked.look.id, positions, notes, accept_loss)
    known = {part.rpartition("/")[2]: at for part, at in since.items()}
    finished, pieces = {shard for shard, at in known.items() if at == FINISHED}, list[Piece]()
    until, new = dict[str, int](), list[str]()
    for gone in sorted(known.keys() - shards.keys() - finished):
        lose(
            f"{name}: {gone} is not there any more, and was not known to have been scored to its end: messages of it "
            "may be gone",
            notes, accept_loss,
        )  # fmt: skip
        until[gone] = FINISHED
    for _, shard in sorted(shards.items()):  # what comes out of others has a higher number
        if shard.id in finished or {p for p in shard.parents if p in shards} - finished:
            continue
        found = _find(asked, shard, known.get(shard.id))
        if found.lost and (found.piece or found.ends):
            lose(
                f"{name}: the last message of {shard.id} that was scored is not kept any more, such as by retention: "
                "others may have been deleted before they were scored",
                notes, accept_loss,
            )  # fmt: skip
        if found.piece:
            pieces.append(found.piece)
            until[shard.id] = found.piece.stop
            new += [] if shard.id in known else [shard.id]
        if found.ends:
            finished.add(shard.id)
            until[shard.id] = FINISHED
    if since and new:
        notes.append(f"{name}: shards without a position so far: {', '.join(new)}; they are read as well")
    stream = f"{name}/{asked.look.id}"
    taken = {f"{stream}/{part}": at for part, at in until.items()} if pieces else {}
    return Range(stream, since, taken, tuple(notes)), tuple(pieces)


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
            ends = page.ended and len(records) == len(page.records)
            return _found(shard, first, last, count, ends, lost)
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


def _found(shard: Shard, first: Any, last: Any, count: int | None, ends: bool, lost: bool) -> Found:
    if first is None:
        return Found(None, ends, lost)
    piece = Piece(shard.id, number(first), number(last) + 1, dense=False, count=count)
    return Found(piece, ends, lost)


def _new(asked: Asked, shard: Shard, position: int | None) -> tuple[Iterator[Page], bool]:
    """The shard's records that were not scored yet, and whether others before these may be gone.

    That is so where the last one that was scored is gone: from its number on a shard may then give nothing at all.
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
    return kinesis.pages(asked.client, asked.stream, shard.id, **kinesis.oldest()), True


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
