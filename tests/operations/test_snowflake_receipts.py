"""`lakehouse explain` and `lakehouse verify` where scores, or what they were made of, are in Snowflake."""

from __future__ import annotations

import itertools
import json
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lakehouse import sinks, sources
from lakehouse.config.systems.snowflake import SnowflakeSink, SnowflakeSource
from lakehouse.scoring.equality import differing
from lakehouse.sources.snowflake.pinning import PinnedQuery
from tests.command import run
from tests.conftest import score, write
from tests.sinks.test_snowflake_sink import MODEL, X, features, job_into


@pytest.fixture(scope="module")
def uri(register):
    return register(MODEL, X, method="predict_proba")


@pytest.fixture
def daily(make_job, uri, account):
    return job_into(account, make_job, uri)


def explain(capfd, *arguments):
    return run(capfd, "explain", "conf/scores.yaml", "--json", *arguments)


def verify(capfd, *arguments):
    return run(capfd, "verify", "conf/scores.yaml", "--json", *arguments)


def test_scores_in_snowflake_come_out_equal_and_an_edited_one_is_caught(capfd, daily, account):
    write("lake/features", features())
    done = score(daily())
    told = explain(capfd, "--key", "7")
    assert told.code == 0, told
    assert (told.json["equal"], told.json["live"], told.json["run"]["run_id"]) == (True, True, done.run_id)
    assert told.json["stored"] == pytest.approx(told.json["again"], rel=1e-12)
    assert told.json["table"] == {"table": account.table("SCORES"), "version": None, "file": ""}
    every = verify(capfd, "--all")
    assert (every.code, every.json["equal"], every.json["alike"]) == (0, 40, True), every

    account.run("UPDATE scores SET p = p + 1e-9 WHERE id = 7")
    found = verify(capfd, "--all")
    assert (found.code, found.json["differing"], found.json["equal"]) == (3, 1, 39)
    [example] = found.json["examples"]
    assert (example["kind"], example["key"], example["column"]) == ("differs", {"id": 7}, "p")
    assert example["stored"] - example["again"] == pytest.approx(1e-9, rel=1e-6)
    assert explain(capfd, "--key", "7").json["differences"]["p"]["by"] == pytest.approx(-1e-9, rel=1e-6)


@pytest.mark.long
def test_a_former_run_is_read_by_time_travel_and_past_it_refused_by_name(capfd, daily, account):
    account.server.set(travel="SCORES")
    write("lake/features", features())
    first = score(daily())
    write("lake/features", features(shift=0.5), mode="overwrite")
    score(daily())
    told = explain(capfd, "--key", "7", "--run", first.run_id[:8])
    assert told.code == 0, told
    assert (told.json["live"], told.json["equal"], told.json["table"]["version"]) == (False, True, 1)
    assert told.json["features"][0]["value"] == 1.0
    past = verify(capfd, "--run", first.run_id, "--all")
    assert (past.code, past.json["equal"], past.json["version"]) == (0, 40, 1)
    account.server.set(travel="SCORES", retention=0.0)
    for asked in (explain(capfd, "--key", "7", "--run", first.run_id), verify(capfd, "--run", first.run_id)):
        assert asked.code == 2
        assert "SCORES: generation 1 was replaced on" in asked.json["message"]
        assert "past the table's Time Travel (DATA_RETENTION_TIME_IN_DAYS)" in asked.json["message"]
    assert explain(capfd, "--key", "7").json["equal"] is True


@pytest.mark.long
def test_what_was_set_aside_warned_of_and_explained_in_snowflake_is_told(capfd, daily, account):
    write("lake/features", features())
    rule = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "max_value": 5, "mostly": 0.5}}
    warns = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "b", "min_value": 0}}
    suite = {"name": "s", "expectations": [rule, {**warns, "severity": "warning"}]}
    Path("suite.json").write_text(json.dumps(suite))
    done = score(daily(checks={"features": "suite.json", "quarantine": {"max_fraction": 0.5}}))
    assert done.rows_quarantined == 4
    aside = explain(capfd, "--key", "38").json
    assert (aside["status"], aside["equal"], aside["run"]["run_id"]) == ("quarantined", True, done.run_id)
    assert [(r["column"], r["observed"]) for r in aside["reasons"]] == [("a", str(38 / 7))]
    assert explain(capfd, "--key", "3").json["warnings"] == ["expect_column_values_to_be_between"]
    found = verify(capfd, "--all")
    assert (found.code, found.json["equal"], found.json["rows"]["quarantine"]) == (0, 36, 4), found


@pytest.mark.long
@pytest.mark.parametrize("types", [["VARCHAR", "'it''s %s; \"x\" \\\\ é'"], ["DATE", "'2026-01-02'"], [
    "TIMESTAMP_NTZ(6)", "'2026-01-02 03:04:05.000006'"], ["TIMESTAMP_LTZ(6)", "'2026-01-02 03:04:05.000006'"],
    ["NUMBER(20,2)", "'1234567890123456.78'"], ["BOOLEAN", "'true'"]], ids=lambda types: types[0])  # fmt: skip
def test_keys_of_any_type_are_bound(account, types):
    kind, text = types
    account.run(f'CREATE TABLE keyed (k {kind}, "_RUN_ID" VARCHAR, other INT)')
    account.run(f"INSERT INTO keyed SELECT {text}::{kind}, 'r', 1")
    account.run("INSERT INTO keyed SELECT NULL, 'r', 2")
    section = SnowflakeSink(type="snowflake", connection=account.name, table=account.table("keyed"))
    module = sinks.of(section.type)
    assert module.stored_columns(section, ["K"]).names == ["K", "_run_id", "other"]
    [(_, every)] = module.rows_at(section, {}, ["k", "other"], None, {"_run_id": "r"})
    value = every.filter(every["other"].to_numpy() == 1)["k"][0].as_py()
    [(_, found)] = module.rows_at(section, {}, ["other"], None, {"k": value})
    assert (found["other"].to_pylist(), found["k"].to_pylist()) == ([1], [value])


def test_lists_and_structs_are_told_from_json_and_what_it_does_not_tell_is_not_compared():
    as_scored = sinks.of("snowflake").as_scored
    kind = pa.list_(pa.struct([("feature", pa.string()), ("contribution", pa.float32())]))
    text = pa.array(['[{"feature":"a","contribution":0.10000000149011612}]', "[]", None])
    assert as_scored(text, kind).to_pylist() == [[{"feature": "a", "contribution": np.float32(0.1)}], [], None]
    assert as_scored(pa.array(["[1,2.5]"]), pa.list_(pa.float64())).to_pylist() == [[1.0, 2.5]]
    assert as_scored(pa.array(['["2026-01-02"]']), pa.list_(pa.date32())) is None
    assert as_scored(pa.array(["plain"]), pa.string()).to_pylist() == ["plain"]


@pytest.fixture
def from_there(daily, account):
    """The job from Snowflake to a Delta table: from_there(rows, **sections) → the job, its features loaded anew."""
    versions = itertools.count()

    def job(rows=None, sink="delta", **sections):
        if rows is not None:
            table = account.load(f"features{next(versions)}", rows)
            account.run("CREATE TABLE IF NOT EXISTS features LIKE features0")
            account.run(f"INSERT OVERWRITE INTO features SELECT * FROM {table}")
        source = {"type": "snowflake", "connection": account.name, "table": account.table("features")}
        more = {} if sink == "snowflake" else {"sinks": [{"type": "delta", "table": "lake/scores"}]}
        return daily(**{"source": {**source, "where": "day = '{date}' -- the day's"}, **more, **sections})

    return job


def test_an_input_in_snowflake_is_read_as_the_run_had_it(capfd, from_there, account):
    account.server.set(travel="FEATURES")
    done = score(from_there(features(), "snowflake"))
    again = verify(capfd, "--all")
    assert (again.code, again.json["equal"], again.json["same_settings"], again.json["notes"]) == (0, 40, True, [])
    account.run("UPDATE features SET a = a + 1")
    found = verify(capfd, "--all")
    assert (found.code, found.json["equal"], found.json["same_settings"], found.json["notes"]) == (0, 40, None, [])
    account.server.reset()
    account.server.set(travel="FEATURES")
    told = explain(capfd, "--key", "7", "--why")
    assert told.code == 0, told
    assert (told.json["equal"], told.json["features"][0]["value"]) == (True, 1.0)
    assert told.json["input"]["version"] == done.input["version"]
    read = [sql for sql, _ in account.server.statements() if '."FEATURES" AT(TIMESTAMP => ' in sql and " AS " in sql]
    narrow, wide = ([sql for sql in read if ('"ID" = 7 AND' in sql) is one] for one in (True, False))
    assert len(narrow) == 1
    assert all(sql.endswith(" LIMIT 1024") for sql in wide)

    account.run("UPDATE scores SET p = p * 2 WHERE id = 7")
    assert verify(capfd, "--all").json["differing"] == 1
    assert explain(capfd, "--key", "7").json["equal"] is False


@pytest.mark.long
def test_past_time_travel_an_input_that_has_not_changed_is_read_and_another_refused_by_name(capfd, from_there, account):
    account.server.set(travel="FEATURES")
    done = score(from_there(features()))
    account.server.set(travel="FEATURES", retention=0.0)
    found = verify(capfd, "--all")
    assert (found.code, found.json["equal"], found.json["same_settings"]) == (0, 40, True), found
    from_there(features(shift=0.5))
    found = verify(capfd, "--all")
    assert found.code == 2
    said = f"the input of run {done.run_id} can't be read again: {account.table('FEATURES')}: its rows as of "
    assert found.json["message"].startswith(said)
    assert "past the table's Time Travel (DATA_RETENTION_TIME_IN_DAYS)" in found.json["message"]
    told = explain(capfd, "--key", "7")
    assert (told.code, told.json["equal"], said in told.json["unknown"][0]) == (2, None, True)


@pytest.mark.long
def test_a_query_is_made_again_as_long_as_its_tables_have_not_changed(capfd, from_there, account):
    from_there(features())
    source = {"type": "snowflake", "connection": account.name, "table": None}
    source["query"] = "SELECT * FROM features WHERE id < 30"
    done = score(from_there(source=source))
    found = verify(capfd, "--all")
    assert (found.code, found.json["equal"], found.json["same_settings"]) == (0, 30, True), found
    assert explain(capfd, "--key", "7").json["equal"] is True
    account.run("DELETE FROM features WHERE id = 3")
    changed = verify(capfd, "--all")
    assert changed.code == 2
    said = f"the input of run {done.run_id} can't be read again: the query on {account.name}: a table of it has changed"
    assert said in changed.json["message"]


@pytest.mark.long
def test_a_run_as_of_a_time_is_made_again_as_of_that_time(capfd, from_there, account):
    account.server.set(travel="FEATURES")
    from_there(features())
    time.sleep(0.1)
    moment = datetime.now(UTC)
    time.sleep(0.1)
    from_there(features(shift=0.5))
    job = from_there(sink="delta")
    source = job.source.model_dump(exclude_none=True, exclude={"columns"}) | {"timestamp": moment.isoformat()}
    done = score(from_there(source=source))
    assert done.input["version"] == (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    from_there(features(shift=0.9))
    found = verify(capfd, "--all")
    assert (found.code, found.json["equal"]) == (0, 40), found


@pytest.mark.parametrize(("values", "where"), [
    ({"id": 7}, '"ID" = 7 AND (\na = 1 OR b = 2 -- x\n)'),
    ({"name": "it's"}, """"name" = 'it\\'s' AND (\na = 1 OR b = 2 -- x\n)"""),
    ({"day": date(2026, 1, 2), "at": 1.5}, """"DAY" = '2026-01-02'::DATE AND (\na = 1 OR b = 2 -- x\n)"""),
])  # fmt: skip
def test_a_key_narrows_the_query(values, where):
    stored = (("id", '"ID"'), ("name", '"name"'), ("day", '"DAY"'), ("at", '"AT"'))
    pinned = PinnedQuery("t", "c", "t", None, pa.schema([]), stored, (), ())
    source = SnowflakeSource(type="snowflake", connection="c", table="D.S.T", where="a = 1 OR b = 2 -- x")
    assert sources.of("snowflake").narrowed(source, pinned, values).where == where


@pytest.mark.long
def test_lists_of_a_models_answer_are_made_again_and_left_out_of_a_diff(capfd, daily, account):
    predictions = {"p": {"class": True}, "both": "*"}
    write("lake/features", features())
    score(daily(predictions=predictions))
    told = explain(capfd, "--key", "7").json
    assert told["equal"] is True
    assert told["stored"]["both"] == pytest.approx(told["again"]["both"], rel=1e-12)
    assert verify(capfd, "--all").json["equal"] == 40
    account.run("UPDATE scores SET both = ARRAY_CONSTRUCT(0.25, 0.75) WHERE id = 7")
    found = verify(capfd, "--all").json
    assert (found["differing"], found["examples"][0]["column"], found["notes"]) == (1, "both", [])

    write("lake/features", features(shift=0.5), mode="overwrite")
    held = score(daily(predictions=predictions), hold=True)
    seen = run(capfd, "diff", "conf/scores.yaml", "--run", held.run_id, "--by", "country", "--json")
    assert seen.code == 0, seen
    assert (seen.json["changed"], seen.json["not_compared"]) == (40, ["both"])
    assert [one["name"] for one in seen.json["predictions"]] == ["p"]
    refused = run(capfd, "diff", "conf/scores.yaml", "--run", held.run_id, "--by", "both")
    assert (refused.code, "name a column of single values" in refused.err) == (2, True)


def test_floats_of_32_bits_that_are_kept_as_64_are_equal_by_their_own_rounding():
    again = pa.array([0.1, 0.2, None, float("nan"), 3.0], pa.float32())
    assert not differing(again.cast(pa.float64()), again, exact=True).any()
    rounded = pa.array([0.1, 0.2, None, float("nan"), 3.0])
    assert differing(rounded, again, exact=True).tolist() == [True, True, False, False, False]
    assert not differing(rounded, again, largest=3.0).any()
    assert differing(pa.array([0.1001, 0.2, 1.0, 0.5, 3.0]), again).tolist() == [True, False, True, True, False]
