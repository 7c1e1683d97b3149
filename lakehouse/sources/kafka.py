"""Reading from Kafka: each run takes what a topic's partitions have more than the scored table remembers.

All but the look at the topic is `connectors.messages` and `connectors.topics`, which any system of messages shares.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lakehouse.connectors import kafka, messages, topics
from lakehouse.connectors.kafka import reading
from lakehouse.connectors.topics import *  # noqa: F403  # what all sources of messages do alike

if TYPE_CHECKING:
    from lakehouse.config.systems.kafka import KafkaSource


def pin(source: KafkaSource, names: Sequence[str] = ()) -> topics.PinnedMessages:
    """What the topic has more than was scored, up to now; nothing is read.

    Raises ConfigError where there is no such topic or the brokers refuse, Blocked where messages are gone that were
    never scored, Unavailable where the brokers don't answer.
    """
    cluster = kafka.Cluster(source.servers, tuple(sorted(source.security.items())))
    how = topics.format_of(source)
    topic, at_ms = kafka.look(cluster, source.topic), time.time_ns() // 1_000_000
    began = source.start_time

    def start() -> Mapping[int, int]:
        if began is None:
            return {}
        return kafka.offsets_at(cluster, source.topic, topic.there, int(began.timestamp() * 1000))

    span, pieces = messages.next_range(
        source.topic,
        topic.id,
        source.positions,
        topic.there,
        start,
        accept_loss=source.on_loss == "continue",
        most=source.max_messages,
    )
    schema = topics.schema_of(source.schema_)
    reader = reading.TopicReader(cluster, source.topic, topic.id)
    return topics.PinnedMessages(source.topic, schema, span, pieces, at_ms, reader, how)
