"""Suites: what is refused, what is compiled, and the corners of the answers; see test_rules_differential.py, too."""

from __future__ import annotations

import datetime as dt
import json
import math
import pickle
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from lakehouse.checks.rules import (
    Expectation,
    RowCount,
    compile_suite,
    dump,
    how_evaluated,
    merge,
    observe,
    observed,
    read_suite,
    require_engine,
    row_outcome,
    start,
    table_outcome,
    unexpected,
)
from lakehouse.checks.rules import bounds as bounds_of
from lakehouse.checks.rules.counters import DISTINCT
from lakehouse.errors import ConfigError

SCHEMA = pa.schema(
    [("id", pa.int64()), ("n", pa.int64()), ("i", pa.int32()), ("x", pa.float64()), ("f", pa.float32()),
     ("s", pa.string()), ("b", pa.bool_()), ("d", pa.date32()), ("at", pa.timestamp("us", "UTC")),
     ("p", pa.decimal128(9, 2)), ("q", pa.decimal128(38, 4)), ("nested", pa.struct([("a", pa.int64())])),
     ("a.b", pa.int64())]
)  # fmt: skip
VALUES = "expect_column_values_to_"


def suite(*entries: dict[str, Any]) -> tuple[Expectation, ...]:
    return read_suite(yaml.safe_dump({"name": "s", "expectations": list(entries)}), "s.yaml")


def compiled(type_: str, /, **kwargs: Any) -> Any:
    return compile_suite(suite({"type": type_, "kwargs": kwargs}), SCHEMA)


def failing(type_: str, columns: dict[str, Any], /, **kwargs: Any) -> tuple[int, list[int]]:
    """Rows that count, and the positions of those that fail."""
    batch = pa.RecordBatch.from_arrays([pa.array(v, SCHEMA.field(k).type) for k, v in columns.items()], list(columns))
    [rule] = compiled(type_, **kwargs).rows
    evaluated, mask = unexpected(pickle.loads(pickle.dumps(rule)), batch)
    assert mask is None or (mask.null_count == 0 and len(mask) == batch.num_rows and mask.true_count)
    return evaluated, [] if mask is None else np.flatnonzero(mask.to_numpy(zero_copy_only=False)).tolist()


# Reading


def test_a_suite_is_read_from_yaml_and_json():
    content = {"name": "s", "expectations": [
        {"type": f"{VALUES}be_null", "kwargs": {"column": "n"}, "severity": "info", "meta": {"name": "empty"}, "id": None},
        {"type": f"{VALUES}not_be_null", "kwargs": {"column": "n"}},
    ]}  # fmt: skip
    for text in (yaml.safe_dump(content), json.dumps(content), json.dumps(content).encode()):
        first, second = read_suite(text, "c.yaml")
        assert (first.name, first.severity, first.where) == ("empty", "info", "c.yaml: expectations[0]")
        assert (second.name, second.severity) == (f"{VALUES}not_be_null", "critical")


def test_a_suite_in_the_layout_of_before_1_0_is_read():
    suite = """{
      "data_asset_type": "Dataset", "expectation_suite_name": "games.warning", "ge_cloud_id": null,
      "evaluation_parameters": {}, "meta": {"great_expectations_version": "0.15.50"},
      "expectations": [
        {"expectation_type": "expect_column_values_to_not_be_null", "kwargs": {"column": "a", "mostly": 0.9},
         "meta": {"profiler_details": {}}, "ge_cloud_id": null, "success_on_last_run": true}
      ]}"""
    [expectation] = read_suite(suite, "s.json")
    assert (expectation.type, expectation.kwargs, expectation.severity) == (
        "expect_column_values_to_not_be_null", {"column": "a", "mostly": 0.9}, "critical"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "s.yaml: neither YAML nor JSON"),
        ("name: s", "a suite is a mapping with a `name` and a list of `expectations`"),
        ("{expectations: [], expectation: 1}", "unknown key 'expectation', did you mean 'expectations'"),
        ("{expectations: [], suite_parameters: {a: 1}}", "write the values themselves"),
        ("expectations: [5]", r"expectations\[0\]: an expectation is a mapping"),
        ("expectations: [{kwargs: {}}]", "no `type`"),
        ("expectations: [{type: expect_column_max_to_be_betwen}]", "did you mean 'expect_column_max_to_be_between'"),
        ("expectations: [{type: a, expectation_type: b}]", "'expectation_type' is the older name of 'type'"),
        (
            "expectations: [{type: unexpected_rows_expectation, kwarg: {}}]",
            "unknown key 'kwarg', did you mean 'kwargs'",
        ),
        ("expectations: [{type: unexpected_rows_expectation, kwargs: [1]}]", "`kwargs` and `meta` are mappings"),
        ("expectations: [{type: unexpected_rows_expectation, severity: critcal}]", "did you mean 'critical'"),
        ("expectations: [{type: unexpected_rows_expectation, meta: {severity: warning}}]", "put severity beside type"),
        ("expectations: [{type: unexpected_rows_expectation, meta: {name: 5}}]", "meta.name is a text"),
    ],
)
def test_what_is_no_suite_is_refused(content, message):
    with pytest.raises(ConfigError, match=message):
        read_suite(content, "s.yaml")


# Compiling


@pytest.mark.parametrize(
    ("type_", "kwargs", "message"),
    [
        ("be_between", {"column": "nn", "min_value": 1}, "no column 'nn', did you mean 'n'"),
        ("be_between", {"column": "n"}, "min_value and max_value can't both be missing"),
        ("be_between", {"min_value": 1}, "column is missing"),
        ("be_between", {"column": "n", "min_valu": 1}, "unknown argument 'min_valu', did you mean 'min_value'"),
        ("be_between", {"column": "n", "min_value": "5"}, "min_value is a number"),
        ("be_between", {"column": "n", "min_value": True}, "min_value is a number"),
        ("be_between", {"column": "n", "min_value": math.nan}, "nan is no bound"),
        ("be_between", {"column": "n", "min_value": 10**400}, "beyond doubles"),
        ("be_between", {"column": "n", "min_value": 2, "max_value": 1}, "min_value 2.0 is greater"),
        ("be_between", {"column": "n", "min_value": {"$PARAMETER": "a"}}, "suite parameters are not supported"),
        ("be_between", {"column": "n", "min_value": 1, "strict_min": 1}, "strict_min is true or false, not 1"),
        ("be_between", {"column": "s", "min_value": 1}, "'s' .string. has no numbers"),
        ("be_between", {"column": "b", "min_value": 1}, "'b' .bool. can't be compared with 1.0"),
        ("be_between", {"column": "d", "min_value": 1}, "'d' .date32.* can't be compared with 1.0"),
        ("be_between", {"column": "n", "min_value": "2024-01-01"}, "can't be compared with datetime.date"),
        ("be_between", {"column": "d", "min_value": "2024-02-30"}, "'2024-02-30' is no date or time"),
        ("be_between", {"column": "n", "min_value": 1, "mostly": 2}, "mostly is a number from 0 to 1"),
        ("be_in_set", {"column": "n", "value_set": ["1"]}, "can't be compared with '1'"),
        ("be_in_set", {"column": "s", "value_set": [1]}, "can't be compared with 1"),
        ("be_in_set", {"column": "s", "value_set": "abc"}, "value_set is a list"),
        ("be_in_set", {"column": "x", "value_set": [math.nan]}, "nan is no bound"),
        ("match_regex", {"column": "s", "regex": "a("}, "is no regular expression"),
        ("match_regex_list", {"column": "s", "regex_list": []}, "one or more texts"),
        ("match_regex_list", {"column": "s", "regex_list": ["a"], "match_on": "some"}, "match_on is any or all"),
        ("match_like_pattern", {"column": "s", "like_pattern": "a\\b"}, "escapes only"),
        ("match_like_pattern", {"column": "s", "like_pattern": "a", "escape": "ab"}, "a single character"),
        ("match_strftime_format", {"column": "s", "strftime_format": "%Y-%Y"}, "can't be read back"),
        ("be_of_type", {"column": "s", "type_": "StrngType"}, "did you mean 'StringType'"),
        ("be_null", {"column": "n", "row_condition": "n > 1", "condition_parser": "sql"}, "condition_parser 'sql'"),
        ("be_null", {"column": "n", "row_condition": 5}, "row_condition is a text or a mapping"),
        ("be_null", {"column": "n", "row_condition": {"type": "compare"}}, "its `type` is one of comparison"),
        ("be_null", {"column": "n", "row_condition": {"type": "nullity", "is_null": True}}, "of type 'nullity' has"),
        ("be_null", {"column": "n", "row_condition": {"type": "nullity", "is_null": True, "column": "n"}}, "written as"),
        ("be_unique", {"column": "nn"}, "no column 'nn', did you mean 'n'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_place(type_, kwargs, message):
    with pytest.raises(ConfigError, match=rf"s\.yaml: expectations\[0\]: {VALUES}{type_}: .*{message}"):
        compiled(VALUES + type_, **kwargs)


@pytest.mark.parametrize(
    ("type_", "kwargs", "message"),
    [
        ("expect_column_pair_values_to_be_equal", {"column_A": "n", "column_B": "s"}, "can't be compared"),
        ("expect_column_pair_values_to_be_equal", {"column_A": "n", "column_B": "i", "ignore_row_if": "never"}, "ignore_row_if 'never'"),
        ("expect_column_pair_values_to_be_in_set", {"column_A": "n", "column_B": "s", "value_pairs_set": [[1]]}, "pairs"),
        ("expect_multicolumn_sum_to_equal", {"column_list": ["n"], "sum_total": 1}, "at least two columns"),
        ("expect_multicolumn_sum_to_equal", {"column_list": ["n", "s"], "sum_total": 1}, "have no sum"),
        ("expect_column_value_lengths_to_equal", {"column": "s", "value": 1.5}, "value is a whole number, not 1.5"),
        ("expect_column_mean_to_be_between", {"column": "s", "min_value": 1}, "has no numbers"),
        ("expect_column_max_to_be_between", {"column": "d", "min_value": 1}, "can't be compared with column 'd'"),
        ("expect_column_distinct_values_to_be_in_set", {"column": "n", "value_set": []}, "at least one value"),
        ("expect_table_row_count_to_equal", {"value": "3"}, "value is a whole number"),
        ("expect_table_columns_to_match_set", {"column_set": ["n"], "exact_match": None}, "true or false"),
    ],
)  # fmt: skip
def test_what_is_wrong_of_others_is_refused(type_, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        compiled(type_, **kwargs)


PASS_THROUGH = {"row_condition": "upper(s) = 'A'", "condition_parser": "spark"}


@pytest.mark.parametrize(
    ("type_", "kwargs", "reason"),
    [
        ("be_unique", {"column": "n"}, "compares each row with all others"),
        ("be_null", {"column": "n"} | PASS_THROUGH, "'UPPER(s)' is not a column"),
        ("be_null", {"column": "n", "row_condition": 'col("n") > 1 and 2', "condition_parser": "great_expectations"}, "more than"),
        ("be_null", {"column": "nested.a"}, "a field within a column"),
        ("be_in_set", {"column": "q", "value_set": [0.5]}, "as doubles"),
        ("be_in_set", {"column": "n", "value_set": [2**53 + 1, 0.5, 2.0**53]}, "as doubles"),
        ("be_in_set", {"column": "d", "value_set": ["1500-01-01"]}, "before the Gregorian calendar"),
        ("be_between", {"column": "nested", "min_value": 1}, None),
        ("match_regex", {"column": "n", "regex": "a"}, "is no text"),
        *((("match_regex", {"column": "s", "regex": p}, "pattern")) for p in [
            r"a\z", r"\h", r"\p{L}", r"\Qa\E", r"\R", r"\v", "[a[b]]", "[a&&b]", "(?m)^a", "(?x)a", "a{,2}", "{", "[]a]",
            "(?<=a+)b", "a(?i)b", r"(?i)(a)\1", r"\x{41}"]),
    ],
)  # fmt: skip
def test_what_only_great_expectations_can_run(type_, kwargs, reason):
    if reason is None:
        with pytest.raises(ConfigError, match="can't be compared"):
            compiled(VALUES + type_, **kwargs)
        return
    [other] = compiled(VALUES + type_, **kwargs).others
    assert reason in other.reason
    read = (
        kwargs["column"].replace("nested.a", "nested"),
        *(["s"] if kwargs.get("condition_parser") == "spark" else []),
    )
    assert other.columns == (() if "more than" in reason else read)


@pytest.mark.parametrize(
    ("text", "parser", "met"),
    [
        ("s == 'a'", "spark", [0]),
        ("S = 'a' OR (n >= 2 AND x IS NULL)", "spark", [0, 2]),
        ("s <> 'a'", None, [1]),
        ("`a.b` between 2 and 3", "spark", [1, 2]),
        ("5 < n or n in (1)", "spark", [0, 3]),
        ("d NOT IN ('2024-02-29')", "spark", [0, 3]),
        ("d >= date '2024-03-01'", "spark", [3]),
        ("x > 1.5", "spark", [1, 3]),
        ("s == 'a' and n < 2", "pandas", [0]),
        ({"type": "pass_through", "pass_through_filter": "x < 1.5"}, None, [0]),
    ],
)  # fmt: skip
def test_conditions_in_sql_are_compiled(text, parser, met):
    columns = {"id": [None] * 4, "n": [1, 2, 3, 9], "x": [1.0, 2.0, None, math.nan], "s": ["a", "b", None, None],
               "a.b": [1, 2, 3, 4], "d": [dt.date(2023, 1, 1), dt.date(2024, 2, 29), None, dt.date(2024, 3, 1)]}  # fmt: skip
    asked = {"row_condition": text, **({"condition_parser": parser} if parser else {})}
    assert failing(f"{VALUES}not_be_null", columns, column="id", **asked) == (len(met), met)


@pytest.mark.parametrize(
    ("text", "parser", "reason", "columns"),
    [
        ("lower(s) == 'a'", "spark", "is not a column", ("n", "s")),
        ("S <=> 'a'", "spark", "is not a plain comparison", ("n", "s")),
        ("n = 1e3", "spark", "is no plain value", ("n",)),
        ("n = 'a'", "spark", "can't be compared", ("n",)),
        ("contry = 'a'", "spark", "no column 'contry'", ("n",)),
        ("s != 'a'", "pandas", "where values are missing", ("n", "s")),
        ("x > 1", "pandas", "where values are missing", ("n", "x")),
        ("s ==", "spark", "can't be read", ()),
    ],
)
def test_conditions_that_only_an_engine_can_evaluate_say_why_and_what_they_read(text, parser, reason, columns):
    suite_of = compiled(f"{VALUES}not_be_null", column="n", row_condition=text, condition_parser=parser)
    [other] = suite_of.others
    assert reason in other.reason
    assert other.columns == columns
    require_engine(suite_of, "spark")
    if parser == "pandas":
        require_engine(suite_of, "local")
        return
    with pytest.raises(ConfigError, match=r"s\.yaml: expectations\[0\].*only Spark can evaluate.*use --engine spark"):
        require_engine(suite_of, "local")


def test_a_condition_of_what_great_expectations_runs_is_checked_and_its_columns_are_read():
    text = {"row_condition": 'col("s") == "a"', "condition_parser": "great_expectations"}
    [other] = compiled(f"{VALUES}be_unique", column="n", **text).others
    assert (other.columns, other.untold) == (("n", "s"), False)
    assert other.condition is not None
    with pytest.raises(ConfigError, match="no column 'nn'"):
        compiled(
            f"{VALUES}be_unique",
            column="n",
            row_condition={"type": "nullity", "column": {"name": "nn"}, "is_null": True},
        )


@pytest.mark.parametrize("name", ["a.b", "a`b", "a b", "é", 'say "x"', "select"])
def test_columns_of_any_name_are_checked_row_by_row(name):
    schema = pa.schema([(name, pa.int64())])
    entry = {"type": f"{VALUES}be_between", "kwargs": {"column": name, "max_value": 1}}
    [rule] = compile_suite(suite(entry), schema).rows
    batch = pa.RecordBatch.from_arrays([pa.array([1, 2])], [name])
    assert unexpected(rule, batch)[1].to_pylist() == [False, True]


@pytest.mark.parametrize(
    ("column", "value", "hint"),
    [
        ("s", True, "yes, no, on and off, unquoted"),
        ("s", dt.date(2024, 2, 29), "quote it"),
        ("b", "true", "without quotes"),
    ],
)
def test_a_value_that_yaml_took_for_something_else_is_explained(column, value, hint):
    with pytest.raises(ConfigError, match=hint):
        compiled(f"{VALUES}be_in_set", column=column, value_set=[value])


def test_texts_and_dates_mean_the_same_in_a_set_of_dates():
    columns = {"d": [dt.date(2024, 2, 29), dt.date(2024, 3, 1), None]}
    for value in ("2024-02-29", dt.date(2024, 2, 29), "2024-02-29 00:00:00", dt.datetime(2024, 2, 29)):
        assert failing(f"{VALUES}be_in_set", columns, column="d", value_set=[value]) == (2, [1])


# Answers


@pytest.mark.parametrize(
    ("values", "bounds", "rows"),
    [
        ([math.nan, math.inf, -0.0, None], {"min_value": 0}, []),
        ([math.nan, math.inf, -0.0, None], {"max_value": 0}, [0, 1]),
        ([math.nan, -0.0, 0.0], {"min_value": 0, "strict_min": True}, [1, 2]),
        ([math.nan, math.inf, 1e308], {"max_value": math.inf}, [0]),
        ([math.nan], {"max_value": math.inf}, [0]),
        ([1.0, 2.0], {"min_value": 1, "max_value": 2}, []),
        ([None, None], {"min_value": 1}, []),
    ],
)
def test_nan_is_greater_than_any_number(values, bounds, rows):
    count = sum(v is not None for v in values)
    assert failing(f"{VALUES}be_between", {"x": values}, column="x", **bounds) == (count, rows)


def test_whole_numbers_are_compared_as_doubles_as_gx_takes_bounds_for():
    wide = {"n": [2**53, 2**53 + 1, 2**53 + 2]}
    assert failing(f"{VALUES}be_between", wide, column="n", min_value=2**53 + 1, strict_min=True) == (3, [0, 1])
    assert failing(f"{VALUES}be_between", {"i": [1, 2]}, column="i", min_value=2**40) == (2, [0, 1])
    assert failing(
        f"{VALUES}be_between", {"q": [Decimal("0.1000"), Decimal("0.0999"), None]}, column="q", min_value=0.1
    ) == (2, [1])


@pytest.mark.parametrize(
    ("values", "rows"), [(["a"], [1, 2]), (["a", None], []), ([], [0, 1, 2]), (["a", "b", ""], [])]
)
def test_a_null_in_a_set_decides_nothing(values, rows):
    columns = {"s": ["a", "b", "", None]}
    assert failing(f"{VALUES}be_in_set", columns, column="s", value_set=values) == (3, rows)
    inverse = [i for i in range(3) if i not in rows] if None not in values else [0]
    assert failing(f"{VALUES}not_be_in_set", columns, column="s", value_set=values) == (3, inverse)


@pytest.mark.parametrize(
    ("pattern", "escape", "rows"),
    [("a%", None, [2, 3]), ("a_b", None, [0, 2, 3, 4]), ("a\\_b", None, [0, 1, 2, 3, 4]), ("%b", None, [0, 3, 4]),
     ("a%c", None, [0, 1, 2, 3]), ("x%", "x", None), ("a.b", None, [0, 1, 2, 3, 4]), ("ax%", "x", [0, 1, 2, 3, 4])],
)  # fmt: skip
def test_like_patterns_are_those_of_sql(pattern, escape, rows):
    columns = {"s": ["a", "a\nb", "bb", "Ab\n", "a%bc", None]}
    more = {} if escape is None else {"escape": escape}
    if rows is None:
        rows = [0, 1, 2, 3, 4]
    found = failing(f"{VALUES}match_like_pattern", columns, column="s", like_pattern=pattern, **more)
    assert found == (5, rows)


@pytest.mark.long
@pytest.mark.slow
def test_like_patterns_are_those_of_spark(spark):
    texts = ["", "a", "ab", "a\nb", "a%b", "a_b", "ä", "äb", "a\\b", "😀", "b\r\n"]
    patterns = ["", "%", "_", "__", "a%", "%b", "a_b", "a\\%b", "a\\_b", "a\\\\b", "%\\\\%", "_b", "😀", "a.b"]
    frame = spark.createDataFrame([(t,) for t in texts], "s string")
    answers = frame.select(*(frame.s.like(pattern) for pattern in patterns)).collect()
    for i, pattern in enumerate(patterns):
        _, rows = failing(f"{VALUES}match_like_pattern", {"s": texts}, column="s", like_pattern=pattern)
        assert [j not in rows for j in range(len(texts))] == [row[i] for row in answers], pattern


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a$", ["a", "a\n", "a\r", "a\r\n", "a\x85", "a\u2028", "a\u2029"]),
        (r"\r$", ["a\r", "a\n\r"]),
        (r"a[^b]$", ["a\n", "a\r", "a\n\r", "a\x85", "a\u2028", "a\u2029", "a\n\n", "ac"]),
        ("^a.$", ["ac"]),
        ("(?s)^a.$", ["a\n", "a\r", "a\n\r", "a\x85", "a\u2028", "a\u2029", "a\n\n", "ac"]),
        ("(?i)^K", ["k"]),
        (r"^\w$", ["a", "a\n", "a\r", "a\r\n", "a\x85", "a\u2028", "a\u2029", "k"]),
        (r"^(?=a).\Z", ["a", "a\n", "a\r", "a\r\n", "a\x85", "a\u2028", "a\u2029"]),
    ],
)
def test_patterns_are_those_of_java(pattern, found):
    """What Spark's rlike finds on Java 17; by RE2 but for the last pattern, and for other ends of lines."""
    texts = ["a", "a\n", "a\r", "a\r\n", "a\n\r", "a\x85", "a\u2028", "a\u2029", "a\n\n", "ac", "k", "\u212a", "ä"]
    for some in ([t] for t in texts):
        _, rows = failing(f"{VALUES}not_match_regex", {"s": some}, column="s", regex=pattern)
        assert bool(rows) == (some[0] in found), some
    _, rows = failing(f"{VALUES}match_regex", {"s": texts}, column="s", regex=pattern)
    assert [t for i, t in enumerate(texts) if i not in rows] == [t for t in texts if t in found]


def test_conditions_and_ignored_rows_leave_rows_out():
    columns = {"n": [1, None, 3, None, 5], "i": [1, 2, None, None, 6], "x": [0.0, 1.0, math.nan, 1.0, None]}
    pair = {"column_A": "n", "column_B": "i"}
    equal = "expect_column_pair_values_to_be_equal"
    assert failing(equal, columns, **pair) == (4, [1, 2, 4])
    assert failing(equal, columns, **pair, ignore_row_if="neither") == (5, [1, 2, 4])
    assert failing(equal, columns, **pair, ignore_row_if="either_value_is_missing") == (2, [4])
    above = {"type": "comparison", "column": {"name": "x"}, "operator": ">", "parameter": 0.5}
    assert failing(equal, columns, **pair, row_condition=above) == (2, [1, 2])
    greater = "expect_column_pair_values_a_to_be_greater_than_b"
    assert failing(greater, columns, **pair, ignore_row_if="neither") == (5, [0, 4])
    unlike = {"type": "comparison", "column": {"name": "n"}, "operator": "!=", "parameter": 1}
    either = {"type": "or", "conditions": [{"type": "nullity", "column": {"name": "n"}, "is_null": True}, unlike]}
    assert failing(f"{VALUES}be_null", columns, column="i", row_condition=either) == (4, [1, 4])


def test_sums_beyond_64_bits_are_exact():
    top = 2**63 - 1
    columns = {"n": [top, top, None], "id": [top, -top, None]}
    total = {"column_list": ["n", "id"], "ignore_row_if": "never"}
    assert failing("expect_multicolumn_sum_to_equal", columns, **total, sum_total=0) == (3, [0])
    assert failing("expect_multicolumn_sum_to_equal", columns, **total, sum_total=2.0**64) == (3, [1, 2])


def test_what_was_observed_is_text():
    batch = pa.RecordBatch.from_pydict(
        {"n": [1, None, 3], "s": ["a", None, "b"]}, schema=pa.schema([SCHEMA.field("n"), SCHEMA.field("s")])
    )
    [rule] = compiled(
        "expect_column_pair_values_to_be_in_set", column_A="n", column_B="s", value_pairs_set=[[1, "a"]]
    ).rows
    assert observed(rule, batch, np.array([0, 1, 2])).to_pylist() == ["1, a", "null, null", "3, b"]
    [rule] = compiled(f"{VALUES}not_be_null", column="s").rows
    assert observed(rule, batch, np.array([1])).to_pylist() == [None]


@pytest.mark.parametrize(("mostly", "success"), [(1, False), (0.9, True), (0.91, False), (0, True)])
def test_mostly_decides_success_only(mostly, success):
    [rule] = compiled(f"{VALUES}be_between", column="n", min_value=0, mostly=mostly).rows
    count = RowCount()
    count.merge(RowCount.from_dict(json.loads(json.dumps(RowCount(12, 10, 1, ["-1"]).to_dict()))))
    outcome = row_outcome(rule, count)
    assert (outcome.success, outcome.unexpected, outcome.unexpected_fraction, outcome.examples) == (
        success,
        1,
        0.1,
        ("-1",),
    )
    assert row_outcome(rule, RowCount(5, 0, 0)).success


def test_examples_are_the_first_twenty():
    count = RowCount()
    for start_ in (0, 15):
        count.add(15, 15, 15, [str(i) for i in range(start_, start_ + 15)])
    assert count.examples == [str(i) for i in range(20)]


def on_table(batches: list[pa.RecordBatch], type_: str, /, **kwargs: Any) -> Any:
    [rule] = compiled(type_, **kwargs).tables
    dumps = []
    for batch in batches:
        state = start([rule])
        observe(state, batch)
        dumps.append(json.loads(json.dumps(dump(state), allow_nan=False)))
    return table_outcome(rule, merge(dumps))


def batch_of(name: str, values: list[Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(values, SCHEMA.field(name).type)], [name])


def test_distinct_dates_and_floats_are_shown_as_such_and_dates_given_as_texts():
    days = batch_of("d", [dt.date(2024, 2, 29), dt.date(2024, 2, 29), dt.date(2024, 3, 1)])
    common = on_table([days], "expect_column_most_common_value_to_be_in_set", column="d", value_set=["2024-02-29"])
    assert (common.success, common.observed_value) == (True, [dt.date(2024, 2, 29)])
    strange = on_table([days], "expect_column_distinct_values_to_be_in_set", column="d", value_set=["2024-02-29"])
    assert (strange.success, strange.examples) == (False, ("2024-03-01",))
    numbers = batch_of("x", [0.5, 1.5])
    strange = on_table([numbers], "expect_column_distinct_values_to_be_in_set", column="x", value_set=[0.5])
    assert strange.examples == ("1.5",)


@pytest.mark.parametrize(("name", "value"), [("d", 2932897), ("at", 2932897 * 86_400_000_000)])
def test_what_lies_beyond_the_last_year_is_told_as_a_number_and_beyond_every_bound(name, value):
    column = pa.array([value], pa.int32() if name == "d" else pa.int64()).cast(SCHEMA.field(name).type)
    batch = pa.RecordBatch.from_arrays([column], [name])
    day = "2024-02-29" if name == "d" else "2024-02-29T00:00:00"
    strange = on_table([batch], "expect_column_distinct_values_to_be_in_set", column=name, value_set=[day])
    assert (strange.success, strange.examples) == (False, (str(value),))
    for bounds, fine in (({"min_value": day}, True), ({"max_value": day}, False)):
        greatest = on_table([batch], "expect_column_max_to_be_between", column=name, **bounds)
        assert (greatest.success, greatest.observed_value) == (fine, value)


def test_too_many_distinct_values_leave_success_open():
    type_ = "expect_column_unique_value_count_to_be_between"
    parts = [batch_of("n", list(range(DISTINCT // 2))), batch_of("n", list(range(DISTINCT // 2, DISTINCT)))]
    assert on_table(parts, type_, column="n", min_value=1).observed_value == DISTINCT
    assert on_table([*parts, batch_of("n", [-1])], type_, column="n", min_value=1).success is None
    assert on_table([batch_of("n", list(range(DISTINCT + 1)))], type_, column="n", min_value=1).success is None


def test_deviations_of_large_numbers_keep_their_digits():
    values = [1e9 + i % 7 for i in range(7000)]
    parts = [batch_of("x", values[i : i + 1000]) for i in range(0, 7000, 1000)]
    outcome = on_table(parts, "expect_column_stdev_to_be_between", column="x", min_value=2)
    assert outcome.observed_value == pytest.approx(np.std(values, ddof=1), rel=1e-9)


def test_sums_of_whole_numbers_are_exact():
    parts = [batch_of("n", [2**63 - 1] * 3), batch_of("n", [-(2**63 - 1)] * 3), batch_of("n", [1])]
    assert on_table(parts, "expect_column_sum_to_be_between", column="n", max_value=1).observed_value == 1.0


@pytest.mark.parametrize(
    ("type_", "success"),
    [("min", False), ("max", False), ("sum", False), ("mean", False), ("stdev", False)],
)
def test_of_an_empty_table_nothing_is_between(type_, success):
    outcome = on_table([], f"expect_column_{type_}_to_be_between", column="x", min_value=-1)
    assert (outcome.success, outcome.observed_value) == (success, None)
    assert on_table([], "expect_table_row_count_to_equal", value=0).success


def test_times_are_compared_as_instants_and_days():
    at = batch_of("at", [dt.datetime(2024, 1, 1, 10, tzinfo=dt.UTC), None])
    most = "expect_column_max_to_be_between"
    assert on_table([at], most, column="at", max_value="2024-01-01").success
    assert on_table([at], most, column="at", max_value="2024-01-01T12:00:00+02:00").success
    assert not on_table([at], most, column="at", max_value="2024-01-01T09:59:59Z").success


def test_metrics_are_shared():
    entries = [{"type": f"expect_column_{kind}_to_be_between", "kwargs": {"column": "n", "min_value": v}}
               for kind in ("sum", "mean", "min") for v in (1, 2)]  # fmt: skip
    state = start(compile_suite(suite(*entries), SCHEMA).tables)
    observe(state, batch_of("n", [1, 2]))
    assert sorted(key.split("\n")[0] for key in state.counters) == ["filled", "least", "sum"]


# Documents


def test_the_catalogue_is_great_expectations_own():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations.expectations.core  # noqa: F401  # registers them
        from great_expectations.expectations.registry import (
            get_expectation_impl,
            list_registered_expectation_implementations,
        )

    core = "great_expectations.expectations.core."
    own = {
        name
        for name in list_registered_expectation_implementations()
        if get_expectation_impl(name).__module__.startswith(core)
    }
    assert {name for name, _, _ in how_evaluated()} == own


def test_the_readme_has_the_catalogue():
    text = (Path(__file__).parents[2] / "conf" / "expectations" / "README.md").read_text()
    table = text.partition("<!-- how_evaluated -->\n")[2].partition("<!-- end -->")[0]
    rows = [f"| `{name}` | {way} | {note} |" for name, way, note in how_evaluated()]
    assert table.splitlines()[2:] == rows
    example = text.partition("```yaml\n")[2].partition("```")[0]
    schema = pa.schema([("probability", pa.float64()), ("country", pa.string()), ("postcode", pa.string())])
    assert len(compile_suite(read_suite(example, "README.md"), schema).rows) == 3


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("us"), pa.timestamp("us", "UTC")])
def test_a_bound_beyond_the_last_year_reaches_the_workers(kind):
    found = bounds_of.span("day", kind, dt.date(9999, 12, 31), None, (True, False))
    there = pickle.loads(pickle.dumps(found))
    assert (there.column, there.high, there.empty) == (found.column, found.high, found.empty)
    assert there.low.equals(found.low)
