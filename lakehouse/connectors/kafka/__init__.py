"""Kafka's client: what a topic holds now, and the messages of a range of one of its partitions.

A consumer here joins no group and commits nothing: how far a topic was scored, the scored table says.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from lakehouse.errors import ConfigError, Unavailable, nearest
from lakehouse.references import is_reference, text_of

PATIENCE = 30.0
"""Seconds for an answer of the brokers, and without any new message while some are known to be there."""
_UNREACHED = 10.0
"""Seconds after which brokers of which none could be reached are not waited for."""
_LOOK = 0.2
"""Seconds between two looks at whether there is an answer."""
_CLOSINGS = 3
"""So often one broker closes connections that it has just taken until it is said to refuse them."""
_DOWN = "brokers are down"
"""What the library says once no broker can be reached."""
_REFUSED = re.compile("uthentication|mechanism handshake failed|certificate verify failed")
_CLOSED = re.compile(r"(\S+)/bootstrap: .*Disconnected.*")
"""What the library says of a login that is wrong, and of a connection that is closed before a broker said anything."""


@dataclass(frozen=True)
class Cluster:
    """How brokers are reached. `security`: options of librdkafka; secrets are references, looked up at each use.

    `section`: where the job file says all that.
    """

    servers: str
    security: tuple[tuple[str, str], ...] = ()
    section: str = "source"

    @property
    def protocol(self) -> str:
        """How brokers are spoken to."""
        return dict(self.security).get("security.protocol", "plaintext, as nothing is said")

    def options(self, seen: list[str]) -> dict[str, Any]:
        """What the library is told; `seen` gets what it says of connections that fail."""
        told = {name: self._plain(name, value) for name, value in self.security}
        return {
            **told,
            "bootstrap.servers": self.servers,
            "client.id": "lakehouse",
            "error_cb": lambda error: seen.append(error.str()),
            "logger": _listening(seen),
        }

    def _plain(self, name: str, value: str) -> str:
        """An option's value, looked up where it is a reference."""
        return text_of(value, f"{self.section}.security.{name}", "").strip() if is_reference(value) else value


def _listening(seen: list[str]) -> logging.Logger:
    """Takes what the library would write to stderr; `seen` gets what doesn't come as an error: closed connections."""

    def hear(line: logging.LogRecord) -> bool:
        if found := _CLOSED.search(line.getMessage()):
            seen.append(found[0])
        return False

    logger = logging.Logger(__name__)
    logger.addFilter(hear)
    return logger


@dataclass(frozen=True)
class Topic:
    """A topic as it is now: its id, which another topic of the name has not, and its partitions.

    `there`: by partition the first offset that is kept, and the one after the last message that may be read.
    """

    id: str
    there: Mapping[int, tuple[int, int]]


def library(section: str = "source") -> ModuleType:
    """Kafka's client. Raises ConfigError where it isn't installed, which the section of the job file needs."""
    try:
        import confluent_kafka
        import confluent_kafka.admin
    except ImportError as error:
        raise ConfigError(f"{section}.type: kafka needs its client: pip install lakehouse[kafka] ({error})") from error
    return confluent_kafka


@contextmanager
def explained(cluster: Cluster, seen: Sequence[str], doing: str) -> Iterator[None]:
    """Raise what the library raises as an error that says which brokers, and what these said."""
    kafka = library()
    try:
        yield
    except kafka.KafkaException as failed:
        error, code = failed.args[0], kafka.KafkaError
        said = [text for text in seen if _DOWN not in text]
        what = "no broker can be reached" if error.code() == code._ALL_BROKERS_DOWN else error.str()
        told = f"{cluster.servers}: {doing}: {what}" + (f" ({said[-1]})" if said else "")
        refused = (
            code._AUTHENTICATION, code._INVALID_ARG, code.SASL_AUTHENTICATION_FAILED, code.TOPIC_AUTHORIZATION_FAILED,
            code.CLUSTER_AUTHORIZATION_FAILED, code.GROUP_AUTHORIZATION_FAILED,
        )  # fmt: skip
        if error.code() in refused or _is_refused(seen):
            raise ConfigError(f"{told}: see {cluster.section}.security") from failed
        raise Unavailable(told + hint(cluster, seen)) from failed


def _is_refused(seen: Sequence[str]) -> bool:
    """Whether brokers said that the login is wrong, which the library takes for a connection that may yet be made."""
    return any(map(_REFUSED.search, seen))


def _is_closed(seen: Sequence[str]) -> bool:
    """Whether a broker closes all connections at once, which the library goes on to make, saying nothing."""
    closed = Counter(found[1] for text in seen if (found := _CLOSED.search(text)))
    return max(closed.values(), default=0) >= _CLOSINGS


def hint(cluster: Cluster, seen: Sequence[str]) -> str:
    """What is likely to be wrong where brokers take no connection for long: the tail of a message."""
    if any("OAUTHBEARER token" in text for text in seen):
        return f": see {cluster.section}.security, sasl.oauthbearer.token.endpoint.url"
    if not _is_closed(seen):
        return ""
    return (
        "; each connection is closed as soon as it is made, as by a listener that wants a login or TLS, or none: see "
        f"{cluster.section}.security (security.protocol is {cluster.protocol})"
    )


def _answer(admin: Any, seen: Sequence[str], asked: Any) -> Any:
    """An answer; while it is waited for the library tells of connections that fail."""
    kafka, until = library(), time.monotonic() + _UNREACHED
    code = kafka.KafkaError
    while not wait([asked], _LOOK).done:
        admin.poll(0)
        if _is_refused(seen):
            raise kafka.KafkaException(code(code._AUTHENTICATION))
        if _is_closed(seen):
            raise kafka.KafkaException(code(code._TRANSPORT))
        if time.monotonic() > until and any(_DOWN in text for text in seen):
            raise kafka.KafkaException(code(code._ALL_BROKERS_DOWN))
    return asked.result()


def look(cluster: Cluster, topic: str) -> Topic:
    """The topic as it is now, up to the last message of a finished transaction.

    Raises ConfigError where there is no such topic or the brokers refuse, Unavailable where they don't answer.
    """
    found: Topic = ask(cluster, lambda admin, seen: _look(admin, seen, cluster, topic))
    return found


def ask(cluster: Cluster, question: Callable[[Any, list[str]], Any]) -> Any:
    """What a question to the brokers gives; it gets a client, and what that has said of connections that fail."""
    kafka, seen = library(cluster.section), list[str]()
    with explained(cluster, seen, "connecting"):
        admin = kafka.admin.AdminClient(cluster.options(seen))
    return question(admin, seen)


def describe(admin: Any, seen: list[str], cluster: Cluster, topic: str, patience: float | None = None) -> Any:
    """What the brokers say of a topic, within these seconds. Raises ConfigError where there is none."""
    kafka, patience = library(), patience or PATIENCE
    with explained(cluster, seen, f"looking for the topic {topic}"):
        asked = admin.describe_topics(kafka.TopicCollection([topic]), request_timeout=patience)
        try:
            return _answer(admin, seen, asked[topic])
        except kafka.KafkaException as error:
            if error.args[0].code() != kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
            known = [name for name in admin.list_topics(timeout=patience).topics if not name.startswith("__")]
        raise ConfigError(f"{cluster.section}.topic: {cluster.servers} has no topic {topic!r}, {nearest(topic, known)}")


def _look(admin: Any, seen: list[str], cluster: Cluster, topic: str) -> Topic:
    kafka = library()
    described = describe(admin, seen, cluster, topic)
    places = [kafka.TopicPartition(topic, partition.id) for partition in described.partitions]
    with explained(cluster, seen, f"looking for the offsets of {topic}"):
        first = _offsets(admin, seen, places, kafka.admin.OffsetSpec.earliest())
        last = _offsets(admin, seen, places, kafka.admin.OffsetSpec.latest())
    return Topic(str(described.topic_id), {partition: (first[partition], last[partition]) for partition in first})


def _offsets(admin: Any, seen: list[str], places: Sequence[Any], which: Any) -> dict[int, int]:
    """By partition an offset; -1 where there is none."""
    kafka = library()
    asked = admin.list_offsets(
        dict.fromkeys(places, which),
        isolation_level=kafka.IsolationLevel.READ_COMMITTED,
        request_timeout=PATIENCE,
    )
    return {place.partition: _answer(admin, seen, answer).offset for place, answer in asked.items()}


def offsets_at(cluster: Cluster, topic: str, there: Mapping[int, tuple[int, int]], ms: int) -> dict[int, int]:
    """By partition the first offset of a message of that time (ms since 1970) or later; the end where there is none."""

    def find(admin: Any, seen: list[str]) -> dict[int, int]:
        kafka = library()
        places = [kafka.TopicPartition(topic, partition) for partition in there]
        with explained(cluster, seen, f"looking for the offsets of {topic}"):
            found = _offsets(admin, seen, places, kafka.admin.OffsetSpec.for_timestamp(ms))
        return {partition: there[partition][1] if at < 0 else at for partition, at in found.items()}

    answer: dict[int, int] = ask(cluster, find)
    return answer
