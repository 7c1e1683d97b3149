"""Scoring rows of Snowflake: pinning, types, names, units, and whole jobs into Delta tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from tests.conftest import read, score
from tests.tables import assert_tables_equal

ROWS = 5000
X = pd.DataFrame({"a": np.arange(40) / 7, "b": np.arange(40) % 3 - 1.0})
MODEL = LogisticRegression().fit(X, X["a"] > 3)


@pytest.fixture(scope="module")
def uri(register):
    return register(MODEL, X, method="predict_proba")


@pytest.fixture
def games(account):
    account.run("CREATE TABLE games (player_id NUMBER(38,0), country VARCHAR, a DOUBLE, b DOUBLE, unused VARIANT)")
    account.run(
        "INSERT INTO games (player_id, country, a, b) "
        f"SELECT range, 'c' || (range % 3), range / 7, -(range % 5) FROM range({ROWS})"
    )
    return account.table("games")


@pytest.fixture
def snow_job(make_job, uri, account):
    """snow_job(table=|query=…, **sections) → a job that reads from Snowflake."""

    def make(table: str | None = None, date: str | None = None, **more: Any) -> Any:
        source = {"type": "snowflake", "connection": account.name, **({"table": table} if table else {})}
        source |= more.pop("source", {})
        sections = {"keys": ["player_id"], "keep": ["country"], "predictions": {"p": {"class": True}}, **more}
        return make_job(uri, date=date, source=source, model={"method": "predict_proba"}, **sections)

    return make


def expected(ids: Any) -> pa.Table:
    frame = pd.DataFrame({"a": ids / 7, "b": -(ids % 5.0)})
    return pa.table(
        {"player_id": pa.array(ids), "country": [f"c{i % 3}" for i in ids], "p": MODEL.predict_proba(frame)[:, 1]}
    )


@pytest.mark.parametrize("engine", ["local", "spark"])
def test_a_table_in_snowflake_is_scored(account, games, snow_job, engine, request):
    if engine == "spark":
        request.getfixturevalue("spark")
    done = score(snow_job(games), engine)
    assert (done.status, done.rows_read, done.carrier) == ("published", ROWS, "chunks")
    rows = read("lake/scores")
    assert_tables_equal(rows.select(["player_id", "country", "p"]), expected(np.arange(ROWS)), float64=1e-12)
    assert done.input["table"] == games.upper()
    assert set(rows["_input_version"].to_pylist()) == {done.input["version"]}
