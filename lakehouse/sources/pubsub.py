"""Reading from Pub/Sub: each run takes what a subscription hands out, but for what was published already.

There are no offsets to go on from. What is pulled is put down where executors read it (`connectors.pubsub.spool`), as a
batch with a number that only grows, which is the position in the commit of its scores. The ids of published batches
tell what comes again (`connectors.pubsub.published`). All else is `connectors.topics`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from lakehouse.connectors import messages, pubsub, topics
from lakehouse.connectors.messages import Piece, Range
from lakehouse.connectors.pubsub import batches, spool
from lakehouse.connectors.pubsub.batches import Batch
from lakehouse.connectors.topics import *  # noqa: F403  # what all sources of messages do alike
from lakehouse.errors import Unavailable
from lakehouse.schemas import PARTITION
from lakehouse.sources import Left
from lakehouse.storage import require_writable

if TYPE_CHECKING:
    from lakehouse.config.systems.pubsub import PubsubSource
    from lakehouse.storage import Location

_ALL = messages.places(pa.int32(), pa.string())
PLACES = _ALL.remove(_ALL.get_field_index(PARTITION))
"""A message's place is its id, which no other message of its topic has."""
_MOST = 100_000
_FEW = 1_000
"""Messages that a run takes which publishes nothing."""


@dataclass
class Taking:
    """What a run takes: pulled when its input is first pinned, given back at the end unless it is settled.

    `few`: it publishes nothing, so that some messages are enough.
    """

    job: str
    state: Location
    few: bool
    batch: Batch | None = None

    def declared(self) -> None:
        """From now on it may be published, be it by another process."""
        if self.batch is not None:
            self.batch.declared = True

    def settle(self) -> None:
        """It is published, or was: remember and acknowledge it."""
        if self.batch is not None:
            self.batch.settle()

    def pull(self, source: PubsubSource) -> Batch:
        """What there is, pulled once."""
        if self.batch is None:
            require_writable(self.state, "state")
            most = source.max_messages or _MOST
            asked = batches.Asked(
                self.job, self.state, pubsub.Place(source.project, source.endpoint), source.subscription,
                min(most, _FEW) if self.few else most, source.quiet_seconds, source.on_loss == "continue",
            )  # fmt: skip
            self.batch = batches.begin(asked, source.positions)  # what it holds is given back, whatever happens now
            batches.fill(self.batch, asked)
        return self.batch


@contextmanager
def taken(job: str, state: Location, *, few: bool) -> Iterator[Taking]:
    """What a run of the job takes, until its end."""
    taking = Taking(job, state, few)
    try:
        yield taking
    finally:
        if taking.batch is not None:
            taking.batch.end()


def left(source: PubsubSource, job: str, state: Location) -> list[Left]:
    """The batches that are put down, but for the last one that was published: the next run keeps its ids."""
    return [
        Left(one.folder, one.number < at, one.number / 1e9)
        for name, at in source.positions.items()
        for one in spool.batches(messages.home_of(state, job, name.rpartition("/")[0]).join("batches"))
        if one.number != at
    ]


def pin(source: PubsubSource, names: Sequence[str] = ()) -> topics.PinnedMessages:
    """What the run takes, pulled and put down; nothing where nobody runs the job.

    Raises ConfigError where there is no such subscription, it can't be pulled or may not be, Blocked where messages may
    be lost or scored twice, Unavailable where nobody answers.
    """
    how = topics.format_of(source)
    at_ms, schema = time.time_ns() // 1_000_000, topics.schema_of(source.schema_, PLACES)
    if source.taking is None:
        place = pubsub.Place(source.project, source.endpoint)
        with pubsub.client_of("SubscriberClient", place) as client:
            found = pubsub.look(client, place, source.subscription)
        nothing, nobody = Range(found.stream, _since(source.positions, found.stream), {}), cast(Any, None)
        return topics.PinnedMessages(source.name, schema, nothing, (), at_ms, nobody, how)
    batch = source.taking.pull(source)
    stream, position = batch.subscription.stream, batch.subscription.position
    since = _since(source.positions, stream)
    if since.get(position, 0) != batch.since:
        raise Unavailable(f"{source.name}: another run published messages of it meanwhile; run again")
    pieces = tuple(Piece(lot, 0, rows) for lot, rows in enumerate(batch.lots))
    span = Range(stream, since, {position: batch.number} if pieces else {}, tuple(batch.notes))
    reader = spool.SpoolReader(source.name, batch.spooled.folder)
    return topics.PinnedMessages(source.name, schema, span, pieces, at_ms, reader, how)


def _since(positions: Mapping[str, int], stream: str) -> dict[str, int]:
    return {name: at for name, at in positions.items() if name.startswith(f"{stream}/")}
