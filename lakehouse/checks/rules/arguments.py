"""The arguments of expectations: which there are, and what they may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import pyarrow as pa

from lakehouse.checks.rules.bounds import parse_moment
from lakehouse.checks.rules.catalogue import CATALOGUE
from lakehouse.checks.rules.refused import InvalidExpectation, NeedsGX
from lakehouse.checks.rules.suite import Expectation
from lakehouse.errors import nearest
from lakehouse.schemas import nearest_column

_SILENT = ("result_format", "catch_exceptions")  # change what GX shows, never the answer
_FLAGS = ("strict_min", "strict_max", "or_equal", "exact_match", "ties_okay", "strictly", "double_sided")
_LISTS = ("value_set", "value_pairs_set", "regex_list", "like_pattern_list", "type_list", "column_list", "column_set")
_TEXTS = ("regex", "like_pattern", "strftime_format", "type_", "escape")


def arguments(expectation: Expectation) -> Mapping[str, Any]:
    """The arguments as given, without those that are null. Raises Wrong for unknown, missing or ill-typed ones."""
    kind = CATALOGUE[expectation.type]
    known = (*kind.required, *kind.optional, *_SILENT)
    for key, value in expectation.kwargs.items():
        if key not in known:
            raise InvalidExpectation(f"unknown argument {key!r}, {nearest(str(key), known)}")
        if isinstance(value, Mapping) and "$PARAMETER" in value:
            raise InvalidExpectation(f"{key}: suite parameters are not supported: write the value itself")
    given = {k: v for k, v in expectation.kwargs.items() if v is not None and k not in _SILENT}
    if "exact_match" in expectation.kwargs and "exact_match" not in given:
        raise InvalidExpectation("exact_match is true or false, not null, which GX takes for false")
    missing = [key for key in kind.required if key not in given]
    if missing:
        raise InvalidExpectation(f"{', '.join(missing)} is missing (arguments: {', '.join(known[:-2])})")
    for key, value in given.items():
        _require_type(key, value)
    return given


def _require_type(key: str, value: Any) -> None:
    wanted: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
        (_FLAGS, lambda v: isinstance(v, bool), "true or false"),
        (_LISTS, lambda v: isinstance(v, list), "a list"),
        (_TEXTS, lambda v: isinstance(v, str), "a text"),
        (("mostly",), lambda v: is_number(v) and 0 <= v <= 1, "a number from 0 to 1"),
        (("match_on",), lambda v: v in ("any", "all"), "any or all"),
    )
    for keys, fine, what in wanted:
        if key in keys and not fine(value):
            raise InvalidExpectation(f"{key} is {what}, not {value!r}")


def is_number(value: Any) -> bool:
    """Whether it is a number, and not a boolean."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def whole_number(given: Mapping[str, Any], key: str) -> int | None:
    """A whole number, None where it isn't given. GX would cut 1.5 down to 1."""
    value = given.get(key)
    if value is not None and (not is_number(value) or value != int(value)):
        raise InvalidExpectation(f"{key} is a whole number, not {value!r}")
    return None if value is None else int(value)


def bound(given: Mapping[str, Any], key: str) -> Any:
    """A bound as GX takes it: numbers as doubles, dates and times also from text; None where it isn't given."""
    value = given.get(key)
    if value is None:
        return None
    if is_number(value):
        try:
            number = float(value)
        except OverflowError as error:
            raise InvalidExpectation(f"{key}: {value} is beyond doubles") from error
        if math.isnan(number):
            raise InvalidExpectation(f"{key}: nan is no bound")
        return number
    value = parse_moment(value)
    if not isinstance(value, date):
        raise InvalidExpectation(f"{key} is a number (without quotes), a date or a time in ISO form, not {value!r}")
    return value


def bounds(given: Mapping[str, Any], read: Callable[[Mapping[str, Any], str], Any]) -> tuple[Any, Any]:
    """Both bounds, in order where both are given."""
    low, high = read(given, "min_value"), read(given, "max_value")
    if type(low) is type(high) and low is not None and low > high:
        raise InvalidExpectation(f"min_value {low} is greater than max_value {high}")
    return low, high


def strictness(given: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether the bounds themselves are outside."""
    return bool(given.get("strict_min")), bool(given.get("strict_max"))


def column(name: Any, schema: pa.Schema) -> str:
    """A column of the table. Raises Wrong with the nearest one, OnlyGX for a field of a struct."""
    if not isinstance(name, str):
        raise InvalidExpectation(f"a column's name is a text, not {name!r}")
    if name not in schema.names:
        top = name.partition(".")[0]
        if top != name and top in schema.names and pa.types.is_struct(schema.field(top).type):
            raise NeedsGX(f"{name!r} is a field within a column")
        raise InvalidExpectation(f"no column {name!r}, {nearest_column(name, schema)}")
    return name
