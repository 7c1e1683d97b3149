"""Models loaded once for all workers, before these are forked, as far as that starts no thread.

A process is forked only while it has a single thread (`engines.forking` says why): whether loading these models starts
others is tried in a child first, and if it does, or the system can't tell, workers load them.
"""

from __future__ import annotations

import os

from lakehouse import models
from lakehouse.engines import threads
from lakehouse.serving import scoring
from lakehouse.serving.preparing import Prepared


def preload(prepared: tuple[Prepared, ...]) -> None:
    """Load the models for all workers, and warm them up, as far as that starts no thread. Raises ModelRefused."""
    models.forget()
    wanted = [one for one in prepared if one.preloads]
    if not wanted or threads.count() != 1:
        return
    child = os.fork()
    if not child:
        steps = 0
        try:
            steps = _steps(wanted, 2)
        finally:  # whatever it raises, workers load for themselves and say it
            os._exit(steps)
    _steps(wanted, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _steps(wanted: list[Prepared], most: int) -> int:
    """How many of the two steps were taken without a thread being started: loading, warming up."""
    loaded = [scoring.load(one) for one in wanted] if most > 0 else []
    if most < 1 or threads.count() != 1:
        return 0
    if most > 1:
        for one in loaded:
            scoring.warm_up(one)
    return 2 if most > 1 and threads.count() == 1 else 1
