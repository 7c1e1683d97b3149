"""What many tasks counted, merged as a tree: the same as merged in a row, and as what one task says of all rows."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.checks import profile, tally, timeline, uniqueness
from lakehouse.checks.profile import Profile
from lakehouse.checks.rules import (
    RowCount,
    compile_suite,
    counters,
    dump,
    observe,
    read_suite,
    start,
    table_outcome,
)
from lakehouse.checks.tallying import WORK
from lakehouse.engines.spark import running
from lakehouse.planning import carriers
from lakehouse.runs import drift
from lakehouse.schemas import COUNTS, SCORED
from lakehouse.scoring import staging
from lakehouse.scoring.comparison import Compared, merge
from lakehouse.scoring.merging import merge_counts
from lakehouse.scoring.pairs import pairs_of
from lakehouse.sources import FRAME, delta
from tests.conftest import read, score, spark_settings, write

TASKS, ROWS, ALL = 40, 50, 1 << 31
SCHEMA = pa.schema([("n", pa.int64()), ("x", pa.float64()), ("s", pa.string())])
BETWEEN = ("sum", "mean", "stdev", "min", "max", "unique_value_count")
SUITE = [
    {"type": f"expect_column_{kind}_to_be_between", "kwargs": {"column": column, "min_value": 1}}
    for kind in BETWEEN
    for column in ("n", "x")
]
RULES = compile_suite(read_suite(json.dumps({"name": "s", "expectations": SUITE}), "s.json"), SCHEMA)


def batch_of(task: int, exact: bool) -> pa.RecordBatch:
    """Rows of a task, some null or NaN; the floats of which no sum is rounded where `exact`."""
    random = np.random.default_rng(task)
    x = random.integers(-1000, 1000, ROWS) / 4 if exact else random.normal(size=ROWS) * 10.0**task
    x[0] = np.nan if not exact and task % 7 == 0 else x[0]
    return pa.record_batch(
        [
            pa.array(np.arange(ROWS) + task * ROWS, mask=np.arange(ROWS) % 9 == 8),
            pa.array(x, mask=np.arange(ROWS) % 13 == 12),
            pa.array([f"value {v}" for v in random.integers(0, 60, ROWS)]),
        ],
        schema=SCHEMA,
    )


def counted(task: int, batch: pa.RecordBatch, told: str = "") -> dict:
    """What a task that read this batch says, as `staging.stage` does. `told`: what differs between runs."""
    sketches, state, seen = (
        profile.start(SCHEMA, SCHEMA.names),
        start(RULES.tables),
        Compared(len(batch), task % 3, 0.5),
    )
    profile.observe(sketches, batch)
    observe(state, batch)
    segments = [f"segment {task % 5}", "all"]
    pairs = pairs_of(batch.column("n"), pa.array(np.arange(len(batch))), np.arange(len(batch)) % 2, 2)
    seen.add("p", dict(zip(segments, pairs, strict=True)))
    seen.fail(0, [f"failure {task // 2}"])
    count = RowCount()
    count.add(len(batch), len(batch) - 1, task % 4, [f"{task}-{i}" for i in range(task % 4)])
    numbers = [task * 100, task * 100 + 49]
    detail = {
        "read": len(batch),
        "scored": len(batch) - 1,
        "quarantined": 1,
        "reasons": [["null", "n", 1], *([["model", "", 0]] if task % 2 else [])],
        "isolation_calls": task,
        "hopeless": task == 5,
        "by_model": [[task % 3, 7]],
        "profiles": {"features": profile.dump(sketches)},
        "checks": {"features": {"rows": [count.to_dict()], "tables": dump(state)}},
        "keys": {"ranges": [numbers], "sidecars": [f"keys-{task}"]} if task % 11 else None,
        "beside": {"v2": seen.to_dict()},
        "work": dict.fromkeys(WORK, 0.25),
        "tasks": [timeline.entry(task, 8.0 * task, 8.0 * task + 1, "here", len(batch), {"model": 0.25})],
    }
    return {"task": task, "kind": COUNTS, "path": None, "rows": len(batch), "bytes": 0, "detail": json.dumps(detail)}


def files_of(task: int) -> list[dict]:
    return [
        {"task": task, "kind": kind, "path": f"{kind}-{task}", "rows": rows, "bytes": 9, "detail": "{}"}
        for kind, rows in ((SCORED, ROWS - 1), ("quarantined", 1))
    ]


def manifest(exact: bool) -> list[dict]:
    return [row for task in range(TASKS) for row in (*files_of(task), counted(task, batch_of(task, exact)))]


def as_tree(rows: list[dict], *sizes: int) -> list[dict]:
    for size in sizes:
        rows = list(merge_counts(rows, size))
    return sorted(rows, key=lambda row: row["task"])


@pytest.mark.parametrize("sizes", [(2, ALL), (3, 9, 27, ALL), (7, 21, ALL), (39, ALL), (ALL,)])
def test_merging_as_a_tree_gives_byte_for_byte_what_merging_in_a_row_gives(sizes):
    rows = manifest(exact=True)
    [in_a_row] = [row for row in merge_counts(rows, ALL) if row["kind"] == COUNTS]
    [merged] = [row for row in as_tree(rows, *sizes) if row["kind"] == COUNTS]
    exact, tree = (json.loads(row.pop("detail")) for row in (in_a_row, merged))
    moments = [_moments(detail) for detail in (exact, tree)]  # the only ones that are never exact
    assert merged == in_a_row
    assert json.dumps(tree) == json.dumps(exact)
    assert moments[1] == pytest.approx(moments[0], rel=1e-12)


def _moments(detail: dict) -> list[float]:
    """Take the moments out of the whole-table counters; as numbers."""
    tables = detail["checks"]["features"]["tables"]
    taken = [tables.pop(key) for key in [key for key in tables if key.startswith("moments")]]
    assert taken
    return [part if isinstance(part, int) else float.fromhex(part) for _, *parts in taken for part in parts]


@pytest.mark.parametrize("exact", [True, False])
def test_the_tally_of_merged_rows_is_that_of_all_rows(exact):
    rows = manifest(exact)
    plain, merged = tally(rows), tally(as_tree(rows, 4, 16, ALL))
    for name in (
        "scored_files",
        "quarantined_files",
        "read",
        "scored",
        "quarantined",
        "reasons",
        "hopeless",
        "by_model",
    ):
        assert getattr(merged, name) == getattr(plain, name)
    assert merged.work == pytest.approx(plain.work)
    assert set(plain.work) == set(WORK)
    assert merged.checks["features"]["rows"] == plain.checks["features"]["rows"]
    for rule in RULES.tables:
        seen = [table_outcome(rule, t.checks["features"]["tables"]).observed_value for t in (merged, plain)]
        assert seen == [None, None] or seen[0] == pytest.approx(seen[1], rel=1e-12)  # None: of NaN there is no mean
    profiles = [json.dumps(profile.dump(drift._profiles(t)["features"])) for t in (merged, plain)]
    assert len(merged.profiles["features"]) == 1
    assert profiles[0] == profiles[1]
    assert merge(merged.compared)["v2"].to_dict() == merge(plain.compared)["v2"].to_dict()


def test_merged_counters_are_those_of_one_task_that_read_all_rows():
    whole = pa.concat_batches([batch_of(task, exact=True) for task in range(TASKS)])
    one = json.loads(counted(0, whole)["detail"])
    [merged] = merge_counts([counted(task, batch_of(task, exact=True)) for task in range(TASKS)], ALL)
    detail = json.loads(merged["detail"])
    [a], [b] = ([profile.merge([d["profiles"]["features"]])] for d in (one, detail))
    assert isinstance(a, Profile)
    assert json.dumps(profile.dump(a)) == json.dumps(profile.dump(b))
    for rule in RULES.tables:
        found = [counters.merge([d["checks"]["features"]["tables"]]) for d in (one, detail)]
        outcomes = [table_outcome(rule, f).observed_value for f in found]
        assert outcomes[1] == pytest.approx(outcomes[0], rel=1e-12)


def test_a_number_that_nobody_knows_how_to_merge_is_no_silent_loss():
    row = counted(0, batch_of(0, exact=True))
    row["detail"] = json.dumps({**json.loads(row["detail"]), "shares": {"model": 0.5}, "skipped": 2})
    [merged] = merge_counts([row, {**row, "task": 1}], ALL)
    detail = json.loads(merged["detail"])
    assert (detail["shares"], detail["skipped"]) == ({"model": 1.0}, 4)
    row["detail"] = json.dumps({**json.loads(row["detail"]), "shares": ["a"]})
    with pytest.raises(TypeError, match="'shares'"):
        list(merge_counts([row], ALL))


def test_keys_that_are_known_to_be_apart_stay_so_when_they_are_merged(monkeypatch):
    monkeypatch.setattr(uniqueness, "_MERGED_RANGES", 4)
    rising = [{"ranges": [[10 * i, 10 * i + 5]], "sidecars": [f"s{i}"]} for i in range(8)]
    groups = [uniqueness.merge(rising[:4]), uniqueness.merge(rising[4:])]
    whole = uniqueness.merge(groups)
    assert whole == {"ranges": [(0, 5), (10, 15), (20, 25), (30, 75)], "sidecars": [f"s{i}" for i in range(8)]}
    assert uniqueness.merge([*rising, {"ranges": [[12, 13]], "sidecars": []}])["ranges"] is None
    assert uniqueness.merge([*rising, {"ranges": None, "sidecars": []}])["ranges"] is None
    assert uniqueness.merge([]) is None


# On Spark


@pytest.fixture
def job(make_job, imputing):
    ids = np.arange(120)
    for part in np.array_split(ids, 5):
        write("lake/features", pa.table({"id": part, "a": part * 0.5, "s": [f"v{i % 7}" for i in part]}))
    return make_job(imputing, predictions={"p": 0}, keep=["s"], model={"batch_rows": 4})


@pytest.mark.parametrize("carrier", ["files", pytest.param("frame", marks=pytest.mark.long)])
def test_executors_merge_what_tasks_counted(spark, job, monkeypatch, carrier):
    """Five tasks, merged two by two: the manifest holds their files and one row of counts, and the same of them."""
    if carrier == "frame":
        monkeypatch.setattr(delta, "carrier", lambda *args: (FRAME, "a test says so"))
        monkeypatch.setattr(carriers, "most_tasks", lambda cores, size: 5)
    monkeypatch.setattr("lakehouse.engines.spark.cores", lambda spark: 5)
    got, plain = [], running.collect
    monkeypatch.setattr(running, "collect", lambda frame: got.append(plain(frame)) or got[-1])
    results, found = [], []
    with spark_settings(spark, **{"spark.sql.files.openCostInBytes": str(1 << 30)}):
        for together in (64, 2):
            monkeypatch.setattr(running, "TOGETHER", together)
            results.append(score(job, "spark", rescore=True))
            found.append(read("lake/scores").select(["id", "s", "p"]))
    rows = [[row for row in manifest if row["kind"] == COUNTS] for manifest in got if manifest[0].get("kind")]
    assert [len(counts) for counts in rows] == [5, 2]
    assert [r.rows_scored for r in results] == [120, 120]
    assert found[0].equals(found[1])
    alike = [next(merge_counts(sorted(counts, key=lambda row: row["task"]), ALL)) for counts in rows]
    details = [json.loads(row["detail"]) for row in alike]
    assert details[0]["profiles"] == details[1]["profiles"]
    assert details[0]["read"] == details[1]["read"] == 120
    assert [len(d["keys"]["sidecars"]) for d in details] == [5, 5]


def test_partitions_of_a_frame_are_joined_and_their_batches_split(spark, job, monkeypatch):
    monkeypatch.setattr(delta, "carrier", lambda *args: (FRAME, "a test says so"))
    monkeypatch.setattr("lakehouse.engines.spark.cores", lambda spark: 1)
    got, plain = [], running.collect
    monkeypatch.setattr(running, "collect", lambda frame: got.append(plain(frame)) or got[-1])
    with spark_settings(spark, **{"spark.sql.files.openCostInBytes": str(1 << 30)}):
        assert score(job, "spark").rows_scored == 120
    manifest = got[-1]
    assert sum(row["kind"] == COUNTS for row in manifest) == 3
    assert sum(row["kind"] == SCORED for row in manifest) == 3
    assert read("lake/scores")["p"].to_pylist() == pytest.approx((np.arange(120) * 0.5).tolist())


@pytest.mark.parametrize(("cores", "size", "tasks"), [(2, 0, 6), (100, 10 << 40, 10_240), (4, None, 4096)])
def test_so_many_tasks_take_a_frame(cores, size, tasks):
    assert carriers.most_tasks(cores, size) == tasks


@pytest.mark.parametrize("batch_rows", [4, 7, 100])
def test_batches_larger_than_the_model_takes_are_split(batch_rows):
    given = [pa.record_batch({"a": pa.array(range(n), pa.int64())}) for n in (10, 0, 1, 23, 4, 3)]
    found = list(staging.join_batches(given, batch_rows))
    assert max(b.num_rows for b in found) <= batch_rows
    assert pa.Table.from_batches(found).equals(pa.Table.from_batches(given))
