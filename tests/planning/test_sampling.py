"""Looking at a sample and sharing the input out: what the driver opens, and how far it reads before executors do."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.connectors import parquet
from lakehouse.errors import NotReady
from lakehouse.planning import carriers, sampling
from tests.conftest import read, score, write

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
    monkeypatch.setattr(parquet, "MOST_BYTES", 0)  # all files are large
    write_files()
    assert score(make_job(imputing), dry_run=True).plan["units"] >= FILES
    assert list(opened.values()) == [1]


@pytest.mark.slow
def test_on_spark_the_driver_opens_no_footer_on_the_way_to_a_job(spark, make_job, imputing, opened, monkeypatch):
    monkeypatch.setattr(parquet, "SPLIT_BYTES", 0)
    monkeypatch.setattr(parquet, "MOST_BYTES", 0)
    write_files()
    score(make_job(imputing), engine="spark")
    assert list(opened.values()) == [1]
    assert read("lake/scores")["id"].to_pylist() == list(range(10 * FILES))


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


@given(st.lists(st.integers(0, 1000), max_size=30), st.integers(1, 40))
def test_each_row_group_is_of_one_part(sizes, parts):
    taken = [parquet.groups_of_part(sizes, part, parts) for part in range(parts)]
    assert [group for groups in taken for group in groups] == list(range(len(sizes)))


def test_parts_of_row_groups_alike_are_alike():
    taken = [len(parquet.groups_of_part([5] * 24, part, 8)) for part in range(8)]
    assert taken == [3] * 8


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
