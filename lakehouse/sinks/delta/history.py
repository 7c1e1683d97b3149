"""Whose rows live in a slice of a table, and whether a person has changed them since they were published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from lakehouse.connectors import delta
from lakehouse.errors import Blocked, ConfigError
from lakehouse.schemas import INPUT_VERSION, JOB, RUN_ID
from lakehouse.sinks.target import (
    SliceRequest,
    SliceState,
    Target,
    is_of_run,
    not_replayable_error,
    refuse_foreign,
    replay_id,
    replay_target,
    rows_id,
    run_id,
    slice_name,
    undone_error,
    undone_id,
)
from lakehouse.storage import display_name, locate

if TYPE_CHECKING:
    from lakehouse.config import Sink

Owners = Mapping[tuple[str, str], int]
"""(job, run) → rows."""
_OURS = "lakehouse_run"
"""What this program's commits say of themselves: the run."""
_VERSIONS = 3
"""Versions of the input, of those that rows of one slice name, for which a fingerprint is looked for."""


def live_owners(snapshot: delta.Snapshot, files: Sequence[delta.DataFile]) -> dict[tuple[str, str], int]:
    """Whose rows are live in these files. Opens files only where the log can't tell."""
    found: Counter[tuple[str, str]] = Counter()
    for counted in _told(snapshot, [JOB, RUN_ID], files):
        found.update(counted)
    return dict(found)


def refuse_rows_of_others(snapshot: delta.Snapshot, target: Target, files: Sequence[delta.DataFile]) -> None:
    """Raise Blocked where this run would delete or change rows of another job. Opens no file after one that has some.

    Nor any where the log tells the jobs, whose names are short, though it doesn't tell the runs.
    """
    name = display_name(snapshot.location)
    for counted in _told(snapshot, [JOB], files) if target.write != "append" else ():
        refuse_foreign(target, name, [(job, None) for (job,) in counted])


def _told(
    snapshot: delta.Snapshot, columns: Sequence[str], files: Sequence[delta.DataFile]
) -> Iterator[Counter[tuple[Any, ...]]]:
    """How many live rows have which values of these columns: of all files of which the log tells, then file by file."""
    known: Counter[tuple[Any, ...]] = Counter()
    unclear = []
    for file in files:
        values = tuple(constant(file, column) for column in columns)
        if None in values or file.rows is None:
            unclear.append(file)
        elif rows := file.live_rows:
            known[values] += rows
    yield known
    yield from delta.values_of(snapshot, columns, unclear)


def constant(file: delta.DataFile, column: str) -> Any:
    """The value that a column has in every row of a file, None where the log doesn't tell of one."""
    least, greatest, nulls = file.bounds.get(column, (None, None, None))
    return least if least is not None and least == greatest and nulls == 0 else None


def live_files_of_slice(
    snapshot: delta.Snapshot, slice_texts: Mapping[str, str], bounds_of: Sequence[str] = ()
) -> list[delta.DataFile]:
    """The live files of a slice, with bounds for job, run and the columns named."""
    return snapshot.files([JOB, RUN_ID, *bounds_of], partition=slice_texts)


def files_of_slice(files: Sequence[delta.DataFile], slice_texts: Mapping[str, str]) -> list[delta.DataFile]:
    """Those of the files that lie in a slice."""
    return [f for f in files if all(delta.partition_text(f.partition[c]) == v for c, v in slice_texts.items())]


def slice_state(snapshot: delta.Snapshot | None, target: Target, asked: SliceRequest) -> SliceState:
    """What the table says of this identity: where it stands, and whether this fingerprint is what lives there.

    The fingerprint, or one that stands for the same content read from the version that the live rows name.

    Raises Blocked where the slice belongs to another job, or where the last generation was this very
    fingerprint but a person has changed its rows since.
    """
    if snapshot is None:
        return SliceState(0, False, None)
    generation = snapshot.transaction(target.identity) or 0
    same = _is_last(snapshot, target, target.fingerprint, generation)
    if target.write == "append" and not generation:
        return SliceState(0, False, snapshot.version)
    if not {JOB, RUN_ID} <= set(snapshot.schema.names):
        return SliceState(0, False, snapshot.version)  # no table of ours; its schema will be refused
    files = live_files_of_slice(
        snapshot, target.slice, [INPUT_VERSION] if INPUT_VERSION in snapshot.schema.names else []
    )
    refuse_rows_of_others(snapshot, target, files)
    if generation and not same and not asked.rescore:
        read = {version for f in files if (version := constant(f, INPUT_VERSION)) is not None}
        alike = (other for version in sorted(read)[-_VERSIONS:] for other in asked.same_fingerprints(version))
        same = any(_is_last(snapshot, target, fingerprint, generation) for fingerprint in alike)
    if same and not asked.rescore:
        alive = live_owners(snapshot, files)
        last = [run for _, run in alive if snapshot.transaction(run_id(target.identity, run)) == generation]
        _refuse_touched(snapshot, target, alive, last, generation)
    if not same and not asked.rescore:
        _refuse_undone(snapshot, target, generation)
    return SliceState(generation, same, snapshot.version)


def _refuse_undone(snapshot: delta.Snapshot, target: Target, generation: int) -> None:
    """Raise Blocked where a person has rolled back what this very input, model and settings had published."""
    if generation and snapshot.transaction(undone_id(target.identity, target.fingerprint)) == generation:
        raise undone_error(target, display_name(snapshot.location), generation)


def _is_last(snapshot: delta.Snapshot, target: Target, fingerprint: str, generation: int) -> bool:
    """Whether the slice's last generation is this fingerprint's."""
    return generation > 0 and snapshot.transaction(f"{target.identity}/{fingerprint}") == generation


def replay_state(
    snapshot: delta.Snapshot | None, target: Target, record: Mapping[str, Any]
) -> tuple[Target, SliceState]:
    """What adding rows that a run had set aside does to the table: the run's own generation goes on as the next one.

    Once: a run that was replayed is unchanged. Raises Blocked where the run's rows are not what lives in the slice.
    """
    run = str(record["run_id"])
    generation = (snapshot.transaction(target.identity) or 0) if snapshot else 0
    if snapshot is None or snapshot.transaction(run_id(target.identity, run)) != generation:
        raise not_replayable_error(target, record)
    target = replace(target, fingerprint=str(record["fingerprint"]))
    if snapshot.transaction(replay_id(target.identity, run)) is not None:
        return replace(target, generation=generation), SliceState(generation, True, snapshot.version)
    alive = live_owners(snapshot, live_files_of_slice(snapshot, target.slice))
    refuse_foreign(target, display_name(snapshot.location), alive)
    last = tuple(r for _, r in alive if snapshot.transaction(run_id(target.identity, r)) == generation)
    _refuse_touched(snapshot, target, alive, last, generation)
    held = snapshot.transaction(rows_id(target.identity, generation)) or 0
    return replay_target(target, run, generation, last, held), SliceState(generation, False, snapshot.version)


def _refuse_touched(
    snapshot: delta.Snapshot, target: Target, alive: Owners, last: Sequence[str], generation: int
) -> None:
    expected = snapshot.transaction(rows_id(target.identity, generation)) or 0
    ours = sum(rows for (_, run), rows in alive.items() if run in last)
    total = sum(alive.values()) if target.write == "replace" else ours
    # Spark names its own files; those of a copied publish are the run's nevertheless.
    rewritten = any(not f.path.startswith("run-") for f in live_files_of_slice(snapshot, target.slice))
    if ours == expected == total and not rewritten:
        return
    since = takewhile(
        lambda commit: not any(run in str(commit.get("userMetadata")) for run in last), snapshot.history(1000)
    )
    foreign = [
        commit for commit in since if _is_foreign(commit) and _changed_since(snapshot, target, commit["version"])
    ]
    if ours == expected == total and not any(c["operation"] in ("UPDATE", "MERGE") for c in foreign):
        return  # rewritten by OPTIMIZE: the same rows in other files
    by = f"commit {foreign[0]['version']} ({foreign[0]['operation']})" if foreign else "a commit the log has dropped"
    raise Blocked(
        f"{display_name(snapshot.location)}: {slice_name(target.slice)} was scored with this very input, "
        "model and settings, "
        f"but its rows were changed since by {by}: {total:,} rows live, {expected:,} were published. "
        "Use --rescore to score and publish it again"
    )


def changed_by_others(section: Sink, values: Mapping[str, str], run: str) -> list[str] | None:
    """By the log, which tells of the files with its rows; None where that has no commit of the run any more."""
    snapshot = delta.open_table(locate(section.table))
    found = None if snapshot is None else delta.replaced_since(snapshot, values, lambda said: is_of_run(said, run))
    if found is None:
        return None
    return [
        f"commit {one.version} ({one.operation}{f', {one.at:%Y-%m-%d %H:%M} UTC' if one.at else ''}) took away or "
        f"replaced {one.files:,} {'file' if one.files == 1 else 'files'} with its rows"
        for one in found
        if not delta.said_by(one.said, _OURS)
    ]


def _changed_since(snapshot: delta.Snapshot, target: Target, version: int) -> bool:
    """Whether a commit changed the slice's files; taken for granted where the log can't tell any more."""
    held = []
    for v in (version - 1, version):
        try:
            then = delta.open_table(snapshot.location, version=v)
        except ConfigError:
            return True
        held.append({f.fingerprint() for f in live_files_of_slice(then, target.slice)} if then else None)
    return held[0] != held[1]


def _is_foreign(commit: Mapping[str, Any]) -> bool:
    quiet = ("OPTIMIZE", "VACUUM START", "VACUUM END", "CREATE TABLE", "SET TBLPROPERTIES", "ADD COLUMNS", "ADD COLUMN")
    return commit.get("operation") not in quiet and not delta.said_by(commit.get("userMetadata"), _OURS)
