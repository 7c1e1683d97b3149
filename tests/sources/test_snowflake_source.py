"""Scoring rows of Snowflake: pinning, types, names, units, and whole jobs into Delta tables."""

from __future__ import annotations

import datetime as dt
import json
import pickle
import re
import subprocess
import sys
import time
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from lakehouse.config.systems.snowflake import SnowflakeSource
from lakehouse.connectors import snowflake
from lakehouse.connectors.snowflake.sessions import Session
from lakehouse.engines import forking, local
from lakehouse.errors import ConfigError, NotReady, Unavailable
from lakehouse.planning import starting
from lakehouse.sources import snowflake as reading
from tests.command import run
from tests.conftest import read, score, version
from tests.tables import assert_tables_equal

ROWS = 5000
DAY, NEXT = "2026-01-02", "2026-01-03"
X = pd.DataFrame({"a": np.arange(40) / 7, "b": np.arange(40) % 3 - 1.0})
MODEL = LogisticRegression().fit(X, X["a"] > 3)
OF_GAMES = r'^SELECT "\w+" AS'
"""The statement that reads the input."""


@pytest.fixture(scope="module")
def uri(register):
    return register(MODEL, X, method="predict_proba")


@pytest.fixture
def games(account):
    """A table of 5000 rows of two days; gives its full name."""
    ids = np.arange(ROWS)
    rows = {
        "player_id": pa.array(ids).cast(pa.decimal128(19, 0)).cast(pa.decimal128(38, 0)),
        "country": [f"c{i % 3}" for i in ids], "a": ids / 7, "b": -(ids % 5.0),
        "unused": pa.nulls(ROWS, pa.list_(pa.string())),
        "day": pa.array([DAY] * 40 + [NEXT] * (ROWS - 40)).cast(pa.date32()),
    }  # fmt: skip
    return account.load("games", pa.table(rows))


@pytest.fixture
def snow_job(make_job, uri, account):
    """snow_job(table=|query=…, **sections) → a job that reads from Snowflake."""

    def make(table: str | None = None, date: str | None = None, **more: Any) -> Any:
        source = {"type": "snowflake", "connection": account.name, "table": table, **more.pop("source", {})}
        sections = {"keys": ["player_id"], "keep": ["country"], "predictions": {"p": {"class": True}}, **more}
        return make_job(uri, date=date, source=source, model={"method": "predict_proba"}, **sections)

    return make


@pytest.fixture
def pin(account):
    """pin(names=(), **source) → the pinned input."""

    def make(names=(), **source):
        return reading.pin(SnowflakeSource(type="snowflake", connection=account.name, **source), names)

    return make


def rows_of(pinned: Any, columns: list[str] | None = None) -> pa.Table:
    """The rows of a pinned input, unit by unit, each having been pickled."""
    columns = columns or pinned.schema.names
    work = reading.units(reading.read(pinned, columns), columns, 4, 2)
    batches = [batch for unit in work for batch in pickle.loads(pickle.dumps(unit)).batches()]
    return pa.Table.from_batches(batches, pa.schema([pinned.schema.field(c) for c in columns]))


def expected(ids: Any) -> pa.Table:
    frame = pd.DataFrame({"a": ids / 7, "b": -(ids % 5.0)})
    return pa.table(
        {"player_id": pa.array(ids), "country": [f"c{i % 3}" for i in ids], "p": MODEL.predict_proba(frame)[:, 1]}
    )


def assert_scored(ids: Any) -> None:
    assert_tables_equal(read("lake/scores").select(["player_id", "country", "p"]), expected(ids), float64=1e-12)


def reads(account) -> list[str]:
    """The statements that read the input, as the server got them."""
    return [sql for sql, _ in account.server.statements() if re.search(OF_GAMES, sql)]


@pytest.mark.parametrize("engine", ["local", "spark"])
def test_a_table_in_snowflake_is_scored(account, games, snow_job, engine, request):
    """Part of its rows comes with the answer, the rest from URLs, in Spark's workers too."""
    if engine == "spark":
        request.getfixturevalue("spark")
    began = time.time()
    done = score(snow_job(games), engine)
    assert (done.status, done.rows_read, done.carrier) == ("published", ROWS, "chunks")
    assert_scored(np.arange(ROWS))
    assert done.input["table"] == games.upper()
    assert abs(done.input["version"] / 1000 - began) < 60
    assert re.fullmatch("[0-9a-f-]{36}", done.input["query_id"])
    assert set(read("lake/scores")["_input_version"].to_pylist()) == {done.input["version"]}


def test_processes_are_begun_as_soon_as_the_query_has_told_its_rows(account, games, snow_job, monkeypatch):
    begun = []
    monkeypatch.setattr(starting, "_MANY_ROWS", ROWS)
    monkeypatch.setattr(local, "cores", lambda: 2)
    monkeypatch.setattr(forking, "begin", lambda loaded: begun.append((len(loaded), len(reads(account)))))
    score(snow_job(games))
    assert begun == [(1, len(reads(account)))]


# What is asked of Snowflake


def suite(*columns: str) -> str:
    """A suite that asks of columns that they are never null; gives its path."""
    rules = [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": c}} for c in columns]
    path = Path("suite.json")
    path.write_text(json.dumps({"name": "suite", "expectations": rules}))
    return str(path)


def test_only_what_is_needed_is_asked_for(account, games, snow_job):
    """Keys, keep, features and what a suite checks, which may name columns in either case; the rest stays there."""
    checks = {"features": suite("DAY", "A", "country")}
    done = score(snow_job(games, DAY, source={"where": "day = '{date}'"}, checks=checks))
    assert (done.status, done.rows_read, done.rows_scored) == ("published", 40, 40)
    assert_scored(np.arange(40))
    columns = ", ".join(f'"{c.upper()}" AS "{c}"' for c in ("player_id", "country", "A", "b", "DAY"))
    (sql,) = reads(account)
    name = f'"{account.database}"."{account.schema}"."GAMES"'
    assert sql == f"SELECT {columns} FROM {name} WHERE (\nday = '{DAY}'\n)"


def test_a_query_is_the_input(account, games, snow_job):
    query = f"""
        WITH these AS (SELECT player_id AS "id", country, a, b FROM {games} WHERE day = '{{date}}' -- the day's
        ) SELECT * FROM These; """
    done = score(snow_job(date=DAY, source={"query": query}, keys=["id"]))
    rows = read("lake/scores").rename_columns({"id": "player_id"})
    assert_tables_equal(rows.select(["player_id", "country", "p"]), expected(np.arange(40)), float64=1e-12)
    assert done.input["table"] == f"the query on {account.name}"
    (sql,) = reads(account)
    filled = query.replace("{date}", DAY).strip().rstrip(";")
    assert sql == f'SELECT "id" AS "id", "COUNTRY" AS "country", "A" AS "a", "B" AS "b" FROM (\n{filled}\n)'


def test_a_time_of_the_past_is_read(account, games, snow_job, pin):
    job = snow_job(games, source={"timestamp": "2026-01-01T01:00:00+01:00"})
    assert score(job).status == "published"
    (sql,) = reads(account)
    assert sql.endswith(".\"GAMES\" AT(TIMESTAMP => '2026-01-01 01:00:00+01:00'::TIMESTAMP_TZ)")
    account.run("DELETE FROM games")
    assert score(job).status == "unchanged"
    at = {"table": games, "timestamp": "2026-01-01"}
    assert "'2026-01-01 00:00:00+00:00'" in pin(**at).origin  # UTC, as for Delta
    assert pin(**at).fingerprint() == pin(**at).fingerprint()
    for never in ({"where": "day < CURRENT_DATE"}, {"timestamp": "9999-01-01"}):
        assert pin(**{**at, **never}).fingerprint() != pin(**{**at, **never}).fingerprint()


def test_the_plan_of_a_dry_run_reads_a_few_rows(account, games, snow_job):
    done = score(snow_job(games, source={"min_rows": 2000}), dry_run=True)
    assert (done.status, done.plan["rows_at_most"]) == ("planned", None)
    (sql,) = reads(account)
    assert sql.endswith(" LIMIT 1024")
    assert not Path("lake").exists()
    done = score(snow_job(games, source={"where": "player_id < 7"}), dry_run=True)
    assert done.plan["rows_at_most"] == 7


@pytest.mark.parametrize(("source", "said"), [
    ({"where": "player_id < 5", "min_rows": 6}, "5 rows to score, source.min_rows asks for 6: nothing was replaced"),
    ({"where": "player_id < 0"}, "0 rows to score"),
    ({"where": "player_id < 0", "min_rows": 0}, "no row passes source.where: nothing to score, nothing was replaced"),
])  # fmt: skip
@pytest.mark.quick("source1-0 rows to score")
def test_an_input_that_is_not_there_yet_replaces_nothing(games, snow_job, source, said):
    score(snow_job(games, source={"where": "player_id < 9"}))
    with pytest.raises(NotReady, match=said):
        score(snow_job(games, source=source))
    assert version("lake/scores") == 1
    assert_scored(np.arange(9))


def test_a_view_is_scored(account, games, snow_job):
    account.run("CREATE VIEW older AS SELECT player_id, country, a, b FROM games WHERE day > '2026-01-02'")
    assert score(snow_job(account.table("older"))).status == "published"
    assert_scored(np.arange(40, ROWS))


# Names


def test_names_are_found_in_any_case_and_kept_as_the_job_spells_them(account, snow_job):
    account.run('CREATE TABLE people ("Player_Id" INT, COUNTRY VARCHAR, A FLOAT, "Income_2025" FLOAT, b FLOAT)')
    account.run("INSERT INTO people VALUES (1, 'c1', 2, 3, 4)")
    done = score(snow_job(
        account.table("people").lower(), keys=["player_id"], keep=["Country", "Income_2025"],
        features={"rename": {"a": "income_2025", "b": "A"}},
    ))  # fmt: skip
    assert done.status == "published"
    rows = read("lake/scores")
    assert rows.column_names[:3] == ["player_id", "Country", "Income_2025"]
    assert rows["p"].to_pylist() == [MODEL.predict_proba(pd.DataFrame({"a": [3.0], "b": [2.0]}))[0, 1]]


def test_numbers_become_a_models_doubles_exactly_or_fractions_as_near_as_can_be(account, snow_job):
    rows = {
        "player_id": [1, 2, 3], "country": ["x"] * 3, "b": [2**53, -1, 2**53 + 1],
        "a": pa.array([Decimal("3.57"), Decimal("85846.40"), Decimal("0.10")], pa.decimal128(10, 2)),
    }  # fmt: skip
    score(
        snow_job(account.load("numbers", pa.table(rows)), checks={"quarantine": {"max_rows": 1, "max_fraction": 0.5}})
    )
    frame = pd.DataFrame({"a": [3.57, 85846.4], "b": [2.0**53, -1.0]})
    assert read("lake/scores")["p"].to_pylist() == MODEL.predict_proba(frame)[:, 1].tolist()
    [aside] = read("lake/scores_quarantine").to_pylist()  # a whole number that no double is
    assert aside["_reasons"] == [{"rule": "exact", "column": "b", "observed": str(2**53 + 1)}]


def spelled(pin, account, columns: str, names: list[str]) -> dict[str, str]:
    """How the job spells a new table's columns, and how they are stored."""
    account.run(f"CREATE OR REPLACE TABLE t ({columns})")
    return {name: stored[1:-1] for name, stored in pin(names, table=account.table("t")).stored}


def test_the_spelling_of_a_name(pin, account):
    columns = 'id INT, "Mixed" INT, "low" INT, "a b" INT, "É" INT'
    plain = {"id": "ID", "Mixed": "Mixed", "low": "low", "a b": "a b", "É": "É"}
    assert spelled(pin, account, columns, []) == plain
    used = {"Id": "ID", "MIXED": "Mixed", "Low": "low", "A B": "a b", "é": "É"}
    assert spelled(pin, account, columns, list(used)) == used
    assert spelled(pin, account, "id INT", ["id", "ID"]) == {"id": "ID"}  # keys come before suites
    assert spelled(pin, account, "id INT", ["ID", "id"]) == {"ID": "ID"}


def column(name: str, type_code: int = 0, precision: int | None = None, scale: int | None = None) -> Any:
    """A column as the connector describes it."""
    from snowflake.connector.cursor import ResultMetadata

    return ResultMetadata(name, type_code, None, None, precision, scale, True)


@pytest.fixture
def described(monkeypatch):
    """described(*columns): so any query is described, as the stand-in can't."""

    def make(*columns):
        monkeypatch.setattr(Session, "describe", lambda *_: list(columns))

    return make


def test_names_that_differ_in_case_only_stay_as_they_are(described, account, games, pin):
    described(column("ID"), column("id"), column("Other"), column("A"))
    assert pin(["Id", "id", "other"], table=games).schema.names == ["ID", "id", "other", "a"]
    assert pin(table=games, columns=["id"]).schema.names == ["id"]
    assert pin(["Id"], table=games, columns=["id", "a", "A"]).stored == (("Id", '"id"'), ("a", '"A"'))
    assert pin(table=games, columns=["Id"]).stored == (("id", '"ID"'),)  # as Snowflake reads it without quotes
    with pytest.raises(ConfigError, match=r"source.columns: .*GAMES has no column 'nope', known: A, ID, Other, id"):
        pin(table=games, columns=["nope"])


def test_a_name_that_a_query_gives_twice_is_refused_where_it_is_needed(described, games, pin):
    described(column("A"), column("ID"), column("A"))
    pinned = pin(table=games)
    assert reading.carrier(pinned, ["id"])[0] == "chunks"
    with pytest.raises(
        ConfigError, match=r"column 'a' of .* is there twice: name one of them otherwise in source\.query"
    ):
        reading.carrier(pinned, ["id", "a"])


@pytest.mark.parametrize(("code", "said"), [(14, "GEOGRAPHY"), (15, "GEOMETRY"), (16, "VECTOR"), (99, "of type 99")])
@pytest.mark.quick("14-GEOGRAPHY")
def test_a_type_that_nobody_hands_on_is_refused_by_name(described, games, snow_job, code, said):
    described(column("PLAYER_ID"), column("A", 1), column("B", 1), column("COUNTRY", 2), column("SHAPE", code))
    job = snow_job(games, keep=["shape"])
    with pytest.raises(
        ConfigError, match=f"column 'shape' of .*GAMES is {said}, which can be neither handed to a model nor kept"
    ):
        score(job)
    assert not Path("lake").exists()
    assert score(snow_job(games)).status == "published"


def test_a_table_may_be_read_by_some_of_its_columns_only(games, snow_job):
    allowed = {"columns": ["player_id", "A", "b"]}
    with pytest.raises(ConfigError, match=r"keep: .*GAMES has no column 'country', known: a, b, player_id"):
        score(snow_job(games, source=allowed))
    with pytest.raises(ConfigError, match=r"source.columns: .*GAMES has no column 'contry', did you mean 'COUNTRY'\?"):
        score(snow_job(games, source={"columns": ["contry"]}))
    assert score(snow_job(games, source=allowed, keep=[])).status == "published"


# The same rows again


@pytest.mark.parametrize("change", ["INSERT INTO {games} (player_id, country, a, b) VALUES (-1, 'x', 1, 1)",
                                    "UPDATE {games} SET a = a + 1 WHERE player_id = 7", "DELETE FROM {games} WHERE a > 700"])  # fmt: skip
@pytest.mark.quick("UPDATE {games} SET a = a + 1 WHERE player_id = 7")
def test_a_table_is_scored_again_once_it_changed(account, games, snow_job, change):
    job = snow_job(games)
    first = score(job)
    again = score(job)
    assert (again.status, again.input["version"], "query_id" in again.input) == ("unchanged", None, False)
    assert len(reads(account)) == 1
    account.run(change.format(games=games))
    changed = score(job)
    assert (changed.status, changed.input["version"] > first.input["version"]) == ("published", True)
    assert len(reads(account)) == 2


READ = {
    "a table": ({"table": "t"}, "t"),
    "a table of a query": ({"query": "SELECT * FROM t JOIN u USING (i)"}, "u"),
    "a table of a CTE": ({"query": "WITH a AS (SELECT * FROM U) SELECT * FROM t, A"}, "u"),
    "a table that a CTE hides": ({"query": "WITH u AS (SELECT * FROM u) SELECT * FROM U"}, "u"),
    "a table of a subquery": ({"query": "SELECT * FROM t WHERE i IN (SELECT MAX(i) FROM u)"}, "u"),
    "a table of a union": ({"query": "SELECT i FROM t UNION ALL (SELECT i FROM u)"}, "u"),
    "a table in quotes": ({"query": 'SELECT * FROM "Odd.name" o'}, '"Odd.name"'),
    "a table of the condition": ({"table": "t", "where": "i IN (SELECT i FROM u)"}, "u"),
    "a table of a view": ({"table": "v"}, "u"),
    "a table of a view of a view": ({"query": "SELECT * FROM v2"}, "u"),
}  # fmt: skip


@pytest.fixture
def tables(account):
    for name in ("t", "u", '"Odd.name"', "other"):
        account.run(f"CREATE TABLE {name} (i INT)")
        account.run(f"INSERT INTO {name} VALUES (1)")
    account.run("CREATE VIEW v AS SELECT * FROM u WHERE i > 0")
    account.run("CREATE VIEW v2 AS SELECT i FROM v UNION ALL SELECT i FROM t")
    account.run("CREATE VIEW today AS SELECT i, CURRENT_DATE() AS day FROM u")
    account.run("CREATE VIEW v3 AS SELECT * FROM today")


@pytest.mark.parametrize("case", READ)
@pytest.mark.quick("a table", "a table that a CTE hides", "a table of a view of a view")
def test_a_change_of_any_table_that_is_read_is_seen(account, tables, pin, case):
    source, table = READ[case]
    before = pin(**source).fingerprint()
    account.run("INSERT INTO other VALUES (2)")
    assert pin(**source).fingerprint() == before
    account.run(f"INSERT INTO {table} VALUES (2)")
    assert pin(**source).fingerprint() != before


def test_another_definition_of_a_view_is_seen(account, tables, pin):
    before = pin(table="v2").fingerprint()
    account.run("CREATE OR REPLACE VIEW v AS SELECT * FROM u WHERE i >= 0")
    assert pin(table="v2").fingerprint() != before


@pytest.mark.parametrize("source", [
    {"query": "SELECT * FROM t WHERE CURRENT_DATE > '2000-01-01'"}, {"query": "SELECT i, SYSDATE() AS at FROM t"},
    {"query": "SELECT i, RANDOM() AS x FROM t"}, {"query": "SELECT i, UUID_STRING() AS x FROM t"},
    {"query": "SELECT i, CURRENT_USER() AS x FROM t"}, {"query": "SELECT * FROM t SAMPLE (50)"},
    {"query": "SELECT sq.NEXTVAL AS x FROM t"}, {"query": "SELECT i, own_function(i) AS x FROM t"},
    {"table": "t", "where": "i < DATE_PART(YEAR, CURRENT_TIMESTAMP())"}, {"table": "today"}, {"query": "SELECT * FROM v3"},
], ids=str)  # fmt: skip
@pytest.mark.quick("{'query': 'SELECT * FROM v3'}", "{'query': 'SELECT i, RANDOM() AS x FROM t'}", "{'table': 'today'}")
def test_what_may_differ_at_any_time_is_never_the_same(account, tables, pin, source, monkeypatch):
    account.run("CREATE SEQUENCE sq")
    if "own_function" in str(source):
        monkeypatch.setattr(Session, "describe", lambda *_: [column("I")])
    assert pin(**source).fingerprint() != pin(**source).fingerprint()


@pytest.mark.parametrize("asked", ["LAST_CHANGE_COMMIT_TIME", "SHOW TERSE OBJECTS"])
@pytest.mark.parametrize("answer", ["an error", "nothing"])
def test_a_table_that_does_not_tell_when_it_changed_is_never_the_same(tables, pin, asked, answer, monkeypatch):
    """A shared one, say."""
    ask = Session.run

    def answered(self: Session, sql: str, *values: Any) -> Any:
        if asked not in sql:
            return ask(self, sql, *values)
        if answer == "an error":
            raise ConfigError("not for objects that are shared")
        return [(None,)] if "LAST" in sql else []

    monkeypatch.setattr(Session, "run", answered)
    assert pin(table="t").fingerprint() != pin(table="t").fingerprint()


# Values


VALUES: dict[str, tuple[str, str, list[str]]] = {
    "N38": ("NUMBER(38,0)", "int64", [str(2**63 - 1), str(-(2**63)), "0"]),
    "N19": ("NUMBER(19,0)", "int64", ["9223372036854775807", "-1"]),
    "N5": ("NUMBER(5,0)", "int64", ["-99999", "7"]),
    "N20": ("NUMBER(20,0)", "decimal128(20, 0)", ["99999999999999999999", "1"]),
    "N37": ("NUMBER(37,0)", "decimal128(37, 0)", ["-" + "9" * 37, "200"]),
    "N2": ("NUMBER(12,2)", "decimal128(12, 2)", ["9999999999.99", "-0.01", "1"]),
    "S37": ("NUMBER(38,37)", "decimal128(38, 37)", ["9." + "9" * 37, "-0." + "0" * 36 + "1"]),
    "F": ("FLOAT", "double", ["'-0.0'", "'NaN'", "'inf'", "5e-324", "0.1"]),
    "B": ("BOOLEAN", "bool", ["TRUE", "FALSE"]),
    "S": ("VARCHAR", "string", ["''", "'Zürich 😀'", "'e\u0301'", "'it''s \"q\"'", "REPEAT('ü', 3000)"]),
    "X": ("BINARY", "binary", ["TO_BINARY('00FF', 'HEX')", "TO_BINARY('', 'HEX')"]),
    "D": ("DATE", "date32[day]", ["'0001-01-01'", "'9999-12-31'", "'1969-12-31'", "'1582-10-10'"]),
    "TI": ("TIME", "string", ["'23:59:59.999999'", "'00:00:00'"]),
    "NTZ": ("TIMESTAMP_NTZ", "timestamp[us]", ["'0001-01-01'", "'9999-12-31 23:59:59.999999'", "'1969-12-31 23:59:59.9'"]),
    "NTZ3": ("TIMESTAMP_NTZ(3)", "timestamp[us]", ["'1677-09-21 00:12:43.145'", "'2262-04-11 23:47:16.855'"]),
    "LTZ": ("TIMESTAMP_LTZ(6)", "timestamp[us, tz=UTC]", ["'0001-01-01 00:00:00+00:00'", "'9999-12-31 23:59:59.999999+00:00'"]),
    "TZ": ("TIMESTAMP_TZ", "timestamp[us, tz=UTC]", ["'2026-01-02 03:04:05.5 +02:00'::TIMESTAMP_TZ", "'0001-01-02 00:00:00+00:00'"]),
    "VA": ("VARIANT", "string", ["PARSE_JSON('{\"a\": [1, null, \"ü\"]}')", "PARSE_JSON('1')", "PARSE_JSON('\"x\"')"]),
    "AR": ("ARRAY", "string", ["ARRAY_CONSTRUCT(1, 'b')", "ARRAY_CONSTRUCT()"]),
    "OB": ("OBJECT", "string", ["OBJECT_CONSTRUCT('k', 1)", "OBJECT_CONSTRUCT()"]),
}  # fmt: skip
"""A column's type in Snowflake, the type that it is read as, and values in SQL."""


def plainly(value: Any, kind: pa.DataType) -> Any:
    """A value of the connector's cursor as it is read: a time as text, an instant in UTC, a number in its column's type."""
    if isinstance(value, dt.time):
        return value.isoformat("microseconds")
    if isinstance(value, dt.datetime) and value.tzinfo:
        return value.astimezone(dt.UTC)
    if isinstance(value, int | Decimal) and not pa.types.is_boolean(kind):
        places = Decimal(1).scaleb(-kind.scale) if pa.types.is_decimal(kind) else None
        return int(value) if places is None else Decimal(value).quantize(places, context=Context(prec=38))
    return value


@pytest.mark.parametrize("chunk_rows", [1, 4, 1000])
@pytest.mark.quick("4")
def test_chunks_hold_the_rows_of_the_cursor(account, pin, chunk_rows):
    """Every type, with nulls and extremes; numbers come narrower in one chunk than in another."""
    account.server.set(chunk_rows=chunk_rows)
    account.run(
        f"CREATE TABLE every (row_number INT, {', '.join(f'{n} {kind}' for n, (kind, _, _) in VALUES.items())})"
    )
    lines = [
        ", ".join([str(i), *("NULL" if i % 7 == 6 else v[i % len(v)] for *_, v in VALUES.values())]) for i in range(14)
    ]
    for line in lines:
        account.run(f"INSERT INTO every SELECT {line}")
    pinned = pin(table="every")
    assert {f.name: str(f.type) for f in pinned.schema if f.name != "row_number"} == {
        n.lower(): kind for n, (_, kind, _) in VALUES.items()
    }
    rows = rows_of(pinned)
    account.server.set(chunk_rows=1000)  # the cursor takes the first chunk's width of a number for all of them
    with snowflake.session(account.name) as session:
        given = zip(rows.schema, zip(*session.run("SELECT * FROM every"), strict=True), strict=True)
    wanted = pa.table({f.name: pa.array([plainly(v, f.type) for v in column], f.type) for f, column in given})
    assert wanted.num_rows == 14
    assert_tables_equal(rows.sort_by("row_number"), wanted.sort_by("row_number"))


@pytest.mark.parametrize(("value", "remedy", "kind"), [
    (2**63, "::NUMBER(37, 0), which is handed on as a decimal", pa.decimal128(37, 0)),
    (-(10**37), "::VARCHAR", pa.string()),
])  # fmt: skip
def test_a_whole_number_beyond_64_bits_fails_with_the_remedy(account, games, snow_job, pin, value, remedy, kind):
    account.run(f"INSERT INTO games (player_id, country, a, b) VALUES ({value}, 'x', 1, 1)")
    with pytest.raises(ConfigError) as refused:
        score(snow_job(games, source={"where": "player_id < 10 OR a = 1"}))
    said = f"column 'player_id' holds {abs(value)}, beyond 64 bits: read it by source.query with player_id{remedy}"
    assert said in str(refused.value)
    cast = said.rsplit("with ", 1)[1].split(", which")[0]
    pinned = pin(query=f"SELECT {cast} AS id FROM games WHERE b = 1")
    assert pinned.schema.field("id").type == kind
    assert [int(v) for v in rows_of(pinned)["id"].to_pylist()] == [value]


# Faults


def test_results_are_asked_for_again_once_their_urls_expired(account, games, pin):
    account.server.set(max_age=0.5)
    pinned = reading.read(pin(table="games"), ["player_id"])
    work = reading.units(pinned, ["player_id"], 10_000, 2)
    assert len(work) == 5
    ids = []
    for number, unit in enumerate(work):
        if number in (1, 3):
            time.sleep(0.6)  # at first the result's own URLs expire, later the new ones too
        ids += [i for batch in unit.batches() for i in batch["player_id"].to_pylist()]
    assert sorted(ids) == list(range(ROWS))
    asked = [sql for sql, _ in account.server.statements() if sql.startswith("GET ")]
    assert asked == [f"GET /queries/{pinned.result.query_id}/result"] * 2


FETCH = """
import pickle, sys
print(sorted(i for unit in pickle.load(sys.stdin.buffer) for batch in unit.batches() for i in batch[0].to_pylist()))
"""


@pytest.mark.long
def test_another_process_asks_again_by_itself(account, games, pin):
    work = reading.units(reading.read(pin(table="games"), ["player_id"]), ["player_id"], 10_000, 2)
    account.run("UPDATE games SET player_id = -player_id")  # the result stays that of then
    account.server.set(max_age=0.8)
    time.sleep(0.9)
    asked = [sys.executable, "-W", "ignore", "-c", FETCH]
    done = subprocess.run(asked, input=pickle.dumps(work), stdout=subprocess.PIPE, check=True, timeout=60)
    assert json.loads(done.stdout) == list(range(ROWS))
    (again,) = [sql for sql, _ in account.server.statements() if sql.startswith("GET ")]
    assert again == f"GET /queries/{work[0].query_id}/result"


@pytest.mark.long
def test_a_worker_without_the_connection_says_what_to_do(account, games, snow_job, spark, tmp_path, monkeypatch):
    """Spark's workers have the environment of their start, in which there is no such connection."""
    home = tmp_path / "connections.toml"
    home.touch(0o600)
    home.write_text(account.server.toml("new", database=account.database, schema=account.schema))
    monkeypatch.setenv("SNOWFLAKE_HOME", str(tmp_path))
    account.server.set(max_age=0)
    with pytest.raises(Unavailable) as refused:
        score(snow_job(games, source={"connection": "new"}), "spark")
    said = str(refused.value)
    assert re.search(r"part [1-4] of query [0-9a-f-]{36} can't be fetched \(.*\), nor be asked for again "
                     r"\(Snowflake: there is no connection 'new' in .*\)\.", said)  # fmt: skip
    assert said.endswith(
        "run again, in shorter parts, or let workers have the connection 'new' in their connections.toml"
    )
    assert "\n" not in said
    assert refused.value.exit_code == 5
    assert version("lake/scores") == -1


@pytest.mark.parametrize("action", ["503", "drop", "slow 0.2"])
@pytest.mark.quick("drop")
def test_a_chunk_that_fails_once_is_fetched_again(account, games, snow_job, action):
    account.server.fail(("^GET /chunks/", action, 1, 1))
    assert score(snow_job(games)).rows_scored == ROWS
    assert account.server.fail() == []
    assert_scored(np.arange(ROWS))


@pytest.mark.parametrize("action", ["drop", "lost reply", "503"])
@pytest.mark.quick("lost reply")
def test_a_query_whose_connection_is_lost_once_is_asked_again(account, games, snow_job, action):
    account.server.fail((OF_GAMES, action, 1))
    assert score(snow_job(games)).rows_scored == ROWS
    assert account.server.fail() == []
    assert_scored(np.arange(ROWS))


@pytest.mark.parametrize(("pattern", "action"), [(OF_GAMES, "drop"), (OF_GAMES, "error")], ids=["drop", "error"])
@pytest.mark.quick("error")
def test_without_an_answer_nothing_is_published_and_the_next_run_does(account, games, snow_job, pattern, action):
    account.server.fail((pattern, action, 99))
    with pytest.raises(Unavailable, match=r"^Snowflake, connection 'tests': .*: try again$"):
        score(snow_job(games))
    account.server.fail(("", "drop", 0))
    assert version("lake/scores") == -1
    assert score(snow_job(games)).status == "published"


# What is wrong


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "connection": ({"connection": "test"}, "Snowflake: there is no connection 'test' in .*connections.toml, did you mean 'tests'?"),
    "table": ({"table": "game"}, "source.table: there is no table or view {here}.GAME on connection 'tests' that its role may read, did you mean 'GAMES'?"),
    "schema": ({"table": "nope.games"}, "source.table: there is no Schema 'NOPE' on connection 'tests' that its role may use"),
    "name of a table": ({"table": "a.b.c.d"}, "'a.b.c.d' is no name of a table: write table, schema.table or database.schema.table, .*"),
    "columns": ({"columns": ["player_ids"]}, "source.columns: {here}.GAMES has no column 'player_ids', did you mean 'PLAYER_ID'?"),
    "where": ({"where": "player_ids < 5"}, "source.where: there is no column PLAYER_IDS, did you mean 'PLAYER_ID'?"),
    "where's SQL": ({"where": "player_id < "}, "source.where: Snowflake, connection 'tests': SELECT: .*"),
    "a table in where": ({"where": "player_id IN (SELECT i FROM gamse)"}, "source.where: there is no table or view {here}.GAMSE .*, did you mean 'GAMES'?"),
    "query": ({"query": "SELECT * FROM gamse"}, "source.query: there is no table or view {here}.GAMSE .*, did you mean 'GAMES'?"),
    "a column in a query": ({"query": "SELECT no_such FROM games"}, "source.query: there is no column NO_SUCH in what it reads"),
    "query's SQL": ({"query": "SELEC 1"}, "source.query: Snowflake, connection 'tests': SELECT: .*"),
    "timestamp": ({"timestamp": "yesterday"}, "source.timestamp: 'yesterday' is no time: write one in ISO 8601, such as 2026-01-02T03:04:05Z"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.quick("connection", "table", "where's SQL", "a column in a query", "timestamp")
def test_what_is_wrong_is_named_in_one_line(account, games, snow_job, capfd, case):
    changes, said = WRONG[case]
    snow_job(None if "query" in changes else games, source=changes)
    ended = run(capfd, "score", "conf/scores.yaml", "--engine", "local", "--json")
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    here = re.escape(f"{account.database}.{account.schema}")
    pattern = re.escape(said).replace(r"\.\*", ".*").replace(re.escape("{here}"), here)
    assert re.search(pattern + "$", line), line
    assert reads(account) == []
    assert not Path("lake").exists()


@pytest.mark.parametrize(("sections", "said"), [
    ({"keys": ["player"]}, "keys: .* has no column 'player', did you mean 'player_id'"),
    ({"keep": ["contry"]}, "keep: .* has no column 'contry', did you mean 'country'"),
    ({"features": {"rename": {"a": "bb"}}}, "feature 'a' has no column 'bb' in .*, did you mean 'b'"),
])  # fmt: skip
def test_a_column_that_is_not_there_is_named_with_the_nearest(games, snow_job, sections, said):
    with pytest.raises(ConfigError, match=said):
        score(snow_job(games, **sections))
