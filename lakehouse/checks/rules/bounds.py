"""Bounds and sets of values, put into a column's own type once, so that batches are compared without casts.

Spark compares a whole number or a decimal with a double as doubles, where neighbours fall together. Rounding keeps
the order, so that "at least x" is "at least k" for the first k of the column's own type that Spark takes for x.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.checks.rules.refused import InvalidExpectation, NeedsGX

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400_000_000
_MICROS = timedelta(microseconds=1)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?")


def family(kind: pa.DataType) -> str:
    """integer, decimal, float, text, boolean, date, time, binary or nested: values of a family can be compared."""
    for name, is_of in (
        ("integer", pa.types.is_integer),
        ("decimal", pa.types.is_decimal),
        ("float", pa.types.is_floating),
        ("text", pa.types.is_string),
        ("text", pa.types.is_large_string),
        ("boolean", pa.types.is_boolean),
        ("date", pa.types.is_date32),
        ("time", pa.types.is_timestamp),
        ("binary", pa.types.is_binary),
    ):
        if is_of(kind):
            return name
    return "nested"


def parse_moment(value: Any) -> Any:
    """A text in ISO form as the date or time it names; anything else as it is."""
    if isinstance(value, str):
        try:
            if _DATE.fullmatch(value):
                return date.fromisoformat(value)
            if _TIME.fullmatch(value):
                return datetime.fromisoformat(value)
        except ValueError as error:
            raise InvalidExpectation(f"{value!r} is no date or time: {error}") from error
    return value


def micros(value: date) -> int:
    """Microseconds since 1970 of a date's midnight or of a time; one without a zone is UTC, as the session is."""
    if not isinstance(value, datetime):
        return (value.toordinal() - 719_163) * _DAY
    return ((value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH) // _MICROS


@dataclass(frozen=True)
class Span:
    """The values of a column from `low` to `high`, both included (None: no bound); none at all where `empty`."""

    column: str
    low: pa.Scalar | None = None
    high: pa.Scalar | None = None
    empty: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Bounds as arrays: pyarrow pickles a scalar as Python's own, which has no date beyond 9999."""
        ends = (None if end is None else pa.repeat(end, 1) for end in (self.low, self.high))
        return _unpickle, (self.column, *ends, self.empty)


def _unpickle(column: str, low: pa.Array | None, high: pa.Array | None, empty: bool) -> Span:
    return Span(column, low if low is None else low[0], high if high is None else high[0], empty)


def span(column: str, kind: pa.DataType, low: Any, high: Any, strict: tuple[bool, bool] = (False, False)) -> Span:
    """The values that Spark finds between two literals: numbers, dates or times; None is no bound.

    Raises Wrong where the column's type can't be compared with them, OnlyGX where the answer could differ here.
    """
    for value in (low, high):
        if value is not None:
            _comparable(column, kind, value)
    if family(kind) in ("text", "boolean"):
        least, most = (None if value is None else pa.scalar(value, kind) for value in (low, high))
        if any(strict):
            raise NeedsGX(f"the order of {column!r} ({kind})")
        return Span(column, least, most)
    if family(kind) == "float":
        return Span(column, _float(kind, low, strict[0], math.inf), _float(kind, high, strict[1], -math.inf))
    view, least, most = _ladder(kind)
    first, last = least, most
    if low is not None:
        bound = _literal(kind, low)
        first = _first(lambda k: view(k, bound) > (0 if strict[0] else -1), least, most)
    if high is not None:
        bound = _literal(kind, high)
        last = _first(lambda k: view(k, bound) > (-1 if strict[1] else 0), least, most) - 1
    if first > last:
        return Span(column, empty=True)
    return Span(
        column,
        None if first == least else _scalar(first, kind),
        None if last == most else _scalar(last, kind),
    )


def _comparable(column: str, kind: pa.DataType, value: Any) -> None:
    numeric = isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)
    dated = isinstance(value, date)
    wanted = {
        "integer": numeric,
        "float": numeric,
        "decimal": numeric,
        "text": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "date": dated,
        "time": dated,
    }
    if numeric and isinstance(value, float) and math.isnan(value):
        raise InvalidExpectation("nan is no bound")
    if not wanted.get(family(kind), False):
        raise InvalidExpectation(f"column {column!r} ({kind}) can't be compared with {value!r}{_hint(kind, value)}")
    if isinstance(value, date) and (value.year, value.month, value.day) < (1582, 10, 15):
        raise NeedsGX(f"{value} is before the Gregorian calendar, where GX' literals are days off")
    if family(kind) == "time" and kind.unit != "us":
        raise NeedsGX(f"times of column {column!r} are not in microseconds ({kind})")
    if family(kind) == "integer" and not pa.types.is_signed_integer(kind):
        raise NeedsGX(f"Spark has no unsigned whole numbers (column {column!r})")


def _hint(kind: pa.DataType, value: Any) -> str:
    """What YAML made of a text, or of a value that somebody has quoted."""
    if family(kind) == "text" and isinstance(value, (bool, date)):
        made = (
            "yes, no, on and off, unquoted, are true and false"
            if isinstance(value, bool)
            else "an unquoted date is one"
        )
        return f": to YAML {made}; quote it to mean the text"
    if family(kind) == "boolean" and isinstance(value, str) and value.lower() in ("true", "false"):
        return f": write {value.lower()} without quotes"
    return ""


def _literal(kind: pa.DataType, value: Any) -> Any:
    """The literal in the unit of the ladder: numbers as they are, dates and times in microseconds."""
    return micros(value) if isinstance(value, date) else value


def _order(left: Any, right: Any) -> int:
    return int(left > right) - int(left < right)


def _ladder(kind: pa.DataType) -> tuple[Callable[[int, Any], int], int, int]:
    """The column's values as whole numbers k: how Spark orders k and a literal (-1, 0, 1), the least and greatest k."""
    if family(kind) == "decimal":
        unit, most = 10**kind.scale, 10**kind.precision - 1

        def decimal(k: int, bound: Any) -> int:
            return _order(k / unit, bound) if isinstance(bound, float) else _order(Fraction(k, unit), Fraction(bound))

        return decimal, -most, most
    if family(kind) == "date":
        return (lambda k, bound: _order(k * _DAY, bound)), -(2**31), 2**31 - 1
    bits = kind.bit_width

    def whole(k: int, bound: Any) -> int:
        return _order(float(k) if isinstance(bound, float) else k, bound)

    return whole, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def _first(passes: Callable[[int], bool], least: int, most: int) -> int:
    """The first k that passes, where all after it do; one past the end if none does."""
    while least <= most:
        middle = (least + most) // 2
        if passes(middle):
            most = middle - 1
        else:
            least = middle + 1
    return least


def _scalar(k: int, kind: pa.DataType) -> pa.Scalar:
    if family(kind) == "decimal":
        return pa.scalar(Decimal(f"{k}E-{kind.scale}"), kind)
    if family(kind) == "date":
        return pa.scalar(k, pa.int32()).cast(kind)
    return pa.scalar(k, pa.int64()).cast(kind)


def _float(kind: pa.DataType, value: Any, strict: bool, inwards: float) -> pa.Scalar | None:
    """The nearest value of the float type on the inner side of a bound."""
    if value is None:
        return None
    exact = float(value)
    if strict and exact == inwards:
        raise NeedsGX("only NaN is beyond an infinity")
    if kind == pa.float16():
        raise NeedsGX(f"Spark has no {kind}")
    narrow: Any = np.float64 if kind == pa.float64() else np.float32
    with np.errstate(all="ignore"):
        found = narrow(exact)
        short = float(found) < exact if inwards > 0 else float(found) > exact
        if short or (strict and float(found) == exact):
            found = np.nextafter(found, narrow(inwards))
    return pa.scalar(float(found), kind)


def inside(where: Span, array: pa.Array) -> pa.Array:
    """Which values are in the span; null for null. NaN is greater than any number, as in Spark."""
    if where.empty:
        return pc.and_(array.is_valid(), False)
    above = None
    if where.low is not None:
        above = pc.greater_equal(array, where.low)
        if pa.types.is_floating(array.type):
            above = pc.or_(above, pc.is_nan(array))
    if where.high is None:
        return above if above is not None else array.is_valid()
    below = pc.less_equal(array, where.high)
    return below if above is None else pc.and_(above, below)


def outside(where: Span, array: pa.Array) -> pa.Array | None:
    """Which values are not in the span (null for null), or None where the extremes show that all are."""
    if where.empty:
        return array.is_valid()
    if not pa.types.is_floating(array.type):  # the extremes leave NaN out
        extremes = pc.min_max(array)
        least, most = extremes["min"], extremes["max"]
        if not least.is_valid:
            return None
        fine = where.low is None or pc.greater_equal(least, where.low).as_py()
        if fine and (where.high is None or pc.less_equal(most, where.high).as_py()):
            return None
    below = None if where.low is None else pc.less(array, where.low)
    above = None if where.high is None else pc.invert(pc.less_equal(array, where.high))
    if below is None or above is None:
        return above if below is None else below
    return pc.or_(below, above)


def members(column: str, kind: pa.DataType, values: Sequence[Any]) -> pa.Array:
    """The values of a set that the column can hold, of its own type; nulls left out.

    Raises Wrong where the column's type can't be compared with them, OnlyGX where the answer could differ here.
    """
    given = [
        _as_date(column, v) if family(kind) == "date" else parse_moment(v) if family(kind) == "time" else v
        for v in values
        if v is not None
    ]
    for value in given:
        _comparable(column, kind, value)
    doubles = family(kind) in ("integer", "decimal") and any(isinstance(v, float) for v in given)
    if doubles and (any(abs(v) >= 2**53 for v in given) or getattr(kind, "precision", 0) > 15):
        raise NeedsGX(f"Spark compares column {column!r} ({kind}) with these values as doubles")
    found = [held for value in given if (held := _equal_value(kind, value)) is not None]
    if family(kind) == "float" and any(v.as_py() == 0 for v in found):
        found += [pa.scalar(0.0, kind), pa.scalar(-0.0, kind)]  # equal to Spark, not to Arrow's hashes
    return pa.array([v.as_py() for v in found], kind) if family(kind) != "time" else _times(found, kind)


def _as_date(column: str, value: Any) -> Any:
    """A text as the date that it names; one of a midnight names a date, too."""
    found = parse_moment(value)
    if isinstance(value, str) and isinstance(found, datetime):
        if found.time() != time(0):
            raise NeedsGX(f"the text {value!r} for the dates of column {column!r}, of which Spark drops the time")
        return found.date()
    return found


def _times(found: list[pa.Scalar], kind: pa.DataType) -> pa.Array:
    return pa.array([v.cast(pa.int64()).as_py() for v in found], pa.int64()).cast(kind)


def _equal_value(kind: pa.DataType, value: Any) -> pa.Scalar | None:
    """The value of the column's type that equals a literal, None where it has none."""
    if family(kind) in ("text", "boolean"):
        return pa.scalar(value, kind)
    if family(kind) == "float":
        near = float(np.float32(value)) if kind == pa.float32() else float(value)
        if near != value and isinstance(value, int):
            raise NeedsGX(f"{value} has no exact floating-point value")
        return pa.scalar(near, kind) if near == value else None
    view, least, most = _ladder(kind)
    bound = _literal(kind, value)
    k = _first(lambda k: view(k, bound) > -1, least, most)
    return _scalar(k, kind) if k <= most and view(k, bound) == 0 else None
