"""What is held against rows: suites and their rules, profiles, uniqueness of keys, and the verdict on a run.

Rules are evaluated on Arrow batches while these are scored (`rules`), workers' counts are summed up (`tallying`), and
what the pass can't count is left to Great Expectations (`validation`, the only importer of it). Whether drift stands
against a run, and what becomes of a verdict, is in `runs`.
"""

from typing import TYPE_CHECKING

from lakehouse import deferred

if TYPE_CHECKING:
    from lakehouse.checks.native import render_page, validation_result
    from lakehouse.checks.suites import Suites, columns_named, columns_read, describe, suites_of
    from lakehouse.checks.tallying import SUITES, Tally, tally
    from lakehouse.checks.validation import validate
    from lakehouse.checks.verdict import BudgetUse, Finding, Problem, Verdict, findings, judge

__getattr__ = deferred.names_of(
    __name__,
    {
        "native": "render_page validation_result",
        "suites": "Suites columns_named columns_read describe suites_of",
        "tallying": "SUITES Tally tally",
        "validation": "validate",
        "verdict": "BudgetUse Finding Problem Verdict findings judge",
    },
)
