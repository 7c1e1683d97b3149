"""OPTIMIZE of the source, which puts the same rows into other files, is no new input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lakehouse.config import Job
from lakehouse.engines import local
from tests.conftest import opened, score, version, write

DAY, NEXT = "2026-01-02", "2026-01-03"


def features(day: str, start: int, rows: int = 5) -> pa.Table:
    return pa.table({"id": np.arange(start, start + rows), "a": np.arange(rows) * 0.1, "day": [day] * rows})


@pytest.fixture
def daily(make_job, imputing):
    """A published day of a feature table in several files; daily() is its job."""

    def make(day: str = DAY, where: str = "day = '{date}'") -> Job:
        return make_job(
            imputing, date=day, source={"where": where}, slice={"score_date": "{date}"}, predictions={"p": 0}
        )

    for start in (0, 10, 20):
        write("lake/features", features(DAY, start), ["day"])
    assert score(make()).status == "published"
    return make


@pytest.fixture
def forbid_scoring(monkeypatch):
    return lambda: monkeypatch.setattr(local, "run", lambda *_: pytest.fail("scored again"))


def optimize() -> None:
    before = len(opened("lake/features").file_uris())
    opened("lake/features").optimize.compact()
    assert len(opened("lake/features").file_uris()) < before


def test_a_day_whose_files_were_compacted_is_unchanged(daily, forbid_scoring):
    optimize()
    forbid_scoring()
    assert score(daily()).status == "unchanged"
    for start in (100, 110):  # another day's rows are none of this one's, whatever commits bring them
        write("lake/features", features(NEXT, start), ["day"])
    optimize()
    assert score(daily()).status == "unchanged"


def test_optimize_after_optimize_is_unchanged(daily, forbid_scoring):
    optimize()
    opened("lake/features").optimize.z_order(["id"])
    forbid_scoring()
    assert score(daily()).status == "unchanged"


def test_rows_that_came_between_are_a_change(daily):
    write("lake/features", features(DAY, 30), ["day"])
    optimize()
    result = score(daily())
    assert (result.status, result.rows_scored) == ("published", 20)
    assert score(daily()).status == "unchanged"


def test_rows_that_went_between_are_a_change(daily):
    opened("lake/features").delete("id = 20")
    optimize()
    assert (result := score(daily())).rows_scored == 14
    assert result.status == "published"


def test_rows_that_were_replaced_by_the_same_are_a_change(daily):
    optimize()
    rows = opened("lake/features").to_pyarrow_table()
    write("lake/features", rows, ["day"], mode="overwrite")
    assert score(daily()).status == "published"


def test_without_the_log_between_it_is_a_change(daily):
    optimize()
    write("lake/features", features(NEXT, 100), ["day"])
    table = opened("lake/features")
    table.create_checkpoint()
    Path(f"lake/features/_delta_log/{table.version() - 1:020d}.json").unlink()
    assert score(daily()).status == "published"


def test_where_on_a_plain_column_takes_any_new_rows_for_a_change(daily):
    assert score(daily(where="id < 1000")).status == "published"
    optimize()
    at = version("lake/scores")
    assert score(daily(where="id < 1000")).status == "unchanged"
    assert version("lake/scores") == at
    write("lake/features", features(NEXT, 100), ["day"])
    assert score(daily(where="id < 1000")).rows_scored == 20


@pytest.mark.slow
@pytest.mark.long
def test_sparks_optimize_and_purge_leave_a_day_unchanged(daily, spark, forbid_scoring):
    place = f"delta.`{Path('lake/features').resolve()}`"
    spark.sql(f"ALTER TABLE {place} SET TBLPROPERTIES (delta.enableDeletionVectors = true)")
    spark.sql(f"DELETE FROM {place} WHERE id = 20")
    assert score(daily()).rows_scored == 14
    forbid_scoring()
    spark.sql(f"REORG TABLE {place} APPLY (PURGE)")
    assert score(daily()).status == "unchanged"
    spark.sql(f"OPTIMIZE {place}")
    assert score(daily()).status == "unchanged"
