"""What a process serves with: the jobs that it has loaded, who may ask, its limits, and what it counts."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lakehouse.errors import LakehouseError
from lakehouse.serving import scoring
from lakehouse.serving.access import Keys
from lakehouse.serving.columns import Reader, reader_for
from lakehouse.serving.counting import Metrics
from lakehouse.serving.limits import Gate, Limits, Rates
from lakehouse.serving.openapi import described
from lakehouse.serving.prepared import Prepared
from lakehouse.serving.scoring import Open

if TYPE_CHECKING:
    from lakehouse.serving.lookup import Published

LOG = logging.getLogger("lakehouse.serving")


@dataclass(frozen=True)
class Served:
    """A job in a process: loaded, with how bodies are read for it.

    `published`: its published scores, where they can be looked up.
    """

    open: Open
    reader: Reader
    published: Published | None


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
    metrics: Metrics | None = None, *, looks_up: bool = True,
) -> Server:  # fmt: skip
    """Load the models of these jobs into this process. Raises ModelRefused, which names the job.

    `stuck`: as of `Gate`. `looks_up`: published scores can be asked for.
    """
    jobs = {}
    for one in prepared:
        reader = reader_for(one.schema, one.optional, limits.rows)
        try:
            loaded = scoring.load(one)
            scoring.warm_up(loaded)
        except LakehouseError as error:
            raise type(error)(f"{one.job}: {error}") from error
        jobs[one.job] = Served(loaded, reader, _published(one) if looks_up else None)
    gate, rates = Gate(limits, stuck), Rates(limits.rate)
    described_here = described(prepared, limits, bool(keys), looks_up)
    return Server(jobs, limits, keys, gate, rates, metrics or Metrics(), described_here)


def _published(one: Prepared) -> Published:
    from lakehouse.serving.lookup import Published

    return Published(one.file)


def look_regularly(server: Server, seconds: float, patience: float) -> None:
    """Look in a thread whether the tables have new versions, now and every so many seconds from then on.

    The first look is waited for, at most for `patience` seconds: whoever asks before it has ended is told to try again.
    """
    looked = threading.Event()

    def look() -> None:
        while True:
            for name, job in server.jobs.items():
                if job.published is not None:
                    refresh(name, job.published)
            looked.set()
            time.sleep(seconds)

    threading.Thread(target=look, name="lookup", daemon=True).start()
    looked.wait(patience)


def refresh(name: str, published: Published) -> None:
    """Look whether the table has a new version. What is in the way is logged: the version that is known goes on."""
    try:
        published.refresh()
        published.trouble = ""
    except LakehouseError as error:
        if str(error) != published.trouble:
            LOG.warning("%s: published scores can't be looked up: %s", name, error)
        published.trouble = str(error)
    except Exception as error:
        LOG.exception("%s: published scores can't be looked up", name)
        published.trouble = type(error).__name__
