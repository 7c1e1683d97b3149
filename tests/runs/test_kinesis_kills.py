"""200,000 records of Kinesis, of shards that are split and merged on the way: runs that are killed, and two at once."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest

from lakehouse.config import Job
from lakehouse.connectors.kinesis.ranges import FINISHED
from lakehouse.engines import local
from tests.conftest import score
from tests.kinesis_service import LOGIN, REGION, Service, shard_id
from tests.runs.each_once import (
    FEW,
    MESSAGES,
    PATIENCE,
    POINTS,
    SECTIONS,
    Sent,
    assert_each_once,
    assert_made_good,
    assert_one_of_two,
    in_delta,
    message,
)
from tests.runs.test_exactly_once import unfinished

SHARDS = 4
LATER = (1, 4, 5, 6)
"""The shards that are open after one was split and two were merged."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(2 * PATIENCE)]


def send(kinesis: Service, stream: str, sent: Sent, shards: Sequence[int], numbers: range) -> None:
    """Send the messages of these numbers, to each shard as many."""
    share = len(numbers) // len(shards)
    for place, shard in enumerate(shards):
        own = numbers[place * share : (place + 1) * share]
        offsets = kinesis.send(stream, map(message, own), shard)
        sent.add(shard_id(shard), offsets, int(offsets[-1]) + 1)


def change_shards(kinesis: Service, stream: str, sent: Sent) -> None:
    """Split a shard and merge two others."""
    kinesis.split(stream, 0)
    kinesis.merge(stream, 2, 3)
    sent.positions.update(dict.fromkeys(map(shard_id, (0, 2, 3)), FINISHED))


@pytest.fixture
def stream(kinesis: Service) -> str:
    """A stream of this test's own."""
    name = f"some-{uuid.uuid4().hex[:8]}"
    kinesis.create(name, SHARDS)
    return name


@pytest.fixture(scope="module")
def many(kinesis: Service) -> Iterator[tuple[str, Sent]]:
    """A stream with all messages, the half of which came before its shards were split and merged."""
    name, sent = f"many-{uuid.uuid4().hex[:8]}", Sent()
    kinesis.create(name, SHARDS)
    send(kinesis, name, sent, range(SHARDS), range(MESSAGES // 2))
    change_shards(kinesis, name, sent)
    send(kinesis, name, sent, LATER, range(MESSAGES // 2, MESSAGES))
    yield name, sent
    kinesis.client.delete_stream(StreamName=name)


@pytest.fixture
def job(make_job, imputing, kinesis, monkeypatch) -> Callable[[str], Job]:
    """job(stream): a job over the stream."""
    monkeypatch.setattr(local, "cores", lambda: 1)
    for variable, value in LOGIN.items():
        monkeypatch.setenv(variable, value)

    def make(stream: str) -> Job:
        source = {
            "type": "kinesis", "table": None, "stream": stream, "region": REGION, "endpoint": kinesis.address,
            "schema": {"id": "long", "a": "double"},
        }  # fmt: skip
        return make_job(imputing, source=source, **SECTIONS)

    return make


@pytest.mark.parametrize("point", POINTS)
def test_the_run_after_a_killed_one_leaves_each_record_once(many, point, job, run_until):
    stream, sent = many
    assert_made_good(point, POINTS[point], job(stream), run_until, sent, in_delta)


def test_of_two_runs_at_once_each_record_counts_once(many, job):
    stream, sent = many
    assert_one_of_two(job(stream), sent, in_delta)


@pytest.mark.parametrize("point", ["scored", "declared", "sink published"])
def test_shards_may_be_split_and_merged_before_a_killed_run_is_finished(kinesis, stream, point, job, run_until):
    scores, sent = job(stream), Sent()
    send(kinesis, stream, sent, range(SHARDS), range(FEW // 2))
    run_until(point, scores)
    assert unfinished(scores) == POINTS[point]
    change_shards(kinesis, stream, sent)
    send(kinesis, stream, sent, LATER, range(FEW // 2, FEW))
    assert score(scores).status == "published"
    assert_each_once(sent, in_delta())
    assert (score(scores).status, unfinished(scores)) == ("unchanged", 0)
