"""One digest of the same rows from Arrow and from Snowflake, another one of others."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import math
import random
import struct
import uuid
from contextlib import suppress
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from snowflake.connector.errors import ProgrammingError

from lakehouse.connectors import canonical, digest
from lakehouse.connectors.snowflake import fold, quote

LEAST, MOST = 5e-324, 1.7976931348623157e308
LONG = (-(2**63), 2**63 - 1)
DAYS = [dt.date(1, 1, 1), dt.date(1582, 10, 4), dt.date(1969, 12, 31), dt.date(1970, 1, 1), dt.date(9999, 12, 31)]
MOMENTS = [
    dt.datetime(1, 1, 1, 0, 0, 0, 1),
    dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
    dt.datetime(9999, 12, 31, 23, 59, 59, 999999),
]
INSTANTS = [moment.replace(tzinfo=dt.UTC) for moment in MOMENTS]
STRINGS = [
    "",
    "NULL",
    "null",
    "-" * 16,
    "a|b",
    "1",
    "'",
    '"',
    "\\",
    "\n",
    "\0",
    "ä",
    "a\u0308",
    "😀",
    " ",
    "x" * 70,
    "\x1f\x7f/",
]


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    return st.integers(1 - 10**precision, 10**precision - 1).map(lambda n: Decimal(f"{n}E-{scale}"))


# The type on the Arrow side, the one in Snowflake, values, and those that are likely to be mistaken.
TYPES: dict[str, tuple[pa.DataType, str, st.SearchStrategy[Any], list[Any]]] = {
    "flag": (pa.bool_(), "BOOLEAN", st.booleans(), [True, False]),
    "tiny": (pa.int8(), "NUMBER(3, 0)", st.integers(-128, 127), [0, 100, -128]),
    "count": (pa.int64(), "NUMBER(19, 0)", st.integers(*LONG), [LONG[0], -1, 0, 10, 100, LONG[1]]),
    "money": (pa.decimal128(10, 2), "NUMBER(38, 10)", decimals(10, 2), [Decimal(n) for n in ("0", "-0.05", "100", "0.50")]),
    "whole": (pa.decimal128(18, 0), "NUMBER(30, 0)", decimals(18, 0), [Decimal(10**18 - 1), Decimal(-1000)]),
    "exact": (pa.decimal128(38, 37), "NUMBER(38, 37)", decimals(38, 37), [Decimal("1E-37"), Decimal("-9." + "9" * 37)]),
    "wide": (pa.decimal128(38, 1), "NUMBER(38, 1)", decimals(38, 1), [Decimal("9" * 37 + ".9"), Decimal("-1" + "0" * 36)]),
    "single": (pa.float32(), "FLOAT", st.floats(width=32), [-0.0, 2.0**-149, math.nan]),
    "double": (pa.float64(), "FLOAT", st.floats(), [-0.0, LEAST, -LEAST, MOST, -MOST, 2.0**-1022, math.inf, -math.inf, math.nan, 0.1]),
    "name": (pa.string(), "VARCHAR", st.text(max_size=5), STRINGS),
    "raw": (pa.binary(), "BINARY", st.binary(max_size=5), [b"", b"\0", b"\xff\xfe", b"00"]),
    "day": (pa.date32(), "DATE", st.dates(), DAYS),
    "at": (pa.timestamp("us", "UTC"), "TIMESTAMP_LTZ(6)", st.datetimes(timezones=st.just(dt.UTC)), INSTANTS),
    "local": (pa.timestamp("us"), "TIMESTAMP_NTZ(6)", st.datetimes(), MOMENTS),
    "_warnings": (pa.list_(pa.string()), "ARRAY", st.lists(st.none() | st.text(max_size=3), max_size=3), [[], [None], [""], STRINGS]),
    "flags": (pa.list_(pa.bool_()), "ARRAY", st.lists(st.none() | st.booleans(), max_size=3), [[], [None], [True, False]]),
    "counts": (pa.list_(pa.list_(pa.int64())), "ARRAY", st.lists(st.none() | st.lists(st.integers(*LONG), max_size=2), max_size=2), [[], [None], [[]], [[None]], [[LONG[0]], [0, 10]]]),
}  # fmt: skip
SCHEMA = pa.schema([(name, type_) for name, (type_, _, _, _) in TYPES.items()])
IN_SNOWFLAKE = {name: type_ for name, (_, type_, _, _) in TYPES.items()}
ROWS = st.lists(
    st.tuples(*(st.none() | st.sampled_from(some) | any_ for _, _, any_, some in TYPES.values())), max_size=20
)


def table_of(rows: list[tuple[Any, ...]], schema: pa.Schema = SCHEMA) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.table([pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema)


def of(table: pa.Table) -> digest.Digest:
    return digest.of_batches(table.to_batches(), table.column_names)


def types_of(table: pa.Table) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in table.schema}


@pytest.fixture(scope="module")
def run(snowflake_server):
    """run(SQL) → all rows."""
    with snowflake_server.connect(database=f"D{uuid.uuid4().hex[:8]}", schema="S") as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE STAGE st")
        # What the stand-in lacks, under the name that it makes of MD5_NUMBER_LOWER64. It says that it failed.
        half = "CAST(CAST('0x' || SUBSTR(MD5(x), {}, 8) AS NUMBER(38, 0)) AS NUMBER(10, 0))"
        with suppress(ProgrammingError):
            cursor.execute(
                "CREATE FUNCTION m_d5_number_lower64(x) AS "
                f"CAST({half.format(17)} * {2**32} + {half.format(25)} AS NUMBER(20, 0))"
            )
        yield lambda sql: cursor.execute(sql).fetchall()


@pytest.fixture(scope="module")
def load(run, tmp_path_factory):
    """load(rows, types in Snowflake) → the name of a table with these rows."""
    folder, numbers = tmp_path_factory.mktemp("files"), itertools.count()

    def make(rows: pa.Table, types: dict[str, str]) -> str:
        name = f"t{next(numbers)}"
        columns = ", ".join(f"{quote(fold(column))} {type_}" for column, type_ in types.items())
        run(f"CREATE TABLE {name} ({columns})")
        pq.write_table(rows.rename_columns([fold(column) for column in rows.column_names]), folder / f"{name}.parquet")
        run(f"PUT file://{folder / name}.parquet @st AUTO_COMPRESS = FALSE OVERWRITE = TRUE")
        run(f"COPY INTO {name} FROM @st FILES = ('{name}.parquet') MATCH_BY_COLUMN_NAME = CASE_SENSITIVE "
            "FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE BINARY_AS_TEXT = FALSE)")  # fmt: skip
        return name

    return make


@pytest.fixture(scope="module")
def in_snowflake(run, load):
    """in_snowflake(rows, types in Snowflake, where="") → the digest that Snowflake gives of them."""

    def ask(rows: pa.Table, types: dict[str, str], where: str = "") -> digest.Digest:
        (row,) = run(digest.sql(types_of(rows), load(rows, types), where))
        return digest.from_row(row, types_of(rows))

    return ask


@given(rows=ROWS)
@settings(max_examples=15, deadline=None, derandomize=True, phases=[Phase.generate])  # a column is named anyway
@pytest.mark.long
def test_arrow_and_snowflake_agree(in_snowflake, rows):
    table = table_of(rows)
    found = in_snowflake(table, IN_SNOWFLAKE)
    assert digest.differences(of(table), found) == []
    assert of(table) == found


def test_extremes_agree(in_snowflake):
    values = [[*some, None] for _, _, _, some in TYPES.values()]
    table = table_of(list(zip(*(itertools.islice(itertools.cycle(some), 20) for some in values), strict=True)))
    found = in_snowflake(table, IN_SNOWFLAKE)
    assert digest.differences(of(table), found) == []
    assert of(table) == found


def test_every_magnitude_of_a_double_agrees(in_snowflake):
    powers = [math.ldexp(1.0, e) for e in range(-1074, 1024)]
    beside = [math.nextafter(x, to) for x in powers for to in (0.0, math.inf)]
    random.seed(7)
    any_bits = [struct.unpack("<d", random.randbytes(8))[0] for _ in range(20000)]
    numbers = [*powers, *beside, *(-x for x in beside), *any_bits, math.nan, -math.nan, math.inf, -math.inf, 0.0, MOST]
    table = pa.table({"x": numbers})
    assert of(table) == in_snowflake(table, {"x": "FLOAT"})


@pytest.mark.parametrize("times", [1, 30])
def test_texts_of_any_length_agree(in_snowflake, times):
    lengths = [0, 1, 54, 55, 56, 63, 64, 119, 120, 4000] * times
    table = pa.table({"s": ["ä" * (n // 2) + "a" * (n % 2) for n in lengths] + ["x" * n for n in lengths]})
    assert of(table) == in_snowflake(table, {"s": "VARCHAR"})


def test_the_scale_of_a_number_does_not_matter(in_snowflake):
    values = [Decimal("1.50"), Decimal("0.05"), Decimal("-0.50"), Decimal(0), Decimal(100), Decimal(-20), None]
    made = [pa.table({"n": pa.array(values, type_)}) for type_ in (pa.decimal128(10, 2), pa.decimal128(38, 30))]
    loaded = [in_snowflake(made[0], {"n": f"NUMBER({p}, {s})"}) for p, s in ((10, 2), (38, 10), (38, 35))]
    assert [of(made[1]), *loaded] == [of(made[0])] * 4
    whole = [pa.table({"n": pa.array([0, 1, -10, 100], type_)}) for type_ in (pa.int64(), pa.decimal128(12, 0))]
    assert [of(whole[1]), in_snowflake(whole[0], {"n": "NUMBER(38, 10)"})] == [of(whole[0])] * 2


def test_a_part_of_a_table_with_any_names(run):
    names = ["t0", "a b", 'quo"te', "Score", "n0", "f0", "ä"]
    table = pa.table({name: [float(i), 1.0, 2.0] for i, name in enumerate(names)})
    run(f"CREATE TABLE named ({', '.join(f'{quote(fold(name))} FLOAT' for name in names)})")
    run("INSERT INTO named VALUES (0, 1, 2, 3, 4, 5, 6), (1, 1, 1, 1, 1, 1, 1), (2, 2, 2, 2, 2, 2, 2)")
    (row,) = run(digest.sql(types_of(table), "named", 'T0 < 1.5 AND "a b" >= 1'))
    assert digest.from_row(row, types_of(table)) == of(table.slice(0, 2))


def test_names_are_folded_and_quoted():
    asked = digest.sql({"Score": pa.string(), "a b": pa.string()}, '"d"."s"."t"', "b = 1")
    assert 'SELECT "SCORE" AS T0, "a b" AS T1 FROM (SELECT * FROM "d"."s"."t" WHERE b = 1)' in asked


def test_nothing_and_what_cannot_be_compared(in_snowflake):
    rows = pa.table({"a": pa.array([], pa.int64()), "x": pa.array([], pa.list_(pa.float64()))})
    found = in_snowflake(rows, {"a": "NUMBER(19, 0)", "x": "ARRAY"})
    assert found == digest.Digest(0, 0, {"a": 0}, ("x",))
    assert digest.differences(of(rows), found) == digest.differences(digest.of_batches([], ["a", "x"]), found) == []
    only = rows.select(["x"]).from_pylist([{"x": [1.5]}, {"x": None}], rows.select(["x"]).schema)
    assert of(only) == in_snowflake(only, {"x": "ARRAY"})
    assert of(only).uncompared == ("x",)


@pytest.mark.parametrize("type_", [
    pa.struct([("a", pa.string())]), pa.map_(pa.string(), pa.string()), pa.list_(pa.date32()), pa.decimal256(50, 2),
    pa.list_(pa.struct([("a", pa.string())])), pa.timestamp("ns"), pa.time64("us"), pa.null(),
])  # fmt: skip
def test_types_that_are_not_compared_are_named(type_):
    found = digest.of_batches([pa.record_batch({"i": [1], "x": pa.nulls(1, type_)})], ["x", "i"])
    assert found == digest.Digest(1, found.total, found.columns, ("x",))
    assert list(found.columns) == ["i"]
    assert digest.sql({"i": pa.int64(), "x": type_}, "t") == digest.sql({"i": pa.int64()}, "t")


@given(rows=ROWS, data=st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_neither_order_nor_batches_matter(rows, data):
    shuffled = data.draw(st.permutations(rows))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    whole = table_of(shuffled).combine_chunks()
    parts = [whole.slice(a, b - a) for a, b in itertools.pairwise([0, *cuts, len(rows)])]
    batches = [batch for part in parts for batch in part.to_batches()]
    assert digest.of_batches(batches, data.draw(st.permutations(SCHEMA.names))) == of(table_of(rows))


def test_many_rows_are_worked_on_in_parts(monkeypatch):
    table = pa.table({"i": range(5000), "s": [None if i % 3 else f"{i}" * (i % 9) for i in range(5000)]})
    whole = of(table)
    monkeypatch.setattr(digest, "ROWS", 1024)
    assert of(table) == whole == digest.of_batches(table.to_batches(max_chunksize=7), table.column_names)
    assert whole.columns["i"] == sum(lower64(str(i).encode()) for i in range(5000))


def lower64(text: bytes) -> int:
    return int(hashlib.md5(text).hexdigest()[16:], 16)


def test_the_hash_is_md5s_lower_half():
    texts = ["", "a", "ä", "x" * 5000, "a"]
    found = digest.of_batches(pa.table({"t": texts}).to_batches(), ["t"]).columns["t"]
    assert found == sum(lower64(text.encode()) for text in texts)
    # as Snowflake's documentation has them
    known = pa.table({"t": ["Snowflake", "test"]}).to_batches()
    assert digest.of_batches(known, ["t"]).columns["t"] == 9203306159527282910 + 14618207765679027446


ABC = pa.table({
    "id": [1, 2, 3], "a": ["x", "", None], "b": ["y", "z", "x"], "p": [0.5, 0.25, None],
    "_warnings": pa.array([[], ["r"], None], pa.list_(pa.string())),
})  # fmt: skip


def changed(**columns: list[Any]) -> pa.Table:
    table = ABC
    for name, values in columns.items():
        i = table.column_names.index(name)
        table = table.set_column(i, name, pa.array(values, table.schema.field(i).type))
    return table


def others(*names: str) -> list[str]:
    return [f"column {name!r} has other values" for name in names]


@pytest.mark.parametrize(("other", "said"), [
    (changed(a=["X", "", None]), others("a")),
    (changed(p=[0.5, math.nextafter(0.25, 1), None]), others("p")),
    (changed(p=[0.5, 0.25, math.nan]), others("p")),
    (changed(a=["x", None, None]), others("a")),
    (changed(a=["x", "", ""]), others("a")),
    (changed(a=["y", "", None], b=["x", "z", "x"]), others("a", "b")),
    (changed(a=["x", None, ""]), ["each column has the same values, but not in the same rows"]),
    (changed(_warnings=[[], ["r", "r"], None]), others("_warnings")),
    (changed(_warnings=[[], ["r"], []]), others("_warnings")),
    (ABC.slice(1), ["there are 3 rows and 2", *others("id", "b", "p", "_warnings", "a")]),
    (pa.concat_tables([ABC, ABC.slice(0, 1)]), ["there are 3 rows and 4", *others("id", "b", "p", "_warnings", "a")]),
    (pa.concat_tables([ABC.slice(0, 2), ABC.slice(0, 1)]), others(*ABC.column_names)),
    (ABC.set_column(3, "p", pa.array([{}] * 3)), ["column 'p' can be compared on one side only"]),
    (ABC.drop_columns("p"), ["column 'p' can be compared on one side only"]),
])  # fmt: skip
def test_what_differs_is_said(other, said):
    assert sorted(digest.differences(of(ABC), of(other))) == sorted(said)
    assert digest.differences(of(ABC), of(ABC)) == digest.differences(of(other), of(other)) == []
    assert of(other).total != of(ABC).total


def test_rows_that_one_text_would_confuse_differ():
    words = [
        None,
        "",
        "NULL",
        "null",
        "-" * 16,
        "a|b",
        "a",
        "b",
        "|",
        ",",
        "1",
        "11",
        "\0",
        "a\0b",
        '["a"]',
        hashlib.md5(b"a").hexdigest()[16:].upper(),
    ]
    pairs = list(itertools.product(words, words))
    totals = {of(pa.table({"a": pa.array([a], pa.string()), "b": pa.array([b], pa.string())})).total for a, b in pairs}
    assert len(totals) == len(pairs)


def test_lists_that_joined_elements_would_confuse_differ():
    lists = [
        None,
        [],
        [None],
        [""],
        ["null"],
        ["", ""],
        [",", ""],
        ["a", "b"],
        ["a,b"],
        ['a","b'],
        ['"'],
        ["\\"],
        ['\\"'],
        ["\\n"],
        ["\n"],
    ]
    texts = canonical.texts(pa.array(lists, pa.list_(pa.string())))
    assert texts.to_pylist() == [
        None, "[]", "[null]", '[""]', '["null"]', '["",""]', '[",",""]', '["a","b"]', '["a,b"]', r'["a\",\"b"]', r'["\""]',
        r'["\\"]', r'["\\\""]', r'["\\n"]', r'["\n"]',
    ]  # fmt: skip


@given(data=st.data())
@settings(max_examples=100, deadline=None, derandomize=True)
@pytest.mark.parametrize("name", TYPES)
def test_values_that_differ_have_different_texts(name, data):
    type_, _, values, some = TYPES[name]
    column = pa.array(data.draw(st.lists(values | st.sampled_from(some), max_size=40)), type_)
    floats = pa.types.is_floating(type_)
    seen = {
        ("nan" if floats and value != value else repr(value + 0.0 if floats else value)) for value in column.to_pylist()
    }
    assert len(set(canonical.texts(column).to_pylist())) == len(seen)


def test_texts_are_as_documented():
    for values, want in (
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([-(2**63), 0, 10]), [f"-{2**63}", "0", "10"]),
        (pa.array([2**64 - 1], pa.uint64()), [f"{2**64 - 1}"]),
        (pa.array([Decimal("-12.50"), Decimal("0.05"), Decimal("-0.00"), Decimal("100.00")]), ["-12.5", ".05", "0", "100"]),
        (pa.array([Decimal("1e-38"), Decimal("-0.1")], pa.decimal128(38, 38)), ["." + "0" * 37 + "1", "-.1"]),
        (pa.array([1.0, -1.0, -0.0, LEAST, None]), [str(1023 << 52), str(-1023 << 52), "0", "1", None]),
        (pa.array([math.inf, -math.inf, math.nan, -math.nan]), [str(0x7FF0 << 48), str(-0x7FF0 << 48), *[str(0x7FF8 << 48)] * 2]),
        (pa.array([0.1], pa.float32()), [canonical.texts(pa.array([float(np.float32(0.1))]))[0].as_py()]),
        (pa.array([b"\0\xff", b"", None, b"k"]), ["00FF", "", None, "6B"]),
        (pa.array([dt.date(1969, 12, 31), dt.date(1, 1, 1)]), ["-1", "-719162"]),
        (pa.array([dt.datetime(1970, 1, 1, 0, 0, 1)], pa.timestamp("s", "Europe/Berlin")), ["1000000"]),
    ):  # fmt: skip
        assert canonical.texts(values).to_pylist() == want
        assert canonical.texts(values.slice(1)).to_pylist() == want[1:]


@pytest.mark.parametrize("type_", [
    pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()), pa.binary_view(), pa.large_binary(), pa.binary(3),
])  # fmt: skip
def test_how_arrow_holds_a_value_does_not_matter(type_):
    plain = pa.array(["abc", None, "xyz", "abc"])
    plain = plain if canonical.kind_of(type_) == "string" else plain.cast(pa.binary())
    other = pc.dictionary_encode(plain) if pa.types.is_dictionary(type_) else plain.cast(type_)
    assert of(pa.table({"s": other})) == of(pa.table({"s": plain}))
