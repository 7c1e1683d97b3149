"""Run jobs that die by SIGKILL at a point: a server, so that what takes long to import is imported once.

Started by test_kill.py. Each line of its input is a JSON list: working directory, environment, point, job file,
date or null, engine. The run is made in a forked process, and answered by a line [status, output]. The status is 0 where the
point was never reached, -9 where the run died.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import traceback
from typing import Any

from pyarrow.fs import FileType

from lakehouse import checks, pipeline
from lakehouse.config import load_job
from lakehouse.connectors.pubsub import batches, published
from lakehouse.connectors.pubsub.leases import Leases
from lakehouse.engines import local
from lakehouse.runs import announcing, ledger
from lakehouse.scoring import staging
from lakehouse.sinks import delta as sink
from lakehouse.sinks import snowflake
from lakehouse.sinks.delta import publishing
from lakehouse.sinks.snowflake import loading
from lakehouse.storage import Location

BEFORE, AFTER = "before", "after"
CALLS: dict[str, tuple[Any, str, int, str]] = {
    "scoring": (staging, "score_rows", 2, BEFORE),  # the first batch is staged
    "scored": (checks, "tally", 1, AFTER),
    "quarantine created": (publishing, "create", 1, AFTER),
    "sink created": (publishing, "create", 2, AFTER),
    "declared": (ledger, "save_intent", 1, AFTER),
    "quarantine published": (sink, "publish", 1, AFTER),
    "sink published": (sink, "publish", 2, AFTER),
    "within a transaction": (loading, "_enter", 1, BEFORE),  # its rows are written, the ledger's is not
    "first in Snowflake": (snowflake, "publish", 1, AFTER),
    "second in Snowflake": (snowflake, "publish", 2, AFTER),
    "recorded": (ledger, "record", 1, AFTER),
    "announced": (announcing, "announce", 1, AFTER),
    "closed": (ledger, "remove_intent", 1, AFTER),
    "pulled": (batches, "fill", 1, AFTER),
    "remembered": (published, "remember", 1, AFTER),
    "acknowledged": (Leases, "acknowledge", 1, AFTER),
}
"""Point: a function, which call of it, and on which side of that call to die."""


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(module: Any, name: str, call: int, side: str) -> None:
    """Die before or after the n-th call of a function."""
    original, left = getattr(module, name), [call]

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0 and side == BEFORE:
            die()
        answer = original(*args, **kwargs)
        if left[0] == 0:
            die()
        return answer

    setattr(module, name, wrapper)


def arm_create() -> None:
    """Die while the sink's table is created: as soon as its log's folder is there."""
    original = publishing.create

    def wrapper(location: Location, *args: Any) -> None:
        def look() -> None:
            log = location.join("_delta_log")
            while log.filesystem().get_file_info(log.path).type == FileType.NotFound:
                pass
            die()

        if not location.path.endswith("_quarantine"):
            threading.Thread(target=look, daemon=True).start()
        original(location, *args)

    publishing.create = wrapper


def run(point: str, job_file: str, date: str | None, engine: str) -> None:
    """Run the job as its file says, armed to die at the point."""
    job = load_job(job_file, date=date, environ=os.environ)
    local.cores = lambda: 1  # one share of the work, which this process does itself
    watch = None
    if point == "workers scoring":
        watch = die  # called when the first worker tells of rows it has read
    elif point == "sink's log appears":
        arm_create()
    else:
        arm(*CALLS[point])
    pipeline.score(job, pipeline.Request(engine, ledger.now(), pipeline.new_run_id(), watch=watch))


def forked(folder: str, environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Run in a process of its own; how it ended and all that it, and Spark's JVM if it started one, said."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.close(reading)
        try:
            os.chdir(folder)
            os.environ.update(environment)
            run(*arguments)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8", errors="replace") as output:
        said = output.read()  # ends when the last process that writes to it is gone
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said


if __name__ == "__main__":
    for name in ("mlflow.pyfunc", "mlflow.sklearn", "sklearn.linear_model", "skops.io", "sqlalchemy", "alembic"):
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(forked(*json.loads(line))), flush=True)
