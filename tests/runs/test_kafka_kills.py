"""200,000 messages of Kafka: runs that are killed, and two at once; into Snowflake and on Spark 20,000."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from lakehouse.config import Job
from lakehouse.engines import local
from tests.kafka_server import Broker
from tests.runs.each_once import (
    FEW,
    IN_SNOWFLAKE,
    MESSAGES,
    ON_SPARK,
    PATIENCE,
    POINTS,
    POISON,
    SECTIONS,
    Sent,
    assert_made_good,
    assert_one_of_two,
    in_delta,
    in_snowflake,
    message,
)

PARTITIONS = 4

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * PATIENCE)]


def filled(kafka: Broker, count: int) -> tuple[str, Sent]:
    """A topic with so many messages, some without a value."""
    name, sent, share = f"many-{uuid.uuid4().hex[:8]}", Sent(), count // PARTITIONS
    kafka.create(name, PARTITIONS)
    for partition in range(PARTITIONS):
        numbers = range(partition * share, (partition + 1) * share)
        kafka.send(name, (message(n, (*POISON, None)) for n in numbers), partition)
        sent.add(partition, range(share), share)
    return name, sent


@pytest.fixture(scope="module")
def many(kafka: Broker) -> tuple[str, Sent]:
    return filled(kafka, MESSAGES)


@pytest.fixture(scope="module")
def few(kafka: Broker) -> tuple[str, Sent]:
    return filled(kafka, FEW)


@pytest.fixture
def job(make_job, imputing, kafka, monkeypatch) -> Callable[..., Job]:
    """job(topic, **sections): a job over the topic."""
    monkeypatch.setattr(local, "cores", lambda: 1)

    def make(topic: str, **sections: Any) -> Job:
        source = {
            "type": "kafka", "table": None, "servers": kafka.servers, "topic": topic,
            "schema": {"id": "long", "a": "double"},
        }  # fmt: skip
        return make_job(imputing, source=source, **{**SECTIONS, **sections})

    return make


@pytest.mark.parametrize("point", POINTS)
def test_the_run_after_a_killed_one_leaves_each_message_once(many, point, job, run_until):
    topic, sent = many
    assert_made_good(point, POINTS[point], job(topic), run_until, sent, in_delta)


def test_of_two_runs_at_once_each_message_counts_once(many, job):
    topic, sent = many
    assert_one_of_two(job(topic), sent, in_delta)


@pytest.mark.parametrize("point", IN_SNOWFLAKE)
def test_the_run_after_one_into_snowflake_was_killed_leaves_each_message_once(few, point, job, run_until, account):
    (topic, sent), sink = few, {"type": "snowflake", "connection": account.name, "write": "append"}
    into = job(topic, sinks=[{**sink, "table": account.table("scores")}], state="state")
    assert_made_good(point, IN_SNOWFLAKE[point], into, run_until, sent, lambda: in_snowflake(account))


@pytest.mark.slow
@pytest.mark.parametrize("point", ON_SPARK)
def test_the_run_after_one_on_spark_was_killed_leaves_each_message_once(few, point, job, run_until, spark):
    topic, sent = few
    assert_made_good(point, ON_SPARK[point], job(topic), run_until, sent, in_delta, "spark")
