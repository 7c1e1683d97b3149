"""What came of a rule, by Great Expectations' own measure of success."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

from lakehouse.checks.rules.checks import RowRule
from lakehouse.checks.rules.counters import Moments, counter_of, decode_value, encode_values, moment_of, overflowed
from lakehouse.checks.rules.suite import Expectation
from lakehouse.checks.rules.tables import TableRule

EXAMPLES = 20


@dataclass
class RowCount:
    """Running counts of a row rule: all rows, those that count, those that fail, and up to 20 values as text."""

    total: int = 0
    evaluated: int = 0
    unexpected: int = 0
    examples: list[str | None] = field(default_factory=list)

    def add(self, total: int, evaluated: int, unexpected: int, examples: Sequence[str | None]) -> None:
        """Count another batch, or another process' counts."""
        self.total += total
        self.evaluated += evaluated
        self.unexpected += unexpected
        self.examples += list(examples)[: EXAMPLES - len(self.examples)]

    def merge(self, other: RowCount) -> None:
        """Count what another process has counted."""
        self.add(other.total, other.evaluated, other.unexpected, other.examples)

    def to_dict(self) -> dict[str, Any]:
        """As plain values that JSON can hold."""
        return {
            "total": self.total,
            "evaluated": self.evaluated,
            "unexpected": self.unexpected,
            "examples": list(self.examples),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RowCount:
        """The counts that `to_dict` has written."""
        return cls(**content)


@dataclass(frozen=True)
class Outcome:
    """What came of an expectation; `success` None: it couldn't be decided here, Great Expectations has to run it.

    The counts are of rows, except that a table rule on distinct values counts those; 0 where nothing is counted.
    """

    expectation: Expectation
    success: bool | None
    observed_value: Any = None
    total: int = 0
    evaluated: int = 0
    unexpected: int = 0
    unexpected_fraction: float = 0.0
    examples: tuple[str | None, ...] = ()


def row_outcome(rule: RowRule, count: RowCount) -> Outcome:
    """Success as GX decides it: enough of the rows that count pass; without such rows nothing fails."""
    mostly = rule.expectation.kwargs.get("mostly")
    fraction = count.unexpected / count.evaluated if count.evaluated else 0.0
    passing = (count.evaluated - count.unexpected) / count.evaluated if count.evaluated else 1.0
    return Outcome(
        rule.expectation,
        passing >= (1 if mostly is None else mostly),
        None,
        count.total,
        count.evaluated,
        count.unexpected,
        fraction,
        tuple(count.examples),
    )


def table_outcome(rule: TableRule, merged: Mapping[str, Any]) -> Outcome:
    """Success as GX decides it, from the counters that `counters.merge` has summed up."""
    if rule.settled is not None:
        return Outcome(rule.expectation, *rule.settled)
    found = {metric: counter_of(rule, merged, metric) for metric in rule.metrics}
    if overflowed(found.get("values")):
        return Outcome(rule.expectation, None)
    if rule.values is not None:
        return _compare_distinct(rule, found["values"])
    value = _measure(rule, found)
    return Outcome(rule.expectation, _between(rule, value), value)


def _measure(rule: TableRule, found: Mapping[str, Any]) -> Any:
    """The number, date or time that is held against the bounds; None where there is none, such as NaN."""
    match rule.metrics:
        case ("rows",) | ("least",) | ("greatest",):
            value = next(iter(found.values()))
        case ("values",):
            return len(found["values"])
        case ("filled", "rows"):
            return found["filled"] / found["rows"] if found["rows"] else 0
        case ("values", "filled"):
            return len(found["values"]) / found["filled"] if found["filled"] else 0
        case ("moments",):
            value = _deviation(found["moments"])
        case _:
            mean = "_mean_" in rule.expectation.type
            value = _total(found["sum"], found["filled"], mean)
    if value is not None and rule.unit:
        return moment_of(value, rule.unit, UTC)
    if isinstance(value, Decimal):
        value = float(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def _total(total: Any, filled: int, mean: bool) -> Any:
    """Spark's sum or mean: doubles, except that decimals stay decimals, whose mean has four digits more."""
    if not filled:
        return None
    if isinstance(total, Decimal):
        digits = Decimal(1).scaleb(int(total.as_tuple().exponent) - 4)
        context = Context(prec=76, rounding=ROUND_HALF_UP)
        return context.divide(total, Decimal(filled)).quantize(digits, context=context) if mean else total
    return total / filled if mean else float(total)


def _deviation(moments: Moments) -> float | None:
    """The standard deviation of a sample; None of fewer than two values."""
    return math.sqrt(moments.squares / (moments.n - 1)) if moments.n > 1 else None


def _between(rule: TableRule, value: Any) -> bool:
    if value is None:
        return False
    if rule.unit and isinstance(value, int):  # of a date or time that is beyond all years, and so all bounds
        return rule.high is None if value > 0 else rule.low is None
    low, high = (_comparable(bound, value) for bound in (rule.low, rule.high))
    above = low is None or (_of(low, value) > low if rule.strict[0] else _of(low, value) >= low)
    below = high is None or (_of(high, value) < high if rule.strict[1] else _of(high, value) <= high)
    return bool(above and below)


def _comparable(bound: Any, value: Any) -> Any:
    """A bound as it is compared: a time without a zone is UTC."""
    naive = isinstance(bound, datetime) and bound.tzinfo is None
    return bound.replace(tzinfo=UTC) if naive else bound


def _of(bound: Any, value: Any) -> Any:
    """The value as it is compared: cut down to a day where the bound is one, as GX does."""
    if isinstance(value, datetime) and isinstance(bound, date) and not isinstance(bound, datetime):
        return value.date()
    if isinstance(bound, datetime) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value


def _compare_distinct(rule: TableRule, values: Mapping[Any, int]) -> Outcome:
    """The distinct values against a set."""
    assert rule.values is not None  # whoever asks has looked
    given, kind = rule.expectation.kwargs["value_set"], rule.values.type
    wanted = set(encode_values(rule.values))
    if rule.expectation.type == "expect_column_most_common_value_to_be_in_set":
        most = max(values.values(), default=0)
        common = [value for value, count in values.items() if count == most]
        known = len(wanted.intersection(common))
        fine = known > 0 if rule.expectation.kwargs.get("ties_okay") else len(common) == 1 and known == 1
        return Outcome(rule.expectation, fine, [decode_value(value, kind) for value in common])
    # A null in the set makes "not in it" undecidable for every value, as in SQL; it is never found itself.
    strange = [] if None in given else [value for value in values if value not in wanted]
    missing = len(given) - len(wanted.intersection(values))  # a value given twice counts twice, as in GX
    contain = rule.expectation.type == "expect_column_distinct_values_to_contain_set"
    equal = rule.expectation.type == "expect_column_distinct_values_to_equal_set"
    fine = (contain or not strange) and (not (contain or equal) or missing <= 0)
    count = len(strange)
    return Outcome(
        rule.expectation,
        fine,
        None,
        len(values),
        len(values),
        count,
        count / len(values) if values else 0.0,
        tuple(str(decode_value(value, kind)) for value in strange[:EXAMPLES]),
    )
