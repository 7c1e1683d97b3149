"""Messages of Pub/Sub, some of them no rows: runs that are killed, and two at once; each counts once in the end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest

from lakehouse.config import Job
from lakehouse.connectors.pubsub.leases import DEADLINE_S
from lakehouse.engines import local
from lakehouse.planning import naming
from lakehouse.runs import ledger
from tests.conftest import read, score
from tests.pubsub_server import PROJECT, Service
from tests.runs.test_exactly_once import unfinished

EACH = 20_000
"""Messages that come before each run which dies: 200,000 in all."""
POISON = (b"no row", b'{"id": 1, "a": [1]}', b"{}}", b"")
POINTS = {
    "pulled": 0, "scoring": 0, "scored": 0, "declared": 1, "quarantine published": 1, "sink published": 1,
    "recorded": 1, "closed": 0, "remembered": 0, "acknowledged": 0,
}  # fmt: skip
"""Point of the run's death: how many intents it leaves. Here the sink is the first that is published to."""


@pytest.fixture
def job(make_job, imputing, pubsub, monkeypatch) -> Job:
    """A job over a subscription of this test's own."""
    monkeypatch.setattr(local, "cores", lambda: 1)
    return make_job(
        imputing,
        source={
            "type": "pubsub", "table": None, "subscription": pubsub.create(), "project": PROJECT,
            "endpoint": pubsub.endpoint, "schema": {"id": "long", "a": "double"}, "quiet_seconds": 4,
        },
        keys=["_topic", "_offset"], keep=["id"], model={"batch_rows": 5_000},
        sinks=[{"type": "delta", "table": "lake/scores", "write": "append"}],
        checks={"quarantine": {"max_fraction": 0.05}},
    )  # fmt: skip


def message(number: int) -> bytes:
    if number % 100 == 7:
        return POISON[number // 100 % len(POISON)]
    return json.dumps({"id": number, "a": number / 10}).encode()


def assert_each_once(pubsub: Service, job: Job, count: int) -> None:
    """Assert that each message is scored or set aside, once, and acknowledged."""
    scored, aside = read("lake/scores"), read("lake/scores_quarantine")
    sent = pubsub.messages(job.source.name)
    assert len(sent) == count
    counted = Counter(id_ for rows in (scored, aside) for id_ in rows["_offset"].to_pylist())
    assert counted == Counter(message.id for message in sent)
    assert sorted(scored["id"].to_pylist()) == [n for n in range(count) if n % 100 != 7]
    assert {message.acks for message in sent} == {1}


def killed_and_run_again(pubsub: Service, job: Job, numbers: range, point: str, run_until: Callable[..., None]) -> None:
    """Send messages, have the run die which takes them, and run the job until nothing is left."""
    pubsub.send(job.source.name, map(message, numbers))
    run_until(point, job)
    assert unfinished(job) == POINTS[point]
    pubsub.forward(DEADLINE_S + 1)
    while score(job).status != "unchanged":
        pass
    assert_each_once(pubsub, job, numbers.stop)
    assert unfinished(job) == 0


@pytest.mark.parametrize("point", ["quarantine published", pytest.param("remembered", marks=pytest.mark.long)])
def test_what_a_run_published_that_died_before_it_acknowledged_counts_once(pubsub, job, run_until, point):
    killed_and_run_again(pubsub, job, range(200), point, run_until)


@pytest.mark.long
def test_after_runs_that_died_at_each_stage_each_message_counts_once(pubsub, job, run_until):
    for number, point in enumerate(POINTS):
        killed_and_run_again(pubsub, job, range(number * EACH, (number + 1) * EACH), point, run_until)
    assert len(read("lake/scores")) == len(POINTS) * EACH * 99 // 100
    assert {r["status"] for r in ledger.runs(naming.state_of(job), job.job)} == {"published"}


@pytest.mark.long
def test_of_two_runs_at_once_each_message_counts_once(pubsub, job):
    pubsub.send(job.source.name, map(message, range(EACH)))
    command = [sys.executable, "-m", "lakehouse.cli", "score", job.path, "--engine", "local", "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=300) for one in both]
    assert sorted(one.returncode for one in both)[0] == 0, said
    assert {one.returncode for one in both} <= {0, 5}, said
    while score(job).status != "unchanged":
        pass
    assert_each_once(pubsub, job, EACH)
