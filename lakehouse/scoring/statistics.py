"""What the log and the footer tell of a staged file, so that readers skip files and never a row. Pure.

Source: the Delta protocol, "Per-file Statistics". A bound that can't be written is left out, which readers take
for "unknown", one side alone too: Spark writes such statistics itself.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.schemas import LINEAGE

MOST = 32
"""Columns of a table of which the log tells statistics, as many as Spark has: they grow with files and columns."""
LONGEST = 100
"""Characters of a text that stand in a bound; the names of jobs and runs, which tell whose a file is, fit whole."""
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # of UTC for instants, of any wall clock for times without a zone
_SURROGATES = range(0xD800, 0xE000)
_TIMES = (pa.timestamp("us"), pa.timestamp("us", "UTC"))


@dataclass
class Column:
    """Running statistics of one column of one file.

    The bounds are exact: numbers as they are, text as bytes, dates in days and times in microseconds since 1970, of
    which there are more than Python's own types hold.
    """

    type: pa.DataType
    bounded: bool
    least: Any = None
    greatest: Any = None
    nulls: int = 0


def columns_of(schema: pa.Schema, first: Sequence[str] = (), most: int = MOST) -> dict[str, Column]:
    """Nothing seen yet, of the columns of which statistics are kept: `most` of those that aren't nested.

    The columns named `first`, such as keys, and lineage are among them wherever they stand and however many they are.
    """
    plain = {f.name: Column(f.type, _orders(f.type)) for f in schema if not pa.types.is_nested(f.type)}
    always = dict.fromkeys(name for name in (*first, *LINEAGE.names) if name in plain)
    kept = set(list(dict.fromkeys([*always, *plain]))[: max(most, len(always))])
    return {name: column for name, column in plain.items() if name in kept}


def filterable(schema: pa.Schema) -> list[str]:
    """The columns whose Parquet statistics and dictionaries readers may filter by: all but floats and nested ones.

    Footer statistics of floats skip NaN, so Spark would skip its rows; and Spark looks for 0.0 in a dictionary, where
    it isn't the same as -0.0.
    """
    return [f.name for f in schema if not (pa.types.is_floating(f.type) or pa.types.is_nested(f.type))]


def _orders(kind: pa.DataType) -> bool:
    """Whether the log's statistics carry bounds for this type: those of Delta's that have an order, less binary."""
    tests = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_boolean,
        pa.types.is_string,
        pa.types.is_date32,
    )
    return kind in _TIMES or any(test(kind) for test in tests)


def observe(column: Column, values: pa.Array) -> None:
    """Take a batch's values of the column into its statistics."""
    column.nulls += values.null_count
    if not column.bounded or values.null_count == len(values):
        return
    if pa.types.is_floating(values.type) and pc.any(pc.is_nan(values)).as_py():
        column.bounded = False  # to Spark NaN is the greatest number, to Arrow none: no bound is right for both
        return
    bounds = pc.min_max(values)
    least, greatest = _exact(bounds["min"]), _exact(bounds["max"])
    column.least = least if column.least is None else min(column.least, least)
    column.greatest = greatest if column.greatest is None else max(column.greatest, greatest)


def _exact(bound: pa.Scalar) -> Any:
    if pa.types.is_string(bound.type):
        return bound.as_buffer().to_pybytes()
    return bound.value if pa.types.is_temporal(bound.type) else bound.as_py()


def statistics(rows: int, columns: Mapping[str, Column]) -> str:
    """Delta's statistics of a file as strict JSON: exact counts, and bounds that hold every value."""
    least = {name: text for name, c in columns.items() if (text := _text_of(c, c.least, up=False)) is not None}
    greatest = {name: text for name, c in columns.items() if (text := _text_of(c, c.greatest, up=True)) is not None}
    nulls = {name: str(c.nulls) for name, c in columns.items()}
    parts = {"minValues": least, "maxValues": greatest, "nullCount": nulls}
    return _object({"numRecords": str(rows), **{name: _object(members) for name, members in parts.items()}})


def bounds_of(stats: str, kinds: Mapping[str, pa.DataType]) -> dict[str, tuple[Any, Any]]:
    """The least and greatest values of these columns that `statistics` wrote, as Python has them.

    Columns without both are left out, and those of types that are not read back, such as times.
    """
    said = json.loads(stats or "{}", parse_float=Decimal)
    least, greatest = said.get("minValues", {}), said.get("maxValues", {})
    readers = {name: read for name, kind in kinds.items() if (read := _reader(kind)) is not None}
    return {
        name: (read(least[name]), read(greatest[name]))
        for name, read in readers.items()
        if least.get(name) is not None and greatest.get(name) is not None
    }


def _reader(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """What makes a value of what JSON has of a bound."""
    if pa.types.is_date32(kind):
        return date.fromisoformat
    for test, read in (
        (pa.types.is_floating, float),
        (pa.types.is_decimal, Decimal),
        (pa.types.is_integer, int),
        (pa.types.is_boolean, bool),
        (pa.types.is_string, str),
    ):
        if test(kind):
            return read
    return None


def _object(members: Mapping[str, str]) -> str:
    """A JSON object of members that are JSON already: decimals are numbers whose digits a float would lose."""
    return "{" + ", ".join(f"{_json(name)}: {text}" for name, text in members.items()) + "}"


def _text_of(column: Column, bound: Any, up: bool) -> str | None:
    """A bound as JSON, raised (`up`) or lowered where it can't be written exactly; None where it can't be at all."""
    if not column.bounded or bound is None:
        return None
    if isinstance(bound, Decimal):
        return format(bound, "f")
    said = bound
    if isinstance(bound, bytes):
        said = _text(bound, up)
    elif isinstance(bound, float):
        said = _number(bound, up)
    elif pa.types.is_date(column.type):
        said = _date(bound)
    elif pa.types.is_timestamp(column.type):
        said = _time(bound, up, "Z" if column.type.tz else "")
    return None if said is None else _json(said)


def _number(value: float, up: bool) -> float | str:
    """Infinities as Spark writes them. Zeros as Parquet has them: to some readers -0.0 is less than 0.0."""
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value or (0.0 if up else -0.0)


def _text(value: bytes, up: bool) -> str | None:
    """The text, or a prefix of it; the prefix of a greatest value is raised to the next one of its length or less.

    To readers, text stands in the order of its UTF-8 bytes, which is that of its code points.
    """
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return None
    if len(text) <= LONGEST or not up:
        return text[:LONGEST]
    prefix = text[:LONGEST].rstrip(chr(sys.maxunicode))
    if not prefix:
        return text
    following = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)


def _date(days: int) -> str | None:
    try:
        return (_EPOCH + timedelta(days=days)).date().isoformat()
    except OverflowError:
        return None  # before year 1 or after 9999


def _time(microseconds: int, up: bool, zone: str) -> str | None:
    """To the millisecond, as the protocol has it, but for the last one of year 9999. Readers add one."""
    whole = -(-microseconds // 1000) * 1000 if up else microseconds // 1000 * 1000
    for written, precision in ((whole, "milliseconds"), (microseconds, "microseconds")):
        try:
            return (_EPOCH + timedelta(microseconds=written)).isoformat(timespec=precision) + zone
        except OverflowError:
            continue
    return None


def _json(value: Any) -> str:
    """Strict JSON, text as it is: deltalake reads most characters beyond U+1FFFF wrongly when they are escaped."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
