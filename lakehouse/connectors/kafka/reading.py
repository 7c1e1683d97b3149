"""Ranges of a topic's partitions, read as a run has pinned them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakehouse.connectors import kafka as client
from lakehouse.connectors.kafka import Cluster, ask, describe, explained, library
from lakehouse.connectors.messages import LOT_BYTES, Messages
from lakehouse.errors import Blocked, Unavailable

_LOOK = 0.2
"""Seconds in which messages are gathered at once."""


@dataclass(frozen=True)
class TopicReader:
    """Reads ranges of a topic's partitions, as long as it is the topic of this id."""

    cluster: Cluster
    topic: str
    id: str

    def read(self, partition: int, start: int, stop: int, most: int) -> Iterator[Messages]:
        """See `messages.Reader`."""
        kafka, progress = library(), _Progress(self, partition, start, stop, most)
        with explained(self.cluster, progress.seen, f"reading {self.topic}"):
            consumer = kafka.Consumer(
                {
                    **self.cluster.options(progress.seen),
                    "group.id": "lakehouse",
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "auto.offset.reset": "error",
                    "enable.partition.eof": True,
                    "isolation.level": "read_committed",
                    "max.poll.interval.ms": 86_400_000,  # between two lots a model is called
                }
            )
            try:
                consumer.assign([kafka.TopicPartition(self.topic, partition, start)])
                while progress.at < stop:
                    yield from progress.take(consumer.consume(min(most, stop - progress.at), _LOOK))
                if progress.lot.values:
                    yield progress.lot
            finally:
                consumer.close()
        now = ask(self.cluster, lambda admin, seen: str(describe(admin, seen, self.cluster, self.topic).topic_id))
        if now != self.id:
            raise Unavailable(f"{self.topic}: the topic was made anew while it was read; run again")


def _lot() -> Messages:
    return Messages([], [], [], [])


@dataclass
class _Progress:
    """How far a range is read. `lot`: messages that wait for others, until it is full; `size`: their bytes."""

    reader: TopicReader
    partition: int
    at: int
    stop: int
    most: int
    seen: list[str] = field(default_factory=list)
    moved: float = field(default_factory=time.monotonic)
    lot: Messages = field(default_factory=_lot)
    size: int = 0

    def take(self, got: Sequence[Any]) -> Iterator[Messages]:
        """The lots that are full with the messages among what was got, up to the end of the range."""
        kafka, before = library(), self.at
        for message in got:
            error = message.error()
            if error is not None:
                self._see(error, message, kafka.KafkaError)
                continue
            if message.offset() >= self.stop:  # the last offsets have none, such as where a transaction ended
                self.at = self.stop
                break
            self._add(message, kafka.TIMESTAMP_NOT_AVAILABLE)
            if len(self.lot.values) == self.most or self.size >= LOT_BYTES:
                yield self.lot
                self.lot, self.size, self.moved = _lot(), 0, time.monotonic()
        if self.at > before:
            self.moved = time.monotonic()
        elif time.monotonic() - self.moved > client.PATIENCE:
            said = f" ({self.seen[-1]})" if self.seen else ""
            raise Unavailable(
                f"{self.reader.cluster.servers}: no message of {self.reader.topic}, partition {self.partition}, from "
                f"offset {self.at} on for {client.PATIENCE:.0f} s, though it ends at {self.stop}{said}"
            )

    def _add(self, message: Any, no_time: int) -> None:
        (kind, ms), value = message.timestamp(), message.value()
        self.lot.values.append(value)
        self.lot.keys.append(message.key())
        self.lot.offsets.append(message.offset())
        self.lot.times.append(ms if kind != no_time else None)
        self.size += len(value or b"")
        self.at = message.offset() + 1

    def _see(self, error: Any, message: Any, code: Any) -> None:
        if error.code() == code._PARTITION_EOF:
            self.at = max(self.at, min(message.offset(), self.stop))
        elif error.code() in (code._AUTO_OFFSET_RESET, code.OFFSET_OUT_OF_RANGE):
            raise Blocked(
                f"{self.reader.topic}: messages of partition {self.partition} from offset {self.at} on were deleted "
                "while they were about to be read, such as by retention: run again, which says what is lost"
            )
        elif not error.retriable():
            raise library().KafkaException(error)
        else:
            self.seen.append(error.str())
