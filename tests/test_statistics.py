"""The statistics of staged files: what the log and the footers tell, and that no reader loses a row by them."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import sys
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.statistics import columns_of, observe, statistics

NAN, INF = math.nan, math.inf
TOP = chr(sys.maxunicode)
SHARED = "the same hundred characters, then others: " * 3
FIRST, LAST = dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999_999)
EPOCH, MICROSECOND = dt.datetime(1970, 1, 1), dt.timedelta(microseconds=1)
LOCAL, INSTANT = pa.timestamp("us"), pa.timestamp("us", "UTC")
MONEY = pa.decimal128(38, 10)


def told(kind: pa.DataType, *batches: list[Any]) -> str:
    """The statistics of a file whose only column `c` has these batches."""
    columns = columns_of(pa.schema([("c", kind)]))
    for values in batches:
        observe(columns["c"], values if isinstance(values, pa.Array) else pa.array(values, kind))
    return statistics(sum(len(values) for values in batches), columns)


def bounds(kind: pa.DataType, *batches: list[Any]) -> list[str | None]:
    """Least and greatest of the column as the log spells them, None where there is none."""
    text = told(kind, *batches)
    sides = [re.search(rf'"{side}": {{(?:"c": (.*?))?}}[,}}]', text) for side in ("minValues", "maxValues")]
    return [side[1] for side in sides if side]


def day(number: int) -> pa.Array:
    return pa.array([number], pa.int32()).cast(pa.date32())


@pytest.mark.parametrize(
    ("kind", "values", "least", "greatest"),
    [
        (pa.int64(), [-(2**63), None, 2**63 - 1], "-9223372036854775808", "9223372036854775807"),
        (pa.int8(), [-128, 127], "-128", "127"),
        (pa.float64(), [5e-324, None, 0.1 + 0.2], "5e-324", "0.30000000000000004"),
        (pa.float32(), [0.1, 16777216.0], "0.10000000149011612", "16777216.0"),
        (pa.float64(), [-INF, 1.0, INF], '"-Infinity"', '"Infinity"'),
        (pa.float64(), [0.0], "-0.0", "0.0"),
        (pa.float64(), [-0.0], "-0.0", "0.0"),
        (pa.float64(), [1.0, NAN, None], None, None),
        (pa.float32(), [NAN], None, None),
        (pa.bool_(), [True, None], "true", "true"),
        (pa.bool_(), [True, False], "false", "true"),
        (pa.binary(), [b"a"], None, None),
        (pa.date32(), [FIRST.date(), LAST.date()], '"0001-01-01"', '"9999-12-31"'),
        (pa.date32(), day(2_932_897), None, None),  # 1 January 10000
        (pa.date32(), day(2_932_896), '"9999-12-31"', '"9999-12-31"'),
        (pa.date32(), day(-719_163), None, None),  # the day before 1 January 1
        (INSTANT, [FIRST.replace(microsecond=1)], '"0001-01-01T00:00:00.000Z"', '"0001-01-01T00:00:00.001Z"'),
        (INSTANT, [dt.datetime(1969, 12, 31, 23, 59, 59, 999_001)], '"1969-12-31T23:59:59.999Z"',
         '"1970-01-01T00:00:00.000Z"'),
        (LOCAL, [dt.datetime(2026, 1, 2, 3, 4, 5, 678_000)], '"2026-01-02T03:04:05.678"', '"2026-01-02T03:04:05.678"'),
        (LOCAL, [LAST], '"9999-12-31T23:59:59.999"', '"9999-12-31T23:59:59.999999"'),
        (INSTANT, pa.array([253_402_300_800_000_000], INSTANT), None, None),  # the first moment of year 10000
        (INSTANT, pa.array([-(2**63), 2**63 - 1], INSTANT), None, None),
        (MONEY, [Decimal("-" + "9" * 28 + "." + "9" * 10), Decimal("1E-10")], "-" + "9" * 28 + "." + "9" * 10,
         "0.0000000001"),
        (pa.decimal128(38, 0), [Decimal(2**53 + 1)], "9007199254740993", "9007199254740993"),
        (pa.string(), ["b", "", None, "a"], '""', '"b"'),
        (pa.string(), ["é" * 100], f'"{"é" * 100}"', f'"{"é" * 100}"'),
        (pa.string(), ["é" * 101], f'"{"é" * 100}"', f'"{"é" * 99}ê"'),
        (pa.string(), ["a" * 99 + "\ud7ff!"], f'"{"a" * 99}\ud7ff"', f'"{"a" * 99}\ue000"'),
        (pa.string(), ["a" * 99 + "\uffff!"], f'"{"a" * 99}\uffff"', f'"{"a" * 99}\U00010000"'),
        (pa.string(), ["a" * 90 + TOP * 11], f'"{"a" * 90 + TOP * 10}"', f'"{"a" * 89}b"'),
        (pa.string(), [TOP * 101], f'"{TOP * 100}"', f'"{TOP * 101}"'),
        (pa.string(), ["𠮷", "𝄞"], '"𝄞"', '"𠮷"'),  # escaped, deltalake would read another character
        (pa.string(), ["\U00010000", "\uffff"], '"\uffff"', '"\U00010000"'),  # UTF-16 has them the other way round
        (pa.string(), pa.array([b"\xff", b"a"]).view(pa.string()), '"a"', None),
        (pa.float64(), [None], None, None),
    ],
)  # fmt: skip
def test_bounds(kind, values, least, greatest):
    assert bounds(kind, values) == [least, greatest]


def test_all_that_is_told_of_a_file():
    schema = pa.schema([("n", pa.int64()), ('𠮷 "q"', pa.string()), ("l", pa.list_(pa.int64())), ("r", pa.binary())])
    columns = columns_of(schema)
    for batch in ([[3, None], ["x", None], [[1], None], [b"", None]], [[1], ["y"], [[]], [None]]):
        for column, values in zip(columns.values(), [batch[0], batch[1], batch[3]], strict=True):
            observe(column, pa.array(values, column.type))
    assert statistics(3, columns) == (
        '{"numRecords": 3, "minValues": {"n": 1, "𠮷 \\"q\\"": "x"}, "maxValues": {"n": 3, "𠮷 \\"q\\"": "y"}, '
        '"nullCount": {"n": 1, "𠮷 \\"q\\"": 1, "r": 2}}'
    )


def test_a_file_of_one_text_longer_than_a_bound_seems_to_hold_several():
    least, greatest = bounds(pa.string(), [SHARED + "a"], [SHARED + "b"])
    assert (least, greatest) == (f'"{SHARED[:100]}"', f'"{SHARED[:99]}e"')


characters = st.sampled_from(["a", "z", "\x00", "\x7f", "é", "\ud7ff", "\ue000", "\ufffd", "\uffff", "𝄞", "𠮷", TOP])
texts = st.builds(lambda one, times, tail: one * times + tail, characters, st.sampled_from([0, 1, 98, 99, 100, 101]),
                  st.text(characters, max_size=4))  # fmt: skip
micros = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-2000, 2000),
                   st.integers(-62_135_596_800_002_000, -62_135_596_799_998_000),
                   st.integers(253_402_300_799_998_000, 253_402_300_800_002_000))  # fmt: skip
days = st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(-719_164, -719_160), st.integers(2_932_894, 2_932_898))
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 5e-324])),
    pa.float32(): st.floats(width=32),
    pa.bool_(): st.booleans(),
    pa.string(): texts,
    pa.date32(): days,
    INSTANT: micros,
    LOCAL: micros,
    MONEY: st.integers(1 - 10**38, 10**38 - 1).map(lambda n: Decimal(f"{n}E-10")),
}
YEARS = (FIRST - EPOCH) // MICROSECOND, (LAST - EPOCH) // MICROSECOND


def placed(kind: pa.DataType, value: Any) -> Any:
    """A value where readers place it among others: zeros too, which Spark takes for equal and some don't."""
    if pa.types.is_floating(kind):
        return float(value), math.copysign(1, float(value))
    return value.encode() if isinstance(value, str) else value


def understood(kind: pa.DataType, bound: Any) -> Any:
    """A bound in the log as a value of the column."""
    if pa.types.is_date(kind):
        return (dt.date.fromisoformat(bound) - EPOCH.date()).days
    if pa.types.is_timestamp(kind):
        assert bound.endswith("Z") == (kind.tz is not None)
        return (dt.datetime.fromisoformat(bound.removesuffix("Z")) - EPOCH) // MICROSECOND
    return Decimal(bound) if pa.types.is_decimal(kind) else bound


def writable(kind: pa.DataType, value: Any) -> bool:
    scale = 86_400_000_000 if pa.types.is_date(kind) else 1
    return not pa.types.is_temporal(kind) or YEARS[0] <= value * scale <= YEARS[1]


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@pytest.mark.parametrize("kind", VALUES, ids=str)
@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(data=st.data())
def test_bounds_hold_every_value_in_the_order_of_readers(kind, data):
    batches = data.draw(st.lists(st.lists(st.none() | VALUES[kind], max_size=4), min_size=1, max_size=3))
    parsed = json.loads(told(kind, *batches), parse_float=Decimal, parse_constant=refuse)
    values = [value for batch in batches for value in batch if value is not None]
    assert parsed["numRecords"] == sum(map(len, batches))
    assert parsed["nullCount"]["c"] == parsed["numRecords"] - len(values)
    places = sorted(placed(kind, value) for value in values if value == value)
    ends = {"minValues": None, "maxValues": None}
    if values and len(places) == len(values):
        ends = {"minValues": min(values), "maxValues": max(values)}
    for side, end in ends.items():
        assert ("c" in parsed[side]) == (end is not None) or not writable(kind, end)
    least, greatest = (placed(kind, understood(kind, parsed[s]["c"])) if "c" in parsed[s] else None for s in ends)
    if least is not None:
        assert least <= places[0]
    if greatest is not None:
        assert places[-1] <= greatest
    if least == greatest is not None:
        assert set(places) == {least}  # which is how the sink tells whose rows a file holds
