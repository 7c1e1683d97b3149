"""A run killed at any point: readers see all of it or nothing, and the next run leaves what no kill would have left."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow.fs import FileSelector
from sklearn.linear_model import LogisticRegression

from lakehouse.config import Job
from lakehouse.engines import local
from lakehouse.errors import Blocked
from lakehouse.planning import naming
from lakehouse.runs import ledger
from lakehouse.schemas import INPUT_VERSION, RUN_ID, SCORED_AT
from lakehouse.storage import locate
from tests.conftest import read, score, version, write
from tests.runs.test_exactly_once import files, publishes, runs_in, unfinished
from tests.tables import assert_tables_equal

DAY, NEXT = "2026-01-02", "2026-01-03"
ROWS, KEYLESS = 200, 6


def features(day: str, start: int = 0, shift: float = 0.0, rows: int = ROWS) -> pa.Table:
    """Feature rows of one day; every now and then one has no key."""
    ids = np.arange(start, start + rows)
    keyless = np.isin(np.arange(rows), np.linspace(3, rows - 1, KEYLESS).astype(int))
    return pa.table({"id": pa.array(ids, mask=keyless), "a": ids % rows * 4 / rows + shift, "b": np.cos(ids),
                     "day": [day] * rows})  # fmt: skip


@pytest.fixture(autouse=True)
def _one_share(monkeypatch):
    """All of the work in one share, which this process does itself."""
    monkeypatch.setattr(local, "cores", lambda: 1)


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40), "b": np.cos(np.arange(40))})
    return register(LogisticRegression().fit(x, (x["a"] > 2).astype(int)), x)


@pytest.fixture
def daily(make_job, uri, lake):
    def make(day=DAY, table="scores", batch_rows=20, max_fraction=0.1):
        return make_job(
            uri, date=day, lake=lake, source={"where": "day = '{date}'"},
            model={"method": "predict_proba", "batch_rows": batch_rows}, predictions={"p": {"class": 1}},
            slice={"score_date": "{date}"}, sinks=[{"type": "delta", "table": f"{lake}/{table}"}],
            checks={"quarantine": {"max_fraction": max_fraction}},
        )  # fmt: skip

    return make


@pytest.fixture
def halfway(daily, lake):
    """Two slices published, to lake/scores and to lake/expected; then the first one's input changes, and in
    lake/expected that is published, too: by runs that nobody killed."""
    write(f"{lake}/features", pa.concat_tables([features(DAY), features(NEXT, start=1000)]), ["day"])
    for table in ("scores", "expected"):
        score(daily(DAY, table))
        score(daily(NEXT, table))
    changed = features(DAY, shift=0.5, rows=180)
    write(f"{lake}/features", changed, ["day"], mode="overwrite", predicate=f"day = '{DAY}'")
    score(daily(DAY, "expected"))


@pytest.fixture
def forbid_scoring(monkeypatch):
    """From the call on, a run in this process fails if it scores anything."""
    return lambda: monkeypatch.setattr(local, "run", lambda *_: pytest.fail("scored again"))


def lasting(table: str) -> pa.Table:
    """The rows of a scored or quarantine table without what differs from run to run."""
    rows = read(table)
    unique = "a" if "a" in rows.column_names else "id"  # rows in quarantine have no key
    order = [(name, "ascending") for name in ("score_date", INPUT_VERSION, unique)]
    return rows.drop_columns([RUN_ID, SCORED_AT]).sort_by(order)


def assert_as_expected(lake: str) -> None:
    """Assert that scored table and quarantine are those that runs left which nobody killed."""
    for suffix in ("", "_quarantine"):
        assert_tables_equal(lasting(f"{lake}/scores{suffix}"), lasting(f"{lake}/expected{suffix}"))


def staged_runs(lake: str) -> set[str]:
    """The runs that ever staged files for the scored table."""
    table = locate(f"{lake}/scores")
    listed = table.filesystem().get_file_info(FileSelector(table.path, allow_not_found=True))
    return {info.base_name.removeprefix("run-") for info in listed if info.base_name.startswith("run-")}


def generations(lake: str, day: str) -> list[int]:
    """The generations of a slice that were published, in order, one entry a commit."""
    return [c["generation"] for c in reversed(publishes(f"{lake}/scores")) if c["slice"] == {"score_date": day}]


def aside(lake: str, run: str) -> int:
    """How many live rows of quarantine are this run's."""
    return pc.sum(pc.equal(read(f"{lake}/scores_quarantine")[RUN_ID], run)).as_py()


def recorded(job: Job) -> list[tuple[str, int]]:
    """Status and generation of the recorded runs, oldest first."""
    return [(r["status"], r["generation"]) for r in reversed(ledger.runs(naming.state_of(job), job.job, job.date))]


POINTS = {
    "scoring": (False, False),
    "scored": (False, False),
    "declared": (True, False),
    "quarantine published": (True, False),
    "sink published": (True, True),
    "recorded": (True, True),
    "closed": (False, True),
}
"""Point of the run's death: whether its intent is there then, and whether its scores are."""


ON_S3 = [pytest.param(p, "S3", marks=pytest.mark.long) for p in ("scoring", "declared", "sink published", "recorded")]


@pytest.mark.parametrize(("point", "lake"), [*((p, "disk") for p in POINTS), *ON_S3], indirect=["lake"])
@pytest.mark.quick("scoring-disk")
def test_the_run_after_a_killed_one_leaves_what_no_kill_would_have_left(
    point, halfway, daily, forbid_scoring, run_until, lake
):
    intent, published = POINTS[point]
    job, before, others, earlier = daily(), read(f"{lake}/scores"), files(f"{lake}/scores", NEXT), staged_runs(lake)
    run_until(point, job)
    dead = staged_runs(lake) - earlier
    # An object on S3 that was not written to its end isn't there at all.
    assert len(dead) == 1 or (point == "scoring" and lake.startswith("s3:"))
    assert unfinished(job) == int(intent)
    if published:
        assert_as_expected(lake)
    else:
        assert read(f"{lake}/scores").equals(before)
    if intent or published:
        forbid_scoring()
    result = score(job)
    assert result.status == ("unchanged" if point == "closed" else "published")
    (live,) = runs_in(f"{lake}/scores", DAY)
    assert (live in dead) == (intent or published)
    assert point == "closed" or (result.run_id, result.rows_quarantined) == (live, KEYLESS)
    assert_as_expected(lake)
    assert (generations(lake, DAY), generations(lake, NEXT), files(f"{lake}/scores", NEXT)) == ([1, 2], [1], others)
    assert aside(lake, live) == KEYLESS
    assert (recorded(job), unfinished(job)) == ([("published", 1), ("published", 2)], 0)
    forbid_scoring()
    assert score(job).status == "unchanged"


@pytest.mark.quick("disk")
@pytest.mark.long
def test_a_run_that_is_killed_while_it_finishes_a_killed_one_is_finished_in_turn(
    halfway, daily, forbid_scoring, run_until, lake
):
    job = daily()
    run_until("quarantine published", job)
    run_until("sink published", job)
    run_until("recorded", job)
    forbid_scoring()
    result = score(job)
    assert (result.status, runs_in(f"{lake}/scores", DAY)) == ("published", {result.run_id})
    assert_as_expected(lake)
    assert (generations(lake, DAY), aside(lake, result.run_id)) == ([1, 2], KEYLESS)
    assert (recorded(job), unfinished(job)) == ([("published", 1), ("published", 2)], 0)


@pytest.mark.long
@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_a_killed_run_that_was_to_be_blocked_publishes_nothing_later(halfway, daily, run_until, lake):
    job, before, earlier = daily(max_fraction=0.01), read(f"{lake}/scores"), staged_runs(lake)
    run_until("quarantine published", job)
    (dead,) = staged_runs(lake) - earlier
    with pytest.raises(Blocked, match=f"{KEYLESS} of 180 rows") as raised:
        score(job)
    assert read(f"{lake}/scores").equals(before)
    assert (aside(lake, dead), aside(lake, raised.value.result.run_id)) == (KEYLESS, KEYLESS)
    assert (recorded(job), unfinished(job)) == ([("published", 1), ("blocked", 2), ("blocked", 2)], 0)


@pytest.mark.parametrize(
    ("point", "lake"),
    [
        *((p, "disk") for p in ("quarantine created", "sink's log appears", "sink created", "declared")),
        ("sink created", "S3"),
    ],
    indirect=["lake"],
)
@pytest.mark.long
def test_a_kill_around_the_tables_first_version_is_made_good(point, daily, run_until, lake):
    write(f"{lake}/features", features(DAY), ["day"])
    score(daily(table="expected"))
    job = daily()
    run_until(point, job)
    there = version(f"{lake}/scores")
    if point != "sink's log appears":  # where that one dies isn't told to the instruction
        assert there == (-1 if point == "quarantine created" else 0)
    assert there < 1 or generations(lake, DAY) == [1]
    score(job)
    (live,) = runs_in(f"{lake}/scores")
    assert_as_expected(lake)
    assert (generations(lake, DAY), aside(lake, live), recorded(job)) == ([1], KEYLESS, [("published", 1)])
    assert (score(job).status, unfinished(job)) == ("unchanged", 0)


@pytest.mark.slow
@pytest.mark.parametrize("lake", ["disk"], indirect=True)
@pytest.mark.long
def test_a_spark_run_killed_while_its_workers_score_is_made_good(daily, run_until, lake):
    write(f"{lake}/features", features(DAY, rows=2000), ["day"])
    score(daily(table="expected", batch_rows=5))
    job = daily(batch_rows=5)
    run_until("workers scoring", job, "spark")
    (dead,) = staged_runs(lake)
    assert (version(f"{lake}/scores"), version(f"{lake}/scores_quarantine"), unfinished(job)) == (-1, -1, 0)
    result = score(job)
    assert_as_expected(lake)
    assert runs_in(f"{lake}/scores") == {result.run_id} != {dead}
    assert (generations(lake, DAY), aside(lake, result.run_id), recorded(job)) == ([1], KEYLESS, [("published", 1)])
