"""Every core expectation of Great Expectations 1.24: its arguments, and how it is evaluated here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One type of expectation. `way`: row | table | schema | GX."""

    way: str
    note: str
    required: tuple[str, ...]
    optional: tuple[str, ...]


_CONDITION = ("row_condition", "condition_parser")
_MAP = ("mostly", *_CONDITION)
_SPAN = ("min_value", "max_value", "strict_min", "strict_max")
_PAIR = ("column_A", "column_B")


def _column(way: str, note: str, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()) -> Kind:
    return Kind(way, note, ("column", *required), (*optional, *_MAP))


def _total(way: str, note: str, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()) -> Kind:
    return Kind(way, note, ("column", *required), (*optional, *_CONDITION))


def _several(
    way: str, note: str, columns: tuple[str, ...], required: tuple[str, ...] = (), optional: tuple[str, ...] = ()
) -> Kind:
    return Kind(way, note, (*columns, *required), (*optional, "ignore_row_if", *_MAP))


_LIKE = "SQL LIKE of Spark (`%`, `_`, escaped by `\\` or by `escape`); GX itself has no LIKE on Spark"
_REGEX = "Java's `rlike`: found anywhere in the value; text columns"
_EXACT = "exact up to 10,000 distinct values, then GX runs it"
_LIST = ("column_list",)
_SET = ("value_set",)

CATALOGUE: Mapping[str, Kind] = {
    "expect_column_distinct_values_to_be_in_set": _total("table", _EXACT, _SET),
    "expect_column_distinct_values_to_contain_set": _total("table", _EXACT, _SET),
    "expect_column_distinct_values_to_equal_set": _total("table", _EXACT, _SET),
    "expect_column_kl_divergence_to_be_less_than": _total(
        "GX", "needs a histogram of the whole column", (),
        ("partition_object", "threshold", "internal_weight_holdout", "tail_weight_holdout", "bucketize_data",
         "min_value", "max_value"),
    ),
    "expect_column_max_to_be_between": _total("table", "numbers, dates and times; NaN is the greatest", (), _SPAN),
    "expect_column_mean_to_be_between": _total("table", "numbers", (), _SPAN),
    "expect_column_median_to_be_between": _total("GX", "needs the whole column in order", (), _SPAN),
    "expect_column_min_to_be_between": _total("table", "numbers, dates and times; NaN is the greatest", (), _SPAN),
    "expect_column_most_common_value_to_be_in_set": _total(
        "table", f"whole numbers, text, booleans, dates; {_EXACT}", _SET, ("ties_okay",)),
    "expect_column_pair_values_a_to_be_greater_than_b": _several(
        "row", "columns of one type, or of whole numbers, or of floats", _PAIR, (), ("or_equal",)),
    "expect_column_pair_values_to_be_equal": _several(
        "row", "columns of one type, or of whole numbers, or of floats; null equals null", _PAIR),
    "expect_column_pair_values_to_be_in_set": _several(
        "row", "null equals null", _PAIR, ("value_pairs_set",)),
    "expect_column_proportion_of_non_null_values_to_be_between": _total("table", "", (), _SPAN),
    "expect_column_proportion_of_unique_values_to_be_between": _total("table", _EXACT, (), _SPAN),
    "expect_column_quantile_values_to_be_between": _total(
        "GX", "needs the whole column in order", ("quantile_ranges",), ("allow_relative_error",)),
    "expect_column_stdev_to_be_between": _total("table", "numbers; of a sample, as Spark's `stddev`", (), _SPAN),
    "expect_column_sum_to_be_between": _total("table", "numbers; whole numbers and decimals exactly", (), _SPAN),
    "expect_column_to_exist": Kind("schema", "", ("column",), ("column_index",)),
    "expect_column_type_to_be": Kind("schema", "Spark's names, such as `LongType`", ("column", "type_"), ()),
    "expect_column_unique_value_count_to_be_between": _total("table", _EXACT, (), _SPAN),
    "expect_column_value_lengths_to_be_between": _column("row", "text, in characters", (), _SPAN),
    "expect_column_value_lengths_to_equal": _column("row", "text, in characters", ("value",)),
    "expect_column_value_z_scores_to_be_less_than": _column(
        "GX", "compares each row with the whole column", ("threshold", "double_sided")),
    "expect_column_values_to_be_between": _column(
        "row", "numbers, dates and times; NaN is greater than any number; GX takes numbers as doubles", (), _SPAN),
    "expect_column_values_to_be_dateutil_parseable": _column("GX", "not on Spark"),
    "expect_column_values_to_be_decreasing": _column("GX", "needs the rows in order", (), ("strictly",)),
    "expect_column_values_to_be_in_set": _column("row", "a null in the set lets every value pass, as in SQL", _SET),
    "expect_column_values_to_be_in_type_list": _column(
        "schema", "Spark's names, such as `LongType`", (), ("type_list",)),
    "expect_column_values_to_be_increasing": _column("GX", "needs the rows in order", (), ("strictly",)),
    "expect_column_values_to_be_json_parseable": _column("row", "text; Python's `json`, each distinct value once"),
    "expect_column_values_to_be_null": _column("row", ""),
    "expect_column_values_to_be_of_type": _column("schema", "Spark's names, such as `LongType`", ("type_",)),
    "expect_column_values_to_be_unique": _column("GX", "compares each row with all others"),
    "expect_column_values_to_match_json_schema": _column("GX", "needs a JSON schema's validator", ("json_schema",)),
    "expect_column_values_to_match_like_pattern": _column("row", _LIKE, ("like_pattern",), ("escape",)),
    "expect_column_values_to_match_like_pattern_list": _column(
        "row", _LIKE, ("like_pattern_list",), ("match_on", "escape")),
    "expect_column_values_to_match_regex": _column("row", _REGEX, (), ("regex",)),
    "expect_column_values_to_match_regex_list": _column("row", _REGEX, ("regex_list",), ("match_on",)),
    "expect_column_values_to_match_strftime_format": _column(
        "row", "text; Python's `strptime`, each distinct value once", ("strftime_format",)),
    "expect_column_values_to_not_be_in_set": _column("row", "", _SET),
    "expect_column_values_to_not_be_null": _column("row", ""),
    "expect_column_values_to_not_be_outliers": _column(
        "GX", "compares each row with the whole column", (), ("method", "multiplier")),
    "expect_column_values_to_not_match_like_pattern": _column("row", _LIKE, ("like_pattern",), ("escape",)),
    "expect_column_values_to_not_match_like_pattern_list": _column("row", _LIKE, ("like_pattern_list",), ("escape",)),
    "expect_column_values_to_not_match_regex": _column("row", _REGEX, ("regex",)),
    "expect_column_values_to_not_match_regex_list": _column("row", _REGEX, ("regex_list",)),
    "expect_compound_columns_to_be_unique": _several("GX", "compares each row with all others", _LIST),
    "expect_multicolumn_sum_to_equal": _several(
        "row", "whole numbers exactly, doubles in the order given; null is 0", _LIST, ("sum_total",)),
    "expect_multicolumn_values_to_be_equal": _several("row", "null equals null", _LIST),
    "expect_query_results_to_match_comparison": Kind(
        "GX", "runs SQL elsewhere", ("base_query", "comparison_data_source_name", "comparison_query"), ("mostly",)),
    "expect_select_column_values_to_be_unique_within_record": _several("row", "null equals null", _LIST),
    "expect_table_column_count_to_be_between": Kind("schema", "fields of structs count too", (), _SPAN[:2]),
    "expect_table_column_count_to_equal": Kind("schema", "fields of structs count too", ("value",), ()),
    "expect_table_columns_to_match_ordered_list": Kind("schema", "fields of structs count too", (), ("column_list",)),
    "expect_table_columns_to_match_set": Kind(
        "schema", "fields of structs count too", (), ("column_set", "exact_match")),
    "expect_table_row_count_to_be_between": Kind("table", "", (), (*_SPAN, *_CONDITION)),
    "expect_table_row_count_to_equal": Kind("table", "", ("value",), _CONDITION),
    "expect_table_row_count_to_equal_other_table": Kind("GX", "reads another table", ("other_table_name",), _CONDITION),
    "unexpected_rows_expectation": Kind("GX", "runs SQL", ("unexpected_rows_query",), ()),
}  # fmt: skip


def how_evaluated() -> list[tuple[str, str, str]]:
    """Type, way (row | table | schema | GX) and a note, of each core expectation, by type."""
    return [(name, kind.way, kind.note) for name, kind in sorted(CATALOGUE.items())]
