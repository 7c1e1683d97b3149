"""How a table in Snowflake stands to what a run would do to it, before anything is scored. Commits nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from lakehouse.conditions import Comparison
from lakehouse.connectors import snowflake
from lakehouse.connectors.snowflake import Session, Table
from lakehouse.connectors.snowflake.types import can_hold, name_of, read_type, written_type
from lakehouse.errors import Blocked, ConfigError
from lakehouse.schemas import JOB, LINEAGE, REASONS, RUN_ID
from lakehouse.scoring.score import Constraint
from lakehouse.sinks import slices
from lakehouse.sinks.snowflake import history as published_to
from lakehouse.sinks.snowflake.history import ROLLBACK, Ledger, Owners
from lakehouse.sinks.snowflake.positions import require_at
from lakehouse.sinks.target import (
    InspectedTarget,
    QuarantineFit,
    SliceRequest,
    SliceState,
    Target,
    UnfitForQuarantine,
    next_generation,
    not_replayable_error,
    refuse_foreign,
    replay_target,
    slice_name,
    undone_error,
)


def inspect_table(target: Target, types: Mapping[str, pa.DataType] | None, asked: SliceRequest) -> InspectedTarget:
    """How the table stands to what a run would do to it; `lakehouse.sinks.SinkModule` says what is given and raised."""
    table = Table.parse(target.uri)
    with snowflake.session(table.connection) as session:
        columns = session.columns(table)
        types = types or slices.slice_types(asked.slice, _slice_schema(columns or (), list(asked.slice)))
        target = replace(target, slice=slices.slice_texts(asked.slice, types))
        ledger = published_to.ledger(session, table, target.identity)
        owners = _owners(session, target, columns) if columns is not None else {}
        require_at(session, target)
    if asked.replays is not None:
        target, state = _replay_state(ledger, owners, target, asked.replays)
    elif target.range is not None:
        state = SliceState(0, not target.range.until, 0)
        target = replace(target, generation=0 if state.same else 1)
    else:
        state = _slice_state(ledger, owners, target, asked.rescore)
        target = replace(target, generation=next_generation(target, state, table.display_name, asked))
    if columns is None:
        state = replace(state, version=None)
    return InspectedTarget(target, state, types, tuple(_constraints(columns or (), target)), (), columns)


def _slice_schema(columns: Sequence[Any], names: list[str]) -> pa.Schema:
    """The slice's columns as the table has them."""
    spelled = {snowflake.spelling_of(c.name, names): read_type(c) for c in columns}
    return pa.schema([(name, spelled[name]) for name in names if spelled.get(name) is not None])


def _constraints(columns: Sequence[Any], target: Target) -> list[Constraint]:
    """NOT NULL, which every staged row is held against; the slice has a value, and the lineage too."""
    names = [snowflake.spelling_of(c.name, []) for c in columns if c.is_nullable is False]
    filled = {snowflake.fold(name) for name in (*target.slice, *LINEAGE.names)}
    return [
        Constraint("not_null", name, (Comparison(name, "not_null"),), f"{name} IS NOT NULL")
        for name in names
        if snowflake.fold(name) not in filled
    ]


def _owners(session: Session, target: Target, columns: Sequence[Any]) -> Owners:
    """Whose rows live in the slice; nobody's where the table has no columns that say."""
    stored = _columns_by_stored_name([*target.slice, JOB, RUN_ID], columns)
    if stored is None:
        ((rows,),) = session.run(f"SELECT COUNT(*) FROM {Table.parse(target.uri).sql}")
        return {(None, None): rows} if rows else {}
    return published_to.owners(session, target, stored)


def _columns_by_stored_name(names: Sequence[str], columns: Sequence[Any]) -> dict[str, str] | None:
    """By the job's name of each column the table's own; None where one isn't there."""
    found = {name: _stored_name(name, [c.name for c in columns]) for name in names}
    return None if None in found.values() else {name: stored for name, stored in found.items() if stored is not None}


def _stored_name(name: str, there: Sequence[str]) -> str | None:
    """The table's own name of a column: as Snowflake folds it, else exactly, else the only one but for case."""
    return snowflake.stored_name((snowflake.fold(name), name), there)


def _slice_state(ledger: Ledger, owners: Owners, target: Target, rescore: bool) -> SliceState:
    """What the ledger says of this identity, and whether its last generation is this fingerprint's.

    Raises Blocked where the slice belongs to another job, or its rows were changed since they were published.
    """
    refuse_foreign(target, display_name(target.uri), owners)
    last = ledger.last
    if last is None:
        return SliceState(0, False, 0)
    same = last.fingerprint == target.fingerprint
    if same and not rescore:
        _refuse_touched(target, owners, ledger)
    undone = {e.fingerprint for e in ledger.entries if e.generation == last.generation - 1}
    if not same and not rescore and last.write == ROLLBACK and target.fingerprint in undone:
        raise undone_error(target, display_name(target.uri), last.generation)
    return SliceState(last.generation, same, last.generation)


def _replay_state(
    ledger: Ledger, owners: Owners, target: Target, record: Mapping[str, Any]
) -> tuple[Target, SliceState]:
    """What adding rows that a run had set aside does: the run's own generation goes on as the next one, once."""
    run, last = str(record["run_id"]), ledger.last
    if last is None or run not in last.runs:
        raise not_replayable_error(target, record)
    target = replace(target, fingerprint=str(record["fingerprint"]))
    if any(entry.goes_on[:1] == (run,) and entry.write != ROLLBACK for entry in ledger.entries):
        return replace(target, generation=last.generation), SliceState(last.generation, True, last.generation)
    refuse_foreign(target, display_name(target.uri), owners)
    _refuse_touched(target, owners, ledger)
    target = replay_target(target, run, last.generation, last.runs, last.rows)
    return target, SliceState(last.generation, False, last.generation)


def _refuse_touched(target: Target, owners: Owners, ledger: Ledger) -> None:
    last = ledger.last
    assert last is not None  # whoever asks has seen it
    ours = sum(rows for (_, run), rows in owners.items() if run in last.runs)
    total = sum(owners.values()) if target.write == "replace" else ours
    if not ours == last.rows == total:
        raise Blocked(
            f"{display_name(target.uri)}: {slice_name(target.slice)} was scored with this very input, model "
            "and settings, but "
            f"its rows were changed since by somebody: {total:,} rows live, {last.rows:,} were published. "
            "Use --rescore to score and publish it again"
        )


def missing_columns(standing: InspectedTarget, wanted: pa.Schema) -> tuple[pa.Field, ...] | None:
    """The columns that the table lacks, None where there is no table; ConfigError for another schema."""
    target, columns = standing.target, standing.existing
    for field in wanted:
        written_type(field.type)  # or there is no such type
    if columns is None:
        return None
    there = {c.name: c for c in columns}
    stored = {f.name: _stored_name(f.name, list(there)) for f in wanted}
    wrong = {f.name for f in wanted if (s := stored[f.name]) is not None and not can_hold(there[s], f.type)}
    if not wrong:
        return tuple(f for f in wanted if stored[f.name] is None)
    lines = [
        f"  {'!' if f.name in wrong else ' '} {f.name:<30} {_display_type(there.get(stored[f.name] or '')):<25} "
        f"{written_type(f.type)}"
        for f in wanted
    ]
    raise ConfigError(
        f"{display_name(target.uri)} has another schema than this job writes; publish to a new table, or "
        f"change the job:\n    {'column':<30} {'the table has':<25} the job writes\n" + "\n".join(lines)
    )


def fit_quarantine(target: Target, wanted: pa.Schema) -> QuarantineFit:
    """How the quarantine table takes rows of this schema, which has the slice. Raises Unfit where it can't."""
    for field in wanted:
        written_type(field.type)  # or there is no such type
    columns, name = _of_quarantine(target.uri), display_name(target.uri)
    if columns is None:
        return QuarantineFit(wanted, None)
    there = {c.name: c for c in columns}
    stored = {f.name: _stored_name(f.name, list(there)) for f in wanted}
    if required := [c.name for c in columns if c.is_nullable is False]:
        raise UnfitForQuarantine(f"{name} can't take every row: it has {', '.join(required)} NOT NULL")
    wrong = [
        f"{f.name} is {_display_type(there[s])} there and {written_type(f.type)} here"
        for f in wanted
        if (s := stored[f.name]) is not None and not can_hold(there[s], f.type)
    ]
    if wrong:
        raise UnfitForQuarantine(f"{name} can't hold these rows ({', '.join(wrong)})")
    return QuarantineFit(wanted, tuple(f for f in wanted if stored[f.name] is None))


def has_quarantine(uri: str) -> bool | None:
    """Whether a quarantine table is there; None where nothing is."""
    try:
        return None if _of_quarantine(uri) is None else True
    except UnfitForQuarantine:
        return False


def _of_quarantine(uri: str) -> list[Any] | None:
    """The columns of a quarantine table, None where nothing is there. Raises Unfit for anything else."""
    table = Table.parse(uri)
    with snowflake.session(table.connection) as session:
        try:
            columns = session.columns(table)
        except ConfigError as error:  # such as a view over what is gone
            raise UnfitForQuarantine(f"{table.display_name} can't be read: {error}") from error
        if columns is None:
            return None
        kinds = session.run(
            f"SELECT TABLE_TYPE FROM {snowflake.quote(table.database)}.INFORMATION_SCHEMA.TABLES "
            "WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
            table.schema,
            table.name,
        )
    if _columns_by_stored_name([REASONS, RUN_ID, JOB], columns) is None or [kind for (kind,) in kinds] != [
        "BASE TABLE"
    ]:
        raise UnfitForQuarantine(f"{table.display_name} is no quarantine table")
    return columns


def _display_type(column: Any) -> str:
    if column is None:
        return "-"
    return f"NUMBER({column.precision},{column.scale})" if name_of(column) == "FIXED" else name_of(column)


def display_name(uri: str) -> str:
    """The table as people write it."""
    return Table.parse(uri).display_name


def generation(uri: str, identity: str) -> tuple[int, int | None]:
    """The generation that is published under this identity, 0 for none, twice."""
    table = Table.parse(uri)
    with snowflake.session(table.connection) as session:
        last = published_to.ledger(session, table, identity).last
    return (last.generation, last.generation) if last else (0, None)
