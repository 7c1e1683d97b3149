"""What became of a run's checks: whether what was staged may be published, and all that is said of it anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lakehouse.checks import rules
from lakehouse.checks.rules import Compiled, Delegated, Outcome
from lakehouse.checks.tallying import Tally

if TYPE_CHECKING:
    from lakehouse.config import Checks, Quarantine

_TOP = 5
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """What became of one expectation. `way`: row, table (both in the pass) or GX (Great Expectations itself ran it).

    `budgeted`: its rows are set aside and count against the budget, which decides in the rule's place.
    """

    suite: str
    outcome: Outcome
    way: str
    budgeted: bool = False

    @property
    def mostly(self) -> float:
        """The share of rows that is enough."""
        given = self.outcome.expectation.kwargs.get("mostly")
        return 1.0 if given is None else float(given)

    @property
    def severity(self) -> str:
        return self.outcome.expectation.severity

    @property
    def failed(self) -> bool:
        """Whether Great Expectations says that it failed."""
        return self.outcome.success is False

    @property
    def sets_rows_aside(self) -> bool:
        """Whether it failed and only had rows set aside."""
        return self.failed and self.budgeted

    @property
    def blocks(self) -> bool:
        """Whether it stands against publishing."""
        return self.failed and self.severity == "critical" and not self.budgeted


@dataclass(frozen=True)
class Problem:
    """What stands against publishing. `kind`: rule, budget, drift, keys, model; `remedy`: what allows more."""

    kind: str
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class BudgetUse:
    """A run's quarantined rows against its budget; `reasons`: rule, column and rows, the most frequent first.

    `adds`: the run only adds to what is there, so that the budget decides also where not one row could be scored.
    """

    read: int
    used: int
    allowed: int
    limit: str
    reasons: tuple[tuple[str, str, int], ...]
    adds: bool = False

    @property
    def is_over(self) -> bool:
        """Whether too many were set aside: whatever the budget, a slice is never replaced by nothing."""
        return self.used > self.allowed or self._replaces_by_nothing

    @property
    def _replaces_by_nothing(self) -> bool:
        return self.used == self.read > 0 and not self.adds

    @property
    def summary(self) -> str:
        """Rows, budget and reasons in words."""
        share = self.used / self.read if self.read else 0.0
        allowance = f"{self.allowed:,} are allowed ({self.limit})"
        if self._replaces_by_nothing:
            allowance = "not one could be scored"
        why = ", ".join(f"{rule} {column}".rstrip() + f" ×{rows:,}" for rule, column, rows in self.reasons[:_TOP])
        said = f"{self.used:,} of {self.read:,} rows ({share:.2%}) went to quarantine, {allowance}"
        return f"{said}: {why}" if why else said


@dataclass(frozen=True)
class Verdict:
    """The outcome of a run's checks: what stands against publishing, what is only worth a warning, and the counts."""

    passed: int
    failed: int
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    findings: tuple[Finding, ...]
    budget: BudgetUse

    @property
    def summary_lines(self) -> list[str]:
        """The end of the run's checks, a line each: how many did what, and which rows were set aside why.

        None of a run without suites of which no row was set aside.
        """
        aside = sum(f.sets_rows_aside for f in self.findings)
        counts = (
            (self.passed, "passed"),
            (aside, "set rows aside"),
            (len(self.warnings), "warned"),
            (self.failed, "failed"),
        )
        lines = [", ".join(f"{many:,} {what}" for many, what in counts if many or what == "passed")]
        lines = lines if self.findings else []
        if self.budget.used and not self.budget.is_over:  # else it is the first of the problems
            lines.append(self.budget.summary)
        return lines


def judge(
    tally: Tally,
    findings: Sequence[Finding],
    checks: Checks,
    more: Sequence[Problem] = (),
    doubts: Sequence[str] = (),
    *,
    adds: bool = False,
) -> Verdict:
    """Hold the run against its budget of quarantined rows and its suites.

    `more`: what else stands against it; `doubts`: what else is worth a warning. Empty texts say nothing. `adds`: see
    `BudgetUse`.
    """
    found = tuple(f if checks.strict else replace(f, budgeted=_is_budgeted(f)) for f in findings)
    spent = replace(_budget_use(tally.read, tally.quarantined, tally.reasons, checks.quarantine), adds=adds)
    others = [problem for problem in (_budget_problem(spent), *more) if problem.message]
    broken = [Problem("rule", _describe(f), _remedy(f)) for f in found if f.blocks]
    doubtful = [_describe(f) for f in found if f.failed and f.severity == "warning"]
    passed = sum(f.outcome.success is True for f in found) + (not spent.is_over)
    warnings = (*doubtful, *filter(None, doubts))
    return Verdict(passed, len(broken) + len(others), (*broken, *others), warnings, found, spent)


def _is_budgeted(finding: Finding) -> bool:
    """Whether the budget decides: a critical rule of single rows that doesn't say itself how many may fail.

    With a condition in SQL it decides itself, as where Great Expectations has to run it: what becomes of a run doesn't
    depend on how simple the SQL is.
    """
    kwargs = finding.outcome.expectation.kwargs
    in_sql = rules.engine_text(kwargs.get("row_condition"), kwargs.get("condition_parser")) is not None
    return finding.way == "row" and finding.severity == "critical" and kwargs.get("mostly") is None and not in_sql


def _describe(finding: Finding) -> str:
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
        some = list(dict.fromkeys(map(str, outcome.examples)))[:_SHOWN]
        return f"{finding.suite}: {what}{', such as ' + ', '.join(some) if some else ''}"
    return f"{finding.suite}: {what}: observed {outcome.observed_value}"


def _remedy(finding: Finding) -> str:
    """How a suite lets more pass."""
    if finding.way == "row":
        return "give the rule a lower mostly, or severity: warning"
    return "change the rule, or give it severity: warning"


def _budget_use(read: int, used: int, reasons: Mapping[tuple[str, str], int], budget: Quarantine) -> BudgetUse:
    """A row may have several reasons."""
    told = sorted(((rule, column, rows) for (rule, column), rows in reasons.items()), key=lambda one: -one[2])
    return BudgetUse(read, used, budget.allowed(read) or 0, budget.limit, tuple(told))


def _budget_problem(spent: BudgetUse) -> Problem:
    """What is wrong where more rows were set aside than the job allows; its text is empty where all is well."""
    keys = "max_fraction: …, max_rows: …" if "max_rows" in spent.limit else "max_fraction: …"
    more = f"checks: {{quarantine: {{{keys}}}}}" if spent.adds or spent.used < spent.read else ""
    return Problem("budget", spent.summary if spent.is_over else "", more)


def findings(
    suite: str, compiled: Compiled, counted: Mapping[str, Any] | None
) -> tuple[list[Finding], list[Delegated]]:
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
            left.append(rules.delegate_overflowed(rule))
        else:
            found.append(Finding(suite, outcome, "table"))
    return found, left
