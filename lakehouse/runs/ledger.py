"""Intents and run records: what a run is about to do, written first; what it did, written last.

An intent is a small JSON file that is there from before the first commit until the run is recorded. The records
are a Delta table, `runs`, for people and SQL. Both lie under the job's state folder; the target's own log stays
the truth.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from lakehouse import formats
from lakehouse.errors import ConfigError
from lakehouse.runs import tables
from lakehouse.runs.restoring import is_rollback, source_of
from lakehouse.schemas import TIMESTAMP
from lakehouse.sinks.target import Target
from lakehouse.storage import Location, content, display_name, remove, tree, write_durably

RUNS = pa.schema(
    [
        ("run_id", pa.string()),
        ("job", pa.string()),
        ("date", pa.string()),
        ("identity", pa.string()),
        ("status", pa.string()),
        ("started_at", TIMESTAMP),
        ("finished_at", TIMESTAMP),
        ("generation", pa.int64()),
        ("rows_read", pa.int64()),
        ("rows_scored", pa.int64()),
        ("rows_quarantined", pa.int64()),
        ("rows_per_second", pa.float64()),
        ("model_name", pa.string()),
        ("model_version", pa.string()),
        ("model_digest", pa.string()),
        ("input_table", pa.string()),
        ("input_version", pa.int64()),
        ("fingerprint", pa.string()),
        ("carrier", pa.string()),
        ("engine", pa.string()),
        ("sinks", pa.string()),
        ("checks", pa.string()),
        ("seconds", pa.string()),
        ("message", pa.string()),
        ("input_query", pa.string()),  # the query's id where the input is one
        ("model_signature", pa.string()),  # SHA-256 of what the model takes and gives
        ("model_flavor", pa.string()),
        ("model_library", pa.string()),  # its name and version, such as "xgboost 3.2.0"
        ("model_called", pa.string()),  # such as "XGBClassifier.predict_proba"
        ("model_count", pa.int64()),  # where a column says which model a row is for: how many there are
        ("work", pa.string()),  # seconds of all workers together: reading, checking, model, writing, and core
        ("alias", pa.string()),  # of the model, where the run looked one up in its registry
        ("as_of", pa.string()),  # the moment (UTC) as of which model and input are, where that isn't the run's own
        ("receipt", pa.string()),  # what the run has signed of its rows, where it leaves receipts
        ("input_range", pa.string()),  # by part of an input that is read in ranges from where to where, such as offsets
    ]
)
RECONCILE = "`lakehouse reconcile` makes records of what the tables remember"
OTHERS = 50
"""Intents of other slices that one run looks at."""
_OF_EVENTS = ("streams", "told", "untold")
_JSON = ("sinks", "checks", "seconds", "work", "receipt", "input_range")


@dataclass(frozen=True)
class Intent:
    """What a run will commit, in order, and the record it will leave. `verdict` is published or blocked.

    `streams`: who gets events of it once the commits are made (`announcing`). Where some could not be told, these have
    been told (`told`), and why the others have not (`untold`).
    """

    run_id: str
    identity: str
    table: str
    verdict: str
    targets: tuple[Target, ...]
    record: Mapping[str, Any]
    streams: tuple[Mapping[str, Any], ...] = ()
    told: tuple[Mapping[str, Any], ...] = ()
    untold: tuple[str, ...] = ()


def _intents(state: Location, identity: str, table: str) -> Location:
    # A folder an identity and table: a slice's own unfinished runs are found without reading any other's.
    return state.join("intents", hashlib.sha256(f"{table}\n{identity}".encode()).hexdigest()[:24])


def save_intent(state: Location, intent: Intent) -> None:
    """Write the intent durably. Nothing may be committed before this returns."""
    file = _intents(state, intent.identity, intent.table).join(f"{intent.run_id}.json")
    write_durably(file, json.dumps(as_json(intent)).encode())


def as_json(intent: Intent) -> dict[str, Any]:
    """An intent as it is stored."""
    said = {
        "run_id": intent.run_id,
        "identity": intent.identity,
        "table": intent.table,
        "verdict": intent.verdict,
        "targets": [target.as_json() for target in intent.targets],
        "record": {k: v.isoformat() if isinstance(v, datetime) else v for k, v in intent.record.items()},
        **{name: list(said) for name in _OF_EVENTS if (said := getattr(intent, name))},
    }
    return formats.with_version(formats.INTENT, said)


def unfinished(
    state: Location, job: str, identity: str, table: str, date: str | None
) -> tuple[list[Intent], list[Intent]]:
    """The intents of the job's runs that were never recorded: of this slice and scored table, and of other slices.

    Those of another target of the job, whose table is another one whatever the date, are that one's own business.

    Of the others at most `OTHERS` files are read, by chance, so that no run takes long and each is looked at some day;
    those of a newer format are left to the programs that wrote them, and broken ones to runs of their slice. Raises
    ConfigError for such a one of this slice.
    """
    every = state.join("intents")
    folder = _intents(state, identity, table).path.rpartition("/")[2]
    paths = [path for path in tree(every) if _is_intent(path)]
    others = [path for path in paths if not path.startswith(f"{folder}/")]
    others = sorted(random.sample(others, min(len(others), OTHERS)))
    mine = [path for path in sorted(paths) if path.startswith(f"{folder}/")]
    found = list[Intent]()
    for path in others:
        with suppress(ConfigError):
            found += [intent for intent in _read(every, [path]) if _is_of(intent, job, table, date)]
    return _read(every, mine), found


def intents(state: Location) -> list[Intent]:
    """All intents, of whatever job. Raises ConfigError for one of a newer format, or that is broken."""
    folder = state.join("intents")
    return _read(folder, [path for path in tree(folder) if _is_intent(path)])


def _is_intent(path: str) -> bool:
    return path.endswith(".json") and not path.rpartition("/")[2].startswith(".")


def _read(folder: Location, paths: Sequence[str]) -> list[Intent]:
    """The intents of those files that are still there."""
    texts = ((folder.join(path), content(folder.join(path))) for path in paths)
    return [
        formats.parse(formats.INTENT, text, display_name(file), from_json) for file, text in texts if text is not None
    ]


def _is_of(intent: Intent, job: str, table: str, date: str | None) -> bool:
    """Whether an intent is for the job's table, or for one that differs from it by nothing but the run's date."""
    same = _dateless(intent.table, intent.record.get("date")) == _dateless(table, date)
    return bool(intent.record.get("job") == job and same)


def _dateless(table: Any, date: str | None) -> str:
    return str(table).replace(date, "{date}") if date else str(table)


def from_json(parsed: Mapping[str, Any]) -> Intent:
    """An intent as it was declared, from what is stored."""
    targets = tuple(Target.from_json(t) for t in parsed["targets"])
    record = {
        k: datetime.fromisoformat(v) if k in ("started_at", "finished_at") else v for k, v in parsed["record"].items()
    }
    given = {"targets": targets, "record": record, **{name: tuple(parsed.get(name, ())) for name in _OF_EVENTS}}
    return Intent(**{**formats.known_fields(Intent, parsed), **given})


def runs_with_intents(state: Location) -> set[str]:
    """The runs, of whatever job, whose intents are there."""
    paths = (path for path in tree(state.join("intents")) if _is_intent(path))
    return {path.rpartition("/")[2].removesuffix(".json") for path in paths}


def remove_intent(state: Location, intent: Intent) -> None:
    """Take the intent away: its run is recorded, or can never be finished."""
    remove(_intents(state, intent.identity, intent.table).join(f"{intent.run_id}.json"))


def record(state: Location, row: Mapping[str, Any]) -> None:
    """Append a run's record, once a run, whoever else records it at the same time.

    Raises delta.Conflict when the table stays too busy.
    """
    told = {name: row.get(name) for name in _JSON}  # a run that an older program began says less
    plain = {**row, **{n: None if value is None else json.dumps(value, sort_keys=True) for n, value in told.items()}}
    batch = pa.RecordBatch.from_pylist([plain], schema=RUNS)
    tables.append(state.join("runs"), batch, f"ledger/{row['run_id']}", "Runs", formats.RECORD)


def runs(state: Location, job: str, date: str | None = None, *, identity: str | None = None) -> list[dict[str, Any]]:
    """The job's recorded runs, newest first, by default of all dates and slices.

    Raises ConfigError where a newer program has recorded one of them, and where a file of the table is gone or broken.
    """
    place = state.join("runs")
    asked = {"job": job, "date": date, "identity": identity}
    only = {name: value for name, value in asked.items() if value is not None}
    rows = tables.rows(place, [*RUNS.names, formats.KEY], formats.RECORD, only)
    mine = [
        formats.without_version(formats.RECORD, row, f"{display_name(place)} (run {row['run_id']})") for row in rows
    ]
    for row in mine:
        row.update({name: json.loads(row[name]) for name in _JSON if row.get(name)})
    return sorted(mine, key=lambda r: r["finished_at"], reverse=True)


def model_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record's model, as `FetchedModel.describe` has it; how it was called is not known of older records."""
    columns = {name.removeprefix("model_"): name for name in RUNS.names if name.startswith("model_")}
    model = {name: record.get(column) for name, column in columns.items()}
    return model if model["count"] else {name: value for name, value in model.items() if name != "count"}


def title_of(model: Mapping[str, Any]) -> str:
    """A run's model for people: its name and version, or how many models of what name."""
    if model.get("count"):
        return f"{model['count']:,} models {model['name']}"
    return f"{model['name']} v{model['version']}"


def record_of(state: Location, job: str, run: str | None = None) -> dict[str, Any]:
    """The record of one of the job's runs, by default of the newest; see `choose_record`."""
    return choose_record(runs(state, job), job, run)


def choose_record(
    records: Sequence[dict[str, Any]], job: str, run: str | None = None, date: str | None = None
) -> dict[str, Any]:
    """The record of the run that is named by as much of its id as no other has, by default the first, of a date.

    Raises ConfigError where there is none, or more than one.
    """
    every, records = records, [row for row in records if date is None or row["date"] == date]
    if not records and every:
        raise ConfigError(f"--date {date}: {job} has no run of this date on record; its newest runs:{_list(every)}")
    if not records:
        raise ConfigError(f"{job} has no run on record yet")
    if run is None:
        return records[0]
    known = {str(row["run_id"]): row for row in records}
    found = [run] if run in known else [name for name in known if run and name.startswith(run)]
    if not found:
        raise ConfigError(f"--run: {job} has no run {run!r} on record; its newest runs:{_list(records)}")
    if len(found) > 1:
        same = _list([known[name] for name in found])
        raise ConfigError(f"--run: {len(found)} runs of {job} begin with {run!r}:{same}")
    return known[found[0]]


def _list(records: Sequence[Mapping[str, Any]]) -> str:
    """At most ten of the runs, a line each."""
    return "".join(f"\n  {row['run_id']}  {row['date'] or ''} {row['status']}" for row in records[:10])


def superseded_runs(records: Sequence[Mapping[str, Any]]) -> set[str]:
    """Those of these runs after which another one of the same job and slice was published.

    But for a run whose rows the last one, a rollback, has put back: those are live again.

    By generation, since clocks of two machines differ; a time tells only whether a run is from before the table was
    made anew, which begins with generation 1 again.
    """
    of: dict[str, list[Mapping[str, Any]]] = {}
    for row in records:
        of.setdefault(row["identity"], []).append(row)
    return {run for rows in of.values() for run in _is_superseded(rows)}


def _is_superseded(records: Sequence[Mapping[str, Any]]) -> set[str]:
    published = [row for row in records if row["status"] == "published"]
    begun = sorted(row["finished_at"] for row in published if row["generation"] == 1)
    before = {row["run_id"] for row in records if len(begun) > 1 and row["finished_at"] < begun[-1]}
    newest = max((row["generation"] for row in published if row["run_id"] not in before), default=0)
    over = {r["run_id"] for r in records if (r["generation"], r["status"] == "published") < (newest, True)}
    last = (row for row in published if row["run_id"] not in over | before and is_rollback(row))
    return (over | before) - {source_of(records, row) for row in last}


def now() -> datetime:
    """The clock of all records: UTC."""
    return datetime.now(UTC)
