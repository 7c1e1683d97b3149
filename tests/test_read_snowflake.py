"""Snowflake as a Spark DataFrame, in a notebook say."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from chispa import assert_df_equality

import lakehouse
from lakehouse.errors import ConfigError, Unavailable

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901)


@pytest.fixture
def games(account):
    ids = range(3000)
    rows = {
        "id": pa.array(ids, pa.int64()), "money": pa.array([Decimal(i) / 4 for i in ids], pa.decimal128(10, 2)),
        "p": [i / 8 for i in ids], "ok": [i % 2 == 0 for i in ids], "name": [f"ä{i}" for i in ids],
        "raw": [b"\0\xff" for _ in ids], "day": [date(2026, 1, 2) for _ in ids],
        "local": pa.array([MOMENT for _ in ids], pa.timestamp("us")),
        "utc": pa.array([MOMENT.replace(tzinfo=UTC) for _ in ids], pa.timestamp("us", "UTC")),
        "doc": pa.nulls(len(ids), pa.list_(pa.string())),
    }  # fmt: skip
    return account.load("games", pa.table(rows))


def test_rows_and_types_are_those_of_the_table(spark, account, games):
    frame = lakehouse.read_snowflake(spark, account.name, table=games)
    expected = spark.createDataFrame(
        [
            (i, Decimal(i) / 4, i / 8, i % 2 == 0, f"ä{i}", b"\0\xff", date(2026, 1, 2), MOMENT,
             MOMENT.replace(tzinfo=UTC), None)
            for i in range(3000)
        ],
        "id long, money decimal(10,2), p double, ok boolean, name string, raw binary, day date, local timestamp_ntz, "
        "utc timestamp, doc string",
    )  # fmt: skip
    assert_df_equality(frame, expected, ignore_row_order=True, ignore_nullable=True)
    assert frame.rdd.getNumPartitions() > 1


def test_columns_and_condition_go_into_the_query_which_runs_once(spark, account, games):
    account.server.reset()
    frame = lakehouse.read_snowflake(spark, account.name, table=games, columns=["Name", "id"], where="id % 1000 = 7")
    assert sorted(map(tuple, frame.collect())) == [("ä1007", 1007), ("ä2007", 2007), ("ä7", 7)]
    assert frame.count() == frame.where("id > 1000").count() + 1 == 3
    selects = [sql for sql, _ in account.server.statements() if 'FROM "' in sql and "SELECT *" not in sql]
    assert len(selects) == 1
    assert '"NAME" AS "Name", "ID" AS "id"' in selects[0]
    assert "id % 1000 = 7" in selects[0]


def test_every_evaluation_sees_the_rows_of_the_one_query(spark, account, games):
    frame = lakehouse.read_snowflake(spark, account.name, query=f"SELECT id FROM {games} WHERE id < 2500")
    before = frame.count()
    account.run(f"DELETE FROM {games}")
    assert before == frame.count() == 2500


def test_an_empty_result_is_an_empty_frame(spark, account, games):
    frame = lakehouse.read_snowflake(spark, account.name, table=games, where="id < 0", columns=["id"])
    assert (frame.count(), frame.columns) == (0, ["id"])


def test_what_is_wrong_is_said(spark, account, games):
    with pytest.raises(ConfigError, match="read_snowflake: give exactly one of table and query"):
        lakehouse.read_snowflake(spark, account.name)
    with pytest.raises(ConfigError, match=r"no column 'nmae', did you mean 'NAME'\?"):
        lakehouse.read_snowflake(spark, account.name, table=games, columns=["nmae"])
    with pytest.raises(ConfigError, match=r"no connection 'prd' in .*connections.toml, known: tests"):
        lakehouse.read_snowflake(spark, "prd", table=games)


@pytest.mark.long
def test_a_server_that_does_not_answer_is_named(spark, account, games):
    account.server.fail((r"^POST /queries", "503", 1000))
    with pytest.raises(Unavailable, match="no answer to SELECT"):
        lakehouse.read_snowflake(spark, account.name, table=games)


def test_the_package_offers_it_and_nothing_else():
    assert lakehouse.__all__ == ["__version__", "preview", "read_snowflake", "score"]
    with pytest.raises(AttributeError, match="has no attribute 'read_snowflak'"):
        lakehouse.read_snowflak  # noqa: B018
