"""What was staged, whether it may be published, and what is said of it."""

from lakehouse.checks.native import as_page, native
from lakehouse.checks.suites import Suites, columns_read, described, named, suites_of
from lakehouse.checks.tallying import SUITES, Tally, tally
from lakehouse.checks.validation import validate
from lakehouse.checks.verdict import Finding, Problem, Spent, Verdict, findings, judge

__all__ = [
    "SUITES", "Finding", "Problem", "Spent", "Suites", "Tally", "Verdict", "as_page", "columns_read", "described",
    "findings", "judge", "named", "native", "suites_of", "tally", "validate",
]  # fmt: skip
