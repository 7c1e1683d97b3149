"""Looking at a sample and sharing the input out: what the driver opens, and how far it reads before executors do."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.connectors import parquet
from lakehouse.errors import NotReady
from lakehouse.planning import carriers, sampling
from lakehouse.storage import locate
from tests import memory
from tests.conftest import read, score, write
from tests.large_log import write_log

FILES = 12


@pytest.fixture
def opened(monkeypatch):
    """How often this process has opened each Parquet file of the input."""
    opens, open_parquet = Counter(), parquet.open_parquet

    def counting(root, path, **how):
        opens[path] += 1
        return open_parquet(root, path, **how)

    monkeypatch.setattr(parquet, "open_parquet", counting)
    return opens


def write_files(files: int = FILES, fit_from: int = 0) -> None:
    """Ten rows a file, ids counting on; the feature is null in the files before `fit_from`."""
    for number in range(files):
        a = [1.5 if number >= fit_from else None] * 10
        write("lake/features", pa.table({"id": np.arange(10) + 10 * number, "a": pa.array(a, pa.float64())}))


def test_a_dry_run_opens_only_the_file_whose_rows_it_looks_at(make_job, imputing, opened, monkeypatch):
    monkeypatch.setattr(parquet, "SPLIT_BYTES", 0)
    write_files(3)
    assert score(make_job(imputing), dry_run=True).plan["units"] > 3  # all are large
    assert list(opened.values()) == [1]


@pytest.mark.long
@pytest.mark.slow
def test_on_spark_the_driver_opens_no_footer_on_the_way_to_a_job(spark, make_job, imputing, opened, monkeypatch):
    monkeypatch.setattr(parquet, "SPLIT_BYTES", 0)
    write_files(3)
    score(make_job(imputing), engine="spark")
    assert list(opened.values()) == [1]
    assert read("lake/scores")["id"].to_pylist() == list(range(30))


def test_the_local_engine_finds_the_only_row_by_the_columns_of_where(make_job, imputing, opened):
    write_files()
    write("lake/features", pa.table({"id": [999], "a": [2.5]}))
    write("lake/features", pa.table({"id": [0, 10_000], "a": [1.5, 2.5]}))
    job = make_job(imputing, source={"where": "a = 2.5 AND id > 998 AND id < 1000"})
    assert score(job).rows_scored == 1
    assert read("lake/scores").select(["id", "prediction"]).to_pylist() == [
        {"id": 999, "prediction": pytest.approx(2.5)}
    ]
    with pytest.raises(NotReady, match="no row passes source"):
        score(make_job(imputing, source={"where": "a = 3.5"}))


@pytest.mark.slow
def test_on_spark_executors_find_the_only_row(spark, make_job, imputing, opened, monkeypatch):
    monkeypatch.setattr(sampling, "_A_TASK", 1)  # a file a core, then four, sixteen
    write_files()
    write("lake/features", pa.table({"id": [5_000], "a": [2.5]}), mode="append")
    assert score(make_job(imputing, source={"where": "a = 2.5"}), engine="spark").rows_scored == 1
    assert sum(opened.values()) <= sampling._UNITS
    opened.clear()
    with pytest.raises(NotReady, match="no row passes source"):
        score(make_job(imputing, source={"where": "a = 3.5"}), engine="spark")
    assert sum(opened.values()) <= sampling._UNITS


@pytest.mark.slow
def test_on_spark_executors_find_rows_that_the_model_can_be_given(spark, make_job, imputing, opened):
    """All others lack the feature; without one of these rows the type of the prediction would be a guess."""
    write_files(fit_from=FILES - 1)
    job = make_job(imputing, features={"nulls": "quarantine"}, checks={"quarantine": {"max_fraction": 1.0}})
    result = score(job, engine="spark")
    assert (result.status, result.rows_scored, result.rows_quarantined) == ("published", 10, 110)
    assert sum(opened.values()) <= sampling._UNITS


@given(st.lists(st.integers(0, 1000), max_size=30), st.lists(st.integers(1, 999), max_size=20))
def test_each_row_group_is_of_one_span(sizes, places):
    ends = sorted({*places, 1_000})
    spans = zip([0, *ends], ends, strict=False)
    taken = [parquet.groups_of_span(sizes, start, stop, 1_000) for start, stop in spans]
    assert [group for groups in taken for group in groups] == list(range(len(sizes)))


@pytest.mark.parametrize(
    ("files", "groups", "tasks", "most"),
    [(1, 4, 2, 2), (1, 8, 3, 3), (3, 1, 2, 2), (4, 1, 2, 2), (3, 4, 2, 6), (1, 3, 8, 1), (40, 1, 4, 10)],
)
def test_shares_of_files_whose_row_groups_nobody_knows(files, groups, tasks, most):
    """As many row groups of 100 MB in the fullest share as can't be helped."""
    reading = parquet.ReadSettings(locate("lake"), pa.schema([]), (), (), 1)
    wholes = [parquet.FileUnit(reading, f"{n}", groups * 100 << 20, ()) for n in range(files)]
    shares = carriers.balance(parquet.split_into_units(wholes, tasks), tasks)

    def held(unit: parquet.FileUnit) -> int:
        span = unit.span or (0, unit.size, unit.size)
        return len(parquet.groups_of_span([100 << 20] * groups, *span))

    counts = [sum(held(unit) for unit in share) for share in shares]
    assert (sum(counts), max(counts)) == (files * groups, most)


def test_files_of_about_one_size_are_whole_where_there_are_several_a_task():
    """Where a cut would be, by bytes, a row group on this or that side, a share would have four of them."""
    reading = parquet.ReadSettings(locate("lake"), pa.schema([]), (), (), 1)
    for seed in range(8):
        sizes = [(80 << 20) + int(more) for more in np.random.default_rng(seed).integers(0, 1 << 20, 16)]
        wholes = [parquet.FileUnit(reading, f"{n}", size, ()) for n, size in enumerate(sizes)]
        shares = carriers.balance(parquet.split_into_units(wholes, 6), 6)
        assert sorted(map(len, shares)) == [2, 2, 3, 3, 3, 3]
        assert all(unit.span is None for share in shares for unit in share)


@pytest.mark.parametrize(
    ("size", "cores", "tasks"),
    [
        (0, 4, 4),
        (300 << 20, 4, 4),  # a task a core: a third of it each would not pay
        (512 << 20, 4, 8),
        (10 << 30, 4, 12),
        (100 << 30, 4, 100),
        (10 << 40, 400, 10_240),
    ],
)
def test_tasks_for_an_input(size, cores, tasks):
    assert carriers.tasks_for(size, cores) == tasks


@pytest.mark.slow
@pytest.mark.long
def test_a_log_of_50_000_files_is_planned_in_bounded_memory(make_job, imputing, workspace):
    """Each file is of 100 MB, as the log says (measured: 0.55 GB in all, of which imports are 0.35 GB)."""
    write_log(workspace / "lake" / "features", 50_000)
    job = make_job(imputing, features={"rename": {"a": "x0"}})
    command = [sys.executable, "-m", "lakehouse.cli", "score", str(job.path), "--dry-run", "--engine", "local"]
    printed, seen = memory.run(command, {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, 280)
    assert "50000 files" in printed
    assert max((process.peak for process in seen.values()), default=0) < 1.5e9
