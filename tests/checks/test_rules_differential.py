"""Row by row, compiled expectations fail the rows that Great Expectations fails on Spark, with the same counts."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import logging
import math
import os
import pickle
import secrets
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.checks.rules import (
    Outcome,
    RowCount,
    compile_suite,
    dump,
    merge,
    observe,
    read_suite,
    row_outcome,
    start,
    table_outcome,
    unexpected,
)
from tests.conftest import turns

pytestmark = pytest.mark.slow

UTC = dt.UTC
D = decimal.Decimal
SCHEMA = pa.schema(
    [("id", pa.int64()), ("n", pa.int64()), ("m", pa.int64()), ("i", pa.int32()), ("y", pa.int8()),
     ("x", pa.float64()), ("z", pa.float64()), ("f", pa.float32()), ("s", pa.string()), ("t", pa.string()),
     ("b", pa.bool_()), ("d", pa.date32()), ("e", pa.date32()), ("at", pa.timestamp("us", "UTC")),
     ("wall", pa.timestamp("us")), ("p", pa.decimal128(9, 2)), ("q", pa.decimal128(38, 4)),
     ("deep", pa.struct([("a", pa.int64()), ("b", pa.struct([("c", pa.string())]))]))]
)  # fmt: skip
WIDE = [-(2**63), -(2**53) - 1, -3, -1, 0, 1, 2, 3, 7, 2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2, 2**63 - 1]
DOUBLES = [-math.inf, -1e300, -2.5, -1.0, -0.0, 0.0, 5e-324, 0.1, 0.5, 1.0, 2.0, 3.0, 2.0**53, math.inf, math.nan]
TEXTS = ["", " ", "A", "a", "K", "\u212a", "k", "ab", "aB", "abc", "a b", "a\tb", "a\x0bb", "ä", "ß", "é", "e\u0301", "😀", "x😀y", "it's",
         "a\n", "a\r", "a\r\n", "a\n\r", "a\x85", "a\u2028", "a\u2029", "\n", "\r\n", "\r", "a\nb", "a\r\nb", "\na", "a\n\n", "a\\b", "a%b", "a_b", "_", "%",
         "12", "1.5", "007", "٣", "2024-01-31", "31/01/24", "[1]", "{\"a\": 1}", "NaN", "nul", "null", "aa", "aba", "a.b", "foo@bar.com", "x" * 30,
         "a-b", "A-9", "\u00a0", "aaa\nb", "\x00", "b\u2028\n"]  # fmt: skip
DATES = [dt.date(1, 1, 1), dt.date(1582, 10, 10), dt.date(1969, 12, 31), dt.date(1970, 1, 1), dt.date(2024, 2, 29),
         dt.date(2024, 3, 1), dt.date(9999, 12, 31)]  # fmt: skip
TIMES = [dt.datetime(1900, 1, 1), dt.datetime(1969, 12, 31, 23, 59, 59, 999999), dt.datetime(1970, 1, 1), dt.datetime(2024, 2, 29),
         dt.datetime(2024, 2, 29, 0, 0, 0, 1), dt.datetime(2024, 3, 1, 12, 30), dt.datetime(2100, 1, 1)]  # fmt: skip
SMALL = [D("-9999999.99"), D("-0.10"), D("0.00"), D("0.10"), D("0.11"), D("1.00"), D("2.50"), D("9999999.99")]
BIG = [D(10) ** 33, D("-1.0001"), D("0.0000"), D("0.1000"), D("0.1001"), D("1.0000"), D("9007199254740993.0000"),
       D("9007199254740992.0001"), D("1234567890123456.7891")]  # fmt: skip
POOLS: dict[str, list[Any]] = {
    "n": WIDE, "m": WIDE, "i": [-(2**31), -1, 0, 1, 2, 3, 2**31 - 1], "y": [-128, -1, 0, 1, 2, 3, 127],
    "x": DOUBLES, "z": DOUBLES, "f": [-math.inf, -1.5, -0.0, 0.0, 0.1, 0.5, 1.0, 2.0, 16777216.0, math.inf, math.nan],
    "s": TEXTS, "t": TEXTS, "b": [True, False], "d": DATES, "e": DATES, "at": [t.replace(tzinfo=UTC) for t in TIMES],
    "wall": TIMES, "p": SMALL, "q": BIG,
}  # fmt: skip
PATTERNS = ["^a", "a$", "^a$", "^[a-z]+$", r"\s", r"\S$", r"^\w+$", r"\W", r"\d+", r"^\D*$", ".", "^.$", "^.*$", "a.b", "(?s)a.b", "(?s)^.*$", "(?i)^A", "(?i)k", "(?i)[a-c]$", "a|b$", "^(a|b)+$",
            "^(?:ab?){1,2}$", "a{2}", "[^a]", "[^a-z\\s]", r"[\w.]+@[\w.]+\.\w+", "^$", "", r"\Aa\Z", r"^a\s*$", r"a[^b]$", r"\r$", r"[\s\S]$", "ä|é", "😀$", r"x.y", r"^\S+\s?$", r"[\W\d]", r"[^\W_]",
            r"(a)\1", "a(?=b)", "(?<!a)b", "(?=.*a)(?=.*b)", "a$.?", r"(?!a).", "a*+b", "(?<x>a)b", r"\u212a", r"\x41", r"\.", r"a\\b", "a??b", "(?i:A)b", r"[a\-b]", "$", "^", r"(a$|b)", r"a\Z|b", "_", "%"]  # fmt: skip


def rows(rnd: Random, size: int = 140) -> pa.Table:
    """A table of corner values, a sixth of them null."""
    made = [
        {"id": i, **{name: rnd.choice(pool) if rnd.random() < 0.84 else None for name, pool in POOLS.items()}}
        for i in range(size)
    ]
    return pa.Table.from_pylist(made, schema=SCHEMA)


def plain(value: Any) -> Any:
    """A value as a suite can hold it."""
    if isinstance(value, D):
        return float(value)
    if isinstance(value, dt.datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)  # Great Expectations takes a time without a zone for one of this machine's
    return value


def pick(rnd: Random, name: str, allow: Any = lambda v: True) -> Any:
    return rnd.choice([plain(v) for v in POOLS[name] if allow(v) and v == v])


def column_expectation(rnd: Random) -> tuple[str, dict[str, Any]]:
    kind = rnd.choice(["between"] * 4 + ["in", "in", "not_in", "regex", "regex", "not_regex", "regex_list", "not_list", "lengths", "length", "null", "not_null", "json", "strftime"])  # fmt: skip
    text = {"column": rnd.choice(["s", "t"])}
    if kind == "between":
        name = rnd.choice(["n", "i", "y", "x", "f", "d", "at", "wall", "p", "q"])
        low, high = sorted([pick(rnd, name), pick(rnd, name)])
        kwargs: dict[str, Any] = {"column": name}
        which = rnd.choice(["both", "low", "high"])
        if which != "high":
            kwargs |= {"min_value": low, "strict_min": rnd.random() < 0.3 and low not in (math.inf, -math.inf)}
        if which != "low":
            kwargs |= {"max_value": high, "strict_max": rnd.random() < 0.3 and high not in (math.inf, -math.inf)}
        if name in ("at", "wall") and rnd.random() < 0.3:
            kwargs = {k: v.date() if isinstance(v, dt.datetime) else v for k, v in kwargs.items()}
            if kwargs.get("min_value") == kwargs.get("max_value"):
                kwargs.pop("max_value", None)
        return "expect_column_values_to_be_between", kwargs
    if kind in ("in", "not_in"):
        name = rnd.choice(["n", "i", "y", "x", "f", "s", "b", "d", "p", "at", "wall"])
        values = [pick(rnd, name, lambda v: name != "f" or v != 0.1) for _ in range(rnd.choice([1, 2, 3, 14]))]
        if name in ("n", "i", "y") and rnd.random() < 0.3:
            values = [float(v) for v in values if abs(v) < 2**53] + [0.5]
        if name == "d" and rnd.random() < 0.5:
            values = [v.isoformat() for v in values if v.year > 1600] or ["2024-02-29"]
        if rnd.random() < 0.15:
            values.append(None)
        if rnd.random() < 0.05:
            values = []
        return f"expect_column_values_to_{'not_' * (kind == 'not_in')}be_in_set", {"column": name, "value_set": values}
    if kind == "regex":
        return "expect_column_values_to_match_regex", text | {"regex": rnd.choice(PATTERNS)}
    if kind == "not_regex":
        return "expect_column_values_to_not_match_regex", text | {"regex": rnd.choice(PATTERNS)}
    if kind == "regex_list":
        some = [p for p in rnd.sample(PATTERNS, 2) if "(?s)" not in p and "(?i)" not in p] or ["a"]
        return "expect_column_values_to_match_regex_list", text | {
            "regex_list": some,
            "match_on": rnd.choice(["any", "all"]),
        }
    if kind == "not_list":
        return "expect_column_values_to_not_match_regex_list", text | {"regex_list": rnd.sample(PATTERNS, 2)}
    if kind == "lengths":
        low, high = sorted([rnd.randint(0, 4), rnd.randint(0, 5)])
        given = {
            "min_value": low,
            "max_value": high,
            "strict_min": rnd.random() < 0.3,
            "strict_max": rnd.random() < 0.3,
        }
        return "expect_column_value_lengths_to_be_between", text | given
    if kind == "length":
        return "expect_column_value_lengths_to_equal", text | {"value": rnd.randint(0, 3)}
    if kind == "json":
        return "expect_column_values_to_be_json_parseable", text
    if kind == "strftime":
        return "expect_column_values_to_match_strftime_format", text | {
            "strftime_format": rnd.choice(["%Y-%m-%d", "%d/%m/%y", "%H"])
        }
    return f"expect_column_values_to_{'not_' * (kind == 'not_null')}be_null", {"column": rnd.choice([*POOLS])}


def several_expectation(rnd: Random) -> tuple[str, dict[str, Any]]:
    pair = rnd.choice([("n", "m"), ("n", "i"), ("i", "y"), ("x", "z"), ("x", "f"), ("n", "x"), ("s", "t"), ("d", "e"), ("b", "b"), ("i", "z")])  # fmt: skip
    ignore = {"ignore_row_if": rnd.choice(["both_values_are_missing", "either_value_is_missing", "neither"])}
    columns = {"column_A": pair[0], "column_B": pair[1]}
    kind = rnd.choice(["equal", "greater", "in", "sum", "unique", "same"])
    if kind == "equal":
        return "expect_column_pair_values_to_be_equal", columns | ignore
    if kind == "greater":
        return "expect_column_pair_values_a_to_be_greater_than_b", columns | ignore | {
            "or_equal": rnd.choice([True, False])
        }
    if kind == "in":
        pair = rnd.choice([("n", "s"), ("i", "b"), ("x", "n"), ("d", "e"), ("s", "t")])
        pairs = [
            [None if rnd.random() < 0.1 else pick(rnd, name, lambda v: v not in (math.inf, -math.inf)) for name in pair]
            for _ in range(rnd.randint(1, 5))
        ]
        return "expect_column_pair_values_to_be_in_set", {
            "column_A": pair[0],
            "column_B": pair[1],
            "value_pairs_set": pairs,
        } | ignore
    ignore = {"ignore_row_if": rnd.choice(["all_values_are_missing", "any_value_is_missing", "never"])}
    if kind == "sum":
        names = rnd.choice([["n", "m"], ["i", "y"], ["n", "i", "y"], ["x", "z"]])
        return "expect_multicolumn_sum_to_equal", {
            "column_list": names,
            "sum_total": rnd.choice([0, 1, 3, 2.5, -1, 2.0**53]),
        } | ignore
    names = rnd.choice([["n", "m", "i"], ["x", "z"], ["s", "t"], ["i", "y"], ["d", "e"], ["n", "x"]])
    name = {"unique": "select_column_values_to_be_unique_within_record", "same": "multicolumn_values_to_be_equal"}[kind]
    return f"expect_{name}", {"column_list": names} | ignore


def leaf(rnd: Random) -> dict[str, Any]:
    name = rnd.choice(["n", "i", "x", "f", "s", "d", "p", "q", "b"])
    column = {"column": {"name": name}}
    if rnd.random() < 0.2:
        return {"type": "nullity", "is_null": rnd.choice([True, False]), **column}
    if name in ("n", "s") and rnd.random() < 0.3:
        values = rnd.sample(
            [v for v in POOLS[name] if name == "n" or (v.isprintable() and "\\" not in v and "'" not in v)], 3
        )
        return {"type": "comparison", "operator": rnd.choice(["IN", "NOT_IN"]), "parameter": values, **column}
    value = pick(rnd, name, lambda v: v not in (math.inf, -math.inf))
    if isinstance(value, dt.date):
        value = value.isoformat()
    if name in ("n", "i") and rnd.random() < 0.2:
        value = 1.5
    op = rnd.choice(["==", "!="] if name in ("s", "b") else ["==", "!=", "<", "<=", ">", ">="])
    return {"type": "comparison", "operator": op, "parameter": value, **column}


def condition(rnd: Random) -> dict[str, Any]:
    match rnd.choice(["leaf", "and", "or", "nested", "text", "text"]):
        case "leaf":
            return {"row_condition": leaf(rnd)}
        case "and":
            return {"row_condition": {"type": "and", "conditions": [leaf(rnd), leaf(rnd)]}}
        case "or":
            return {"row_condition": {"type": "or", "conditions": [leaf(rnd), leaf(rnd)]}}
        case "nested":
            return {
                "row_condition": {
                    "type": "or",
                    "conditions": [{"type": "and", "conditions": [leaf(rnd), leaf(rnd)]}, leaf(rnd)],
                }
            }
    text = rnd.choice(
        [
            'col("n") > 0',
            'col("x")<=1.5',
            'col("s") == "a"',
            "col(\"s\") != 'a'",
            'col("d").notNull()',
            'col("p") >= 0.1',
            'col("f")==0.5',
        ]
    )
    return {"row_condition": text, "condition_parser": "great_expectations"}


def expectation(rnd: Random, conditions: list[dict[str, Any]]) -> dict[str, Any]:
    """An expectation at random; few conditions, as each one costs Great Expectations jobs of its own."""
    kind, kwargs = (column_expectation if rnd.random() < 0.8 else several_expectation)(rnd)
    if rnd.random() < 0.3:
        kwargs |= {"mostly": rnd.choice([0.0, 0.1, 0.5, 0.9, 1.0])}
    if rnd.random() < 0.25 and kind != "expect_column_pair_values_to_be_in_set":
        kwargs |= rnd.choice(conditions)
    return {"type": kind, "kwargs": kwargs}


@dataclass(frozen=True)
class Answer:
    """What Great Expectations says: its result, and the ids of the rows for which its condition is true."""

    success: bool
    result: dict[str, Any]
    ids: list[int]
    error: str


@pytest.fixture(scope="module")
def gx(spark: Any) -> Iterator[Any]:
    """answers(table, entries) → what Great Expectations says of each entry, from a few Spark jobs for all of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        import great_expectations as library
        from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
        from great_expectations.validator.metric_configuration import MetricConfiguration
        from great_expectations.validator.validator import Validator

        logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
        context = library.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        asset = context.data_sources.add_spark("spark", persist=False).add_dataframe_asset("rows")
        batches = asset.add_batch_definition_whole_dataframe("all")

        def answers(table: pa.Table, entries: list[dict[str, Any]]) -> list[Answer]:
            frame = spark.createDataFrame(table).coalesce(1)
            frame = frame.withColumn("wall", frame.wall.cast("timestamp_ntz")).cache()  # not what pyspark makes of it
            batch = batches.get_batch({"dataframe": frame})
            engine = batch.data.execution_engine
            validator = Validator(execution_engine=engine, batches=[batch])
            made = [ExpectationConfiguration(type=e["type"], kwargs=e["kwargs"]).to_domain_obj() for e in entries]
            few = {"result_format": {"result_format": "BOOLEAN_ONLY", "partial_unexpected_count": 20}}
            needs = [one.get_validation_dependencies(engine, few).metric_configurations for one in made]
            conditions = {}
            for number, (one, need) in enumerate(zip(made, needs, strict=True)):
                count = need.get(f"{getattr(one, 'map_metric', None)}.unexpected_count")
                if count is not None:
                    conditions[number] = MetricConfiguration(
                        f"{one.map_metric}.condition", count.metric_domain_kwargs, count.metric_value_kwargs
                    )
            resolved, failed = validator.compute_metrics(
                [*(c for need in needs for c in need.values()), *conditions.values()]
            )
            ids = rows_of(engine, {n: resolved[c.id] for n, c in conditions.items() if c.id in resolved})
            found = []
            for number, (one, need) in enumerate(zip(made, needs, strict=True)):
                errors = [str(failed[c.id]) for c in need.values() if c.id in failed]
                metrics = {name: resolved.get(c.id) for name, c in need.items()}
                try:
                    said = (
                        {}
                        if errors
                        else one._validate(
                            metrics,
                            {"result_format": {"result_format": "BASIC", "partial_unexpected_count": 20}},
                            engine,
                        )
                    )
                except Exception as error:
                    said, errors = {}, [repr(error)]
                found.append(
                    Answer(
                        said.get("success"),
                        said.get("result") or {},
                        sorted(ids.get(number, [])),
                        " ".join(errors)[:700],
                    )
                )
            frame.unpersist()
            return found

        def quietly(table: pa.Table, entries: list[dict[str, Any]]) -> list[Answer]:
            with warnings.catch_warnings():  # pytest sets its own filters for each test
                warnings.simplefilter("ignore")
                return answers(table, entries)

        yield quietly


def rows_of(engine: Any, conditions: dict[int, Any]) -> dict[int, list[int]]:
    """The ids of the rows for which each of GX' conditions is true, among those of its domain: one job for a domain."""
    from pyspark.sql import functions as F

    domains: dict[str, list[int]] = {}
    for number, (_, compute, accessor) in conditions.items():
        domains.setdefault(
            repr((sorted(compute.items(), key=str), accessor if "ignore_row_if" in compute else "")), []
        ).append(number)
    found = {}
    for numbers in domains.values():
        records = engine.get_domain_records({**conditions[numbers[0]][1], **conditions[numbers[0]][2]})
        answers = records.select(
            "id", *(F.coalesce(conditions[n][0], F.lit(False)).alias(f"c{n}") for n in numbers)
        ).toArrow()
        for n in numbers:
            found[n] = answers["id"].filter(answers[f"c{n}"]).to_pylist()
    return found


def by_us(table: pa.Table, entries: list[dict[str, Any]]) -> dict[int, tuple[RowCount, list[int], bool | None]]:
    """Compile and evaluate the entries, in two batches: counts, failing ids and success by entry."""
    found = {}
    for number, entry in enumerate(entries):
        suite = read_suite(yaml_of(entry), "suite.yaml")
        compiled = compile_suite(suite, table.schema)
        for rule in compiled.rows:
            count, ids = RowCount(), []
            for batch in table.to_batches(max_chunksize=90):
                evaluated, failing = unexpected(rule, batch)
                rows = failing.to_numpy(zero_copy_only=False).nonzero()[0] if failing is not None else []
                count.add(batch.num_rows, evaluated, len(rows), [])
                ids += [batch["id"][int(row)].as_py() for row in rows]
            found[number] = (count, ids, row_outcome(rule, count).success)
    return found


def yaml_of(entry: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump({"name": "s", "expectations": [entry]})


def disagreement(theirs: Answer, ours: tuple[RowCount, list[int], bool | None]) -> str | None:
    count, ids, success = ours
    if theirs.error:
        return f"GX raised {theirs.error}"
    if theirs.ids != sorted(ids):
        return f"rows: GX {theirs.ids}, here {sorted(ids)}"
    if (theirs.result["unexpected_count"] or 0) != count.unexpected:  # None where no row counts
        return f"unexpected: GX {theirs.result['unexpected_count']}, here {count.unexpected}"
    elements, missing = theirs.result["element_count"], theirs.result.get("missing_count")
    if elements - (missing or 0) != count.evaluated:
        return f"evaluated: GX {elements} - {missing}, here {count.evaluated}"
    if theirs.success != success:
        return f"success: GX {theirs.success}, here {success}"
    return None


@pytest.mark.seeds
def test_row_rules_agree_with_great_expectations(gx):
    seed = int(os.environ.get("RULES_SEED", secrets.randbelow(2**32)))
    rnd = Random(seed)
    table = rows(rnd)
    conditions = [condition(rnd) for _ in range(5)]
    entries = [expectation(rnd, conditions) for _ in range(turns(20, 300))]
    ours = by_us(table, entries)
    assert len(ours) > 0.7 * len(entries)
    answers = gx(table, [entries[i] for i in ours])
    wrong = [f"{entries[i]}: {text}" for (i, mine), theirs in zip(ours.items(), answers, strict=True)
             if (text := disagreement(theirs, mine))]  # fmt: skip
    assert not wrong, f"RULES_SEED={seed}\n" + "\n".join(wrong)


def table_expectation(rnd: Random) -> tuple[str, dict[str, Any]]:
    """An expectation on the whole table; the bounds of sums keep away from the last digits of doubles."""
    kind = rnd.choice(["least", "most", "least", "most", "sum", "mean", "stdev", "filled", "rows", "count", "share",
                       "in", "contain", "equal", "common", "type", "types", "exist", "columns"])  # fmt: skip
    bounds = {f"strict_{which}": rnd.random() < 0.3 for which in ("min", "max")}
    if kind in ("least", "most"):
        name = rnd.choice(["n", "i", "x", "z", "f", "d", "wall", "p", "q"])
        low, high = sorted([pick(rnd, name), pick(rnd, name)])
        if name == "wall":  # an instant can't be compared there
            low, high = low.replace(tzinfo=None), high.replace(tzinfo=None)
        some = {k: v for k, v in {"min_value": low, "max_value": high}.items() if rnd.random() < 0.8}
        if name == "wall" and rnd.random() < 0.4:
            some = {k: v.date() for k, v in some.items()}
        return f"expect_column_{'min' if kind == 'least' else 'max'}_to_be_between", {"column": name} | some | bounds
    if kind in ("sum", "mean", "stdev"):
        name = rnd.choice(["i", "n", "x", "f", "p"])
        value = rnd.choice([-1e6, -0.7, 0.3, 7.7, 1e4, 1e9, 1e18, 1e19])
        return f"expect_column_{kind}_to_be_between", {
            "column": name,
            rnd.choice(["min_value", "max_value"]): value,
        } | bounds
    column = {"column": rnd.choice([*POOLS])}
    share = {rnd.choice(["min_value", "max_value"]): rnd.choice([0, 0.05, 0.1, 0.5, 0.84, 0.9, 1])}
    number = {rnd.choice(["min_value", "max_value"]): rnd.choice([0, 1, 2, 3, 8, 12, 20, 140])}
    match kind:
        case "filled":
            return "expect_column_proportion_of_non_null_values_to_be_between", column | share | bounds
        case "share":
            return "expect_column_proportion_of_unique_values_to_be_between", column | share | bounds
        case "count":
            return "expect_column_unique_value_count_to_be_between", column | number | bounds
        case "rows":
            which = rnd.choice(["to_equal", "to_be_between"])
            return f"expect_table_row_count_{which}", {
                "value": rnd.choice([0, 10, 140])
            } if which == "to_equal" else number | bounds
        case "type":
            return "expect_column_type_to_be", column | {"type_": rnd.choice(TYPES)}
        case "types":
            return "expect_column_values_to_be_in_type_list", column | {"type_list": rnd.sample(TYPES, 3)}
        case "exist":
            return "expect_column_to_exist", {
                "column": rnd.choice(["n", "nn"]),
                "column_index": rnd.choice([None, 0, 1, 2, 40]),
            }
        case "columns":
            names = rnd.choice(
                [SCHEMA.names, SCHEMA.names[::-1], SCHEMA.names[1:], [*SCHEMA.names, "deep.a", "deep.b", "deep.b.c"]]
            )
            return rnd.choice([
                ("expect_table_columns_to_match_ordered_list", {"column_list": names}),
                ("expect_table_columns_to_match_set", {"column_set": names, "exact_match": rnd.choice([True, False])}),
                ("expect_table_column_count_to_equal", {"value": len(names)}),
                ("expect_table_column_count_to_be_between", {"min_value": 3, "max_value": len(names)}),
            ])  # fmt: skip
    name = rnd.choice(["n", "i", "s", "b"] if kind == "common" else ["n", "i", "x", "s", "b", "d", "p"])
    pool = [v for v in POOLS[name] if v == v and not (isinstance(v, dt.date) and v.year < 1600)]
    values = [plain(v) for v in rnd.choice([pool, pool[1:], pool[:2], [*pool, pool[0]]])]
    if kind == "common":
        return "expect_column_most_common_value_to_be_in_set", {
            "column": name,
            "value_set": values,
            "ties_okay": rnd.choice([True, False, None]),
        }
    which = {"in": "be_in", "contain": "contain", "equal": "equal"}[kind]
    return f"expect_column_distinct_values_to_{which}_set", {
        "column": name,
        "value_set": values + [None] * (rnd.random() < 0.15),
    }


TYPES = ["LongType", "IntegerType", "ByteType", "DoubleType", "FloatType", "StringType", "BooleanType", "DateType", "TimestampType",
         "TimestampNTZType", "DecimalType", "NumericType", "IntegralType", "FractionalType", "DatetimeType", "DataType"]  # fmt: skip
UNCONDITIONAL = ("type", "exist", "columns", "column_count")


def on_tables(table: pa.Table, entries: list[dict[str, Any]]) -> dict[int, Outcome]:
    """What comes of the entries' table rules, counted in three parts and merged; by entry."""
    rules = {
        n: compile_suite(read_suite(yaml_of(entry), "suite.yaml"), table.schema).tables
        for n, entry in enumerate(entries)
    }
    parts = []
    for part in (table.slice(0, 50), table.slice(50, 0), table.slice(50)):
        state = start([rule for found in rules.values() for rule in found])
        for batch in part.to_batches(max_chunksize=40):
            observe(state, batch)
        parts.append(json.loads(json.dumps(dump(state), allow_nan=False)))
    merged = merge(parts)
    return {n: table_outcome(pickle.loads(pickle.dumps(found[0])), merged) for n, found in rules.items() if found}


def alike(theirs: Any, ours: Any) -> bool:
    """Whether observed values are equal, up to the order in which doubles are summed."""
    if isinstance(theirs, float) and isinstance(ours, (int, float)):
        return math.isclose(theirs, ours, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(ours, dt.datetime):
        ours = ours.replace(tzinfo=None)
    return theirs == (ours.isoformat() if isinstance(ours, dt.date) and isinstance(theirs, str) else ours)


def table_disagreement(theirs: Answer, ours: Outcome) -> str | None:
    if theirs.error:
        return f"GX raised {theirs.error}"
    if theirs.success != ours.success:
        return f"success: GX {theirs}, here {ours}"
    if "unexpected_count" in theirs.result:
        return None if theirs.result["unexpected_count"] == ours.unexpected else f"unexpected: GX {theirs}, here {ours}"
    observed = theirs.result.get("observed_value")
    if "most_common" in ours.expectation.type:
        observed, mine = sorted(observed), sorted(ours.observed_value)
        return None if observed == mine else f"most common: GX {observed}, here {mine}"
    if observed is not None and not isinstance(observed, (dt.date,)) and not alike(observed, ours.observed_value):
        return f"observed: GX {observed!r}, here {ours.observed_value!r}"
    return None


@pytest.mark.seeds
def test_table_rules_agree_with_great_expectations(gx):
    seed = int(os.environ.get("RULES_SEED", secrets.randbelow(2**32)))
    rnd = Random(seed)
    table = rows(rnd)
    conditions = [condition(rnd) for _ in range(3)]
    entries = []
    for _ in range(turns(20, 100)):
        kind, kwargs = table_expectation(rnd)
        if rnd.random() < 0.3 and not any(word in kind for word in UNCONDITIONAL):
            kwargs |= rnd.choice(conditions)
        entries.append({"type": kind, "kwargs": kwargs})
    ours = on_tables(table, entries)
    assert len(ours) > 0.8 * len(entries)
    answers = gx(table, [entries[i] for i in ours])
    wrong = [f"{entries[i]}: {text}" for (i, mine), theirs in zip(ours.items(), answers, strict=True)
             if (text := table_disagreement(theirs, mine))]  # fmt: skip
    assert not wrong, f"RULES_SEED={seed}\n" + "\n".join(wrong)


LITERALS: dict[str, list[Any]] = {
    "n": [1, 2.0, 0.5, 2**53], "i": [-1, 2.0], "y": [127, 3], "x": [1, 0.1, -0.0, math.inf], "f": [0.5, 0.1, 16777216],
    "s": ["a", "it's", "1.5", "2024-01-31", ""], "b": [True, False], "p": [0.1, 1, 2.5], "q": [1, 0],
    "d": [dt.date(2024, 2, 29), "2024-02-29", "2024-02-29 00:00:00", dt.datetime(2024, 2, 29, tzinfo=UTC),
          dt.datetime(2024, 2, 29, 12, 30, tzinfo=UTC)],
    "at": [dt.datetime(2024, 2, 29, tzinfo=UTC), "2024-02-29", "2024-03-01 12:30:00", dt.date(2024, 2, 29),
           "2024-03-01T12:30:00Z"],
    "wall": [dt.datetime(2024, 2, 29, tzinfo=UTC), "2024-02-29", "2024-03-01 12:30:00", dt.date(2024, 2, 29)],
}  # fmt: skip
"""What people write for a value of each column, in YAML or JSON."""


@pytest.mark.long
def test_every_types_literals_agree_with_great_expectations(gx):
    """In sets, pairs and conditions: as YAML's own values and as texts."""
    entries = []
    for name, literals in LITERALS.items():
        for value in literals:
            entries.append(
                {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": name, "value_set": [value]}}
            )
        entries.append(
            {"type": "expect_column_values_to_not_be_in_set", "kwargs": {"column": name, "value_set": literals[:2]}}
        )
        pairs = [[value, 1] for value in literals if value != math.inf]
        entries.append(
            {
                "type": "expect_column_pair_values_to_be_in_set",
                "kwargs": {"column_A": name, "column_B": "m", "value_pairs_set": pairs},
            }
        )
    condition = {"d": "d = '2024-02-29' or d IN ('2024-03-01', '1970-01-01')", "s": "s <> 'a' and not n is null",
                 "p": "p between 0.1 and 1", "x": "1 <= x", "b": "b = true", "i": "i not in (1, 2)"}  # fmt: skip
    for name, text in condition.items():
        kwargs = {"column": name, "row_condition": text, "condition_parser": "spark"}
        entries.append({"type": "expect_column_values_to_be_null", "kwargs": kwargs})
    table = rows(Random(7))
    ours = by_us(table, entries)
    missing = [entries[i] for i in range(len(entries)) if i not in ours]
    assert not missing, missing
    answers = gx(table, [entries[i] for i in ours])
    wrong = [f"{entries[i]}: {text}" for (i, mine), theirs in zip(ours.items(), answers, strict=True)
             if (text := disagreement(theirs, mine))]  # fmt: skip
    assert not wrong, "\n".join(wrong)


NAMES = [
    "a.b",
    "a",
    "a b",
    "a`b",
    "it's",
    'say "x"',
    "é.ü",
    "CamelCase",
    "select",
    "1st",
    "a-b",
    "#",
    "a,b",
    "a\\b",
    "`q`",
]
"""Columns as people call them; of the first two one could be taken for a field of the other."""


@pytest.mark.long
def test_columns_of_any_name_are_evaluated_as_those_of_plain_names(gx, spark):
    """In the pass as Great Expectations evaluates plain names, and by it, over a frame of Spark and an Arrow table."""
    from lakehouse.checks import validate

    rnd = Random(11)
    plain_names = [f"c{number}" for number in range(len(NAMES))]
    values = [[rnd.choice([None, 1, 2, 3]) for _ in range(20)] for _ in NAMES]
    own = {"id": list(range(20)), "wall": pa.array([None] * 20, pa.timestamp("us"))}
    odd, simple = (pa.table(own | dict(zip(names, values, strict=True))) for names in (NAMES, plain_names))

    def asked(names: list[str]) -> list[dict[str, Any]]:
        some = []
        for name, other in zip(names, [*names[1:], names[0]], strict=True):
            where = {"type": "comparison", "column": {"name": other}, "operator": ">=", "parameter": 2}
            some += [
                {"type": "expect_column_values_to_be_between", "kwargs": {"column": name, "max_value": 2}},
                {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": name, "row_condition": where}},
            ]
        return some

    compiled = by_us(odd, asked(NAMES))
    assert len(compiled) == 2 * len(NAMES)
    answers = gx(simple, asked(plain_names))
    assert [
        d for mine, theirs in zip(compiled.values(), answers, strict=True) if (d := disagreement(theirs, mine))
    ] == []

    entries = [
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": name}
         | ({"row_condition": {"type": "comparison", "column": {"name": other}, "operator": ">=", "parameter": 2}} if i % 5 == 0 else {})}
        for i, (name, other) in enumerate(zip(NAMES, [*NAMES[1:], NAMES[0]], strict=True))
    ]  # fmt: skip
    suite = read_suite(json.dumps({"name": "s", "expectations": entries}), "s.json")
    others = compile_suite(suite, odd.schema).others
    frame = spark.createDataFrame(odd.select(NAMES))
    by_spark, here = (
        [
            (f.outcome.success, f.outcome.unexpected, f.outcome.observed_value)
            for f in validate("features", others, given)
        ]
        for given in (frame, odd)
    )
    assert by_spark == here
    assert not any("could not" in str(said) for _, _, said in here)
