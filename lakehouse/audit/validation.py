"""Expectations that only Great Expectations itself can evaluate, run by it over the columns that they need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lakehouse.audit.verdict import Finding
from lakehouse.rules import Other, Outcome


def validate(suite: str, others: Sequence[Other], rows: Any) -> list[Finding]:
    """Run these expectations over a frame (Spark's or pandas'), with the engine of Great Expectations for it.

    One that can't be evaluated has failed, and says why.
    """
    import great_expectations as gx
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.metadata_types import FailureSeverity

    context: Any = gx.get_context(mode="ephemeral")  # what it says of its own types isn't so
    context.variables.progress_bars = {"globally": False}
    asked = gx.ExpectationSuite(suite)
    for number, other in enumerate(others):
        e = other.expectation
        asked.add_expectation_configuration(
            ExpectationConfiguration(
                type=e.type, kwargs=dict(e.kwargs), severity=FailureSeverity(e.severity), id=str(number)
            )
        )
    if len(asked.expectations) != len(others):  # it logs and leaves out what it doesn't know
        raise RuntimeError(
            f"Great Expectations took {len(asked.expectations)} of {len(others)} expectations of {suite}"
        )
    if type(rows).__module__.startswith("pandas"):
        source = context.data_sources.add_pandas("rows")
    else:
        source = context.data_sources.add_spark("rows", persist=False)
    asset = source.add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("rows").get_batch({"dataframe": rows})
    results = batch.validate(asked, result_format="SUMMARY").results
    found = {int(result.expectation_config.id): result for result in results}
    return [Finding(suite, _outcome(other, found[number]), "GX") for number, other in enumerate(others)]


def _outcome(other: Other, result: Any) -> Outcome:
    said, raised = result.result, result.exception_info or {}
    failure = raised.get("exception_message") if raised.get("raised_exception") else None
    observed = said.get("observed_value")
    if failure is not None:
        observed = f"could not be evaluated: {failure}"
    elif observed is None and "unexpected_count" in said:
        observed = f"{said['unexpected_count']:,} unexpected"
    total, unexpected = int(said.get("element_count") or 0), int(said.get("unexpected_count") or 0)
    evaluated = total - int(said.get("missing_count") or 0)
    return Outcome(
        expectation=other.expectation,
        success=bool(result.success),
        observed_value=observed,
        total=total,
        evaluated=evaluated,
        unexpected=unexpected,
        unexpected_fraction=unexpected / evaluated if evaluated else 0.0,
        examples=tuple(str(value) for value in (said.get("partial_unexpected_list") or ())[:20]),
    )
