"""200,000 messages, some of them no rows: runs that are killed, and two at once; each message counts once in the end."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections import Counter

import pytest

from lakehouse.config import Job
from lakehouse.connectors import delta
from lakehouse.engines import local
from lakehouse.planning import naming
from lakehouse.runs import ledger
from lakehouse.storage import locate
from tests.conftest import read, score
from tests.kafka_server import Broker
from tests.runs.test_exactly_once import unfinished

MESSAGES, PARTITIONS = 200_000, 4
POISON = (b"no row", b'{"id": 1, "a": [1]}', b"{}}", None)
POINTS = {
    "scoring": 0, "scored": 0, "declared": 1, "quarantine published": 1, "sink published": 1, "recorded": 1, "closed": 0,
}  # fmt: skip
"""Point of the run's death: how many intents it leaves. Here the sink is the first that is published to."""

pytestmark = pytest.mark.long


def message(number: int) -> bytes | None:
    if number % 100 == 7:
        return POISON[number // 100 % len(POISON)]
    return json.dumps({"id": number, "a": number / 10}).encode()


@pytest.fixture(scope="module")
def topic(kafka: Broker) -> str:
    """A topic with all messages."""
    name = f"many-{uuid.uuid4().hex[:8]}"
    kafka.create(name, PARTITIONS)
    share = MESSAGES // PARTITIONS
    for partition in range(PARTITIONS):
        kafka.send(name, (message(partition * share + n) for n in range(share)), partition)
    return name


@pytest.fixture
def job(make_job, imputing, kafka, topic, monkeypatch) -> Job:
    monkeypatch.setattr(local, "cores", lambda: 1)
    return make_job(
        imputing,
        source={
            "type": "kafka", "table": None, "servers": kafka.servers, "topic": topic,
            "schema": {"id": "long", "a": "double"},
        },
        keys=["_partition", "_offset"], keep=["id"],
        sinks=[{"type": "delta", "table": "lake/scores", "write": "append"}],
        checks={"quarantine": {"max_fraction": 0.05}},
    )  # fmt: skip


def assert_each_once(job: Job) -> None:
    """Assert that each message is scored or set aside, once, and that the table says so."""
    scored, aside = read("lake/scores"), read("lake/scores_quarantine")
    counted: Counter[tuple[int, int]] = Counter()
    for rows in (scored, aside):
        counted.update(zip(rows["_partition"].to_pylist(), rows["_offset"].to_pylist(), strict=True))
    share = MESSAGES // PARTITIONS
    assert counted == Counter((partition, offset) for partition in range(PARTITIONS) for offset in range(share))
    assert sorted(scored["id"].to_pylist()) == [n for n in range(MESSAGES) if n % 100 != 7]
    snapshot = delta.open_table(locate("lake/scores"))
    assert snapshot is not None
    ids = snapshot.transaction_ids() or {}
    there = {name.rpartition("/")[2]: at for name, at in ids.items() if name.startswith(f"{job.job}/position/")}
    assert there == {str(partition): share for partition in range(PARTITIONS)}


@pytest.mark.parametrize("point", POINTS)
def test_the_run_after_a_killed_one_leaves_each_message_once(point, job, run_until):
    run_until(point, job)
    assert unfinished(job) == POINTS[point]
    result = score(job)
    assert result.status == ("unchanged" if point == "closed" else "published")
    assert_each_once(job)
    assert (score(job).status, unfinished(job)) == ("unchanged", 0)
    assert [r["status"] for r in ledger.runs(naming.state_of(job), job.job)] == ["published"]


def test_of_two_runs_at_once_each_message_counts_once(job):
    command = [sys.executable, "-m", "lakehouse.cli", "score", job.path, "--engine", "local", "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=300) for one in both]
    assert sorted(one.returncode for one in both)[0] == 0, said
    assert {one.returncode for one in both} <= {0, 5}, said
    score(job)
    published = {r["run_id"] for r in ledger.runs(naming.state_of(job), job.job) if r["status"] == "published"}
    assert len(published) == 1
    assert_each_once(job)
