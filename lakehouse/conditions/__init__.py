"""The job file's `where`: AND-ed simple comparisons that Arrow can answer exactly as Spark does.

`parsing` reads the text, which takes a parser of SQL; here is what is made of it. Who only evaluates needs no parser.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Comparison:
    """`column op values`; op is one of = != < <= > >= in is_null not_null. Values have the column's type."""

    column: str
    op: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Where:
    """A parsed `where`: the columns it names, and either its comparisons or why Spark has to evaluate it."""

    text: str
    columns: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    reason: str | None  # why it needs the frame carrier


def narrowed(where: str | None, values: Mapping[str, Any]) -> str | None:
    """A `where` with the condition that columns have these values, as far as nothing of it has to be left to Spark."""
    return " AND ".join(filter(None, [where, *(_equality(name, value) for name, value in values.items())])) or None


def _equality(name: str, value: Any) -> str:
    quoted = name.replace("`", "``")
    if type(value) is int:
        return f"`{quoted}` = {value}"
    if type(value) is str and "'" not in value and "\\" not in value:
        return f"`{quoted}` = '{value}'"
    return ""


_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_ARROW = {
    "=": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal,
}  # fmt: skip


def admits(comparison: Comparison, value: Any) -> bool:
    """Whether a row with this value of the column passes: exact, for partition values."""
    if comparison.op in ("is_null", "not_null"):
        return (value is None) == (comparison.op == "is_null")
    if value is None:
        return False
    if isinstance(value, float) and math.isnan(value) and comparison.op != "in":
        return comparison.op in (">", ">=", "!=")  # Spark: NaN is greater than any number
    if comparison.op == "in":
        return value in comparison.values
    return bool(_COMPARE[comparison.op](value, comparison.values[0]))


def may_admit(comparison: Comparison, least: Any, greatest: Any, nulls: int | None, rows: int | None) -> bool:
    """Whether a file with these bounds of the column can hold a row that passes; True where unknown."""
    if comparison.op == "is_null":
        return nulls is None or nulls > 0
    if rows is not None and nulls == rows:
        return False
    if least is None or greatest is None or comparison.op in ("not_null", "!="):
        return True
    if isinstance(least, float):
        return True  # statistics leave NaN out, comparisons don't
    try:
        if comparison.op in ("=", "in"):
            return any(least <= value <= greatest for value in comparison.values)
        return bool(_COMPARE[comparison.op](least if comparison.op in ("<", "<=") else greatest, comparison.values[0]))
    except TypeError:
        return True


def mask(batch: pa.RecordBatch, comparisons: tuple[Comparison, ...]) -> pa.Array | None:
    """Which rows pass all comparisons (nulls don't), None when every row does without looking."""
    result = None
    for comparison in comparisons:
        one = _mask(batch.column(comparison.column), comparison)
        result = one if result is None else pc.and_(result, one)
    return None if result is None else pc.fill_null(result, False)


def _mask(column: pa.Array, comparison: Comparison) -> pa.Array:
    if comparison.op in ("is_null", "not_null"):
        return column.is_null() if comparison.op == "is_null" else column.is_valid()
    if comparison.op == "in":
        return pc.and_kleene(pc.is_in(column, pa.array(comparison.values, column.type)), column.is_valid())
    result = _ARROW[comparison.op](column, pa.scalar(comparison.values[0], column.type))
    if pa.types.is_floating(column.type) and comparison.op in (">", ">="):
        result = pc.or_(result, pc.is_nan(column))  # Spark: NaN is greater than any number
    return result


def equals(column: pa.Array, value: Any) -> pa.BooleanArray:
    """Which values of a column are this one; NaN is NaN."""
    if isinstance(value, float) and math.isnan(value):
        return pc.is_nan(column)
    return pc.equal(column, pa.scalar(value, column.type))
