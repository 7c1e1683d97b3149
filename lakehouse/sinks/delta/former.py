"""What a slice of a Delta table held at an earlier version, as it can be committed again."""

from __future__ import annotations

from lakehouse.connectors import delta
from lakehouse.errors import ConfigError
from lakehouse.sinks.delta.history import live_files_of_slice, live_owners
from lakehouse.sinks.delta.inspect import display_name
from lakehouse.sinks.target import FormerRows, Target
from lakehouse.storage import locate, sizes


def former(target: Target, version: int) -> FormerRows:
    """The files that were live in a slice at a version, their rows, and the runs that these are of.

    Raises ConfigError where the log has dropped that version, or VACUUM has taken a file.
    """
    name, location = display_name(target.uri), locate(target.uri)
    then = delta.open_table(location, version=version)
    if then is None:
        raise ConfigError(f"{name}: there is no such table")
    files = live_files_of_slice(then, target.slice)
    if any(file.live_mask is not None for file in files):
        raise ConfigError(f"{name}: at version {version} rows of these files were deleted one by one: score again")
    there = sizes(location, [file.relative for file in files])
    if gone := [file.relative for file in files if there[file.relative] != file.size]:
        raise ConfigError(
            f"{name}: {len(gone)} of {len(files)} files of version {version} are gone, such as {gone[0]} (VACUUM takes "
            "replaced files after a week): score the date again"
        )
    told = delta.statistics_of(then, [file.relative for file in files])
    owners = live_owners(then, files)
    adds = tuple(delta.Add(file.relative, file.size, told[file.relative]) for file in files)
    return FormerRows(adds, sum(owners.values()), tuple(sorted({run for _, run in owners})))
