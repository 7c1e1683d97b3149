"""The type table: every type that Delta has, by each carrier and engine, is what Spark's own reader gives, or refused.

One wide table holds them all, as data and as partition columns; the model answers with what it was given.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from sklearn.base import BaseEstimator

from lakehouse.config import Job, load_job
from tests.conftest import score
from tests.tables import assert_tables_equal

EVERY_ROW = "id >= 0 OR id < 0"  # an OR is left to Spark: the frame carrier
ROWS = 8

MOMENTS = ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "1582-10-04 23:59:59", "1582-10-10 12:00:00",
           "1677-09-21 00:12:43.145224", "1969-12-31 23:59:59.999999", "2262-04-11 23:47:16.854776"]  # fmt: skip
STRINGS = ["''", "'Zürich 😀'", "'e\u0301'", "'null'", "'a\\0b\\n\\t'", "'NaN'", "repeat('ü', 300)"]
KINDS: Mapping[str, list[str]] = {
    "BOOLEAN": ["true", "false"],
    "TINYINT": ["-128", "127", "0"],
    "SMALLINT": ["-32768", "32767"],
    "INT": ["-2147483648", "2147483647"],
    "BIGINT": ["9007199254740993", "-9007199254740993", "9223372036854775807", "-9223372036854775808"],
    "FLOAT": ["'NaN'", "'Infinity'", "'-Infinity'", "'-0.0'", "0.0", "'1.4E-45'", "0.1"],
    "DOUBLE": ["'NaN'", "'Infinity'", "'-Infinity'", "'-0.0'", "0.0", "'4.9E-324'", "0.1"],
    "DECIMAL(5, 2)": ["999.99", "-999.99", "0.01"],
    "DECIMAL(18, 4)": ["99999999999999.9999", "-0.0001"],
    "DECIMAL(38, 0)": ["'99999999999999999999999999999999999999'", "-1"],
    "DECIMAL(38, 10)": ["'-9999999999999999999999999999.9999999999'", "'0.0000000001'"],
    "DECIMAL(38, 38)": ["'0.99999999999999999999999999999999999999'", "'-1E-38'"],
    "STRING": STRINGS,
    "VARCHAR(300)": STRINGS,
    "BINARY": ["x''", "x'00FF'", "x'C3'", "'Zürich'"],
    "DATE": [f"'{moment[:10]}'" for moment in MOMENTS],
    "TIMESTAMP": [f"'{moment}Z'" for moment in MOMENTS],
    "TIMESTAMP_NTZ": [f"'{moment}'" for moment in MOMENTS],
    "ARRAY<BIGINT>": ["array(9007199254740993, null)", "array()"],
    "ARRAY<DOUBLE>": ["array(double('NaN'), double('-0.0'), null)", "array()"],
    "ARRAY<TIMESTAMP>": [f"array(timestamp'{moment}Z', null)" for moment in MOMENTS],
    "ARRAY<ARRAY<STRING>>": ["array(array('ü', null), null, array())", "array()"],
    "STRUCT<a: INT, at: TIMESTAMP_NTZ, `Odd.näme`: STRUCT<d: DECIMAL(38, 10), Raw: BINARY>>": [
        "named_struct('a', 1, 'at', timestamp_ntz'0001-01-01', 'Odd.näme', named_struct('d', -0.5, 'Raw', x'00'))",
        "named_struct('a', null, 'at', null, 'Odd.näme', null)",
        "named_struct('a', -1, 'at', timestamp_ntz'9999-12-31', 'Odd.näme', named_struct('d', null, 'Raw', null))"],
    "MAP<STRING, BIGINT>": ["map('a', 9007199254740993, '', null)", "map()"],
    "MAP<DATE, ARRAY<FLOAT>>": ["map(date'0001-01-01', array(float('NaN'), null), date'9999-12-31', null)", "map()"],
    "MAP<INT, STRUCT<m: MAP<STRING, DATE>>>": ["map(1, named_struct('m', map('k', date'1582-10-10')), 2, null)"],
    "ARRAY<STRUCT<t: BOOLEAN, x: STRUCT<l: ARRAY<SMALLINT>>>>": [
        "array(named_struct('t', true, 'x', named_struct('l', array(-32768, null))), null, named_struct('t', null, 'x', null))"],
}  # fmt: skip
"""Type → its values as SQL, of which each row takes the next one; the first row has nulls."""

PARTITIONS: Mapping[str, list[str]] = {
    "BOOLEAN": ["true", "false"],
    "TINYINT": ["-128", "127"],
    "SMALLINT": ["-32768"],
    "INT": ["-2147483648"],
    "BIGINT": ["9007199254740993", "-9223372036854775808"],
    "FLOAT": ["'NaN'", "'-Infinity'", "'-0.0'", "0.1"],
    "DOUBLE": ["'Infinity'", "'-0.0'", "'NaN'", "'4.9E-324'"],
    "DECIMAL(5, 2)": ["-999.99"],
    "DECIMAL(38, 10)": ["'9999999999999999999999999999.9999999999'", "'-1E-10'"],
    "STRING": ["'a/b=c'", "'%41 ä😀'", "'it\\'s \"q\" {x}#?&+'", "'c:\\\\d'", "'.'", "'x\\ny'", "''"],
    "VARCHAR(9)": ["'a%2Fb'", "' '", "'null'"],
    "BINARY": ["'ab'", "'ü'"],
    "DATE": ["'0001-01-01'", "'9999-12-31'", "'1582-10-10'"],
}
LEFT_TO_SPARK: Mapping[str, list[str]] = {
    "CHAR(4)": ["'ab'", "''", "'ü'"],
    "ARRAY<CHAR(4)>": ["array('ab', null)"],
    "STRUCT<c: CHAR(4), v: VARCHAR(4)>": ["named_struct('c', 'ab', 'v', 'ab')"],
    "MAP<CHAR(4), CHAR(4)>": ["map('ab', 'cd')"],
}
"""Types that Spark alone reads rightly."""


def name_of(kind: str, prefix: str = "c") -> str:
    """A column's name after its type, of letters and digits."""
    return prefix + "_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in kind.lower())


def select(kinds: Mapping[str, list[str]], prefix: str, row: int) -> str:
    """The values of a row as SQL; row 0 is null wherever a type allows it."""
    values = [
        (f"CAST({'null' if row == 0 else values[(row - 1) % len(values)]} AS {plainly(kind)})"
         f" AS {name_of(kind, prefix)}")
        for kind, values in kinds.items()
    ]  # fmt: skip
    return ", ".join(values)


def plainly(kind: str) -> str:
    """A type that Spark casts to: strings for CHAR and VARCHAR."""
    for text in ("VARCHAR(300)", "VARCHAR(9)", "VARCHAR(4)", "CHAR(4)"):
        kind = kind.replace(text, "STRING")
    return kind


def columns_of(kinds: Mapping[str, list[str]], prefix: str) -> str:
    return ", ".join(f"{name_of(kind, prefix)} {kind}" for kind in kinds)


def insert(spark: Any, table: Path, rows: range, *kinds: tuple[Mapping[str, list[str]], str]) -> None:
    """Insert rows as one file a partition."""
    lines = [f"SELECT {i}L AS id, " + ", ".join(select(k, prefix, i) for k, prefix in kinds) for i in rows]
    spark.sql(f"INSERT INTO delta.`{table}` SELECT /*+ COALESCE(1) */ * FROM ({' UNION ALL '.join(lines)})")


class Echo(BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Answers with its features."""

    def fit(self, x: pd.DataFrame) -> Echo:
        return self

    def predict(self, x: pd.DataFrame) -> pd.DataFrame:
        return x.add_prefix("echo_")


FEATURES = {"BOOLEAN": "boolean", "TINYINT": "integer", "SMALLINT": "integer", "INT": "integer", "BIGINT": "long",
            "FLOAT": "float", "DOUBLE": "double", "STRING": "string", "VARCHAR(300)": "string", "BINARY": "binary",
            "TIMESTAMP_NTZ": "datetime", "DATE": "datetime"}  # fmt: skip
"""Type → the MLflow type as which the model is given it."""
ARROW = {"integer": pa.int32(), "datetime": pa.timestamp("us")}
WAYS = {"files-local": ("local", None), "files-spark": ("spark", None), "frame-spark": ("spark", EVERY_ROW)}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("types")


@pytest.fixture(scope="module")
def job_over(lake: Path, tracking_uri: str, register: Callable[..., str]) -> Callable[..., Job]:
    """job_over(table, name, features, keep, where=None) → Job whose model answers with its features."""

    def make(table: Path, name: str, features: Mapping[str, str], keep: list[str], where: str | None = None) -> Job:
        inputs = Schema([ColSpec(kind, column, required=False) for column, kind in features.items()])
        outputs = Schema([ColSpec(kind, f"echo_{column}") for column, kind in features.items()])
        pickled = {"serialization_format": "pickle", "skops_trusted_types": None}
        uri = register(Echo(), pd.DataFrame(), signature=ModelSignature(inputs, outputs), **pickled)
        job = {
            "job": name,
            "source": {"type": "delta", "table": str(table), **({"where": where} if where else {})},
            "model": {"uri": uri, "tracking_uri": tracking_uri, "trust": ["pickle"], "method": "predict", "batch_rows": 3},
            "keys": ["id"],
            "keep": keep,
            "sinks": [{"type": "delta", "table": str(lake / name)}],
        }  # fmt: skip
        path = lake / f"{name}.yaml"
        path.write_text(yaml.safe_dump(job))
        return load_job(path, date=None, overrides=[], environ=os.environ)

    return make


def by_spark(spark: Any, table: Path) -> pa.Table:
    """The whole table as Spark's own reader gives it, by key."""
    return spark.read.format("delta").load(str(table)).toArrow().sort_by("id")


@pytest.fixture(scope="module")
def source(spark: Any, lake: Path) -> Path:
    """Every type as data and as partition; timestamps as INT96 in some files, as microseconds in others."""
    table = lake / "source"
    inside = ", ".join(name_of(kind, "p") for kind in PARTITIONS)
    columns = f"id BIGINT, {columns_of(KINDS, 'c')}, {columns_of(PARTITIONS, 'p')}"
    spark.sql(f"CREATE TABLE delta.`{table}` ({columns}) USING delta PARTITIONED BY ({inside})")
    for stored, rows in (("INT96", range(4)), ("TIMESTAMP_MICROS", range(4, ROWS))):
        spark.conf.set("spark.sql.parquet.outputTimestampType", stored)
        insert(spark, table, rows, (KINDS, "c"), (PARTITIONS, "p"))
    spark.conf.unset("spark.sql.parquet.outputTimestampType")
    return table


@pytest.fixture(scope="module")
def expected(spark: Any, source: Path) -> pa.Table:
    return by_spark(spark, source)


@pytest.fixture(scope="module")
def scored(
    spark: Any, source: Path, expected: pa.Table, job_over: Callable[..., Job], lake: Path
) -> dict[str, pa.Table]:
    """The scored table of each way, as Spark's own reader gives it."""
    features = {name_of(kind): mlflow_type for kind, mlflow_type in FEATURES.items()}
    keep = [name for name in expected.column_names if name != "id"]
    tables = {}
    for way, (engine, where) in WAYS.items():
        result = score(job_over(source, way, features, keep, where), engine)
        assert (result.status, result.carrier, result.rows_scored) == ("published", way.split("-")[0], ROWS)
        tables[way] = by_spark(spark, lake / way)
    return tables


KEPT = {**{kind: name_of(kind) for kind in KINDS}, **{f"partition {kind}": name_of(kind, "p") for kind in PARTITIONS}}


def assert_column(actual: pa.Table, name: str, expected: pa.Table, wanted: str) -> None:
    assert_tables_equal(actual.select(["id", name]).rename_columns(["id", "x"]),
                        expected.select(["id", wanted]).rename_columns(["id", "x"]))  # fmt: skip


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("way", WAYS)
def test_a_kept_column_is_what_spark_reads(scored, expected, way, kind):
    assert_column(scored[way], KEPT[kind], expected, KEPT[kind])


@pytest.mark.parametrize("kind", FEATURES)
@pytest.mark.parametrize("way", WAYS)
def test_a_feature_is_what_spark_reads(scored, expected, way, kind):
    """In the model's type; a null among floats reaches the model as NaN."""
    name, given = name_of(kind), expected
    column = expected[name].cast(ARROW.get(FEATURES[kind], expected[name].type))
    column = pc.fill_null(column, float("nan")) if pa.types.is_floating(column.type) else column
    given = expected.set_column(expected.column_names.index(name), name, column)
    assert_column(scored[way], f"echo_{name}", given, name)


def test_the_values_are_those_that_were_written(expected):
    """Spark's own reader against a few values of which Python is sure: two alike mistakes would be no comfort."""
    rows = expected.select([name_of(k) for k in ("BIGINT", "DECIMAL(38, 38)", "TIMESTAMP", "BINARY")]).to_pylist()
    assert [str(value) for value in rows[0].values()] == ["None"] * 4
    assert [str(value) for value in rows[1].values()] == [
        "9007199254740993", "0.99999999999999999999999999999999999999", "0001-01-01 00:00:00+00:00", "b''"]  # fmt: skip
    assert str(rows[2]["c_timestamp"]) == "9999-12-31 23:59:59.999999+00:00"
    assert json.dumps(expected["c_string"].to_pylist()[1:4]) == '["", "Z\\u00fcrich \\ud83d\\ude00", "e\\u0301"]'
