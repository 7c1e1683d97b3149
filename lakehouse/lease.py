"""A run's lease: a small file beside its staged files that says it is alive, renewed while it is."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from lakehouse.errors import LakehouseError
from lakehouse.storage import Location, read_all, remove, remove_empty, write_durably

NAME = "_lease.json"
EVERY = 60.0
"""Seconds between two renewals."""
LASTS = timedelta(minutes=10)
"""A run that has not renewed its lease for so long is dead."""


@contextmanager
def held(tables: Sequence[Location], run: str, state: Location) -> Iterator[None]:
    """Hold the run's lease on these tables until the block ends, however it does short of a kill."""
    over = threading.Event()
    _write(tables, run, state)

    def renew() -> None:
        while not over.wait(EVERY):
            try:
                _write(tables, run, state)
            except (LakehouseError, OSError):
                continue  # the next renewal may succeed; nobody takes the lease for ended before LASTS

    thread = threading.Thread(target=renew, daemon=True, name="lease")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for table in tables:
            end(table, run)


def _write(tables: Sequence[Location], run: str, state: Location) -> None:
    said = {"host": socket.gethostname(), "pid": os.getpid(), "at": datetime.now(UTC).isoformat(), "state": state.uri}
    for table in tables:
        write_durably(table.join(f"run-{run}", NAME), json.dumps(said).encode())


def read(table: Location, run: str) -> dict[str, Any] | None:
    """What the run's lease says, None where there is none."""
    content = read_all(table.join(f"run-{run}"), NAME).get(NAME)
    return dict(json.loads(content)) if content else None


def end(table: Location, run: str) -> None:
    """Take the lease away."""
    folder = table.join(f"run-{run}")
    remove(folder.join(NAME))
    remove_empty(folder)


def why_kept(said: Mapping[str, Any] | None, now: datetime) -> str | None:
    """Why a run with such a lease counts as alive, None where it doesn't: no lease, an old one, its process is gone."""
    if said is None:
        return None
    at = datetime.fromisoformat(said["at"])
    if now - at > LASTS or (said["host"] == socket.gethostname() and not _runs(int(said["pid"]))):
        return None
    return f"in progress on {said['host']}, process {said['pid']}"


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
