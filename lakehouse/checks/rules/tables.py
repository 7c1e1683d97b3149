"""Compile the expectations on a table as a whole: what the schema decides, and what counters decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakehouse.checks.rules.arguments import bound, bounds, column, is_number, strictness, whole_number
from lakehouse.checks.rules.bounds import family, members
from lakehouse.checks.rules.refused import InvalidExpectation, NeedsGX
from lakehouse.checks.rules.row_conditions import Condition, parse_condition
from lakehouse.checks.rules.suite import Expectation
from lakehouse.errors import nearest

Given = Mapping[str, Any]
_NUMBERS = ("integer", "decimal", "float")


@dataclass(frozen=True)
class TableRule:
    """An expectation on the whole table. Picklable.

    `settled`: success and what was observed, where the schema decides it. Else `metrics` are counted of `column` in
    the rows of `condition`; `low`, `high` and `strict` bound the result, or `values` are the set to compare with.
    """

    expectation: Expectation
    columns: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    column: str | None = None
    condition: Condition | None = None
    low: Any = None
    high: Any = None
    strict: tuple[bool, bool] = (False, False)
    values: pa.Array | None = None
    unit: str = ""  # "date" or "time" where the counters hold days or microseconds
    settled: tuple[bool, Any] | None = None

    def key(self, metric: str) -> str:
        """What a metric is shared by: column and condition."""
        condition = "" if self.condition is None else self.condition.text
        return "\n".join((metric, "" if metric == "rows" else self.column or "", condition))


_METRICS: Mapping[str, tuple[str, ...]] = {
    "expect_table_row_count_to_equal": ("rows",),
    "expect_table_row_count_to_be_between": ("rows",),
    "expect_column_min_to_be_between": ("least",),
    "expect_column_max_to_be_between": ("greatest",),
    "expect_column_sum_to_be_between": ("sum", "filled"),
    "expect_column_mean_to_be_between": ("sum", "filled"),
    "expect_column_stdev_to_be_between": ("moments",),
    "expect_column_proportion_of_non_null_values_to_be_between": ("filled", "rows"),
    "expect_column_proportion_of_unique_values_to_be_between": ("values", "filled"),
    "expect_column_unique_value_count_to_be_between": ("values",),
    "expect_column_distinct_values_to_be_in_set": ("values",),
    "expect_column_distinct_values_to_contain_set": ("values",),
    "expect_column_distinct_values_to_equal_set": ("values",),
    "expect_column_most_common_value_to_be_in_set": ("values",),
}


def table_rule(expectation: Expectation, given: Given, schema: pa.Schema) -> TableRule:
    """The rule of one expectation. Raises Wrong and OnlyGX."""
    if expectation.type not in _METRICS:
        return TableRule(expectation, _named(given, schema), settled=_by_schema(expectation.type, given, schema))
    name = column(given["column"], schema) if "column" in given else None
    condition = parse_condition(given.get("row_condition"), given.get("condition_parser"), schema)
    reads = tuple(dict.fromkeys(((name,) if name else ()) + (condition.columns if condition else ())))
    metrics = _METRICS[expectation.type]
    kind = schema.field(name).type if name else pa.int64()
    _countable(expectation.type, metrics, name, kind)
    if "value_set" in given:
        values = _set(expectation.type, given["value_set"], name or "", kind)
        return TableRule(expectation, reads, metrics, name, condition, values=values)
    if expectation.type == "expect_table_row_count_to_equal":
        exact = whole_number(given, "value")
        return TableRule(expectation, reads, metrics, name, condition, exact, exact)
    counts = metrics in (("rows",), ("values",))
    low, high = bounds(given, whole_number if counts else bound)
    unit = family(kind) if metrics[0] in ("least", "greatest") and _is_time(kind) else ""
    for value in (low, high):
        if value is not None and is_number(value) == bool(unit):
            raise InvalidExpectation(f"{value!r} can't be compared with column {name!r} ({kind})")
    return TableRule(expectation, reads, metrics, name, condition, low, high, strictness(given), unit=unit)


def _is_time(kind: pa.DataType) -> bool:
    return family(kind) in ("date", "time")


def _countable(type_: str, metrics: Sequence[str], name: str | None, kind: pa.DataType) -> None:
    """Refuse columns of which the metrics have no plain meaning."""
    if metrics[0] in ("sum", "moments"):
        if family(kind) not in _NUMBERS:
            raise InvalidExpectation(f"column {name!r} ({kind}) has no numbers")
        if family(kind) == "decimal" and kind.precision > 24:
            raise NeedsGX(f"Spark rounds sums of {kind}")
    if metrics[0] in ("least", "greatest") and family(kind) not in (*_NUMBERS, "date", "time"):
        raise NeedsGX(f"the order of column {name!r} ({kind})")
    if metrics[0] == "values":
        if family(kind) in ("nested", "binary"):
            raise NeedsGX(f"distinct values of column {name!r} ({kind})")
        comparable = ("integer", "text", "boolean", "date")
        if type_.startswith("expect_column_most_common") and family(kind) not in comparable:
            raise NeedsGX(f"GX compares the most common values of {kind} in Python")


def _set(type_: str, values: Sequence[Any], name: str, kind: pa.DataType) -> pa.Array:
    if not values and type_ == "expect_column_distinct_values_to_be_in_set":
        raise InvalidExpectation("value_set has at least one value")
    return members(name, kind, values)


def _named(given: Given, schema: pa.Schema) -> tuple[str, ...]:
    name = given.get("column")
    return (str(name),) if name in schema.names else ()


def _by_schema(type_: str, given: Given, schema: pa.Schema) -> tuple[bool, Any]:
    """Success and what was observed."""
    names = [name for field in schema for name in _paths(field)]
    if type_ == "expect_column_to_exist":
        at = whole_number(given, "column_index") or 0  # GX takes 0 for "not given"
        return (names[at : at + 1] == [given["column"]] if at else given["column"] in names), None
    if type_ == "expect_table_column_count_to_equal":
        return len(names) == whole_number(given, "value"), len(names)
    if type_ == "expect_table_column_count_to_be_between":
        low, high = bounds(given, bound)
        return (low is None or len(names) >= low) and (high is None or len(names) <= high), len(names)
    if type_ == "expect_table_columns_to_match_ordered_list":
        return "column_list" not in given or list(given["column_list"]) == names, names
    if type_ == "expect_table_columns_to_match_set":
        wanted = set(given.get("column_set", ()))
        missing, more = wanted - set(names), set(names) - wanted
        return not missing and not (given.get("exact_match", True) and more), sorted(names)
    name = column(given["column"], schema)
    return _type_is(given, schema.field(name).type)


def _paths(field: pa.Field, parent: str = "") -> list[str]:
    """A column's name and those of the fields within, as GX counts columns."""
    own = f"`{field.name}`" if "." in field.name else field.name
    inner = [path for child in field.type for path in _paths(child, f"{parent}{field.name}.")] if _struct(field) else []
    return [f"{parent}{own}", *inner]


def _struct(field: pa.Field) -> bool:
    return bool(pa.types.is_struct(field.type))


_SPARK = {
    "integer": {8: "ByteType", 16: "ShortType", 32: "IntegerType", 64: "LongType"},
    "float": {32: "FloatType", 64: "DoubleType"},
}
_NAMES = {
    "decimal": "DecimalType",
    "text": "StringType",
    "boolean": "BooleanType",
    "date": "DateType",
    "binary": "BinaryType",
}
_ABOVE = {
    "NumericType": ("ByteType", "ShortType", "IntegerType", "LongType", "FloatType", "DoubleType", "DecimalType"),
    "IntegralType": ("ByteType", "ShortType", "IntegerType", "LongType"),
    "FractionalType": ("FloatType", "DoubleType", "DecimalType"),
    "DatetimeType": ("DateType", "TimestampType", "TimestampNTZType"),
}
_KNOWN = {
    *(n for group in _SPARK.values() for n in group.values()),
    *_NAMES.values(),
    *_ABOVE,
    "AtomicType",
    "DataType",
    "TimestampType",
    "TimestampNTZType",
    "ArrayType",
    "MapType",
    "StructType",
    "NullType",
    "CharType",
    "VarcharType",
    "DayTimeIntervalType",
    "YearMonthIntervalType",
    "CalendarIntervalType",
    "VariantType",
}


def spark_type(kind: pa.DataType) -> str:
    """The name of Spark's type for one of Arrow's."""
    name = family(kind)
    if name in _SPARK:
        return _SPARK[name].get(kind.bit_width, "")
    if name == "time":
        return "TimestampType" if kind.tz else "TimestampNTZType"
    if name == "nested":
        nested = ((pa.types.is_struct, "StructType"), (pa.types.is_map, "MapType"), (pa.types.is_list, "ArrayType"))
        return next((spark for is_of, spark in nested if is_of(kind)), "")
    return _NAMES[name]


def _type_is(given: Given, kind: pa.DataType) -> tuple[bool, Any]:
    actual = spark_type(kind)
    if not actual:
        raise NeedsGX(f"Spark's type for {kind}")
    wanted = [given["type_"]] if "type_" in given else given.get("type_list")
    for name in wanted or ():
        if name not in _KNOWN:
            raise InvalidExpectation(f"Spark has no type {name!r}, {nearest(str(name), _KNOWN)}")
        if name == "AtomicType":
            raise NeedsGX("which types are atomic depends on the version of Spark")
    if wanted is None:
        return True, actual
    return any(n in (actual, "DataType") or actual in _ABOVE.get(n, ()) for n in wanted), actual
