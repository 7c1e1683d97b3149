"""What is held against rows: suites and their rules, profiles, uniqueness of keys, and the verdict on a run.

Rules are evaluated on Arrow batches while these are scored (`rules`), workers' counts are summed up (`tallying`), and
what the pass can't count is left to Great Expectations (`validation`, the only importer of it). Whether drift stands
against a run, and what becomes of a verdict, is in `runs`.
"""

from lakehouse.checks.native import as_page, native
from lakehouse.checks.suites import Suites, columns_read, described, named, suites_of
from lakehouse.checks.tallying import SUITES, Tally, tally
from lakehouse.checks.validation import validate
from lakehouse.checks.verdict import Finding, Problem, Spent, Verdict, findings, judge

__all__ = [
    "SUITES", "Finding", "Problem", "Spent", "Suites", "Tally", "Verdict", "as_page", "columns_read", "described",
    "findings", "judge", "named", "native", "suites_of", "tally", "validate",
]  # fmt: skip
