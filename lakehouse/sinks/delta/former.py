"""What a slice of a Delta table held at an earlier version, as it can be committed again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakehouse.connectors import delta
from lakehouse.errors import ConfigError
from lakehouse.schemas import nullable_type
from lakehouse.sinks.delta.history import live_files_of_slice, live_owners
from lakehouse.sinks.delta.inspect import display_name
from lakehouse.sinks.delta.living import named_place
from lakehouse.sinks.target import SINK, FormerRows, Target
from lakehouse.storage import locate, sizes

if TYPE_CHECKING:
    from lakehouse.config import Sink


def former(target: Target, version: int) -> FormerRows:
    """The files that were live in a slice at a version, their rows, and the runs that these are of.

    Where they were merged since and are gone, those that took their place. Raises ConfigError where the log has dropped
    that version, a file is gone whose rows nothing else holds, or the table can't hold these rows as they were.
    """
    name, location = display_name(target.uri), locate(target.uri)
    newest, then = delta.open_table(location), delta.open_table(location, version=version)
    if newest is None or then is None:
        raise ConfigError(f"{name}: there is no such table any more: restore it from a backup, or score the date again")
    _require_same_columns(name, then, newest)
    files, live = live_files_of_slice(then, target.slice), live_files_of_slice(newest, target.slice)
    if _is_live(then, target.slice, files, live, newest):
        then, files = newest, live
    if (gone := _gone(then, files)) and (later := _rewritten(then, target.slice)) is not None:
        files_then = live_files_of_slice(later, target.slice)
        then, files, gone = later, files_then, _gone(later, files_then)
    if any(file.live_mask is not None for file in files):
        raise ConfigError(f"{name}: at version {then.version} rows of these files were deleted one by one: score again")
    if gone:
        raise ConfigError(
            f"{name}: {len(gone)} of {len(files)} files of version {then.version} are gone, such as {gone[0]} "
            "(VACUUM takes replaced files after a week, and so does maintain): score the date again"
        )
    are_live = then is newest  # then nothing is added
    told = {} if are_live else delta.statistics_of(then, [file.relative for file in files])
    owners = live_owners(then, files)
    adds = tuple(delta.Add(file.relative, file.size, told.get(file.relative, "")) for file in files)
    return FormerRows(adds, sum(owners.values()), tuple(sorted({run for _, run in owners})), are_live=are_live)


def _is_live(
    then: delta.Snapshot,
    slice_texts: Mapping[str, str],
    files: Sequence[delta.DataFile],
    live: Sequence[delta.DataFile],
    newest: delta.Snapshot,
) -> bool:
    """Whether a slice holds now what it held then, in the same files or in merged ones."""
    if _contents(files) == _contents(live):
        return True
    if live_owners(then, files) != live_owners(newest, live):
        return False
    later = _rewritten(then, slice_texts)
    return later is not None and _contents(live_files_of_slice(later, slice_texts)) == _contents(live)


def _contents(files: Sequence[delta.DataFile]) -> set[tuple[str, int, str]]:
    return {(file.relative, *file.fingerprint()[1:]) for file in files}


def _require_same_columns(name: str, then: delta.Snapshot, newest: delta.Snapshot) -> None:
    """Raise ConfigError where files of then, read by the table's columns of now, would not give what they held.

    A column that was added since is null in such rows, and one whose name alone was changed (column mapping) holds
    what it held.
    """
    if then.partition_columns != newest.partition_columns:
        was, has = list(then.partition_columns) or "nothing", list(newest.partition_columns) or "nothing"
        raise ConfigError(
            f"{name} was partitioned by {was} at version {then.version}, and is by {has} now: its former files can't "
            "be put back: score the date again"
        )
    now = {newest.physical(column.name): column for column in newest.schema}
    changed = []
    for column in then.schema:
        other = now.get(then.physical(column.name))
        if other is None:
            changed.append(f"{column.name} is not there any more")
        elif nullable_type(other.type) != nullable_type(column.type):
            changed.append(f"{column.name} was {column.type} and is {other.type}")
    known = {then.physical(column.name) for column in then.schema}
    changed += [f"{c.name} was added and is NOT NULL" for n, c in now.items() if n not in known and not c.nullable]
    if changed:
        raise ConfigError(
            f"{name}: its columns are others than at version {then.version} ({', '.join(changed)}), so former files "
            "would be read as what they don't hold: score the date again"
        )


def _gone(snapshot: delta.Snapshot, files: Sequence[delta.DataFile]) -> list[str]:
    there = sizes(snapshot.location, [file.relative for file in files])
    return [file.relative for file in files if there[file.relative] != file.size]


def _rewritten(snapshot: delta.Snapshot, slice_texts: Mapping[str, str]) -> delta.Snapshot | None:
    """The newest version in which the slice has the same rows in other files; None where there is none."""
    until = delta.rewritten_until(snapshot, slice_texts)
    return delta.open_table(snapshot.location, version=until) if until > snapshot.version else None


def lost_with(section: Sink, records: Sequence[Mapping[str, Any]], paths: Collection[str]) -> list[str]:
    """Those of these recorded runs whose rows can be put back now, and can't be once these files are gone."""
    location = locate(section.table)
    name, lost = display_name(location.uri), list[str]()
    for record in records:
        versions = [s["version"] for s in record["sinks"] or () if (s.get("kind"), s["table"]) == (SINK, name)]
        if not versions or versions[0] is None:
            continue
        try:
            then = delta.open_table(location, version=versions[0])
        except ConfigError:  # the log has dropped it
            continue
        if then is not None and _is_lost(then, str(record["job"]), str(record["identity"]), set(paths)):
            lost.append(str(record["run_id"]))
    return lost


def _is_lost(then: delta.Snapshot, job: str, identity: str, paths: set[str]) -> bool:
    files = [file for file in then.files() if named_place(job, file) == identity.lower()]
    if not {file.relative for file in files} & paths or _gone(then, files):
        return False
    later = _rewritten(then, {c: str(delta.partition_text(v)) for c, v in files[0].partition.items()})
    return later is None or bool({file.relative for file in later.files()} & paths)
