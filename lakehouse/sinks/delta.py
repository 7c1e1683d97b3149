"""Publishing to a Delta table: one compare-and-swap commit of the staged files themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from typing import Any

import pyarrow as pa

from lakehouse import delta
from lakehouse.contract import COMMENTS, JOB, RUN_ID
from lakehouse.errors import Blocked, ConfigError, Unavailable
from lakehouse.sinks import preflight
from lakehouse.storage import Location, shown, sizes


@dataclass(frozen=True)
class Target:
    """What a run will do to one table; everything that publishing needs, so that it survives a crash as JSON.

    `identity` is `<job>/<slice>`; `slice` the partition it fills, as the log spells the values; `generation`
    the one this run would be (that of the sink for its quarantine, which only ever grows).
    """

    kind: str  # "quarantine" or "sink"
    uri: str
    write: str
    identity: str
    job: str
    slice: Mapping[str, str]
    generation: int
    fingerprint: str
    files: tuple[delta.Add, ...] = ()
    rows: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(parsed: Mapping[str, Any]) -> Target:
        files = tuple(delta.Add(**f) for f in parsed["files"])
        return Target(**{**parsed, "files": files})


@dataclass(frozen=True)
class State:
    """What a target holds for a slice: the last generation, and whether it is this fingerprint's."""

    generation: int
    same: bool
    version: int | None


class Gone(Unavailable):
    """Staged files of a run are not there."""


class Overtaken(Unavailable):
    """Another run published the same slice meanwhile."""


def living(snapshot: delta.Snapshot, files: Sequence[delta.DataFile]) -> dict[tuple[str, str], int]:
    """(job, run) → rows, of the rows that are live in these files. Reads files only where the log can't tell."""
    found: dict[tuple[str, str], int] = {}
    unclear = []
    for file in files:
        job, run = _constant(file, JOB), _constant(file, RUN_ID)
        if job is None or run is None or file.rows is None:
            unclear.append(file)
        elif rows := sum(file.kept) if file.kept is not None else file.rows:
            found[(job, run)] = found.get((job, run), 0) + rows
    if unclear:
        counted = delta.rows_of(snapshot, [JOB, RUN_ID], unclear).group_by([JOB, RUN_ID]).aggregate([([], "count_all")])
        for row in counted.to_pylist():
            key = (row[JOB], row[RUN_ID])
            found[key] = found.get(key, 0) + row["count_all"]
    return found


def _constant(file: delta.DataFile, column: str) -> str | None:
    least, greatest, nulls = file.bounds.get(column, (None, None, None))
    return least if least is not None and least == greatest and nulls == 0 else None


def _inside(snapshot: delta.Snapshot, slice_texts: Mapping[str, str]) -> list[delta.DataFile]:
    files = snapshot.files([JOB, RUN_ID])
    return [f for f in files if all(delta.partition_text(f.partition[c]) == v for c, v in slice_texts.items())]


def look(snapshot: delta.Snapshot | None, target: Target, rescore: bool) -> State:
    """What the table says of this identity: where it stands, and whether this fingerprint is what lives there.

    Raises Blocked where the slice belongs to another job, or where the last generation was this very
    fingerprint but a person has changed its rows since.
    """
    if snapshot is None:
        return State(0, False, None)
    generation = snapshot.transaction(target.identity) or 0
    same = generation > 0 and snapshot.transaction(f"{target.identity}/{target.fingerprint}") == generation
    if target.write == "append" and not generation:
        return State(0, False, snapshot.version)
    alive = living(snapshot, _inside(snapshot, target.slice))
    _refuse_foreign(snapshot, target, alive)
    last = [run for _, run in alive if snapshot.transaction(_run_id(target.identity, run)) == generation]
    if same and not rescore:
        _refuse_touched(snapshot, target, alive, last)
    return State(generation, same, snapshot.version)


def _refuse_foreign(snapshot: delta.Snapshot, target: Target, alive: Mapping[tuple[str, str], int]) -> None:
    others = sorted({str(job or "none named") for job, _ in alive} - {target.job})
    if others and target.write == "replace":
        raise Blocked(
            f"{shown(snapshot.location)}: {_slice_name(target)} holds rows of another job ({', '.join(others)}), "
            "which this run would delete: give each job a table or a slice of its own"
        )


def _refuse_touched(
    snapshot: delta.Snapshot, target: Target, alive: Mapping[tuple[str, str], int], last: Sequence[str]
) -> None:
    expected = snapshot.transaction(f"{target.identity}/rows") or 0
    ours = sum(rows for (_, run), rows in alive.items() if run in last)
    total = sum(alive.values()) if target.write == "replace" else ours
    rewritten = any(not f.path.startswith("run-") for f in _inside(snapshot, target.slice))
    if ours == expected == total and not rewritten:
        return
    since = takewhile(
        lambda commit: not any(run in str(commit.get("userMetadata")) for run in last), snapshot.history(1000)
    )
    foreign = [commit for commit in since if _is_foreign(commit) and _changed(snapshot, target, commit["version"])]
    if ours == expected == total and not any(c["operation"] in ("UPDATE", "MERGE") for c in foreign):
        return  # rewritten by OPTIMIZE: the same rows in other files
    by = f"commit {foreign[0]['version']} ({foreign[0]['operation']})" if foreign else "a commit the log has dropped"
    raise Blocked(
        f"{shown(snapshot.location)}: {_slice_name(target)} was scored with this very input, model and settings, but "
        f"its rows were changed since by {by}: {total:,} rows live, {expected:,} were published. "
        "Use --rescore to score and publish it again"
    )


def _changed(snapshot: delta.Snapshot, target: Target, version: int) -> bool:
    """Whether a commit changed the slice's files; taken for granted where the log can't tell any more."""
    held = []
    for v in (version - 1, version):
        try:
            then = delta.open_table(snapshot.location, version=v)
        except ConfigError:
            return True
        held.append({f.fingerprint() for f in _inside(then, target.slice)} if then else None)
    return held[0] != held[1]


def _is_foreign(commit: Mapping[str, Any]) -> bool:
    quiet = ("OPTIMIZE", "VACUUM START", "VACUUM END", "CREATE TABLE", "SET TBLPROPERTIES", "ADD COLUMNS", "ADD COLUMN")
    return commit.get("operation") not in quiet and "lakehouse_run" not in str(commit.get("userMetadata", ""))


def _slice_name(target: Target) -> str:
    return ", ".join(f"{c}={v}" for c, v in target.slice.items()) or "the table"


def _run_id(identity: str, run: str) -> str:
    return f"{identity}/run/{run}"


def published(snapshot: delta.Snapshot | None, target: Target, run: str) -> bool:
    """Whether this run's commit is in the table's log."""
    return snapshot is not None and snapshot.transaction(_run_id(target.identity, run)) is not None


def create(location: Location, schema: pa.Schema, slice_columns: Sequence[str], comments: Mapping[str, str]) -> None:
    """Create the table, empty, its columns described; one that another process created meanwhile is as good."""
    try:
        delta.create_table(location, schema, slice_columns, {**COMMENTS, **comments}, "Written by lakehouse score")
    except delta.Conflict:
        if delta.open_table(location) is None:
            raise


def check(target: Target, run: str, location: Location) -> None:
    """Raise what `publish` would raise now; commit nothing."""
    snapshot = _opened(location)
    if not published(snapshot, target, run):
        _check(snapshot, target, location)


def _opened(location: Location) -> delta.Snapshot:
    snapshot = delta.open_table(location)
    if snapshot is None:
        raise Gone(f"{shown(location)}: the table was there when the run was planned, and is not any more")
    return snapshot


def publish(target: Target, run: str, location: Location) -> int:
    """Commit the run's staged files, once; the table's version. A run whose commit is in the log commits nothing.

    Looks at a fresh snapshot before every attempt: the generation is still the one seen at planning, every
    staged file is there with its size, none is live already, the table has no rule that a direct commit would
    break. Raises Overtaken when another run published meanwhile, Gone when staged files or the table are missing,
    Unavailable when the table stays too busy.
    """
    attempt = 0
    while True:
        snapshot = _opened(location)
        if published(snapshot, target, run):
            return _version_of(snapshot, run)
        removes = _check(snapshot, target, location)
        try:
            version = delta.commit(
                snapshot,
                target.files,
                replace=target.slice if target.write == "replace" else None,
                partition=target.slice,
                removes=removes,
                transactions=_transactions(target, run),
                metadata={"lakehouse_run": run, **target.metadata},
            )
        except delta.Conflict as error:
            attempt += 1
            if attempt == delta.ATTEMPTS:
                raise Unavailable(f"{error}; {attempt} times in a row: try again") from error
            delta.pause(attempt)
            continue
        _verify(location, target, version)
        return version


def _transactions(target: Target, run: str) -> dict[str, int]:
    mine = {_run_id(target.identity, run): max(target.generation, 1)}
    if target.kind == "quarantine":
        return mine
    return {
        target.identity: target.generation,
        f"{target.identity}/{target.fingerprint}": target.generation,
        f"{target.identity}/rows": target.rows,
        **mine,
    }


def _check(snapshot: delta.Snapshot, target: Target, location: Location) -> list[delta.DataFile]:
    """The promises of a commit, checked against this snapshot; the files that an append takes away."""
    name = shown(location)
    preflight.refuse_rules(snapshot, name, target.write)
    there = sizes(location, [f.path for f in target.files])
    missing = [f.path for f in target.files if there[f.path] != f.size]
    if missing:
        raise Gone(f"{name}: {len(missing)} staged files are missing or have another size, such as {missing[0]}")
    live = snapshot.files([JOB, RUN_ID])
    doubled = {f.relative for f in live} & {f.path for f in target.files}
    if doubled:
        raise Unavailable(f"{name}: {min(doubled)} is live already although the log has no commit of this run")
    if target.kind == "quarantine":
        return []
    generation = snapshot.transaction(target.identity) or 0
    if generation != target.generation - 1:
        raise Overtaken(
            f"{name}: another run published generation {generation} of {_slice_name(target)} meanwhile; run again"
        )
    if target.write == "replace":
        inside = [f for f in live if all(delta.partition_text(f.partition[c]) == v for c, v in target.slice.items())]
        _refuse_foreign(snapshot, target, living(snapshot, inside))
        return []
    return _earlier(live, target, snapshot, name) if target.generation > 1 else []


def _earlier(
    live: Sequence[delta.DataFile], target: Target, snapshot: delta.Snapshot, name: str
) -> list[delta.DataFile]:
    """The files of all runs of this date that live: a person may have restored an earlier one."""
    alive = living(snapshot, live)
    runs = {run for _, run in alive if published(snapshot, target, run)}
    mine = [f for f in live if any(f.relative.startswith(f"run-{run}/") for run in runs)]
    if living(snapshot, mine) != {owner: rows for owner, rows in alive.items() if owner[1] in runs}:
        raise Blocked(
            f"{name}: the rows of run {', '.join(sorted(runs))} no longer stand in files of their own (OPTIMIZE has "
            "merged them, or rows were deleted), so they can't be replaced in one commit; delete them, then append"
        )
    return mine


def _verify(location: Location, target: Target, version: int) -> None:
    """Read the commit back: exactly the staged files live in the slice."""
    snapshot = delta.open_table(location, version=version)
    live = {f.relative for f in _inside(snapshot, target.slice)} if snapshot else set()
    wanted = {f.path for f in target.files}
    if not wanted <= live or (target.write == "replace" and live != wanted):
        raise RuntimeError(f"{shown(location)} version {version} does not hold exactly what was committed")


def _version_of(snapshot: delta.Snapshot, run: str) -> int:
    for commit in snapshot.history(1000):
        text = commit.get("userMetadata")
        if text and run in str(text) and json.loads(text).get("lakehouse_run") == run:
            return int(commit["version"])
    return snapshot.version
