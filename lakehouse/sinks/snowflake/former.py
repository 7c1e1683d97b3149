"""What a slice of a table in Snowflake held in an earlier generation, put back from Time Travel.

A generation is entered into the ledger just before it is committed, under a lock that it has held since the generation
before was committed. At the time of that entry the one before was live: no other point in time is as sure, for nobody
notes when a commit is made. That it is what was published is counted, by run, before it is put back.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from lakehouse.connectors import snowflake
from lakehouse.connectors.snowflake import PastRetention, Session, Table, quote, text_literal
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.schemas import JOB, RUN_ID
from lakehouse.sinks.snowflake.history import Entry, Ledger, ledger, owners, slice_condition
from lakehouse.sinks.target import FormerRows, StagedFilesMissing, Target, slice_name


class _Gone(Exception):
    """What would be put back is kept no longer, or is no more what was published."""


def former(target: Target, version: int) -> FormerRows:
    """The rows of a generation, which `restore` puts back.

    Raises ConfigError where they are kept no longer, or were changed before the next generation was published.
    """
    table = Table.parse(target.uri)
    with snowflake.session(table.connection) as session:
        known = ledger(session, table, target.identity)
        entry = next((e for e in known.entries if e.generation == version), None)
        if entry is None:
            raise ConfigError(f"{table.display_name}: its ledger has no generation {version} of {target.identity}")
        names = [*target.slice, JOB, RUN_ID]
        stored = {name: _stored(name, session, table) for name in names}
        try:
            _place(session, target, stored, known, entry)
        except _Gone as error:
            raise ConfigError(str(error)) from error
    schema = pa.schema([(name, pa.string()) for name in names])
    return FormerRows((), entry.rows, entry.runs, schema)


def _stored(name: str, session: Session, table: Table) -> str:
    there = [c.name for c in session.columns(table) or ()]
    found = snowflake.stored_name((snowflake.fold(name), name), there)
    if found is None:
        raise ConfigError(f"{table.display_name} has no column {name!r}")
    return found


def require_there(session: Session, target: Target, stored: Mapping[str, str], known: Ledger) -> str:
    """The words of Time Travel that give what the target restores, once it was counted.

    Raises StagedFilesMissing where it is kept no longer, or isn't what was published.
    """
    entry = next(e for e in known.entries if e.run == target.restores[0])
    try:
        return _place(session, target, stored, known, entry)
    except _Gone as error:
        raise StagedFilesMissing(str(error)) from error


def _place(session: Session, target: Target, stored: Mapping[str, str], known: Ledger, entry: Entry) -> str:
    """The words of Time Travel that give a generation. Raises _Gone where it is kept no longer, or is another."""
    table = Table.parse(target.uri)
    then = next_after(known, entry.generation)
    what = f"{table.display_name}: generation {entry.generation} of {slice_name(target.slice)}"
    if then is None:
        raise _Gone(f"{what} is the newest: there is nothing to put back")
    at = time_travel(then)
    try:
        alive = owners(session, target, stored, at)
    except PastRetention as error:
        raise _Gone(f"{past_retention(what, then)}: score the date again") from error
    ours = sum(rows for (_, run), rows in alive.items() if run in entry.runs)
    if not ours == sum(alive.values()) == entry.rows:
        raise _Gone(
            f"{what} had {entry.rows:,} rows when it was published, and {sum(alive.values()):,} when it was replaced: "
            "somebody changed them in between: score the date again"
        )
    return at


def time_travel(entry: Entry | None) -> str:
    """The words of Time Travel that give what was live when a generation was about to be committed; none for now."""
    return f" AT(TIMESTAMP => {text_literal(entry.at.isoformat(sep=' '))}::TIMESTAMP_TZ)" if entry else ""


def past_retention(what: str, then: Entry) -> str:
    """That what a generation has replaced is kept no longer."""
    return (
        f"{what} was replaced on {then.at:%Y-%m-%d %H:%M} UTC, which is past the table's Time Travel "
        "(DATA_RETENTION_TIME_IN_DAYS)"
    )


def next_after(known: Ledger, generation: int) -> Entry | None:
    """What replaced a generation, None where nothing did."""
    return min((e for e in known.entries if e.generation > generation), key=_generation, default=None)


def _generation(entry: Entry) -> int:
    return entry.generation


def restore(session: Session, target: Target, stored: Mapping[str, str], known: Ledger) -> None:
    """Replace the slice's rows by those of the generation that the target restores, in the transaction that is open."""
    table, where = Table.parse(target.uri), slice_condition(target, stored)
    at = require_there(session, target, stored, known)
    names = ", ".join(quote(column.name) for column in session.columns(table) or ())
    session.run(f"DELETE FROM {table.sql}{where}")
    counts = session.run(f"INSERT INTO {table.sql} ({names}) SELECT {names} FROM {table.sql}{at}{where}")
    written = sum(int(count) for count in counts[0])
    if written != target.rows:
        raise Unavailable(f"{table.display_name}: {written:,} rows were put back where {target.rows:,} were published")
