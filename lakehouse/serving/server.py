"""What a process serves with: the jobs that it has loaded, who may ask, its limits, and what it counts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lakehouse.errors import LakehouseError
from lakehouse.serving import scoring
from lakehouse.serving.access import Keys
from lakehouse.serving.columns import Reader, reader_for
from lakehouse.serving.counting import Metrics
from lakehouse.serving.limits import Gate, Limits, Rates
from lakehouse.serving.lookup import Published
from lakehouse.serving.openapi import described
from lakehouse.serving.preparing import Prepared
from lakehouse.serving.scoring import Open

LOG = logging.getLogger("lakehouse.serving")


@dataclass(frozen=True)
class Served:
    """A job in a process: loaded, with how bodies are read for it, and its published scores."""

    open: Open
    reader: Reader
    published: Published


@dataclass(frozen=True)
class Server:
    """All that `handler.handle` needs besides the request."""

    jobs: Mapping[str, Served]
    limits: Limits
    keys: Keys
    gate: Gate
    rates: Rates
    metrics: Metrics
    openapi: bytes
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))


def server_for(
    prepared: Sequence[Prepared], limits: Limits, keys: Keys, stuck: Callable[[], None] = lambda: None,
    metrics: Metrics | None = None,
) -> Server:  # fmt: skip
    """Load the models of these jobs into this process. Raises ModelRefused, which names the job.

    `stuck`: as of `Gate`.
    """
    jobs = {}
    for one in prepared:
        reader = reader_for(one.schema, one.optional, limits.rows)
        try:
            loaded = scoring.load(one)
            scoring.warm_up(loaded)
        except LakehouseError as error:
            raise type(error)(f"{one.job}: {error}") from error
        jobs[one.job] = Served(loaded, reader, Published(one.file))
    gate, rates = Gate(limits, stuck), Rates(limits.rate)
    return Server(jobs, limits, keys, gate, rates, metrics or Metrics(), described(prepared, limits, bool(keys)))


def look_regularly(server: Server, seconds: float) -> threading.Event:
    """Look in a thread whether the tables have new versions, now and every so many seconds, until it is set."""
    ended = threading.Event()

    def look() -> None:
        while True:
            for name, job in server.jobs.items():
                refresh(name, job)
            if ended.wait(seconds):
                return

    threading.Thread(target=look, name="lookup", daemon=True).start()
    return ended


def refresh(name: str, job: Served) -> None:
    """Look whether the table has a new version. What is in the way is logged: the version that is known goes on."""
    try:
        job.published.refresh()
        job.published.trouble = ""
    except LakehouseError as error:
        if str(error) != job.published.trouble:
            LOG.warning("%s: published scores can't be looked up: %s", name, error)
        job.published.trouble = str(error)
    except Exception as error:
        LOG.exception("%s: published scores can't be looked up", name)
        job.published.trouble = type(error).__name__
