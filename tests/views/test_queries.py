"""`lakehouse sql`: what it prints parses, and its views give the right rows in DuckDB, Spark and Snowflake's stand-in."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import sqlglot
from sklearn.linear_model import LinearRegression
from sqlglot import exp
from sqlglot.errors import ErrorLevel

from lakehouse.config import load_job
from lakehouse.connectors.snowflake import fold, quote
from lakehouse.errors import Blocked, ConfigError
from lakehouse.operations.rollback import rollback
from lakehouse.pipeline import Request, new_run_id
from lakehouse.planning import naming
from lakehouse.planning.naming import quarantine_of
from lakehouse.runs import ledger
from lakehouse.sinks.delta import reading
from lakehouse.storage import locate
from lakehouse.views import sql
from lakehouse.views.sql import dialects, places
from tests.command import run
from tests.conftest import read, score, write

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]
KEY, KEPT, FLAG = '"x"', "it's", "b`t"
CONF = "conf/scores.yaml"
Ask = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"] * 10), x)  # ten times as much


@pytest.fixture
def job_of(make_job, uri):
    """job_of(date, **sections) → a job with a slice a day and names that need quotes."""

    def make(date: str | None = "2000-01-01", **sections: Any) -> Any:
        given = {
            "source": {"where": "day = '{date}'"}, "keys": [KEY], "keep": [KEPT], "slice": {"score_date": "{date}"},
            "predictions": {"p": 0, FLAG: {"output": 0, "threshold": 15}}, "features": {"nulls": "quarantine"},
            "checks": {"quarantine": {"max_fraction": 0.4}},
        }  # fmt: skip
        return make_job(uri, date=date, **{**given, **sections})

    return make


def features(day: str, **a: float | None) -> None:
    rows = {
        KEY: list(a),
        KEPT: [f"kept {k}" for k in a],
        "a": pa.array(a.values(), pa.float64()),
        "day": [day] * len(a),
    }
    write("lake/features", pa.table(rows), ["day"], "overwrite", predicate=f"day = '{day}'")


@pytest.fixture
def runs(job_of) -> dict[str, str]:
    """Six runs by name: first, second (k3 gone, k4 new), again (the first day anew), third, and two that were blocked.

    `blocked` is superseded by the third; `worst` came after the second one and supersedes nothing.
    """

    def scored(day: str, **a: float | None) -> str:
        features(day, **a)
        return score(job_of(day)).run_id

    write("lake/features", pa.table({KEY: ["k0"], KEPT: ["-"], "a": [0.0], "day": ["1999-01-01"]}), ["day"])
    found = {"first": scored(DAYS[0], k1=1.0, k2=2.0, k3=3.0, bad=None)}
    found["second"] = scored(DAYS[1], k1=1.5, k2=2.0, k4=4.0, bad=None, worse=None)
    found["again"] = scored(DAYS[0], k1=0.5, k2=2.0, k3=3.0)
    with pytest.raises(Blocked) as blocked:
        scored(DAYS[2], k1=1.0, bad=None)
    found["blocked"] = blocked.value.result.run_id
    found["third"] = scored(DAYS[2], k1=2.0)
    with pytest.raises(Blocked) as blocked:
        scored(DAYS[1], bad=None)
    found["worst"] = blocked.value.result.run_id
    return found


def statements(text: str) -> list[str]:
    return [part.strip() for part in re.sub(r"(?m)^--.*\n?", "", text).split(";\n") if part.strip()]


def examples(text: str) -> list[str]:
    """The queries that are printed as comments: as of a date, and between two runs."""
    return re.findall(r"(?m)(?:^--   .*\n)+", text)


def shown_by(text: str) -> list[str]:
    return [re.sub(r"(?m)^--   ", "", example) for example in examples(text)]


def plain(value: Any) -> Any:
    """Values alike, whichever system gave them."""
    if isinstance(value, dt.datetime):
        return (value if value.tzinfo is None else value.astimezone(dt.UTC).replace(tzinfo=None)).isoformat()
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, str) and value.startswith("["):
        return json.loads(value)
    return round(float(value), 6) if isinstance(value, float) else value


def alike(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(
        ({k.lower(): plain(v) for k, v in row.items()} for row in rows), key=lambda r: json.dumps(r, default=str)
    )


def expect_views(ask: Ask, text: str, name: Callable[[str], str], runs: dict[str, str]) -> None:
    """The whole of each view over the tables that `runs` made."""
    table = {(row[KEY], str(row["score_date"])): row for row in read("lake/scores").to_pylist()}
    order = [KEY, KEPT, "p", FLAG, "score_date", "_model_name", "_model_version", "_run_id", "_input_version",
             "_scored_at", "_warnings", "_job"]  # fmt: skip

    def row_of(key: str, day: str, **more: Any) -> dict[str, Any]:
        return {**{c: table[key, day][c] for c in order}, **more}

    one, two, three = DAYS
    newest = [("k1", three), ("k2", two), ("k3", one), ("k4", two)]
    assert alike(ask(f"SELECT * FROM {name('_current')}")) == alike([row_of(*k) for k in newest])
    assert [c.lower() for c in ask(f"SELECT * FROM {name('_current')}")[0]] == order
    spans = [("k1", one, two), ("k1", two, three), ("k1", three, None), ("k2", one, two), ("k2", two, None),
             ("k3", one, None), ("k4", two, None)]  # fmt: skip
    history = [row_of(k, since, valid_from=since, valid_to=until) for k, since, until in spans]
    assert alike(ask(f"SELECT * FROM {name('_history')}")) == alike(history)
    as_of, between = shown_by(text)
    then = [row for row in history if row["valid_from"] <= two and (row["valid_to"] is None or two < row["valid_to"])]
    assert len(then) == 4
    assert alike(ask(as_of)) == alike(then)

    again, second, third = runs["again"], runs["second"], runs["third"]

    def change(k: str, day: str, p: float, before: float | None, run: str, earlier: str | None) -> dict[str, Any]:
        return {
            KEY: k, "score_date": day, "p": p, "previous_p": before,
            "p_difference": None if before is None else p - before,
            FLAG: p >= 15, f"previous_{FLAG}": None if before is None else before >= 15,
            "_run_id": run, "_previous_run_id": earlier,
        }  # fmt: skip

    changes = [
        change("k1", one, 5.0, None, again, None), change("k1", two, 15.0, 5.0, second, again),
        change("k1", three, 20.0, 15.0, third, second), change("k2", one, 20.0, None, again, None),
        change("k2", two, 20.0, 20.0, second, again), change("k3", one, 30.0, None, again, None),
        change("k4", two, 40.0, None, second, None),
    ]  # fmt: skip
    assert alike(ask(f"SELECT * FROM {name('_changes')}")) == alike(changes)

    rows = ask(between.replace("<the new run>", second).replace("<the old run>", again))
    compared = [("k1", 15.0, 5.0), ("k2", 20.0, 20.0), ("k3", None, 30.0), ("k4", 40.0, None)]
    assert alike(rows) == alike(
        [{KEY: k, "p": new, "previous_p": old, "p_difference": None if None in (new, old) else new - old,
          FLAG: None if new is None else new >= 15, f"previous_{FLAG}": None if old is None else old >= 15}
         for k, new, old in compared]
    )  # fmt: skip

    reasons = [
        {"_run_id": run, "rule": "required", "column": "a", "rows": n} for run, n in ((second, 2), (runs["worst"], 1))
    ]
    assert alike(ask(f"SELECT * FROM {name('_quarantine_reasons')}")) == alike(reasons)


def test_the_views_in_duckdb_over_the_tables_of_real_runs(runs, job_of, capfd):
    """The extension can't be fetched here: DELTA_SCAN is a macro over tables that are named by the URIs."""
    done = run(capfd, "sql", "duckdb", CONF)
    assert (done.code, done.err) == (0, "")
    with duckdb.connect() as db:

        def ask(query: str) -> list[dict[str, Any]]:
            found = db.sql(query)
            return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]

        db.sql("SET timezone = 'UTC'")
        db.sql("CREATE MACRO delta_scan(uri) AS TABLE SELECT * FROM query_table(uri)")
        for table in ("lake/scores", "lake/scores_quarantine", "lake/scores_state/runs"):
            rows = read(table)
            db.register("rows", rows)
            db.sql(f"CREATE TABLE {quote(locate(table).uri)} AS SELECT * FROM rows")
        first, second, *views = statements(done.out)
        assert (first, second) == ("INSTALL delta", "LOAD delta")
        for statement in views:
            db.sql(statement)
        expect_views(ask, done.out, lambda suffix: f'"scores{suffix}"', runs)
        records = ledger.runs(naming.state_of(job_of()), "scores")
        assert [
            (row["run_id"], row["status"]) for row in ask("SELECT * FROM scores_ledger ORDER BY finished_at DESC")
        ] == [(record["run_id"], record["status"]) for record in records]
        reasons = alike(ask("SELECT * FROM scores_quarantine_reasons"))
        ledger_table = quote(locate("lake/scores_state/runs").uri)
        db.sql(f"UPDATE {ledger_table} SET finished_at = TIMESTAMPTZ '2030-01-01' - (finished_at - started_at)")
        assert alike(ask("SELECT * FROM scores_quarantine_reasons")) == reasons  # clocks of two machines differ


def test_a_run_whose_scores_a_rollback_has_put_back_is_current_again(runs, job_of, capfd):
    done = run(capfd, "sql", "duckdb", CONF)

    def current() -> set[str]:
        with duckdb.connect() as db:
            db.sql("CREATE MACRO delta_scan(uri) AS TABLE SELECT * FROM query_table(uri)")
            for table in ("lake/scores", "lake/scores_quarantine", "lake/scores_state/runs"):
                db.register("rows", read(table))
                db.sql(f"CREATE TABLE {quote(locate(table).uri)} AS SELECT * FROM rows")
            for statement in statements(done.out)[2:]:
                db.sql(statement)
            return {run for (run,) in db.sql("SELECT _run_id FROM scores_quarantine_reasons").fetchall()}

    before = current()
    rollback(job_of(DAYS[0]), Request("local", ledger.now(), new_run_id()))
    assert current() - before == {runs["first"]}
    assert score(job_of(DAYS[0]), rescore=True).status == "published"
    assert current() == before


def test_rows_of_a_run_without_a_record_are_not_taken_for_current(runs, job_of, capfd):
    done = run(capfd, "sql", "duckdb", CONF)
    assert (
        "-- Rows that were set aside and why, without runs that a later one superseded or that left no record"
        in done.out
    )
    assert "-- Of scores_quarantine only: rows that it could not hold are in" in done.out
    with duckdb.connect() as db:
        db.sql("CREATE MACRO delta_scan(uri) AS TABLE SELECT * FROM query_table(uri)")
        for table in ("lake/scores", "lake/scores_quarantine", "lake/scores_state/runs"):
            rows = read(table)
            if table.endswith("runs"):
                rows = rows.filter(pc.not_equal(rows["run_id"], runs["worst"]))
            db.register("rows", rows)
            db.sql(f"CREATE TABLE {quote(locate(table).uri)} AS SELECT * FROM rows")
        for statement in statements(done.out)[2:]:
            db.sql(statement)
        found = db.sql("SELECT DISTINCT _run_id FROM scores_quarantine_reasons").fetchall()
    assert found == [(runs["second"],)]


@pytest.mark.long
def test_the_views_in_spark_over_the_tables_of_real_runs(spark, runs, capfd):
    text = run(capfd, "sql", "spark", CONF).out

    def ask(query: str) -> list[dict[str, Any]]:
        return [row.asDict() for row in spark.sql(query).collect()]

    for statement in statements(text):
        spark.sql(statement)
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    try:
        frame = spark.sql("SELECT _scored_at FROM scores_current").toPandas()  # Python's datetimes would be local ones
        assert len(frame) == 4
        expect_views(ask, text, lambda suffix: f"`scores{suffix}`", runs)
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)
    listed = [row["run_id"] for row in ask("SELECT * FROM scores_ledger ORDER BY finished_at DESC")]
    assert listed == [runs[name] for name in ("worst", "third", "blocked", "again", "second", "first")]


@pytest.fixture
def warehouse(snow):
    """ask(SQL) → rows, in a database of this test's own with the schema S; ask.database is its name."""
    database = f"D{uuid.uuid4().hex[:8].upper()}"
    with snow.connect(database=database, schema="S") as connection:

        def ask(query: str) -> list[dict[str, Any]]:
            cursor = connection.cursor().execute(query)
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        ask.database = database
        yield ask


TYPES = {
    "string": "VARCHAR",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "int64": "NUMBER(38,0)",
    "int32": "NUMBER(38,0)",
    "date32[day]": "DATE",
}


def fill(ask: Ask, table: str, rows: pa.Table) -> None:
    """A table in Snowflake with the rows of a Delta table, its names folded as a sink's are.

    It is a view, since the stand-in can't create a table that has a column with an apostrophe.
    """
    kinds = [TYPES.get(str(f.type), "ARRAY" if pa.types.is_list(f.type) else "TIMESTAMP_LTZ") for f in rows.schema]
    names = [quote(fold(name)) for name in rows.column_names]
    store = f'{table[:-1]} rows"'
    ask(f"CREATE TABLE {store} ({', '.join(f'C{n} {kind}' for n, kind in enumerate(kinds))})")
    ask(f"CREATE VIEW {table} AS SELECT {', '.join(f'C{n} AS {name}' for n, name in enumerate(names))} FROM {store}")

    def literal(value: Any, kind: str) -> str:
        if value is None:
            return f"NULL::{kind}"
        if kind == "ARRAY":
            return f"PARSE_JSON({literal(json.dumps(value), '')})"
        text = value.isoformat() if isinstance(value, dt.date) else str(value)
        return "'" + text.replace("'", "''") + "'" + (f"::{kind}" if kind else "")

    for row in rows.to_pylist():
        values = map(literal, row.values(), kinds)
        ask(f"INSERT INTO {store} SELECT {', '.join(values)}")


def test_the_views_in_snowflake_beside_a_sinks_tables(warehouse, runs, job_of, capfd):
    """A blocked run is not among the published ones; rows of it are superseded by their slice all the same."""
    ask, database = warehouse, warehouse.database
    native = {"type": "snowflake", "connection": "wh", "table": f'{database}.S."my ""scores"""'}
    text = run(capfd, "sql", "snowflake", CONF, "--set", f"sinks={json.dumps([native])}", "--set", "state=lake/state",
               "--set", f"predictions={json.dumps({'p': {'class': 1}, FLAG: {'output': 0, 'threshold': 15}})}").out  # fmt: skip

    def name(suffix: str = "") -> str:
        return f'{database}.S."my ""scores""{suffix.upper()}"'

    fill(ask, name(), read("lake/scores"))
    fill(ask, name("_quarantine"), read("lake/scores_quarantine"))
    ask(f"CREATE TABLE {name('_runs')} (RUN_ID VARCHAR, JOB VARCHAR, IDENTITY VARCHAR, GENERATION NUMBER(38,0), "
        "ROW_COUNT NUMBER(38,0), SLICE VARCHAR, PUBLISHED_AT TIMESTAMP_LTZ)")  # fmt: skip
    ask(f"INSERT INTO {name('_runs')} SELECT '', 'scores', '', 0, 0, '', '2030-01-01'::TIMESTAMP_LTZ")
    records = [r for r in ledger.runs(naming.state_of(job_of()), "scores") if r["status"] == "published"]
    for r in records:
        ask(f"INSERT INTO {name('_runs')} SELECT '{r['run_id']}', 'scores', '{r['identity']}', {r['generation']}, "
            f"{r['rows_scored']}, '{{}}', '{r['finished_at'].isoformat()}'::TIMESTAMP_LTZ")  # fmt: skip
    for statement in statements(text):
        ask(statement)
    expect_views(ask, text, name, runs)
    rows = ask(f"SELECT * FROM {name('_ledger')} ORDER BY published_at DESC")
    assert [row["RUN_ID"] for row in rows] == [runs[n] for n in ("third", "again", "second", "first")]
    assert rows[0]["IDENTITY"] == "scores/score_date=2026-01-03"


@pytest.fixture
def elsewhere(monkeypatch) -> None:
    """What a table on object storage holds is what lake/scores does."""
    monkeypatch.setattr(reading, "locate", lambda table: locate("lake/scores"))


def test_the_views_in_snowflake_over_delta_tables_in_place(warehouse, runs, elsewhere, capfd):
    """The stand-in knows no external volumes: plain tables with the same columns stand for the Iceberg tables."""
    ask = warehouse
    text = run(capfd, "sql", "snowflake", CONF, "--set", "sinks.0.table=s3://lake/scores").out
    for table, suffix in (("", ""), ("_quarantine", "_QUARANTINE"), ("_state/runs", "_RUNS")):
        fill(ask, f'"SCORES{suffix}"', read(f"lake/scores{table}"))
    views = [statement for statement in statements(text) if statement.startswith("CREATE OR REPLACE VIEW")]
    assert len(views) == 5
    for statement in views:
        ask(statement)
    expect_views(ask, text, lambda suffix: f'"SCORES{suffix.upper()}"', runs)
    listed = [row["RUN_ID"] for row in ask("SELECT * FROM SCORES_LEDGER ORDER BY FINISHED_AT DESC")]
    assert listed == [runs[name] for name in ("worst", "third", "blocked", "again", "second", "first")]


# --- what is printed --------------------------------------------------------------------------------------

NATIVE = {"type": "snowflake", "connection": "wh", "table": 'DB."s-1".scores'}
S3 = {"type": "delta", "table": "s3://lake/games/scores"}
UNPARSED = {"CREATE EXTERNAL VOLUME", "CREATE CATALOG INTEGRATION", "ALTER ICEBERG TABLE", "LOAD"}
"""What sqlglot 30 keeps as a Command, because it has no syntax tree for it."""
NASTY = {"keys": ['select "x"', "a;b"], "keep": ["valid_from", "Previous_p"], "slice": {"é 1": 5, "on": True},
         "predictions": {"p": {"class": 1}, "`": {"output": 0, "threshold": 1}}}  # fmt: skip


def parsed(text: str, dialect: str) -> list[exp.Expr | None]:
    found = sqlglot.parse(text, read=dialect, error_level=ErrorLevel.RAISE)
    for example in shown_by(text):
        found += sqlglot.parse(example, read=dialect, error_level=ErrorLevel.RAISE)
    return [tree for tree in found if tree is not None and not isinstance(tree, exp.Semicolon)]


@pytest.mark.parametrize(
    "shape", [{}, NASTY, {"slice": {}, "write": "append"}, {"slice": {}, "write": "merge"}], ids=str
)
@pytest.mark.parametrize(("dialect", "count"), [("athena", 10), ("duckdb", 12), ("snowflake", 19), ("spark", 7)])
def test_every_statement_parses(job_of, dialect, count, shape):
    shape, kept = dict(shape), {"snowflake": UNPARSED - {"LOAD"}, "duckdb": {"LOAD"}}
    write_ = shape.pop("write", "replace")
    sinks = [{**NATIVE, "write": write_}, {**S3, "write": write_}][:: 1 if dialect == "snowflake" else -1]
    sinks = sinks if dialect == "snowflake" else sinks[:1]
    job = job_of(**{"predictions": {"p": {"class": 1}}, **shape}, sinks=sinks, state="s3://lake/state",
                 checks={})  # fmt: skip
    text = sql.written(job, dialect)
    trees = parsed(text, dialect)
    assert len(trees) == count
    commands = [tree.sql(dialect, comments=False) for tree in trees if isinstance(tree, exp.Command)]
    assert {name for name in UNPARSED for command in commands if command.startswith(name)} == kept.get(dialect, set())
    assert all(command.startswith(tuple(UNPARSED)) for command in commands)
    views = [tree for tree in trees if isinstance(tree, exp.Create) and tree.kind == "VIEW"]
    # the parser itself gives FLATTEN's alias its columns, and Spark's alias of a lateral view is ours
    names = [part for view in views for node in view.find_all(exp.Column, exp.Table) for part in node.parts]
    assert all(n.args["quoted"] or n.name == "r" for n in names if isinstance(n, exp.Identifier))


IN_PLACE = """CREATE EXTERNAL VOLUME IF NOT EXISTS "SCORES_VOLUME"
  STORAGE_LOCATIONS = ((
    NAME = 'lake'
{}
  ))
  ALLOW_WRITES = FALSE
CREATE CATALOG INTEGRATION IF NOT EXISTS "SCORES_CATALOG"
  CATALOG_SOURCE = OBJECT_STORE
  TABLE_FORMAT = DELTA
  ENABLED = TRUE
CREATE ICEBERG TABLE IF NOT EXISTS "SCORES"
  EXTERNAL_VOLUME = 'SCORES_VOLUME'
  CATALOG = 'SCORES_CATALOG'
  BASE_LOCATION = 'scores/'
  AUTO_REFRESH = TRUE
ALTER ICEBERG TABLE "SCORES" REFRESH"""
CLOUDS = {
    "s3a://lake/games/scores": ["STORAGE_PROVIDER = 'S3'", "STORAGE_BASE_URL = 's3://lake/games/'",
                                "STORAGE_AWS_ROLE_ARN = '<ARN of the role that may read the bucket>'"],
    "gs://lake/scores/": ["STORAGE_PROVIDER = 'GCS'", "STORAGE_BASE_URL = 'gcs://lake/'"],
    "abfss://c@acc.dfs.core.windows.net/games/scores": [
        "STORAGE_PROVIDER = 'AZURE'", "STORAGE_BASE_URL = 'azure://acc.blob.core.windows.net/c/games/'",
        "AZURE_TENANT_ID = '<id of the tenant>'"],
}  # fmt: skip


@pytest.mark.parametrize("table", CLOUDS)
def test_snowflake_reads_delta_in_place(job_of, table):
    job = job_of(sinks=[{"type": "delta", "table": table}], predictions={"p": {"class": 1}})
    text = sql.written(job, "snowflake")
    assert "\n".join(statements(text)[:4]) == IN_PLACE.format("\n".join(f"    {line}" for line in CLOUDS[table]))
    base = [line for line in text.splitlines() if "BASE_LOCATION" in line]
    assert base == [f"  BASE_LOCATION = '{folder}/'" for folder in ("scores", "scores_state/runs", "scores_quarantine")]
    assert "Once the folder is made anew the table is another one: DROP it and create it again" in text


def test_a_volume_a_bucket(job_of):
    job = job_of(sinks=[S3], predictions={"p": {"class": 1}}, state="gs://state/a/b")
    urls = re.findall("(?:STORAGE_BASE_URL|EXTERNAL_VOLUME) = '(.*)'", sql.written(job, "snowflake"))
    assert urls == ["s3://lake/games/", "gcs://state/a/b/", "SCORES_VOLUME", "SCORES_VOLUME1", "SCORES_VOLUME"]


def test_both_sinks_have_names_of_their_own_and_the_quarantine_is_the_firsts(job_of):
    job = job_of(sinks=[NATIVE, S3], state="s3://lake/state", predictions={"p": {"class": 1}}, checks={})
    text = sql.written(job, "snowflake")
    trees = parsed(text, "snowflake")
    views = [tree.this.sql("snowflake") for tree in trees if isinstance(tree, exp.Create) and tree.kind == "VIEW"]
    assert views == [
        *(f'"DB"."s-1"."SCORES_{name}"' for name in ("CURRENT", "HISTORY", "CHANGES", "LEDGER")),
        *(f'"SCORES_DELTA_{name}"' for name in ("CURRENT", "HISTORY", "CHANGES", "LEDGER")),
        '"DB"."s-1"."SCORES_QUARANTINE_REASONS"',
    ]
    assert [line for line in text.splitlines() if line.startswith("-- ==")] == [
        "-- == DB.s-1.scores, a table in Snowflake ==",
        "-- == s3://lake/games/scores, a Delta table read where it lies ==",
        "-- == Quarantine: its table is there once a run has set rows aside ==",
    ]
    left = sql.written(job, "athena").splitlines()[0]
    assert left == "-- Left out: DB.s-1.scores is in Snowflake: lakehouse sql snowflake"


@pytest.mark.parametrize(("given", "shown"), [("t", '"T"'), ('s."t t"', '"S"."t t"'), ("d.s.t", '"D"."S"."T"')])
def test_a_name_in_snowflake_is_printed_as_it_is_given(job_of, given, shown):
    job = job_of(sinks=[{**NATIVE, "table": given}], state="lake/state", predictions={"p": 0})
    view = shown[:-1] + '_CURRENT"'
    text = sql.written(job, "snowflake")
    assert f"CREATE OR REPLACE VIEW {view}\nCOPY GRANTS AS\n" in text  # else a replaced view loses them
    lacking = {1: "database and schema", 2: "database"}.get(given.count(".") + 1)
    said = f"-- In the {lacking} of the connection wh: USE them first, or name the table in full"
    assert (said in text) == (lacking is not None)
    assert 'AS_DOUBLE(TO_VARIANT("P")) - AS_DOUBLE(TO_VARIANT("PREVIOUS_P"))' in sql.written(job, "snowflake")


@pytest.mark.long
@pytest.mark.quick("athena")
@pytest.mark.parametrize("dialect", dialects.names())
def test_a_view_has_no_order(job_of, dialect):
    views = [s for s in statements(sql.written(job_of(sinks=[S3]), dialect)) if "VIEW" in s.split("AS", 1)[0]]
    assert len(views) >= 5
    for view in (sqlglot.parse_one(text, read="duckdb" if dialect == "athena" else dialect) for text in views):
        assert not [o for o in view.find_all(exp.Order) if not isinstance(o.parent, exp.Window)]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "-- Two runs of one slice can not be compared: a slice keeps the rows of the last one only"),
        ({"slice": {}}, "-- Two runs can not be compared: the table keeps the rows of the last one only"),
    ],
)
def test_two_runs_that_can_not_be_compared(job_of, more, said):
    assert said in sql.written(job_of(sinks=[S3], predictions={"p": {"class": 1}}, **more), "spark").splitlines()


def test_a_table_of_sparks_catalog_keeps_its_name(job_of):
    job = job_of(sinks=[{"type": "delta", "table": "gold.scores"}], predictions={"p": {"class": 1}}, state="lake/state")
    text = sql.written(job, "spark")
    assert statements(text)[0].startswith("CREATE OR REPLACE VIEW `gold`.`scores_current` AS\n")
    assert "FROM `gold`.`scores`" in text
    assert "-- Without the quarantine: the job file does not say where checks.quarantine.table lies" in text
    with pytest.raises(ConfigError, match=r"gold.scores is a name of Spark's catalog: use lakehouse sql spark"):
        sql.written(job, "duckdb")


def test_without_a_date_in_the_slice_scores_hold_from_their_runs_begin(job_of):
    job = job_of(sinks=[{**S3, "write": "append"}], slice={}, predictions={"p": {"class": 1}})
    starts = {
        "duckdb": "CAST('2026-01-02 00:00:00+00:00' AS TIMESTAMPTZ)", "spark": "CAST('2026-01-02 00:00:00+00:00' AS TIMESTAMP)",
        "snowflake": "CAST('2026-01-02 00:00:00+00:00' AS TIMESTAMPTZ)", "athena": "CAST('2026-01-02 00:00:00' AS TIMESTAMP)",
    }  # fmt: skip
    for dialect, start in starts.items():
        as_of, _ = shown_by(sql.written(job, dialect))
        assert start in as_of
    athena = sql.written(job, "athena")
    assert 'CAST(AT_TIMEZONE("_scored_at", \'UTC\') AS TIMESTAMP) AS "valid_from"' in athena
    assert 'CAST(AT_TIMEZONE("finished_at", \'UTC\') AS TIMESTAMP) AS "finished_at"' in athena


def test_an_appended_tables_history_in_duckdb(make_job, uri):
    """Scores of a table without slices hold from the moment when their run began."""
    write("lake/features", pa.table({"id": [1, 2, 1], "a": [1.0, 2.0, 3.0], "day": [*DAYS[:1] * 2, DAYS[1]]}))
    sections = {"source": {"where": "day = '{date}'"}, "predictions": {"valid_from": 0},
                "sinks": [{"type": "delta", "table": "lake/scores", "write": "append"}]}  # fmt: skip
    for day in DAYS[:2]:
        score(make_job(uri, date=day, **sections))
    text = sql.written(make_job(uri, date="2000-01-01", **sections), "duckdb")
    table = read("lake/scores")
    with duckdb.connect() as db:
        db.sql("SET timezone = 'UTC'")
        db.register("scores", table)
        view = next(s for s in statements(text) if "scores_history" in s)
        db.sql(view.replace("CREATE OR REPLACE VIEW", "CREATE OR REPLACE TEMP VIEW"))
        rows = db.sql("SELECT id, valid_from, valid_from_, valid_to FROM scores_history ORDER BY 1, 3").fetchall()
    first, second = sorted(set(table["_scored_at"].to_pylist()))
    given = [(1, 10.0, first, second), (1, 30.0, second, None), (2, 20.0, first, None)]
    assert [(k, round(p, 9), *times) for k, p, *times in rows] == given


def test_columns_that_nothing_names(job_of, runs):
    """Without `predictions` the table's own columns are meant; numbers among them have a difference."""
    job = job_of(predictions=None)
    changes = next(s for s in statements(sql.written(job, "duckdb")) if "scores_changes" in s)
    names = [c.alias_or_name for c in sqlglot.parse_one(changes, read="duckdb").expression.selects]
    assert names == [KEY, "score_date", "p", "previous_p", "p_difference", FLAG, f"previous_{FLAG}", "_run_id",
                     "_previous_run_id"]  # fmt: skip
    absent = job_of(predictions=None, sinks=[{"type": "delta", "table": "lake/none"}])
    with pytest.raises(ConfigError, match="name them, or run the job once: the Delta table then tells"):
        sql.written(absent, "duckdb")
    native = job_of(predictions=None, sinks=[NATIVE], state="lake/state")
    with pytest.raises(ConfigError, match=r"predictions: which columns the scored table has is not known: name them$"):
        sql.written(native, "snowflake")


def test_before_the_first_run_it_is_not_known_what_is_a_number(job_of):
    text = sql.written(job_of(predictions={"p": 0, "q": {"class": 1}}), "duckdb")
    assert "-- No difference of p: before the first run it is not known which of them are numbers" in text
    assert '"q_difference"' in text
    assert '"p_difference"' not in text


def test_the_tables_are_those_of_a_run(job_of):
    """The names that are made without looking for a bucket's region are those that a run goes by."""
    for sections in ({}, {"state": "lake/state/", "checks": {"quarantine": {"table": "lake/aside"}}}):
        job = job_of(sinks=[{"type": "delta", "table": "lake/a/../scores/"}], **sections)
        text = sql.written(job, "duckdb")
        expected = [locate("lake/scores"), naming.state_of(job).join("runs"), locate(quarantine_of(job).table)]
        assert re.findall(r"DELTA_SCAN\('(.*)'\)", text) == [location.uri for location in expected]
    assert places.uri_of("s3n://b/c/") == "s3://b/c"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["snowflke", CONF], "failed: 'snowflke' is no dialect of lakehouse sql, did you mean 'snowflake'?\n"),
        (["athena", CONF], "{uri}: Athena reads tables on S3 only: scored table, quarantine and state have to lie"),
        (["snowflake", CONF], "{uri}: Snowflake reads tables on S3, Google Cloud Storage and Azure only: keep it there"),
        (["spark", CONF, "--set", f"sinks={json.dumps([NATIVE])}", "--set", "state=lake/state"],
         'DB."s-1".scores is in Snowflake: lakehouse sql snowflake'),
        (["spark", "conf/none.yaml"], "conf/none.yaml"),
    ],
)  # fmt: skip
def test_what_can_not_be_printed_is_said(job_of, capfd, arguments, said):
    job_of(predictions={"p": {"class": 1}})
    done = run(capfd, "sql", *arguments)
    assert (done.code, done.out) == (2, "")
    assert said.replace("{uri}", locate("lake/scores").uri) in done.err


def test_nothing_heavy_is_imported(job_of):
    job_of(predictions={"p": {"class": 1}})
    code = f"""
import sys
from lakehouse import cli
try:
    cli.main(["sql", "spark", "{CONF}"])
finally:
    heavy = {{"mlflow", "pyspark", "great_expectations", "snowflake.connector"}} & set(sys.modules)
    sys.stderr.write(repr(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()"
    assert "scores_current" in done.stdout


def test_the_readme_names_the_views_of_the_demos_job():
    root = Path(__file__).parents[2]
    demo = load_job(root / "conf/games.yaml", date="2000-01-01", environ={}, overrides=["model.tracking_uri=null"])
    views = re.findall(r'VIEW "(games_\w+_?\w*)" AS\nSELECT\n', sql.written(demo, "duckdb"))
    assert set(re.findall(r"^\| `(games_\w+)` \|", (root / "conf/README.md").read_text(), re.MULTILINE)) == set(views)


def test_a_path_with_quotes_stays_one_text(job_of):
    job = job_of(sinks=[{"type": "delta", "table": "lake/it's `here`"}], predictions={"p": {"class": 1}})
    for dialect in ("duckdb", "spark"):
        trees = parsed(sql.written(job, dialect), dialect)
        held = {t.name for tree in trees for t in tree.find_all(exp.Table, exp.Literal)}
        assert locate("lake/it's `here`").uri in held
    assert load_job(CONF, date="2000-01-01", environ={}).sinks[0].table == "lake/it's `here`"


def test_a_further_dialect_is_a_further_file(job_of, monkeypatch, tmp_path):
    """Nothing else names it: here it is DuckDB's file again under the name of one that sqlglot knows too."""
    source = Path(dialects.__path__[0], "duckdb.py").read_text()
    (tmp_path / "postgres.py").write_text(source.replace('NAME = "duckdb"', 'NAME = "postgres"'))
    monkeypatch.setattr(dialects, "__path__", [*dialects.__path__, str(tmp_path)])
    job = job_of(predictions={"p": {"class": 1}})
    assert 'CREATE OR REPLACE VIEW "scores_current" AS' in sql.written(job, "postgres")
    with pytest.raises(ConfigError, match="athena, duckdb, postgres, snowflake, spark"):
        sql.written(job, "none such")
