"""What a slice of a Delta table held at an earlier version, as it can be committed again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakehouse.connectors import delta
from lakehouse.errors import ConfigError
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
    that version, or a file is gone whose rows nothing else holds.
    """
    name, location = display_name(target.uri), locate(target.uri)
    then = delta.open_table(location, version=version)
    if then is None:
        raise ConfigError(f"{name}: there is no such table")
    files = live_files_of_slice(then, target.slice)
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
    told = delta.statistics_of(then, [file.relative for file in files])
    owners = live_owners(then, files)
    adds = tuple(delta.Add(file.relative, file.size, told[file.relative]) for file in files)
    return FormerRows(adds, sum(owners.values()), tuple(sorted({run for _, run in owners})))


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
