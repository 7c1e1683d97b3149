"""Writing events to a topic of Kafka, each at least once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lakehouse.connectors import kafka as client
from lakehouse.connectors.kafka import Cluster, ask, describe, explained, hint, library
from lakehouse.connectors.messages import Event
from lakehouse.errors import Blocked, Unavailable

SECTION = "publish_events"
LARGEST = 900_000
"""Bytes of an event's value: with its key and id it has to stay below what brokers and client take by default."""
SHORT = 5.0
"""Seconds for an answer before a run does its work."""
_WAITING_KBYTES = 65_536
"""Of events that wait to be written, at most."""
_BETWEEN = 1_000
"""Events between two looks at what became of those before."""


def require(stream: Mapping[str, Any]) -> None:
    """Raise ConfigError where the client isn't installed, there is no such topic or the brokers refuse.

    Raises Unavailable where these give no answer within a few seconds.
    """
    cluster = _cluster(stream)
    ask(cluster, lambda admin, seen: describe(admin, seen, cluster, stream["topic"], SHORT))


def _cluster(stream: Mapping[str, Any]) -> Cluster:
    return Cluster(stream["servers"], tuple(sorted(stream["security"].items())), SECTION)


def send(stream: Mapping[str, Any], events: Iterable[Event]) -> None:
    """Write the events in their order to `topic` of `servers`, each with its id in the header `id`.

    Raises ConfigError where the brokers refuse, Blocked where they refuse just these events, Unavailable where not all
    of them are known to be written.
    """
    cluster, topic, seen, failed = _cluster(stream), stream["topic"], list[str](), list[Any]()
    kafka, patience = library(SECTION), client.PATIENCE
    with explained(cluster, seen, f"writing to {topic}"):
        producer = kafka.Producer(
            {
                **cluster.options(seen),
                "enable.idempotence": True,
                "linger.ms": 20,
                "queue.buffering.max.kbytes": _WAITING_KBYTES,
                "message.timeout.ms": int(patience * 1000),
                "delivery.report.only.error": True,
                "on_delivery": lambda error, _: failed.append(error),
            }
        )
        for number, event in enumerate(events):
            _produce(producer, topic, event)
            if number % _BETWEEN == 0:
                producer.poll(0)
            if failed:
                break
        left = producer.flush(patience)
    code = kafka.KafkaError
    unwanted = (code.MSG_SIZE_TOO_LARGE, code.RECORD_LIST_TOO_LARGE, code.INVALID_RECORD, code.INVALID_TIMESTAMP)
    if refused := [error.str() for error in failed if error.code() in unwanted]:
        raise Blocked(f"{cluster.servers}: {topic} does not take these events: {refused[0]}: see the topic's settings")
    if failed or left:
        why = "; ".join([*(error.str() for error in failed[:1]), *seen[-1:]]) or "no answer"
        raise Unavailable(f"{cluster.servers}: not all events are written to {topic}: {why}{hint(cluster, seen)}")


def _produce(producer: Any, topic: str, event: Event) -> None:
    while True:
        try:
            producer.produce(topic, event.value, event.key, headers=[("id", event.id)])
        except BufferError:  # it is full
            producer.poll(0.1)
        else:
            return
