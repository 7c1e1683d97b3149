"""Tallies and verdicts: what was staged, and whether what was staged may be published."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from lakehouse import errors
from lakehouse.contract import COUNTS, FAILED, QUARANTINED, SCORED

if TYPE_CHECKING:
    from lakehouse.config import Quarantine


@dataclass(frozen=True)
class Verdict:
    """The outcome of a run's checks; `problems` is what stands against publishing, in words."""

    passed: int
    failed: int
    problems: tuple[str, ...]


def judge(read: int, quarantined: int, reasons: Mapping[tuple[str, str], int], budget: Quarantine) -> Verdict:
    """Hold the quarantined rows against the job's budget. A row may have several reasons."""
    allowed = int(Fraction(str(budget.max_fraction)) * read)  # 0.29 * 100 is 28.999… in binary
    if budget.max_rows is not None:
        allowed = min(allowed, budget.max_rows)
    if quarantined == read > 0:
        allowed = -1  # whatever the budget: a slice is never replaced by nothing
    if quarantined <= allowed:
        return Verdict(passed=1, failed=0, problems=())
    top = sorted(reasons.items(), key=lambda item: -item[1])[:5]
    why = ", ".join(f"{rule} {column}".rstrip() + f" ×{count:,}" for (rule, column), count in top)
    limit = f"max_fraction {budget.max_fraction:g}"
    if budget.max_rows is not None:
        limit += f", max_rows {budget.max_rows:,}"
    share = quarantined / read if read else 0.0
    allowance = f"{allowed:,} are allowed ({limit})" if allowed >= 0 else "not one could be scored"
    problem = f"{quarantined:,} of {read:,} rows ({share:.2%}) went to quarantine, {allowance}: {why}"
    return Verdict(passed=0, failed=1, problems=(problem,))


def also(verdict: Verdict, problem: str) -> Verdict:
    """The verdict of one more check, which found this problem; none where it is empty."""
    if not problem:
        return verdict
    return Verdict(verdict.passed, verdict.failed + 1, (*verdict.problems, problem))


@dataclass(frozen=True)
class Tally:
    """A run's manifest, summed: its files by kind, its rows, and why rows were set aside."""

    scored_files: tuple[Mapping[str, Any], ...]
    quarantined_files: tuple[Mapping[str, Any], ...]
    read: int
    scored: int
    quarantined: int
    reasons: Mapping[tuple[str, str], int]


def tally(manifest: Sequence[Mapping[str, Any]]) -> Tally:
    """Sum the manifest's rows up. Raises the error that a worker reported, and RuntimeError if a row is missing."""
    for row in manifest:
        if row["kind"] == FAILED:
            failure = json.loads(row["detail"])
            raise getattr(errors, failure["kind"], errors.LakehouseError)(failure["message"])
    details = [json.loads(row["detail"]) for row in manifest if row["kind"] == COUNTS]
    reasons: Counter[tuple[str, str]] = Counter()
    for detail in details:
        reasons.update({(rule, column): count for rule, column, count in detail["reasons"]})
    files = {kind: tuple(row for row in manifest if row["kind"] == kind) for kind in (SCORED, QUARANTINED)}
    read, scored, quarantined = (sum(d[k] for d in details) for k in ("read", "scored", "quarantined"))
    in_files = tuple(sum(row["rows"] for row in files[kind]) for kind in (SCORED, QUARANTINED))
    if read != scored + quarantined or in_files != (scored, quarantined):
        raise RuntimeError(
            f"rows are missing: read {read}, scored {scored}, quarantined {quarantined}, in files {in_files}"
        )
    return Tally(files[SCORED], files[QUARANTINED], read, scored, quarantined, dict(reasons))
