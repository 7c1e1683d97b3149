"""Receivers on loopback get each outcome of a run once; one that fails costs a warning, and the run goes on."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.config import load_job
from lakehouse.errors import Blocked, ConfigError
from lakehouse.observe import watching
from lakehouse.operations import review
from lakehouse.operations.backfill import Asked, backfill
from lakehouse.operations.rollback import rollback
from lakehouse.pipeline import Request, new_run_id
from lakehouse.planning import naming
from lakehouse.runs import ledger
from tests.conftest import score, version, write
from tests.observe.receiver import receiving

DAY, MOVED, HELD, BAD = "2026-01-02", "2026-01-03", "2026-01-04", "2026-01-05"
ALL = ["blocked", "failed", "drifted", "held", "published", "rolled_back", "discarded"]


@pytest.fixture
def receiver():
    with receiving() as kept:
        yield kept


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"]), x)


@pytest.fixture
def daily(make_job, uri, receiver, monkeypatch):
    """daily(day, …): a job that tells a receiver of each type; its URLs are in variables of the environment."""
    write("lake/features", pa.table({"id": np.arange(40), "a": np.linspace(0, 4, 40), "day": [DAY] * 40}))
    types = ("slack", "teams", "webhook")
    for kind in types:
        monkeypatch.setenv(f"THEIR_{kind.upper()}", f"{receiver.url}/{kind}/s3cr3t")
    told = [{"type": kind, "url": f"${{THEIR_{kind.upper()}}}", "on": ALL} for kind in types]

    def make(day=DAY, notify=told, **sections):
        checks = {"drift": {"psi": 0.2}, **sections.pop("checks", {})}
        source = {"where": "day = '{date}'", **sections.pop("source", {})}
        return make_job(
            uri, date=day, source=source, slice={"score_date": "{date}"}, checks=checks,
            notify=notify, **sections,
        )  # fmt: skip

    return make


def one(kind, url):
    return [{"type": kind, "url": url, "on": ALL}]


def sent(receiver, path="/webhook/s3cr3t"):
    return [json.loads(body) for at, body in receiver.came if at == path]


def test_each_receiver_gets_each_outcome_once(daily, receiver):
    write("lake/features", pa.table({"id": np.arange(40), "a": np.linspace(9, 14, 40), "day": [MOVED] * 40}))
    write("lake/features", pa.table({"id": np.arange(40), "a": np.linspace(0, 4, 40), "day": [HELD] * 40}))
    ids = pa.array([None, *range(39)], pa.int64())
    write("lake/features", pa.table({"id": ids, "a": np.linspace(0, 4, 40), "day": [BAD] * 40}))
    score(daily())
    score(daily())  # unchanged: nothing to tell
    score(daily(MOVED))
    held = score(daily(HELD), hold=True)
    score(daily(HELD), hold=True)  # it is held already
    with pytest.raises(Blocked):
        score(daily(BAD))
    with pytest.raises(ConfigError):
        score(daily(source={"table": "lake/nowhere"}))
    _, waits = review.find(daily, held.run_id)
    review.publish(daily(HELD), waits, asked(held.run_id))
    said = Counter((m["outcome"], m["date"]) for m in sent(receiver))
    assert said == Counter(
        [("published", DAY), ("published", MOVED), ("drifted", MOVED), ("held", HELD), ("published", HELD),
         ("blocked", BAD), ("failed", DAY)]
    )  # fmt: skip
    assert Counter(at for at, _ in receiver.came) == {"/slack/s3cr3t": 7, "/teams/s3cr3t": 7, "/webhook/s3cr3t": 7}


def test_what_a_person_takes_back_is_told_once(daily, receiver):
    first, second = score(daily()), score(daily(), rescore=True)
    held = score(daily(), rescore=True, hold=True)
    receiver.came.clear()
    _, waits = review.find(daily, held.run_id)
    review.discard(daily(), waits, asked(held.run_id))
    back = rollback(daily(), asked())
    with pytest.raises(ConfigError, match="no earlier generation"):  # nothing has changed: nothing is told
        rollback(daily(MOVED), asked())
    said = {m["outcome"]: m for m in sent(receiver)}
    assert {outcome: m["run_id"] for outcome, m in said.items()} == {
        "discarded": held.run_id,
        "rolled_back": back.run_id,
    }
    assert said["rolled_back"]["message"] == f"rolled back: run {first.run_id} again, instead of run {second.run_id}"
    assert said["rolled_back"]["tables"] == list(map(dict, back.sinks))
    assert (said["discarded"]["message"], said["discarded"]["rows"]["scored"]) == ("it was held because of --hold", 40)
    assert Counter(at for at, _ in receiver.came) == {"/slack/s3cr3t": 2, "/teams/s3cr3t": 2, "/webhook/s3cr3t": 2}
    texts = [json.loads(body)["text"] for at, body in receiver.came if at == "/slack/s3cr3t"]
    assert texts == [f"DISCARDED: scores {DAY}", f"ROLLED BACK: scores {DAY}"]


def asked(run_id=""):
    return Request("local", ledger.now(), run_id or new_run_id())


def test_a_rollback_that_had_stopped_half_way_is_told_by_the_run_that_finishes_it(daily, receiver, monkeypatch):
    from lakehouse.sinks import delta as sink

    score(daily(notify=[]))
    score(daily(notify=[]), rescore=True)
    with monkeypatch.context() as patched:
        patched.setattr(sink, "publish", lambda *_: sys.exit())
        with pytest.raises(SystemExit):
            rollback(daily(notify=[]), asked())
    score(daily())
    assert [m["outcome"] for m in sent(receiver)] == ["rolled_back"]


def test_the_generic_message_is_the_runs_result(daily, receiver):
    result = score(daily(notify=one("webhook", f"{receiver.url}/webhook/s3cr3t")))
    [said] = sent(receiver)
    assert said.pop("at")
    assert said.pop("seconds") == result.seconds
    assert said == {
        "format": 1, "id": f"{result.run_id}/published", "outcome": "published", "job": "scores",
        "run_id": result.run_id, "date": DAY, "slice": {"score_date": DAY}, "status": "published", "exit_code": 0,
        "message": "", "rows": {"read": 40, "scored": 40, "quarantined": 0}, "model": dict(result.model),
        "input": {"table": "lake/features", "version": 0}, "tables": list(map(dict, result.sinks)),
        "checks": dict(result.checks), "drift": {}, "engine": "local",
    }  # fmt: skip


def test_what_people_read_names_run_rows_and_reason_but_no_row(daily, receiver):
    write("lake/features", pa.table({"id": pa.array([None, 77], pa.int64()), "a": [0.5, 0.25], "day": [BAD] * 2}))
    with pytest.raises(Blocked, match="id=None"):
        score(daily(BAD))
    slack, teams = (json.loads(dict(receiver.came)[f"/{kind}/s3cr3t"]) for kind in ("slack", "teams"))
    card = teams["attachments"][0]["content"]
    assert slack["text"] == card["body"][0]["text"] == "BLOCKED: scores 2026-01-05"
    for text in (json.dumps(slack), json.dumps(card)):
        assert "1 of 2 rows (50.00%) went to quarantine" in text
        assert "read 2 = scored 1 + quarantined 1" in text
        assert "id=None" not in text


def test_a_receiver_section_changes_no_fingerprint(daily, receiver):
    score(daily(notify=[]))
    before = version("lake/scores")
    assert score(daily()).status == "unchanged"
    assert version("lake/scores") == before
    assert score(daily(source={"table": "lake/features"}), dry_run=True).status == "planned"
    assert receiver.came == []


@pytest.mark.long
def test_a_receiver_that_answers_500_once_is_asked_again(daily, receiver):
    receiver.answers = [503]
    warned = warnings_of(daily(notify=one("webhook", receiver.url)))
    assert (len(receiver.came), warned) == (2, [])


@pytest.mark.parametrize(
    ("answers", "times"), [([500] * 9, 2), pytest.param([404], 1, marks=pytest.mark.long), ([302], 1)]
)
def test_one_that_refuses_costs_a_warning(daily, receiver, answers, times):
    receiver.answers = list(answers)
    [warned] = warnings_of(daily(notify=one("slack", f"{receiver.url}/s3cr3t")))
    assert warned.startswith(f"notify.0 (slack) could not be told of the run: it answered {answers[0]} ")
    assert len(receiver.came) == times


def test_one_that_hangs_costs_a_few_seconds_and_a_warning(daily, receiver):
    receiver.hangs = True
    several = [*one("slack", f"{receiver.url}/s3cr3t"), *one("teams", f"{receiver.url}/s3cr3t")]
    begun = time.process_time()
    warned = warnings_of(daily(notify=several))
    assert [text.partition(" could")[0] for text in warned] == ["notify.0 (slack)", "notify.1 (teams)"]
    assert all("did not answer in time" in text for text in warned)
    assert len(receiver.came) == 2  # not again: it may have been taken
    assert time.process_time() - begun < 60


def test_one_that_hangs_costs_a_backfill_its_seconds_once(daily, receiver):
    for day in (MOVED, HELD):
        write("lake/features", pa.table({"id": np.arange(40), "a": np.linspace(0, 4, 40), "day": [day] * 40}))
    receiver.hangs = True
    daily(notify=one("webhook", receiver.url))
    asked = Asked("conf/scores.yaml", engine="local")
    found = backfill(asked, [DAY, MOVED, HELD])
    assert [outcome.status for outcome in found] == ["published"] * 3
    assert len(receiver.came) == 1
    first, second, third = (outcome.warnings for outcome in found)
    assert [text.partition(":")[0] for text in first] == ["notify.0 (webhook) could not be told of the run"]
    [said] = second
    assert said.startswith("notify.0 (webhook) is told of no run of scores before ")
    assert third == ()
    receiver.hangs = False
    for rest in watching._resting.values():
        rest.over = 0.0  # ten minutes have gone
    assert [outcome.warnings for outcome in backfill(replace(asked, rescore=True), [DAY])] == [()]
    assert len(receiver.came) == 2


def test_one_that_is_not_there_costs_a_warning(daily):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    [warned] = warnings_of(daily(notify=one("webhook", f"http://127.0.0.1:{port}/s3cr3t")))
    assert warned == "notify.0 (webhook) could not be told of the run: it can't be reached: Connection refused"


def test_one_who_never_comes_back_is_left_behind(daily, monkeypatch):
    monkeypatch.setattr(watching, "PATIENCE_S", 0.2)
    monkeypatch.setattr("lakehouse.observe.notify.post", lambda *_: time.sleep(30))
    [warned] = warnings_of(daily(notify=one("webhook", "http://127.0.0.1:9/")))
    assert warned.endswith("no answer within 0.2 s")


def warnings_of(job):
    """What a run that is published warns of."""
    told = []
    result = score(job, say=lambda event, values: told.append(values["message"]) if event == "warning" else None)
    assert result.status == "published"
    assert not any("s3cr3t" in text for text in told)
    return told


def test_a_url_is_shown_nowhere(daily, make_job, uri):
    assert "s3cr3t" not in repr(daily())
    assert "s3cr3t" not in json.dumps(daily().model_dump(mode="json"), default=str)
    with pytest.raises(ConfigError) as refused:
        make_job(uri, notify=[{"type": "slack", "url": "hooks.example.com/s3cr3t"}])
    assert "must begin with https:// or http://" in str(refused.value)
    assert "s3cr3t" not in str(refused.value)


def test_on_is_a_key_though_yaml_reads_it_as_true(daily, workspace):
    daily()
    conf = workspace / "conf" / "scores.yaml"
    conf.write_text(
        conf.read_text().partition("notify:")[0] + "notify:\n- {type: slack, url: '${THEIR_SLACK}', on: [held]}\n"
    )
    assert load_job(conf, date=DAY, environ=os.environ).notify[0].on == ("held",)


def test_an_unknown_outcome_names_those_there_are(make_job, uri):
    with pytest.raises(ConfigError, match="'rolled_back' or 'discarded', not 'done'"):
        make_job(uri, notify=[{"type": "slack", "url": "http://x/", "on": ["done"]}])


def test_a_run_that_another_one_finishes_is_told_of_by_that_one(daily, receiver, monkeypatch):
    from lakehouse.sinks import delta as sink

    published = sink.publish

    def killed(*_):
        raise SystemExit

    monkeypatch.setattr(sink, "publish", killed)
    with pytest.raises(SystemExit):
        score(daily(notify=[]))
    monkeypatch.setattr(sink, "publish", published)
    assert score(daily()).status == "published"
    record = ledger.runs(naming.state_of(daily()), "scores")[0]
    assert [(m["outcome"], m["run_id"]) for m in sent(receiver)] == [("published", record["run_id"])]
    assert record["run_id"] != new_run_id()
