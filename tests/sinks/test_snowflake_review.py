"""Held runs and rollbacks of tables in Snowflake: what was reviewed is what is loaded, what was live is live again."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.config import load_job
from lakehouse.errors import Blocked, ConfigError, LakehouseError, Unavailable
from lakehouse.operations import comparison, difference, maintenance, reconciling, review, sweep
from lakehouse.operations.counterpart import Asked
from lakehouse.operations.leftover import STAGED
from lakehouse.operations.rollback import rollback
from lakehouse.pipeline import Request, new_run_id
from lakehouse.planning import naming
from lakehouse.runs import ledger
from tests.command import run
from tests.conftest import read, score, write
from tests.sinks.test_snowflake_sink import (
    DAY,
    MODEL,
    NEXT,
    REQUESTS,
    Crash,
    X,
    bad_features,
    crash_at,
    features,
    job_into,
    scores,
)


@pytest.fixture(scope="module")
def uri(register):
    return register(MODEL, X, method="predict_proba")


@pytest.fixture
def daily(make_job, uri, account):
    return job_into(account, make_job, uri)


@pytest.fixture
def live(account):
    """live() → the scored table's rows as `scores` has them."""

    def rows():
        found = account.run("SELECT id, country, p, TO_VARCHAR(score_date) FROM scores")
        return sorted((i, c, round(p, 9), d) for i, c, p, d in found)

    return rows


def load(day):
    return load_job("conf/scores.yaml", date=day, environ={})


def publish(named):
    job, waits = review.find(load, named)
    return review.publish(job, waits, Request("local", ledger.now(), waits.intent.run_id))


def staged():
    return {p.name: p.read_bytes() for p in Path("state/staged/sink").rglob("*.parquet")}


def tables(account):
    return {
        name
        for (name,) in account.run(
            f"SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = '{account.schema}'"
        )
    }


def changing(account):
    return [sql for sql, _ in account.server.statements() if not re.match("SELECT|BEGIN|SHOW|DESCRIBE|LIST", sql)]


def test_nothing_is_written_until_it_is_published_and_then_those_very_files_are_loaded(daily, account, live):
    write("lake/features", bad_features(), ["day"])
    job = daily(checks={"quarantine": {"max_fraction": 0.1}})
    result = score(job, hold=True)
    assert (result.status, result.rows_scored, result.rows_quarantined) == ("held", 38, 2)
    assert (tables(account), changing(account)) == (set(), [])
    files = staged()
    reviewed = [pq.read_table(pa.BufferReader(content)) for content in files.values()]
    (left, *_) = sweep.sweep(job, take_away=True)
    assert (staged(), str(left.kept)[:4]) == (files, "held")

    write("lake/features", bad_features(shift=0.7), ["day"], mode="overwrite")
    done = publish(result.run_id[:8])
    assert (done.status, done.run_id, done.rows_scored) == ("published", result.run_id, 38)
    loaded = [sql for sql in changing(account) if sql.startswith("COPY") and "_QUARANTINE" not in sql]
    assert [re.findall("FILES = .(.*?)[)] ", sql) for sql in loaded] == [[", ".join(f"'{name}'" for name in files)]]
    assert live() == scores(features(rows=38))
    p = sorted(v for table in reviewed for v in table["p"].to_pylist())
    assert sorted(v for (v,) in account.run("SELECT p FROM scores")) == p
    assert account.run("SELECT COUNT(*) FROM scores_quarantine") == [(2,)]
    (record,) = ledger.runs(naming.state_of(job), "scores")
    assert (record["status"], record["run_id"], record["generation"]) == ("published", result.run_id, 1)
    assert staged() == {}
    with pytest.raises(ConfigError, match="no run of this job is held"):
        publish(result.run_id)


def test_one_that_another_run_came_before_is_refused_and_goes_on_being_held(daily, account, live):
    write("lake/features", features(), ["day"])
    held = score(daily(), hold=True)
    write("lake/features", features(shift=0.5), ["day"], mode="overwrite")
    assert score(daily()).status == "published"
    before = live()
    with pytest.raises(Unavailable, match="another run published generation 1 of score_date=2026-01-02 meanwhile"):
        publish(held.run_id)
    assert live() == before == scores(features(shift=0.5))
    assert review.find(load, held.run_id)[1].intent.run_id == held.run_id
    assert staged()


def test_a_discarded_run_leaves_nothing(daily, account):
    write("lake/features", features(), ["day"])
    held = score(daily(), hold=True)
    job, waits = review.find(load, held.run_id)
    review.discard(job, waits, Request("local", ledger.now(), held.run_id))
    assert (staged(), tables(account), changing(account)) == ({}, set(), [])
    assert [left for left in sweep.sweep(daily(), take_away=False) if left.files] == []


@pytest.fixture
def from_there(daily, account):
    """The job with its features in Snowflake, where they are loaded anew: from_there(features) → the job."""
    versions = count()

    def job(rows):
        table = account.load(f"features{next(versions)}", rows)
        account.run("CREATE TABLE IF NOT EXISTS features LIKE features0")
        account.run(f"INSERT OVERWRITE INTO features SELECT * FROM {table}")
        table = account.table("features")
        return daily(
            source={"type": "snowflake", "connection": account.name, "table": table, "where": "day = '{date}'"}
        )

    return job


@pytest.mark.long
def test_from_snowflake_to_snowflake_the_reviewed_rows_are_published_whatever_the_input_is_by_then(
    from_there, account, live
):
    assert score(from_there(features())).status == "published"
    held = score(from_there(features(rows=60, start=10, shift=0.5)), hold=True)
    assert held.status == "held"
    job, waits = review.find(load, held.run_id)
    found = difference.difference(job, waits, "country")
    assert (found.held, found.live, found.added, found.gone, found.changed) == (60, 40, 30, 10, 30)
    p, high = found.predictions
    flips = account.run("SELECT COUNT(*) FROM scores WHERE id >= 10 AND p < 0.5")[0][0]
    assert 0 < high["flips"] <= flips
    assert p["shift"] > 0
    from_there(features(rows=5))
    assert publish(held.run_id).status == "published"
    assert live() == scores(features(rows=60, start=10, shift=0.5))


def test_both_tables_of_a_job_are_published_as_they_were_reviewed(daily, account, live):
    snow = {"type": "snowflake", "connection": account.name, "table": account.table("scores")}
    write("lake/features", features(), ["day"])
    job = daily(sinks=[{"type": "delta", "table": "lake/scores"}, snow])
    held = score(job, hold=True)
    assert (tables(account), Path("lake/scores/_delta_log").exists()) == (set(), False)
    done = publish(held.run_id)
    assert [sink["type"] for sink in done.sinks] == ["delta", "snowflake"]
    assert (
        sorted((r["id"], r["country"], round(r["p"], 9), str(r["score_date"])) for r in read("lake/scores").to_pylist())
        == live()
    )
    assert score(job).status == "unchanged"


@pytest.mark.long
def test_the_commands_say_what_they_do(daily, account, live, capfd):
    write("lake/features", features(), ["day"])
    score(daily())
    write("lake/features", features(shift=0.5), ["day"], mode="overwrite")
    daily()
    held = run(capfd, "score", "conf/scores.yaml", "--date", DAY, "--engine", "local", "--hold", "--json").json
    seen = run(capfd, "diff", "conf/scores.yaml", "--run", held["run_id"][:8])
    assert (seen.code, seen.out.splitlines()[0]) == (
        0,
        "held 40 rows, live 40: 0 added, 0 gone, 40 changed, 0 the same",
    )
    done = run(capfd, "publish", "conf/scores.yaml", "--run", held["run_id"][:8], "--engine", "local", "--json")
    assert (done.code, done.err, done.json["status"]) == (0, "", "published")
    assert live() == scores(features(shift=0.5))


def test_live_scores_in_snowflake_are_compared_with_another_table(daily, account):
    write("lake/features", features(), ["day"])
    score(daily())
    rows = account.run("SELECT id, p FROM scores WHERE id < 35")
    write("lake/script", pa.table({"id": [i for i, _ in rows], "p": [round(p, 5) for _, p in rows]}))
    found = comparison.compare(daily(), Asked("lake/script", {}, {}))
    assert (found.rows.matched, found.rows.only_here, found.on) == (35, 5, {"p": "p"})
    assert [one["reason"] for one in found.reasons] == ["rounding"]
    assert found.predictions[0]["flips"] == 0


def test_scores_in_files_are_compared_with_a_table_in_snowflake(daily, account, capfd):
    write("lake/features", pa.concat_tables([features(), features(NEXT, start=100)]), ["day"])
    job = daily(sinks=[{"type": "delta", "table": "lake/scores"}])
    score(job)
    rows = [(r["id"], r["p"]) for r in read("lake/scores").to_pylist()]
    both = [(i, p, DAY) for i, p in rows[:35]] + [(900, 0.5, DAY), *((i, 0.5, NEXT) for i, _ in rows)]
    ids, p, days = zip(*both, strict=True)
    table = account.load("old_scores", pa.table({"id": ids, "p": p, "score_date": days}))
    named = f"snowflake://{account.name}/{table}"
    found = comparison.compare(job, Asked(named, {}, {}))
    assert (found.rows.matched, found.rows.only_here, found.rows.only_there) == (35, 5, 1)
    assert (found.rows_there, found.predictions[0]["sizes"]["equal"]) == (f"\"SCORE_DATE\" = '{DAY}'", 35)
    assert comparison.compare(job, Asked(named, {}, {}, "id < 10")).rows.there == 20
    with pytest.raises(ConfigError, match="--where: there is no column NOTHING"):
        comparison.compare(job, Asked(named, {}, {}, "nothing = 1"))
    with pytest.raises(ConfigError, match=r"--with: there is no table or view .*NOWHERE"):
        comparison.compare(job, Asked(f"snowflake://{account.name}/{account.table('nowhere')}", {}, {}))
    with pytest.raises(ConfigError, match=r"write snowflake://<connection>/<table>, such as"):
        comparison.compare(job, Asked("snowflake://prod", {}, {}))
    plain = run(capfd, "compare", "conf/scores.yaml", "--date", DAY, "--with", "ml.old_scores")
    assert (
        plain.code,
        "named with its system and connection: snowflake://<connection>/ml.old_scores" in plain.err,
    ) == (
        2,
        True,
    )


# Rollback


@pytest.fixture
def travel(account):
    """Time Travel knows the scored table; travel(seconds) says how far back."""

    def set(retention=86400.0):
        account.server.set(travel="SCORES", retention=retention)

    set()
    return set


def back(job, to=None, **more):
    return rollback(job, Request("local", ledger.now(), new_run_id(), **more), to)


def put(shift=0.0, rows=40):
    """Features of the day, shifted; another day's beside them. What must be live of the day then."""
    both = pa.concat_tables([features(rows=rows, shift=shift), features(NEXT, start=100)])
    write("lake/features", both, ["day"], mode="overwrite")
    return scores(features(rows=rows, shift=shift))


def at(version):
    """The source as it was: the very files, so that nothing has changed."""
    return {"source": {"where": "day = '{date}'", "version": version}}


def test_the_former_scores_are_back_and_what_was_rolled_back_stays_away(daily, account, live, travel):
    former, other = put(), scores(features(NEXT, start=100))
    first = score(daily())
    score(daily(NEXT))
    put(0.5, rows=30)
    second = score(daily())
    account.server.reset()
    travel()
    done = back(daily())
    assert (done.status, done.rows_scored, done.sinks[0]["version"]) == ("published", 40, 3)
    assert f"run {first.run_id} again, instead of run {second.run_id}" in str(done.message)
    assert live() == sorted(former + other)
    sent = [sql.split()[0] for sql, _ in account.server.statements()]
    begin, commit = sent.index("BEGIN"), sent.index("COMMIT")
    assert [verb for verb in sent[begin:commit] if verb != "SELECT"] == [
        "BEGIN",
        "UPDATE",
        "DELETE",
        "INSERT",
        "INSERT",
    ]
    assert not {"COPY", "PUT"} & set(sent)
    entry = account.run(
        f"SELECT write_mode, generation, model_version, goes_on FROM scores_runs WHERE run_id = '{done.run_id}'"
    )
    assert entry == [("rollback", 3, str(first.model["version"]), f'["{first.run_id}"]')]

    with pytest.raises(Blocked, match=r"was rolled back by a person .generation 3.*--rescore"):
        score(daily())
    assert score(daily(**at(0))).status == "unchanged"
    third = put(0.9)
    assert score(daily()).status == "published"
    assert live() == sorted(third + other)
    statuses = [(r["generation"], r["status"]) for r in ledger.runs(naming.state_of(daily()), "scores", DAY)]
    assert statuses == [(4, "published"), (3, "published"), (2, "published"), (1, "published")]


@pytest.mark.long
def test_it_can_itself_be_rolled_back_and_any_run_be_put_back(daily, live, travel):
    first_rows = put()
    first = score(daily())
    second_rows = put(0.5)
    score(daily())
    back(daily())
    assert live() == first_rows
    back(daily())
    assert live() == second_rows
    assert score(daily()).status == "unchanged"
    with pytest.raises(Blocked, match="rolled back by a person"):
        score(daily(**at(0)))
    assert back(daily(), first.run_id[:8]).status == "published"
    assert live() == first_rows
    with pytest.raises(ConfigError, match="is what is live"):
        back(daily(), ledger.runs(naming.state_of(daily()), "scores")[0]["run_id"])
    assert score(daily(), rescore=True).status == "published"
    assert live() == second_rows
    third_rows = put(0.9)
    score(daily())
    back(daily())
    assert live() == second_rows
    assert score(daily(**at(0))).status == "published"  # it was live before, and nobody has rolled that back since
    assert live() == first_rows != third_rows


def test_past_time_travel_it_is_refused_by_name_and_changes_nothing(daily, account, live, travel):
    put()
    score(daily())
    now = put(0.5)
    score(daily())
    travel(0.0)
    with pytest.raises(
        ConfigError,
        match=r"SCORES: generation 1 of score_date=2026-01-02 was replaced on .* past the table's Time Travel",
    ):
        back(daily())
    assert live() == now
    assert score(daily()).status == "unchanged"
    assert not list(Path("state/intents").rglob("*.json"))


@pytest.mark.long
def test_rows_that_somebody_changed_before_they_were_replaced_are_not_put_back(daily, account, live, travel):
    put()
    score(daily())
    account.run("DELETE FROM scores WHERE id = 7")
    now = put(0.5)
    score(daily())
    with pytest.raises(ConfigError, match="had 40 rows when it was published, and 39 when it was replaced: somebody"):
        back(daily())
    assert live() == now
    account.run("INSERT INTO scores SELECT * REPLACE ('x' AS \"_RUN_ID\") FROM scores WHERE id = 7")
    put(0.9)
    score(daily(), rescore=True)
    with pytest.raises(ConfigError, match="had 40 rows when it was published, and 41 when it was replaced: somebody"):
        back(daily())


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("action", ["error", "lost reply", "crash"])
def test_a_fault_at_any_request_of_a_rollback_leaves_one_of_both_and_the_next_finishes_it(
    daily, account, live, travel, monkeypatch, action
):
    """One rollback after the other, each of the one before, with a fault one request later."""
    first, second, other = put(), None, scores(features(NEXT, start=100))
    score(daily())
    score(daily(NEXT))
    second = put(0.5, rows=30)
    score(daily())
    job, failed, sides = daily(), 0, itertools.cycle([sorted(first + other), sorted(second + other)])
    before, number = sorted(second + other), 0
    for wanted in sides:
        with monkeypatch.context() as patched:
            if action == "crash":
                left = crash_at(patched, number)
            else:
                account.server.fail((REQUESTS, action, 1, number))
            done = ended(lambda: back(job))
        missed = left if action == "crash" else account.server.fail()
        account.server.fail(("", "drop", 0))
        assert live() in ([wanted] if done else [before, wanted])
        assert_ledger_is_true(account)
        if not done:
            failed += 1
            assert back(job).status == "published"
        assert live() == wanted
        assert_ledger_is_true(account)
        if missed:
            break
        before, number = wanted, number + 1
    assert number > 25
    assert failed > {"error": 10, "crash": 20, "lost reply": -1}[action]
    runs = ledger.runs(naming.state_of(job), "scores", DAY)
    assert [r["generation"] for r in runs] == list(range(number + 3, 0, -1))
    assert {r["status"] for r in runs} == {"published"}


def ended(act):
    """Whether an act came to its end."""
    try:
        act()
    except (LakehouseError, Crash):
        return False
    return True


def assert_ledger_is_true(account):
    """Assert that the newest entry of the day names the runs whose rows live, and how many these are."""
    found = account.run(
        "SELECT run_id, goes_on, row_count, generation FROM scores_runs "
        f"WHERE identity = 'scores/score_date={DAY}' ORDER BY generation"
    )
    assert [generation for *_, generation in found] == list(range(1, len(found) + 1))
    name, on, rows, _ = found[-1]
    owners = account.run(f"SELECT _run_id, COUNT(*) FROM scores WHERE score_date = '{DAY}' GROUP BY 1")
    assert {owner for owner, _ in owners} <= {name, *json.loads(on)}
    assert sum(count for _, count in owners) == rows


@pytest.mark.long
def test_both_tables_of_a_job_are_rolled_back_as_one_run(daily, account, live, travel):
    snow = {"type": "snowflake", "connection": account.name, "table": account.table("scores")}
    job = lambda: daily(sinks=[{"type": "delta", "table": "lake/scores"}, snow])  # noqa: E731
    former = put()
    score(job())
    put(0.5)
    score(job())
    done = back(job())
    assert [sink["type"] for sink in done.sinks] == ["delta", "snowflake"]
    found = sorted(
        (r["id"], r["country"], round(r["p"], 9), str(r["score_date"])) for r in read("lake/scores").to_pylist()
    )
    assert found == live() == former
    with pytest.raises(Blocked, match="rolled back by a person"):
        score(job())


# Maintenance


@pytest.mark.usefixtures("travel", "put_twice")
def test_what_there_is_to_maintain_is_said_and_the_ledger_is_made_again(daily, account):
    back(daily())
    names = [
        "run_id",
        "date",
        "identity",
        "generation",
        "rows_scored",
        "model_digest",
        "input_version",
        "fingerprint",
        "message",
    ]
    before = [{name: row[name] for name in names} for row in ledger.runs(naming.state_of(daily()), "scores")]
    shutil.rmtree("state/runs")
    done = reconciling.reconcile(load, dry_run=False)
    again = [{name: row[name] for name in names} for row in ledger.runs(naming.state_of(daily()), "scores")]
    assert (again, len(done.records)) == (before, 3)
    account.run("PUT file://conf/scores.yaml @scores_stage/run-00000000-0000-4000-8000-00000000dead/")
    told = maintenance.maintain("conf/scores.yaml", load, maintenance.Asked("local"))
    assert (told.code, [(one.what, one.run_id[-4:]) for one in told.found]) == (0, [(STAGED, "dead")])
    assert any("Snowflake merges the table's files itself" in note for note in told.notes)
    assert maintenance.maintain("conf/scores.yaml", load, maintenance.Asked("local")).found == []


def test_a_run_that_one_of_its_tables_lacks_gets_no_record(daily, account):
    snow = {"type": "snowflake", "connection": account.name, "table": account.table("scores")}
    put()
    done = score(daily(sinks=[{"type": "delta", "table": "lake/scores"}, snow]))
    account.run(f"DELETE FROM scores_runs WHERE run_id = '{done.run_id}'")
    shutil.rmtree("state/runs")
    found = reconciling.reconcile(load, dry_run=False)
    assert (found.records, found.notes) == (
        [], [f"run {done.run_id} is in lake/scores and in no other table of the job; no record"],
    )  # fmt: skip


@pytest.fixture
def put_twice(daily):
    """Two runs of the day, of different rows."""
    put()
    one = score(daily())
    put(shift=0.5)
    return one, score(daily())
