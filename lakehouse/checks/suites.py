"""The job's suites: read, asked which columns they need, and told where they will be evaluated."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lakehouse.checks import rules
from lakehouse.checks.rules import Compiled, Expectation
from lakehouse.checks.tallying import SUITES
from lakehouse.errors import ConfigError, nearest
from lakehouse.storage import content, locate, names

if TYPE_CHECKING:
    from lakehouse.config import Checks


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
            where = "" if location.remote or os.path.isabs(path) else f" in {os.getcwd()}"
            raise ConfigError(f"checks.{name}: there is no file {path}{where}; {hint}")
        found[name] = rules.read_suite(text, path)
        digests[name] = hashlib.sha256(text).hexdigest()
    return Suites(**found, digests=digests)


def columns_named(expectations: Sequence[Expectation]) -> list[str]:
    """The columns that a suite names, as it spells them."""
    return [name for expectation in expectations for name in rules.columns_as_spelled(expectation)]


def columns_read(compiled: Compiled) -> list[str]:
    """The columns that a suite needs in the pass."""
    return [
        *(c for rule in compiled.rows for c in rule.columns),
        *(c for rule in compiled.tables for c in rule.columns),
    ]


def describe(suites: Mapping[str, Compiled], checks: Checks, rows: int | None, baseline: str) -> list[str]:
    """What will be checked and where, a line each, for a dry run.

    `suites`: compiled, by name; `rows`: the most that may be read, where that is known; `baseline`: where that of
    drift is from, "" where there is none yet.
    """
    lines = [line for name, compiled in suites.items() for line in _how_evaluated(name, compiled)]
    budget = checks.quarantine
    allowed = "" if rows is None else f", {budget.allowed(rows):,} of {rows:,} rows"
    lines.append(f"at most {budget.limit} may be set aside{allowed}; beyond that the run is blocked")
    if checks.strict:
        lines.append("strict: a single row that breaks a critical rule blocks the run, unless the rule says mostly")
    if checks.drift is not None:
        does = "blocks" if checks.drift.action == "block" else "warns"
        against = baseline or "none yet, this run's profile becomes it once it is published"
        lines.append(f"drift beyond PSI {checks.drift.psi:g} {does}; baseline: {against}")
    return lines


def _how_evaluated(name: str, compiled: Compiled) -> list[str]:
    parts = ((compiled.rows, "of single rows"), (compiled.tables, "of the whole table"))
    inside = ", ".join(f"{len(some):,} {what}" for some, what in parts if some)
    lines = [f"{name}: in the scoring pass {inside}"] if inside else []
    if compiled.others:
        reasons = Counter(f"{other.expectation.name} ({other.reason})" for other in compiled.others)
        told = ", ".join(reasons)
        lines.append(f"{name}: by Great Expectations after the pass {len(compiled.others):,}: {told}")
    return lines
