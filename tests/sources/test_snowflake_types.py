"""Values of every type go from a Delta table to Snowflake and back by two jobs; slices and names of every kind."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from lakehouse.connectors.snowflake.types import read_type, written_type
from lakehouse.errors import ConfigError
from tests.conftest import read, score, write
from tests.tables import assert_tables_equal

X = pd.DataFrame({"a": np.arange(40) / 7, "b": np.arange(40) % 3 - 1.0})
MODEL = LogisticRegression().fit(X, X["a"] > 3)
UTC = pa.timestamp("us", "UTC")
MOMENTS = [dt.datetime(*parts) for parts in (
    (1, 1, 1), (9999, 12, 31, 23, 59, 59, 999999), (1582, 10, 4, 23, 59, 59), (1582, 10, 10, 12), (1970, 1, 1),
    (1969, 12, 31, 23, 59, 59, 999999), (2262, 4, 11, 23, 47, 16, 854776), (2026, 3, 29, 2, 30),
)]  # fmt: skip
ZONES = [dt.timezone(dt.timedelta(hours=h, minutes=m)) for h, m in ((2, 0), (-11, 0), (5, 45), (0, 0))]
NESTED = pa.struct([("a", pa.int32()), ("Näme", pa.list_(pa.string())), ("in", pa.struct([("t", pa.bool_())]))])
TYPES: dict[str, tuple[pa.DataType, list[Any], pa.DataType]] = {
    "flag": (pa.bool_(), [True, False], pa.bool_()),
    "i8": (pa.int8(), [-128, 127, 0], pa.int64()),
    "i16": (pa.int16(), [-(2**15), 2**15 - 1], pa.int64()),
    "i32": (pa.int32(), [-(2**31), 2**31 - 1], pa.int64()),
    "i64": (pa.int64(), [2**63 - 1, -(2**63), 2**53 + 1, 0], pa.int64()),
    "f32": (pa.float32(), [float("nan"), float("inf"), -0.0, 1.401298464324817e-45, 0.1, 3.4028234663852886e38], pa.float64()),
    "f64": (pa.float64(), [float("nan"), float("-inf"), -0.0, 5e-324, 0.1, 1.7976931348623157e308], pa.float64()),
    "d5_2": (pa.decimal128(5, 2), [Decimal("999.99"), Decimal("-999.99"), Decimal("0.01")], pa.decimal128(5, 2)),
    "d18_4": (pa.decimal128(18, 4), [Decimal("99999999999999.9999"), Decimal("-0.0001")], pa.decimal128(18, 4)),
    "d38_10": (pa.decimal128(38, 10), [Decimal("-" + "9" * 28 + "." + "9" * 10), Decimal("1E-10")], pa.decimal128(38, 10)),
    "d38_37": (pa.decimal128(38, 37), [Decimal("9." + "9" * 37), Decimal("-1E-37")], pa.decimal128(38, 37)),
    "d20_0": (pa.decimal128(20, 0), [Decimal("9" * 20), Decimal(-1)], pa.decimal128(20, 0)),
    "d37_0": (pa.decimal128(37, 0), [Decimal("-" + "9" * 37), Decimal(1)], pa.decimal128(37, 0)),
    "d10_0": (pa.decimal128(10, 0), [Decimal("-9999999999"), Decimal(1)], pa.int64()),
    "d38_0": (pa.decimal128(38, 0), [Decimal(2**63 - 1), Decimal(-(2**63))], pa.int64()),
    "text": (pa.string(), ["", "Zürich 😀", "e\u0301", "null", "it's \"q\" \\ \n\t", "NaN", "ü" * 3000, "{date} %s"], pa.string()),
    "bytes": (pa.binary(), [b"", b"\0\xff", b"\xc3", "Zürich".encode()], pa.binary()),
    "day": (pa.date32(), [m.date() for m in MOMENTS], pa.date32()),
    "at": (UTC, [m.replace(tzinfo=dt.UTC) for m in MOMENTS], UTC),
    "zoned": (UTC, [dt.datetime(2026, 3, 29, 2, 30, 0, 1, tzinfo=zone) for zone in ZONES], UTC),
    "ntz": (pa.timestamp("us"), MOMENTS, pa.timestamp("us")),
    "ints": (pa.list_(pa.int64()), [[2**53 + 1, None], [], [-(2**63)]], pa.string()),
    "lists": (pa.list_(pa.list_(pa.string())), [[["ü", None], None, []], []], pa.string()),
    "record": (NESTED, [{"a": 1, "Näme": ["x"], "in": {"t": True}}, {"a": None, "Näme": [], "in": None}], pa.string()),
    "pairs": (pa.map_(pa.string(), pa.int64()), [[("a", 2**53 + 1), ("", None)], []], pa.string()),
    "records": (pa.list_(pa.struct([("k", pa.string()), ("f", pa.float64())])), [[{"k": "ü", "f": 0.5}, None]], pa.string()),
}  # fmt: skip
"""A column's type in Delta, its values, of which each row takes the next, and its type after having been in Snowflake."""
ROWS = 9


@pytest.fixture(scope="module")
def uri(register):
    return register(MODEL, X, method="predict_proba")


@pytest.fixture
def job(make_job, uri, account):
    """job(name, source, sink, **sections): "delta" or "snowflake" may be the system of either, by default Delta."""

    def make(name, source, sink, **sections):
        places = [{"type": "delta", "connection": None, "table": None, **place} for place in (source, sink)]
        for place in places:
            if place["type"] == "snowflake":
                place["connection"] = account.name
        given = {"keys": ["id"], "predictions": {"p": {"class": True}}, "state": "state", **sections}
        return make_job(uri, job=name, source=places[0], sinks=[places[1]], model={"method": "predict_proba"}, **given)

    return make


def table_of(columns: dict[str, tuple[pa.DataType, list[Any]]], rows: int = ROWS) -> pa.Table:
    """Rows of which the last has nulls, and the features."""
    made = {
        name: pa.array([*(values[i % len(values)] for i in range(rows - 1)), None], kind)
        for name, (kind, values) in columns.items()
    }
    return pa.table({"id": np.arange(rows), "a": np.arange(rows) / 7, "b": np.arange(rows) % 3 - 1.0, **made})


def returned(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """A column as it comes back: wider, or as JSON."""
    if not pa.types.is_string(kind) or pa.types.is_string(column.type):
        return column.cast(kind).combine_chunks()
    plain = [dict(v) if v is not None and pa.types.is_map(column.type) else v for v in column.to_pylist()]
    return pa.array([None if v is None else json.dumps(v) for v in plain])


def parsed(column: pa.ChunkedArray) -> pa.Array:
    """JSON in one spelling."""
    return pa.array([None if v is None else json.dumps(json.loads(v)) for v in column.to_pylist()])


def test_every_type_comes_back_from_snowflake(account, job):
    given = table_of({name: (kind, values) for name, (kind, values, _) in TYPES.items()})
    write("lake/features", given)
    keep = list(TYPES)
    there = {"type": "snowflake", "table": account.table("held")}
    assert score(job("there", {"table": "lake/features"}, there, keep=keep)).rows_scored == ROWS
    account.server.set(chunk_rows=2)
    source = {"type": "snowflake", "query": "SELECT h.*, id / 7 AS a, (id % 3 - 1)::FLOAT AS b FROM held h"}
    back = job("back", source, {"table": "lake/back"}, keep=keep)
    assert score(back).rows_scored == ROWS
    rows = read("lake/back").select(["id", *keep])
    wanted = pa.table({"id": given["id"], **{name: returned(given[name], kind) for name, (*_, kind) in TYPES.items()}})
    assert rows.num_rows == ROWS
    for name, (kind, _, _) in TYPES.items():
        if pa.types.is_nested(kind):
            rows = rows.set_column(rows.column_names.index(name), name, parsed(rows[name]))
    assert_tables_equal(rows, wanted)
    assert [rows[name][ROWS - 1].as_py() for name in keep] == [None] * len(keep)


def test_a_decimal_of_38_digits_needs_a_cast_where_it_is_beyond_64_bits(account, job):
    """Snowflake's INTEGER is NUMBER(38,0) too, and is read as int64."""
    write("lake/features", table_of({"big": (pa.decimal128(38, 0), [Decimal("9" * 37), Decimal(1)])}))
    there = {"type": "snowflake", "table": account.table("held")}
    score(job("there", {"table": "lake/features"}, there, keep=["big"]))
    select = "SELECT id, {} AS big, id / 7 AS a, 1::FLOAT AS b FROM held"
    with pytest.raises(
        ConfigError,
        match=r"column 'big' holds 9{37}, beyond 64 bits: read it by source.query with big::NUMBER\(37, 0\)",
    ):
        score(job("back", {"type": "snowflake", "query": select.format("big")}, {"table": "lake/back"}, keep=["big"]))
    source = {"type": "snowflake", "query": select.format("big::NUMBER(37, 0)")}
    score(job("back", source, {"table": "lake/back"}, keep=["big"]))
    assert read("lake/back")["big"].to_pylist() == [Decimal("9" * 37), Decimal(1)] * 4 + [None]


@pytest.mark.parametrize("kind", [pa.decimal128(38, 38)], ids=str)
def test_a_type_that_snowflake_lacks_is_refused(account, job, kind):
    write("lake/features", table_of({"x": (kind, [Decimal("0.5")])}))
    there = {"type": "snowflake", "table": account.table("held")}
    with pytest.raises(
        ConfigError, match=r"a column of type decimal128\(38, 38\) has no type in Snowflake that holds it"
    ):
        score(job("there", {"table": "lake/features"}, there, keep=["x"]))
    assert not any("CREATE" in sql for sql, _ in account.server.statements())


@pytest.mark.parametrize("kind", [kind for kind, *_ in TYPES.values()], ids=str)
def test_what_is_written_is_read_as_it_was_or_wider(account, kind):
    """The type that is written and the type that it is read as."""
    account.run(f"CREATE OR REPLACE TABLE t (x {written_type(kind)})")
    (column,) = account.session.describe("SELECT x FROM t")
    assert read_type(column) == next(back for one, _, back in TYPES.values() if one == kind)


# Slices


SLICES: list[tuple[str | None, Any, Any, Any]] = [
    (None, "2026-01-02", "2026-01-03", dt.date(2026, 1, 2)),
    (None, dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(1, 1, 1)),
    (None, "DE/it's %s \\ ü", "x", "DE/it's %s \\ ü"),
    (None, 2**63 - 1, -(2**63), 2**63 - 1),
    (None, True, False, True),
    ("NUMBER(38,0)", 7, 8, 7),
    ("NUMBER(5,2)", "7.50", "8", Decimal("7.50")),
    ("FLOAT", 7, 8, 7.0),
    ("VARCHAR(12)", "2026-01-02", "2026-01-03", "2026-01-02"),
    ("VARCHAR(12)", 7, 8, "7"),
    ("TIMESTAMP_NTZ(6)", "2026-01-02", "2026-01-03", dt.datetime(2026, 1, 2)),
    ("TIMESTAMP_LTZ(6)", "2026-01-02 04:00:00+01:00", "2026-01-03 00:00:00Z", dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC)),
]  # fmt: skip


@pytest.mark.parametrize(("declared", "value", "other", "held"), SLICES, ids=str)
@pytest.mark.quick(
    "None-2026-01-02-2026-01-03-2026-01-02",
    "None-True-False-True",
    "NUMBER(38,0)-7-8-7",
    "VARCHAR(12)-7-8-7",
    "TIMESTAMP_LTZ(6)-2026-01-02 04:00:00+01:00-2026-01-03 00:00:00Z-2026-01-02 03:00:00+00:00",
)
@pytest.mark.quick("None-2026-01-02-2026-01-03-2026-01-02", "NUMBER(38,0)-7-8-7")
def test_a_slice_of_every_type_is_replaced(account, job, declared, value, other, held):
    write("lake/features", table_of({}))
    there = {"type": "snowflake", "table": account.table("held")}
    if declared:
        account.run(f"CREATE TABLE held (part {declared})")
    for part in (value, other, value):
        assert (
            score(job("there", {"table": "lake/features"}, there, slice={"part": part}), rescore=True).status
            == "published"
        )
    rows = dict(account.run("SELECT part, COUNT(*) FROM held GROUP BY 1"))
    assert len(rows) == 2
    assert rows[held] == ROWS
    assert score(job("there", {"table": "lake/features"}, there, slice={"part": value})).status == "unchanged"


# Names


ODD = ['select "x"', "a b", "Mixed", "a.b", "%s", "low", "é", "100%"]


def test_odd_names_are_keys_kept_and_features(account, job):
    columns = ", ".join('"' + name.replace('"', '""') + '" FLOAT' for name in ODD)
    account.run(f"CREATE TABLE features ({columns})")
    for row in range(3):
        account.run(f"INSERT INTO features SELECT {', '.join(f'{row} + {i} / 8' for i in range(len(ODD)))}")
    there = {"type": "snowflake", "table": account.table("held")}
    for features in ({"a": 'select "x"', "b": "%s"}, {"a": "a b", "b": "a.b"}, {"a": "Mixed", "b": "100%"}):
        account.run("DROP TABLE IF EXISTS held")
        account.run("DROP TABLE IF EXISTS held_runs")
        source = {"type": "snowflake", "table": account.table("features")}
        done = score(job("odd", source, there, keys=ODD[:2], keep=ODD[2:], features={"rename": features}))
        assert done.status == "published"
        names = [c.name for c in account.session.describe("SELECT * FROM held")]
        assert [n for n in names if n.upper() in {o.upper() for o in ODD}] == [
            n for n in names if n in {"MIXED", "LOW", *ODD}
        ]
        rows = account.run("SELECT * FROM held ORDER BY 1")
        given = account.run("SELECT * FROM features ORDER BY 1")
        kept = [tuple(row[: len(ODD)]) for row in rows]
        assert kept == [tuple(row) for row in given]
        frame = pd.DataFrame({f: [row[ODD.index(name)] for row in given] for f, name in features.items()})
        assert np.allclose([row[len(ODD)] for row in rows], MODEL.predict_proba(frame)[:, 1])
