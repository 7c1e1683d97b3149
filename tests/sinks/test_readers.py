"""A scored table in other hands: what Spark, deltalake, DuckDB and Polars read in it, and what is left of a rerun's
promises once a person has run Delta's own commands on it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from pyspark.sql import functions as F
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression

from lakehouse import pipeline
from lakehouse.errors import Blocked
from lakehouse.schemas import LINEAGE
from tests.conftest import score, spark_settings, version, write
from tests.tables import assert_tables_equal

# The model's logarithm of a negative number is what these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|divide by zero) encountered in log:RuntimeWarning")

DAY, NEXT, THIRD = "2026-01-02", "2026-01-03", "2026-01-04"
ROWS, BATCH = 24, 8
"""Every batch becomes a file of its own, so that readers have files to skip."""
EXACT = 2**53 + 1  # not a double
LONG = "Straße nach Łódź 🎲 " * 8  # beyond the 100 characters that may stand in the log, and Spark's 32
NAMES = ["", "a", "Ω", "𝄞", "it's", "two\nlines", "NaN", "null", LONG + "a", LONG + "b", "\\N", "é" * 40]
NOW = dt.datetime(2026, 1, 5, 6, 7, 8, 90_123, tzinfo=dt.UTC)
SCORES = "lake/scores"


def features(day: str, start: int, shift: float = 0.0) -> pa.Table:
    """Rows whose second batch has what becomes NaN (`a` < 0) and -inf (0); nulls in all that is only passed through."""
    n = np.arange(ROWS)
    id_ = np.where(n == 5, EXACT + start, start + n)
    a = np.concatenate([np.arange(1, 9), [-1, 0, -2, 9, 10, 11, 12, -3], np.arange(100, 108)]) + shift
    noon = dt.datetime(1969, 12, 31, 12, 0, 0, 1, tzinfo=dt.UTC)
    return pa.table(
        {
            "id": pa.array(id_, pa.int64()),
            "name": [NAMES[i % len(NAMES)] for i in n],
            "born": pa.array([None if i % 5 == 4 else dt.date(1900 + 7 * int(i), 2, 28) for i in n], pa.date32()),
            "seen": pa.array([None if i % 7 == 6 else noon + dt.timedelta(days=900 * int(i)) for i in n],
                             pa.timestamp("us", "UTC")),
            "spent": pa.array([None if i % 6 == 5 else Decimal(f"{i - 9}.0{i:03d}") for i in n.tolist()],
                              pa.decimal128(20, 4)),
            "a": pa.array(a, pa.float64()),
            "day": [day] * ROWS,
        }
    )  # fmt: skip


def scored(rows: pa.Table, result: pipeline.Result) -> pa.Table:
    """The scored table that a run must have made of these rows, in the order of their keys."""
    with np.errstate(all="ignore"):
        p = np.log(rows["a"].to_numpy())
    lineage = {"_model_name": result.model["name"], "_model_version": result.model["version"],
               "_run_id": result.run_id, "_input_version": result.input["version"], "_scored_at": NOW,
               "_warnings": [], "_job": "scores"}  # fmt: skip
    table = rows.select(["id", "name", "born", "seen", "spent"]).append_column("p", pa.array(p))
    for field in LINEAGE:
        table = table.append_column(field, pa.array([lineage[field.name]] * len(rows), field.type))
    days = pa.array([dt.date.fromisoformat(result.date)] * len(rows), pa.date32())
    return table.append_column("score_date", days).sort_by("id")


@pytest.fixture(scope="module", autouse=True)
def interpreted(spark) -> Iterator[None]:
    """Queries over a few rows spend their time on compiling themselves, so they don't."""
    off = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
    with spark_settings(spark, **off, **{"spark.sql.sources.parallelPartitionDiscovery.parallelism": "2"}):
        yield


@pytest.fixture(scope="module")
def uri(register):
    model = TransformedTargetRegressor(LinearRegression(), func=np.exp, inverse_func=np.log)
    x = pd.DataFrame({"a": [1.0, 2.0, 3.0]})
    model.fit(x, np.log(x["a"]))
    model.regressor_.coef_, model.regressor_.intercept_ = np.array([[1.0]]), np.array([0.0])
    return register(model, x)


@pytest.fixture
def daily(make_job, uri, monkeypatch):
    """daily(day) → the job that scores a day of lake/features."""
    monkeypatch.setattr("lakehouse.scoring.files.TARGET_BYTES", 1)

    def make(day):
        return make_job(
            uri, date=day, source={"where": "day = '{date}'"}, model={"batch_rows": BATCH}, keys=["id", "name"],
            keep=["born", "seen", "spent"], predictions={"p": "*"}, slice={"score_date": "{date}"},
        )  # fmt: skip

    return make


@pytest.fixture
def run(daily):
    """run(day) → the result of scoring it, begun at NOW."""
    return lambda day, **more: pipeline.score(daily(day), pipeline.Request("local", NOW, pipeline.new_run_id(), **more))


@pytest.fixture
def generations(run) -> list[pa.Table]:
    """lake/scores: DAY in version 1, NEXT in version 2, and in version 3 DAY again, of corrected features.

    What was scored then, in this order.
    """
    first, second, corrected = features(DAY, 0), features(NEXT, 1000), features(DAY, 0, shift=0.5)
    write("lake/features", first, ["day"])
    write("lake/features", second, ["day"])
    tables = [scored(first, run(DAY)), scored(second, run(NEXT))]
    write("lake/features", corrected, ["day"], mode="overwrite", predicate=f"day = '{DAY}'")
    return [*tables, scored(corrected, run(DAY))]


@pytest.fixture
def live(generations) -> pa.Table:
    """What lake/scores holds: the second generation of DAY, and NEXT."""
    return together(generations[2], generations[1])


def together(*tables: pa.Table) -> pa.Table:
    return pa.concat_tables(tables).sort_by("id")


def path() -> str:
    return str(Path(SCORES).absolute())


def files(day: str | None = None) -> list[str]:
    """The live files, of one slice or all."""
    actions = pa.table(DeltaTable(path()).get_add_actions(flatten=True)).to_pylist()
    return [f"{path()}/{a['path']}" for a in actions if day in (None, str(a["partition.score_date"]))]


def in_spark(spark: Any, where: str = "true", **options: Any) -> pa.Table:
    return spark.read.format("delta").options(**options).load(path()).where(where).toArrow()


def in_polars(spark: Any, where: str = "true") -> pa.Table:
    return pl.scan_delta(path()).filter(pl.sql_expr(where)).collect().to_arrow()


def in_duckdb(spark: Any, where: str = "true") -> pa.Table:
    """The live files themselves: no statistics of the log, those in the files' own footers."""
    slices = [f"SELECT *, DATE '{day}' AS score_date FROM read_parquet({files(day)}, hive_partitioning = false)"
              for day in (DAY, NEXT)]  # fmt: skip
    return duckdb_rows(f"SELECT * FROM ({' UNION ALL '.join(slices)}) WHERE {where}")


def in_duckdb_through_arrow(spark: Any, where: str = "true") -> pa.Table:
    return duckdb_rows(f"SELECT * FROM live WHERE {where}", live=DeltaTable(path()).to_pyarrow_table())


def duckdb_rows(query: str, **tables: pa.Table) -> pa.Table:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, table in tables.items():
            connection.register(name, table)
        return connection.sql(query).to_arrow_table()


def in_deltalake(spark: Any) -> pa.Table:
    return DeltaTable(path()).to_pyarrow_table()


SQL_READERS = [in_spark, in_polars, in_duckdb, in_duckdb_through_arrow]


def assert_holds(rows: pa.Table, expected: pa.Table) -> None:
    """Assert that these are the expected rows in any order; how a reader spells text and lists is its own affair."""
    spelled = [
        field.with_type(wanted.type) if pa.types.is_list(wanted.type) or pa.types.is_string(wanted.type) else field
        for field, wanted in zip(rows.schema, expected.schema, strict=True)
    ]
    assert_tables_equal(rows.cast(pa.schema(spelled)).sort_by("id"), expected, float64=1e-12)


def sql(spark: Any, command: str) -> Any:
    """Run a command in which {t} stands for the scored table."""
    return spark.sql(command.replace("{t}", f"delta.`{path()}`"))


@pytest.mark.parametrize("reader", [*SQL_READERS, in_deltalake], ids=lambda reader: reader.__name__)
def test_every_reader_sees_the_same_rows(reader, spark, live):
    assert_holds(reader(spark), live)


CONDITIONS = {
    "p > 4.5": [8, 10, 15, *range(16, 24), 1008, 1010, 1015, *range(1016, 1024)],  # to SQL, NaN is above all numbers
    "p < 0.1": [1000, 9, 1009],  # log(1), log(0.5), log(0)
    "p >= 4.6 AND id > 1000 AND id < 2000": [1008, 1010, 1015, *range(1016, 1024)],
    "id = 9007199254740993": [EXACT],
    "id = 1016": [1016],
    "name = '𝄞' AND id < 1000": [3, 15],
    "name = ''": [0, 12, 1000, 1012],
    f"name = '{LONG}b'": [9, 21, 1009, 1021],
    "name >= 'é' AND name < 'êê' AND id > 1000": [1011, 1023],
    "born = DATE '1949-02-28'": [7, 1007],
    "born IS NULL AND id > 1000": [1004, 1009, 1014, 1019],
    "score_date = DATE '2026-01-03' AND p > 4.65": [1008, 1010, 1015, *range(1021, 1024)],
}


@pytest.mark.parametrize("reader", [in_polars, in_duckdb, in_duckdb_through_arrow], ids=lambda reader: reader.__name__)
@pytest.mark.quick("in_duckdb")
def test_skipping_files_loses_no_row(reader, spark, live):
    found = {where: sorted(reader(spark, where)["id"].to_pylist()) for where in CONDITIONS}
    assert found == {where: sorted(ids) for where, ids in CONDITIONS.items()}


@pytest.mark.long
def test_spark_skips_files_and_finds_what_a_full_scan_finds(spark, live):
    rows = spark.read.format("delta").load(path())
    scan = rows.select("id", *(F.coalesce(F.expr(where), F.lit(False)).alias(where) for where in CONDITIONS)).toArrow()
    full = {where: sorted(scan.filter(scan[where])["id"].to_pylist()) for where in CONDITIONS}
    assert full == {where: sorted(ids) for where, ids in CONDITIONS.items()}
    assert [len(rows.where(w).inputFiles()) for w in ("true", "id = 3", "p > 4.5", "p < 0.1")] == [6, 1, 4, 3]
    found = {where: sorted(in_spark(spark, where)["id"].to_pylist()) for where in CONDITIONS}
    assert found == full


def test_history_says_what_was_published(spark, generations):
    told = sql(spark, "DESCRIBE HISTORY {t}").select("operation", "userMetadata").toArrow().to_pylist()
    assert [commit["operation"] for commit in told] == ["WRITE", "WRITE", "WRITE", "CREATE TABLE"]
    newest = json.loads(told[0]["userMetadata"])
    row = generations[2].slice(0, 1).to_pylist()[0]
    assert len(newest.pop("fingerprint")) == len(newest.pop("model_digest")) == len(newest.pop("model_signature")) == 64
    assert newest == {
        "lakehouse_run": row["_run_id"], "job": "scores", "slice": {"score_date": DAY}, "generation": 2, "rows": ROWS,
        "model": row["_model_name"], "model_version": row["_model_version"],
        "input": "lake/features", "input_version": 2,
    }  # fmt: skip


def test_a_slice_is_read_whatever_its_value(spark, make_job, uri):
    value = "Łódź/a b=100%+é?"
    write("lake/features", features(DAY, 0))
    score(make_job(uri, predictions={"p": "*"}, slice={"shop": value}))
    tables = [in_spark(spark), in_deltalake(spark), in_polars(spark), pa.table({"shop": [value] * ROWS})]
    assert [table["shop"].to_pylist() for table in tables] == [[value] * ROWS] * 4
    assert score(make_job(uri, predictions={"p": "*"}, slice={"shop": value})).status == "unchanged"


def test_an_earlier_version_is_the_earlier_generation(spark, generations):
    first, second, _ = generations
    assert_holds(in_spark(spark, versionAsOf=2), together(first, second))
    assert_holds(pl.read_delta(path(), version=2).to_arrow(), together(first, second))
    assert_holds(pa.table(DeltaTable(path(), version=1).to_pyarrow_table()), first)


def test_columns_are_described(spark, live):
    described = sql(spark, "DESCRIBE TABLE {t}").select("col_name", "data_type", "comment").collect()
    columns = {row[0]: (row[1], row[2]) for row in described[: live.num_columns]}
    assert list(columns) == live.column_names
    assert columns["spent"] == ("decimal(20,4)", "Column of lake/features")
    assert columns["seen"][0] == columns["_scored_at"][0] == "timestamp"
    assert columns["_run_id"] == ("string", "Run that wrote the row")
    assert columns["score_date"] == ("date", "Slice of scores")
    assert all(comment for _, comment in columns.values())


@pytest.mark.long
def test_the_change_feed_of_a_rescore_is_that_slice(spark, generations, run):
    _, second, corrected = generations
    sql(spark, "ALTER TABLE {t} SET TBLPROPERTIES (delta.enableChangeDataFeed = true)")
    result = run(DAY, rescore=True)
    again = scored(features(DAY, 0, shift=0.5), result)
    changes = in_spark(spark, readChangeFeed="true", startingVersion=5)
    assert set(changes["_commit_version"].to_pylist()) == {5}
    of = {kind: changes.filter(pc.equal(changes["_change_type"], kind)).select(again.column_names)
          for kind in ("delete", "insert")}  # fmt: skip
    assert_holds(of["delete"], corrected)
    assert_holds(of["insert"], again)
    assert changes.num_rows == 2 * ROWS
    assert_holds(in_spark(spark), together(again, second))


@pytest.mark.long
def test_vacuum_keeps_what_lives_and_by_default_what_was_replaced(spark, generations, run):
    first, second, corrected = generations
    sql(spark, "VACUUM {t}")
    assert_holds(in_spark(spark), together(corrected, second))
    assert_holds(pa.table(DeltaTable(path(), version=2).to_pyarrow_table()), together(first, second))
    assert [run(day).status for day in (DAY, NEXT)] == ["unchanged", "unchanged"]


@pytest.mark.long
def test_a_full_vacuum_removes_the_replaced_generation_only(spark, generations, run):
    _, second, corrected = generations
    with spark_settings(spark, **{"spark.databricks.delta.retentionDurationCheck.enabled": "false"}):
        sql(spark, "VACUUM {t} RETAIN 0 HOURS")
    runs = [table["_run_id"][0].as_py() for table in generations]
    assert [len(list(Path(SCORES).rglob(f"*{run_id}/**/*.parquet"))) for run_id in runs] == [0, 3, 3]
    assert_holds(in_spark(spark), together(corrected, second))
    assert [run(day).status for day in (DAY, NEXT)] == ["unchanged", "unchanged"]


@pytest.mark.long
def test_an_optimized_table_is_scored_as_before(spark, generations, run):
    _, second, corrected = generations
    sql(spark, "OPTIMIZE {t}")
    assert len(files()) == 2
    assert_holds(in_spark(spark), together(corrected, second))
    assert [run(day).status for day in (DAY, NEXT)] == ["unchanged", "unchanged"]
    write("lake/features", features(THIRD, 2000), ["day"])
    third = scored(features(THIRD, 2000), run(THIRD))
    assert_holds(in_spark(spark), together(corrected, second, third))
    again = scored(features(DAY, 0, shift=0.5), run(DAY, rescore=True))
    assert_holds(in_spark(spark), together(again, second, third))


@pytest.mark.parametrize("vectors", ["false", "true"], ids=["rewriting files", "deletion vectors"])
@pytest.mark.long
def test_rows_deleted_by_a_person_block_the_rerun(vectors, spark, generations, run):
    second = generations[1]
    sql(spark, f"ALTER TABLE {{t}} SET TBLPROPERTIES (delta.enableDeletionVectors = {vectors})")
    sql(spark, "DELETE FROM {t} WHERE id = 3 OR id = 9")
    deleted = version(SCORES)
    with pytest.raises(Blocked, match=rf"score_date={DAY} .* by commit {deleted} \(DELETE\): 22 rows live, 24 were"):
        run(DAY)
    assert run(NEXT).status == "unchanged"
    assert version(SCORES) == deleted
    again = scored(features(DAY, 0, shift=0.5), run(DAY, rescore=True))
    assert_holds(in_spark(spark), together(again, second))


@pytest.mark.long
def test_rows_appended_by_a_person_to_another_slice_disturb_no_rerun(spark, generations, run):
    second = generations[1]
    rows = spark.read.format("delta").load(path()).where("id < 4")
    rows = rows.selectExpr("id + 5000 AS id", "name", "p", "'by hand' AS _job", f"DATE '{THIRD}' AS score_date")
    rows.write.format("delta").mode("append").save(path())
    by_hand = in_spark(spark, f"score_date = DATE '{THIRD}'").sort_by("id")
    assert by_hand["id"].to_pylist() == [5000, 5001, 5002, 5003]
    assert [run(day).status for day in (DAY, NEXT)] == ["unchanged", "unchanged"]
    again = scored(features(DAY, 0, shift=0.5), run(DAY, rescore=True))
    assert_holds(in_spark(spark), together(again, second, by_hand))


def test_a_change_to_one_slice_is_not_held_against_another(generations, run):
    DeltaTable(path()).update({"p": "0.0"}, predicate=f"id = 3 AND score_date = '{DAY}'")
    DeltaTable(path()).optimize.z_order(["id"])
    assert run(NEXT).status == "unchanged"
    updated = version(SCORES) - 1
    with pytest.raises(Blocked, match=rf"score_date={DAY} .* by commit {updated} \(UPDATE\): 24 rows live, 24 were"):
        run(DAY)


def test_the_commit_that_is_named_is_the_one_that_changed_the_slice(generations, run):
    DeltaTable(path()).delete(f"id = 3 AND score_date = '{DAY}'")
    deleted = version(SCORES)
    by_hand = generations[1].slice(0, 1)
    by_hand = by_hand.set_column(by_hand.num_columns - 1, "score_date", pa.array([dt.date.fromisoformat(THIRD)]))
    write(SCORES, by_hand)
    with pytest.raises(Blocked, match=rf"score_date={DAY} .* by commit {deleted} \(DELETE\): 23 rows live, 24 were"):
        run(DAY)
