"""What a run will do to one table, and the names under which the table's own log remembers it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import formats, sinks
from lakehouse.connectors import delta
from lakehouse.connectors.messages import Range
from lakehouse.errors import Blocked, ConfigError, Unavailable
from lakehouse.scoring.score import Constraint
from lakehouse.sinks.positions import position_ids
from lakehouse.storage import Location, locate, sizes

if TYPE_CHECKING:
    from lakehouse.config import Sink

QUARANTINE = "quarantine"
SINK = "sink"
COMPARISON = "comparison"
DIRECT = "direct"
COPIED = "copied"


class StagedFilesMissing(Unavailable):
    """Staged files of a run are not there."""


class UnfitForQuarantine(ConfigError):
    """A table that can't take a run's quarantined rows."""


class Overtaken(Unavailable):
    """Another run published the same slice meanwhile, or the table got other rules."""


class CommitNotVerified(Unavailable):
    """A commit is made, as the given version, but the storage can't be reached to read it back."""

    def __init__(self, message: str, version: int) -> None:
        super().__init__(message)
        self.version = version


@dataclass(frozen=True)
class Target:
    """What a run will do to one table; everything that publishing needs, so that it survives a crash as JSON.

    `identity` is `<job>/<slice>`; `slice` the partition it fills, as the log spells the values; `generation`
    the one this run would be (that of the sink for its quarantine, which only ever grows). `how`: DIRECT commits
    the staged files themselves, COPIED lets Spark write their rows. `enforced`: the table's constraints that
    every staged row was held against; `keys`: what merge matches rows by; `columns`: the Arrow schema of what is
    written with the slice, serialised. A replay `goes_on` with the generation of these runs, of which the first one is
    replayed, and of which the slice holds `held` rows. `type` is the system the table is in, `staged` the folder that
    the files' paths begin in, by default the table's own. A rollback `restores` the rows of these runs, and `undoes`
    what was published under that fingerprint. `range`: what it takes of an input that is read in ranges.
    """

    kind: str
    uri: str
    write: str
    identity: str
    job: str
    slice: Mapping[str, str]
    generation: int
    fingerprint: str
    how: str = DIRECT
    enforced: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    columns: str = ""
    files: tuple[delta.Add, ...] = ()
    rows: int = 0
    goes_on: tuple[str, ...] = ()
    held: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    type: str = "delta"
    staged: str = ""
    restores: tuple[str, ...] = ()
    undoes: str = ""
    range: Range | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(parsed: Mapping[str, Any]) -> Target:
        tuples = {name: tuple(parsed.get(name, ())) for name in ("enforced", "keys", "goes_on", "restores")}
        files = tuple(delta.Add(**formats.known_fields(delta.Add, f)) for f in parsed["files"])
        span = parsed.get("range")
        given = None if span is None else Range(**formats.known_fields(Range, span) | {"notes": tuple(span["notes"])})
        return Target(**{**formats.known_fields(Target, parsed), **tuples, "files": files, "range": given})

    @property
    def root(self) -> Location:
        """The folder that the staged files' paths begin in."""
        return locate(self.staged or self.uri)

    @property
    def schema(self) -> pa.Schema:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(self.columns)))

    def with_schema(self, schema: pa.Schema) -> Target:
        return replace(self, columns=base64.b64encode(schema.remove_metadata().serialize()).decode())

    def with_files(self, files: Iterable[Mapping[str, Any]], rows: int, metadata: Mapping[str, Any]) -> Target:
        """The target with the files that a manifest lists, their rows, and what the commit says of the run."""
        return replace(self, files=delta.adds_of(files), rows=rows, metadata=metadata)

    def commit_metadata(self, run: str) -> dict[str, Any]:
        """What the run's commit says of itself, as `version_of` finds it again."""
        return {"lakehouse_run": run, **self.metadata}

    def transactions(self, run: str) -> dict[str, int]:
        """The transaction ids of the run's commit: they outlive the log's history, which commit metadata doesn't."""
        mine = {run_id(self.identity, run): max(self.generation, 1)}
        if self.kind == QUARANTINE:
            return mine
        if self.range is not None:  # of each of many small runs a table keeps its ids for ever, so these are few
            here = position_ids(self.job, self.range.until)
            return {self.identity: self.generation, **here, **mine}
        again = {run_id(self.identity, earlier): self.generation for earlier in self.goes_on}
        again |= {replay_id(self.identity, earlier): self.generation for earlier in self.goes_on[:1]}
        again |= {run_id(self.identity, earlier): self.generation for earlier in self.restores}
        again |= {undone_id(self.identity, self.undoes): self.generation} if self.undoes else {}
        return {
            self.identity: self.generation,
            f"{self.identity}/{self.fingerprint}": self.generation,
            rows_id(self.identity, self.generation): self.held + self.rows,
            **again,
            **mine,
        }


@dataclass(frozen=True)
class SliceRequest:
    """What a run is asked to do: to fill a slice, on an engine, anew though nothing has changed (`rescore`).

    `replays` is the record of the run whose quarantined rows are the input, where that is asked for.
    `same_fingerprints` gives the other fingerprints under which the very same content may have been published, from an
    input of this version.
    """

    slice: Mapping[str, Any]
    engine: str
    rescore: bool = False
    replays: Mapping[str, Any] | None = None
    same_fingerprints: Callable[[int], Sequence[str]] = lambda version: ()


@dataclass(frozen=True)
class SliceState:
    """What a target holds for a slice: the last generation, and whether it is this fingerprint's."""

    generation: int
    same: bool
    version: int | None


@dataclass(frozen=True)
class QuarantineFit:
    """How a quarantine table takes rows: their schema in its types, and the columns that it lacks; None: all of it."""

    schema: pa.Schema
    missing_columns: tuple[pa.Field, ...] | None


@dataclass(frozen=True)
class FormerRows:
    """What a slice held in an earlier generation: rows of these runs, as they can be put back.

    `files`: where they are files of the table's own; none where its system keeps what was. `schema`: the columns that
    the commit names, None for all of the table's. `are_live`: these very rows are what the slice holds now.
    """

    files: tuple[delta.Add, ...]
    rows: int
    runs: tuple[str, ...]
    schema: pa.Schema | None = None
    are_live: bool = False


@dataclass(frozen=True)
class InspectedTarget:
    """A target as planned, with its generation, and how its table stands to it before the run.

    `types`: those of the slice's columns. Every staged row is held against the `constraints`; `why` it is COPIED.
    `existing` is the sink's own view of the table, None where there is no table yet; `doubt` is worth a warning;
    `held`: the types of the table's columns as Arrow, where they are the table's own.
    """

    target: Target
    state: SliceState
    types: Mapping[str, pa.DataType]
    constraints: tuple[Constraint, ...] = ()
    why: tuple[str, ...] = ()
    existing: Any = None
    doubt: str = ""
    held: Mapping[str, pa.DataType] = field(default_factory=dict)


def next_generation(target: Target, state: SliceState, name: str, asked: SliceRequest) -> int:
    """The generation that a run would be: the last one where it is this very run's content already, else the next.

    Raises Blocked for an append of which other rows of the date are there.
    """
    if state.same and not asked.rescore:
        return state.generation
    if target.write == "append" and state.generation and not asked.rescore:
        date = target.identity.rpartition("=")[2]
        raise Blocked(
            f"{name}: {target.job} appended its rows of {date} already, from other input, model or settings. Use "
            "--rescore to replace those rows"
        )
    return state.generation + 1


def uri_of(section: Sink) -> str:
    """The URI of a sink's table, as `Target.uri` has it. Raises ConfigError where the table isn't named in full."""
    return sinks.of(section.type).uri_of(section)


def run_id(identity: str, run: str) -> str:
    """Transaction id → the generation that this run published."""
    return f"{identity}/run/{run}"


def rows_id(identity: str, generation: int) -> str:
    """Transaction id → the rows that this generation published."""
    return f"{identity}/rows/{generation}"


def undone_id(identity: str, fingerprint: str) -> str:
    """Transaction id → the generation that was put in the place of what this fingerprint had published."""
    return f"{identity}/{fingerprint}/undone"


def replay_id(identity: str, run: str) -> str:
    """Transaction id → the generation in which the rows that this run had set aside were scored again."""
    return f"{identity}/replayed/{run}"


def committed(snapshot: delta.Snapshot | None, target: Target, run: str) -> bool:
    """Whether this run's commit is in the table's log."""
    return snapshot is not None and snapshot.transaction(run_id(target.identity, run)) is not None


def refuse_foreign(target: Target, name: str, alive: Iterable[tuple[str | None, str | None]]) -> None:
    """Raise Blocked where this run would delete or change rows of another job; `alive`: (job, run) of those there."""
    others = sorted({str(job or "none named") for job, _ in alive} - {target.job})
    if others and target.write != "append":
        raise Blocked(
            f"{name}: {slice_name(target.slice)} holds rows of another job ({', '.join(others)}), which this run would "
            f"{'delete' if target.write == 'replace' else 'change'}: give each job a table or a slice of its own"
        )


def overtaken_error(target: Target, name: str, generation: int) -> Overtaken:
    """What is raised where the slice has another generation than the one before the target's."""
    if generation < target.generation - 1:
        return Overtaken(
            f"{name}: {slice_name(target.slice)} has generation {generation}, and had {target.generation - 1} when the "
            "run was planned: the table was made anew, or its log was lost; score again"
        )
    return Overtaken(
        f"{name}: another run published generation {generation} of {slice_name(target.slice)} meanwhile; run again"
    )


def require_positions(target: Target, name: str, positions: Mapping[str, int]) -> None:
    """Raise Overtaken unless a table remembers just what a run has begun with, which takes a range of its input."""
    assert target.range is not None
    stream = f"{target.range.stream}/"
    if {part: at for part, at in positions.items() if part.startswith(stream)} != dict(target.range.since):
        raise Overtaken(
            f"{name}: another run published messages of {target.range.stream} meanwhile, or the table was put back to "
            "an earlier state; run again"
        )


def require_staged(target: Target, name: str) -> None:
    """Raise Gone where a staged file isn't there with its size."""
    there = sizes(target.root, [f.path for f in target.files])
    missing = [f.path for f in target.files if there[f.path] != f.size]
    if missing:
        raise StagedFilesMissing(
            f"{name}: {len(missing)} staged files are missing or have another size, such as {missing[0]}"
        )


def not_replayable_error(target: Target, record: Mapping[str, Any]) -> Blocked:
    """What is raised where a run that shall be replayed isn't the slice's last one."""
    why = "was blocked: nothing of it was published" if record["status"] == "blocked" else "was superseded"
    return Blocked(
        f"run {record['run_id']} {why}, so its quarantined rows belong to no scores of {slice_name(target.slice)}: "
        "score the date again"
    )


def undone_error(target: Target, name: str, generation: int) -> Blocked:
    """What is raised where a person has rolled back what this very input, model and settings had published."""
    return Blocked(
        f"{name}: what this very input, model and settings gave for "
        f"{slice_name(target.slice)} was rolled back by a person (generation {generation}). "
        "Use --rescore to publish it again"
    )


def replay_target(target: Target, run: str, generation: int, last: Sequence[str], held: int) -> Target:
    """The target of a replay of `run`: what it adds to the `held` rows that these `last` runs published."""
    write = "merge" if target.write == "merge" else "append"
    runs = (run, *(r for r in last if r != run))
    return replace(target, write=write, generation=generation + 1, goes_on=runs, held=held)


def slice_name(values: Mapping[str, str]) -> str:
    """A slice as people write it."""
    return ", ".join(f"{name}={value}" for name, value in values.items()) or "the whole table"


def is_of_run(metadata: object, run: str) -> bool:
    """Whether a commit's `userMetadata` says that this run has made it."""
    return bool(delta.said_by(metadata, "lakehouse_run").get("lakehouse_run") == run)


def version_of(snapshot: delta.Snapshot, run: str) -> int:
    """The version that this run committed; the snapshot's own where the history no longer tells."""
    for commit in snapshot.history(1000):
        if is_of_run(commit.get("userMetadata"), run):
            return int(commit["version"])
    return snapshot.version
