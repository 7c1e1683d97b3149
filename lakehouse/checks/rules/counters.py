"""Counters of a whole table that processes count apart and merge: rows, extremes, sums, moments, distinct values.

A counter is one metric of one column in the rows of one condition, shared by all the rules that need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.checks.rules.bounds import family
from lakehouse.checks.rules.row_conditions import Condition, mask
from lakehouse.checks.rules.tables import TableRule

_DIGITS = Context(prec=76)  # twice a decimal's most: sums stay exact
DISTINCT = 10_000
"""Distinct values of a column that are counted one by one."""


@dataclass
class CounterState:
    """Running counters by key; `plan`: what to count, by condition."""

    plan: Mapping[str, tuple[Condition | None, Mapping[str, tuple[str, str | None]]]]
    counters: dict[str, Any] = field(default_factory=dict)


def start(rules: Sequence[TableRule]) -> CounterState:
    """Nothing counted yet, of all that the rules need."""
    plan: dict[str, tuple[Condition | None, dict[str, tuple[str, str | None]]]] = {}
    for rule in rules:
        for metric in rule.metrics:
            text = "" if rule.condition is None else rule.condition.text
            plan.setdefault(text, (rule.condition, {}))[1][rule.key(metric)] = (metric, rule.column)
    return CounterState(plan)


def observe(state: CounterState, batch: pa.RecordBatch) -> None:
    """Count one batch that has the rules' columns."""
    for condition, counted in state.plan.values():
        names = list(dict.fromkeys(name for _, name in counted.values() if name is not None))
        rows, columns = batch.num_rows, {name: batch.column(name) for name in names}
        if condition is not None:
            kept = mask(condition, batch)
            rows, columns = kept.true_count, {name: array.filter(kept) for name, array in columns.items()}
        for key, (metric, name) in counted.items():
            before = state.counters.get(key, _EMPTY[metric])
            if before is _MANY:
                continue
            new = rows if metric == "rows" else _COUNT[metric](columns[name or ""])
            state.counters[key] = _MERGE[metric](before, new)


def dump(state: CounterState) -> dict[str, Any]:
    """The counters as plain values that JSON can hold."""
    return {key: _to_json(value) for key, value in state.counters.items()}


def merge(dumps: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The counters of several processes, summed up, by key."""
    merged: dict[str, Any] = {}
    for one in dumps:
        for key, value in one.items():
            metric = key.partition("\n")[0]
            merged[key] = _MERGE[metric](merged.get(key, _EMPTY[metric]), _from_json(value))
    return merged


def add_up(dumps: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The counters of several processes, summed up and dumped again, to be merged with those of more."""
    return {key: _to_json(value) for key, value in merge(dumps).items()}


def counter_of(rule: TableRule, merged: Mapping[str, Any], metric: str) -> Any:
    """One counter of a rule; that of an empty table where nothing was counted."""
    return merged.get(rule.key(metric), _EMPTY[metric])


@dataclass(frozen=True)
class Moments:
    """Number, mean and the sum of squared distances from it."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0


class _TooManyValues:
    """More distinct values than are counted."""


_MANY = _TooManyValues()


def overflowed(values: Any) -> bool:
    """Whether there were too many distinct values to count."""
    return isinstance(values, _TooManyValues)


def encode_value(value: Any, name: str) -> Any:
    """A value as a key: a float as hexadecimal, where NaN is one value and -0.0 is 0.0; a decimal as text."""
    if name == "float":
        return (value + 0.0).hex()
    return value if name in ("integer", "text", "boolean") else str(value)


def encode_values(array: pa.Array) -> list[Any]:
    """The values of an array as keys."""
    name = family(array.type)
    if name in ("date", "time"):
        array, name = array.cast(pa.int32() if name == "date" else pa.int64()), "integer"
    return [encode_value(value, name) for value in array.to_pylist()]


def decode_value(key: Any, kind: pa.DataType) -> Any:
    """The value that a key stands for, of a column of this type."""
    name = family(kind)
    if name in ("date", "time"):
        return moment_of(key, name, UTC if name == "time" and kind.tz else None)
    return float.fromhex(key) if name == "float" else key


def moment_of(number: int, name: str, zone: tzinfo | None) -> date | datetime | int:
    """The date or time of so many days or microseconds since 1970; the number where Python's years end before it."""
    try:
        if name == "date":
            return date(1970, 1, 1) + timedelta(days=number)
        return datetime(1970, 1, 1, tzinfo=zone) + timedelta(microseconds=number)
    except OverflowError:
        return number


def _values(array: pa.Array) -> Any:
    array = array.drop_null()
    if pa.types.is_floating(array.type):
        array = pc.add(array, pa.scalar(0.0, array.type))  # -0.0 becomes 0.0
    counts = pc.value_counts(array)
    if len(counts) > DISTINCT:
        return _MANY
    found: dict[Any, int] = {}
    for key, count in zip(encode_values(counts.field("values")), counts.field("counts").to_pylist(), strict=True):
        found[key] = found.get(key, 0) + count
    return found


def _least(array: pa.Array) -> Any:
    return _extreme(array, "min")


def _greatest(array: pa.Array) -> Any:
    return _extreme(array, "max")


def _extreme(array: pa.Array, which: str) -> Any:
    """The extreme in Spark's order, where NaN is the greatest; None of no values. Dates and times as numbers."""
    if family(array.type) in ("date", "time"):
        array = array.cast(pa.int32() if family(array.type) == "date" else pa.int64())
    array = array.drop_null()
    if not len(array):
        return None
    if pa.types.is_floating(array.type):
        values = array.to_numpy()
        nan = np.isnan(values)
        if which == "max" or nan.all():
            return float(values.max())  # NaN where there is one
        return float(values[~nan].min())
    return pc.min_max(array)[which].as_py()


def _sum(array: pa.Array) -> Any:
    """Whole numbers and decimals exactly."""
    array = array.drop_null()
    if not len(array):
        return 0
    if pa.types.is_decimal(array.type):
        return pc.sum(array.cast(pa.decimal128(38, array.type.scale))).as_py()
    values = array.to_numpy()
    if pa.types.is_integer(array.type):
        wide = values.astype(np.int64)  # in halves, so that no sum is beyond 64 bits
        return (int((wide >> 32).sum()) << 32) + int((wide & 0xFFFFFFFF).sum())
    with np.errstate(all="ignore"):
        return float(values.astype(np.float64).sum())


def _moments(array: pa.Array) -> Moments:
    array = array.drop_null()
    if not len(array):
        return Moments()
    values = array.cast(pa.float64(), safe=False).to_numpy()
    with np.errstate(all="ignore"):
        mean = float(values.mean())
        return Moments(len(values), mean, float(np.square(values - mean).sum()))


def _join(a: Moments, b: Moments) -> Moments:
    """Chan, Golub & LeVeque: no difference of large sums."""
    if not a.n or not b.n:
        return a if a.n else b
    n, apart = a.n + b.n, b.mean - a.mean
    return Moments(n, a.mean + apart * b.n / n, a.squares + b.squares + apart * apart * a.n * b.n / n)


def _join_values(a: Any, b: Any) -> Any:
    if a is _MANY or b is _MANY:
        return _MANY
    joined = dict(a)
    for key, count in b.items():
        joined[key] = joined.get(key, 0) + count
    return joined if len(joined) <= DISTINCT else _MANY


def _add(a: Any, b: Any) -> Any:
    exact = isinstance(a, Decimal) or isinstance(b, Decimal)
    return _DIGITS.add(Decimal(a), Decimal(b)) if exact else a + b


def _pick(a: Any, b: Any, least: bool) -> Any:
    if a is None or b is None:
        return b if a is None else a
    if a != a or b != b:
        return (b if a != a else a) if least else math.nan
    return min(a, b) if least else max(a, b)


_EMPTY: Mapping[str, Any] = {
    "rows": 0,
    "filled": 0,
    "least": None,
    "greatest": None,
    "sum": 0,
    "moments": Moments(),
    "values": {},
}
_COUNT: Mapping[str, Callable[[pa.Array], Any]] = {
    "filled": lambda array: len(array) - array.null_count,
    "least": _least,
    "greatest": _greatest,
    "sum": _sum,
    "moments": _moments,
    "values": _values,
}
_MERGE: Mapping[str, Callable[[Any, Any], Any]] = {
    "rows": lambda a, b: a + b,
    "filled": lambda a, b: a + b,
    "least": lambda a, b: _pick(a, b, True),
    "greatest": lambda a, b: _pick(a, b, False),
    "sum": _add,
    "moments": _join,
    "values": _join_values,
}


def _to_json(value: Any) -> Any:
    """A counter with a tag that says what it is, as JSON has neither NaN nor decimals."""
    if isinstance(value, float):
        return ["float", value.hex()]
    if isinstance(value, Decimal):
        return ["decimal", str(value)]
    if isinstance(value, Moments):
        return ["moments", value.n, value.mean.hex(), value.squares.hex()]
    if isinstance(value, dict):
        return ["values", [[key, count] for key, count in value.items()]]
    return ["many"] if value is _MANY else ["plain", value]


def _from_json(content: Any) -> Any:
    match content:
        case ["float", text]:
            return float.fromhex(text)
        case ["decimal", text]:
            return Decimal(text)
        case ["moments", n, mean, squares]:
            return Moments(n, float.fromhex(mean), float.fromhex(squares))
        case ["values", pairs]:
            return dict(pairs)
        case ["many"]:
            return _MANY
    return content[1]
