"""What was staged, whether it may be published, and what is said of it."""

from lakehouse.audit.native import as_page, native
from lakehouse.audit.suites import Suites, columns_read, described, named, suites_of
from lakehouse.audit.tallying import SUITES, Tally, tally
from lakehouse.audit.validation import validate
from lakehouse.audit.verdict import Finding, Problem, Spent, Verdict, findings, judge

__all__ = [
    "SUITES", "Finding", "Problem", "Spent", "Suites", "Tally", "Verdict", "as_page", "columns_read", "described",
    "findings", "judge", "named", "native", "suites_of", "tally", "validate",
]  # fmt: skip
