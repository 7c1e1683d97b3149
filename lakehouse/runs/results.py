"""How a run ended, as `--json` prints it, and what is told of a run that was blocked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from lakehouse import sinks
from lakehouse.checks import Tally, Verdict
from lakehouse.planning.plan import Plan, Request
from lakehouse.runs import ledger
from lakehouse.schemas import REASONS
from lakehouse.scoring import files
from lakehouse.scoring.reasons import in_words
from lakehouse.scoring.staging import Staging


@dataclass(frozen=True)
class Result:
    """The outcome of a run, as `--json` prints it. `plan` only on a dry run.

    `seconds`: by stage of the run; `work`: of all workers together, by what they went to.
    """

    status: str
    run_id: str
    job: str
    date: str | None
    rows_read: int = 0
    rows_scored: int = 0
    rows_quarantined: int = 0
    model: Mapping[str, Any] | None = None
    input: Mapping[str, Any] | None = None
    sinks: tuple[Mapping[str, Any], ...] = ()
    checks: Mapping[str, Any] | None = None
    seconds: Mapping[str, float] | None = None
    work: Mapping[str, float] | None = None
    carrier: str | None = None
    engine: str | None = None
    message: str | None = None
    plan: Mapping[str, Any] | None = None

    def _repr_html_(self) -> str:
        """The result as notebooks show it."""
        model = ledger.title_of(self.model) if self.model else ""
        counted = f"read {self.rows_read:,} = scored {self.rows_scored:,} + quarantined {self.rows_quarantined:,}"
        facts = {
            "job": " ".join(filter(None, (self.job, self.date))),
            "run": self.run_id,
            "rows": counted,
            "model": model,
            "tables": ", ".join(map(at_version, self.sinks)),
            "message": self.message or "",
        }
        rows = "".join(f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in facts.items() if text)
        return f"<b>{escape(self.status.upper())}</b><table>{rows}</table>"


def at_version(table: Mapping[str, Any]) -> str:
    """A table of a result, for people: its name and version, if it has one, such as none before a first run."""
    return f"{table['table']} v{table['version']}" if table["version"] is not None else str(table["table"])


def result_of(plan: Plan, request: Request, ended: str, seconds: Mapping[str, float]) -> Result:
    """The result of a run that ends with its plan: unchanged, or a dry run."""
    tables = [
        {
            "type": s.target.type,
            "table": sinks.of(s.target.type).display_name(s.target.uri),
            "version": s.state.version,
            "kind": "sink",
        }
        for s in plan.sinks
    ]
    return Result(
        status=ended,
        run_id=plan.run_id,
        job=plan.job.job,
        date=plan.job.date,
        model=plan.model.describe(),
        input=plan.pinned.describe(),
        sinks=tuple(tables),
        seconds=seconds,
        carrier=plan.carrier,
        engine=request.engine,
        message=plan.model.notice or None,
    )


def from_record(record: Mapping[str, Any]) -> Result:
    """A run's record as a result."""
    return Result(
        status=record["status"],
        run_id=record["run_id"],
        job=record["job"],
        date=record["date"],
        rows_read=record["rows_read"],
        rows_scored=record["rows_scored"],
        rows_quarantined=record["rows_quarantined"],
        model=ledger.model_of(record),
        input={"table": record["input_table"], "version": record["input_version"]}
        | ({"query_id": record["input_query"]} if record.get("input_query") else {}),
        sinks=tuple(record["sinks"]),
        checks=record["checks"],
        seconds=record["seconds"],
        work=record.get("work"),
        carrier=record["carrier"],
        engine=record["engine"],
        message=record["message"],
    )


def blocked_message(plan: Plan, staging: Staging, tally: Tally, verdict: Verdict) -> str:
    """What stands against publishing, some of the rows that were set aside, and what would allow more."""
    lines = [problem.message for problem in verdict.problems]
    if tally.quarantined_files:
        path = tally.quarantined_files[0]["path"]
        for row in files.head(staging.quarantine_root, path, [*plan.job.keys, REASONS], 3):
            lines.append("    " + ", ".join(f"{k}={row[k]}" for k in plan.job.keys) + f": {in_words(row[REASONS])}")
    if required := [column for (rule, column) in tally.reasons if rule == "required" and verdict.budget.is_over]:
        lines.append(
            f"The model's signature requires {', '.join(sorted(required))}, where the table has nulls: fill them in "
            "there, or log the model with a signature that has them optional"
        )
    there = any(sink.existing is not None for sink in plan.sinks)
    lines.append(f"Nothing was published{'; the last good scores stay' if there else ''}.")
    if tally.quarantined_files:
        lines[-1] += f" The rows are in {sinks.of(plan.quarantine.type).display_name(plan.quarantine.uri)}."
    if remedies := dict.fromkeys(problem.remedy for problem in verdict.problems if problem.remedy):
        lines[-1] += f" To allow more: {'; '.join(remedies)}"
    return "\n".join(lines)
