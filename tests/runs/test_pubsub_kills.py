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

MANY = 200_000
POISON = (b"no row", b'{"id": 1, "a": [1]}', b"{}}", b"")
POINTS = {
    "pulled": 0, "scoring": 0, "scored": 0, "declared": 1, "quarantine published": 1, "sink published": 1,
    "recorded": 1, "closed": 0, "remembered": 0, "acknowledged": 0,
}  # fmt: skip
"""Point of the run's death: how many intents it leaves. Here the sink is the first that is published to."""


@pytest.fixture
def job(make_job, imputing, pubsub, monkeypatch) -> Callable[[int], Job]:
    """job(messages): a job over a subscription with so many messages, one of a hundred no row."""
    monkeypatch.setattr(local, "cores", lambda: 1)

    def make(messages: int) -> Job:
        name = pubsub.create()
        pubsub.send(name, map(message, range(messages)))
        return make_job(
            imputing,
            source={
                "type": "pubsub", "table": None, "subscription": name, "project": PROJECT, "endpoint": pubsub.endpoint,
                "schema": {"id": "long", "a": "double"}, "quiet_seconds": 0.3,
            },
            keys=["_topic", "_offset"], keep=["id"],
            sinks=[{"type": "delta", "table": "lake/scores", "write": "append"}],
            checks={"quarantine": {"max_fraction": 0.05}},
        )  # fmt: skip

    return make


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


def killed_and_run_again(pubsub: Service, job: Job, count: int, point: str, run_until: Callable[..., None]) -> None:
    run_until(point, job)
    assert unfinished(job) == POINTS[point]
    pubsub.forward(DEADLINE_S + 1)
    while score(job).status != "unchanged":
        pass
    assert_each_once(pubsub, job, count)
    assert unfinished(job) == 0
    assert {r["status"] for r in ledger.runs(naming.state_of(job), job.job)} == {"published"}


@pytest.mark.parametrize("point", ["quarantine published", "remembered"])
def test_what_a_run_published_that_died_before_it_acknowledged_counts_once(pubsub, job, run_until, point):
    killed_and_run_again(pubsub, job(200), 200, point, run_until)


@pytest.mark.long
@pytest.mark.parametrize("point", POINTS)
def test_the_run_after_a_killed_one_leaves_each_message_once(pubsub, job, run_until, point):
    killed_and_run_again(pubsub, job(MANY), MANY, point, run_until)


@pytest.mark.long
def test_of_two_runs_at_once_each_message_counts_once(pubsub, job):
    scores = job(MANY)
    command = [sys.executable, "-m", "lakehouse.cli", "score", scores.path, "--engine", "local", "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=300) for one in both]
    assert sorted(one.returncode for one in both)[0] == 0, said
    assert {one.returncode for one in both} <= {0, 5}, said
    while score(scores).status != "unchanged":
        pass
    assert_each_once(pubsub, scores, MANY)
