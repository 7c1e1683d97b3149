"""Which row of which table a key means: of the run that is named, or the one that is live; scored, or set aside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import sinks
from lakehouse.errors import ConfigError, LakehouseError
from lakehouse.operations.receipts import rows
from lakehouse.operations.receipts.inputs import Basis, basis_of, pin_input
from lakehouse.operations.receipts.rows import Found, Key
from lakehouse.planning import quarantine
from lakehouse.planning.naming import identity_of
from lakehouse.runs import ledger
from lakehouse.runs.restoring import restored_run
from lakehouse.schemas import RUN_ID, SCORED_AT

if TYPE_CHECKING:
    from lakehouse.config import Job

SCORED, ASIDE = "scored", "quarantined"


@dataclass(frozen=True)
class Place:
    """Where a row was found: in the scored table or in quarantine, of which run, live or not."""

    found: Found
    status: str
    live: bool
    run: str
    table: str
    version: int | None


def place_of_run(job: Job, schema: pa.Schema, key: Key, record: Mapping[str, Any]) -> Place:
    """Where a run put the row: in the table, as it is now or was when the run had published, or aside."""
    run, looked, table = str(record["run_id"]), list[str](), rows.name_of(rows.scored_sink(job))
    if record["status"] == "published" and rows.version_of(job, record) is not None:
        owner, (version, live) = owner_of(record), stands_at(job, schema, record)
        found = rows.scored(job, schema, key, owner, version)
        if found:
            return Place(_last(found), SCORED, live, owner, table, version)
        looked.append(f"{table}{'' if version is None else f' v{version}'} (rows of run {owner})")
    else:
        looked.append(f"{table}: run {run} published nothing there ({record['status']})")
    return _aside(job, key, [record], looked)


def stands_at(job: Job, schema: pa.Schema, record: Mapping[str, Any]) -> tuple[int | None, bool]:
    """At which version a run's rows are read, None for the newest, and whether they are live.

    The newest where any of them is in it, so that what a person has changed since is seen; of an upsert, of which later
    runs replace single rows, only while no other run has followed. Raises ConfigError where the run published nothing.
    """
    version = rows.version_of(job, record)
    if version is None:
        raise ConfigError(f"run {record['run_id']} published nothing: it is on record as {record['status']}")
    sink = rows.scored_sink(job)
    module, texts = sinks.of(sink.type), rows.texts_of_slice(job, schema)
    parts = module.rows_at(sink, texts, [RUN_ID], None, {RUN_ID: owner_of(record)})
    live = next(parts, None) is not None
    if sink.write == "merge" and module.generation(module.uri_of(sink), record["identity"])[0] != record["generation"]:
        return version, live
    return (None if live else version), live


def is_followed(job: Job, record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a run of this program was published after it that replaced its rows, so that they need not be there.

    By the records, and by the generation of the table, which knows of runs that were never recorded. A replay adds rows
    to a run's, and a rollback puts them back.
    """
    mine = [r for r in records if r["identity"] == record["identity"] and r["status"] == "published"]
    aside = {rows.name_of(table) for table in quarantine.tables(job)}
    last = [r for r in mine if r["input_table"] not in aside or r["run_id"] == record["run_id"]]
    over, sink = ledger.superseded_runs(last), rows.scored_sink(job)
    module = sinks.of(sink.type)
    if module.generation(module.uri_of(sink), record["identity"])[0] > max((r["generation"] for r in mine), default=0):
        return True
    return owner_of(record) not in {owner_of(r) for r in last if r["run_id"] not in over}


def changes_by_others(
    job: Job, schema: pa.Schema, record: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> list[str]:
    """In words what others than this program did to a run's live rows since these were last published, if that is told.

    Which may have been by a rollback.
    """
    sink, texts = rows.scored_sink(job), rows.texts_of_slice(job, schema)
    mine = [r for r in records if r["identity"] == record["identity"] and r["status"] == "published"]
    again = [r for r in mine if owner_of(r) == owner_of(record)]
    last = max(again, key=lambda r: r["generation"], default=record)
    return list(sinks.of(sink.type).changed_by_others(sink, texts, str(last["run_id"])) or ())


def owner_of(record: Mapping[str, Any]) -> str:
    """The run whose rows a run published: its own, or those that a rollback put back."""
    return restored_run(record) or str(record["run_id"])


def live_place(job: Job, schema: pa.Schema, key: Key, records: Sequence[Mapping[str, Any]]) -> Place:
    """Where the row is now; of several the newest of the job's date."""
    table, looked = rows.name_of(rows.scored_sink(job)), list[str]()
    found = rows.scored(job, schema, key, None, None)
    dates = {r["run_id"]: r["date"] for r in records}
    if found:
        ordered = sorted(found, key=lambda f: (dates.get(_text(f, RUN_ID)) == job.date, value_of(f, SCORED_AT)))
        newest = replace(ordered[-1], beside=len(found) - 1)
        return Place(newest, SCORED, True, _text(newest, RUN_ID), table, None)
    looked.append(f"{table} (the newest version)")
    mine = [r for r in records if r["identity"] == identity_of(job)]
    over = ledger.superseded_runs(mine)
    return _aside(job, key, [r for r in mine if r["run_id"] not in over], looked)


def _aside(job: Job, key: Key, runs: Sequence[Mapping[str, Any]], looked: list[str]) -> Place:
    """Where one of these runs has set the row aside. Raises ConfigError with every place that was looked through."""
    for record in runs:
        tables, found = rows.set_aside(job, key, str(record["run_id"]))
        if found:
            return Place(_last(found), ASIDE, False, str(record["run_id"]), tables, None)
        looked.append(f"quarantine {tables} (rows of run {record['run_id']})" if tables else "no quarantine table")
    for record in runs[:1]:
        looked.append(_look_in_input(job, key, basis_of(record)))
    raise rows.not_found(job, key, list(dict.fromkeys(looked)))


def _look_in_input(job: Job, key: Key, basis: Basis) -> str:
    """Whether the input has the key at all, in words."""
    try:
        read = pin_input(job, basis, job.keys)
        columns = tuple(dict.fromkeys([*job.keys, *read.pinned.where_columns]))
        there = rows.in_input(replace(rows.narrowed(read, key), columns=columns), key)
    except LakehouseError as error:
        return f"the input ({error})"
    name = f"the input {read.label}"
    where = f" (where {job.source.where})" if job.source.where else ""
    return f"{name}{where}, which has it{' in ' + there.file if there.file else ''}" if there else f"{name}{where}"


def _last(found: Sequence[Found]) -> Found:
    return replace(found[-1], beside=len(found) - 1)


def value_of(found: Found, column: str) -> Any:
    row = found.row
    return row.column(column)[0].as_py() if column in row.schema.names else None


def _text(found: Found, column: str) -> str:
    return str(value_of(found, column))
