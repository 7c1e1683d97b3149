"""`source.where`: what is refused, what is left to Spark, and that the rest gives the very rows that Spark gives."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lakehouse.conditions import Comparison
from lakehouse.conditions.parsing import parse_where
from lakehouse.config.systems.delta import DeltaSource
from lakehouse.errors import ConfigError
from lakehouse.sources.delta import pin, units
from tests.conftest import turns, write

SCHEMA = pa.schema(
    [("id", pa.int64()), ("n", pa.int64()), ("i", pa.int32()), ("x", pa.float64()), ("f", pa.float32()),
     ("s", pa.string()), ("d", pa.date32()), ("t", pa.bool_()), ("at", pa.timestamp("us", "UTC")),
     ("amount", pa.decimal128(9, 2)), ("nested", pa.struct([("a", pa.int64())])), ("odd name", pa.int64())]
)  # fmt: skip
DAY = dt.date(2024, 2, 1)


# What is understood


@pytest.mark.parametrize(
    ("text", "comparisons"),
    [
        ("n = 5", [Comparison("n", "=", (5,))]),
        ("5 <= n", [Comparison("n", ">=", (5,))]),
        ("N <> -5 AND `odd name` == 1", [Comparison("n", "!=", (-5,)), Comparison("odd name", "=", (1,))]),
        ("n = -9223372036854775808", [Comparison("n", "=", (-(2**63),))]),
        ("x < 1.5e3", [Comparison("x", "<", (1500.0,))]),
        ("x >= 3", [Comparison("x", ">=", (3.0,))]),
        ("s = 'it\\'s \\\\ \"ü\"'", [Comparison("s", "=", ("it's \\ \"ü\"",))]),
        ('s != "a"', [Comparison("s", "!=", ("a",))]),
        ("s IN ('a', '')", [Comparison("s", "in", ("a", ""))]),
        ("d = '2024-02-01'", [Comparison("d", "=", (DAY,))]),
        ("d > DATE '2024-02-01'", [Comparison("d", ">", (DAY,))]),
        ("d < CAST('2024-02-01' AS DATE)", [Comparison("d", "<", (DAY,))]),
        ("t = true", [Comparison("t", "=", (True,))]),
        ("s IS NULL AND n IS NOT NULL", [Comparison("s", "is_null"), Comparison("n", "not_null")]),
        ("n BETWEEN 1 AND 3", [Comparison("n", ">=", (1,)), Comparison("n", "<=", (3,))]),
        ("3 BETWEEN n AND i", [Comparison("n", "<=", (3,)), Comparison("i", ">=", (3,))]),
        ("n = 1 AND (i = 2) AND x > 0 -- why", [
            Comparison("n", "=", (1,)), Comparison("i", "=", (2,)), Comparison("x", ">", (0.0,))]),
    ],
)  # fmt: skip
def test_simple_conditions_are_understood(text, comparisons):
    where = parse_where(text, SCHEMA)
    assert (where.reason, list(where.comparisons)) == (None, comparisons)


@pytest.mark.parametrize(
    ("text", "columns", "reason"),
    [
        ("n = 1 OR n = 2", ["n"], "'n = 1 OR n = 2' is not a simple comparison"),
        ("NOT n = 1", ["n"], "'NOT n = 1' is not a simple comparison"),
        ("n NOT IN (1)", ["n"], "'NOT n IN (1)' is not a simple comparison"),
        ("t", ["t"], "'t' is not a simple comparison"),
        ("s LIKE 'a%'", ["s"], "\"s LIKE 'a%'\" is not a simple comparison"),
        ("s RLIKE '^x$'", ["s"], "\"s RLIKE '^x$'\" is not a simple comparison"),
        ("n <=> 1", ["n"], "'n IS NOT DISTINCT FROM 1' is not a simple comparison"),
        ("s = 'it''s'", ["s"], "comparing 's' (string) with CONCAT"),
        ("s = r'a\\nb'", ["s"], "comparing 's' (string) with"),
        ("s = 'A' COLLATE UTF8_LCASE", ["s"], "comparing 's' (string) with 'A' COLLATE"),
        ('"s" = "a"', [], "is not a plain column"),
        ("n = 5L", ["n"], "comparing 'n' (int64) with CAST"),
        ("n = 0x1F", ["n"], "comparing 'n' (int64) with X'1F'"),
        ("x < 1e400", ["x"], "comparing 'x' (double) with 1e400"),
        ("x < 123456789012345678901234567890123456789", ["x"], "comparing 'x' (double) with 1234"),
        ("n < i", ["n", "i"], "comparing 'i' (int32) with n"),
        ("n + 1 = 2", ["n"], "'n + 1' is not a plain column"),
        ("lower(s) = 'a'", ["s"], "'LOWER(s)' is not a plain column"),
        ("nested.a = 1", ["nested"], "'nested.a' is not a plain column"),
        ("n IN (1, NULL)", ["n"], "comparing 'n' (int64) with NULL"),
        ("x IN (1.0)", ["x"], "IN over the floating-point column 'x'"),
        ("n = '5'", ["n"], "comparing 'n' (int64) with '5'"),
        ("s = 5", ["s"], "comparing 's' (string) with 5"),
        ("n = 1.0", ["n"], "comparing 'n' (int64) with 1.0"),
        ("i < 2147483648", ["i"], "2147483648 is outside the range of 'i' (int32)"),
        ("f = 0.1", ["f"], "comparing 'f' (float) with 0.1"),
        ("at > '2024-02-01'", ["at"], "comparing 'at' (timestamp[us, tz=UTC]) with '2024-02-01'"),
        ("amount = 1.5", ["amount"], "comparing 'amount' (decimal128(9, 2)) with 1.5"),
        ("d = '2024-2-1'", ["d"], "comparing 'd' (date32[day]) with '2024-2-1'"),
        ("d > CAST('2024-02-01' AS TIMESTAMP)", ["d"], "comparing 'd' (date32[day]) with CAST"),
        ("d = to_date('2024-01-02', 'yyyy-dd-MM')", ["d"], "comparing 'd' (date32[day]) with TO_DATE"),
        ("n = NULL", ["n"], "comparing 'n' (int64) with NULL"),
        ("n BETWEEN SYMMETRIC 3 AND 1", ["n"], "is not a simple comparison"),
    ],
)  # fmt: skip
def test_what_arrow_could_answer_otherwise_is_left_to_spark(text, columns, reason):
    where = parse_where(text, SCHEMA)
    assert where.reason is not None
    assert reason in where.reason
    assert (where.columns, where.comparisons) == (tuple(columns), ())


@pytest.mark.parametrize(
    "text",
    [
        "n = 1; DROP TABLE features", "DROP TABLE features", "SELECT 1", "n IN (SELECT 1)", "EXISTS (SELECT 1)",
        "n = (SELECT max(n) FROM features)", "n = max(n)", "n > avg(n) OVER ()", "row_number() OVER (ORDER BY n) = 1",
        "d = current_date", "d = current_date()", "d = curdate()", "at < now()", "at < current_timestamp",
        "at < localtimestamp()", "d > date_sub(current_date(), 1)", "x < rand()", "x < randn(1)", "x < random()",
        "x < uniform(0, 1)", "s = uuid()", "s = randstr(3)", "s = current_user()", "s = user()", "s = session_user()",
        "s = current_database()", "s = current_schema()", "s = current_catalog()", "s = input_file_name()",
        "n = monotonically_increasing_id()", "n = spark_partition_id()", "n > unix_timestamp()",
        "n > input_file_block_start()", "s = reflect('java.lang.System', 'getProperty', 'user.home')",
        "s = java_method('java.lang.Runtime', 'getRuntime')", "s = try_reflect('java.util.UUID', 'randomUUID')",
        "s = current_timezone()", "s = version()", "s = current_path()", "at < current_time()", "d = DATE 'today'",
        "d > date'Yesterday '", "at < TIMESTAMP 'now'", "d = CAST('tomorrow UTC' AS DATE)", "n = ?", "n = :n", "n = @n",
        "n, i", "n AS m", "(n = 1, i = 2)",
    ],
)  # fmt: skip
def test_what_is_unsafe_is_refused(text):
    with pytest.raises(ConfigError, match=r"source\.where: "):
        parse_where(text, SCHEMA)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("5", "is not a condition: compare a column with a value"),
        ("'a'", "is not a condition: compare a column with a value"),
        ("n + 1", "is not a condition: compare a column with a value"),
        ("n =", "is not an SQL condition: "),
        ("", "is not an SQL condition|must be one SQL condition"),
        ("nn = 1", "the table has no column 'nn', did you mean 'n'"),
        ("_metadata.file_path = 'x'", "the table has no column '_metadata'"),
        ("d = '2024-02-30'", r"'2024-02-30' is no date \(column 'd'\)"),
    ],
)
def test_what_is_no_condition_on_the_table_is_refused(text, complaint):
    with pytest.raises(ConfigError, match=rf"source\.where: .*({complaint})"):
        parse_where(text, SCHEMA)


# The same rows as Spark


def read_by_files(table: str, where: str) -> list[int]:
    """The keys of the rows that the files carrier reads."""
    pinned = pin(DeltaSource(type="delta", table=table, where=where))
    assert pinned.where.reason is None, where
    read = [unit.batches() for unit in units(pinned, ["id", *pinned.where.columns], 3, 2)]
    return sorted(key for batches in read for batch in batches for key in batch.column("id").to_pylist())


def read_by_spark(spark: Any, table: str, conditions: Sequence[str]) -> list[list[int]]:
    """The keys of the rows for which Spark finds each condition true."""
    from pyspark.sql import functions as F

    frame = spark.read.format("delta").load(str(Path(table).absolute()))
    answers = frame.select("id", *(F.expr(text).alias(f"c{i}") for i, text in enumerate(conditions))).toArrow()
    ids = answers["id"].to_pylist()
    return [
        sorted(key for key, passes in zip(ids, answers[f"c{i}"].to_pylist(), strict=True) if passes)
        for i in range(len(conditions))
    ]


WIDE = [-(2**63), -(2**53) - 1, -1, 0, 1, 2, 2**53, 2**53 + 1, 2**63 - 1]
NARROW = [-(2**31), -1, 0, 1, 2**31 - 1]
DOUBLES = [-math.inf, -1e300, -1.5, -0.0, 0.0, 5e-324, 0.1, 1.0, 2.0**53, math.inf, math.nan]
TEXTS = ["", " ", "A", "a", "a ", "ab", "ä", "z", "é", "e\u0301", "😀", "\uffff", "it's", "x\n", "a\\b", "%41", "a/b=c",
         "x" * 40 + "a", "x" * 40 + "b", "😀" * 40, "NaN", "null"]  # fmt: skip
DATES = [dt.date(1, 1, 1), dt.date(1582, 10, 10), dt.date(1970, 1, 1), dt.date(2024, 2, 29), dt.date(9999, 12, 31)]
POOLS = {"n": WIDE, "i": NARROW, "x": DOUBLES, "s": TEXTS, "d": DATES, "t": [False, True]}
TABLE = pa.schema([SCHEMA.field(name) for name in ("id", *POOLS)])


def literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return f"DATE '{value.isoformat()}'" if isinstance(value, dt.date) else repr(value)


def condition(rnd: Random) -> str:
    name = rnd.choice([*POOLS, "x"])
    values = [literal(v) for v in POOLS[name] if not (isinstance(v, float) and not math.isfinite(v))]
    match rnd.choice(["compare", "compare", "mirrored", "between", "null", "in" if name != "x" else "compare"]):
        case "compare":
            return f"{name} {rnd.choice(['=', '!=', '<', '<=', '>', '>='])} {rnd.choice(values)}"
        case "mirrored":
            return f"{rnd.choice(values)} {rnd.choice(['=', '<>', '<', '<=', '>', '>='])} {name}"
        case "between":
            return f"{name} BETWEEN {rnd.choice(values)} AND {rnd.choice(values)}"
        case "null":
            return f"{name} IS {rnd.choice(['NULL', 'NOT NULL'])}"
    return f"{name} IN ({', '.join(rnd.choices(values, k=rnd.randint(1, 3)))})"


def files(rnd: Random, partition: str | None) -> list[list[dict[str, Any]]]:
    """The rows of a few files, a fifth of the values null."""
    ids, texts = iter(range(1000)), POOLS["s"]
    # A partition's value is part of a folder's name: neither empty nor long.
    pools = POOLS | {"s": [text[:10] for text in texts if text] if partition == "s" else texts}
    return [
        [{"id": next(ids), **{n: rnd.choice(p) if rnd.random() < 0.8 else None for n, p in pools.items()}}
         for _ in range(rnd.randint(1, 6))]
        for _ in range(rnd.randint(1, 4))
    ]  # fmt: skip


# Hypothesis' own strategies keep to small and equal values. No shrinking: each example is a table Spark has to read.
@pytest.mark.seeds
@settings(max_examples=turns(4, 60), deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(rnd=st.randoms(use_true_random=True), partition=st.sampled_from([None, None, "n", "i", "s", "d", "t"]))
def test_the_rows_are_those_of_spark(spark, workspace, rnd, partition):
    """Several files, of which statistics or partitions may rule some out.

    Spark evaluates the conditions as columns: its own `where` loses rows where it pushes -0.0 or dates of October
    1582 down to Parquet.
    """
    table = f"lake/{uuid.uuid4().hex}"
    for rows in files(rnd, partition):
        write(table, pa.Table.from_pylist(rows, schema=TABLE), [partition] if partition else [])
    texts = [" AND ".join(condition(rnd) for _ in range(rnd.choice([1, 1, 2, 3]))) for _ in range(20)]
    expected = dict(zip(texts, read_by_spark(spark, table, texts), strict=True))
    read = {text: read_by_files(table, text) for text in texts}
    assert {text: (read[text], expected[text]) for text in texts if read[text] != expected[text]} == {}


@pytest.mark.parametrize(
    ("where", "files"),
    [
        ("n > 5", "cd"), ("n >= 5", "bcd"), ("n < 4", "a"), ("n <= 4", "ab"), ("n = 3", "a"), ("n IN (0, 9)", "d"),
        ("n BETWEEN 10 AND 20", ""), ("n != 3", "abcd"), ("n IS NULL", "c"), ("n IS NOT NULL", "abcd"),
        ("s = 'x'", "abc"), ("s < 'y'", "abc"), ("s IS NULL", ""), ("s != 'x' AND n > 7", "d"), ("s = 'x' AND n > 7", "c"),
    ],
)  # fmt: skip
def test_files_are_left_out_by_partition_and_by_statistics(workspace, where, files):
    pieces = {"a": ("x", [1, 3]), "b": ("x", [4, 5]), "c": ("x", [None, 8]), "d": ("y", [9, 6])}
    paths: dict[str, str] = {}
    for piece, (s, n) in pieces.items():
        write("lake/features", pa.table({"id": [1, 2], "n": pa.array(n, pa.int64()), "s": [s, s]}), ["s"])
        [path] = {f.path for f in pin(DeltaSource(type="delta", table="lake/features")).files} - set(paths)
        paths[path] = piece
    left = pin(DeltaSource(type="delta", table="lake/features", where=where)).files
    assert "".join(sorted(paths[f.path] for f in left)) == files


@pytest.mark.long
def test_spark_written_tables_and_its_own_where_agree(spark, workspace):
    """Spark's statistics cut strings at 32 characters and leave NaN out; partitions hold NaN, infinities and ''."""
    path = str(Path("lake/features").absolute())
    rows = [(i, "x" * 40 + text, x, p) for i, (text, x, p) in enumerate(
        (text, x, p) for p in (math.nan, math.inf, 1.5, None) for text, x in (("a", math.nan), ("😀", 0.5), ("b", None)))]  # fmt: skip
    frame = spark.createDataFrame(rows, "id long, s string, x double, p double").coalesce(1)
    frame.write.format("delta").partitionBy("p").save(path)
    empty = spark.createDataFrame([(99, "", math.nan, -math.inf)], frame.schema)
    empty.write.format("delta").mode("append").save(path)
    texts = ["x > 1", "x >= 0.5 AND p > 1", "x < 1", "x != 0.5", "x IS NULL", "p = 1.5", "p != 1.5", "p > 100", "p < 100",
             "p IS NULL AND x <= 0.5", f"s = '{'x' * 40}a'", f"s > '{'x' * 40}a'", f"s > '{'x' * 40}b'", "s <= ''",
             f"s >= '{'x' * 32}'", "s < 'x'"]  # fmt: skip
    table = spark.read.format("delta").load(path)
    expected = {text: sorted(row.id for row in table.where(text).select("id").collect()) for text in texts}
    assert {text: read_by_files("lake/features", text) for text in texts} == expected
