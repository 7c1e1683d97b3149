"""Everything that is decided before the first task: pinned input, model version, carrier, slice, generation."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import audit, contract, delta, model, rules
from lakehouse.config import settings
from lakehouse.contract import Feature
from lakehouse.errors import Blocked, ConfigError
from lakehouse.progress import Watch
from lakehouse.sinks import preflight
from lakehouse.sinks.slices import look, replayed
from lakehouse.sinks.target import COPIED, DIRECT, QUARANTINE, SINK, State, Target, slice_name
from lakehouse.sources import delta as source
from lakehouse.storage import Location, locate, shown

if TYPE_CHECKING:
    from lakehouse.config import Job

Say = Callable[[str, Mapping[str, Any]], None]
"""Told of a run's steps: an event's name and its values."""


@dataclass(frozen=True)
class Request:
    """How to run a job: `engine` is "spark" or "local"; `now` and `run_id` are the run's clock and name.

    `replays` is the record of the run whose quarantined rows are the input, where that is asked for.
    """

    engine: str
    now: datetime
    run_id: str
    rescore: bool = False
    dry_run: bool = False
    say: Say = lambda event, values: None
    watch: Watch | None = None
    replays: Mapping[str, Any] | None = None


def new_run_id() -> str:
    """A run's name: a random UUID."""
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Plan:
    """A run, decided. `columns`: those of the input that are read; `sink`, `quarantine`: what it may commit."""

    job: Job
    run_id: str
    started_at: datetime
    pinned: source.Pinned
    columns: tuple[str, ...]
    carrier: str
    reason: str
    model: model.Model
    features: tuple[Feature, ...]
    matrix: bool
    sink: Target
    quarantine: Target
    state: State
    slice_types: Mapping[str, pa.DataType]
    decision: preflight.Decision
    existing: delta.Snapshot | None
    suites: audit.Suites
    on_features: rules.Compiled

    @property
    def unchanged(self) -> bool:
        """Whether the table holds this very input, model and settings already."""
        return self.state.same and self.sink.generation == self.state.generation

    def described(self) -> dict[str, Any]:
        """The plan for people and programs."""
        where = slice_name(self.sink.slice)
        write = {"append": "append", "merge": f"merge into {where} by {', '.join(self.sink.keys)}"}
        does = write.get(self.sink.write, f"replace {where}")
        if self.sink.how == COPIED:
            does += f", copied by Spark ({'; '.join(self.decision.why)})"
        does = "nothing: unchanged" if self.unchanged else does
        if self.state.version is None:
            does = "create the table, then " + does
        return {
            "run_id": self.run_id,
            "input": {"table": self.pinned.name, "version": self.pinned.snapshot.version},
            "model": {"name": self.model.name, "version": self.model.version, "digest": self.model.digest},
            "carrier": self.carrier,
            "reason": self.reason,
            "files": len(self.pinned.files),
            "rows_at_most": self.pinned.rows,
            "columns": list(self.columns),
            "slice": dict(self.sink.slice),
            "generation": self.sink.generation,
            "fingerprint": self.sink.fingerprint,
            "table": shown(locate(self.sink.uri)),
            "table_version": self.state.version,
            "publish": does,
        }


def make_plan(job: Job, request: Request, folder: Path) -> Plan:
    """Pin the input, fetch and judge the model into `folder`, and see where the target stands. Commits nothing."""
    if len(job.sinks) > 1 or "snowflake" in (job.source.type, job.sinks[0].type):
        raise ConfigError("Snowflake, and more than one sink, are not supported yet")
    pinned = source.pin(job.source)
    schema = pinned.snapshot.schema
    contract.require_columns(schema, job.keys, "keys", pinned.name)
    contract.require_columns(schema, job.keep, "keep", pinned.name)
    fetched = model.fetch(job.model, model.resolve(job.model), folder)
    features, matrix = model.features_of(fetched, job.features, schema, pinned.name)
    suites = audit.suites_of(job.checks)
    on_features = rules.compile_suite(suites.features, schema)
    wanted = (*job.keys, *job.keep, *(f.column for f in features), *audit.columns_read(on_features))
    columns = tuple(dict.fromkeys([*wanted, *(pinned.where.columns if pinned.where else ())]))
    carrier, reason = source.carrier(pinned, columns)
    if clash := sorted(set(job.slice) & {f.column for f in features}):
        raise ConfigError(f"slice.{clash[0]}: the model reads a column of this name; name the slice otherwise")
    if request.replays is not None:
        _require_same_model(fetched, request.replays)
    types, how, target, state, existing = _target(job, _fingerprint(job, pinned, fetched, suites), request)
    aside = replace(
        target, kind=QUARANTINE, uri=quarantine_of(job).uri, write="append", how=DIRECT, enforced=(), keys=()
    )
    run, now = request.run_id, request.now
    return Plan(
        job, run, now, pinned, columns, carrier, reason, fetched, features, matrix, target, aside, state, types, how,
        existing, suites, on_features,
    )  # fmt: skip


def quarantine_of(job: Job) -> Location:
    """Where the job's quarantine table is, by default beside the first sink's table."""
    name = job.checks.quarantine.table
    return locate(name) if name else locate(job.sinks[0].table).beside("_quarantine")


def identity_of(job: Job) -> str:
    """`<job>/<slice>`: with the generation, the name of what a run publishes. An append's slice is its date."""
    values = {"date": job.date} if job.sinks[0].write == "append" else dict(job.slice)
    return f"{job.job}/" + ",".join(f"{name}={value}" for name, value in sorted(values.items()))


def _require_same_model(fetched: model.Model, record: Mapping[str, Any]) -> None:
    """A version's bytes don't change by themselves; another version may be asked for."""
    same = (fetched.name, fetched.version) == (record["model_name"], record["model_version"])
    if same and fetched.digest != record["model_digest"]:
        raise ConfigError(
            f"{fetched.uri} has other bytes (sha256:{fetched.digest[:8]}…) than when run {record['run_id']} used it "
            f"(sha256:{record['model_digest'][:8]}…): score again instead of replaying"
        )


def _fingerprint(job: Job, pinned: source.Pinned, fetched: model.Model, suites: audit.Suites) -> str:
    read = {"files": pinned.fingerprint(), "model": fetched.digest, "settings": settings(job)}
    if suites.digests:
        read["suites"] = suites.digests
    return hashlib.sha256(json.dumps(read, sort_keys=True, default=str).encode()).hexdigest()


def _target(
    job: Job, fingerprint: str, request: Request
) -> tuple[dict[str, pa.DataType], preflight.Decision, Target, State, delta.Snapshot | None]:
    """The slice's types, how the table is published to, what this run would do to it, what it holds, and the table."""
    write, location = job.sinks[0].write, locate(job.sinks[0].table)
    snapshot = delta.open_table(location)
    types = preflight.slice_types(job.slice, snapshot.schema if snapshot else None)
    texts = preflight.slice_texts(job.slice, types)
    keys = job.keys if write == "merge" else ()
    target = Target(SINK, location.uri, write, identity_of(job), job.job, texts, 0, fingerprint, keys=keys)
    decision = preflight.Decision()
    if snapshot is not None:
        preflight.check_partitions(snapshot, list(texts))
        decision = preflight.decide(snapshot, write, texts)
        target = replace(target, how=decision.how, enforced=decision.enforced)
        _refuse_copying(decision, target, location, request)
        if snapshot.written_by_spark and location.spark_may_overwrite:
            message = (
                f"{shown(location)}: Spark writes to this table too, and its own log store on {location.system} "
                "can't exclude another process: let it not write while a run publishes"
            )
            request.say("warning", {"message": message})
    if request.replays is not None:
        replay, state = replayed(snapshot, target, request.replays)
        return types, decision, replay, state, snapshot
    state = look(snapshot, target, request.rescore)
    if state.same and not request.rescore:
        return types, decision, replace(target, generation=state.generation), state, snapshot
    if write == "append" and state.generation and not request.rescore:
        raise Blocked(
            f"{shown(location)}: {job.job} appended its rows of {job.date} already, from other input, model or "
            "settings. Use --rescore to replace those rows"
        )
    return types, decision, replace(target, generation=state.generation + 1), state, snapshot


def _refuse_copying(decision: preflight.Decision, target: Target, location: Location, request: Request) -> None:
    if decision.how != COPIED:
        return
    name, why = shown(location), "; ".join(decision.why)
    location.spark_needs_s3(why)
    if request.engine == "local":
        raise ConfigError(f"{name}: only Spark can write to this table ({why}): use --engine spark")
    if target.write == "append" and request.rescore:
        raise ConfigError(f"{name}: --rescore can't take appended rows away where Spark writes them ({why})")
