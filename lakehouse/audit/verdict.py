"""Suites in, verdicts out: whether what was staged may be published, and what is said where not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from lakehouse import rules
from lakehouse.audit.tallying import SUITES, Tally
from lakehouse.errors import ConfigError, nearest
from lakehouse.rules import Compiled, Expectation, Other, Outcome
from lakehouse.storage import content, locate, names

if TYPE_CHECKING:
    from lakehouse.config import Checks, Quarantine


@dataclass(frozen=True)
class Suites:
    """The job's suites as written, and digests of their files by name."""

    features: tuple[Expectation, ...] = ()
    scores: tuple[Expectation, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)


def suites_of(checks: Checks) -> Suites:
    """Read the job's suites. Raises ConfigError for a file that is not there or is no suite."""
    found, digests = {}, {}
    for name in SUITES:
        path = getattr(checks, name)
        if path is None:
            continue
        location = locate(path)
        text = content(location)
        if text is None:
            hint = nearest(path.rsplit("/", 1)[-1], names(location))
            where = "" if location.remote else f" in {os.getcwd()}" if not os.path.isabs(path) else ""
            raise ConfigError(f"checks.{name}: there is no file {path}{where}; {hint}")
        found[name] = rules.read_suite(text, path)
        digests[name] = hashlib.sha256(text).hexdigest()
    return Suites(**found, digests=digests)


@dataclass(frozen=True)
class Finding:
    """What became of one expectation. `way`: row, table (both in the pass) or GX (Great Expectations itself ran it)."""

    suite: str
    outcome: Outcome
    way: str

    @property
    def mostly(self) -> float:
        """The share of rows that is enough."""
        return float(self.outcome.expectation.kwargs.get("mostly") or 1.0)

    @property
    def severity(self) -> str:
        return self.outcome.expectation.severity

    @property
    def failed(self) -> bool:
        return self.outcome.success is False


@dataclass(frozen=True)
class Verdict:
    """The outcome of a run's checks: in words, what stands against publishing and what is only worth a warning."""

    passed: int
    failed: int
    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    over_budget: bool = False


def judge(
    tally: Tally, findings: Sequence[Finding], budget: Quarantine, more: Sequence[str] = (), doubts: Sequence[str] = ()
) -> Verdict:
    """Hold the run against its budget of quarantined rows and its suites.

    `more`: what else stands against it; `doubts`: what else is worth a warning. Empty texts say nothing.
    """
    over = _over(tally.read, tally.quarantined, tally.reasons, budget)
    others = [problem for problem in (over, *more) if problem]
    broken = [f for f in findings if f.failed and f.severity == "critical"]
    doubtful = [f for f in findings if f.failed and f.severity == "warning"]
    failed = len(others) + len(broken)
    passed = sum(f.outcome.success is True for f in findings) + (0 if over else 1)
    problems = (*(_said(f) for f in broken), *others)
    warnings = (*(_said(f) for f in doubtful), *filter(None, doubts))
    return Verdict(passed, failed, problems, warnings, tuple(findings), bool(over))


def _said(finding: Finding) -> str:
    """A finding in words: rule, column, what was asked, what was found, and some values."""
    outcome, expectation = finding.outcome, finding.outcome.expectation
    given = {k: v for k, v in expectation.kwargs.items() if k != "mostly" and v is not None}
    asked = {k: v for k, v in given.items() if not k.startswith("column")}
    what = " ".join([expectation.name, *(str(v) for k, v in given.items() if k.startswith("column"))])
    if asked:
        what += " (" + ", ".join(f"{k} {v}" for k, v in asked.items()) + ")"
    if finding.way == "row":
        share = outcome.unexpected / outcome.evaluated if outcome.evaluated else 0.0
        what += f": {outcome.unexpected:,} of {outcome.evaluated:,} rows ({share:.2%}) fail"
        what += f", mostly {finding.mostly:g}" if finding.mostly < 1 else ""
        some = f", such as {', '.join(map(str, outcome.examples[:3]))}" if outcome.examples else ""
        return f"{finding.suite}: {what}{some}"
    return f"{finding.suite}: {what}: observed {outcome.observed_value}"


def allowance(budget: Quarantine, rows: int | None) -> int | None:
    """How many of so many rows the job allows in quarantine; None where their number isn't known."""
    if rows is None:
        return budget.max_rows
    allowed = int(Fraction(str(budget.max_fraction)) * rows)  # 0.29 * 100 is 28.999… in binary
    return allowed if budget.max_rows is None else min(allowed, budget.max_rows)


def _over(read: int, quarantined: int, reasons: Mapping[tuple[str, str], int], budget: Quarantine) -> str:
    """What is wrong where more rows were quarantined than the job allows. A row may have several reasons."""
    allowed = allowance(budget, read) or 0
    if quarantined == read > 0:
        allowed = -1  # whatever the budget: a slice is never replaced by nothing
    if quarantined <= allowed:
        return ""
    top = sorted(reasons.items(), key=lambda item: -item[1])[:5]
    why = ", ".join(f"{rule} {column}".rstrip() + f" ×{count:,}" for (rule, column), count in top)
    limit = f"max_fraction {budget.max_fraction:g}"
    if budget.max_rows is not None:
        limit += f", max_rows {budget.max_rows:,}"
    share = quarantined / read if read else 0.0
    granted = f"{allowed:,} are allowed ({limit})" if allowed >= 0 else "not one could be scored"
    return f"{quarantined:,} of {read:,} rows ({share:.2%}) went to quarantine, {granted}: {why}"


def named(expectations: Sequence[Expectation]) -> list[str]:
    """The columns that a suite names, as it spells them."""
    given = [e.kwargs.get(key) for e in expectations for key in ("column", "column_A", "column_B")]
    given += [c for e in expectations for key in ("column_list", "column_set") for c in e.kwargs.get(key) or ()]
    return [c for c in given if isinstance(c, str)]


def columns_read(compiled: Compiled) -> list[str]:
    """The columns that a suite needs in the pass."""
    return [
        *(c for rule in compiled.rows for c in rule.columns),
        *(c for rule in compiled.tables for c in rule.columns),
    ]


def findings(suite: str, compiled: Compiled, counted: Mapping[str, Any] | None) -> tuple[list[Finding], list[Other]]:
    """What became of a suite's expectations in the pass, and those that are left to Great Expectations.

    To these belong also some that turned out to need more than the pass may remember.
    """
    if counted is None:
        return [], list(compiled.others)
    found = [
        Finding(suite, rules.row_outcome(rule, count), "row")
        for rule, count in zip(compiled.rows, counted["rows"], strict=True)
    ]
    left = list(compiled.others)
    for rule in compiled.tables:
        outcome = rules.table_outcome(rule, counted["tables"])
        if outcome.success is None:
            left.append(Other(rule.expectation, rule.columns, "too many distinct values to count in the pass"))
        else:
            found.append(Finding(suite, outcome, "table"))
    return found, left
