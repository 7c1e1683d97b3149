"""Writing events to a topic of Kafka, each at least once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lakehouse.connectors.kafka import PATIENCE, Cluster, _explained, _library
from lakehouse.connectors.messages import Event
from lakehouse.errors import Unavailable

_BETWEEN = 1_000
"""Events between two looks at what became of those before."""


def send(stream: Mapping[str, Any], events: Iterable[Event]) -> None:
    """Write the events in their order to `topic` of `servers`, each with its id in the header `id`.

    Raises ConfigError where the brokers refuse, Unavailable where not all of them are known to be written.
    """
    cluster = Cluster(stream["servers"], tuple(sorted(stream["security"].items())))
    kafka, topic, seen, failed = _library(), stream["topic"], list[str](), list[str]()

    def delivered(error: Any, _: Any) -> None:
        if error is not None:
            failed.append(error.str())

    with _explained(cluster, seen, f"writing to {topic}"):
        options = {"enable.idempotence": True, "linger.ms": 20, "message.timeout.ms": int(PATIENCE * 1000)}
        producer = kafka.Producer({**cluster.options(seen), **options})
        for number, event in enumerate(events):
            _produce(producer, topic, event, delivered)
            if number % _BETWEEN == 0:
                producer.poll(0)
            if failed:
                break
        left = producer.flush(PATIENCE)
    if failed or left:
        why = "; ".join([*failed[:1], *seen[-1:]]) or "no answer"
        raise Unavailable(f"{cluster.servers}: not all events are written to {topic}: {why}")


def _produce(producer: Any, topic: str, event: Event, delivered: Any) -> None:
    while True:
        try:
            producer.produce(topic, event.value, event.key, headers=[("id", event.id.encode())], on_delivery=delivered)
        except BufferError:  # it is full
            producer.poll(0.1)
        else:
            return
