"""Scoring what comes in, run after run, until somebody stops it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lakehouse import pipeline
from lakehouse.errors import ConfigError, NotReady, Unavailable

if TYPE_CHECKING:
    from lakehouse.config import Job
    from lakehouse.planning.plan import Request
    from lakehouse.runs.results import Result


def follow(
    job: Job, engine: str, ask: Callable[[], Request], pause: Callable[[], bool], told: Callable[[Result], None]
) -> Result | None:
    """Run the job again and again; its last published result. Each run takes what came since the one before.

    `ask` gives the next run's request, `told` hears of each result, `pause` waits between two runs and says whether
    to go on. What may pass, such as brokers that can't be reached, is warned of and tried again. All runs share one
    Spark session, where there is one. Raises what `score` raises else, and ConfigError for a job whose input isn't
    read in ranges.
    """
    if not job.source.IN_RANGES:
        raise ConfigError(f"--follow: source.type: {job.source.type} has no messages that could be followed")
    last: Result | None = None
    with _session(engine):
        while True:
            request = ask()
            try:
                result = pipeline.score(job, request)
            except NotReady:
                pass  # too few messages yet
            except Unavailable as error:
                request.warn(f"{error}; trying again")
            else:
                last = result if result.status == "published" or last is None else last
                told(result)
            if not pause():
                return last


@contextmanager
def _session(engine: str) -> Iterator[None]:
    if engine != "spark":
        yield
        return
    from lakehouse.engines import spark

    with spark.keep_session():
        yield
