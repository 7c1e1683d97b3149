"""Publishing to a Delta table: one compare-and-swap commit of the staged files themselves."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.config.systems.delta import DeltaSink
from lakehouse.connectors import delta
from lakehouse.errors import Blocked, ConfigError, Unavailable
from lakehouse.schemas import JOB, RUN_ID, nullable_type
from lakehouse.sinks.delta import compatibility, copied, merge, merge_tasks
from lakehouse.sinks.delta.history import files_of_slice, live_files_of_slice, live_owners, refuse_rows_of_others
from lakehouse.sinks.delta.inspect import display_name
from lakehouse.sinks.delta.positions import require_at
from lakehouse.sinks.target import (
    COPIED,
    QUARANTINE,
    CommitNotVerified,
    Overtaken,
    StagedFilesMissing,
    Target,
    committed,
    overtaken_error,
    require_staged,
    version_of,
)
from lakehouse.storage import Location, locate, sizes

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

IN_PLACE = DeltaSink.HOLDS_STAGED_FILES
_NEXT_RUN = "then the next run scores these messages again"
_ANOTHER_JOB = (
    "the job does not read these messages again; one of another name, with tables of its own, can, from source.start "
    "on, as long as they are kept"
)


def ensure(target: Target, comments: Mapping[str, str]) -> None:
    """Create the table, or add the columns that it lacks in a commit of its own."""
    location = locate(target.uri)
    snapshot = delta.open_table(location)
    if snapshot is None:
        create(location, target.schema, list(target.slice), comments)
    elif missing := [f for f in target.schema if snapshot.schema.get_field_index(f.name) < 0]:
        delta.add_columns(snapshot, missing, comments)


def require_room(target: Target) -> None:
    """Raise ConfigError where this machine, without executors, can't hold what a merge needs."""
    merge.require_room(target)


def published(target: Target, run: str) -> bool:
    """Whether this run's commit is in the table's log."""
    return committed(delta.open_table(locate(target.uri)), target, run)


def create(location: Location, schema: pa.Schema, slice_columns: Sequence[str], comments: Mapping[str, str]) -> None:
    """Create the table, empty, its columns described; one that another process created meanwhile is as good."""
    try:
        delta.create_table(location, schema, slice_columns, comments, "Written by lakehouse score")
    except delta.Conflict:
        if delta.open_table(location) is None:
            raise


@dataclass(frozen=True)
class CommitBase:
    """A snapshot against which the promises of a commit hold, and the files that it takes away by name.

    `kept`: files that a rollback would put back, and that somebody has put back already: the others are committed.
    """

    snapshot: delta.Snapshot
    removes: tuple[delta.DataFile, ...]
    kept: frozenset[str] = frozenset()


def check(target: Target, run: str) -> CommitBase:
    """Look at the table as it is now. Raises what `publish` would raise; commits nothing."""
    snapshot = delta.open_table(locate(target.uri))
    if snapshot is None:
        raise StagedFilesMissing(
            f"{display_name(target.uri)}: the table was there when the run was planned, and is not any more"
        )
    return CommitBase(snapshot, ()) if committed(snapshot, target, run) else _check(snapshot, target)


def publish(target: Target, run: str, checked: CommitBase, spark: SparkSession | None = None) -> int:
    """Commit the run's staged files, once; the table's version. A run whose commit is in the log commits nothing.

    Each attempt stands on a snapshot of which all was checked, `checked` at first and a fresh one after a conflict:
    the generation is still the one seen at planning, every staged file is there with its size, none is live already
    (but for a rollback), the table has no rule that a direct commit would break. `spark` writes the rows of a COPIED
    target, and its executors do the work of a large merge. Raises Overtaken when another run published meanwhile, Gone
    when staged files or the table are missing, Unavailable when the table stays too busy.
    """
    attempt = 0
    rewritten: merge.Rewritten = {}
    elsewhere = None if spark is None else functools.partial(merge_tasks.rewrite, spark)
    while True:
        snapshot, removes = checked.snapshot, list(checked.removes)
        if committed(snapshot, target, run):
            return version_of(snapshot, run)
        adds: Sequence[delta.Add] = [file for file in target.files if file.path not in checked.kept]
        try:
            if target.how == COPIED:
                assert spark is not None  # opened by whoever carries such a target out
                return copied.publish(spark, snapshot, target, run)
            if target.write == "merge":
                removes, rest = merge.rewrite(snapshot, target, run, rewritten, elsewhere)
                adds = [*adds, *rest]
            version = delta.commit(
                snapshot,
                adds,
                replace=target.slice if target.write == "replace" and not checked.kept else None,
                partition=target.slice,
                removes=removes,
                blind=target.write == "append" and not removes,
                transactions=target.transactions(run),
                metadata=target.commit_metadata(run),
            )
        except delta.Conflict as error:
            attempt += 1
            if attempt == delta.ATTEMPTS:
                raise Unavailable(f"{error}; {attempt} times in a row: try again") from error
            delta.pause(attempt)
            checked = check(target, run)
            continue
        try:
            _verify(snapshot.location, target, {*(add.path for add in adds), *checked.kept}, removes, version)
        except (Unavailable, OSError) as error:
            raise CommitNotVerified(str(error), version) from error
        return version


def _check(snapshot: delta.Snapshot, target: Target) -> CommitBase:
    """The promises of a commit, checked against this snapshot."""
    name = display_name(target.uri)
    _check_schema(snapshot, target, name)
    _check_rules(snapshot, target, name)
    require_staged(target, name)
    if target.kind != QUARANTINE:
        generation = snapshot.transaction(target.identity) or 0
        half = target.how == COPIED and generation == target.generation  # Spark's first commit may be this run's
        if generation != target.generation - 1 and not half:
            raise overtaken_error(target, name, generation)
    live = snapshot.files([JOB, RUN_ID])
    doubled = frozenset({f.relative for f in live} & {f.path for f in target.files})
    if doubled and not target.restores:
        # Not to be tried again: an intent that is kept would stop every later run.
        raise Blocked(
            f"{name}: {min(doubled)} is live already, although the log has no commit of this run: somebody has put it "
            "there by hand. "
            + ("Score again with --rescore" if target.range is None else f"Delete what it holds, {_NEXT_RUN}")
        )
    if target.kind == QUARANTINE:
        return CommitBase(snapshot, ())
    if target.range is not None:
        require_at(snapshot, target)
    if target.write != "append":
        mine = files_of_slice(live, target.slice)
        refuse_rows_of_others(snapshot, target, mine)
        if masked := [f.relative for f in mine if f.relative in doubled and f.live_mask is not None]:
            raise Blocked(f"{name}: rows of {masked[0]} were deleted one by one, so it can't be put back: score again")
        return CommitBase(snapshot, tuple(f for f in mine if doubled and f.relative not in doubled), doubled)
    appended_to = target.generation > 1 and not target.goes_on
    return CommitBase(snapshot, tuple(_earlier_files(live, target, snapshot, name)) if appended_to else ())


def _check_schema(snapshot: delta.Snapshot, target: Target, name: str) -> None:
    have = {f.name: nullable_type(f.type) for f in snapshot.schema}
    other = [f.name for f in target.schema if have.get(f.name) != f.type]
    if other or list(snapshot.partition_columns) != list(target.slice):
        what = f"columns {', '.join(other)}" if other else f"partitioned by {list(snapshot.partition_columns)}"
        raise Overtaken(f"{name}: the table is another one than when the run was planned ({what}); run again")


def _check_rules(snapshot: delta.Snapshot, target: Target, name: str) -> None:
    try:
        now = compatibility.decide(snapshot, target.write, target.slice)
    except ConfigError as error:
        raise Overtaken(f"the table's rules changed since the run was planned: {error}") from error
    if now.how != target.how or not set(now.enforced) <= set(target.enforced):
        more = sorted(set(now.enforced) - set(target.enforced)) or list(now.why)
        raise Overtaken(f"{name}: the table's rules changed since the run was planned ({', '.join(more)}); run again")


def _earlier_files(
    live: Sequence[delta.DataFile], target: Target, snapshot: delta.Snapshot, name: str
) -> list[delta.DataFile]:
    """The files of all runs of this date that live: a person may have restored an earlier one."""
    owners = {file.path: {run for _, run in live_owners(snapshot, [file])} for file in live}
    runs = {run for found in owners.values() for run in found if committed(snapshot, target, run)}
    mine = [file for file in live if owners[file.path] & runs]
    if shared := [file.relative for file in mine if owners[file.path] - runs]:
        raise Blocked(
            f"{name}: the rows of run {', '.join(sorted(runs))} no longer stand in files of their own (OPTIMIZE has "
            f"merged them, such as in {shared[0]}), so they can't be replaced in one commit; delete them, then append"
        )
    return mine


def _verify(
    location: Location, target: Target, wanted: set[str], removes: Sequence[delta.DataFile], version: int
) -> None:
    """Read the commit back: exactly the files that were to live in the slice do, and are still there."""
    snapshot = delta.open_table(location, version=version)
    live = {f.relative for f in live_files_of_slice(snapshot, target.slice)} if snapshot else set()
    gone = {f.relative for f in removes}
    if not wanted <= live or live & gone or (target.write == "replace" and live != wanted):
        raise RuntimeError(f"{display_name(target.uri)} version {version} does not hold exactly what was committed")
    lost = [path for path, size in sizes(location, sorted(wanted)).items() if size is None]
    if lost:
        raise Blocked(
            f"{display_name(target.uri)}: {len(lost)} files of version {version} were deleted while they were "
            f"committed (a VACUUM that retains nothing?), such as {lost[0]}: "
            + ("score again with --rescore" if target.range is None else _ANOTHER_JOB)
        )
