"""Kafka as a source, on a real broker: each message is scored once, or set aside once, whatever happens to runs."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import lakehouse
from lakehouse import checks
from lakehouse.config import Job
from lakehouse.connectors import delta
from lakehouse.connectors import kafka as of_kafka
from lakehouse.connectors.delta import log
from lakehouse.connectors.kafka import reading
from lakehouse.errors import Blocked, ConfigError, NotReady, Unavailable
from lakehouse.operations import lookup
from lakehouse.planning import naming
from lakehouse.runs import ledger
from lakehouse.sinks import delta as delta_sink
from lakehouse.sinks import snowflake as snowflake_sink
from lakehouse.sinks.snowflake import loading
from lakehouse.sinks.target import Overtaken
from lakehouse.storage import locate
from lakehouse.storage.s3 import S3
from tests import command
from tests.conftest import opened, read, score
from tests.kafka_server import PASSWORD, USER, Broker

PLACE = ["_topic", "_partition", "_offset"]
POISON = [b"not json", b'{"id": 1, "a": "text"}', None, b"[1]", b'{"id": 1}{"id": 2}']
"""Messages that are no rows."""


def messages(numbers: range) -> list[bytes]:
    """Messages in JSON, each with its number and a feature."""
    return [json.dumps({"id": n, "a": n / 10, "other": [n]}).encode() for n in numbers]


@pytest.fixture
def topic(kafka: Broker) -> str:
    """A topic of this test's own, with two partitions."""
    name = f"games-{uuid.uuid4().hex[:8]}"
    kafka.create(name, 2)
    return name


@pytest.fixture
def job(make_job, imputing, kafka, topic) -> Callable[..., Job]:
    """job(source keys, **sections): a job over the topic, with the message's place as its key."""

    def make(source: dict[str, Any] | None = None, **sections: Any) -> Job:
        given = {"type": "kafka", "servers": kafka.servers, "topic": topic, "schema": {"id": "long", "a": "double"}}
        plain = {
            "keys": PLACE,
            "keep": ["id"],
            "sinks": [{"type": "delta", "table": "lake/scores", "write": "append"}],
            "checks": {"quarantine": {"max_fraction": 0.9}},
        }
        return make_job(imputing, **{**plain, **sections}, source={"table": None, **given, **(source or {})})

    return make


def places(table: str = "lake/scores") -> list[tuple[int, int]]:
    """(partition, offset) of the rows of a table, in order."""
    rows = read(table)
    return sorted(zip(rows["_partition"].to_pylist(), rows["_offset"].to_pylist(), strict=True))


def positions(job: Job) -> dict[int, int]:
    """By partition up to where the scored table says that the topic is read."""
    snapshot = delta.open_table(locate("lake/scores"))
    ids = snapshot.transaction_ids if snapshot else {}
    return {int(n.rpartition("/")[2]): at for n, at in (ids or {}).items() if n.startswith(f"{job.job}/position/")}


def test_each_run_scores_what_came_since_the_last_one(kafka, topic, job):
    scores = job()
    assert score(scores).status == "unchanged"
    kafka.send(topic, messages(range(5)))
    kafka.send(topic, messages(range(5, 8)), partition=1)
    first = score(scores)
    assert (first.status, first.rows_scored, positions(scores)) == ("published", 8, {0: 5, 1: 3})
    assert score(scores).status == "unchanged"
    kafka.send(topic, messages(range(8, 10)))
    second = score(scores)
    assert (second.status, second.rows_scored, positions(scores)) == ("published", 2, {0: 7, 1: 3})
    assert places() == [*((0, n) for n in range(7)), *((1, n) for n in range(3))]
    rows = read("lake/scores")
    assert sorted(rows["id"].to_pylist()) == list(range(10))
    assert pc.max(pc.abs(pc.subtract(rows["prediction"], pc.divide(rows["id"].cast("double"), 10)))).as_py() < 1e-9
    records = ledger.runs(naming.state_of(scores), "scores")
    assert [sorted(r["input_range"].values()) for r in records] == [[[5, 7]], [[None, 3], [None, 5]]]
    assert ledger.superseded_runs(records) == set()
    assert lookup.status(scores)[0].run_id == second.run_id


def test_bad_messages_are_set_aside_once_with_their_places_and_reasons(kafka, topic, job):
    kafka.send(topic, [*messages(range(3)), *POISON, *messages(range(3, 5))])
    scores = job()
    result = score(scores)
    assert (result.rows_read, result.rows_scored, result.rows_quarantined) == (10, 5, 5)
    assert score(scores).status == "unchanged"
    assert places() == [(0, n) for n in (0, 1, 2, 8, 9)]
    rows = read("lake/scores_quarantine").sort_by("_offset").to_pylist()
    assert [(r["_topic"], r["_partition"], r["_offset"], r["_message"]) for r in rows] == [
        (topic, 0, 3 + n, value) for n, value in enumerate(POISON)
    ]
    assert {reason["rule"] for r in rows for reason in r["_reasons"]} == {"readable"}
    said = [r["_reasons"][0]["observed"] for r in rows]
    assert ["no JSON object" in said[0], "a" in said[1], "no value" in said[2], "2 JSON objects" in said[4]] == [
        True
    ] * 4


def test_the_budget_decides_of_messages_of_which_none_can_be_read(kafka, topic, job):
    kafka.send(topic, messages(range(1)), partition=1)
    assert score(job()).rows_scored == 1
    kafka.send(topic, [b"no"])
    with pytest.raises(Blocked, match=r"(?s)1 of 1 rows .* 0 are allowed .*max_fraction: …"):
        score(job(checks={"quarantine": {"max_fraction": 0.01}}))
    scores = job(checks={"quarantine": {"max_fraction": 1.0, "max_rows": 2}})
    lone = score(scores)
    assert (lone.status, lone.rows_scored, lone.rows_quarantined) == ("published", 0, 1)
    assert positions(scores) == {0: 1, 1: 1}
    kafka.send(topic, messages(range(3)))
    assert (score(scores).rows_scored, places()) == (3, [(0, 1), (0, 2), (0, 3), (1, 0)])
    kafka.send(topic, [b"no"] * 3)
    with pytest.raises(Blocked, match=r"3 of 3 rows .* 2 are allowed"):
        score(scores)
    kafka.send(topic, messages(range(3)))
    with pytest.raises(Blocked, match=r"3 of 6 rows .* 2 are allowed"):
        score(scores)
    assert score(job(checks={"quarantine": {"max_fraction": 1.0}})).rows_scored == 3
    assert places("lake/scores_quarantine").count((0, 0)) == 2  # by the blocked run, and by the one that went on


@pytest.mark.parametrize("outputs", [None, "long"])  # what the signature declares; the model answers with doubles
def test_a_table_is_not_made_of_a_guess(kafka, topic, make_job, register, outputs):
    """Where no message can be given to the model: what its signature declares need not be what it answers with."""
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LinearRegression

    x = pd.DataFrame({"a": [0.0, 1.0, 2.0]})
    signature = infer_signature(x) if outputs is None else infer_signature(x, pd.Series([1, 2]))
    uri = register(LinearRegression().fit(x, x["a"]), x, signature=signature)
    source = {"table": None, "type": "kafka", "servers": kafka.servers, "topic": topic, "schema": {"a": "double"}}
    sink = {"type": "delta", "table": "lake/scores", "write": "append"}
    scores = make_job(
        uri, keys=PLACE, keep=[], source=source, sinks=[sink], checks={"quarantine": {"max_fraction": 1.0}}
    )
    kafka.send(topic, [b"no"])
    with pytest.raises(Blocked, match="the type of prediction isn't known"):
        score(scores)
    kafka.send(topic, messages(range(2)))
    assert score(scores).rows_scored == 2
    assert read("lake/scores").schema.field("prediction").type == pa.float64()
    kafka.send(topic, [b"no"])
    assert score(scores).status == "published"  # the table tells the type now


def test_a_required_field_that_no_message_has_is_warned_of(kafka, topic, job):
    kafka.send(topic, [b'{"id": 1, "A": 0.5}', b'{"id": 2}', b"no"])
    told: list[str] = []
    score(job(), say=lambda event, values: told.append(str(values.get("message"))))
    (warning,) = [said for said in told if "not one of" in said]
    assert warning.startswith("not one of 2 messages has a value for a, which the model requires")
    kafka.send(topic, [b'{"id": 1}', *messages(range(1))])
    told.clear()
    assert score(job(), say=lambda event, values: told.append(str(values.get("message")))).rows_scored == 2
    assert "not one of" not in str(told)


AVRO = {"type": "record", "name": "Game", "fields": [{"name": "id", "type": "long"}, {"name": "a", "type": "double"}]}


def test_messages_in_avro_and_arrow_are_scored(kafka, topic, job, workspace):
    (workspace / "game.avsc").write_text(json.dumps(AVRO))
    kafka.send(topic, [avro({"id": 1, "a": 0.5}), b"no"])
    assert score(job({"format": "avro", "avro_schema": "game.avsc"})).rows_scored == 1
    kafka.send(topic, [arrow(pa.table({"id": [2, 3], "a": [1.0, 1.5]})), b"no"])
    assert score(job({"format": "arrow"})).rows_scored == 2
    assert sorted(read("lake/scores")["id"].to_pylist()) == [1, 2, 3]
    assert places("lake/scores_quarantine") == [(0, 1), (0, 3)]


def avro(row: dict[str, Any]) -> bytes:
    """A record in Avro, by the schema AVRO."""
    import fastavro

    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(AVRO), row)
    return stream.getvalue()


def arrow(rows: pa.Table) -> bytes:
    """Rows as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def test_a_range_is_cut_into_the_same_batches_each_time(kafka, topic):
    """Or processes that share a range by blocks would take others' rows, or leave some."""
    kafka.send(topic, messages(range(2_500)))
    cluster = of_kafka.Cluster(kafka.servers)
    reader = reading.TopicReader(cluster, topic, of_kafka.look(cluster, topic).id)
    lots = [[found.offsets for found in reader.read(0, 100, 2_400, 1_000)] for _ in range(3)]
    assert [[found[0] for found in lot] for lot in lots] == [[100, 1_100, 2_100]] * 3
    assert [offset for found in lots[0] for offset in found] == list(range(100, 2_400))


def test_a_blocked_run_leaves_its_messages_to_the_next(kafka, topic, job):
    kafka.send(topic, [*messages(range(3)), *POISON])
    with pytest.raises(Blocked, match="quarantine"):
        score(job(checks={"quarantine": {"max_fraction": 0.1}}))
    assert positions(job()) == {}
    kafka.send(topic, messages(range(3, 5)))
    assert score(job()).rows_scored == 5
    records = ledger.runs(naming.state_of(job()), "scores")
    assert ledger.superseded_runs(records) == {records[1]["run_id"]}


def test_of_two_runs_over_the_same_messages_one_is_published(kafka, topic, job, monkeypatch):
    kafka.send(topic, messages(range(4)))
    scores, original = job(), checks.tally

    def meanwhile(*given: Any) -> Any:
        monkeypatch.setattr(checks, "tally", original)
        kafka.send(topic, messages(range(4, 6)))
        assert score(scores).rows_scored == 6
        return original(*given)

    monkeypatch.setattr(checks, "tally", meanwhile)
    with pytest.raises(Overtaken, match="meanwhile"):
        score(scores)
    assert (places(), positions(scores)) == ([(0, n) for n in range(6)], {0: 6, 1: 0})
    assert score(scores).status == "unchanged"


@pytest.fixture
def in_snowflake(account) -> dict[str, Any]:
    """A sink in Snowflake."""
    return {"type": "snowflake", "connection": account.name, "table": account.table("scores"), "write": "append"}


def test_a_table_in_snowflake_remembers_positions_in_its_ledger(kafka, topic, job, account, in_snowflake):
    older = ", ".join(column for column in loading._COLUMNS if not column.startswith("POSITIONS"))
    account.run(f"CREATE TABLE scores_runs ({older})")
    kafka.send(topic, [*messages(range(3)), *POISON])
    scores = job(sinks=[in_snowflake], state="state")
    assert [score(scores).rows_scored, score(scores).status] == [3, "unchanged"]
    kafka.send(topic, messages(range(3, 5)), partition=1)
    assert score(scores).rows_scored == 2
    assert sorted(account.run("SELECT _partition, _offset FROM scores")) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    assert sorted(account.run("SELECT _offset FROM scores_quarantine")) == [(n,) for n in range(3, 8)]
    rows = account.run("SELECT POSITIONS FROM scores_runs WHERE RUN_ID <> '' ORDER BY FENCE")
    assert [sorted(json.loads(said).values()) for (said,) in rows] == [[0, 8], [2, 8]]


def test_a_table_in_an_object_storage_remembers_positions_however_long_its_log_is(
    kafka, topic, job, bucket, monkeypatch
):
    monkeypatch.setattr(log, "_LONGEST", 0)
    monkeypatch.setattr(S3, "lists_from", False)
    scores = job(sinks=[{"type": "delta", "table": f"{bucket}/scores", "write": "append"}])
    for numbers in (range(3), range(3, 5)):
        kafka.send(topic, messages(numbers))
        assert score(scores).rows_scored == len(numbers)
        opened(f"{bucket}/scores").create_checkpoint()
    assert (score(scores).status, places(f"{bucket}/scores")) == ("unchanged", [(0, n) for n in range(5)])


def test_of_two_runs_into_snowflake_one_is_published(kafka, topic, job, account, in_snowflake, monkeypatch):
    kafka.send(topic, [*messages(range(4)), b"no"])
    scores = job(sinks=[in_snowflake], state="state")
    before_its_commits(monkeypatch, snowflake_sink, lambda: score(scores))
    with pytest.raises(Overtaken, match="meanwhile"):
        score(scores)
    assert sorted(account.run("SELECT _offset FROM scores")) == [(n,) for n in range(4)]
    assert account.run("SELECT _offset FROM scores_quarantine") == [(4,)]


def test_a_ledger_in_snowflake_that_is_put_back_meanwhile_takes_no_later_messages(
    kafka, topic, job, account, in_snowflake, monkeypatch
):
    """Or those would be missing that it does not remember any more."""
    kafka.send(topic, messages(range(3)))
    scores = job(sinks=[in_snowflake], state="state")
    score(scores)
    kafka.send(topic, messages(range(3, 5)))
    before_its_commits(monkeypatch, snowflake_sink, lambda: account.run("DELETE FROM scores_runs WHERE RUN_ID <> ''"))
    with pytest.raises(Overtaken, match="put back"):
        score(scores)
    assert sorted(account.run("SELECT _offset FROM scores")) == [(n,) for n in range(3)]


def test_two_sinks_remember_the_same_and_one_that_does_not_is_told(kafka, topic, job, account, in_snowflake):
    in_delta = {"type": "delta", "table": "lake/scores", "write": "append"}
    both = job(sinks=[in_delta, in_snowflake])
    kafka.send(topic, messages(range(3)))
    assert [score(both).rows_scored, score(both).status] == [3, "unchanged"]
    kafka.send(topic, messages(range(3, 4)))
    score(job(sinks=[in_delta]))
    with pytest.raises(Overtaken, match="not published up to the same messages"):
        score(both)


def before_its_commits(monkeypatch: pytest.MonkeyPatch, sink: Any, act: Callable[[], object]) -> None:
    """Have the next run stop where all was well when it looked at its tables, while another is at work."""
    original = sink.publish

    def meanwhile(*given: Any) -> Any:
        monkeypatch.setattr(sink, "publish", original)
        with monkeypatch.context() as earlier:  # the other one had looked for unfinished runs before
            earlier.setattr(ledger, "unfinished", lambda *_: ([], []))
            act()
        return original(*given)

    monkeypatch.setattr(sink, "publish", meanwhile)


def test_a_run_that_another_came_before_sets_nothing_aside(kafka, topic, job, monkeypatch):
    kafka.send(topic, [*messages(range(3)), *POISON])
    scores = job()
    before_its_commits(monkeypatch, delta_sink, lambda: score(scores))
    with pytest.raises(Overtaken, match="meanwhile"):
        score(scores)
    assert places() == [(0, n) for n in range(3)]
    assert places("lake/scores_quarantine") == [(0, n) for n in range(3, 8)]


def test_rows_that_are_lost_while_they_are_committed_are_told_with_what_to_do(kafka, topic, job, monkeypatch):
    commit = delta.commit

    def and_lose(snapshot: Any, adds: Any, **more: Any) -> int:
        version = commit(snapshot, adds, **more)
        snapshot.location.join(adds[0].path).filesystem().delete_file(snapshot.location.join(adds[0].path).path)
        return version

    kafka.send(topic, messages(range(3)))
    monkeypatch.setattr(delta, "commit", and_lose)
    with pytest.raises(Blocked, match=r"1 files of version 1 were deleted .* one of another name") as raised:
        score(job())
    assert "--rescore" not in str(raised.value)


def test_only_what_transactions_have_committed_is_scored(kafka, topic, job):
    kafka.send(topic, messages(range(2)), transaction="one")
    kafka.send(topic, messages(range(2, 4)), transaction="aborted one")
    kafka.send(topic, messages(range(4, 5)), partition=1)
    scores = job()
    assert score(scores).rows_scored == 3
    assert sorted(read("lake/scores")["id"].to_pylist()) == [0, 1, 4]
    assert positions(scores) == {0: 6, 1: 1}  # with the marks of both ends
    assert score(scores).status == "unchanged"


def test_messages_that_are_gone_stop_the_job_until_somebody_accepts_it(kafka, topic, job):
    kafka.send(topic, messages(range(3)))
    score(job())
    kafka.send(topic, messages(range(3, 9)))
    kafka.truncate(topic, 0, 5)
    with pytest.raises(Blocked, match=r"2 messages of partition 0 \(offsets 3 to 4\)"):
        score(job())
    told: list[str] = []
    result = score(job({"on_loss": "continue"}), say=lambda event, values: told.append(str(values.get("message"))))
    assert (result.rows_scored, positions(job())) == (4, {0: 9, 1: 0})
    assert any("offsets 3 to 4" in text for text in told)


def test_a_topic_made_anew_or_deleted_is_told(kafka, topic, job):
    kafka.send(topic, messages(range(3)))
    score(job())
    kafka.delete(topic)
    with pytest.raises(ConfigError, match=f"no topic '{topic}'"):
        score(job())
    kafka.create(topic)
    kafka.send(topic, messages(range(3, 5)))
    with pytest.raises(Blocked, match="made anew"):
        score(job())
    assert score(job({"on_loss": "continue"})).rows_scored == 2
    assert sorted(read("lake/scores")["id"].to_pylist()) == [0, 1, 2, 3, 4]


def test_a_partition_without_messages_is_no_new_one(kafka, topic, job):
    told: list[str] = []

    def noted() -> int:
        return sum("without a position" in text for text in told)

    def say(event: str, values: Any) -> None:
        told.append(str(values.get("message")))

    scores = job()
    for numbers in (range(2), range(2, 4), range(4, 4)):
        kafka.send(topic, messages(numbers))
        score(scores, say=say)
    assert (noted(), positions(scores)) == (0, {0: 4, 1: 0})
    kafka.add_partitions(topic, 3)
    for numbers in (range(4, 5), range(5, 6)):
        kafka.send(topic, messages(numbers))
        score(scores, say=say)
    assert (noted(), positions(scores)) == (1, {0: 6, 1: 0, 2: 0})


def test_partitions_that_are_added_are_read_from_their_beginning(kafka, topic, job):
    kafka.send(topic, messages(range(3)))
    kafka.send(topic, messages(range(3, 4)), partition=1)
    scores = job()
    score(scores)
    kafka.add_partitions(topic, 3)
    kafka.send(topic, messages(range(4, 6)), partition=2)
    assert (score(scores).rows_scored, positions(scores)) == (2, {0: 3, 1: 1, 2: 2})


def test_what_an_added_partition_lost_unseen_is_told_until_it_is_accepted(kafka, topic, job):
    kafka.send(topic, messages(range(3)))
    score(job())
    kafka.add_partitions(topic, 3)
    kafka.send(topic, messages(range(3, 7)), partition=2)
    kafka.truncate(topic, 2, 4)
    kafka.send(topic, messages(range(7, 8)), partition=1)
    with pytest.raises(Blocked, match=r"4 messages of partition 2 \(offsets 0 to 3\)"):
        score(job())
    assert (score(job({"on_loss": "continue"})).rows_scored, positions(job())) == (1, {0: 3, 1: 1, 2: 4})
    assert score(job()).status == "unchanged"


def test_a_run_takes_at_most_so_many_and_waits_for_enough(kafka, topic, job):
    kafka.send(topic, messages(range(10)))
    scores = job({"max_messages": 4, "min_rows": 3})
    assert [score(scores).rows_scored for _ in range(2)] == [4, 4]
    with pytest.raises(NotReady, match="2 rows"):
        score(scores)
    assert positions(scores) == {0: 8, 1: 0}


def test_who_logs_in_does_so_by_a_reference(kafka, topic, job, monkeypatch):
    kafka.send(topic, messages(range(2)))
    login = {
        "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": USER,
        "sasl.password": "env:SECRET",
    }  # fmt: skip
    scores = job({"servers": kafka.secured, "security": login})
    monkeypatch.setenv("SECRET", "another one")
    with pytest.raises(ConfigError, match="uthentication") as raised:
        score(scores)
    assert "another one" not in str(raised.value)
    monkeypatch.setenv("SECRET", PASSWORD)
    assert score(scores).rows_scored == 2


@pytest.mark.parametrize(
    ("security", "said"),
    [({}, "plaintext, as nothing is said"), ({"security.protocol": "SSL"}, "SSL")],
)
def test_a_listener_that_is_spoken_to_otherwise_than_it_wants_is_told_at_once(kafka, job, security, said):
    began = time.monotonic()
    with pytest.raises(Unavailable, match=rf"see source\.security \(security\.protocol is {said}\)"):
        score(job({"servers": kafka.secured, "security": security}))
    assert time.monotonic() - began < of_kafka.PATIENCE / 2


OAUTH = {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}


def test_a_login_by_a_token_says_where_it_is_to_be_had(job, monkeypatch):
    with pytest.raises(ConfigError, match=r"security\.sasl\.mechanism: .* nothing fetches a token.*oidc"):
        job({"security": OAUTH})
    with pytest.raises(ConfigError, match=r"nothing fetches a token"):
        job(publish_events=[{"type": "kafka", "servers": "127.0.0.1:9", "topic": "scored", "security": OAUTH}])
    monkeypatch.setattr("lakehouse.connectors.kafka.PATIENCE", 1.0)
    monkeypatch.setenv("SECRET", "secret")
    fetched = {
        "method": "oidc",
        "client.id": "x",
        "client.secret": "env:SECRET",
        "token.endpoint.url": "http://127.0.0.1:9/t",
    }
    named = {f"sasl.oauthbearer.{name}": value for name, value in fetched.items()}
    with pytest.raises(Unavailable, match=r"OAUTHBEARER token: .*: see source\.security, sasl\.oauthbearer"):
        score(job({"servers": "127.0.0.1:9", "security": OAUTH | named}))


@pytest.mark.parametrize(
    ("servers", "said"), [("127.0.0.1:9", "onnection refused"), ("nowhere.invalid:9092", "resolve")]
)
def test_brokers_that_can_not_be_reached_are_not_waited_for_as_long_as_an_answer_is(job, monkeypatch, servers, said):
    monkeypatch.setattr("lakehouse.connectors.kafka._UNREACHED", 1.0)
    with pytest.raises(Unavailable, match=rf"^{servers}: looking for the topic .*: no broker can be reached .*{said}"):
        score(job({"servers": servers}))


def test_brokers_that_do_not_answer_are_unavailable(job, monkeypatch):
    monkeypatch.setattr("lakehouse.connectors.kafka.PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        servers = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable, match=rf"^{servers}: looking for the topic .*Timed out"):
            score(job({"servers": servers}))


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"sinks": [{"type": "delta", "table": "lake/scores"}]}, "needs write: append"),
        ({"slice": {"day": "2026-01-02"}}, "append needs a job without slice"),
        ({"publish": {"hold": "always"}}, "publish.hold"),
        ({"source": {"table": "t"}}, "table: does not go together"),
        ({"source": {"where": "id > 1"}}, "where: does not go together"),
        ({"source": {"schema": {"id": "int"}}}, "'int' is no type"),
        ({"source": {"schema": {"id": "binary"}}}, "JSON has no bytes"),
        ({"source": {"schema": {"_offset": "long"}}}, "each message has anyway"),
        ({"source": {"format": "avro"}}, "exactly one of avro_schema and registry"),
        ({"source": {"start": "latest"}}, "neither earliest nor a time"),
        ({"source": {"start": "2026-01-02"}}, "must say its zone, such as 2026-01-02T00:00:00Z"),
        ({"source": {"security": {"sasl.password": "secret!"}}}, "not the secret itself"),
        ({"source": {"security": {"fetch.min.bytes": "1"}}}, "not about security"),
        ({"source": {"servers": "kafka://host:9092"}}, "write host:port"),
        ({"source": {"servers": "host"}}, "write host:port"),
        ({"source": {"servers": "host:9092, other:9092"}}, "' other:9092' is no broker"),
        ({"source": {"servers": "host:9092,"}}, "'' is no broker"),
        ({"source": {"max_messages": 9, "min_rows": 10}}, "no run would ever have enough"),
    ],
)
def test_what_does_not_go_together_is_refused(job, sections, said):
    with pytest.raises(ConfigError, match=said) as raised:
        job(sections.pop("source", None), **sections)
    assert "secret!" not in str(raised.value)


@pytest.mark.parametrize("key", ["job", "state", "sinks"])
def test_what_remembers_how_far_messages_are_scored_has_no_date(job, key):
    named = "{date}" if key != "sinks" else [{"type": "delta", "table": "lake/{date}", "write": "append"}]
    with pytest.raises(ConfigError, match=rf"{key}: {{date}} does not go together with source\.type: kafka"):
        job(**{key: named})  # whether a date is given or not


def test_a_date_is_taken_where_it_plays_a_part_and_refused_elsewhere(job, capfd):
    dated = ["--date", "2026-01-02"]
    for asked in (["score", "--engine", "local"], ["check", "--engine", "local"], ["status"]):
        refused = command.run(capfd, asked[0], job().path, *asked[1:], *dated)
        assert (refused.code, "--date plays no part" in refused.out + refused.err) == (2, True)
    path = job().path
    begins = ["--set", "source.start='{date}T00:00:00Z'"]
    assert command.run(capfd, "score", path, "--engine", "local", *begins, *dated).code == 0


def test_a_job_is_checked_though_nothing_new_has_come(kafka, topic, job, capfd):
    path = job({"min_rows": 3}).path
    checked = command.run(capfd, "check", path, "--engine", "local", "--json")
    step = checked.json["jobs"][0]["steps"]["predictions"]
    assert (checked.code, step["status"], step["found"].split(": ")[-1]) == (
        0,
        "unknown",
        "nothing new has come to score",
    )
    planned = command.run(capfd, "score", path, "--dry-run", "--engine", "local")
    assert (planned.code, "nothing new has come to score" in planned.out) == (0, True)
    with pytest.raises(NotReady, match="nothing new has come that could be shown"):
        lakehouse.preview(path, engine="local")
    kafka.send(topic, messages(range(2)))
    few = command.run(capfd, "check", path, "--engine", "local")
    assert (
        few.code,
        "2 rows to score, source.min_rows asks for 3: a run that finds no more ends as not ready (exit 6)" in few.out,
    ) == (
        0,
        True,
    )
    assert command.run(capfd, "score", path, "--engine", "local").code == 6


def test_a_feature_that_messages_are_not_declared_to_have_is_told_with_what_to_do(topic, job):
    with pytest.raises(ConfigError) as raised:
        score(job({"schema": {"id": "long", "b": "double"}}))
    said = f"the model's feature 'a' has no column 'a' in {topic}, known: b, id. If messages have it, add it to source.schema"
    assert said in str(raised.value)


def test_what_may_be_typed_after_a_run_takes_what_came_since(kafka, topic, job, capfd):
    path = job().path
    nothing = command.run(capfd, "score", path, "--engine", "local")
    assert nothing.out.startswith("UNCHANGED  lake/scores  nothing new has come  ")
    kafka.send(topic, messages(range(2)))
    ran = command.run(capfd, "score", path, "--engine", "local")
    assert "# again: what came since; with --follow it goes on by itself" in ran.out
    assert "UNCHANGED" not in ran.out


def test_events_to_the_topic_that_is_read_are_refused(job, kafka, topic):
    events = {"type": "kafka", "servers": kafka.servers, "topic": topic}
    with pytest.raises(ConfigError, match=r"publish_events\.1: the job reads that very stream"):
        job(publish_events=[{**events, "topic": "other"}, events])


@pytest.mark.parametrize("asked", [{"rescore": True}, {"hold": True}])
def test_what_would_score_messages_again_is_refused(job, asked):
    with pytest.raises(ConfigError, match=r"source\.type: kafka"):
        score(job(), **asked)


@pytest.mark.long
def test_on_spark_executors_read_the_partitions(kafka, topic, job, spark):
    kafka.send(topic, [*messages(range(50)), *POISON])
    kafka.send(topic, messages(range(50, 80)), partition=1)
    scores = job()
    result = score(scores, "spark")
    assert (result.rows_scored, result.rows_quarantined, result.engine) == (80, 5, "spark")
    assert score(scores, "spark").status == "unchanged"
    assert (len(set(places())), len(places("lake/scores_quarantine")), positions(scores)) == (80, 5, {0: 55, 1: 30})


@pytest.mark.long
@pytest.mark.parametrize("engine", ["local", "spark"])
def test_a_job_that_follows_scores_what_comes_and_finishes_the_run_at_hand(kafka, topic, job, engine, tmp_path):
    scores = job()
    assert_followed(scores, engine, lambda numbers: kafka.send(topic, messages(numbers)))
    assert places() == [(0, n) for n in range(9)]


def assert_followed(scores: Job, engine: str, send: Callable[[range], object]) -> None:
    """Assert that a job that follows scores what is sent, and finishes the run at hand when it is to stop."""
    send(range(3))
    command = [sys.executable, "-m", "lakehouse.cli", "score", scores.path, "--follow", "--every", "0.2"]
    with subprocess.Popen(
        [*command, "--engine", engine, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:  # fmt: skip
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["rows_scored"] == 3
        send(range(3, 5))
        assert json.loads(following.stdout.readline())["rows_scored"] == 2
        send(range(5, 9))
        time.sleep(0.3)
        following.send_signal(signal.SIGTERM)
        said, errors = following.communicate(timeout=120)
    assert following.returncode == 0, errors
    left = score(scores)
    *runs, last = map(json.loads, said.splitlines())
    assert (last["status"], last["published_runs"]) == ("stopped", 2 + len(runs))
    assert left.status in ("published", "unchanged")
    assert sorted(read("lake/scores")["id"].to_pylist()) == list(range(9))


def test_messages_that_can_not_be_read_are_no_part_of_checks_and_drift(kafka, topic, job, workspace):
    rule = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id", "mostly": 0.9}}
    by_gx = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "min_value": 0, "row_condition": "id >= 0", "condition_parser": "spark"}}  # fmt: skip
    (workspace / "features.json").write_text(json.dumps({"name": "features", "expectations": [rule, by_gx]}))
    drift = {"psi": 0.2, "action": "block"}
    scores = job(checks={"quarantine": {"max_fraction": 1.0}, "features": "features.json", "drift": drift})
    half = [message for number in range(40) for message in (*messages(range(number, number + 1)), b"no")]
    kafka.send(topic, half)
    assert [score(scores).rows_scored, read("lake/scores_quarantine").num_rows] == [40, 40]
    kafka.send(topic, messages(range(40)))
    assert score(scores).rows_scored == 40  # the baseline knows of no nulls


def test_check_says_why_the_model_could_not_be_tried(kafka, topic, job, capfd):
    kafka.send(topic, [b"<xml/>"] * 3)
    scores = job()
    said = "none of the rows that were looked at can be given to it, such as for: readable it is no JSON object"
    checked = command.run(capfd, "check", scores.path, "--engine", "local", "--json")
    step = checked.json["jobs"][0]["steps"]["predictions"]
    assert (checked.code, step["status"], said in step["found"]) == (0, "unknown", True)
    planned = command.run(capfd, "score", scores.path, "--engine", "local", "--dry-run")
    assert (planned.code, said in " ".join(planned.out.split())) == (0, True), planned.out
