"""Reading from Kinesis: each run takes what the shards of a stream have more than the scored table remembers.

All but the look at the stream is `connectors.messages` and `connectors.topics`, which any system of messages shares.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.connectors import kinesis, messages, topics
from lakehouse.connectors.kinesis import ranges, reading
from lakehouse.connectors.kinesis.seen import Notes
from lakehouse.connectors.topics import *  # noqa: F403  # what all sources of messages do alike
from lakehouse.errors import Blocked, LakehouseError
from lakehouse.sources import Left

if TYPE_CHECKING:
    from lakehouse.config.systems.kinesis import KinesisSource
    from lakehouse.storage import Location

PLACES = messages.places(pa.string(), pa.string())
"""A shard and a sequence number are texts, as AWS has them: the numbers have more than 64 bits."""


@dataclass(frozen=True)
class Taking:
    """What a run takes, which nobody hands out: at its end it notes what it has seen of the shards."""

    notes: Notes

    def declared(self) -> None:
        """Nothing is to be done."""

    def settle(self) -> None:
        """It is published, or there was nothing: keep what was seen."""
        with suppress(LakehouseError, OSError):  # a later run sees it as well
            self.notes.write()


@contextmanager
def taken(job: str, state: Location, *, few: bool) -> Iterator[Taking]:
    """What a run of the job takes, until its end."""
    yield Taking(Notes(job, state))


def left(source: KinesisSource, job: str, state: Location) -> Sequence[Left]:
    """None: nothing is put down."""
    return ()


def pin(source: KinesisSource, names: Sequence[str] = ()) -> topics.PinnedMessages:
    """What the stream has more than was scored, up to the last record of each shard, which is looked for.

    Raises ConfigError where there is no such stream or it may not be read, Blocked where messages may be gone that
    were never scored, Unavailable where nobody answers.
    """
    stream = kinesis.Stream(source.stream, source.region, source.endpoint)
    how = topics.format_of(source)
    client = kinesis.connect(stream)
    found, at_ms, began = kinesis.look(client, stream), time.time_ns() // 1_000_000, source.start_time
    most = source.max_messages and -(-source.max_messages // max(len(found.shards), 1))
    began_ms, taking = int(began.timestamp() * 1000) if began else None, source.taking
    seen = {} if taking is None else taking.notes.of(f"{stream.name}/{found.id}")
    asked = ranges.Asked(client, stream, found, at_ms, began_ms, most, seen)
    doubts = [] if taking is None else taking.notes.doubts
    try:
        span, pieces, new = ranges.next_range(asked, source.positions, accept_loss=source.on_loss == "continue")
    except Blocked as error:
        raise Blocked("; ".join([*doubts, str(error)])) from error
    if taking is not None:
        taking.notes.new = new
    span = replace(span, notes=(*doubts, *span.notes))
    schema = topics.schema_of(source.schema_, PLACES)
    return topics.PinnedMessages(
        source.stream, schema, span, pieces, at_ms, reading.StreamReader(stream, found.id), how
    )
