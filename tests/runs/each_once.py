"""What tests of killed runs over messages share, whatever system keeps these: each message counts once in the end.

Of all messages one in a hundred is no row. A test's system says what was sent (`Sent`), and its tables are looked at in
Delta or in Snowflake (`Found`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakehouse.config import Job
from lakehouse.connectors import delta
from lakehouse.planning import naming
from lakehouse.runs import ledger
from lakehouse.sinks.positions import positions_of
from lakehouse.storage import locate
from tests.conftest import read, score
from tests.runs.test_exactly_once import unfinished
from tests.warehouse import Account

MESSAGES, FEW = 200_000, 20_000
POISON = (b"no row", b'{"id": 1, "a": [1]}', b"{}}")
POINTS = {
    "scoring": 0, "scored": 0, "declared": 1, "quarantine published": 1, "sink published": 1, "recorded": 1, "closed": 0,
}  # fmt: skip
"""Point of the run's death: how many intents it leaves. Here the sink is the first that is published to."""
IN_SNOWFLAKE = {
    "scored": 0, "declared": 1, "within a transaction": 1, "first in Snowflake": 1, "second in Snowflake": 1, "recorded": 1,
}  # fmt: skip
ON_SPARK = {"workers scoring": 0, "declared": 1, "quarantine published": 1}
PATIENCE = 900
"""Seconds for what takes half a minute on a machine with nothing else to do."""
SECTIONS: dict[str, Any] = {
    "keys": ["_partition", "_offset"], "keep": ["id"],
    "sinks": [{"type": "delta", "table": "lake/scores", "write": "append"}],
    "checks": {"quarantine": {"max_fraction": 0.05}},
}  # fmt: skip
"""Of a job over such messages, all but its source and its model."""


@dataclass
class Sent:
    """Messages that were sent: their places (partition and offset), and by partition where the next run begins."""

    places: list[tuple[Any, Any]] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=dict)

    def add(self, partition: Any, offsets: Sequence[Any], position: int) -> None:
        """These were sent as well, in the order of their numbers."""
        self.places += [(partition, offset) for offset in offsets]
        self.positions[str(partition)] = position


@dataclass(frozen=True)
class Found:
    """What tables hold: places of what is scored and of what is set aside, the numbers of the scored, and positions."""

    scored: list[tuple[Any, Any]]
    aside: list[tuple[Any, Any]]
    ids: list[int]
    positions: dict[str, int]


def message(number: int, poison: Sequence[Any] = POISON) -> Any:
    """The message of a number; one in a hundred is no row."""
    if number % 100 == 7:
        return poison[number // 100 % len(poison)]
    return json.dumps({"id": number, "a": number / 10}).encode()


def in_delta() -> Found:
    """What the tables of `SECTIONS` hold."""
    scored, aside = read("lake/scores"), read("lake/scores_quarantine")
    snapshot = delta.open_table(locate("lake/scores"))
    assert snapshot is not None
    known = positions_of("scores", snapshot.transaction_ids)
    places = [
        list(zip(rows["_partition"].to_pylist(), rows["_offset"].to_pylist(), strict=True)) for rows in (scored, aside)
    ]
    return Found(*places, scored["id"].to_pylist(), _by_partition(known))


def in_snowflake(account: Account) -> Found:
    """What the tables `scores` and `scores_quarantine` of an account hold."""
    scored = account.run("SELECT _partition, _offset, id FROM scores")
    aside = account.run("SELECT _partition, _offset FROM scores_quarantine")
    known = account.run("SELECT POSITIONS FROM scores_runs WHERE POSITIONS IS NOT NULL ORDER BY FENCE DESC LIMIT 1")
    positions = _by_partition(json.loads(known[0][0]))
    return Found([(p, n) for p, n, _ in scored], [(p, n) for p, n in aside], [i for _, _, i in scored], positions)


def _by_partition(known: Any) -> dict[str, int]:
    return {name.rpartition("/")[2]: at for name, at in known.items()}


def assert_each_once(sent: Sent, found: Found) -> None:
    """Assert that each message is scored or set aside, once, and that the table says so."""
    assert Counter([*found.scored, *found.aside]) == Counter(sent.places)
    assert sorted(found.ids) == [n for n in range(len(sent.places)) if n % 100 != 7]
    assert found.positions == sent.positions


def assert_made_good(
    point: str, intents: int, job: Job, run_until: Callable[..., None], sent: Sent, look: Callable[[], Found],
    engine: str = "local",
) -> None:  # fmt: skip
    """Assert that the run after one that is killed there leaves each message once, and that one run is on record."""
    run_until(point, job, engine)
    assert unfinished(job) == intents
    result = score(job, engine)
    assert result.status == ("unchanged" if point == "closed" else "published")
    assert_each_once(sent, look())
    assert (score(job, engine).status, unfinished(job)) == ("unchanged", 0)
    assert [r["status"] for r in ledger.runs(naming.state_of(job), job.job)] == ["published"]


def assert_one_of_two(job: Job, sent: Sent, look: Callable[[], Found]) -> None:
    """Assert that of two runs at once one is published, and that each message counts once."""
    command = [sys.executable, "-m", "lakehouse.cli", "score", job.path, "--engine", "local", "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        said = [one.communicate(timeout=PATIENCE) for one in both]
    finally:
        for one in both:
            one.kill()
    assert sorted(one.returncode for one in both)[0] == 0, said
    assert {one.returncode for one in both} <= {0, 5}, said
    score(job)
    published = {r["run_id"] for r in ledger.runs(naming.state_of(job), job.job) if r["status"] == "published"}
    assert len(published) == 1
    assert_each_once(sent, look())
