"""What was published to a table in Snowflake: its ledger, the table `T_RUNS` beside it, and whose rows live in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse.connectors.snowflake import Absent, Session, Table, equality_condition, quote
from lakehouse.connectors.snowflake import session as open_session
from lakehouse.schemas import JOB, RUN_ID
from lakehouse.sinks.target import QUARANTINE, Target, overtaken_error, refuse_foreign

Owners = Mapping[tuple[str | None, str | None], int]
"""(job, run) → rows."""
RUNS = "_RUNS"
"""What is appended to a table's name for that of its ledger."""
ROLLBACK = "rollback"
"""How the ledger says that a run put rows of an earlier generation back."""


@dataclass(frozen=True)
class Entry:
    """A run that was published. `rows`: those that its generation holds; `goes_on`: the runs that it added rows to.

    Of a rollback `goes_on` are the runs whose rows it put back. `at`: when it was entered, just before its commit and
    after that of the generation before.
    """

    run: str
    generation: int
    fingerprint: str
    rows: int
    goes_on: tuple[str, ...]
    write: str
    at: datetime

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs whose rows make up the generation."""
        return (self.run, *self.goes_on)


@dataclass(frozen=True)
class Ledger:
    """What was published under one identity, in order."""

    entries: tuple[Entry, ...] = ()

    @property
    def last(self) -> Entry | None:
        return self.entries[-1] if self.entries else None

    def has(self, run: str) -> bool:
        """Whether this run is published."""
        return any(entry.run == run for entry in self.entries)


def rows_of_job(table: Table, columns: Sequence[str], job: str, order: str) -> list[tuple[Any, ...]]:
    """These columns of what the table's ledger has of a job, in this order; nothing where there is no ledger yet."""
    with open_session(table.connection) as session:
        try:
            return session.run(
                f"SELECT {', '.join(columns)} FROM {table.beside(RUNS).sql} WHERE JOB = %s ORDER BY {order}", job
            )
        except Absent:
            return []


def ledger(session: Session, table: Table, identity: str) -> Ledger:
    """What the table's ledger has under an identity; nothing where there is no ledger yet."""
    try:
        rows = session.run(
            "SELECT RUN_ID, GENERATION, FINGERPRINT, ROW_COUNT, GOES_ON, WRITE_MODE, PUBLISHED_AT "
            f"FROM {table.beside(RUNS).sql} WHERE IDENTITY = %s ORDER BY GENERATION, PUBLISHED_AT",
            identity,
        )
    except Absent:
        return Ledger()
    return Ledger(tuple(Entry(r, int(g), f, int(n), tuple(json.loads(on)), w, at) for r, g, f, n, on, w, at in rows))


def identity_of(session: Session, table: Table, run: str) -> str | None:
    """The identity under which a run was published, None where the table's ledger doesn't have it."""
    try:
        rows = session.run(f"SELECT IDENTITY FROM {table.beside(RUNS).sql} WHERE RUN_ID = %s", run)
    except Absent:
        return None
    return str(rows[0][0]) if rows else None


def owners(session: Session, target: Target, stored: Mapping[str, str], at: str = "") -> Owners:
    """Whose rows live in the target's slice, or did; `at`: as Time Travel has it (`former`)."""
    job, run = quote(stored[JOB]), quote(stored[RUN_ID])
    rows = session.run(
        f"SELECT {job}, {run}, COUNT(*) FROM {Table.parse(target.uri).sql}{at}{slice_condition(target, stored)} "
        "GROUP BY 1, 2"
    )
    return {(j, r): int(count) for j, r, count in rows}


def require_turn(session: Session, target: Target, stored: Mapping[str, str], known: Ledger) -> None:
    """Raise Overtaken where another run published since the plan, Blocked where rows of another job would go."""
    if target.kind == QUARANTINE:
        return
    name, generation = Table.parse(target.uri).display_name, known.last.generation if known.last else 0
    if generation != target.generation - 1:
        raise overtaken_error(target, name, generation)
    refuse_foreign(target, name, owners(session, target, stored) if target.write != "append" else {})


def slice_condition(target: Target, stored: Mapping[str, str]) -> str:
    """The condition that a row is in the target's slice; none for the whole table."""
    same = equality_condition({stored[c]: value for c, value in target.slice.items()})
    return f" WHERE {same}" if same else ""
