"""Expectations that only Great Expectations itself can evaluate, run by it over the columns that they need."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from lakehouse.checks import rules
from lakehouse.checks.rules import Condition, Delegated, Outcome
from lakehouse.checks.verdict import Finding

_CONDITION = ("row_condition", "condition_parser")
_COLUMNS = ("column", "column_A", "column_B", "column_list", "column_set")
_LONGEST = 500


def validate(suite: str, others: Sequence[Delegated], rows: Any) -> list[Finding]:
    """Run these expectations over an Arrow table or a frame of Spark, with the engine of Great Expectations for it.

    Row conditions are applied here where they can be: Great Expectations' engines know one dialect each. An expectation
    that can't be evaluated has failed, and says why.
    """
    import great_expectations as gx

    context: Any = gx.get_context(mode="ephemeral")  # what it says of its own types isn't so
    context.variables.progress_bars = {"globally": False}
    found: dict[int, Outcome] = {}
    numbered = sorted(enumerate(others), key=lambda pair: _group(pair[1]))
    for _, members in itertools.groupby(numbered, key=lambda pair: _group(pair[1])):
        group = dict(members)
        try:
            given, asked = _prepare(rows, group)
            results = _run(context, suite, group, asked, given)
        except Exception as error:  # such as a condition that Spark can't make sense of
            results = dict.fromkeys(group, error)
        found |= {number: _outcome(group[number], result) for number, result in results.items()}
    return [Finding(suite, found[number], "GX") for number in range(len(others))]


def _group(other: Delegated) -> tuple[str, bool]:
    """What is evaluated over the same rows and columns."""
    stated = {key: other.expectation.kwargs.get(key) for key in _CONDITION}
    return (repr(stated) if stated["row_condition"] else "", not other.columns)


def _prepare(rows: Any, group: Mapping[int, Delegated]) -> tuple[Any, dict[int, dict[str, Any]]]:
    """The rows that a group is about, as a frame, and what it asks of them: arguments by number."""
    first = next(iter(group.values()))
    given, parser = (first.expectation.kwargs.get(key) for key in _CONDITION)
    asked = {number: dict(other.expectation.kwargs) for number, other in group.items()}
    if isinstance(rows, pa.Table):
        if first.condition is not None:
            rows, asked = (
                _rows_that_meet(rows, first.condition),
                {n: _unconditional(kwargs) for n, kwargs in asked.items()},
            )
        return rows.to_pandas(), {n: _spell(kwargs, {}) for n, kwargs in asked.items()}
    if (text := rules.engine_text(given, parser)) is not None:
        rows, asked = rows.where(text), {n: _unconditional(kwargs) for n, kwargs in asked.items()}
    names = {}
    if first.columns and any(set(name) & {".", "`"} for name in rows.columns):  # GX takes a dot for a field
        names = {name: f"c{number}" for number, name in enumerate(rows.columns)}
        rows = rows.toDF(*names.values())
    return rows, {n: _spell(kwargs, names) for n, kwargs in asked.items()}


def _rows_that_meet(rows: pa.Table, condition: Condition) -> pa.Table:
    """The rows that meet a condition."""
    batches = [batch.filter(rules.mask(condition, batch)) for batch in rows.to_batches()]
    return pa.Table.from_batches(batches, rows.schema)


def _unconditional(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key not in _CONDITION}


def _spell(kwargs: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Arguments with other names for some columns, their condition as an object."""

    def other(name: str) -> str:
        top, dot, field = name.partition(".")
        return names[name] if name in names else f"{names.get(top, top)}{dot}{field}"

    made = dict(kwargs)
    for key in _COLUMNS:
        value = kwargs.get(key)
        if isinstance(value, str):
            made[key] = other(value)
        elif value is not None:
            made[key] = [other(name) for name in value]
    if kwargs.get("row_condition"):
        made["row_condition"] = rules.to_gx_condition(kwargs["row_condition"], kwargs.get("condition_parser"), names)
        if not isinstance(made["row_condition"], str):
            made.pop("condition_parser", None)
    return made


def _run(
    context: Any, suite: str, group: Mapping[int, Delegated], asked: Mapping[int, dict[str, Any]], rows: Any
) -> dict[int, Any]:
    """What Great Expectations says of each, by number."""
    import great_expectations as gx
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.metadata_types import FailureSeverity

    expectations = gx.ExpectationSuite(suite)
    for number, other in group.items():
        e = other.expectation
        expectations.add_expectation_configuration(
            ExpectationConfiguration(
                type=e.type, kwargs=asked[number], severity=FailureSeverity(e.severity), id=str(number)
            )
        )
    if len(expectations.expectations) != len(group):  # it logs and leaves out what it doesn't know
        raise RuntimeError(
            f"Great Expectations took {len(expectations.expectations)} of {len(group)} expectations of {suite}"
        )
    name = f"rows{min(group)}"
    if type(rows).__module__.startswith("pandas"):
        source = context.data_sources.add_pandas(name)
    else:
        source = context.data_sources.add_spark(name, persist=False)
    batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name).get_batch({"dataframe": rows})
    results = batch.validate(expectations, result_format="SUMMARY").results
    return {int(result.expectation_config.id): result for result in results}


def _outcome(other: Delegated, result: Any) -> Outcome:
    said = {} if isinstance(result, Exception) else result.result
    failure = _failure(result)
    observed = said.get("observed_value")
    if failure:
        observed = f"nothing: Great Expectations could not evaluate it: {failure}"
    elif observed is None and "unexpected_count" in said:
        observed = f"{said['unexpected_count']:,} unexpected"
    total, unexpected = int(said.get("element_count") or 0), int(said.get("unexpected_count") or 0)
    evaluated = total - int(said.get("missing_count") or 0)
    return Outcome(
        expectation=other.expectation,
        success=not failure and bool(result.success),
        observed_value=observed,
        total=total,
        evaluated=evaluated,
        unexpected=unexpected,
        unexpected_fraction=unexpected / evaluated if evaluated else 0.0,
        examples=tuple(str(value) for value in (said.get("partial_unexpected_list") or ())[:20]),
    )


def _failure(result: Any) -> str:
    """What was raised inside Great Expectations, which tells it once, or once for each metric; "" where nothing was."""
    if isinstance(result, Exception):
        return _short(f"{type(result).__name__}: {result}")
    told = result.exception_info or {}
    each = [told] if "raised_exception" in told else [one for one in told.values() if isinstance(one, Mapping)]
    messages = [str(one.get("exception_message")) for one in each if one.get("raised_exception")]
    return "; ".join(dict.fromkeys(_short(message) for message in messages))


def _short(message: str) -> str:
    """The lines of a message that say something: those of Spark's plans and Java's stack don't."""
    line = next((line.strip() for line in message.splitlines() if line.strip()), "no message")
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"
