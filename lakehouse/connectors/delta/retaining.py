"""Files that a table no longer has: how long it keeps them for those who still read an older version."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import unquote

from deltalake.exceptions import DeltaError

from lakehouse.connectors.delta.snapshot import Snapshot, one_line, refuse_unreachable
from lakehouse.errors import ConfigError
from lakehouse.storage import display_name, tree

KEPT = "delta.deletedFileRetentionDuration"
_WEEK = timedelta(days=7)
"""How long where the table doesn't say."""
_INTERVAL = re.compile(r"(?:interval )?(\d+) (second|minute|hour|day|week)s?", re.IGNORECASE)


def interval_of(text: str) -> timedelta | None:
    """A table property such as "interval 30 days" as a time; None for one that only Delta's libraries understand."""
    found = _INTERVAL.fullmatch(text.strip())
    return timedelta(**{f"{found[2].lower()}s": int(found[1])}) if found else None


def is_kept_for(snapshot: Snapshot, wanted: timedelta) -> bool:
    """Whether the table keeps removed files at least so long; taken for granted where only a library can tell."""
    said = snapshot.configuration.get(KEPT)
    kept = _WEEK if said is None else interval_of(said)
    return kept is None or kept >= wanted


def keep_for(snapshot: Snapshot, wanted: timedelta) -> None:
    """Have the table itself keep removed files so long, whoever does away with them. In a commit of its own."""
    try:
        snapshot.in_place().alter.set_table_properties({KEPT: f"interval {wanted.days} days"})
    except (DeltaError, OSError) as error:
        refuse_unreachable(snapshot.location, error)
        raise ConfigError(
            f"{display_name(snapshot.location)}: {KEPT} can't be set: {one_line(error)}; set it by SQL"
        ) from error


def removed_files(snapshot: Snapshot, kept_for: timedelta | None = None) -> dict[str, int]:
    """The files, with their bytes, that the log knows as removed for longer than the table keeps them, or `kept_for`.

    Such a file may be live again, as after a rollback: then it isn't among them. Files that no log knows are not.
    """
    longer = kept_for is not None and not is_kept_for(snapshot, kept_for)
    hours = -(-kept_for // timedelta(hours=1)) if kept_for is not None and longer else None
    named = {unquote(path) for path in snapshot.in_place().vacuum(hours, dry_run=True, full=False)}
    gone = named - {file.relative for file in snapshot.files()} if named else named
    there = tree(snapshot.location) if gone else {}  # the log names those that were taken away before, too
    return {path: there[path] for path in sorted(gone) if path in there}
