"""What records of runs say of rollbacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

PUT_BACK = "rolled back: run "
"""How the message of a rollback begins; the run whose rows are live again follows."""


def rolled_back(former: str, now: str | None, generation: int) -> str:
    """What the record of a rollback says: whose rows are live again, and instead of whose."""
    return f"{PUT_BACK}{former} again, instead of {f'run {now}' if now else f'generation {generation}'}"


def is_rollback(record: Mapping[str, Any]) -> bool:
    """Whether a run on record put former rows back."""
    return str(record.get("message") or "").startswith(PUT_BACK)


def restored_run(record: Mapping[str, Any]) -> str | None:
    """The run whose rows a rollback put back; None for another run."""
    return str(record["message"]).removeprefix(PUT_BACK).split(" ")[0] if is_rollback(record) else None


def source_of(records: Iterable[Mapping[str, Any]], record: Mapping[str, Any]) -> str:
    """The run whose rows a run published: its own, or those that a rollback put back, be it again."""
    known, seen = {str(one["run_id"]): one for one in records}, set[str]()
    run = str(record["run_id"])
    known[run] = record
    while run in known and run not in seen and (former := restored_run(known[run])) is not None:
        seen.add(run)
        run = former
    return run
