"""Records and metrics of published runs made again from what the tables themselves remember, as far as they do.

The tables are the truth, from which ledger and metrics in the state folder follow. Only what is missing is added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from lakehouse import sinks
from lakehouse.operations import dated, retention
from lakehouse.planning import catalog, naming, quarantine
from lakehouse.planning.naming import identity_of
from lakehouse.runs import evidence, ledger
from lakehouse.runs.results import is_rollback, rolled_back
from lakehouse.sinks import RememberedRun
from lakehouse.sinks.target import COMPARISON, QUARANTINE, SINK, uri_of

if TYPE_CHECKING:
    from lakehouse.config import Job, Sink
    from lakehouse.storage import Location

UNTOLD = "how long they took, engine, carrier, checks, alias and profiles stay empty: tables don't tell these"


_COUNTED = {"generation", "rows_scored"}


@dataclass
class Reconciled:
    """The records that are added, the runs whose metrics are, and what can't be told."""

    job: str = ""
    records: list[Mapping[str, Any]] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Told:
    """What one table remembers of a run."""

    kind: str
    section: Sink
    run: RememberedRun

    def entry(self) -> dict[str, Any]:
        """The table as a record lists it."""
        table = sinks.of(self.section.type).display_name(uri_of(self.section))
        return {"type": self.section.type, "table": table, "version": self.run.version, "kind": self.kind}


def reconcile(load: dated.Load, *, dry_run: bool) -> Reconciled:
    """Add to ledger and metrics what is missing there of the job's published runs; or only say so."""
    done = Reconciled()
    for job in dated.with_tables(load):
        done.job = job.job
        with catalog.open_job(job, "reconcile") as at_places:
            _reconcile(at_places, load, done, dry_run=dry_run)
    done.notes = [*([UNTOLD] if done.records else []), *dict.fromkeys(done.notes)]
    return done


def _reconcile(job: Job, load: dated.Load, done: Reconciled, *, dry_run: bool) -> None:
    state = naming.state_of(job)
    # In this order: whoever commits has an intent, and is on record before that goes.
    remembered, passed = _remembered(job), ledger.runs_with_intents(state)
    known = ledger.runs(state, job.job)
    passed |= {str(record["run_id"]) for record in [*known, *done.records]}
    told = {run: found for run, found in remembered.items() if run not in passed}
    found = _records(job, load, told, known, done.notes)
    over = set(retention.expired(job, state, ledger.now(), [*known, *found]))
    new = [record for record in found if record["run_id"] not in over]
    done.records += new
    if not dry_run:
        for record in new:
            ledger.record(state, record)
    done.metrics += _add_metrics(job, state, [*known, *new], dry_run=dry_run)


def _remembered(job: Job) -> dict[str, list[_Told]]:
    """By run what the job's tables remember of it, in the order of a run's commits; the oldest run first."""
    tables: list[tuple[str, Sink]] = [(QUARANTINE, one) for one in quarantine.tables(job)]
    tables += [(COMPARISON, one) for one in naming.tables_beside(job)]
    found: dict[str, list[_Told]] = {}
    for kind, section in [*tables, *((SINK, one) for one in job.sinks)]:
        for run in reversed(sinks.of(section.type).remembered(section, job.job)):
            found.setdefault(run.run, []).append(_Told(kind, section, run))
    return found


def _records(
    job: Job, load: dated.Load, told: Mapping[str, list[_Told]], known: Sequence[Mapping[str, Any]], notes: list[str]
) -> list[dict[str, Any]]:
    """The records of those runs that every sink of the job remembers; of the others it is noted why there is none."""
    found: list[dict[str, Any]] = []
    for run, tables in told.items():
        scored = [one for one in tables if one.kind == SINK]
        if not scored:
            notes.append(f"run {run} set rows aside and published nothing: what stood against it isn't told; no record")
        elif len(scored) < len(job.sinks):
            where = ", ".join(one.section.table for one in scored)
            notes.append(f"run {run} is in {where} and in no other table of the job; no record")
        elif None in (scored[0].run.at, scored[0].run.identity) or _COUNTED - set(scored[0].run.columns):
            notes.append(f"run {run}: the log has dropped its commit, and nothing tells when it was; no record")
        else:
            found.append(_record(job, load, tables, scored[0].run))
    everything, made = list(known), list[dict[str, Any]]()
    for record in sorted(found, key=lambda one: one["finished_at"]):  # a rollback's may say what an earlier one's says
        made.append(_as_rollback(record, told[record["run_id"]], everything))
        everything.append(made[-1])
    return made


def _record(job: Job, load: dated.Load, tables: Sequence[_Told], told: RememberedRun) -> dict[str, Any]:
    aside = [one.run.columns.get("rows_scored") for one in tables if one.kind == QUARANTINE]
    scored, identity = told.columns["rows_scored"], str(told.identity)
    quarantined = None if None in aside else sum(map(int, filter(None, aside)))
    return {
        **dict.fromkeys(ledger.RUNS.names),
        **told.columns,
        "run_id": told.run,
        "job": job.job,
        "date": _date_of(load, identity),
        "identity": identity,
        "status": "published",
        "finished_at": max(one.run.at for one in tables if one.kind == SINK and one.run.at),
        "rows_quarantined": quarantined,
        "rows_read": None if None in (scored, quarantined) else scored + quarantined,
        "sinks": [one.entry() for one in tables],
    }


def _date_of(load: dated.Load, identity: str) -> str | None:
    """The date of a run, by the values of its identity; None where the date plays no part in it."""
    values = (part.partition("=")[2] for part in identity.partition("/")[2].split(","))
    for text in filter(_is_date, values):
        if identity_of(load(text)) == identity:
            return text
    return None


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _as_rollback(
    record: dict[str, Any], tables: Sequence[_Told], records: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The record of a rollback as the rollback itself leaves it, with what the run had whose rows it put back."""
    back = next((one.run.restores for one in tables if one.kind == SINK), None)
    if back is None:
        return record
    mine = [one for one in records if one["identity"] == record["identity"]]
    former = next((one for one in mine if one["run_id"] == back), None)
    now = next((one for one in mine if one["generation"] == record["generation"] - 1), None)
    unlike: dict[str, Any] = {"started_at": None, "alias": None, "rows_per_second": 0.0, "seconds": {}, "work": {}}
    of_former = {**former, **unlike} if former else {}
    own = {name: record[name] for name in ("run_id", "finished_at", "generation", "sinks")} if former else record
    said = rolled_back(back, now["run_id"] if now else None, record["generation"] - 1)
    return {**of_former, **own, "message": said}


def _add_metrics(job: Job, state: Location, records: Sequence[Mapping[str, Any]], *, dry_run: bool) -> Iterator[str]:
    """Add the figures of the published runs that have none; by what was kept of the run, else by the tables.

    A rollback never has any: its rows are those of the run that scored them.
    """
    there = evidence.runs_with_metrics(state, job.job)
    scored = [one for one in records if one["status"] == "published" and not is_rollback(one)]
    lacking = [one for one in scored if one["run_id"] not in there]
    counted = evidence.reasons_by_run(job, {str(one["run_id"]) for one in lacking}) if lacking else {}
    for record in lacking:
        if not dry_run:
            evidence.add_metrics(state, record, counted.get(str(record["run_id"]), []))
        yield str(record["run_id"])
