"""Many processes that publish to one table at once: python writers.py < JSON.

The JSON is a list of [job file, date, how many times]; each entry is a forked process that scores and publishes until
it has published so often. Prints for each the conflicts it met: commits that another was faster with, and runs that
another overtook.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from lakehouse import pipeline
from lakehouse.config import load_job
from lakehouse.connectors import delta
from lakehouse.engines import local
from lakehouse.errors import Unavailable
from lakehouse.runs import ledger
from lakehouse.sinks.target import Overtaken


def publish(job_file: str, date: str, times: int) -> dict[str, int]:
    local.cores = lambda: 1
    counts = {"conflicts": 0, "overtaken": 0, "published": 0}
    commit = delta.commit

    def counting(*args: Any, **kwargs: Any) -> int:
        try:
            return commit(*args, **kwargs)
        except delta.Conflict:
            counts["conflicts"] += 1
            raise

    delta.commit = counting
    job = load_job(job_file, date=date, environ=os.environ)
    while counts["published"] < times:
        try:
            pipeline.score(job, pipeline.Request("local", ledger.now(), pipeline.new_run_id(), rescore=True))
            counts["published"] += 1
        except Overtaken:
            counts["overtaken"] += 1
        except Unavailable as error:
            if "times in a row" not in str(error) and "goes on from here" not in str(error):
                raise
            counts["overtaken"] += 1
    return counts


def forked(*arguments: Any) -> int:
    """The reading end of a pipe that gets the counts."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as out:
            json.dump(publish(*arguments), out)
        os._exit(0)
    os.close(writing)
    return reading


if __name__ == "__main__":
    import skops.io  # noqa: F401  # all of these once, before the forks

    pipes = [forked(*arguments) for arguments in json.load(sys.stdin)]
    print(json.dumps([json.load(os.fdopen(pipe)) for pipe in pipes]))
