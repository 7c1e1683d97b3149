"""Compile the expectations that each row meets or fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from lakehouse.checks.rules.arguments import bound, bounds, column, is_number, strictness, whole_number
from lakehouse.checks.rules.bounds import family, members, span
from lakehouse.checks.rules.checks import (
    Check,
    Differ,
    Equal,
    Greater,
    Lengths,
    Matches,
    Members,
    Nullity,
    PairIn,
    Parsed,
    RowRule,
    Sum,
)
from lakehouse.checks.rules.patterns import like, translate
from lakehouse.checks.rules.refused import InvalidExpectation, NeedsGX
from lakehouse.checks.rules.row_conditions import parse_condition
from lakehouse.checks.rules.suite import Expectation
from lakehouse.errors import nearest

Given = Mapping[str, Any]
_PAIRS = {"both_values_are_missing": "all", "either_value_is_missing": "any", "neither": "none"}
_SEVERAL = {"all_values_are_missing": "all", "any_value_is_missing": "any", "never": "none"}
_SUMS = pa.decimal128(30, 0)


def row_rule(expectation: Expectation, given: Given, schema: pa.Schema) -> RowRule:
    """The rule of one expectation. Raises Wrong and OnlyGX."""
    own, leaves_out = _own(given, schema)
    check = _CHECKS[expectation.type](given, own, schema)
    if isinstance(check, Nullity):
        leaves_out = "none"
    condition = parse_condition(given.get("row_condition"), given.get("condition_parser"), schema)
    reads = tuple(dict.fromkeys((*own, *(condition.columns if condition else ()))))
    return RowRule(expectation, reads, own, check, condition, leaves_out)


def _own(given: Given, schema: pa.Schema) -> tuple[tuple[str, ...], str]:
    """The columns that an expectation is about, and which rows it leaves out."""
    if "column" in given:
        return (column(given["column"], schema),), "any"
    pair = "column_A" in given
    names = [given["column_A"], given["column_B"]] if pair else given["column_list"]
    own = tuple(column(name, schema) for name in names)
    if len(own) < 2:
        raise InvalidExpectation("column_list has at least two columns")
    choices = _PAIRS if pair else _SEVERAL
    ignore = given.get("ignore_row_if", next(iter(choices)))
    if ignore not in choices:
        raise InvalidExpectation(f"ignore_row_if {ignore!r}, {nearest(str(ignore), choices)}")
    return own, choices[ignore]


def _text(own: Sequence[str], schema: pa.Schema) -> str:
    kind = schema.field(own[0]).type
    if family(kind) != "text":
        raise NeedsGX(f"column {own[0]!r} ({kind}) is no text")
    return own[0]


def _between(given: Given, own: Sequence[str], schema: pa.Schema) -> Check:
    low, high = bounds(given, bound)
    if low is None and high is None:
        raise InvalidExpectation("min_value and max_value can't both be missing")
    kind = schema.field(own[0]).type
    if family(kind) == "text":
        raise InvalidExpectation(f"column {own[0]!r} ({kind}) has no numbers, dates or times to be between bounds")
    return span(own[0], kind, low, high, strictness(given))


def _lengths(given: Given, own: Sequence[str], schema: pa.Schema) -> Check:
    name = _text(own, schema)
    low, high = bounds(given, whole_number) if "value" not in given else (whole_number(given, "value"),) * 2
    if low is None and high is None:
        raise InvalidExpectation("min_value and max_value can't both be missing")
    return Lengths(span(name, pa.int64(), low, high, strictness(given)))


def _members(wanted: bool) -> Callable[[Given, Sequence[str], pa.Schema], Check]:
    def compiled(given: Given, own: Sequence[str], schema: pa.Schema) -> Check:
        values = given["value_set"]
        return Members(own[0], members(own[0], schema.field(own[0]).type, values), wanted, None in values)

    return compiled


def _regex(key: str, wanted: bool) -> Callable[[Given, Sequence[str], pa.Schema], Check]:
    def compiled(given: Given, own: Sequence[str], schema: pa.Schema) -> Check:
        name = _text(own, schema)
        if key == "regex":
            return Matches(name, (translate(given.get("regex", "(?s).*")),), True, wanted)
        sources = _texts(given, key)
        if not wanted:
            return Matches(name, tuple(translate(s) for s in sources), False, False)
        if given.get("match_on", "any") == "all":
            return Matches(name, tuple(translate(s) for s in sources), True, True)
        return Matches(name, (translate("|".join(sources)),), True, True)

    return compiled


def _like(key: str, wanted: bool) -> Callable[[Given, Sequence[str], pa.Schema], Check]:
    def compiled(given: Given, own: Sequence[str], schema: pa.Schema) -> Check:
        name, escape = _text(own, schema), given.get("escape", "\\")
        if len(escape) != 1:
            raise InvalidExpectation(f"escape is a single character, not {escape!r}")
        sources = [given[key]] if key == "like_pattern" else _texts(given, key)
        every = wanted and given.get("match_on", "any") == "all"
        return Matches(name, tuple(like(source, escape) for source in sources), every, wanted)

    return compiled


def _texts(given: Given, key: str) -> list[str]:
    if not given[key] or not all(isinstance(one, str) for one in given[key]):
        raise InvalidExpectation(f"{key} is a list of one or more texts, not {given[key]!r}")
    return list(given[key])


def _strptime(given: Given, own: Sequence[str], schema: pa.Schema) -> Check:
    form = given["strftime_format"]
    try:
        datetime.strptime(datetime(2024, 2, 29, 13, 14, 15, tzinfo=UTC).strftime(form), form)  # noqa: DTZ007
    except (ValueError, re.error) as error:  # the latter where a directive is there twice
        raise InvalidExpectation(f"strftime_format {form!r} can't be read back: {error}") from error
    return Parsed(_text(own, schema), form)


def _json(given: Given, own: Sequence[str], schema: pa.Schema) -> Check:
    return Parsed(_text(own, schema), None)


def _common(own: Sequence[str], schema: pa.Schema) -> pa.DataType:
    """The type in which Spark compares columns."""
    kinds = [schema.field(name).type for name in own]
    families = {family(kind) for kind in kinds}
    if len(families) > 1 and not families <= {"integer", "float", "decimal"} and not families <= {"date", "time"}:
        raise InvalidExpectation(f"columns {', '.join(map(repr, own))} can't be compared: {', '.join(map(str, kinds))}")
    if families & {"nested", "binary"}:
        raise NeedsGX(f"columns of {', '.join(map(str, kinds))}")
    if len(set(kinds)) == 1:
        return kinds[0]
    if families == {"integer"}:
        return pa.int64()
    if families == {"float"} or (families == {"integer", "float"} and pa.float32() not in kinds):
        return pa.float64()
    raise NeedsGX(f"columns of {', '.join(map(str, kinds))} are compared in a type of Spark's choosing")


def _pair_in(given: Given, own: Sequence[str], schema: pa.Schema) -> Check:
    pairs = given["value_pairs_set"]
    if not pairs or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise InvalidExpectation(f"value_pairs_set is a list of one or more pairs, not {pairs!r}")
    if given.get("row_condition") is not None:
        raise NeedsGX("GX leaves row_condition out of some of this expectation's counts")
    kinds = [schema.field(name).type for name in own]
    compiled = tuple(
        tuple(_side(name, kind, value) for name, kind, value in zip(own, kinds, pair, strict=True)) for pair in pairs
    )
    return PairIn((own[0], own[1]), compiled)  # type: ignore[arg-type]  # pairs are of two


def _side(name: str, kind: pa.DataType, value: Any) -> pa.Array | None:
    return None if value is None else members(name, kind, [value])


def _sum(given: Given, own: Sequence[str], schema: pa.Schema) -> Check:
    total = given["sum_total"]
    if not is_number(total):
        raise InvalidExpectation(f"sum_total is a number, not {total!r}")
    kinds = [schema.field(name).type for name in own]
    families = {family(kind) for kind in kinds}
    if not families <= {"integer", "float", "decimal"}:
        raise InvalidExpectation(f"columns of {', '.join(map(str, kinds))} have no sum")
    exact = float(total)
    if families == {"integer"}:
        short = span(own[0], pa.int64(), exact, exact)
        return Sum(tuple(own), _SUMS, span(own[0], _SUMS, exact, exact), short)
    if set(kinds) == {pa.float64()}:
        return Sum(tuple(own), pa.float64(), span(own[0], pa.float64(), exact, exact), None)
    raise NeedsGX(f"columns of {', '.join(map(str, kinds))} are summed in a type of Spark's choosing")


def _equal(given: Given, own: Sequence[str], schema: pa.Schema) -> Check:
    return Equal(tuple(own), _common(own, schema))


def _differ(given: Given, own: Sequence[str], schema: pa.Schema) -> Check:
    return Differ(tuple(own), _common(own, schema))


def _greater(given: Given, own: Sequence[str], schema: pa.Schema) -> Check:
    return Greater((own[0], own[1]), _common(own, schema), bool(given.get("or_equal")))


_VALUES = "expect_column_values_to_"
_CHECKS: Mapping[str, Callable[[Given, Sequence[str], pa.Schema], Check]] = {
    f"{_VALUES}be_null": lambda given, own, schema: Nullity(own[0], True),
    f"{_VALUES}not_be_null": lambda given, own, schema: Nullity(own[0], False),
    f"{_VALUES}be_between": _between,
    f"{_VALUES}be_in_set": _members(True),
    f"{_VALUES}not_be_in_set": _members(False),
    f"{_VALUES}match_regex": _regex("regex", True),
    f"{_VALUES}not_match_regex": _regex("regex", False),
    f"{_VALUES}match_regex_list": _regex("regex_list", True),
    f"{_VALUES}not_match_regex_list": _regex("regex_list", False),
    f"{_VALUES}match_like_pattern": _like("like_pattern", True),
    f"{_VALUES}not_match_like_pattern": _like("like_pattern", False),
    f"{_VALUES}match_like_pattern_list": _like("like_pattern_list", True),
    f"{_VALUES}not_match_like_pattern_list": _like("like_pattern_list", False),
    f"{_VALUES}match_strftime_format": _strptime,
    f"{_VALUES}be_json_parseable": _json,
    "expect_column_value_lengths_to_be_between": _lengths,
    "expect_column_value_lengths_to_equal": _lengths,
    "expect_column_pair_values_to_be_equal": _equal,
    "expect_column_pair_values_a_to_be_greater_than_b": _greater,
    "expect_column_pair_values_to_be_in_set": _pair_in,
    "expect_multicolumn_values_to_be_equal": _equal,
    "expect_select_column_values_to_be_unique_within_record": _differ,
    "expect_multicolumn_sum_to_equal": _sum,
}
