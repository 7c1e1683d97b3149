"""Commits to tables in an object storage, each put there by one request: the library writes it to a copy of the log.

The storage takes a commit in only where no other writer has made that version, as it does when the library puts it. So
no log is read again to commit to it, however long it is.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from lakehouse.connectors.delta.log import LOG, newest
from lakehouse.connectors.delta.retaining import interval_of
from lakehouse.connectors.delta.snapshot import Snapshot
from lakehouse.errors import LakehouseError
from lakehouse.storage import Location, entries_of, write_durably

_KEPT = timedelta(days=30)
"""How long a log keeps its commits where the table doesn't say."""


def puts_commits(location: Location) -> bool:
    """Whether commits to a table here can be put, so that a copy of its log is all that they need."""
    return location.remote and location.puts_new


def put_commit(snapshot: Snapshot, write: Callable[[DeltaTable], None], checkpoint: bool) -> bool | None:
    """Have the library write the commit after this snapshot to a copy of the log, and put it; False where one is there.

    None where the library has to make it where the table lies, which then is untouched: without a copy of the log, or
    where a `checkpoint` is due that does away with old commits. Raises what `write` raises, and Unavailable.
    """
    if snapshot.copy is None or not puts_commits(snapshot.location) or "v2Checkpoint" in snapshot.features:
        return None
    listed = entries_of(snapshot.location.join(LOG), f"{snapshot.version:020d}")
    if newest(listed) != snapshot.version:  # a log may have lost the very commit that would stand against this one
        return False
    if checkpoint and _has_expired(snapshot):
        return None
    with _own_copy(snapshot.copy.folder, snapshot.version) as folder:
        table = DeltaTable(folder, version=snapshot.version)
        write(table)
        name = f"{snapshot.version + 1:020d}.json"
        if not snapshot.location.join(LOG, name).put_new((folder / LOG / name).read_bytes()):
            return False
        if checkpoint:
            with suppress(DeltaError, LakehouseError, OSError):  # without it the log is read more slowly, nothing else
                _put_checkpoint(table, folder / LOG, snapshot)
    return True


@contextmanager
def _own_copy(log: Path, version: int) -> Iterator[Path]:
    """A table without data whose log is this one up to a version: a commit that isn't taken goes with it."""
    with tempfile.TemporaryDirectory(prefix="lakehouse-log-") as name:
        folder = Path(name)
        (folder / LOG).mkdir()
        for file in (file for file in log.iterdir() if file.name[:20] <= f"{version:020d}"):
            try:
                os.link(file, folder / LOG / file.name)
            except OSError:
                shutil.copy(file, folder / LOG / file.name)
        yield folder


def _put_checkpoint(table: DeltaTable, log: Path, snapshot: Snapshot) -> None:
    """Put a checkpoint of the commit, then the file that names it: whoever reads that finds it."""
    table.update_incremental()
    table.create_checkpoint()
    for name in (f"{snapshot.version + 1:020d}.checkpoint.parquet", "_last_checkpoint"):
        write_durably(snapshot.location.join(LOG, name), (log / name).read_bytes())


def _has_expired(snapshot: Snapshot) -> bool:
    """Whether the log has files that a checkpoint lets the library do away with."""
    if snapshot.configuration.get("delta.enableExpiredLogCleanup", "true").lower() == "false":
        return False
    said = snapshot.configuration.get("delta.logRetentionDuration")
    kept = interval_of(said) if said else _KEPT
    if kept is None:
        return True  # the library understands it, or says so
    log = snapshot.location.join(LOG)
    oldest = next(log.listed_from("0"))[2] if log.lists_from else min(at for _, at in entries_of(log).values())
    return oldest < datetime.now(UTC) - kept
