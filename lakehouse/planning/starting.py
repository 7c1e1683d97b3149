"""What scores is started in the background as soon as a run is sure to need it, while the driver goes on planning.

A run that finds nothing changed, and a dry run, start none. Errors of a start are those of the session that is asked
for later.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from lakehouse import models, sinks, sources
from lakehouse.engines import forking, local
from lakehouse.errors import LakehouseError
from lakehouse.planning.naming import identity_of
from lakehouse.sinks.target import COPIED, uri_of
from lakehouse.sources import FRAME

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.planning.plan import Plan, Request
    from lakehouse.storage import Location


_MANY_ROWS = 100_000
"""From here on a slow model keeps one process at work for seconds; a fast one is done before there is a second."""
_MANY_BYTES = 16 << 20
"""Where the number of rows isn't known: as many of twenty numbers."""


def spark_needs(plan: Plan) -> tuple[bool, frozenset[type[Location]]]:
    """Whether Spark's session needs Delta's jars, and which of storages: to read the input, or to write, itself.

    Raises ConfigError for a storage that Spark can't be given.
    """
    copied = any(s.target.how == COPIED for s in plan.sinks)
    at = sources.of(plan.job.source.type).folder(plan.pinned)
    read = at is not None and plan.carrier == FRAME
    storages: frozenset[type[Location]] = frozenset()
    if at is not None and read:
        storages = at.spark_needs(plan.reason)
    return read or copied, storages | (plan.sink.root.spark_needs() if copied else frozenset())


def expect(job: Job, request: Request, stack: ExitStack) -> None:
    """Before the plan: start Spark where the slice was never published, so that the run can't find it unchanged.

    Most runs are of a new date. What is seen there and said of it is left to the plan.
    """
    if request.engine != "spark" or request.dry_run or request.replays is not None:
        return
    first = job.sinks[0]
    if job.source.IN_RANGES:  # whether there is anything new, only the system that is read can tell
        return
    if not sinks.of(first.type).IN_PLACE:  # to ask it costs as much as the plan itself
        return
    try:
        published, _ = sinks.of(first.type).generation(uri_of(first), identity_of(job))
    except (LakehouseError, OSError):
        return
    if published == 0 or request.rescore:
        _begin(stack, delta=False, storages=frozenset())


def begin(plan: Plan, request: Request, stack: ExitStack) -> None:
    """After the plan, which has found something to do: start Spark with what it needs, unless that is under way.

    Of the local engine the process that workers are forked from, where there are rows enough for more than one.
    """
    if request.dry_run:
        return
    if request.engine != "spark":
        _begin_local(plan, stack)
        return
    try:
        delta, storages = spark_needs(plan)
    except LakehouseError:  # said again where the session is asked for
        return
    _begin(stack, delta=delta, storages=storages)


def _begin(stack: ExitStack, *, delta: bool, storages: frozenset[type[Location]]) -> None:
    from lakehouse.engines.spark import sessions

    stack.callback(sessions.abandon)
    sessions.begin(delta, storages)


def _begin_local(plan: Plan, stack: ExitStack) -> None:
    folders = list(plan.model_folders.items())
    isolated = any(not isinstance(folder, str) for _, folder in folders)
    if not _has_many_rows(plan) or isolated or plan.model.on_frames or local.cores() < 2 or forking.is_in_use():
        return
    params = models.freeze(plan.job.model.params)
    stack.callback(forking.rest)
    (digest, folder), *_ = folders
    own = [forking.Model(str(folder), digest, plan.job.model.method, params)]
    forking.begin(own if is_native(plan) else [])


def is_native(plan: Plan) -> bool:
    """Whether there is one model, which its own library loads: of others nobody knows what they start when loaded."""
    return len(plan.model_folders) == 1 and plan.model.flavor in models.NATIVE


def _has_many_rows(plan: Plan) -> bool:
    """Whether there are many, or where that isn't known many bytes; of a query neither is known before it was run."""
    rows, size = plan.pinned.rows, plan.pinned.size
    return rows >= _MANY_ROWS if rows is not None else size is not None and size >= _MANY_BYTES
