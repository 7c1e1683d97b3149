"""Writers at the same time: other runs of ours, and Spark's and a person's commits. Nothing lost, nothing doubled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.linear_model import LinearRegression

import lakehouse
from lakehouse.connectors import delta
from lakehouse.engines import local
from lakehouse.errors import Blocked, ConfigError, LakehouseError, Unavailable
from lakehouse.planning import naming
from lakehouse.runs import ledger
from lakehouse.schemas import RUN_ID
from lakehouse.storage import locate
from tests.conftest import opened, read, score, turns, write
from tests.runs.test_exactly_once import in_the_middle, unfinished

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]
DAY = DAYS[0]
DRIVER = Path(__file__).parents[1] / "writers.py"
TIMES = {storage: int(os.environ.get("PUBLISHES", few)) for storage, few in (("disk", turns(5, 8)), ("S3", 4))}
"""Publishes of each process. The S3 server here is one Python process, which 25 keep busy for minutes."""


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"] * 10), x)


@pytest.fixture
def daily(make_job, uri, monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 1)

    def make(day=DAY, lake="lake", **sections):
        return make_job(
            uri, date=day, lake=lake, source={"where": "day = '{date}'"}, predictions={"p": 0},
            slice={"score_date": "{date}"}, **sections,
        )  # fmt: skip

    return make


def features(days=DAYS, ids=(1, 2, 3)) -> pa.Table:
    rows = [(i, i / 10, day) for day in days for i in ids]
    return pa.table({"id": [r[0] for r in rows], "a": [r[1] for r in rows], "day": [r[2] for r in rows]})


def at_once(work: list[list[object]]) -> list[dict[str, int]]:
    found = os.pathsep.join([str(Path(lakehouse.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(DRIVER)], env={**os.environ, "PYTHONPATH": found}, input=json.dumps(work), text=True,
        capture_output=True, timeout=100 + 60 * max(TIMES.values()), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    print("conflicts and overtaken runs:", counts)
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["disk", pytest.param("S3", marks=pytest.mark.long)])
@pytest.mark.parametrize("slices", ["different slices", "the same slice"])
@pytest.mark.quick("the same slice-disk")
def test_processes_that_publish_at_once(slices, storage, daily, request):
    """4 processes that publish to different slices, 2 to the same one."""
    lake = "lake" if storage == "disk" else request.getfixturevalue("bucket")
    write(f"{lake}/features", features(), ["day"])
    days = DAYS if slices == "different slices" else [DAY, DAY]
    counts = at_once([[daily(day, lake).path, day, TIMES[storage]] for day in days])
    assert sum(c["conflicts"] + c["overtaken"] for c in counts) > 0  # they did meet
    said = [json.loads(c.get("userMetadata") or "{}") for c in opened(f"{lake}/scores").history(1000)]
    for day in set(days):
        mine = [c["generation"] for c in reversed(said) if c.get("slice") == {"score_date": day}]
        assert mine == list(range(1, len(mine) + 1))  # every generation once, in order
        assert len(mine) >= TIMES[storage] * days.count(day)
        rows = read(f"{lake}/scores")
        rows = rows.filter(pc.equal(rows["score_date"].cast(pa.string()), day))
        assert sorted(zip(rows["id"].to_pylist(), np.round(rows["p"].to_numpy(), 6), strict=True)) == [
            (1, 1.0),
            (2, 2.0),
            (3, 3.0),
        ]
        assert pc.count_distinct(rows[RUN_ID]).as_py() == 1
        runs = ledger.runs(naming.state_of(daily(day, lake)), "scores", day)
        assert sorted(r["generation"] for r in runs) == mine
        assert unfinished(daily(day, lake)) == 0
        assert score(daily(day, lake)).status == "unchanged"


LEASES = """
import sys
from lakehouse.runs import lease
from lakehouse.storage import locate
table, me, times = locate(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for run in (f"{me}-{n}" for n in range(times)):
    with lease.hold([table], run, table, sys.exit):
        assert lease.read(table, run), run
"""


@pytest.mark.long
def test_runs_that_come_and_go_while_a_table_is_yet_to_be_created(tmp_path):
    """The last to end takes the empty folder away: who begins meanwhile has its lease, who looks sees no table."""
    table = tmp_path / "scores"
    command = [sys.executable, "-c", LEASES, str(table)]
    runs = [subprocess.Popen([*command, name, "3000"], stderr=subprocess.PIPE, text=True) for name in "ab"]
    looks = 0
    while any(run.poll() is None for run in runs):
        assert delta.open_table(locate(str(table))) is None
        looks += 1
    assert [run.communicate()[1] for run in runs] == ["", ""]
    assert (looks > 1000, table.exists()) == (True, False)


# A person's commits in the middle of a run: each ends in a right table or a clear stop that names the commit


def sql(spark, statement: str) -> None:
    spark.sql(statement.format(t=f"delta.`{Path.cwd()}/lake/scores`"))


OTHERS = {
    "append to another slice": "INSERT INTO {t} SELECT id, p, _model_name, _model_version, _run_id, _input_version, _scored_at, _warnings, _job, DATE'2026-01-09' FROM {t} WHERE score_date = DATE'2026-01-02'",
    "DELETE in another slice": "DELETE FROM {t} WHERE score_date = DATE'2026-01-02' AND id = 1",
    "DELETE in this slice": "DELETE FROM {t} WHERE score_date = DATE'2026-01-01' AND id = 1",
    "UPDATE in this slice": "UPDATE {t} SET p = 99 WHERE score_date = DATE'2026-01-01' AND id = 1",
    "OPTIMIZE": "OPTIMIZE {t}",
    "VACUUM": "VACUUM {t}",
    "RESTORE of an earlier generation": "RESTORE TABLE {t} TO VERSION AS OF 1",
}  # fmt: skip


@pytest.mark.parametrize("when", ["while it scores", "right before its commit"])
@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.long
def test_a_commit_of_spark_in_the_middle_of_a_run(what, when, daily, spark, monkeypatch):
    """The run's own slice ends as the run publishes it, every other slice as the other writer left it."""
    write("lake/features", features(), ["day"])
    score(daily(DAYS[1]))
    score(daily(DAY))
    score(daily(DAY), rescore=True)
    changed = features([DAY], (2, 3, 4))
    write("lake/features", changed, ["day"], mode="overwrite", predicate=f"day = '{DAY}'")
    place = (local, "run") if when == "while it scores" else (delta, "commit")
    done = in_the_middle(monkeypatch, *place, lambda: sql(spark, OTHERS[what]))
    result = score(daily(DAY))
    assert (len(done), result.status) == (1, "published")
    rows = read("lake/scores")
    by_day = {
        str(d): sorted(rows.filter(pc.equal(rows["score_date"], d))["id"].to_pylist())
        for d in rows["score_date"].unique()
    }
    others = {"2026-01-02": [1, 2, 3]}
    if what == "append to another slice":
        others["2026-01-09"] = [1, 2, 3]
    if what == "DELETE in another slice":
        others["2026-01-02"] = [2, 3]
    if what == "RESTORE of an earlier generation":
        others = {"2026-01-02": [1, 2, 3]}
    assert by_day == {DAY: [2, 3, 4], **others}
    again = score(daily(DAY))
    assert again.status == "unchanged"


@pytest.mark.long
def test_a_restore_right_after_a_publish_is_never_called_unchanged(daily, spark):
    write("lake/features", features(), ["day"])
    score(daily())
    score(daily(), rescore=True)
    sql(spark, "RESTORE TABLE {t} TO VERSION AS OF 1")
    with pytest.raises(Blocked, match=r"commit 3 \(RESTORE\)"):
        score(daily())


def test_a_table_that_is_created_anew_after_a_publish_is_never_called_unchanged(daily, spark):
    """Spark keeps the transaction ids."""
    write("lake/features", features(), ["day"])
    score(daily())
    sql(spark, "CREATE OR REPLACE TABLE {t} USING delta PARTITIONED BY (score_date) AS SELECT * FROM {t} LIMIT 0")
    with pytest.raises(Blocked, match=r"commit 2 \(CREATE OR REPLACE TABLE AS SELECT\): 0 rows live, 3 were published"):
        score(daily())
    assert score(daily(), rescore=True).status == "published"
    assert read("lake/scores")["id"].to_pylist() == [1, 2, 3]


def test_a_table_that_is_created_anew_in_the_middle_of_a_run_is_a_clear_stop(daily, spark, monkeypatch):
    write("lake/features", features(), ["day"])
    score(daily())
    write("lake/features", features([DAY], (5,)), ["day"], mode="overwrite", predicate=f"day = '{DAY}'")

    def replace() -> None:
        other = spark.sql("SELECT 1L AS id, 'x' AS other").limit(0).write.format("delta").mode("overwrite")
        other.option("overwriteSchema", "true").save(f"{Path.cwd()}/lake/scores")

    in_the_middle(monkeypatch, local, "run", replace)
    with pytest.raises(LakehouseError, match="lake/scores") as raised:
        score(daily())
    assert isinstance(raised.value, (ConfigError, Unavailable))
    assert (read("lake/scores").num_rows, unfinished(daily())) == (0, 0)


def test_files_that_go_between_check_and_commit_are_told_with_the_version(daily, monkeypatch):
    """The library accepts a commit of files that are gone; what was committed is looked at once more."""
    write("lake/features", features(), ["day"])
    score(daily())
    write("lake/features", features([DAY], (5,)), ["day"], mode="overwrite", predicate=f"day = '{DAY}'")
    before = set(Path("lake/scores").rglob("*.parquet"))

    def vacuum() -> None:
        for staged in set(Path("lake/scores").rglob("*.parquet")) - before:
            staged.unlink()

    in_the_middle(monkeypatch, delta, "commit", vacuum)
    with pytest.raises(Blocked, match=r"1 files of version 2 were deleted while they were committed.*--rescore"):
        score(daily())
    assert score(daily(), rescore=True).status == "published"
    assert read("lake/scores")["id"].to_pylist() == [5]
