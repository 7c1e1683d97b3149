"""How far runs have read an input that has no versions, by the ledger beside a table in Snowflake.

A run's row has in `POSITIONS` all that was known then, written in the very transaction that writes the run's rows.
Which row is the newest tells `FENCE`, the number of that transaction: each counts it up under its lock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from lakehouse.connectors import snowflake
from lakehouse.connectors.snowflake import Session, Table
from lakehouse.sinks.snowflake.history import RUNS
from lakehouse.sinks.target import Target, require_positions

COLUMN = "POSITIONS"
DECLARED = f"{COLUMN} VARCHAR"


def positions(uri: str, job: str) -> Mapping[str, int]:
    """By the name of each part of the input where the job's next run begins; none where nothing is published yet."""
    table = Table.parse(uri)
    with snowflake.session(table.connection) as session:
        return _positions(session, table, job)


def ensure_column(session: Session, table: Table) -> None:
    """Give the ledger the column where an older program has made it; DDL, which commits."""
    if not _has_column(session, table):
        session.run(f"ALTER TABLE {table.beside(RUNS).sql} ADD COLUMN IF NOT EXISTS {DECLARED}")


def require_at(session: Session, target: Target) -> None:
    """Raise Overtaken unless the ledger remembers just what the run has begun with, where it reads in ranges."""
    if target.range is not None:
        table = Table.parse(target.uri)
        require_positions(target, table.display_name, _positions(session, table, target.job))


def entered(session: Session, target: Target) -> dict[str, object]:
    """What a run's row says of its range, within the transaction that has the lock; nothing for another input."""
    if target.range is None:
        return {}
    table = Table.parse(target.uri)
    known = {**_positions(session, table, target.job), **target.range.until}
    ((fence,),) = session.run(f"SELECT FENCE FROM {table.beside(RUNS).sql} WHERE RUN_ID = ''")
    return {COLUMN: json.dumps(known, sort_keys=True), "FENCE": int(fence)}


def _has_column(session: Session, table: Table) -> bool:
    return any(column.name == COLUMN for column in session.columns(table.beside(RUNS)) or ())


def _positions(session: Session, table: Table, job: str) -> dict[str, int]:
    if not _has_column(session, table):
        return {}
    rows = session.run(
        f"SELECT {COLUMN} FROM {table.beside(RUNS).sql} WHERE JOB = %s AND {COLUMN} IS NOT NULL "
        "ORDER BY FENCE DESC LIMIT 1",
        job,
    )
    return {str(name): int(at) for name, at in json.loads(rows[0][0]).items()} if rows else {}
