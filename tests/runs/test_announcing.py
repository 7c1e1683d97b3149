"""Events of runs to a topic, on a real broker and on a fake of Pub/Sub: after the commits, at least once, with the same id each time."""

from __future__ import annotations

import json
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from google.cloud.pubsub_v1 import PublisherClient

from lakehouse.config import Job
from lakehouse.connectors import json_text
from lakehouse.connectors.kafka import sending
from lakehouse.connectors.messages import Event
from lakehouse.connectors.pubsub import sending as pubsub_sending
from lakehouse.errors import Blocked, ConfigError, Unavailable
from tests import command
from tests.conftest import read, score, version, write
from tests.kafka_server import Broker
from tests.pubsub_server import PROJECT
from tests.runs.test_exactly_once import unfinished

PERMISSION_DENIED = 7
"""A code of gRPC's."""
ROWS = 5


@pytest.fixture
def topic(kafka: Broker) -> str:
    """A topic of this test's own."""
    name = f"scored-{uuid.uuid4().hex[:8]}"
    kafka.create(name)
    return name


@pytest.fixture
def job(make_job, imputing, kafka, topic) -> Callable[..., Job]:
    """job(stream keys, **sections): a job over five rows that tells a topic of them."""
    write("lake/features", pa.table({"id": range(ROWS), "a": [0.5, 1.0, None, 2.0, 2.5]}))

    def make(stream: dict[str, Any] | None = None, **sections: Any) -> Job:
        events = {"type": "kafka", "servers": kafka.servers, "topic": topic, "rows": True, **(stream or {})}
        return make_job(imputing, **sections, publish_events=[events])

    return make


def test_each_row_and_then_the_run_become_events(kafka, topic, job):
    result = score(job())
    *rows, (run_id, key, run) = kafka.received(topic)
    assert [id_ for id_, _, _ in rows] == [f"{result.run_id}/row/0/{n}" for n in range(ROWS)]
    table = read("lake/scores").sort_by("id").to_pylist()
    told = [json.loads(value) for _, _, value in rows]
    assert [one["row"] for one in told] == [{**row, "_scored_at": row["_scored_at"].isoformat()} for row in table]
    assert [json.loads(key) for _, key, _ in rows] == [[n] for n in range(ROWS)]
    assert (run_id, key) == (f"{result.run_id}/run", b"scores")
    said = json.loads(run)
    assert (said["status"], said["rows"]) == ("published", {"read": 5, "scored": 5, "quarantined": 0})
    assert (score(job()).status, len(kafka.received(topic))) == ("unchanged", ROWS + 1)


def wide(make_job: Callable[..., Job], uri: str, stream: dict[str, Any], size: int) -> Job:
    """A job that tells a stream of two rows, of which the second has a text of that size."""
    write("lake/wide", pa.table({"id": [1, 2], "a": [0.5, 1.0], "text": ["short", "x" * size]}))
    source = {"type": "delta", "table": "lake/wide"}
    return make_job(uri, source=source, keep=["text"], publish_events=[{**stream, "rows": True}])


def test_a_row_that_is_too_large_for_an_event_is_told_by_its_keys(kafka, topic, make_job, imputing):
    told: list[str] = []
    stream = {"type": "kafka", "servers": kafka.servers, "topic": topic}
    job = wide(make_job, imputing, stream, sending.LARGEST)
    run = score(job, say=lambda event, values: told.append(str(values.get("message")))).run_id
    first, second, _ = (json.loads(value) for _, _, value in kafka.received(topic))
    assert (first["row"]["text"], "too_large" in first) == ("short", False)
    assert (second["id"], second["row"]) == (f"{run}/row/0/1", {"id": 2})
    assert second["too_large"] > sending.LARGEST
    assert any(f"have the rows' keys alone: 1, such as {run}/row/0/1" in text for text in told)
    assert unfinished(job) == 0


@pytest.mark.long
def test_the_largest_event_goes_through(kafka, topic, make_job, imputing):
    around = 500  # the event's other fields
    stream = {"type": "kafka", "servers": kafka.servers, "topic": topic}
    score(wide(make_job, imputing, stream, sending.LARGEST - around))
    assert len(json.loads(kafka.received(topic)[1][2])["row"]["text"]) == sending.LARGEST - around


def test_a_blocked_run_is_told_without_rows(kafka, topic, job):
    with pytest.raises(Blocked):
        score(job(features={"nulls": "quarantine"}, checks={"strict": True}, keys_unique="refuse", keys=["a"]))
    ((_, _, run),) = kafka.received(topic)
    assert json.loads(run)["status"] == "blocked"


def test_what_could_not_be_sent_the_next_run_sends(kafka, topic, job, monkeypatch):
    told: list[str] = []
    with monkeypatch.context() as of_short_patience:
        of_short_patience.setattr("lakehouse.connectors.kafka.PATIENCE", 1.0)
        of_short_patience.setattr(sending, "SHORT", 0.5)
        broken = job({"servers": "127.0.0.1:9"})
        first = score(broken, say=lambda event, values: told.append(str(values.get("message"))))
    assert (first.status, unfinished(job())) == ("published", 1)
    before, after = [text for text in told if "127.0.0.1:9" in text]
    assert "publish_events: 127.0.0.1:9: looking for the topic" in before
    assert "events could not be sent" in after
    assert (score(job()).status, unfinished(job())) == ("unchanged", 0)
    assert [id_ for id_, _, _ in kafka.received(topic)][-1] == f"{first.run_id}/run"
    assert len(kafka.received(topic)) == ROWS + 1


def test_a_stream_that_takes_nothing_holds_back_no_other_one(kafka, topic, make_job, imputing, monkeypatch, capfd):
    original = sending.send

    def send(stream: dict[str, Any], events: Any) -> None:
        if stream["servers"] == "127.0.0.1:9":
            raise Unavailable("127.0.0.1:9: it takes nothing")
        original(stream, events)

    monkeypatch.setattr(sending, "send", send)
    monkeypatch.setattr(sending, "SHORT", 0.5)
    write("lake/features", pa.table({"id": range(ROWS), "a": [0.5, 1.0, None, 2.0, 2.5]}))
    broken = {"type": "kafka", "servers": "127.0.0.1:9", "topic": "scored", "rows": True}
    healthy = {**broken, "servers": kafka.servers, "topic": topic}
    scores = make_job(imputing, publish_events=[broken, healthy])
    first = score(scores)
    assert (first.status, len(kafka.received(topic))) == ("published", ROWS + 1)
    status = command.run(capfd, "status", scores.path)
    assert (status.code, "PUBLISHED" in status.out) == (0, True)
    assert f"events of run {first.run_id} are pending: kafka scored: 127.0.0.1:9: " in status.out
    again = score(scores)
    assert (again.status, unfinished(scores), len(kafka.received(topic))) == ("unchanged", 1, ROWS + 1)
    kafka.create("scored")
    mended = make_job(imputing, publish_events=[{**broken, "servers": kafka.servers}, healthy])
    assert (score(mended).status, unfinished(mended)) == ("unchanged", 0)
    assert len(kafka.received(topic)) == len(kafka.received("scored")) == ROWS + 1


def test_a_stream_that_takes_nothing_is_tried_once_a_run_however_many_runs_wait(job, monkeypatch):
    tried, answers, told = list[str](), [False], list[str]()

    def send(stream: dict[str, Any], events: Any) -> None:
        tried.extend(event.id for event in events)
        if not answers[0]:
            raise Unavailable("it takes nothing")

    monkeypatch.setattr(sending, "send", send)
    monkeypatch.setattr(sending, "require", lambda stream: None)
    scores, runs = job({"rows": False}), list[str]()
    for n in range(3):
        write("lake/features", pa.table({"id": range(ROWS), "a": [float(n)] * ROWS}))
        tried.clear()
        told.clear()
        runs.append(score(scores, say=lambda event, values: told.append(str(values.get("message")))).run_id)
        assert len(tried) == 1
    assert unfinished(scores) == 3
    waiting, own = [text for text in told if "it takes nothing" in text]
    assert waiting.startswith("events of 2 earlier runs wait: kafka ")
    assert "took none of an earlier run's and is not tried again: it takes nothing; the next run" in own
    answers[0] = True
    tried.clear()
    assert (score(scores).status, unfinished(scores)) == ("unchanged", 0)
    assert sorted(tried) == sorted(f"{run}/run" for run in runs)


def test_a_run_whose_events_are_refused_holds_back_no_other_one(kafka, make_job, imputing):
    topic = f"small-{uuid.uuid4().hex[:8]}"
    kafka.create(topic, max_message_bytes="20000")
    stream = {"type": "kafka", "servers": kafka.servers, "topic": topic}
    scores = wide(make_job, imputing, stream, 50_000)
    first = score(scores)
    write("lake/wide", pa.table({"id": [1], "a": [0.5], "text": ["short"]}), mode="overwrite")
    second = score(scores)
    assert unfinished(scores) == 1
    got = [id_ for id_, _, _ in kafka.received(topic)]
    assert (f"{second.run_id}/run" in got, f"{first.run_id}/run" in got) == (True, False)


@pytest.mark.long
@pytest.mark.parametrize(("point", "times"), [("sink published", 1), ("recorded", 1), ("announced", 2)])
def test_after_a_kill_events_come_at_least_once_with_the_same_ids(kafka, topic, job, run_until, point, times):
    scores = job()
    run_until({"sink published": "quarantine published"}.get(point, point), scores)  # there is no quarantine
    run = score(scores).run_id
    counted = Counter(id_ for id_, _, _ in kafka.received(topic))
    assert counted == dict.fromkeys([*(f"{run}/row/0/{n}" for n in range(ROWS)), f"{run}/run"], times)


def test_a_topic_that_is_not_there_is_told_before_a_row_is_scored(job):
    with pytest.raises(ConfigError, match=r"publish_events\.topic: .* has no topic 'nowhere'"):
        score(job({"topic": "nowhere"}))
    assert (version("lake/scores"), unfinished(job())) == (-1, 0)


def test_a_client_that_is_not_installed_is_told_before_a_row_is_scored(job, monkeypatch):
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(ConfigError, match=r"publish_events\.type: kafka needs its client"):
        score(job())
    assert version("lake/scores") == -1


ODD = {
    "id": [1, 2, 3],
    "text": ['a "quote" \\ and\nlines', "plain", None],
    "control": ["bell \x07", "ünïcode \u2028", ""],
    "whole": [1.0, 1e20, -0.0],
    "real": [0.1, float("nan"), float("-inf")],
    "small": pa.array([0.1, None, 3e-40], pa.float32()),
    "flag": [True, None, False],
    "day": [date(2026, 1, 2), None, date(999, 1, 2)],
    "moment": [datetime(2026, 1, 2, 3, 4, 5, 60, tzinfo=UTC), datetime(1900, 1, 2, tzinfo=UTC), None],
    "local": [datetime(2026, 1, 2, 3, 4, 5), None, datetime(1969, 1, 2, 3, 4, 5, 123456)],
    "money": [Decimal("1.50"), Decimal("-0.00"), None],
    "data": [b"\x00\xff", b"", None],
    "many": [[1.0, float("nan")], [], None],
    "parts": [{"x": 1, "y": [datetime(2026, 1, 2, tzinfo=UTC)]}, None, {"x": None, "y": None}],
    'key {with} "marks"': ["a", "b", "c"],
}
"""Columns of all kinds of values."""


def test_texts_that_columns_make_say_what_their_rows_say():
    rows = pa.table(ODD)
    made = json_text.objects(dict(zip(rows.column_names, rows.combine_chunks().to_batches()[0].columns, strict=True)))
    assert [json.loads(text) for text in made.to_pylist()] == [
        json.loads(json_text.encode(row)) for row in rows.to_pylist()
    ]
    assert json.loads(made[0].as_py())["whole"].__class__ is float
    assert json.loads(made[1].as_py()) == {
        "id": 2, "text": "plain", "control": "ünïcode \u2028", "whole": 1e20, "real": None, "small": None, "flag": None,
        "day": None, "moment": "1900-01-02T00:00:00+00:00", "local": None, "money": "0.00", "data": "", "many": [],
        "parts": None, "key {with} \"marks\"": "b",
    }  # fmt: skip


def test_a_secret_is_referred_to(job):
    with pytest.raises(ConfigError, match="not the secret itself") as raised:
        job({"security": {"sasl.password": "secret!"}})
    assert "secret!" not in str(raised.value)


@pytest.fixture
def told_by_pubsub(make_job, imputing, pubsub) -> Callable[..., Job]:
    """told_by_pubsub(topic, **stream keys): a job over five rows that tells a topic of Pub/Sub of them."""
    write("lake/features", pa.table({"id": range(ROWS), "a": [0.5, 1.0, None, 2.0, 2.5]}))

    def make(topic: str, **stream: Any) -> Job:
        events = {
            "type": "pubsub", "project": PROJECT, "endpoint": pubsub.endpoint, "topic": topic, "rows": True, **stream,
        }  # fmt: skip
        return make_job(imputing, publish_events=[events])

    return make


@pytest.mark.parametrize("ordered", [False, pytest.param(True, marks=pytest.mark.long)])
def test_pubsub_is_told_of_each_row_and_of_the_run(pubsub, told_by_pubsub, ordered):
    topic = pubsub.create()
    run = score(told_by_pubsub(topic, ordered=ordered)).run_id
    got = pubsub.messages(topic)
    keys = [*(f"[{n}]" for n in range(ROWS)), "scores"]
    labels = [{"id": f"{run}/row/0/{n}", "key": f"[{n}]"} for n in range(ROWS)] + [
        {"id": f"{run}/run", "key": "scores"}
    ]
    by_id = sorted(got, key=lambda message: message.attributes["id"])
    assert [message.attributes for message in by_id] == labels
    assert [message.key for message in by_id] == (keys if ordered else [""] * (ROWS + 1))
    assert [json.loads(message.data)["id"] for message in by_id] == [label["id"] for label in labels]


def test_a_topic_of_pubsub_that_is_not_there_is_told_before_a_row_is_scored(told_by_pubsub):
    with pytest.raises(ConfigError, match=r"publish_events\.topic: topic nowhere of project tests"):
        score(told_by_pubsub("nowhere"))
    assert (version("lake/scores"), unfinished(told_by_pubsub("nowhere"))) == (-1, 0)


def test_a_login_that_may_not_look_at_a_topic_may_write_to_it(pubsub, told_by_pubsub):
    topic = pubsub.create()
    pubsub.fail("GetTopic", PERMISSION_DENIED)
    assert score(told_by_pubsub(topic)).status == "published"
    assert len(pubsub.messages(topic)) == ROWS + 1


def test_what_pubsub_does_not_take_the_next_run_sends(pubsub, told_by_pubsub):
    topic, told = pubsub.create(), list[str]()
    pubsub.fail("Publish", PERMISSION_DENIED)
    first = score(told_by_pubsub(topic), say=lambda event, values: told.append(str(values.get("message"))))
    assert (first.status, unfinished(told_by_pubsub(topic))) == ("published", 1)
    assert any("events could not be sent: " in text and f"topic {topic} of project tests" in text for text in told)
    assert (score(told_by_pubsub(topic)).status, unfinished(told_by_pubsub(topic))) == ("unchanged", 0)
    assert len({message.attributes["id"] for message in pubsub.messages(topic)}) == ROWS + 1


def test_of_large_events_to_pubsub_only_so_many_are_under_way(pubsub, monkeypatch):
    topic, going, most = pubsub.create(), list[int](), list[int]()
    publish = PublisherClient.publish

    class Answer:
        def __init__(self, future, size):
            self.future, self.size = future, size
            going.append(size)
            most.append(sum(going))

        def result(self, timeout):
            going.remove(self.size)
            return self.future.result(timeout)

    monkeypatch.setattr(
        PublisherClient, "publish", lambda self, topic, data, **a: Answer(publish(self, topic, data, **a), len(data))
    )
    monkeypatch.setattr(pubsub_sending, "_BYTES", 100_000)
    stream = {"type": "pubsub", "project": PROJECT, "endpoint": pubsub.endpoint, "topic": topic, "ordered": False}
    sizes = [30_000, 30_000, 30_000, 30_000, 150_000, *[10] * 50]
    pubsub_sending.send(stream, [Event(str(n), b"k", bytes(size)) for n, size in enumerate(sizes)])
    assert sorted(len(message.data) for message in pubsub.messages(topic)) == sorted(sizes)
    assert (max(most[:4]), max(most), going) == (90_000, 150_000, [])
