"""Writing to a Delta table's log: create it, add columns, commit files, without a JVM."""

from __future__ import annotations

import functools
import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Field, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import (
    CommitFailedError,
    DeltaError,
)
from deltalake.transaction import AddAction, RemoveAction

from lakehouse.connectors.delta.putting import put_commit
from lakehouse.connectors.delta.snapshot import (
    DataFile,
    Snapshot,
    one_line,
    open_table,
    partition_text,
    refuse_unreachable,
    snapshot_of,
)
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.storage import Location, display_name

ATTEMPTS = 20
"""Tries of one commit while other writers come first."""
_EVERY = 10
"""Commits of a table made here between two checkpoints: each opening of a log reads every commit since the last one."""
_INTERVAL = "delta.checkpointInterval"
_LIBRARY_EVERY = 100
"""The same where a table doesn't say, as the library has it."""


class Conflict(Unavailable):
    """Another writer committed first: look again before trying again."""


def create_table(
    location: Location,
    schema: pa.Schema,
    partition_by: Sequence[str],
    comments: Mapping[str, str],
    description: str,
    properties: Mapping[str, str] | None = None,
) -> Snapshot:
    """Create an empty table whose columns carry comments. Raises Conflict if another process created it first."""
    try:
        table = DeltaTable.create(
            location.uri,
            Schema(_with_comments(schema, comments)),
            mode="error",
            partition_by=list(partition_by),
            description=description,
            storage_options=location.delta_options(),
            configuration={_INTERVAL: str(_EVERY), **(properties or {})},
            # A retry would put this table's description over the one that another process has just created.
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    except (CommitFailedError, DeltaError, OSError) as error:
        refuse_unreachable(location, error)
        if isinstance(error, CommitFailedError) or "exist" in str(error):
            raise Conflict(
                f"{display_name(location)}: another process created the table first: {one_line(error)}"
            ) from error
        raise ConfigError(f"{display_name(location)}: the table can't be created: {one_line(error)}") from error
    return snapshot_of(location, table)


def _with_comments(schema: pa.Schema, comments: Mapping[str, str]) -> list[Field]:
    """Nullable columns with their comments, which Arrow's schemas don't hold."""
    return [
        Field(f.name, f.type, nullable=True, metadata={"comment": comments[f.name]} if f.name in comments else {})
        for f in Schema.from_arrow(schema).fields
    ]


def add_columns(snapshot: Snapshot, fields: Sequence[pa.Field], comments: Mapping[str, str]) -> Snapshot:
    """Add nullable columns in a commit of their own."""
    snapshot.in_place().alter.add_columns(_with_comments(pa.schema(fields), comments))
    fresh = open_table(snapshot.location)
    assert fresh is not None
    return fresh


@dataclass(frozen=True)
class Add:
    """A staged file to commit: path below the table's root, size in bytes, Delta statistics as strict JSON."""

    path: str
    size: int
    stats: str


def adds_of(staged: Iterable[Mapping[str, Any]]) -> tuple[Add, ...]:
    """Files as they are committed, of what a writer or a manifest says of each: path, bytes, detail."""
    return tuple(Add(file["path"], file["bytes"], file["detail"]) for file in staged)


def commit(
    snapshot: Snapshot,
    adds: Sequence[Add],
    *,
    replace: Mapping[str, str] | None,
    partition: Mapping[str, str],
    removes: Sequence[DataFile] = (),
    blind: bool = False,
    changes: bool = True,
    transactions: Mapping[str, int],
    metadata: Mapping[str, Any],
) -> int:
    """Add files and take others away in one commit right after `snapshot`, with transaction ids; the new version.

    `replace`: the partition whose live files go ({} is the whole table), None to take away only `removes`.
    `blind`: nothing that was read of the table has a part in it, so that other writers need not mind it. Not `changes`:
    the same rows in other files, as OPTIMIZE makes them.
    It never retries by itself: a table that moved on raises Conflict, and the caller looks again.
    `metadata` is what DESCRIBE HISTORY shows as userMetadata.
    """
    actions: list[AddAction | RemoveAction] = [*_additions(adds, partition, changes), *_removals(removes, changes)]
    properties = CommitProperties(
        custom_metadata={"userMetadata": json.dumps(metadata, sort_keys=True), "isBlindAppend": blind},
        max_commit_retries=0,
        app_transactions=[Transaction(app_id, version) for app_id, version in transactions.items()],
    )
    return _write(snapshot, actions, replace, properties)


def rewrite(
    snapshot: Snapshot, parts: Iterable[tuple[Sequence[DataFile], Sequence[Add]]], metadata: Mapping[str, Any]
) -> int:
    """Put other files with the same rows in the place of files, of any partitions, in one commit; the new version.

    `parts`: files of one partition, and those that take their place. Raises Conflict as `commit`.
    """
    actions: list[AddAction | RemoveAction] = []
    for files, adds in parts:
        actions += [*_additions(adds, _log_value(files[0].partition), False), *_removals(files, False)]
    properties = CommitProperties(
        custom_metadata={"userMetadata": json.dumps(metadata, sort_keys=True), "isBlindAppend": False},
        max_commit_retries=0,
    )
    return _write(snapshot, actions, None, properties)


def _additions(adds: Iterable[Add], partition: Mapping[str, str | None], changes: bool) -> list[AddAction]:
    now = int(time.time() * 1000)
    return [AddAction(add.path, add.size, dict(partition), now, changes, add.stats) for add in adds]


def _removals(files: Iterable[DataFile], changes: bool) -> list[RemoveAction]:
    now = int(time.time() * 1000)
    # The library encodes the path of a removal itself, so it is given the decoded one.
    return [
        RemoveAction(f.relative, changes, now, size=f.size, partition_values=_log_value(f.partition)) for f in files
    ]


def _write(
    snapshot: Snapshot,
    actions: Sequence[AddAction | RemoveAction],
    replace: Mapping[str, str] | None,
    properties: CommitProperties,
) -> int:
    """Commit the actions right after the snapshot."""

    def write(table: DeltaTable, after: PostCommitHookProperties) -> None:
        table.create_write_transaction(
            list(actions),
            "append" if replace is None else "overwrite",
            table.schema(),
            partition_by=list(snapshot.partition_columns),
            partition_filters=[(c, "=", v) for c, v in replace.items()] if replace else None,
            commit_properties=properties,
            post_commithook_properties=after,
        )

    try:
        put = put_commit(snapshot, functools.partial(write, after=_NOTHING), _is_due(snapshot) or _is_long(snapshot))
        if put is None:
            _commit_in_place(snapshot, write)
    except (CommitFailedError, OSError) as error:
        # Whether the commit was made is asked of the log, as after a conflict: the reply may have been lost.
        raise Conflict(
            f"{display_name(snapshot.location)}: another writer committed first: {one_line(error)}"
        ) from error
    if put is False:
        raise Conflict(
            f"{display_name(snapshot.location)}: another writer committed version {snapshot.version + 1} first"
        )
    return snapshot.version + 1


def _commit_in_place(snapshot: Snapshot, write: Callable[[DeltaTable, PostCommitHookProperties], None]) -> None:
    """Have the library commit where the table lies."""
    try:
        table = snapshot.in_place()
    except (DeltaError, OSError) as error:
        refuse_unreachable(snapshot.location, error)
        raise Conflict(
            f"{display_name(snapshot.location)}: its version {snapshot.version} is gone: {one_line(error)}"
        ) from error
    write(table, _after(snapshot))
    if _is_long(snapshot):
        with suppress(DeltaError, OSError):  # without it the log is read more slowly, and nothing else
            table.create_checkpoint()


_NOTHING = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


def _is_due(snapshot: Snapshot) -> bool:
    """Whether the commit after this snapshot is one of those with which the library makes a checkpoint."""
    return (snapshot.version + 2) % int(snapshot.configuration.get(_INTERVAL, _LIBRARY_EVERY)) == 0


def _after(snapshot: Snapshot) -> PostCommitHookProperties:
    """What the library does once it has committed: most commits make no checkpoint, and then it need not look."""
    every, version = int(snapshot.configuration.get(_INTERVAL, _LIBRARY_EVERY)), snapshot.version + 1
    due = version % every == 0 or (version + 1) % every == 0
    return PostCommitHookProperties(create_checkpoint=due, cleanup_expired_logs=None if due else False)


def _is_long(snapshot: Snapshot) -> bool:
    """Whether a table that doesn't say how often has had no checkpoint for long."""
    plain = _INTERVAL not in snapshot.configuration and "v2Checkpoint" not in snapshot.features
    return plain and snapshot.copy is not None and len(snapshot.copy.files) > _EVERY + 1


def _log_value(partition: Mapping[str, Any]) -> dict[str, str | None]:
    """Partition values as the log writes them: strings."""
    return {c: partition_text(v) for c, v in partition.items()}


def pause(attempt: int) -> None:
    """Wait before the next attempt of a commit: a random time, longer each time, 3 seconds at most."""
    time.sleep(random.uniform(0.05, 0.1 * 2 ** min(attempt, 5)))
