"""The one transaction in which a run's files become rows of a table in Snowflake, and the ledger it is written in.

Every DDL comes before BEGIN, for Snowflake commits at each. The first statement within takes a lock, the row of the
ledger without a run; whoever waits for it then sees what the other one committed.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.connectors import delta, snowflake
from lakehouse.connectors.snowflake import Absent, Locked, Session, Table, Unknown, quote, text_literal
from lakehouse.connectors.snowflake.types import declare_column, written_type
from lakehouse.errors import LakehouseError, Unavailable
from lakehouse.schemas import RUN_ID
from lakehouse.sinks.snowflake.former import restore
from lakehouse.sinks.snowflake.history import ROLLBACK, RUNS, ledger, require_turn, slice_condition
from lakehouse.sinks.snowflake.positions import DECLARED, ensure_column, entered, require_at
from lakehouse.sinks.snowflake.upload import upload
from lakehouse.sinks.target import QUARANTINE, Target

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ATTEMPTS = 5
"""Tries of the transaction while no answer comes."""
WAITS = 2
"""Tries while another one holds the lock; each waits for minutes, as the session's LOCK_TIMEOUT says."""
MOST_FILES = 1000
"""Snowflake takes no more names in one COPY."""
STAGE, LOAD = "_STAGE", "_LOAD_"
_TAKES = re.compile("[0-9A-F]{32}_[0-9A-F]{8}")
"""The end of the name of a table that takes a run's rows: the run, and the attempt."""
_STAGED = re.compile("/run-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/")
_COLUMNS = (
    "RUN_ID VARCHAR NOT NULL", "JOB VARCHAR", "IDENTITY VARCHAR", "GENERATION NUMBER(19,0)", "FINGERPRINT VARCHAR",
    "ROW_COUNT NUMBER(19,0)", "SLICE VARCHAR", "WRITE_MODE VARCHAR", "MODEL_NAME VARCHAR", "MODEL_VERSION VARCHAR",
    "MODEL_DIGEST VARCHAR", "INPUT_TABLE VARCHAR", "INPUT_VERSION NUMBER(19,0)", "GOES_ON VARCHAR",
    "PUBLISHED_AT TIMESTAMP_LTZ(6)", "FENCE NUMBER(19,0)", DECLARED,
)  # fmt: skip
_FORMAT = "FILE_FORMAT = (TYPE = PARQUET USE_VECTORIZED_SCANNER = TRUE USE_LOGICAL_TYPE = TRUE BINARY_AS_TEXT = FALSE)"
"""The vectorised scanner gives maps as objects and keeps nulls within them; the other one doesn't."""


def load(target: Target, run: str, stored: Mapping[str, str], spark: SparkSession | None) -> int:
    """Upload and load the run's files unless the ledger has the run; the generation then.

    Where no answer came, or another transaction held the lock, all is looked at again in another session: the ledger
    knows what became of a COMMIT.
    """
    table, uploaded, taken = Table.parse(target.uri), False, list[Table]()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with snowflake.session(table.connection) as session:
                if not ledger(session, table, target.identity).has(run):
                    _prepare(session, table, target)
                    if not target.restores:
                        taken.append(_make_room(session, table, target, run))
                    if not uploaded and not target.restores:
                        upload(session, table.beside(STAGE), run, target, spark)
                        uploaded = True
                    _transact(session, target, run, stored, taken)
                if not target.restores:
                    _tidy(session, table, run, taken)
            return target.generation
        except (Locked, Unknown) as error:
            if attempt == (WAITS if isinstance(error, Locked) else ATTEMPTS):
                raise Unavailable(f"{table.display_name}: {error} ({attempt} times in a row)") from error
            delta.pause(attempt)
    raise AssertionError("unreachable")


def _prepare(session: Session, table: Table, target: Target) -> None:
    """Make what every transaction needs: the ledger and its lock."""
    runs = table.beside(RUNS).sql
    session.run(f"CREATE TABLE IF NOT EXISTS {runs} ({', '.join(_COLUMNS)})")
    if target.range is not None:
        ensure_column(session, table)
    session.run(
        f"INSERT INTO {runs} (RUN_ID, GENERATION, FENCE) SELECT '', 0, 0 "
        f"WHERE NOT EXISTS (SELECT 1 FROM {runs} WHERE RUN_ID = '')"
    )


def _make_room(session: Session, table: Table, target: Target, run: str) -> Table:
    """Make what a load needs: the stage, and an empty table that takes the rows."""
    session.run(f"CREATE STAGE IF NOT EXISTS {table.beside(STAGE).sql}")
    columns = ", ".join(map(declare_column, _in_files(target)))
    taken = table.beside(f"{LOAD}{run}_{uuid.uuid4().hex[:8]}".replace("-", "").upper())  # another process may finish
    session.run(f"CREATE TRANSIENT TABLE {taken.sql} ({columns})")
    return taken


def _transact(session: Session, target: Target, run: str, stored: Mapping[str, str], taken: Sequence[Table]) -> None:
    """The transaction; the last table taken gets the rows. Raises what stands against it; then nothing has happened."""
    table = Table.parse(target.uri)
    session.run("BEGIN")
    try:
        session.run(f"UPDATE {table.beside(RUNS).sql} SET FENCE = FENCE + 1 WHERE RUN_ID = ''")
        known = ledger(session, table, target.identity)
        if known.has(run):
            session.run("ROLLBACK")
            return
        require_turn(session, target, stored, known)
        require_at(session, target)
        if target.restores:
            restore(session, target, stored, known)
        else:
            _copy(session, table, target, run, taken[-1])
            _write(session, table, target, stored, taken[-1])
        _enter(session, table, target, run)
        session.run("COMMIT")
    except (Locked, Unknown):
        raise  # the session is closed, and with it the transaction
    except LakehouseError:
        with suppress(LakehouseError):  # the session is closed anyway
            session.run("ROLLBACK")
        _tidy(session, table, run, taken)
        raise


def _copy(session: Session, table: Table, target: Target, run: str, taken: Table) -> None:
    """Load the very files of the manifest, each once, and count their rows."""
    names, loaded = [f.path.rsplit("/", 1)[-1] for f in target.files], 0
    for start in range(0, len(names), MOST_FILES):
        files = ", ".join(map(text_literal, names[start : start + MOST_FILES]))
        done = session.run(
            f"COPY INTO {taken.sql} FROM {table.beside(STAGE).stage_path(run)} FILES = ({files}) "
            f"{_FORMAT} MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE ON_ERROR = ABORT_STATEMENT"
        )
        loaded += sum(int(row[3]) for row in done)
    if loaded != target.rows:
        raise Unavailable(f"{table.display_name}: {loaded:,} rows were loaded where the manifest has {target.rows:,}")


def _write(session: Session, table: Table, target: Target, stored: Mapping[str, str], taken: Table) -> None:
    """Take away what the run replaces, and write its rows."""
    source, fields = taken.sql, _in_files(target)
    names = [quote(stored[f.name]) for f in fields] + [quote(stored[c]) for c in target.slice]
    values = [f"s.{quote(snowflake.fold(f.name))}" for f in fields] + list(_constants(target).values())
    if target.write == "merge":
        same = [f"t.{quote(stored[k])} = s.{quote(snowflake.fold(k))}" for k in target.keys]
        same += [f"t.{quote(stored[c])} = {value}" for c, value in _constants(target).items()]
        changed = ", ".join(f"t.{n} = {v}" for n, v in zip(names, values, strict=True))
        counts = session.run(
            f"MERGE INTO {table.sql} t USING {source} s ON {' AND '.join(same)} "
            f"WHEN MATCHED THEN UPDATE SET {changed} "
            f"WHEN NOT MATCHED THEN INSERT ({', '.join(names)}) VALUES ({', '.join(values)})"
        )
    else:
        if target.write == "replace":
            session.run(f"DELETE FROM {table.sql}{slice_condition(target, stored)}")
        elif target.kind != QUARANTINE and target.generation > 1 and not target.goes_on:
            session.run(
                f"DELETE FROM {table.sql} WHERE {quote(stored[RUN_ID])} IN "
                f"(SELECT RUN_ID FROM {table.beside(RUNS).sql} WHERE IDENTITY = {text_literal(target.identity)})"
            )
        counts = session.run(f"INSERT INTO {table.sql} ({', '.join(names)}) SELECT {', '.join(values)} FROM {source} s")
    written = sum(int(count) for count in counts[0])
    if written != target.rows:
        raise Unavailable(f"{table.display_name}: {written:,} rows were written where the manifest has {target.rows:,}")


def _enter(session: Session, table: Table, target: Target, run: str) -> None:
    said = target.metadata
    values = {
        "RUN_ID": run,
        "JOB": target.job,
        "IDENTITY": target.identity,
        "GENERATION": target.generation,
        "FINGERPRINT": target.fingerprint,
        "ROW_COUNT": target.held + target.rows,
        "SLICE": json.dumps(dict(target.slice), sort_keys=True),
        "WRITE_MODE": ROLLBACK if target.restores else target.write,
        "MODEL_NAME": said["model"],
        "MODEL_VERSION": said["model_version"],
        "MODEL_DIGEST": said["model_digest"],
        "INPUT_TABLE": said["input"],
        "INPUT_VERSION": said["input_version"],
        "GOES_ON": json.dumps(list(target.restores or target.goes_on)),
        **entered(session, target),
    }
    places = ", ".join(["%s"] * len(values))
    session.run(
        f"INSERT INTO {table.beside(RUNS).sql} ({', '.join(values)}, PUBLISHED_AT) "
        f"SELECT {places}, CURRENT_TIMESTAMP()",
        *values.values(),
    )


def _tidy(session: Session, table: Table, run: str, taken: Sequence[Table]) -> None:
    """Remove what only the run needed. What a fault leaves here, `lakehouse sweep` finds."""
    with suppress(LakehouseError):
        _remove(session, table, run, taken)


def _remove(session: Session, table: Table, run: str, taken: Sequence[Table]) -> None:
    for one in taken:
        session.run(f"DROP TABLE IF EXISTS {one.sql}")
    session.run(f"REMOVE {table.beside(STAGE).stage_path(run)}")


def left_over(table: Table) -> dict[str, tuple[int, int]]:
    """By run, how many files on the table's stage and tables beside it are there, and the files' bytes."""
    found: dict[str, tuple[int, int]] = {}
    with snowflake.session(table.connection) as session:
        try:
            listed = session.run(f"LIST {table.beside(STAGE).stage_path()}")
        except Absent:
            listed = []  # nothing was ever uploaded
        tables = _load_tables(session, table)
    sized = [(ours[1], int(size)) for name, size, *_ in listed if (ours := _STAGED.search(str(name)))]
    sized += [(str(uuid.UUID(one.name.removeprefix(table.name + LOAD)[:32])), 0) for one in tables]
    for run, size in sized:
        files, total = found.get(run, (0, 0))
        found[run] = (files + 1, total + size)
    return found


def remove_left_over(table: Table, run: str) -> None:
    """Remove what `left_over` lists of a run."""
    with snowflake.session(table.connection) as session:
        _remove(session, table, run, _load_tables(session, table, run))


def _load_tables(session: Session, table: Table, run: str = "") -> list[Table]:
    """The tables that took a run's rows, of all runs where none is named; a person's may begin like them."""
    head = table.name + LOAD + run.replace("-", "").upper()
    rows = session.run(
        f"SELECT TABLE_NAME FROM {quote(table.database)}.INFORMATION_SCHEMA.TABLES "
        "WHERE TABLE_SCHEMA = %s AND STARTSWITH(TABLE_NAME, %s)",
        table.schema,
        head,
    )
    names = [str(name) for (name,) in rows]
    return [replace(table, name=n) for n in names if _TAKES.fullmatch(n.removeprefix(table.name + LOAD))]


def _in_files(target: Target) -> Sequence[pa.Field]:
    """The columns that the staged files have; the slice isn't among them."""
    return [field for field in target.schema if field.name not in target.slice]


def _constants(target: Target) -> dict[str, str]:
    """The slice's values in SQL."""
    schema = target.schema
    return {c: f"{text_literal(value)}::{written_type(schema.field(c).type)}" for c, value in target.slice.items()}
