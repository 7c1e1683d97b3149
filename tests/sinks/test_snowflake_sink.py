"""Publishing to Snowflake: what a run writes, once, in one transaction; and whole jobs in every direction."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import snowflake.connector
import sqlglot
import yaml
from sklearn.linear_model import LogisticRegression

from lakehouse import pipeline, sinks
from lakehouse.connectors import snowflake as lakehouse_snowflake
from lakehouse.connectors.snowflake import sessions
from lakehouse.engines import local
from lakehouse.errors import Blocked, ConfigError, LakehouseError, Partial, Unavailable
from lakehouse.operations import sweep
from lakehouse.operations.lookup import record_of, status
from lakehouse.operations.replay import replay
from lakehouse.operations.verification import digests_of_sinks
from lakehouse.planning import naming
from lakehouse.runs import evidence, ledger, publication
from lakehouse.scoring import files
from lakehouse.sinks.snowflake import loading, upload
from lakehouse.sinks.target import SINK
from lakehouse.views import sql
from tests.command import run
from tests.conftest import read, score, write

DAY, NEXT = "2026-01-02", "2026-01-03"
X = pd.DataFrame({"a": np.arange(40) / 7, "b": np.arange(40) % 3 - 1.0})
MODEL = LogisticRegression().fit(X, X["a"] > 3)


@pytest.fixture(scope="module")
def uri(register):
    return register(MODEL, X, method="predict_proba")


def job_into(account: Any, make_job: Any, uri: str) -> Any:
    """make(day) → the job of a day, from a Delta table to Snowflake; sections change it."""

    def make(day: str = DAY, **more: Any) -> Any:
        sink = {"type": "snowflake", "connection": account.name, "table": account.table("scores")}
        sections = {
            "source": {"where": "day = '{date}'"}, "model": {"method": "predict_proba"}, "keep": ["country"],
            "predictions": {"p": {"class": True}, "high": {"class": True, "threshold": 0.5}},
            "slice": {"score_date": "{date}"}, "sinks": [sink], "state": "state",
        }  # fmt: skip
        return make_job(uri, date=day, **{**sections, **more})

    return make


def features(day: str = DAY, rows: int = 40, start: int = 0, shift: float = 0.0) -> pa.Table:
    ids = np.arange(start, start + rows)
    return pa.table(
        {
            "id": ids,
            "a": ids / 7 + shift,
            "b": ids % 3 - 1.0,
            "country": [f"c{i % 3}" for i in ids],
            "day": [day] * rows,
        }
    )


def scores(*parts: pa.Table) -> list[tuple[Any, ...]]:
    """What a scored table must hold of these features: id, country, p rounded, day."""
    rows = []
    for part in parts:
        p = MODEL.predict_proba(part.select(["a", "b"]).to_pandas())[:, 1]
        rows += zip(
            part["id"].to_pylist(),
            part["country"].to_pylist(),
            np.round(p, 9).tolist(),
            part["day"].to_pylist(),
            strict=True,
        )
    return sorted(rows)


@pytest.fixture
def held(account):
    """held() → the scored table's rows as `scores` has them; held(runs=True) → the runs whose rows live."""

    def rows(runs: bool = False) -> Any:
        if runs:
            return {run for (run,) in account.run("SELECT DISTINCT _RUN_ID FROM scores")}
        found = account.run("SELECT id, country, p, TO_VARCHAR(score_date) FROM scores")
        return sorted((i, c, round(p, 9), d) for i, c, p, d in found)

    return rows


@pytest.fixture
def daily(make_job, uri, account):
    """daily(day) → the job of a day, from a Delta table to Snowflake; sections change it."""

    def make(day: str = DAY, **more: Any) -> Any:
        sink = {"type": "snowflake", "connection": account.name, "table": account.table("scores")}
        sections = {
            "source": {"where": "day = '{date}'"}, "model": {"method": "predict_proba"}, "keep": ["country"],
            "predictions": {"p": {"class": True}}, "slice": {"score_date": "{date}"}, "sinks": [sink], "state": "state",
        }  # fmt: skip
        return make_job(uri, date=day, **{**sections, **more})

    return make


def test_a_slice_is_published_and_replaced(daily, account, held):
    write("lake/features", pa.concat_tables([features(), features(NEXT, start=100)]))
    first = score(daily())
    assert (first.status, first.sinks[0]["version"]) == ("published", 1)
    other = score(daily(NEXT))
    assert held() == scores(features(), features(NEXT, start=100))
    assert score(daily()).status == "unchanged"
    again = score(daily(), rescore=True)
    assert held(runs=True) == {other.run_id, again.run_id}
    assert held() == scores(features(), features(NEXT, start=100))
    section = daily().sinks[0]
    asked = [first.run_id, again.run_id, "00000000-0000-4000-8000-000000000000"]
    assert sinks.of(section.type).live_runs(section, "scores", asked) == {again.run_id}
    assert sinks.of(section.type).live_runs(section, "another", asked) == set()
    ledger = account.run(
        "SELECT run_id, identity, generation, row_count FROM scores_runs WHERE run_id <> '' ORDER BY published_at"
    )
    assert ledger == [
        (first.run_id, f"scores/score_date={DAY}", 1, 40), (other.run_id, f"scores/score_date={NEXT}", 1, 40),
        (again.run_id, f"scores/score_date={DAY}", 2, 40),
    ]  # fmt: skip


def test_explanations_are_a_list_of_objects(daily, account):
    write("lake/features", features())
    assert score(daily(explanations={"top": 1, "when": {"above": 0.5}})).status == "published"
    found = account.run("SELECT p, _EXPLANATIONS FROM scores")
    assert all((p >= 0.5) == (told is not None) for p, told in found)
    told = [json.loads(told) for _, told in found if told is not None]
    assert {part["feature"] for [part] in told} <= {"a", "b"}


REQUESTS = r"^POST /(queries|session/v1/login)|^PUT /fs_bucket"
"""What the driver asks of Snowflake: statements, log-ins, uploads."""


class Crash(BaseException):
    """Stands for the end of the process: nothing in the code may catch it."""


def die() -> None:
    raise Crash


def bad_features(day: str = DAY, shift: float = 0.0) -> pa.Table:
    """Features of which two rows have no key."""
    lost = features(day, 2, 38).set_column(0, "id", pa.nulls(2, pa.int64()))
    return pa.concat_tables([features(day, 38, shift=shift), lost])


@pytest.fixture
def halfway(daily):
    """Two slices are published; then the input of the first changes. Gives the job, and then the rows it must have."""
    write("lake/features", pa.concat_tables([bad_features(), features(NEXT, start=100)]), ["day"])
    job = daily(checks={"quarantine": {"max_fraction": 0.1}})
    score(daily(NEXT))
    score(job)
    write("lake/features", bad_features(shift=0.5), ["day"], mode="overwrite", predicate=f"day = '{DAY}'")
    return job, scores(features(rows=38, shift=0.5), features(NEXT, start=100))


def assert_published_once(account, job, runs: int) -> None:
    """Assert that each of so many runs of the day has its rows set aside once, an entry in each ledger and a record."""
    wanted = [(generation,) for generation in range(1, runs + 1)]
    for table in ("scores", "scores_quarantine"):
        assert (
            account.run(f"SELECT generation FROM {table}_runs WHERE identity = '{job.job}/score_date={DAY}' ORDER BY 1")
            == wanted
        )
    assert account.run("SELECT COUNT(*) FROM scores_quarantine") == [(2 * runs,)]
    recorded = [(r["status"], r["generation"]) for r in ledger.runs(naming.state_of(job), job.job, DAY)]
    assert sorted(recorded) == [("published", generation) for (generation,) in wanted]


@pytest.mark.parametrize(("number", "action"), [(0, "drop"), (3, "503"), (20, "drop"), (36, "lost reply")])
@pytest.mark.long
def test_a_fault_anywhere_in_a_run_is_mended_by_the_next(halfway, account, held, number, action):
    job, expected = halfway
    account.server.fail((REQUESTS, action, 1, number))
    with suppress(LakehouseError):
        score(job)
    assert account.server.fail() == []
    score(job)
    assert held() == expected
    assert_published_once(account, job, 2)


@pytest.fixture
def intent(halfway, monkeypatch):
    """A run that died once its intent was declared: intent, state folder, request."""
    found = []

    def die(*arguments):
        found[:] = arguments
        raise Crash

    monkeypatch.setattr(pipeline, "carry_out", die)
    with pytest.raises(Crash):
        score(halfway[0])
    return found


def carried_out(intent: Any, state: Any, request: Any) -> bool:
    """Whether a run could be finished."""
    try:
        publication.carry_out(intent, state, request)
    except (LakehouseError, Crash):
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("action", ["error", "lost reply", "crash"])
@pytest.mark.long
def test_a_fault_at_any_statement_of_a_publish_is_mended_by_carrying_it_out_again(
    halfway, intent, account, held, monkeypatch, action, step
):
    """The same rows are published as one generation after the other, each with a fault some requests later."""
    job, expected = halfway
    declared, state, request = intent
    shutil.copytree("state", "kept")
    failed, runs = 0, 1
    for number in itertools.count(step=step):
        generation = number // step + 2
        shutil.copytree("kept/staged", "state/staged", dirs_exist_ok=True)
        targets = tuple(replace(t, generation=generation) for t in declared.targets)
        record = {**declared.record, "generation": generation, "run_id": f"{declared.run_id}-{number}"}
        mine = replace(declared, run_id=f"{declared.run_id}-{number}", targets=targets, record=record)
        with monkeypatch.context() as patched:
            if action == "crash":
                left = crash_at(patched, number)
            else:
                account.server.fail((REQUESTS, action, 1, number))
            failed += not carried_out(mine, state, request)
        missed = left if action == "crash" else account.server.fail()
        account.server.fail(("", "drop", 0))
        assert carried_out(mine, state, request)
        runs += 1
        assert held() == expected
        if missed:
            break
    ledger.remove_intent(state, declared)
    assert_published_once(account, job, runs)
    assert number > 35
    assert failed > {"error": 10, "crash": 30, "lost reply": -step}[action] // step


def crash_at(monkeypatch, number: int) -> list[int]:
    """End the process, as far as the code can tell, after the n-th statement or upload; what is left to come then."""
    left = [number]

    def dying(act: Any) -> Any:
        def acting(*arguments: Any) -> Any:
            done = act(*arguments)
            if left:
                left[0] -= 1
                if left[0] < 0:
                    left.clear()
                    raise Crash
            return done

        return acting

    for name in ("run", "put", "describe"):
        monkeypatch.setattr(sessions.Session, name, dying(getattr(sessions.Session, name)))
    return left


@pytest.mark.long
def test_what_dead_runs_left_in_snowflake_is_swept(daily, account, monkeypatch):
    write("lake/features", bad_features(), ["day"])
    job, enter = daily(checks={"quarantine": {"max_fraction": 0.1}}), loading._enter
    with monkeypatch.context() as patched:
        patched.setattr(
            loading, "_enter", lambda s, t, target, r: enter(s, t, target, r) if target.kind != SINK else die()
        )
        with pytest.raises(Crash):
            score(job)
    (waiting,) = [left for left in sweep.sweep(job, take_away=True) if left.table == account.table("SCORES")]
    assert (waiting.files, waiting.kept) == (2, "waits to be finished by the next run of its job")
    score(job)
    account.run("CREATE TABLE scores_load_history (a INT)")  # a person's
    assert {left.files for left in sweep.sweep(job, take_away=True)} == {1}  # the dead run's table
    assert sweep.sweep(job, take_away=True) == []
    assert account.run("SELECT table_name FROM information_schema.tables WHERE table_name LIKE '%LOAD%'") == [
        ("SCORES_LOAD_HISTORY",)
    ]
    assert account.run("LIST @scores_stage") == []


# What is written


def shapes(statements: list[str]) -> list[str]:
    """Statements in few words: the verb, and the table where it isn't the scored one."""
    found = []
    for statement in statements:
        words = statement.replace('"', " ").split()
        verb = " ".join(words[:2]) if words[0] in ("CREATE", "DROP") else words[0]
        for suffix in ("_QUARANTINE_RUNS", "_QUARANTINE_STAGE", "_QUARANTINE", "_RUNS", "_STAGE", "_LOAD_"):
            if f"SCORES{suffix}" in statement:
                verb += suffix
                break
        found.append(verb)
    return found


@pytest.mark.long
def test_no_ddl_is_in_a_transaction_and_what_is_written_is_named_in_full(daily, account):
    write("lake/features", features(), ["day"])
    score(daily())
    account.server.reset()
    run = score(daily(), rescore=True).run_id
    statements = [sql for sql, outcome in account.server.statements() if outcome == "ok"]
    begin, commit = statements.index("BEGIN"), statements.index("COMMIT")
    assert shapes(statements[begin : commit + 1]) == [
        "BEGIN", "UPDATE_RUNS", "SELECT_RUNS", "SELECT", "COPY_STAGE", "DELETE", "INSERT_LOAD_", "INSERT_RUNS", "COMMIT",
    ]  # fmt: skip
    assert shapes(statements[:begin])[-5:] == [
        "CREATE TABLE_RUNS", "INSERT_RUNS", "CREATE STAGE_STAGE", "CREATE TRANSIENT_LOAD_", "PUT_STAGE",
    ]  # fmt: skip
    assert shapes(statements[commit + 1 :]) == ["DROP TABLE_LOAD_", "REMOVE_STAGE"]
    (put,) = [sql for sql in statements if sql.startswith("PUT")]
    (copy,) = [sql for sql in statements if sql.startswith("COPY")]
    (file,) = re.findall(r"scored-\w+-\w+\.parquet", put)
    stage = f'@"{account.database}"."{account.schema}"."SCORES_STAGE"/run-{run}/'
    assert stage in put
    assert f"FROM {stage} FILES = ('{file}')" in copy
    assert not [
        sql for sql in statements if re.search(r"\bTEMP|OVERWRITE INTO|CREATE OR REPLACE|\bSWAP\b|TRUNCATE", sql)
    ]
    assert f"DELETE FROM {quoted_table(account)} WHERE \"SCORE_DATE\" = '{DAY}'" in statements


def quoted_table(account) -> str:
    return f'"{account.database}"."{account.schema}"."SCORES"'


def test_more_files_than_one_copy_takes_are_loaded_by_several(daily, account, held, monkeypatch):
    monkeypatch.setattr(loading, "MOST_FILES", 2)
    monkeypatch.setattr(files, "TARGET_BYTES", 1)
    write("lake/features", features(), ["day"])
    score(daily(model={"method": "predict_proba", "batch_rows": 8}))
    copies = [sql for sql, _ in account.server.statements() if sql.startswith("COPY")]
    assert [len(re.findall(r"\.parquet", sql)) for sql in copies] == [2, 2, 1]
    assert held() == scores(features())


def test_a_whole_table_is_replaced_and_keeps_what_was_granted_on_it(daily, account):
    write("lake/features", features())
    whole = {"slice": {}, "source": {"where": None}}
    score(daily(**whole))
    created = account.run("SELECT COUNT(*) FROM scores")
    write("lake/features", features(rows=7), mode="overwrite")
    score(daily(**whole))
    assert (created, account.run("SELECT COUNT(*) FROM scores")) == ([(40,)], [(7,)])
    statements = [sql for sql, outcome in account.server.statements() if outcome == "ok"]
    assert sum(sql.startswith(f"CREATE TABLE IF NOT EXISTS {quoted_table(account)} ") for sql in statements) == 1


def written(daily, account, write: str, **more: Any) -> Any:
    sink = {"type": "snowflake", "connection": account.name, "table": account.table("scores"), "write": write}
    return daily(sinks=[sink], **more)


def test_rows_are_merged_by_key_within_the_slice(daily, account, held):
    write("lake/features", features(), ["day"])
    score(written(daily, account, "merge"))
    newer = features(rows=10, start=35, shift=1.0)
    write("lake/features", newer, ["day"], mode="overwrite")
    done = score(written(daily, account, "merge"))
    assert held() == scores(features(rows=35), newer)
    assert account.run(f"SELECT COUNT(*) FROM scores WHERE _run_id = '{done.run_id}'") == [(10,)]
    assert score(written(daily, account, "merge")).status == "unchanged"


@pytest.mark.long
def test_rows_of_a_date_are_appended_once_and_replaced_on_demand(make_job, uri, account):
    def job(day: str) -> Any:
        sink = {"type": "snowflake", "connection": account.name, "table": account.table("scores"), "write": "append"}
        return make_job(
            uri, date=day, source={"where": "day = '{date}'"}, model={"method": "predict_proba"}, sinks=[sink],
            predictions={"p": {"class": True}}, state="state",
        )  # fmt: skip

    write("lake/features", pa.concat_tables([features(), features(NEXT, start=100)]), ["day"])
    first, other = score(job(DAY)), score(job(NEXT))
    assert score(job(DAY)).status == "unchanged"
    write("lake/features", features(rows=5), ["day"], mode="overwrite", predicate=f"day = '{DAY}'")
    with pytest.raises(Blocked, match=f"appended its rows of {DAY} already"):
        score(job(DAY))
    again = score(job(DAY), rescore=True)
    assert sorted(account.run("SELECT _run_id, COUNT(*) FROM scores GROUP BY 1")) == sorted(
        [(again.run_id, 5), (other.run_id, 40)]
    )
    assert first.run_id != again.run_id


def test_a_blocked_run_leaves_the_last_good_scores_and_its_rows_in_quarantine(daily, account, held, capsys):
    write("lake/features", features(), ["day"])
    good = score(daily())
    write("lake/features", bad_features(), ["day"], mode="overwrite")
    with pytest.raises(Blocked, match=r"(?s)quarantine.*The rows are in .*SCORES_QUARANTINE"):
        score(daily())
    assert held(runs=True) == {good.run_id}
    assert account.run("SELECT COUNT(*), MIN(_reasons[0]:rule::VARCHAR) FROM scores_quarantine") == [
        (2, "key_not_null")
    ]
    assert account.run("SELECT COUNT(*) FROM scores_runs WHERE run_id <> ''") == [(1,)]


def test_quarantined_rows_are_counted_replayed_once_and_added_to_their_run(daily, account, held):
    def allow(*countries: str) -> None:
        kwargs = {"column": "country", "mostly": 0.1, "value_set": list(countries)}
        rule = {"type": "expect_column_values_to_be_in_set", "kwargs": kwargs}
        Path("suite.yaml").write_text(yaml.safe_dump({"name": "s", "expectations": [rule]}))

    allow("c0", "c1")
    checks = {"features": "suite.yaml", "quarantine": {"max_fraction": 0.5}}
    write("lake/features", features(), ["day"])
    first = score(daily(checks=checks))
    assert (first.rows_scored, first.rows_quarantined) == (27, 13)
    (counted,) = evidence.quarantine_counts(daily(checks=checks), every=False)
    assert (counted["run_id"], counted["rows"], counted["column"]) == (first.run_id, 13, "country")
    allow("c0", "c1", "c2")
    record = record_of(daily(checks=checks), first.run_id)
    request = pipeline.Request("local", ledger.now(), pipeline.new_run_id())
    done = replay(daily(checks=checks), record, request)
    assert (done.status, done.rows_scored) == ("published", 13)
    assert held() == scores(features())
    assert held(runs=True) == {first.run_id, done.run_id}
    again = pipeline.Request("local", ledger.now(), pipeline.new_run_id())
    assert replay(daily(checks=checks), record, again).status == "unchanged"
    score(daily(checks=checks), rescore=True)
    with pytest.raises(Blocked, match="was superseded"):
        replay(daily(checks=checks), record, replace(again, run_id=pipeline.new_run_id()))


def a_view(run: Any) -> str:
    run("CREATE TABLE theirs (_run_id VARCHAR, _job VARCHAR, _reasons ARRAY)")
    run("CREATE VIEW scores_quarantine AS SELECT * FROM theirs")
    return "is no quarantine table"


def a_table(run: Any) -> str:
    run("CREATE TABLE scores_quarantine (mine NUMBER(19,0))")
    return "is no quarantine table"


def a_required_column(run: Any) -> str:
    run("CREATE TABLE scores_quarantine (_run_id VARCHAR, _job VARCHAR, _reasons ARRAY, id NUMBER(19,0) NOT NULL)")
    return "can't take every row: it has ID NOT NULL"


def an_older_type(run: Any) -> str:
    run("CREATE TABLE scores_quarantine (_run_id VARCHAR, _job VARCHAR, _reasons ARRAY, a NUMBER(19,0))")
    return r"can't hold these rows \(a is NUMBER\(19,0\) there and FLOAT here\)"


@pytest.mark.parametrize("make", [a_view, a_table, a_required_column, an_older_type])
@pytest.mark.long
def test_a_quarantine_table_that_cannot_take_the_rows_stops_no_run(daily, account, held, make):
    """The next number takes them, and is counted, swept and replayed as the first one is."""
    why, said = make(account.run), list[str]()
    write("lake/features", bad_features(), ["day"])
    job = daily(checks={"quarantine": {"max_fraction": 0.1}})
    done = score(job, say=lambda event, told: said.append(told["message"]) if event == "warning" else None)
    aside = account.table("scores_quarantine_2")
    assert [s["table"].upper() for s in done.sinks] == [aside.upper(), account.table("scores").upper()]
    (warned,) = said
    assert re.search(f"go to {aside}, since {account.table('scores_quarantine')} {why}", warned, re.IGNORECASE)
    assert account.run("SELECT COUNT(*) FROM scores_quarantine_2") == [(2,)]
    assert [row["rows"] for row in evidence.quarantine_counts(job, every=False)] == [2]
    assert [one for one in sweep.sweep(job, take_away=False) if one.kept is None] == []
    record = record_of(job, done.run_id)
    with pytest.raises(Blocked, match="not one could be scored"):  # they have no key now either
        replay(job, record, pipeline.Request("local", ledger.now(), pipeline.new_run_id()))
    assert account.run("SELECT COUNT(*) FROM scores_quarantine_2") == [(4,)]


@pytest.mark.parametrize("engine", ["local", "spark"])
@pytest.mark.quick("local")
def test_from_snowflake_to_snowflake_with_checks_and_quarantine(daily, account, held, engine, request):
    if engine == "spark":
        request.getfixturevalue("spark")
    account.load("features", features())
    Path("suite.yaml").write_text(yaml.safe_dump({"name": "s", "expectations": [
        {"type": "expect_column_values_to_not_be_in_set", "kwargs": {"column": "country", "value_set": ["c2"], "mostly": 0.5}},
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}},
        {"type": "expect_column_median_to_be_between", "kwargs": {"column": "B", "min_value": 0, "max_value": 0}},
    ]}))  # fmt: skip
    job = daily(
        source={"type": "snowflake", "connection": account.name, "table": account.table("features"), "where": "day = '{date}'"},
        checks={"features": "suite.yaml", "quarantine": {"max_fraction": 0.5}},
    )  # fmt: skip
    done = score(job, engine)
    assert (done.status, done.rows_scored, done.rows_quarantined, done.carrier) == ("published", 27, 13, "chunks")
    assert held() == [row for row in scores(features()) if row[1] != "c2"]
    reasons = account.run("SELECT id, _reasons[0]:observed::VARCHAR, a FROM scores_quarantine ORDER BY id LIMIT 2")
    assert reasons == [(2, "c2", 2 / 7), (5, "c2", 5 / 7)]
    assert score(job, engine).status == "unchanged"
    Path("suite.yaml").unlink()
    again = daily(source=job.source.model_dump(exclude_none=True, exclude={"columns"}))
    record = record_of(again, done.run_id)
    replayed = replay(again, record, pipeline.Request(engine, ledger.now(), pipeline.new_run_id()))
    assert (replayed.rows_read, replayed.rows_scored) == (13, 13)
    assert held() == scores(features())
    versions = account.run("SELECT DISTINCT _input_version FROM scores")
    assert versions == [(done.input["version"],)]


def test_from_snowflake_to_delta_with_checks_and_quarantine(daily, account):
    account.load("features", features())
    rule = {"type": "expect_column_values_to_not_be_in_set", "kwargs": {"column": "country", "value_set": ["c2"]}}
    Path("suite.yaml").write_text(yaml.safe_dump({"name": "s", "expectations": [rule | {"severity": "warning"}]}))
    source = {
        "type": "snowflake",
        "connection": account.name,
        "table": None,
        "query": f"SELECT * FROM {account.table('features')} WHERE id <> 3",
    }
    sections = {"source": source, "sinks": [{"type": "delta", "table": "lake/scores"}], "state": None}
    done = score(daily(checks={"features": "suite.yaml"}, **sections))
    assert (done.status, done.rows_scored, done.carrier) == ("published", 39, "chunks")
    rows = read("lake/scores").to_pylist()
    assert {r["country"] for r in rows if r["_warnings"] == ["expect_column_values_to_not_be_in_set"]} == {"c2"}
    Path("suite.yaml").write_text(yaml.safe_dump({"name": "s", "expectations": [rule]}))
    with pytest.raises(Blocked, match="13 of 39 rows"):
        score(daily(checks={"features": "suite.yaml"}, **sections))
    assert {r["country"] for r in read("lake/scores_quarantine").to_pylist()} == {"c2"}
    assert read("lake/scores").to_pylist() == rows


def test_sessions_are_tagged_in_utc_and_without_telemetry_and_used_again(daily, account, monkeypatch):
    opened, connect = [], snowflake.connector.connect
    monkeypatch.setattr(snowflake.connector, "connect", lambda **given: opened.append(given) or connect(**given))
    write("lake/features", features(), ["day"])
    run = score(daily()).run_id
    (asked,) = opened
    assert (asked["connection_name"], asked["timezone"]) == (account.name, "UTC")
    assert asked["query_tag"] == f"lakehouse job=scores run={run}"
    assert asked["session_parameters"]["CLIENT_TELEMETRY_ENABLED"] is False
    assert asked["session_parameters"]["STATEMENT_TIMEOUT_IN_SECONDS"] == 3600
    assert not {"password", "token", "private_key"} & set(asked)


def test_rows_of_a_statement_that_can_not_be_fetched_are_said(account):
    account.server.set(max_age=0)
    with (
        lakehouse_snowflake.session(account.name) as session,
        pytest.raises(Unavailable, match="Failed to fetch chunk"),
    ):
        session.run("SELECT range FROM range(3000)")


def test_a_refused_login_is_said_without_the_secret(daily, account, caplog):
    write("lake/features", features(), ["day"])
    account.server.home(Path(os.environ["SNOWFLAKE_HOME"]), password="a-secret-word")
    with pytest.raises(ConfigError, match=f"connection '{account.name}': the login is refused") as refused:
        score(daily())
    assert "a-secret-word" not in f"{refused.value}{caplog.text}{refused.value.__cause__!r}"


@pytest.mark.long
def test_the_printed_views_stand_on_what_a_job_has_published(daily, account):
    write("lake/features", pa.concat_tables([bad_features(), bad_features(NEXT)]), ["day"])
    runs = [score(daily(day, checks={"quarantine": {"max_fraction": 0.1}})).run_id for day in (DAY, NEXT)]
    for statement in sqlglot.transpile(sql.written(daily(), "snowflake"), "snowflake", "snowflake"):
        account.run(statement)
    current = account.run("SELECT COUNT(*), MIN(_run_id), MAX(_run_id) FROM scores_current")
    assert current == [(38, runs[1], runs[1])]
    assert account.run(f"SELECT COUNT(*) FROM scores_history WHERE valid_to = '{NEXT}'") == [(38,)]
    reasons = account.run('SELECT _run_id, rule, "COLUMN", "ROWS" FROM scores_quarantine_reasons')
    assert sorted(reasons) == sorted((run, "key_not_null", "id", 2) for run in runs)
    assert [run for (run,) in account.run("SELECT run_id FROM scores_ledger ORDER BY published_at DESC")] == runs[::-1]


# What stands against it


def test_rows_of_another_job_or_of_nobody_are_not_replaced(daily, account):
    write("lake/features", features(), ["day"])
    score(daily())
    with pytest.raises(Blocked, match=r"holds rows of another job \(scores\), which this run would delete"):
        score(daily(job="other"))
    account.run("CREATE TABLE theirs (id NUMBER(19,0), p FLOAT, score_date DATE)")
    account.run("INSERT INTO theirs VALUES (1, 0.5, '2026-01-02')")
    sink = {"type": "snowflake", "connection": account.name, "table": account.table("theirs")}
    with pytest.raises(Blocked, match="none named"):
        score(daily(sinks=[sink]))
    assert account.run("SELECT * FROM theirs") == [(1, 0.5, date(2026, 1, 2))]


def test_rows_that_a_person_has_changed_are_not_taken_for_unchanged(daily, account, held):
    write("lake/features", features(), ["day"])
    score(daily())
    account.run("DELETE FROM scores WHERE id < 3")
    with pytest.raises(Blocked, match=r"37 rows live, 40 were published. Use --rescore"):
        score(daily())
    score(daily(), rescore=True)
    assert held() == scores(features())


def test_a_table_with_other_types_is_refused_and_one_that_holds_the_values_is_taken(daily, account, held):
    write("lake/features", features(), ["day"])
    account.run("CREATE TABLE scores (id VARCHAR, p FLOAT, score_date DATE)")
    with pytest.raises(ConfigError, match=r"(?s)another schema than this job writes.*! id +TEXT +NUMBER\(19,0\)"):
        score(daily())
    account.run("DROP TABLE scores")
    account.run(
        "CREATE TABLE scores (score_date DATE, p FLOAT, id NUMBER(38,0) NOT NULL, note VARCHAR DEFAULT 'ours', "
        "country VARCHAR)"
    )
    score(daily())
    assert held() == scores(features())
    assert account.run("SELECT DISTINCT note, _job FROM scores") == [("ours", "scores")]


def test_names_are_quoted_and_folded_as_snowflake_does(make_job, uri, account):
    odd = 'select "x"'
    table = features().rename_columns(["Id", "a", "b", odd, "day"])
    write("lake/features", table)
    sink = {"type": "snowflake", "connection": account.name, "table": f'{account.database}.{account.schema}."my ""t"'}
    job = make_job(
        uri, keys=["Id"], keep=[odd], sinks=[sink], state="state", model={"method": "predict_proba"},
        predictions={"p": {"class": True}},
    )  # fmt: skip
    done = score(job)
    assert done.sinks[0]["table"].endswith('."my ""t"')
    rows = account.run('SELECT id, "select ""x""", p FROM "my ""t" ORDER BY id')
    assert [(i, c) for i, c, _ in rows] == [(i, f"c{i % 3}") for i in range(40)]
    assert score(job).status == "unchanged"
    assert sweep.sweep(job, take_away=False) == []


@pytest.mark.long
def test_names_are_completed_by_the_connection(daily, account, held):
    write("lake/features", features(), ["day"])
    sink = {"type": "snowflake", "connection": account.name, "table": "scores"}
    done = score(daily(sinks=[sink]))
    assert done.sinks[0]["table"] == account.table("SCORES")
    assert held() == scores(features())
    assert score(daily()).status == "unchanged"


def test_two_runs_at_once_are_serialised_or_one_is_told_to_try_again(daily, account, held):
    """Each waits before its transaction until the other is there too."""
    write("lake/features", pa.concat_tables([features(), features(NEXT, start=100)]), ["day"])
    jobs = [daily(DAY), daily(DAY), daily(NEXT)]
    barrier, original, waited = threading.Barrier(3, timeout=60), loading._transact, set()

    def together(*arguments: Any) -> None:
        if threading.get_ident() not in waited:  # it may try again
            waited.add(threading.get_ident())
            barrier.wait()
        original(*arguments)

    def go(job: Any) -> str:
        try:
            return score(job).status
        except LakehouseError as error:
            return type(error).__name__

    loading._transact = together
    try:
        with ThreadPoolExecutor(3) as pool:
            ended = list(pool.map(go, jobs))
    finally:
        loading._transact = original
    assert ended[2] == "published"
    assert sorted(ended[:2]) == ["Overtaken", "published"]
    assert held() == scores(features(), features(NEXT, start=100))
    assert len(held(runs=True)) == 2
    assert score(daily()).status == "unchanged"
    assert account.run("SELECT table_name FROM information_schema.tables WHERE table_name LIKE '%LOAD%'") == []
    assert account.run("LIST @scores_stage") == []


@pytest.mark.long
def test_a_lock_that_nobody_gives_up_ends_a_run_and_the_next_one_finishes_it(daily, account, held, monkeypatch):
    write("lake/features", features(), ["day"])
    score(daily())
    other = account.server.connect(database=account.database, schema=account.schema).cursor()
    other.execute("BEGIN")
    other.execute("UPDATE scores_runs SET fence = fence + 1 WHERE run_id = ''")
    account.server.set(lock_timeout=0.2)
    with pytest.raises(Unavailable, match=r"SCORES: .*another transaction holds the lock.*2 times in a row"):
        score(daily(), rescore=True)
    other.execute("COMMIT")
    other.connection.close()
    monkeypatch.setattr(local, "run", lambda *_: pytest.fail("scored again"))
    done = score(daily())
    assert done.status == "published"
    assert held(runs=True) == {done.run_id}


@pytest.mark.long
def test_what_became_of_a_commit_without_an_answer_is_asked_of_the_ledger(daily, account, held):
    write("lake/features", features(), ["day"])
    account.server.fail(("^COMMIT", "lost reply", 1), ("^COMMIT", "drop", 100))  # the driver asks again and again
    done = score(daily())
    assert done.status == "published"
    assert held() == scores(features())
    assert account.run("SELECT COUNT(*) FROM scores_runs WHERE run_id <> ''") == [(1,)]
    commits = [outcome for sql, outcome in account.server.statements() if sql == "COMMIT"]
    assert commits[:2] == ["lost reply", "drop"]
    assert set(commits[2:]) == {"drop"}


@pytest.mark.long
def test_a_column_that_the_job_adds_is_added_to_the_table(daily, account):
    write("lake/features", features(), ["day"])
    score(daily(keep=[]))
    score(daily())
    assert account.run("SELECT country FROM scores WHERE id = 5") == [("c2",)]
    (added,) = [sql for sql, _ in account.server.statements() if sql.startswith("ALTER")]
    assert 'ADD COLUMN "COUNTRY" VARCHAR COMMENT ' in added


@pytest.mark.long
def test_sparks_executors_upload_the_files(daily, account, held, spark, monkeypatch):
    monkeypatch.setattr(upload, "_put_here", lambda share: pytest.fail("uploaded by the driver"))
    write("lake/features", pa.concat_tables([features(), features(start=100)]), ["country"])
    score(daily(), "spark")
    assert held() == scores(features(), features(start=100))
    sessions_of = {e["session"] for e in account.server.log() if e["sql"].startswith("PUT")}
    assert len(sessions_of) > 1


# Two tables of one job


@pytest.fixture
def both(daily, account):
    """A job into a Delta table and one in Snowflake."""
    snow = {"type": "snowflake", "connection": account.name, "table": account.table("scores")}
    return lambda day=DAY, **more: daily(day, sinks=[{"type": "delta", "table": "lake/scores"}, snow], **more)


def test_both_tables_of_a_job_get_the_same_rows_of_one_run(both, account, held):
    write("lake/features", pa.concat_tables([features(), features(NEXT, start=100)]), ["day"])
    done = score(both())
    score(both(NEXT))
    assert [(sink["type"], sink["version"]) for sink in done.sinks] == [("delta", 1), ("snowflake", 1)]
    mine = [(r["id"], r["country"], round(r["p"], 9), str(r["score_date"])) for r in read("lake/scores").to_pylist()]
    assert sorted(mine) == held() == scores(features(), features(NEXT, start=100))
    assert set(read("lake/scores")["_run_id"].to_pylist()) == held(runs=True)
    assert score(both()).status == "unchanged"
    one, other = digests_of_sinks(both()).values()
    assert one == other
    assert (one.rows, one.uncompared) == (40, ())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE scores SET p = p + 1e-12 WHERE id = 7", "column 'p' has other values"),
        ("UPDATE scores SET country = 'C1' WHERE id = 7", "column 'country' has other values"),
        ("UPDATE scores SET _warnings = NULL WHERE id = 7", "column '_warnings' has other values"),
        ("DELETE FROM scores WHERE id = 7", "there are 40 rows and 39"),
    ],
)
@pytest.mark.quick("UPDATE scores SET p = p + 1e-12 WHERE id = 7-column 'p' has other values")
def test_rows_that_differ_between_the_tables_are_found(both, account, change, said):
    write("lake/features", features(), ["day"])
    score(both())
    account.run(change)
    with pytest.raises(Blocked, match=said):
        digests_of_sinks(both())


def test_on_request_a_run_proves_that_its_tables_are_equal(both, daily, account, capfd):
    write("lake/features", features(), ["day"])
    command = ["score", both().path, "--date", DAY, "--engine", "local", "--verify"]
    done = run(capfd, *command)
    assert done.code == 0
    digests = re.findall(r"verified: (\S+): 40 rows, digest (\w+)", done.out)
    assert [table for table, _ in digests] == ["lake/scores", account.table("SCORES")]
    assert len({value for _, value in digests}) == 1
    assert "PUBLISHED  lake/scores v1, " + account.table("SCORES v1") in done.out
    account.run("DELETE FROM scores WHERE id = 7")
    done = run(capfd, *command[:-1], "--set", "job=other", "--set", "sinks.0.table=lake/others", "--verify")
    assert (done.code, "holds rows of another job" in done.err) == (3, True)
    done = run(capfd, "score", daily().path, "--date", DAY, "--engine", "local", "--verify")
    assert (done.code, "has not both as sinks" in done.err) == (2, True)


def test_a_published_run_is_told_as_published_where_it_can_not_be_verified(both, account, capfd, monkeypatch):
    write("lake/features", features(), ["day"])
    gone = Unavailable("Snowflake can't be reached")
    monkeypatch.setattr(sinks.of("snowflake"), "digest", lambda *_: (_ for _ in ()).throw(gone))
    done = run(capfd, "score", both().path, "--date", DAY, "--engine", "local", "--json", "--verify")
    assert (done.code, done.json["status"], done.json["rows_scored"]) == (5, "published", 40)
    assert (done.json["message"], str(gone) in done.err) == (str(gone), True)


@pytest.mark.long
def test_what_became_of_runs_is_shown(daily, account, capfd):
    write("lake/features", bad_features(), ["day"])
    conf = daily(checks={"quarantine": {"max_fraction": 0.1}}).path
    done = run(capfd, "score", conf, "--date", DAY, "--engine", "local")
    assert re.search(r"id +p +country +_model_version", done.out)
    assert re.search(r"0 +0\.\d{4} +c0", done.out)
    for command, said in [
        (["status", conf, "--date", DAY], "PUBLISHED  " + account.table("SCORES v1")),
        (["runs", conf], "lake/features v0"),
        (["quarantine", conf], "key_not_null      id     2"),
        (["sweep", conf], "nothing is left over"),
    ]:
        assert said in run(capfd, *command).out
    account.run("DROP TABLE scores_runs")
    assert run(capfd, "status", conf, "--date", DAY).code == 6


def test_a_sink_that_can_not_be_reached_leaves_the_run_partial_and_the_next_one_finishes_it_without_scoring(
    both, account, held, monkeypatch
):
    write("lake/features", features(), ["day"])
    account.server.fail(("^COMMIT", "error", 1))
    with pytest.raises(Partial, match="the next run of this job and slice goes on from here"):
        score(both())
    account.server.reset()
    assert read("lake/scores").num_rows == 40
    assert held() == []
    assert status(both())[0].status == "partial"
    monkeypatch.setattr(local, "run", lambda *_: pytest.fail("scored again"))
    done = score(both())
    assert done.status == "published"
    assert held() == scores(features())
    assert set(read("lake/scores")["_run_id"].to_pylist()) == held(runs=True) == {done.run_id}
