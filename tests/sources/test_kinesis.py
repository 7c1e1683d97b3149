"""Kinesis as a source, on moto's: each record is scored once, or set aside once, whatever becomes of shards."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from botocore.loaders import JSONFileLoader

from lakehouse.config import Job
from lakehouse.connectors import delta
from lakehouse.connectors import kinesis as of_kinesis
from lakehouse.connectors.kinesis.ranges import FINISHED
from lakehouse.errors import Blocked, ConfigError, NotReady, Unavailable
from lakehouse.sinks.positions import positions_of
from lakehouse.sources import kinesis as kinesis_source
from lakehouse.storage import locate
from tests.conftest import read, score
from tests.kinesis_service import LOGIN, REGION, Service, shard_id
from tests.sources.test_kafka import AVRO, arrow, assert_followed, avro, messages

AGGREGATED = b"\xf3\x89\x9a\xc2" + b"\x0a\x01k" + hashlib.md5(b"\x0a\x01k").digest()
"""As Amazon's producer library writes several records as one."""
POISON = [b"not json", b'{"id": 1, "a": "text"}', b"[1]", AGGREGATED]
"""Records that are no rows."""


@pytest.fixture
def stream(kinesis: Service, monkeypatch: pytest.MonkeyPatch) -> str:
    """A stream of this test's own, with two shards."""
    name = f"games-{uuid.uuid4().hex[:8]}"
    kinesis.create(name, 2)
    for variable, value in LOGIN.items():
        monkeypatch.setenv(variable, value)
    return name


@pytest.fixture
def job(make_job, imputing, kinesis, stream) -> Callable[..., Job]:
    """job(source keys, **sections): a job over the stream, with the record's place as its key."""

    def make(source: dict[str, Any] | None = None, **sections: Any) -> Job:
        given = {
            "type": "kinesis", "stream": stream, "region": REGION, "endpoint": kinesis.address,
            "schema": {"id": "long", "a": "double"},
        }  # fmt: skip
        plain = {
            "keys": ["_topic", "_partition", "_offset"],
            "keep": ["id"],
            "sinks": [{"type": "delta", "table": "lake/scores", "write": "append"}],
            "checks": {"quarantine": {"max_fraction": 0.9}},
        }
        return make_job(imputing, **{**plain, **sections}, source={"table": None, **given, **(source or {})})

    return make


def ids() -> list[int]:
    """The numbers of the scored messages, in order."""
    return sorted(read("lake/scores")["id"].to_pylist())


def positions(job: Job) -> dict[str, int]:
    """By shard up to where the scored table says that it is read."""
    snapshot = delta.open_table(locate("lake/scores"))
    known = snapshot.transaction_ids if snapshot else {}
    return {name.rpartition("-")[2].lstrip("0") or "0": at for name, at in positions_of(job.job, known).items()}


def test_each_run_scores_what_came_since_the_last_one_and_sets_bad_records_aside(kinesis, stream, job):
    scores = job()
    assert score(scores).status == "unchanged"
    sent = kinesis.send(stream, [*messages(range(3)), *POISON])
    other = kinesis.send(stream, messages(range(3, 5)), shard=1)
    first = score(scores)
    assert (first.status, first.rows_scored, first.rows_quarantined) == ("published", 5, 4)
    assert positions(scores) == {"0": int(sent[-1]) + 1, "1": int(other[-1]) + 1}
    assert score(scores).status == "unchanged"
    later = kinesis.send(stream, messages(range(5, 7)))
    second = score(scores)
    assert (second.status, second.rows_scored, second.rows_quarantined) == ("published", 2, 0)
    assert positions(scores) == {"0": int(later[-1]) + 1, "1": int(other[-1]) + 1}
    assert ids() == list(range(7))
    rows = read("lake/scores_quarantine").sort_by("_offset").to_pylist()
    assert [(r["_topic"], r["_partition"], r["_offset"], r["_message"]) for r in rows] == [
        (stream, "shardId-000000000000", number, data) for number, data in zip(sent[3:], POISON, strict=True)
    ]
    said = [row["_reasons"][0]["observed"] for row in rows]
    assert ["AggregationEnabled" in text for text in said] == [False, False, False, True]


def test_a_shard_that_is_split_and_merged_is_read_to_its_end_and_then_its_children(kinesis, stream, job):
    scores = job()
    kinesis.send(stream, messages(range(3)))
    score(scores)
    kinesis.send(stream, messages(range(3, 5)))
    kinesis.split(stream, 0)
    kinesis.send(stream, messages(range(5, 7)), shard=2)
    kinesis.send(stream, messages(range(7, 8)), shard=3)
    assert score(scores).rows_scored == 5
    assert positions(scores)["0"] == FINISHED
    kinesis.merge(stream, 2, 3)
    assert score(scores).status == "unchanged"
    last = kinesis.send(stream, messages(range(8, 9)), shard=4)
    assert (score(scores).rows_scored, ids()) == (1, list(range(9)))
    assert positions(scores) == {"0": FINISHED, "2": FINISHED, "3": FINISHED, "4": int(last[0]) + 1}
    kinesis.forget(stream, 0)
    assert score(scores).status == "unchanged"


@pytest.mark.long
def test_children_wait_until_their_parent_is_read(kinesis, stream, job):
    kinesis.send(stream, messages(range(5)))
    kinesis.split(stream, 0)
    kinesis.send(stream, messages(range(5, 6)), shard=2)
    scores, seen = job({"max_messages": 8}), []  # two of each of the four shards
    for _ in range(3):
        score(scores)
        seen.append(ids())
    assert seen == [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]
    assert score(scores).status == "unchanged"


def test_records_that_may_be_gone_stop_the_job_until_somebody_accepts_it(kinesis, stream, job):
    kinesis.send(stream, messages(range(3)))
    score(job())
    kinesis.trim(stream, 0, 3)
    passed(24)
    assert score(job()).status == "unchanged"
    kinesis.send(stream, messages(range(3, 6)))
    kinesis.trim(stream, 0, 1)
    with pytest.raises(Blocked, match=r"last message of shardId-000000000000 .*on_loss: continue"):
        score(job())
    told: list[str] = []
    result = score(job({"on_loss": "continue"}), say=lambda event, values: told.append(str(values.get("message"))))
    assert (result.rows_scored, ids()) == (2, [0, 1, 2, 4, 5])
    assert any("may have been deleted" in text for text in told)
    assert score(job()).status == "unchanged"


def passed(hours: float) -> None:
    """Have what runs have noted be so much older."""
    [place] = Path("lake/scores_state/messages").rglob("seen.json")
    said = json.loads(place.read_text())
    for seen in said["shards"].values():
        seen["at_ms"] -= int(hours * 3_600_000)
    place.write_text(json.dumps(said))


def test_what_came_to_a_shard_that_was_looked_at_often_enough_is_not_told_as_lost(kinesis, stream, job):
    kinesis.send(stream, messages(range(3)))
    score(job())
    for _ in range(2):
        passed(23)
        kinesis.trim(stream, 0, 3)  # by retention
        assert score(job()).status == "unchanged"
    kinesis.send(stream, messages(range(3, 5)))
    passed(23)
    assert (score(job()).rows_scored, ids()) == (2, list(range(5)))


def test_a_shard_that_runs_without_messages_saw_end_may_vanish(kinesis, stream, job):
    kinesis.send(stream, messages(range(3)))
    score(job())
    kinesis.trim(stream, 0, 3)
    kinesis.split(stream, 0)
    assert score(job()).status == "unchanged"
    passed(240)
    kinesis.forget(stream, 0)
    assert score(job()).status == "unchanged"
    last = kinesis.send(stream, messages(range(3, 5)), shard=2)
    assert score(job()).rows_scored == 2
    assert positions(job()) == {"0": FINISHED, "2": int(last[-1]) + 1}


def test_notes_that_are_broken_are_told_and_made_anew(kinesis, stream, job):
    kinesis.send(stream, messages(range(3)))
    score(job())
    [place] = Path("lake/scores_state/messages").rglob("seen.json")
    place.write_text('{"format": 1}')
    told: list[str] = []
    say = lambda event, values: told.append(str(values.get("message")))  # noqa: E731
    assert score(job(), say=say).status == "unchanged"
    assert any("seen.json, what was seen of shards, can't be read (it has no 'shards')" in text for text in told)
    assert len(json.loads(place.read_text())["shards"]) == 1
    place.write_text("")
    kinesis.trim(stream, 0, 3)
    kinesis.send(stream, messages(range(3, 5)))
    with pytest.raises(Blocked, match=r"seen.json, .*, can't be read .*; .*last message of shardId-000000000000"):
        score(job())


@pytest.mark.long
def test_a_shard_may_have_lost_records_that_was_not_looked_at_before_it_ended(kinesis, stream, job):
    kinesis.send(stream, messages(range(3)))
    score(job())
    kinesis.send(stream, messages(range(3, 5)))
    kinesis.trim(stream, 0, 5)
    kinesis.split(stream, 0)
    passed(24)
    with pytest.raises(Blocked, match="last message of shardId-000000000000"):
        score(job())
    assert score(job({"on_loss": "continue"})).status == "unchanged"
    assert score(job()).status == "unchanged"


@pytest.mark.long
def test_that_a_run_did_not_take_all_is_no_end(kinesis, stream, job):
    kinesis.send(stream, messages(range(4)))
    assert score(job({"max_messages": 4})).rows_scored == 2  # of each of two shards
    kinesis.trim(stream, 0, 3)
    with pytest.raises(Blocked, match="last message of shardId-000000000000"):
        score(job())


@pytest.mark.long
def test_a_shard_that_went_before_it_was_read_to_its_end_is_told(kinesis, stream, job):
    kinesis.send(stream, messages(range(3)))
    score(job())
    kinesis.split(stream, 0)
    kinesis.send(stream, messages(range(3, 5)), shard=2)
    kinesis.forget(stream, 0)
    with pytest.raises(Blocked, match="shardId-000000000000 is not there any more"):
        score(job())
    assert score(job({"on_loss": "continue"})).rows_scored == 2
    assert score(job()).status == "unchanged"


@pytest.mark.long
def test_what_was_accepted_is_not_told_again_though_there_was_nothing_to_score(kinesis, stream, job):
    kinesis.send(stream, messages(range(3)))
    score(job())
    kinesis.split(stream, 0)
    kinesis.forget(stream, 0)
    with pytest.raises(Blocked, match="shardId-000000000000 is not there any more"):
        score(job())
    assert score(job({"on_loss": "continue"})).status == "unchanged"
    assert score(job()).status == "unchanged"


@pytest.mark.long
def test_a_stream_made_anew_or_deleted_is_told(kinesis, stream, job):
    kinesis.send(stream, messages(range(3)))
    score(job())
    kinesis.client.delete_stream(StreamName=stream)
    with pytest.raises(ConfigError, match=rf"no stream '{stream}' in {REGION} \({kinesis.address}\)"):
        score(job())
    kinesis.create(stream)
    kinesis.send(stream, messages(range(3, 5)))
    with pytest.raises(Blocked, match="made anew"):
        score(job())
    assert score(job({"on_loss": "continue"})).rows_scored == 2


@pytest.mark.parametrize("quiet_s", [0, 300, 3_000])
def test_of_many_records_the_last_one_is_found_and_the_range_stays_the_same(kinesis, stream, job, monkeypatch, quiet_s):
    """Where not all are seen at once, and the newest of them came now, or some time ago."""
    monkeypatch.setattr(of_kinesis, "LIMIT", 3)
    kinesis.send(stream, messages(range(7)))
    kinesis.age(stream, 0, 4_000)
    last = kinesis.send(stream, messages(range(7, 11)))[-1]
    kinesis.age(stream, 0, quiet_s)
    pinned = kinesis_source.pin(job().source)
    kinesis.send(stream, messages(range(11, 15)))
    [piece] = pinned.pieces_of
    assert (piece.stop, pinned.rows) == (int(last) + 1, None)
    lots = [list(pinned.reader.read(piece.partition, piece.start, piece.stop, 4)) for _ in range(2)]
    assert [[len(lot.values) for lot in each] for each in lots] == [[4, 4, 3]] * 2
    assert [number for lot in lots[0] for number in lot.offsets] == [
        number for lot in lots[1] for number in lot.offsets
    ]


@pytest.mark.long
def test_the_first_run_can_begin_at_a_time(kinesis, stream, job):
    kinesis.send(stream, messages(range(3)))
    kinesis.age(stream, 0, 100_000)
    kinesis.send(stream, messages(range(3, 5)))
    hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert (score(job({"start": hour_ago})).rows_scored, ids()) == (2, [3, 4])


def test_few_records_are_counted_and_a_run_waits_for_enough(kinesis, stream, job):
    kinesis.send(stream, messages(range(2)))
    assert kinesis_source.pin(job().source).rows == 2
    with pytest.raises(NotReady, match="2 rows"):
        score(job({"min_rows": 3}))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("arn:aws:kinesis:eu-west-1:123456789012:stream/games", r"give the bare name, games"),
        ("x" * 129, r"source\.stream: must be 1 to 128 letters, digits"),
        ("games\n", r"must be 1 to 128 letters, digits"),
    ],
)
def test_a_name_that_is_none_is_refused_by_the_rule(job, name, said):
    with pytest.raises(ConfigError, match=said):
        job({"stream": name})


def test_what_the_library_knows_of_the_service_is_read_once_a_process(kinesis, stream, monkeypatch):
    named = of_kinesis.Stream(stream, REGION, kinesis.address)
    of_kinesis.connect(named)
    load, read_files = JSONFileLoader.load_file, list[str]()

    def counted(self, path):
        read_files.append(path)
        return load(self, path)

    monkeypatch.setattr(JSONFileLoader, "load_file", counted)
    assert (of_kinesis.connect(named).meta.region_name, read_files) == (REGION, [])


def test_a_service_that_does_not_answer_is_unavailable(job, monkeypatch):
    monkeypatch.setattr(of_kinesis, "ATTEMPTS", 1)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
        score(job({"endpoint": "http://127.0.0.1:9"}))


@pytest.mark.long
def test_records_in_avro_and_arrow_are_scored(kinesis, stream, job, workspace):
    (workspace / "game.avsc").write_text(json.dumps(AVRO))
    kinesis.send(stream, [avro({"id": 1, "a": 0.5}), b"no"])
    assert score(job({"format": "avro", "avro_schema": "game.avsc"})).rows_scored == 1
    kinesis.send(stream, [arrow(pa.table({"id": [2, 3], "a": [1.0, 1.5]})), b"no"])
    assert score(job({"format": "arrow"})).rows_scored == 2
    assert (ids(), read("lake/scores_quarantine")["_message"].to_pylist()) == ([1, 2, 3], [b"no", b"no"])


@pytest.mark.long
def test_a_table_in_snowflake_remembers_sequence_numbers_in_its_ledger(kinesis, stream, job, account):
    sink = {"type": "snowflake", "connection": account.name, "table": account.table("scores"), "write": "append"}
    scores = job(sinks=[sink], state="state")
    sent = kinesis.send(stream, [*messages(range(3)), *POISON])
    assert [score(scores).rows_scored, score(scores).status] == [3, "unchanged"]
    kinesis.split(stream, 0)
    other = kinesis.send(stream, messages(range(3, 5)), shard=1)
    assert [score(scores).rows_scored, score(scores).status] == [2, "unchanged"]
    assert account.run("SELECT id, _partition, _offset FROM scores ORDER BY id") == [
        *((n, shard_id(0), sent[n]) for n in range(3)), *((3 + n, shard_id(1), other[n]) for n in range(2)),
    ]  # fmt: skip
    assert account.run("SELECT _offset FROM scores_quarantine ORDER BY _offset") == [(number,) for number in sent[3:]]
    rows = account.run("SELECT POSITIONS FROM scores_runs WHERE RUN_ID <> '' ORDER BY FENCE")
    known = [{name.rpartition("/")[2]: at for name, at in json.loads(said).items()} for (said,) in rows]
    ends = [int(sent[-1]) + 1, int(other[-1]) + 1]
    assert known == [{shard_id(0): ends[0]}, {shard_id(0): FINISHED, shard_id(1): ends[1]}]


@pytest.mark.long
def test_on_spark_executors_read_the_shards(kinesis, stream, job, spark):
    sent = kinesis.send(stream, [*messages(range(50)), *POISON])
    other = kinesis.send(stream, messages(range(50, 80)), shard=1)
    scores = job()
    result = score(scores, "spark")
    assert (result.rows_scored, result.rows_quarantined, result.engine) == (80, len(POISON), "spark")
    assert score(scores, "spark").status == "unchanged"
    assert (ids(), positions(scores)) == (list(range(80)), {"0": int(sent[-1]) + 1, "1": int(other[-1]) + 1})


@pytest.mark.long
@pytest.mark.parametrize("engine", ["local", "spark"])
def test_a_job_that_follows_scores_what_comes_and_finishes_the_run_at_hand(kinesis, stream, job, engine):
    assert_followed(job(), engine, lambda numbers: kinesis.send(stream, messages(numbers)))


def test_events_to_the_stream_that_is_read_are_refused(job, kinesis, stream):
    events = {"type": "kinesis", "stream": stream, "region": REGION, "endpoint": kinesis.address}
    assert job(publish_events=[{**events, "stream": "other"}]).publish_events
    with pytest.raises(ConfigError, match=r"publish_events\.0: the job reads that very stream"):
        job(publish_events=[events])
