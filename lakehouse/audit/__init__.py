"""What was staged, whether it may be published, and what is said of it."""

from lakehouse.audit.native import as_page, native
from lakehouse.audit.tallying import SUITES, Tally, tally
from lakehouse.audit.validation import validate
from lakehouse.audit.verdict import Finding, Suites, Verdict, allowance, columns_read, findings, judge, named, suites_of

__all__ = [
    "SUITES", "Finding", "Suites", "Tally", "Verdict", "allowance", "as_page", "columns_read", "findings", "judge",
    "named", "native", "suites_of", "tally", "validate",
]  # fmt: skip
