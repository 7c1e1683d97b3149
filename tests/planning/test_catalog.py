"""Tables named as the Spark session's catalog knows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.config import Job
from lakehouse.connectors.spark import is_catalog_name
from lakehouse.errors import ConfigError
from lakehouse.operations.lookup import status
from lakehouse.operations.sweep import sweep
from lakehouse.planning import catalog, naming
from lakehouse.runs import ledger
from tests.conftest import score

DAY = "2026-01-02"


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"] * 10), x)


@pytest.fixture
def db(spark, workspace):
    """A schema of the catalog in this test's folder, with a managed table of features."""
    spark.sql(f"CREATE DATABASE lab LOCATION '{workspace}/ware house'")
    spark.sql("CREATE TABLE lab.features (id BIGINT, a DOUBLE) USING delta")
    spark.sql("INSERT INTO lab.features VALUES (1, 0.1), (2, 0.2), (NULL, 0.3)")
    yield "lab"
    spark.sql("DROP DATABASE lab CASCADE")


@pytest.fixture
def job(make_job, uri, db):
    def make(source: str = "lab.features", sink: str = "lab.scores", **sections) -> Job:
        return make_job(
            uri, date=DAY, source={"table": source}, predictions={"p": 0}, slice={"score_date": "{date}"},
            sinks=[{"type": "delta", "table": sink}], **{"checks": {"quarantine": {"max_fraction": 0.5}}, **sections},
        )  # fmt: skip

    return make


def rows(spark, table: str = "lab.scores"):
    return [(r["id"], round(r["p"], 6)) for r in spark.sql(f"SELECT id, p FROM {table} ORDER BY id").collect()]


@pytest.mark.parametrize("prefix", ["", "spark_catalog."])
@pytest.mark.quick("")
def test_a_job_from_name_to_name_creates_a_table_that_sql_finds(prefix, job, spark, workspace):
    named = job(f"{prefix}lab.features", f"{prefix}lab.scores")
    assert score(named, "spark", dry_run=True).status == "planned"
    assert not spark.catalog.tableExists("lab.scores")
    result = score(named, "spark")
    assert (result.status, result.rows_scored, rows(spark)) == ("published", 2, [(1, 1.0), (2, 2.0)])
    assert Path(f"{workspace}/ware house/scores/_delta_log").is_dir()
    assert score(named, "spark").status == "unchanged"
    spark.sql("INSERT INTO lab.features VALUES (5, 0.5)")
    assert score(named, "spark").status == "published"
    assert rows(spark) == [(1, 1.0), (2, 2.0), (5, 5.0)]
    with catalog.resolve_names(named) as at_places:
        assert status(at_places)[0].status == "published"
        assert len(ledger.runs(naming.state_of(at_places), "scores")) == 2
        assert sweep(at_places, take_away=False) == []


@pytest.mark.long
def test_a_table_that_is_there_is_used_where_it_lies(job, spark, workspace):
    """Managed ones with rules of their own, and external ones."""
    score(job(sink="lake/first"), "spark")
    spark.sql(f"CREATE TABLE lab.outside USING delta LOCATION '{workspace}/lake/first'")
    spark.sql("INSERT INTO lab.features VALUES (7, 0.7)")
    result = score(job(sink="lab.outside"), "spark")
    assert (result.status, result.sinks[-1]["table"]) == ("published", "lake/first")
    assert rows(spark, "lab.outside") == [(1, 1.0), (2, 2.0), (7, 7.0)]


@pytest.mark.long
def test_a_named_quarantine_is_entered_too(job, spark):
    score(job(checks={"quarantine": {"max_fraction": 0.5, "table": "lab.aside"}}), "spark")
    assert [r["a"] for r in spark.sql("SELECT a FROM lab.aside").collect()] == [0.3]


@pytest.mark.long
def test_a_quarantine_of_the_next_number_is_entered_too(job, spark):
    spark.sql("CREATE TABLE lab.aside (mine BIGINT) USING delta")
    done = score(job(checks={"quarantine": {"max_fraction": 0.5, "table": "lab.aside"}}), "spark")
    assert [s["table"].rsplit("/", 1)[-1] for s in done.sinks if s["kind"] == "quarantine"] == ["aside_2"]
    assert [r["a"] for r in spark.sql("SELECT a FROM lab.aside_2").collect()] == [0.3]


@pytest.mark.parametrize(
    ("source", "sink", "said"),
    [
        ("lab.featuers", "lab.scores", "source.table: the catalog has no table lab.featuers, did you mean 'features'?"),
        ("nowhere.features", "lab.scores", "source.table: the catalog has no schema 'nowhere' for nowhere.features"),
        ("lab.features", "nowhere.scores", "sinks.0.table: the catalog has no schema 'nowhere' for nowhere.scores"),
        ("lab.view", "lab.scores", "source.table: lab.view is no Delta table"),
        ("lab.plain", "lab.scores", "source.table: lab.plain is no Delta table"),
        ("lab.features", "spark_catalog.lab.features", "sinks: spark_catalog.lab.features is also source.table"),
    ],
)
@pytest.mark.quick(
    "lab.featuers-lab.scores-source.table: the catalog has no table lab.featuers, did you mean 'features'?",
    "lab.plain-lab.scores-source.table: lab.plain is no Delta table",
)
def test_a_name_that_will_not_do(source, sink, said, job, spark):
    spark.sql("CREATE VIEW lab.view AS SELECT * FROM lab.features")
    spark.sql("CREATE TABLE lab.plain (id BIGINT, a DOUBLE) USING parquet")
    with pytest.raises(ConfigError) as raised:
        score(job(source, sink), "spark")
    assert str(raised.value).startswith(said)
    assert not spark.catalog.tableExists("lab.scores")


def test_without_spark_a_name_says_what_to_do(job):
    with pytest.raises(ConfigError, match=r"source.table: 'lab.features' is a name of Spark's catalog: use --engine"):
        score(job())


def test_a_folder_with_dots_is_a_path(workspace):
    assert is_catalog_name("lab.features")
    assert not is_catalog_name("./lab.features")
    assert not is_catalog_name("lake/lab.features")
    (workspace / "lab.features").mkdir()
    assert not is_catalog_name("lab.features")
