"""A workload's contestants, one after the other, several times over, for as long as there is time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.benchmarks import agreement
from tests.benchmarks.contestants import Task
from tests.benchmarks.measuring import FailedRunError, Runner, Taken
from tests.benchmarks.workloads import Workload


@dataclass
class Record:
    """What the turns of one contestant took, and why there are none or no more."""

    taken: list[Taken] = field(default_factory=list)
    problem: str = ""
    turn: float = 0.0
    """Seconds of its last turn, with its warm-up."""


WITHOUT_TABLE = ("floor", "unchanged", "bare")
"""The first is what others are held against, the others write none of their own."""
WARM_UP_S = 4.0
"""A warm-up is done again until so many seconds are over: some start processes meanwhile, and don't wait for them."""
Tasks = Mapping[str, Task]
"""The task of each contestant: they differ in where it writes."""


def take_turns(
    workload: Workload,
    tasks: Tasks,
    warming: Tasks,
    runner: Runner,
    absent: Mapping[str, str],
    until: float,
) -> dict[str, Record]:
    """Let everybody run in turns; who fails, or predicts otherwise than the floor, is out.

    `warming`: tasks that warm processes do for WARM_UP_S right before each turn, untimed, or those who wait a minute
    for theirs would not be warm: Spark ends its workers then; `absent`: who can't take part, and why; `until`: by
    `time.monotonic`, no turn begins that would end later, but the first. Where not all can have further turns the
    quickest have. The first turn counts only where there is no other: a job's first run makes tables, golden rows and
    a baseline that its nights later on find.
    """
    records = {name: Record(problem=absent.get(name, "")) for name in workload.contestants}
    run = runner.cold if workload.mode == "cold" else runner.again
    for turn in range(workload.turns):
        for name in _who(records, until - time.monotonic(), workload.turns - turn) if turn else list(records):
            record, began = records[name], time.monotonic()
            warm_at = began + WARM_UP_S
            while not record.problem and name in warming:
                record.problem = _try(partial(runner.again, name, warming[name]))[1]
                if time.monotonic() > warm_at:
                    break
            if record.problem:
                continue
            taken, record.problem = _try(partial(run, name, tasks[name]))
            record.turn = time.monotonic() - began
            if taken is not None and not turn and name not in WITHOUT_TABLE:
                floor_failed = "not held against the floor, which failed" if records["floor"].problem else ""
                record.problem = floor_failed or agreement.differs(tasks["floor"], tasks[name])
            agreement.tidy(Path(tasks[name].out))
            if taken is not None and not record.problem:
                record.taken.append(taken)
                print(f"    {workload.name}, {name}: {taken.seconds:.2f} s", file=sys.stderr, flush=True)
    for record in records.values():
        if len(record.taken) > 1:
            del record.taken[0]
    return records


def _who(records: Mapping[str, Record], seconds: float, turns: int) -> list[str]:
    """Who has another turn in the time that is left, in the order of the first: the quicker ones have all of theirs, of
    which so many are left, before a slower one has any.
    """
    took = {name: 1.2 * record.turn for name, record in records.items() if record.taken}
    fits = set[str]()
    for name in sorted(took, key=took.__getitem__):
        if seconds > took[name]:
            fits.add(name)
        seconds -= turns * took[name]
    return [name for name in records if name in fits]


def _try(run: Callable[[], Taken]) -> tuple[Taken | None, str]:
    try:
        return run(), ""
    except FailedRunError as error:
        print(f"    failed: {error}", file=sys.stderr, flush=True)
        return None, f"failed: {str(error)[:200]}"
