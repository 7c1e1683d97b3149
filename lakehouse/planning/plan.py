"""Everything that is decided before the first task: pinned input, model version, carrier, slice, generation."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import checks, models, schemas, sinks, sources
from lakehouse.checks import rules
from lakehouse.config import settings
from lakehouse.errors import ConfigError
from lakehouse.models import Inputs
from lakehouse.planning import challengers, fetching, ranges
from lakehouse.planning.challengers import FetchedChallenger
from lakehouse.planning.naming import quarantine_of, staged_files, tables_beside
from lakehouse.planning.unsigned import require_signature
from lakehouse.progress import Watch
from lakehouse.schemas import Feature
from lakehouse.scoring.routing import require_routable
from lakehouse.scoring.score import Constraint
from lakehouse.sinks.target import (
    COMPARISON,
    COPIED,
    DIRECT,
    QUARANTINE,
    SINK,
    InspectedTarget,
    SliceRequest,
    Target,
    slice_name,
    uri_of,
)
from lakehouse.sources import CHUNKS, FRAME, PinnedInput
from lakehouse.storage import Location, locate

if TYPE_CHECKING:
    from lakehouse.config import Job, Sink

_FEW_ROWS = 1024

Say = Callable[[str, Mapping[str, Any]], None]
"""Told of a run's steps: an event's name and its values."""


@dataclass
class Unsent:
    """Events that could not be sent: by stream why it took none, and the earlier runs (`runs`) whose events wait."""

    why: dict[str, str] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Request:
    """How to run a job: `engine` is "spark" or "local"; `now` and `run_id` are the run's clock and name.

    `replays` is the record of the run whose quarantined rows are the input, where that is asked for; `current_model`
    lets the model be another than that run's. `patience`: how long it waits for MLflow in all. `fetched`: the job's
    model, where it is at hand already. `hold`: commit nothing until somebody says so, within `hold_days`. `as_of`: the
    moment (UTC) as of which the job's model and input are, None where it is the run's own; `digest`: the only one that
    the model may have. `enter` is told which step of the planning begins, and what the one before it
    found. `unsent`: what is known of events that could not be sent.
    """

    engine: str
    now: datetime
    run_id: str
    rescore: bool = False
    dry_run: bool = False
    say: Say = lambda event, values: None
    watch: Watch | None = None
    replays: Mapping[str, Any] | None = None
    current_model: bool = False
    patience: models.Patience = field(default_factory=models.Patience)
    fetched: models.FetchedModel | None = None
    hold: bool = False
    hold_days: int | None = None
    as_of: datetime | None = None
    digest: str = ""
    enter: Callable[[str, str], None] = lambda step, found: None
    unsent: Unsent = field(default_factory=Unsent)

    def warn(self, message: str) -> None:
        """Tell of something that does not stop the run."""
        self.say("warning", {"message": message})


def require_known(engine: str, key: str) -> None:
    """Raise ConfigError for an engine that there isn't; `key`: where it was named."""
    if engine not in ("spark", "local"):
        raise ConfigError(f"{key}: {engine!r} is none: use spark or local")


def new_run_id() -> str:
    """A run's name: a random UUID."""
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Plan:
    """A run, decided. `columns`: those of the input that are read; `sinks`, `quarantine`: what it may commit.

    `beside`: the table of the challengers' predictions, None where there are no challengers.
    """

    job: Job
    run_id: str
    started_at: datetime
    pinned: PinnedInput
    columns: tuple[str, ...]
    carrier: str
    reason: str
    model: models.FetchedModel
    inputs: Inputs
    sinks: tuple[InspectedTarget, ...]
    quarantine: Target
    suites: checks.Suites
    on_features: rules.Compiled
    challengers: tuple[FetchedChallenger, ...] = ()
    beside: InspectedTarget | None = None

    @property
    def model_folders(self) -> models.Folders:
        """The folders of the model and of its challengers."""
        own = self.model.members.values() if self.model.members else [self.model]
        return {fetched.digest: fetched.folder for fetched in (*own, *(c.model for c in self.challengers))}

    @property
    def features(self) -> tuple[Feature, ...]:
        """What the model is given."""
        return self.inputs.features

    @property
    def sink(self) -> Target:
        """The first of the sinks, under whose identity the run goes."""
        return self.sinks[0].target

    @property
    def slice_types(self) -> Mapping[str, pa.DataType]:
        """The types of the slice's columns."""
        return self.sinks[0].types

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """What the tables demand of every row that is written."""
        return tuple(dict.fromkeys(rule for standing in self.sinks for rule in standing.constraints))

    @property
    def needs_delta(self) -> Mapping[str, Location]:
        """By reason the tables of Delta that Spark itself has to open, for which its session needs Delta's jars."""
        tables = {}
        for target, why in ((s.target, "; ".join(s.why)) for s in self.sinks if s.target.how == COPIED):
            name = sinks.of(target.type).display_name(target.uri)
            tables[f"{name} has to be written by Spark itself ({why})"] = locate(target.uri)
        if self.carrier == FRAME:
            tables[f"{self.pinned.name} has to be read by Spark itself ({self.reason})"] = locate(self.pinned.name)
        return tables

    @property
    def unchanged(self) -> bool:
        """Whether every table holds this very input, model and settings already."""
        return all(_is_unchanged(s) for s in (*self.sinks, *([self.beside] if self.beside else [])))

    @property
    def has_nothing_new(self) -> bool:
        """Whether nothing came since the last run, where a run takes what did."""
        return self.pinned.range is not None and not self.pinned.range.until

    def read(self, request: Request) -> Plan:
        """The plan with its input read as far as that is one act, such as a query; a few rows on a dry run."""
        limit = _FEW_ROWS if request.dry_run else None
        return replace(self, pinned=sources.of(self.job.source.type).read(self.pinned, self.columns, limit))

    def describe(self) -> dict[str, Any]:
        """The plan for people and programs."""
        first, *others = (*self.sinks, *([self.beside] if self.beside else []))
        return {
            "run_id": self.run_id,
            "input": self.pinned.describe(),
            "model": self.model.describe(),
            **({"challengers": [_named(c) for c in self.challengers]} if self.challengers else {}),
            "carrier": self.carrier,
            "reason": self.reason,
            "files": self.pinned.pieces,
            "rows_at_most": self.pinned.rows,
            "columns": list(self.columns),
            **({"converts": list(self.inputs.converts)} if self.inputs.converts else {}),
            **({"left_out": list(self.inputs.left_out)} if self.inputs.left_out else {}),
            "slice": dict(self.sink.slice),
            "generation": self.sink.generation,
            "fingerprint": self.sink.fingerprint,
            "table": sinks.of(first.target.type).display_name(first.target.uri),
            "table_version": first.state.version,
            "publish": _action(first),
            **({"needs_delta": list(self.needs_delta)} if self.needs_delta else {}),
            **({"also": [_action(more, named=True) for more in others]} if others else {}),
        }


def _named(challenger: FetchedChallenger) -> dict[str, str]:
    model = challenger.model
    return {"label": challenger.label, "name": model.name, "version": model.version, "digest": model.digest}


def _action(standing: InspectedTarget, *, named: bool = False) -> str:
    """What publishing to a table does to it."""
    target = standing.target
    if _is_unchanged(standing):
        return "nothing: unchanged"
    where = slice_name(target.slice)
    does = {"append": "append", "merge": f"merge into {where} by {', '.join(target.keys)}"}.get(
        target.write, f"replace {where}"
    )
    if target.how == COPIED:
        does += f", copied by Spark ({'; '.join(standing.why)})"
    if standing.state.version is None:
        does = "create the table, then " + does
    return f"{sinks.of(target.type).display_name(target.uri)}: {does}" if named else does


def _is_unchanged(standing: InspectedTarget) -> bool:
    return standing.state.same and standing.target.generation == standing.state.generation


def plan_once(job: Job, request: Request, folder: Path, state: Location) -> Plan:
    """The plan, for which the model is fetched only where something has changed since a run that knew it.

    What is known of a model never decides more than that: as soon as it is to be loaded, it is fetched and judged, and
    one that is another then is planned with anew. Commits nothing.
    """

    resolved: models.Resolved | None = None  # once, so that alias and bytes are of one version

    def known_or_fetched() -> models.FetchedModel:
        nonlocal resolved
        known, resolved = fetching.recall(job, request, state)
        return known or fetching.obtain(job, request, folder, resolved)

    plan = make_plan(job, request, folder, known_or_fetched)
    if plan.model.path or (plan.unchanged and not request.dry_run):
        return plan
    fetched = fetching.obtain(job, request, folder, resolved)
    if replace(fetched, path="") == plan.model:
        return replace(plan, model=fetched)
    for left in folder.glob("challenger-*"):  # they are fetched again
        shutil.rmtree(left)
    return make_plan(job, replace(request, fetched=fetched), folder)


def make_plan(
    job: Job, request: Request, folder: Path, obtain: Callable[[], models.FetchedModel] | None = None
) -> Plan:
    """Pin the input, fetch and judge the model into `folder`, and see where the targets stand. Commits nothing.

    `obtain` gives the model, where it isn't to be fetched in any case.
    """
    source = sources.of(job.source.type)
    request.enter("suites", "")
    suites = checks.suites_of(job.checks)
    request.enter("input", "")
    pinned = source.pin(
        ranges.going_on(job),
        [*job.keys, *job.keep, *job.features.rename.values(), *checks.columns_named(suites.features)],
    )
    schema = pinned.schema
    for note in pinned.range.notes if pinned.range is not None else ():
        request.warn(note)
    schemas.require_columns(schema, job.keys, "keys", pinned.name)
    schemas.require_columns(schema, job.keep, "keep", pinned.name)
    routed = () if job.model.by is None else (job.model.by,)
    schemas.require_columns(schema, routed, "model.by", pinned.name)
    for name in routed:
        require_routable(schema.field(name), pinned.name)
    request.enter("model", f"{pinned.name}" + ("" if pinned.version is None else f" v{pinned.version}"))
    fetched = request.fetched or (obtain() if obtain else fetching.obtain(job, request, folder))
    request.enter("signature", "")
    require_signature(job, fetched, schema, pinned.name)
    inputs = fetching.inputs_of(job, fetched, request, schema, pinned.name)
    rivals = challengers.fetch(job, fetched, request, schema, pinned.name, folder)
    features = inputs.features
    request.enter("suites", "; ".join(inputs.converts))
    on_features = rules.compile_suite(suites.features, schema)
    theirs = (f.column for rival in rivals for f in rival.inputs.features)
    wanted = (*job.keys, *job.keep, *routed, *(f.column for f in features), *theirs, *checks.columns_read(on_features))
    columns = tuple(dict.fromkeys([*wanted, *pinned.where_columns, *job.source.PLACES]))
    later = [
        c for other in on_features.others for c in other.columns or source.supported_columns(pinned)
    ]  # after the pass
    carrier, reason = source.carrier(pinned, tuple(dict.fromkeys([*columns, *later])))
    if carrier == FRAME and later and source.carrier(pinned, columns)[0] != FRAME:
        reason += f"; it is read for {', '.join(dict.fromkeys(o.expectation.name for o in on_features.others))}"
    if carrier == CHUNKS:  # what isn't asked for can't be looked at later
        columns = tuple(dict.fromkeys([*columns, *later]))
    read = {name.lower() for name in (*routed, *(f.column for f in features))}
    if clash := sorted(name for name in job.slice if name.lower() in read):
        raise ConfigError(f"slice.{clash[0]}: the model reads a column of this name; name the slice otherwise")
    if request.replays is not None and not request.current_model:
        _require_same_model(fetched, request.replays)
    if request.digest and fetched.digest != request.digest:
        raise ConfigError(
            f"{fetched.uri} has other bytes (sha256:{fetched.digest[:8]}…) than when a run used it "
            f"(sha256:{request.digest[:8]}…): what it was then isn't there any more"
        )
    request.enter("sinks", "")
    standing = _inspect_sink(
        job,
        request,
        lambda read: _fingerprint(job, read, fetched, suites, rivals),
        pinned,
        tuple(dict.fromkeys([*columns, *later])),
        rivals,
    )
    first, aside = standing[0].target, quarantine_of(job)
    quarantine = replace(
        first,
        kind=QUARANTINE,
        type=aside.type,
        uri=uri_of(aside),
        write="append",
        how=DIRECT,
        enforced=(),
        keys=(),
        range=None,
        staged="" if sinks.of(aside.type).IN_PLACE else staged_files(job, QUARANTINE).uri,
    )
    run, now = request.run_id, request.now
    return Plan(
        job,
        run,
        now,
        pinned,
        columns,
        carrier,
        reason,
        fetched,
        inputs,
        standing[: len(job.sinks)],
        quarantine,
        suites,
        on_features,
        rivals,
        standing[-1] if rivals else None,
    )


def _require_same_model(fetched: models.FetchedModel, record: Mapping[str, Any]) -> None:
    """A version's bytes don't change by themselves; another version may be asked for."""
    same = (fetched.name, fetched.version) == (record["model_name"], record["model_version"])
    if same and fetched.digest != record["model_digest"]:
        raise ConfigError(
            f"{fetched.uri} has other bytes (sha256:{fetched.digest[:8]}…) than when run {record['run_id']} used it "
            f"(sha256:{record['model_digest'][:8]}…): score again, or replay with --current-model"
        )


def _fingerprint(
    job: Job, files: Any, fetched: models.FetchedModel, suites: checks.Suites, rivals: tuple[FetchedChallenger, ...]
) -> str:
    """The digest of all that can change a score or a verdict; `files`: what is read
    (`PinnedInput.fingerprint`).

    This is format 1. Another one is written `<format>:<digest>`, and slices published under this one are recognised by
    `SliceRequest.same_fingerprints`.
    """
    read = {"files": files, "model": fetched.digest, "settings": settings(job)}
    if suites.digests:
        read["suites"] = suites.digests
    if rivals:
        read["challengers"] = [[r.label, r.model.digest, r.job.model.method, r.job.model.params] for r in rivals]
    return hashlib.sha256(json.dumps(read, sort_keys=True, default=str).encode()).hexdigest()


def is_fingerprint(
    job: Job, files: Any, fetched: models.FetchedModel, suites: checks.Suites, fingerprint: str | None
) -> bool | None:
    """Whether a run with this fingerprint read these files (`PinnedInput.fingerprint`), with this model and settings.

    None where that can't be told: of a job with challengers, which are part of it, and of another format.
    """
    if fingerprint is None or ":" in fingerprint or job.model.challengers:
        return None
    return _fingerprint(job, files, fetched, suites, ()) == fingerprint


def _inspect_sink(
    job: Job,
    request: Request,
    fingerprint_of: Callable[[Any], str],
    pinned: PinnedInput,
    columns: Sequence[str],
    rivals: tuple[FetchedChallenger, ...],
) -> tuple[InspectedTarget, ...]:
    """How the job's tables stand to this run, and what it would do to each; that of the challengers comes last."""
    beside = tables_beside(job) if rivals else []
    named = [*job.sinks, *beside]
    fingerprint = fingerprint_of(pinned.fingerprint(columns))

    @functools.cache
    def alike(version: int) -> tuple[str, ...]:
        return tuple(map(fingerprint_of, pinned.rewritten_since(version, columns)))

    write = job.sinks[0].write
    keys = job.keys if write == "merge" else ()
    folder = uri_of(job.delta_sink) if job.delta_sink else staged_files(job, SINK).uri

    def stand(sink: Sink, types: Mapping[str, pa.DataType] | None, asked: SliceRequest) -> InspectedTarget:
        kind = COMPARISON if sink in beside else SINK
        own = folder if kind == SINK else staged_files(job, COMPARISON).uri
        staged = "" if sinks.of(sink.type).IN_PLACE else own
        target = Target(
            kind,
            uri_of(sink),
            write,
            ranges.identity(job, pinned.range),
            job.job,
            {},
            0,
            fingerprint,
            keys=keys,
            type=sink.type,
            staged=staged,
            range=pinned.range,
        )
        return sinks.of(sink.type).inspect_table(target, types, asked)

    asked, found = (
        SliceRequest(job.slice, request.engine, request.rescore, request.replays, alike),
        list[InspectedTarget](),
    )
    for sink in named:
        known = next((s.types for s in found if s.existing is not None), None)
        found.append(stand(sink, known, asked))
        if found[-1].doubt:
            request.say("warning", {"message": found[-1].doubt})
    if any(not _is_unchanged(s) for s in found):  # then all are filled, so that they hold the same rows of one run
        types = next((s.types for s in found if s.existing is not None), found[0].types)
        for number, (sink, standing) in enumerate(zip(named, found, strict=True)):
            if _is_unchanged(standing) or dict(standing.types) != dict(types):
                found[number] = stand(sink, types, replace(asked, rescore=True) if _is_unchanged(standing) else asked)
    return tuple(found)
