"""Kafka's client: what a topic holds now, and the messages of a range of one of its partitions.

A consumer here joins no group and commits nothing: how far a topic was scored, the scored table says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from lakehouse.connectors.messages import LOT_BYTES, Messages
from lakehouse.errors import Blocked, ConfigError, Unavailable, nearest
from lakehouse.references import is_reference, text_of

PATIENCE = 30.0
"""Seconds for an answer of the brokers, and without any new message while some are known to be there."""
_LOOK = 0.2
"""Seconds in which messages are gathered at once."""
_QUIET = logging.getLogger(f"{__name__}.quiet")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False
"""Takes what the library would write to stderr; what matters of it comes as errors."""


@dataclass(frozen=True)
class Cluster:
    """How brokers are reached. `security`: options of librdkafka; secrets are references, looked up at each use."""

    servers: str
    security: tuple[tuple[str, str], ...] = ()

    def options(self, seen: list[str]) -> dict[str, Any]:
        """What the library is told; `seen` gets what it says of connections that fail."""
        told = {name: _plain(name, value) for name, value in self.security}
        return {
            **told,
            "bootstrap.servers": self.servers,
            "client.id": "lakehouse",
            "error_cb": lambda error: seen.append(error.str()),
            "logger": _QUIET,
        }


def _plain(name: str, value: str) -> str:
    """An option's value, looked up where it is a reference."""
    return text_of(value, f"source.security.{name}", "").strip() if is_reference(value) else value


@dataclass(frozen=True)
class Topic:
    """A topic as it is now: its id, which another topic of the name has not, and its partitions.

    `there`: by partition the first offset that is kept, and the one after the last message that may be read.
    """

    id: str
    there: Mapping[int, tuple[int, int]]


def _library() -> ModuleType:
    try:
        import confluent_kafka
        import confluent_kafka.admin
    except ImportError as error:
        raise ConfigError(f"source.type: kafka needs its client: pip install lakehouse[kafka] ({error})") from error
    return confluent_kafka


@contextmanager
def _explained(cluster: Cluster, seen: Sequence[str], doing: str) -> Iterator[None]:
    """Raise what the library raises as an error that says which brokers, and what these said."""
    kafka = _library()
    try:
        yield
    except kafka.KafkaException as failed:
        error, code = failed.args[0], kafka.KafkaError
        told = f"{cluster.servers}: {doing}: {error.str()}" + (f" ({seen[-1]})" if seen else "")
        refused = (
            code._AUTHENTICATION, code._INVALID_ARG, code.SASL_AUTHENTICATION_FAILED, code.TOPIC_AUTHORIZATION_FAILED,
            code.CLUSTER_AUTHORIZATION_FAILED, code.GROUP_AUTHORIZATION_FAILED,
        )  # fmt: skip
        if error.code() in refused or _is_refused(seen):
            raise ConfigError(f"{told}: see source.security") from failed
        raise Unavailable(told) from failed


def _is_refused(seen: Sequence[str]) -> bool:
    """Whether brokers said that the login is wrong, which the library takes for a connection that may yet be made."""
    return any("uthentication" in text for text in seen)


def _answer(admin: Any, seen: Sequence[str], asked: Any) -> Any:
    """An answer; while it is waited for the library tells of connections that fail."""
    while not wait([asked], _LOOK).done:
        admin.poll(0)
        if _is_refused(seen):
            kafka = _library()
            raise kafka.KafkaException(kafka.KafkaError(kafka.KafkaError._AUTHENTICATION))
    return asked.result()


def look(cluster: Cluster, topic: str) -> Topic:
    """The topic as it is now, up to the last message of a finished transaction.

    Raises ConfigError where there is no such topic or the brokers refuse, Unavailable where they don't answer.
    """
    found: Topic = _ask(cluster, lambda admin, seen: _look(admin, seen, cluster, topic))
    return found


def _ask(cluster: Cluster, question: Callable[[Any, list[str]], Any]) -> Any:
    kafka, seen = _library(), list[str]()
    with _explained(cluster, seen, "connecting"):
        admin = kafka.admin.AdminClient(cluster.options(seen))
    return question(admin, seen)


def topic_id(admin: Any, seen: list[str], cluster: Cluster, topic: str) -> Any:
    """What the brokers say of a topic. Raises ConfigError where there is none."""
    kafka = _library()
    with _explained(cluster, seen, f"looking for the topic {topic}"):
        asked = admin.describe_topics(kafka.TopicCollection([topic]), request_timeout=PATIENCE)
        try:
            return _answer(admin, seen, asked[topic])
        except kafka.KafkaException as error:
            if error.args[0].code() != kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
            known = [name for name in admin.list_topics(timeout=PATIENCE).topics if not name.startswith("__")]
        raise ConfigError(f"source.topic: {cluster.servers} has no topic {topic!r}, {nearest(topic, known)}")


def _look(admin: Any, seen: list[str], cluster: Cluster, topic: str) -> Topic:
    kafka = _library()
    described = topic_id(admin, seen, cluster, topic)
    places = [kafka.TopicPartition(topic, partition.id) for partition in described.partitions]
    with _explained(cluster, seen, f"looking for the offsets of {topic}"):
        first = _offsets(admin, seen, places, kafka.admin.OffsetSpec.earliest())
        last = _offsets(admin, seen, places, kafka.admin.OffsetSpec.latest())
    return Topic(str(described.topic_id), {partition: (first[partition], last[partition]) for partition in first})


def _offsets(admin: Any, seen: list[str], places: Sequence[Any], which: Any) -> dict[int, int]:
    """By partition an offset; -1 where there is none."""
    kafka = _library()
    asked = admin.list_offsets(
        dict.fromkeys(places, which),
        isolation_level=kafka.IsolationLevel.READ_COMMITTED,
        request_timeout=PATIENCE,
    )
    return {place.partition: _answer(admin, seen, answer).offset for place, answer in asked.items()}


def offsets_at(cluster: Cluster, topic: str, there: Mapping[int, tuple[int, int]], ms: int) -> dict[int, int]:
    """By partition the first offset of a message of that time (ms since 1970) or later; the end where there is none."""

    def ask(admin: Any, seen: list[str]) -> dict[int, int]:
        kafka = _library()
        places = [kafka.TopicPartition(topic, partition) for partition in there]
        with _explained(cluster, seen, f"looking for the offsets of {topic}"):
            found = _offsets(admin, seen, places, kafka.admin.OffsetSpec.for_timestamp(ms))
        return {partition: there[partition][1] if at < 0 else at for partition, at in found.items()}

    answer: dict[int, int] = _ask(cluster, ask)
    return answer


@dataclass(frozen=True)
class TopicReader:
    """Reads ranges of a topic's partitions, as long as it is the topic of this id."""

    cluster: Cluster
    topic: str
    id: str

    def read(self, partition: int, start: int, stop: int, most: int) -> Iterator[Messages]:
        """See `messages.Reader`."""
        kafka, progress = _library(), _Progress(self, partition, start, stop, most)
        with _explained(self.cluster, progress.seen, f"reading {self.topic}"):
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
        now = _ask(self.cluster, lambda admin, seen: str(topic_id(admin, seen, self.cluster, self.topic).topic_id))
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
        kafka, before = _library(), self.at
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
        elif time.monotonic() - self.moved > PATIENCE:
            said = f" ({self.seen[-1]})" if self.seen else ""
            raise Unavailable(
                f"{self.reader.cluster.servers}: no message of {self.reader.topic}, partition {self.partition}, from "
                f"offset {self.at} on for {PATIENCE:.0f} s, though it ends at {self.stop}{said}"
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
            raise _library().KafkaException(error)
        else:
            self.seen.append(error.str())
