"""How long a run will take one process, told by a sample: what decides how many there are, and what each takes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import pyarrow as pa

from lakehouse import models
from lakehouse.errors import LakehouseError
from lakehouse.scoring.routing import rows_of_one
from lakehouse.scoring.score import score_batch, start_counters
from lakehouse.scoring.staging import BatchSource, Staging, open_models

_SIZES = (32, 256, 2_048, 8_192)
"""Rows of the sample that are scored, so many more each time while that tells too little."""
_TELLING_SECONDS = 0.1
"""A call that takes so long tells enough."""
_READ_ROWS, _READ_SECONDS = 1 << 17, 0.2
"""So many rows are read to see how long that takes, or for so long."""
_BLOCK_SECONDS = 0.05
"""Less than this a block does not take: more is gained by sharing than lost by calls."""


@dataclass(frozen=True)
class Pace:
    """Seconds that scoring takes one process: of each row, and of each call whatever its rows."""

    row: float
    call: float

    def seconds(self, rows: int, batch_rows: int) -> float:
        """Those of so many rows in batches."""
        return self.row * rows + self.call * math.ceil(rows / batch_rows)

    def block_rows(self, rows: int, batch_rows: int, workers: int) -> int:
        """Rows of the blocks by which so many processes are done soonest: who comes last makes the others wait for half
        a block, and each block is a call."""
        each = math.sqrt(2 * self.call * self.seconds(rows, batch_rows) / workers)
        return max(1, min(batch_rows, round(max(each, _BLOCK_SECONDS) / max(self.row, 1e-9))))


def reading(unit: BatchSource) -> float:
    """Seconds that a row of a unit takes to read, by its first rows; a page of a file has many."""
    rows, started = 0, time.perf_counter()
    for batch in unit.batches():
        rows += batch.num_rows
        if rows >= _READ_ROWS or time.perf_counter() - started > _READ_SECONDS:
            break
    return (time.perf_counter() - started) / max(rows, 1)


def measure(rows: int, least: float, sample: pa.RecordBatch, staging: Staging, folders: models.Folders) -> Pace | None:
    """The pace of the model and the checks on a sample of the input, from which nothing is kept.

    Scores few rows of it where these tell already that `rows` take less than `least` seconds, or that each is slow.
    Where the model can't be used nothing takes any time: the run itself will say so, at once. None where no row of the
    sample tells.
    """
    scoring = staging.scoring
    if scoring.route is not None:  # one of the models tells: each process has to load them all
        sample, scoring = rows_of_one(sample, scoring.route, staging.digest), replace(scoring, route=None)
    if sample.num_rows == 0:
        return None
    predict, challengers = open_models(folders, staging)

    def seconds(count: int) -> float:
        started = time.perf_counter()
        score_batch(sample.slice(0, count), scoring, predict, start_counters(scoring))
        return (time.perf_counter() - started) * (1 + len(challengers))

    before = (0, 0.0)
    found = Pace(0.0, 0.0)
    try:
        # Most runs need no more than this call, which may have something to set up.
        first = Pace(seconds(_SIZES[1]) / min(_SIZES[1], sample.num_rows), 0.0)
        if first.seconds(rows, staging.batch_rows) < least:
            return first
        for number, size in enumerate(_SIZES):
            now = (min(size, sample.num_rows), seconds(size))
            if now[0] == before[0]:
                return found
            whole = Pace(now[1] / now[0], 0.0)  # what a call costs is counted in each row, so it is not less
            row = max(now[1] - before[1], 0.0) / (now[0] - before[0])
            found = Pace(row, max(now[1] - row * now[0], 0.0)) if number else whole
            if whole.seconds(rows, staging.batch_rows) < least:
                return whole
            if number and now[1] >= _TELLING_SECONDS:
                return found
            before = now
    except LakehouseError:
        return Pace(0.0, 0.0)
    return found
