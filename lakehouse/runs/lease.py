"""A run's lease: a small file beside its staged files that says it is alive, renewed while it is.

It lasts as long as the run's intent does: a run that ends before its intent is carried out, or that is held, leaves the
lease, marked, and whoever finishes the run ends it. By it others find the intent, whatever state folder that lies in.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from lakehouse import formats
from lakehouse.engines import processes
from lakehouse.errors import LakehouseError
from lakehouse.runs import ledger
from lakehouse.storage import Location, clock, display_name, modified, read_all, remove, remove_empty, write_durably

NAME = "_lease.json"
EVERY = 60.0
"""Seconds between two renewals."""
LASTS = timedelta(minutes=10)
"""A run that has not renewed its lease for so long, by the storage's own clock, is dead."""


@contextmanager
def hold(
    tables: Sequence[Location], run: str, state: Location, warn: Callable[[str], None], *, restores: bool = False
) -> Iterator[Callable[[Iterable[Location]], None]]:
    """Hold the run's lease on these tables until the block ends, however it does short of a kill.

    `restores`: it puts back files that a table has no more. `warn` is told where it can't be taken away then: nothing
    depends on that. What it gives is told of tables on which the run waits after that, for a person.
    """
    over, more, waits = threading.Event(), {"restores": True} if restores else {}, set[Location]()
    _write(tables, run, state, **more)

    def renew() -> None:
        while not over.wait(EVERY):
            try:
                _write(tables, run, state, **more)
            except (LakehouseError, OSError):
                continue  # the next renewal may succeed; nobody takes the lease for ended before LASTS

    thread = threading.Thread(target=renew, daemon=True, name="lease")
    thread.start()
    try:
        yield waits.update
    finally:
        over.set()
        thread.join()
        try:
            _leave(tables, run, state, waits)
        except (LakehouseError, OSError) as error:
            warn(f"the lease of run {run} is still there, `lakehouse sweep` takes it away: {error}")


def _leave(tables: Sequence[Location], run: str, state: Location, waits: Collection[Location]) -> None:
    """Take the lease away, but for where the run waits to be finished."""
    stays = tables if run in ledger.runs_with_intents(state) else [table for table in tables if table in waits]
    _write(stays, run, state, waits=True)
    for table in tables:
        if table not in stays:
            end(table, run)


def _write(tables: Sequence[Location], run: str, state: Location, **more: Any) -> None:
    said = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process": processes.own_name(),
        "at": datetime.now(UTC).isoformat(),
        "state": state.uri,
        **more,
    }
    for table in tables:
        write_durably(_file(table, run), json.dumps(formats.with_version(formats.LEASE, said)).encode())


def _file(table: Location, run: str) -> Location:
    return table.join(f"run-{run}", NAME)


def read(table: Location, run: str) -> dict[str, Any] | None:
    """What the run's lease says, None where there is none. Raises ConfigError for one of a newer format."""
    content = read_all(table.join(f"run-{run}"), NAME).get(NAME)
    return (
        formats.without_version(formats.LEASE, json.loads(content), display_name(_file(table, run)))
        if content
        else None
    )


def end(table: Location, run: str) -> None:
    """Take the lease away."""
    folder = table.join(f"run-{run}")
    remove(folder.join(NAME))
    remove_empty(folder)


def alive_runs(table: Location, leases: Mapping[str, Mapping[str, Any] | None]) -> dict[str, str]:
    """Of runs with these leases on a table those that count as alive, and why.

    One that is left for whoever finishes the run is no sign of life, nor is one whose process is known to be gone. How
    old a lease is, only the storage can tell: it is held against a file that is written there for that.
    """
    signs = {
        run: f"in progress on {said['host']}, process {said['pid']}"
        for run, said in leases.items()
        if said and not said.get("waits") and not processes.has_ended(str(said.get("process", "")))
    }
    if not signs:
        return signs
    try:
        now = clock(table)
    except (LakehouseError, OSError):
        return signs  # whoever may not write here can't tell, and takes nothing away either
    since = {run: modified(_file(table, run)) for run in signs}
    return {run: why for run, why in signs.items() if (at := since[run]) is not None and now - at <= LASTS}
