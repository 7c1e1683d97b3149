"""A run's findings as Great Expectations' own results, for Data Docs and whatever else reads those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_FORMAT = {"result_format": "BASIC", "partial_unexpected_count": 20}


def validation_result(suite: str, rules: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> Any:
    """An `ExpectationSuiteValidationResult` of one suite's rules, as `evidence.gather_facts` keeps them.

    Great Expectations judges the counts that were taken in the pass; it evaluates nothing. `run`: what its `meta` says.
    """
    from great_expectations.core import ExpectationSuiteValidationResult

    results = [_result(rule) for rule in rules if rule["suite"] == suite]
    passed = sum(bool(result.success) for result in results)
    statistics = {
        "evaluated_expectations": len(results),
        "successful_expectations": passed,
        "unsuccessful_expectations": len(results) - passed,
        "success_percent": 100 * passed / len(results) if results else None,
    }
    return ExpectationSuiteValidationResult(
        success=passed == len(results),
        results=results,
        suite_name=suite,
        suite_parameters={},
        statistics=statistics,
        meta={"run_id": {"run_name": run["run_id"], "run_time": run["finished_at"]}, "job": run["job"]},
    )


def render_page(result: Any) -> str:
    """Great Expectations' own page of a result; unlike ours, it loads fonts and styles from the web."""
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaPageView

    renderer: Any = ValidationResultsPageRenderer()
    view: Any = DefaultJinjaPageView()
    return str(view.render(renderer.render(result)))


def _result(rule: Mapping[str, Any]) -> Any:
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.metadata_types import FailureSeverity

    written = rule["expectation"]
    config = ExpectationConfiguration(
        type=written["type"],
        kwargs=written["kwargs"],
        meta=written["meta"],
        severity=FailureSeverity(written["severity"]),
    )
    runtime, engine = {"result_format": _FORMAT}, PandasExecutionEngine()
    if rule["way"] == "row":
        expectation: Any = config.to_domain_obj()
        needed = expectation.get_validation_dependencies(execution_engine=engine, runtime_configuration=runtime)
        metrics = {m.id: _metric(name, rule) for name, m in needed.metric_configurations.items()}
        result = expectation.metrics_validate(metrics=metrics, runtime_configuration=runtime, execution_engine=engine)
        result.expectation_config = config
        return result
    counted = {} if rule["observed"] is None else {"observed_value": rule["observed"]}
    return ExpectationValidationResult(
        success=bool(rule["success"]),
        expectation_config=config,
        result=counted,
        exception_info={"raised_exception": False, "exception_traceback": None, "exception_message": None},
    )


def _metric(name: str, rule: Mapping[str, Any]) -> Any:
    """The counter that Great Expectations knows by this name."""
    condition = rule["expectation"]["kwargs"].get("row_condition")
    rows = rule["evaluated"] if condition else rule["total"]  # of rows that a condition leaves out it knows nothing
    checks_nulls = rule["type"] in ("expect_column_values_to_not_be_null", "expect_column_values_to_be_null")
    if name == "table.row_count":
        return rows
    if name.endswith(".filtered_row_count"):
        return rule["evaluated"]
    if name == "column_values.nonnull.unexpected_count" and not checks_nulls:
        return rows - rule["evaluated"]
    return rule["unexpected"] if name.endswith(".unexpected_count") else list(rule["examples"])
