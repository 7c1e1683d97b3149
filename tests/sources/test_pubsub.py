"""Pub/Sub as a source, on Google's own fake: each message is scored once, or set aside once, whatever happens to runs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest
from google.auth.exceptions import RefreshError

from lakehouse import checks, pipeline
from lakehouse.config import Job
from lakehouse.connectors import delta
from lakehouse.connectors import pubsub as of_pubsub
from lakehouse.connectors.messages import home_of
from lakehouse.connectors.pubsub import ends, leases, published, spool, uses
from lakehouse.connectors.pubsub.batches import Batch
from lakehouse.connectors.pubsub.leases import DEADLINE_S, Leases
from lakehouse.connectors.pubsub.spool import Spooled
from lakehouse.errors import Blocked, ConfigError, NotReady, Unavailable
from lakehouse.operations import sweep
from lakehouse.operations.leftover import TAKEN
from lakehouse.planning import naming
from lakehouse.runs import ledger
from lakehouse.sinks.target import Overtaken
from lakehouse.storage import locate
from tests.conftest import read, score
from tests.pubsub_server import PROJECT, Service, topic_path
from tests.sources.test_kafka import messages

POISON = [b"not json", b'{"id": 1, "a": "text"}', b"[1]", b""]
"""Messages that are no rows."""
PERMISSION_DENIED = 7
"""As gRPC has it."""


@pytest.fixture
def games(pubsub: Service) -> str:
    """A topic of this test's own, and its subscription."""
    return pubsub.create()


@pytest.fixture
def job(make_job, imputing, pubsub, games) -> Callable[..., Job]:
    """job(source keys, **sections): a job over the subscription, with the message's id as its key."""

    def make(source: dict[str, Any] | None = None, **sections: Any) -> Job:
        given = {
            "type": "pubsub", "subscription": games, "project": PROJECT, "endpoint": pubsub.endpoint,
            "schema": {"id": "long", "a": "double"}, "quiet_seconds": 1.5,
        }  # fmt: skip
        plain = {
            "keys": ["_topic", "_offset"],
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
    """What the scored table remembers."""
    snapshot = delta.open_table(locate("lake/scores"))
    known = snapshot.transaction_ids if snapshot else {}
    prefix = f"{job.job}/position/"
    return {name.removeprefix(prefix): at for name, at in known.items() if name.startswith(prefix)}


def test_each_run_scores_what_came_and_acknowledges_it(pubsub, games, job):
    scores = job()
    assert score(scores).status == "unchanged"
    pubsub.send(games, [*messages(range(3)), *POISON, *messages(range(3, 5))])
    first = score(scores)
    assert (first.status, first.rows_scored, first.rows_quarantined) == ("published", 5, 4)
    [position] = positions(scores).items()
    assert position[0] == f"{PROJECT}/{games}/batch"
    assert {message.acks for message in pubsub.messages(games)} == {1}
    assert score(scores).status == "unchanged"
    pubsub.send(games, messages(range(5, 7)))
    second = score(scores)
    assert (second.status, second.rows_scored, second.rows_quarantined) == ("published", 2, 0)
    assert positions(scores)[position[0]] > position[1]
    assert ids() == list(range(7))
    rows = read("lake/scores_quarantine").sort_by("_offset").to_pylist()
    sent = pubsub.messages(games)[3:7]
    assert [(r["_topic"], r["_offset"], r["_message"]) for r in rows] == [
        (games, message.id, message.data or None) for message in sent
    ]
    assert all(r["_timestamp"] is not None for r in rows)
    assert_dealt_with(pubsub, games)


def assert_dealt_with(pubsub: Service, games: str) -> None:
    """Assert that all messages are acknowledged, and nothing that was pulled is left in the state folder."""
    assert {message.acks for message in pubsub.messages(games)} == {1}
    left = Path("lake/scores_state").rglob("*.arrow")
    assert list(left) == []


def test_what_could_not_be_acknowledged_comes_again_and_is_left_out(pubsub, games, job):
    pubsub.send(games, [*messages(range(3)), *POISON])
    told: list[str] = []
    say = lambda event, values: told.append(str(values.get("message")))  # noqa: E731
    pubsub.fail("Acknowledge", PERMISSION_DENIED)
    assert score(job(), say=say).status == "published"
    assert any("could not all be acknowledged" in text for text in told)
    pubsub.send(games, messages(range(3, 5)))
    pubsub.forward(DEADLINE_S + 1)
    assert score(job(), say=say).rows_scored == 2
    assert any("7 messages came again that were published already" in text for text in told)
    assert ids() == list(range(5))
    assert_dealt_with(pubsub, games)


@pytest.mark.long
def test_where_all_was_published_already_nothing_changes_but_it_is_acknowledged(pubsub, games, job):
    pubsub.send(games, messages(range(3)))
    pubsub.fail("Acknowledge", PERMISSION_DENIED)
    score(job())
    pubsub.forward(DEADLINE_S + 1)
    assert score(job()).status == "unchanged"
    assert_dealt_with(pubsub, games)


def test_a_blocked_run_and_a_dry_one_leave_their_messages_to_the_next(pubsub, games, job):
    pubsub.send(games, [*messages(range(3)), *POISON])
    planned = score(job(), dry_run=True)
    assert (planned.status, planned.plan["rows_at_most"]) == ("planned", 7)
    with pytest.raises(Blocked, match="quarantine"):
        score(job(checks={"quarantine": {"max_fraction": 0.1}}))
    assert positions(job()) == {}
    assert score(job()).rows_scored == 3
    assert_dealt_with(pubsub, games)


def test_of_two_runs_at_once_one_is_published_and_what_the_other_took_comes_again(pubsub, games, job, monkeypatch):
    pubsub.send(games, messages(range(4)))
    scores, original = job(), checks.tally

    def meanwhile(*given: Any) -> Any:
        monkeypatch.setattr(checks, "tally", original)
        pubsub.send(games, messages(range(4, 6)))
        assert score(scores).rows_scored == 2
        return original(*given)

    monkeypatch.setattr(checks, "tally", meanwhile)
    with pytest.raises(Overtaken, match="meanwhile"):
        score(scores)
    assert ids() == [4, 5]
    assert score(scores).rows_scored == 4
    assert ids() == list(range(6))
    assert_dealt_with(pubsub, games)


def test_a_run_takes_at_most_so_many_and_waits_for_enough(pubsub, games, job):
    pubsub.send(games, messages(range(10)))
    scores = job({"max_messages": 4, "min_rows": 3})
    assert [score(scores).rows_scored for _ in range(2)] == [4, 4]
    with pytest.raises(NotReady, match="2 rows"):
        score(scores)
    assert score(job()).rows_scored == 2


@pytest.mark.long
def test_what_a_subscription_keeps_in_order_is_scored_in_order(pubsub, job):
    games = pubsub.create(enable_message_ordering=True)
    pubsub.send(games, messages(range(2)), key="one")
    pubsub.send(games, messages(range(2, 3)), key="other")
    scores, runs = job({"subscription": games}), list[list[int]]()
    for _ in range(2):
        score(scores)
        runs.append(ids())
    assert runs == [[0, 2], [0, 1, 2]]  # of each key the fake hands one out until that is acknowledged
    older(1)
    now_ns = time.time_ns()
    assert score(scores).status == "unchanged"
    assert emptied() > now_ns


def test_while_others_of_its_key_may_wait_for_a_message_only_what_came_before_it_is_dealt_with(
    pubsub, job, monkeypatch
):
    games = pubsub.create(enable_message_ordering=True)
    pubsub.send(games, messages(range(2)), key="one")
    pubsub.send(games, messages(range(2, 3)), key="other")
    scores = job({"subscription": games, **SHORT})
    day_ns, now_ns = 86_400 * 10**9, time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + day_ns)  # the fake's clock may be minutes ahead of ours
    assert score(scores).rows_scored == 2
    assert 0 < emptied() < now_ns() + day_ns // 2


@pytest.mark.long
def test_without_the_memory_of_what_was_published_a_run_stops_until_somebody_accepts_it(pubsub, games, job):
    pubsub.send(games, messages(range(3)))
    score(job())
    [memory] = Path("lake/scores_state/messages").rglob("*.parquet")
    memory.unlink()
    pubsub.send(games, messages(range(3, 5)))
    with pytest.raises(Blocked, match="does not say which messages were published"):
        score(job())
    assert score(job({"on_loss": "continue"})).rows_scored == 2
    pubsub.send(games, messages(range(5, 7)))
    assert score(job()).rows_scored == 2


@pytest.mark.long
def test_that_is_accepted_for_good_by_a_run_without_messages_too_but_not_by_a_dry_one(pubsub, games, job):
    pubsub.send(games, messages(range(3)))
    score(job())
    shutil.rmtree("lake/scores_state/messages")
    accepted = job({"on_loss": "continue"})
    assert score(accepted, dry_run=True).status == "planned"
    with pytest.raises(Blocked, match="does not say which messages were published"):
        score(job())
    assert score(accepted).status == "unchanged"
    assert score(job()).status == "unchanged"


SHORT = {"quiet_seconds": 0.4}


def forgotten(pubsub: Service, games: str, job: Callable[..., Job]) -> None:
    """Have the memory be gone of what was published, and new messages be there."""
    pubsub.send(games, messages(range(3)))
    score(job(SHORT))
    shutil.rmtree("lake/scores_state/messages")
    pubsub.send(games, messages(range(3, 5)))


def test_a_run_that_dies_before_it_can_be_finished_accepts_no_loss(pubsub, games, job, monkeypatch):
    forgotten(pubsub, games, job)
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "save_intent", no_disk)
        with pytest.raises(OSError, match="no disk"):
            score(job({**SHORT, "on_loss": "continue"}))
    with pytest.raises(Blocked, match="does not say which messages were published"):
        score(job(SHORT))


def no_disk(*given: Any) -> None:
    raise OSError("no disk")


@pytest.mark.long
@pytest.mark.parametrize("dies_at", ["commit", "acknowledgement"])
def test_a_loss_that_was_accepted_stays_so_when_another_run_finishes_what_was_begun(
    pubsub, games, job, monkeypatch, dies_at
):
    forgotten(pubsub, games, job)
    with monkeypatch.context() as patched:
        if dies_at == "commit":
            patched.setattr(pipeline, "carry_out", no_disk)
            with pytest.raises(OSError, match="no disk"):
                score(job({"on_loss": "continue"}))
        else:
            patched.setattr(Batch, "settle", no_disk)
            assert score(job({"on_loss": "continue"})).rows_scored == 2
    pubsub.send(games, messages(range(5, 7)))
    score(job())
    assert ids() == list(range(7))
    assert score(job()).status == "unchanged"
    assert_dealt_with(pubsub, games)


@pytest.mark.long
@pytest.mark.parametrize("dies", [False, True])
def test_while_another_run_holds_messages_none_has_come_to_their_end(pubsub, games, job, monkeypatch, dies):
    pubsub.send(games, messages(range(2)))
    scores, original, give_back = job(), checks.tally, Leases.give_back
    score(scores)
    older(1)
    at = emptied()
    pubsub.send(games, messages(range(2, 6)))
    told = list[int]()

    def meanwhile(*given: Any) -> Any:
        monkeypatch.setattr(checks, "tally", original)
        pubsub.send(games, messages(range(6, 8)))
        assert score(scores).rows_scored == 2
        told.append(emptied())
        if dies:
            monkeypatch.setattr(Leases, "give_back", lambda self: False)
        return original(*given)

    monkeypatch.setattr(checks, "tally", meanwhile)
    with pytest.raises(Overtaken):
        score(scores)
    assert told == [at]
    if dies:
        monkeypatch.setattr(Leases, "give_back", give_back)
        assert (score(scores).status, emptied()) == ("unchanged", at)
        [note] = Path("lake/scores_state/messages/uses").rglob("*-[1-9]*.json")
        said = json.loads(note.read_text())
        note.write_text(json.dumps({**said, "at": said["at"] - 300 * 1_000_000_000}))
        pubsub.forward(DEADLINE_S + 1)
    assert score(scores).rows_scored == 4
    assert emptied() > at


def emptied() -> int:
    """When the job's runs last came to the end of the messages, as they have kept it; 0 where they have not."""
    found = list(Path("lake/scores_state/messages").rglob("emptied.json"))
    return json.loads(found[0].read_text())["at"] if found else 0


def older(days: float) -> None:
    """Have what they kept be so much older."""
    [kept] = Path("lake/scores_state/messages").rglob("emptied.json")
    said = json.loads(kept.read_text())
    kept.write_text(json.dumps({**said, "at": said["at"] - int(days * 86_400) * 1_000_000_000}))


def test_another_job_over_the_subscription_is_told_and_so_is_a_former_name(pubsub, games, job):
    told: list[str] = []
    say = lambda event, values: told.append(str(values.get("message")))  # noqa: E731
    short = {"quiet_seconds": 0.4}
    score(job(short))
    score(job(short), say=say)
    assert not any("took messages" in text for text in told)
    score(job(short, job="other"), say=say)
    assert any("the job scores took messages of it as well" in text for text in told)


@pytest.mark.long
def test_what_goes_wrong_while_messages_are_kept_does_not_end_that(pubsub, games, monkeypatch):
    monkeypatch.setattr(leases, "_RENEW_S", 0.05)
    pubsub.send(games, messages(range(3)))
    failures, said = [OSError("no way"), grpc.RpcError(), RefreshError("no login")], list[bool]()
    with of_pubsub.client_of("SubscriberClient", of_pubsub.Place(PROJECT, pubsub.endpoint)) as client:
        found = of_pubsub.look(client, of_pubsub.Place(PROJECT, pubsub.endpoint), games)

        def word() -> None:
            said.append(True)
            raise OSError("no disk")

        held = Leases(client, found, word)
        extend = held._extend

        def failing(ids: Any, seconds: int) -> None:
            if threading.current_thread().name == "leases" and failures:
                raise failures.pop()
            extend(ids, seconds)

        held._extend = failing  # type: ignore[method-assign]
        assert sum(len(got) for got in held.pull(10, 1.0)) == 3
        deadline = time.monotonic() + 20
        while len(said) < 6 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (failures, len(said) >= 6) == ([], True)
        held.acknowledge()


def test_no_more_messages_are_asked_for_at_once_than_fit_by_their_size(pubsub, games, job, monkeypatch):
    rows = [json.dumps({"id": n, "a": 0.5, "more": "x" * 20_000}).encode() for n in range(500)]
    for start in range(0, 500, 100):  # a request takes 4 MB
        pubsub.send(games, rows[start : start + 100])
    monkeypatch.setattr(leases, "LOT_BYTES", 1 << 20)
    pull, asked = Leases._pull, list[int]()

    def counted(self, most, quiet_s):
        asked.append(most)
        return pull(self, most, quiet_s)

    monkeypatch.setattr(Leases, "_pull", counted)
    assert score(job()).rows_scored == 500
    assert (set(asked[:4]), max(asked[4:])) == ({100}, 13)  # 1 MiB / 4 / 20 kB


@pytest.mark.long
def test_messages_that_retention_may_have_deleted_stop_the_run_until_somebody_accepts_it(pubsub, games, job):
    pubsub.send(games, messages(range(3)))
    score(job())
    [emptied] = Path("lake/scores_state/messages").rglob("emptied.json")
    said = json.loads(emptied.read_text())
    emptied.write_text(json.dumps({**said, "at": said["at"] - 8 * 86_400 * 1_000_000_000}))
    pubsub.send(games, messages(range(3, 5)))
    with pytest.raises(Blocked, match="keeps them for 7 days"):
        score(job())
    assert score(job({"on_loss": "continue"})).rows_scored == 2
    assert score(job()).status == "unchanged"


def test_that_holds_as_well_where_no_run_ever_came_to_the_end(pubsub, games, job):
    pubsub.send(games, messages(range(5)))
    assert score(job({"max_messages": 2})).rows_scored == 2
    [first] = Path("lake/scores_state/messages").rglob("emptied.json")
    said = json.loads(first.read_text())
    assert score(job({"max_messages": 2})).rows_scored == 2
    assert json.loads(first.read_text()) == said
    first.write_text(json.dumps({**said, "at": said["at"] - 8 * 86_400 * 1_000_000_000}))
    with pytest.raises(Blocked, match="no run has come to the end of the messages since"):
        score(job())


def test_an_answer_without_messages_that_comes_early_is_not_the_end(pubsub, games, job, monkeypatch):
    pubsub.send(games, messages(range(3)))
    pull, asked = Leases._pull, list[int]()

    def early(self, most, quiet_s):
        asked.append(most)
        return [] if len(asked) <= 4 else pull(self, most, quiet_s)

    monkeypatch.setattr(Leases, "_pull", early)
    assert score(job()).rows_scored == 3


@pytest.mark.long
def test_answers_may_be_larger_than_grpc_takes_by_itself(pubsub, games, job):
    rows = [json.dumps({"id": n, "a": 0.5, "more": "x" * 900_000}).encode() for n in range(6)]
    for row in rows:
        pubsub.send(games, [row])
    assert (score(job()).rows_scored, ids()) == (6, list(range(6)))


@pytest.mark.long
def test_a_sweep_takes_away_what_no_run_can_publish(pubsub, games, job):
    pubsub.send(games, messages(range(3)))
    scores = job()
    score(scores)
    [(name, at)] = positions(scores).items()
    home = home_of(naming.state_of(scores), scores.job, name.removesuffix("/batch")).join("batches")
    for number in (at - 1, at, at + 1):
        spool.write(Spooled(home, 0, number), 0, lot(1, 2))
    assert [one.kept for one in sweep.sweep(scores, take_away=True) if one.what == TAKEN] == [
        None, "its run may be under way: it goes when it is a day old",
    ]  # fmt: skip
    assert sorted(one.number for one in spool.batches(home)) == [at, at + 1]


@pytest.mark.long
def test_a_dead_letter_topic_is_accepted_or_stops_the_run(pubsub, games, job):
    policy = {"dead_letter_topic": topic_path(pubsub.create()), "max_delivery_attempts": 5}
    pubsub.subscribe(f"{games}-dead", games, dead_letter_policy=policy)
    pubsub.send(games, messages(range(2)))
    source = {"subscription": f"{games}-dead"}
    with pytest.raises(Blocked, match=r"handed out 5 times.*on_loss: continue"):
        score(job(source))
    assert score(job({**source, "on_loss": "continue"})).rows_scored == 2


@pytest.mark.long
def test_what_is_left_of_a_deleted_topic_is_scored(pubsub, games, job):
    pubsub.send(games, messages(range(2)))
    pubsub.delete_topic(games)
    assert score(job()).rows_scored == 2
    with pytest.raises(ConfigError, match="topic of the subscription was deleted"):
        score(job())


def test_a_subscription_that_is_not_there_or_may_not_be_read_is_told(pubsub, games, job):
    with pytest.raises(ConfigError, match=f"there is none: subscription {games}s of project tests .*mean '{games}'"):
        score(job({"subscription": f"{games}s"}))
    pubsub.fail("GetSubscription", PERMISSION_DENIED)
    with pytest.raises(ConfigError, match="login of Google's own tools"):
        score(job())
    pubsub.detach(games)
    with pytest.raises(ConfigError, match="detached from its topic"):
        score(job())
    pubsub.subscribe(f"{games}-push", games, push_config={"push_endpoint": "https://example.com/push"})
    with pytest.raises(ConfigError, match=r"pushes its messages to https://example\.com/push"):
        score(job({"subscription": f"{games}-push"}))


def test_a_service_that_does_not_answer_is_unavailable(job, monkeypatch):
    monkeypatch.setattr(of_pubsub, "PATIENCE", 1.0)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9.*[Cc]onnect"):
        score(job({"endpoint": "http://127.0.0.1:9"}))


def test_without_a_login_or_a_project_it_says_so(job, monkeypatch, tmp_path):
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    with pytest.raises(ConfigError, match=r"an emulator tells no project: give `project`"):
        score(job({"project": None}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ConfigError, match=r"none\.json.*login of Google's own tools"):
        score(job({"endpoint": None}))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"start": "2026-01-02T00:00:00Z"}, "start"),
        (
            {"subscription": "projects/tests/subscriptions/games"},
            "source.subscription: must be .*give the bare name, games",
        ),
        ({"subscription": "ab"}, "must be 3 to 255 letters, digits, .*, the first a letter, not 'ab'"),
        ({"schema": {"_offset": "long"}}, "each message has anyway"),
    ],
)
def test_what_does_not_go_together_is_refused(job, source, said):
    with pytest.raises(ConfigError, match=said):
        job(source)


@pytest.mark.long
def test_a_table_in_snowflake_remembers_the_batch_in_its_ledger(pubsub, games, job, account):
    pubsub.send(games, [*messages(range(3)), *POISON])
    sink = {"type": "snowflake", "connection": account.name, "table": account.table("scores"), "write": "append"}
    scores = job(sinks=[sink], state="lake/scores_state")
    pubsub.fail("Acknowledge", PERMISSION_DENIED)
    assert score(scores).rows_scored == 3
    pubsub.send(games, messages(range(3, 5)))
    pubsub.forward(DEADLINE_S + 1)
    assert [score(scores).rows_scored, score(scores).status] == [2, "unchanged"]
    assert sorted(account.run("SELECT id FROM scores")) == [(n,) for n in range(5)]
    assert len(account.run("SELECT * FROM scores_quarantine")) == 4
    assert_dealt_with(pubsub, games)


@pytest.mark.long
def test_on_spark_executors_read_what_the_driver_pulled(pubsub, games, job, spark):
    pubsub.send(games, [*messages(range(30_000)), *POISON])
    scores = job()
    result = score(scores, "spark")
    assert (result.rows_scored, result.rows_quarantined, result.engine) == (30_000, 4, "spark")
    assert score(scores, "spark").status == "unchanged"
    assert ids() == list(range(30_000))
    assert_dealt_with(pubsub, games)


@pytest.mark.long
def test_messages_in_arrow_are_scored(pubsub, games, job):
    rows, sink = pa.table({"id": [2, 3], "a": [1.0, 1.5]}), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    pubsub.send(games, [sink.getvalue().to_pybytes(), b"no"])
    result = score(job({"format": "arrow", "min_rows": 3}))  # of two messages
    assert (result.rows_scored, result.rows_quarantined, ids()) == (2, 1, [2, 3])


@pytest.mark.long
def test_a_job_that_follows_scores_what_comes_and_finishes_the_run_at_hand(pubsub, games, job):
    pubsub.send(games, messages(range(3)))
    scores = job()
    command = [sys.executable, "-m", "lakehouse.cli", "score", scores.path, "--follow", "--every", "0.2"]
    with subprocess.Popen(
        [*command, "--engine", "local", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["rows_scored"] == 3
        pubsub.send(games, messages(range(3, 5)))
        assert json.loads(following.stdout.readline())["rows_scored"] == 2
        pubsub.send(games, messages(range(5, 9)))
        time.sleep(0.3)
        following.send_signal(signal.SIGTERM)
        said, errors = following.communicate(timeout=120)
    assert following.returncode == 0, errors
    assert json.loads(said.splitlines()[-1])["status"] == "stopped"
    score(scores)
    assert ids() == list(range(9))
    assert_dealt_with(pubsub, games)


def test_notes_that_are_broken_are_told_and_made_anew_and_strange_files_left_alone(pubsub, games, job):
    pubsub.send(games, messages(range(3)))
    score(job(SHORT))
    [note] = Path("lake/scores_state/messages/uses").rglob("*-0.json")
    note.write_text('{"format": 1}')
    [memory] = Path("lake/scores_state/messages").rglob("*.parquet")
    memory.with_name("a-b-c-d-e.parquet").write_text("")
    told: list[str] = []
    assert score(job(SHORT), say=lambda event, values: told.append(str(values.get("message")))).status == "unchanged"
    assert any("a note of who takes messages, can't be read (it has no 'job')" in text for text in told)
    assert json.loads(note.read_text())["job"] == "scores"


def test_a_run_whose_note_is_broken_is_taken_to_hold_messages_for_a_while(tmp_path):
    folder, doubts, now_ns = locate(str(tmp_path)), list[str](), 10**18
    (tmp_path / "0123456789abcdef-17.json").write_text("")
    (tmp_path / "0123456789abcdef-0.json").write_text("[]")
    [use] = uses.of(folder, now_ns, 1, doubts)
    assert (use, len(doubts), use.holds(now_ns)) == (uses.Use("", 17, now_ns), 2, True)
    [use] = uses.of(folder, now_ns + 300 * 10**9, 1, doubts)
    assert (use, len(doubts), use.holds(now_ns + 300 * 10**9)) == (uses.Use("", 17, now_ns), 2, False)


def test_a_note_of_the_end_that_is_broken_is_refused_with_what_moving_it_away_costs(tmp_path):
    (tmp_path / "emptied.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"emptied.json, .*move it away: what retention has deleted unseen"):
        ends.last(locate(str(tmp_path)))


def test_ids_are_found_by_the_batches_that_lead_to_the_position(tmp_path):
    """Small files are merged, and one that no position leads to doesn't count."""
    home = locate(str(tmp_path))
    sizes, before = [100, 40, 30, 300], 0
    for number, size in enumerate(sizes, 1):
        spooled = Spooled(home.join("batches"), before, number)
        spool.write(spooled, 0, lot(number, size))
        published.remember(home.join("published"), spooled, 0)
        before = number
    there = published.files(home.join("published"))
    assert sorted((file.before, file.last, file.rows) for file in there) == [(0, 4, 470)]
    lost = Spooled(home.join("batches"), 2, 9)
    spool.write(lost, 0, lot(9, 5))
    published.remember(home.join("published"), lost, 0)
    found, missing = published.chain(published.files(home.join("published")), 4)
    asked = pa.concat_tables([lot(number, 2) for number in (1, 3, 7, 9)])
    assert missing == 0
    assert published.among(home.join("published"), found, asked) == {"1-0", "1-1", "3-0", "3-1"}
    assert published.chain(published.files(home.join("published")), 5) == ([], 5)
    published.forgo(home.join("published"), 5)
    [forgone], missing = published.chain(published.files(home.join("published")), 5)
    assert (missing, published.among(home.join("published"), [forgone], asked)) == (0, set())
    after = Spooled(home.join("batches"), 5, 6)
    spool.write(after, 0, lot(6, 500))
    published.remember(home.join("published"), after, 0)
    assert [(one.before, one.rows) for one in published.chain(published.files(home.join("published")), 6)[0]] == [
        (0, 500)
    ]
    assert published.chain([published.Published(3, 4, 0, 1, 1), *there], 4) == (there, 0)  # merged, and not removed yet


def lot(number: int, rows: int) -> pa.Table:
    """Messages of one batch, of a time of its own."""
    given = {
        "id": [f"{number}-{n}" for n in range(rows)], "time": [number * 1_000 + n for n in range(rows)],
        "key": [None] * rows, "data": [b"{}"] * rows,
    }  # fmt: skip
    return pa.table(given, pa.schema([*spool.SCHEMA]).set(1, pa.field("time", pa.int64()))).cast(spool.SCHEMA)
