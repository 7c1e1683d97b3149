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


_MANY_ROWS = 100_000
"""From here on a slow model keeps one process at work for seconds; a fast one is done before there is a second."""


def spark_needs(plan: Plan) -> tuple[bool, bool]:
    """Whether Spark's session needs Delta's jars, and those of S3 files: to read the input, or to write, itself.

    Raises ConfigError for a storage that Spark can't be given.
    """
    copied = any(s.target.how == COPIED for s in plan.sinks)
    at = sources.of(plan.job.source.type).folder(plan.pinned)
    read = at is not None and plan.carrier == FRAME
    s3 = at is not None and read and at.spark_needs_s3(plan.reason)
    return read or copied, s3 or (copied and plan.sink.root.spark_needs_s3())


def expect(job: Job, request: Request, stack: ExitStack) -> None:
    """Before the plan: start Spark where the slice was never published, so that the run can't find it unchanged.

    Most runs are of a new date. What is seen there and said of it is left to the plan.
    """
    if request.engine != "spark" or request.dry_run or request.replays is not None:
        return
    first = job.sinks[0]
    if not sinks.of(first.type).IN_PLACE:  # to ask it costs as much as the plan itself
        return
    try:
        published, _ = sinks.of(first.type).generation(uri_of(first), identity_of(job))
    except (LakehouseError, OSError):
        return
    if published == 0 or request.rescore:
        _begin(stack, delta=False, s3=False)


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
        delta, s3 = spark_needs(plan)
    except LakehouseError:  # said again where the session is asked for
        return
    _begin(stack, delta=delta, s3=s3)


def _begin(stack: ExitStack, *, delta: bool, s3: bool) -> None:
    from lakehouse.engines.spark import sessions

    stack.callback(sessions.abandon)
    sessions.begin(delta, s3)


def _begin_local(plan: Plan, stack: ExitStack) -> None:
    rows, folders = plan.pinned.rows, list(plan.model_folders.items())
    isolated = any(not isinstance(folder, str) for _, folder in folders)
    if rows is None or rows < _MANY_ROWS or isolated or plan.model.on_frames or local.cores() < 2:
        return
    (digest, folder), *others = folders
    alone = not others and plan.model.flavor in models.NATIVE  # of others nobody knows what they start when loaded
    params = models.freeze(plan.job.model.params)
    stack.callback(forking.end)
    forking.begin([forking.Model(str(folder), digest, plan.job.model.method, params)] if alone else [])
