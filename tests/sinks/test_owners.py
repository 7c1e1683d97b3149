"""Whose rows live in a slice: what the log tells is not read, what footers tell costs one look, the rest is counted."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.connectors import delta
from lakehouse.connectors.delta import values
from lakehouse.connectors.live_rows import pack
from lakehouse.errors import Blocked
from lakehouse.schemas import JOB, RUN_ID
from lakehouse.sinks.delta.history import live_owners, refuse_rows_of_others
from lakehouse.sinks.target import SINK, Target
from lakehouse.storage import locate
from tests.conftest import score, write

TABLE = "lake/scores"
RUNS = [str(uuid.UUID(int=i)) for i in range(4)]  # alike in the first 32 characters
TARGET = Target(SINK, TABLE, "replace", "mine", "mine", {}, 1, "f")


@pytest.fixture
def opened(monkeypatch):
    """What was done to files: how many were opened, and how many row groups were read."""
    done, open_parquet, read = Counter(), values.open_parquet, pq.ParquetFile.read_row_group

    def opening(*args, **kwargs):
        done["opened"] += 1
        return open_parquet(*args, **kwargs)

    def reading(*args, **kwargs):
        done["read"] += 1
        return read(*args, **kwargs)

    monkeypatch.setattr(values, "open_parquet", opening)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", reading)
    return done


def rows_of(job, runs, rows=10) -> pa.Table:
    runs = (list(runs) * rows)[:rows]
    return pa.table({"id": range(rows), RUN_ID: pa.array(runs, pa.string()), JOB: pa.array([job] * rows, pa.string())})


def log_of_spark(cut: int | None) -> None:
    """Have the log tell what Spark would: texts cut to so many characters, or nothing of the columns at all."""
    for commit in Path(TABLE, "_delta_log").glob("*.json"):
        lines = [json.loads(line) for line in commit.read_text().splitlines()]
        for add in (line["add"] for line in lines if "add" in line):
            stats = json.loads(add["stats"])
            for bound, end in (("minValues", ""), ("maxValues", "\U0010ffff")):
                for name in (RUN_ID, JOB):
                    text = stats[bound].pop(name, None)
                    if cut is not None and text is not None:
                        stats[bound][name] = text if len(text) <= cut else text[:cut] + end
            add["stats"] = json.dumps(stats, ensure_ascii=False)
        commit.write_text("\n".join(map(json.dumps, lines)))


def snapshot() -> delta.Snapshot:
    found = delta.open_table(locate(TABLE))
    assert found is not None
    return found


def files(of: delta.Snapshot) -> list[delta.DataFile]:
    return of.files([JOB, RUN_ID])


def test_no_file_is_opened_where_the_log_tells(workspace, opened):
    for run in RUNS:
        write(TABLE, rows_of("mine", [run]))
    assert live_owners(snapshot(), files(snapshot())) == {("mine", run): 10 for run in RUNS}
    assert opened == {}


@pytest.mark.parametrize("cut", [32, None])
def test_footers_tell_whose_files_are_of_which_spark_keeps_less(workspace, opened, cut):
    for run in RUNS:
        write(TABLE, rows_of("mine", [run]))
    log_of_spark(cut)
    assert live_owners(snapshot(), files(snapshot())) == {("mine", run): 10 for run in RUNS}
    assert opened == {"opened": 4}  # each once, and no page of them is read


def test_whether_another_job_has_rows_is_told_by_the_log_though_runs_are_not(workspace, opened):
    for run in RUNS:
        write(TABLE, rows_of("mine", [run]))
    log_of_spark(32)
    refuse_rows_of_others(snapshot(), TARGET, files(snapshot()))
    with pytest.raises(Blocked, match="holds rows of another job \\(mine\\)"):
        refuse_rows_of_others(snapshot(), replace(TARGET, job="theirs"), files(snapshot()))
    refuse_rows_of_others(snapshot(), replace(TARGET, job="theirs", write="append"), files(snapshot()))
    assert opened == {}


def test_no_file_is_opened_after_one_with_another_jobs_rows(workspace, opened, monkeypatch):
    monkeypatch.setattr(values, "_AT_ONCE", 2)
    for job in ["mine", "mine", "mine", "theirs", "mine", "mine", "mine", "mine"]:
        write(TABLE, rows_of(job, RUNS[:1]))
    log_of_spark(None)
    whole = sorted(files(snapshot()), key=lambda file: file.path)
    theirs = [f for f in whole if pq.read_table(f"{TABLE}/{f.relative}")[JOB][0].as_py() == "theirs"]
    rest = [f for f in whole if f not in theirs]
    with pytest.raises(Blocked, match="holds rows of another job \\(theirs\\)"):
        refuse_rows_of_others(snapshot(), TARGET, [*rest[:3], *theirs, *rest[3:]])
    assert opened == {"opened": 4}


def test_rows_of_several_runs_in_one_file_are_counted_a_row_group_after_the_other(workspace, opened):
    Path(TABLE).mkdir(parents=True)
    write(TABLE, rows_of("mine", RUNS[:1], 1))
    [file] = files(snapshot())
    parts = [
        rows_of("mine", RUNS[:1], 6),
        rows_of("mine", RUNS[1:3], 5),
        rows_of("mine", [None]),
        rows_of(None, RUNS[:1], 3),
    ]
    with pq.ParquetWriter(f"{TABLE}/{file.relative}", parts[0].schema) as writer:
        for part in parts:
            writer.write_table(part)
    found = live_owners(snapshot(), [replace(file, bounds={}, rows=24)])
    expected = {
        ("mine", RUNS[0]): 6,
        ("mine", RUNS[1]): 3,
        ("mine", RUNS[2]): 2,
        ("mine", None): 10,
        (None, RUNS[0]): 3,
    }
    assert found == expected
    assert opened == {"opened": 2, "read": 1}  # again for the one row group of which the footer doesn't tell
    mask = [i % 3 == 0 for i in range(24)]
    found = live_owners(snapshot(), [replace(file, bounds={}, rows=24, live_mask=pack(np.array(mask)))])
    whole = pa.concat_tables(parts)
    owners = zip(whole[JOB].to_pylist(), whole[RUN_ID].to_pylist(), strict=True)
    assert found == Counter(owner for owner, alive in zip(owners, mask, strict=True) if alive)


def test_a_file_without_the_columns_is_nobodys(workspace, opened):
    write(TABLE, pa.table({"id": [1, 2, 3]}))
    write(TABLE, rows_of("mine", RUNS[:1]), schema_mode="merge")
    found = live_owners(snapshot(), files(snapshot()))
    assert found == {(None, None): 3, ("mine", RUNS[0]): 10}
    assert opened == {"opened": 1}


def test_what_spark_wrote_is_told_by_its_footers(workspace, spark, opened):
    wide = ", ".join(f"id AS c{i}" for i in range(33))  # of columns behind these there are no statistics in the log
    for number, run in enumerate(RUNS[:2]):
        some = spark.range(number * 5, number * 5 + 5, 1, 1)
        row = some.selectExpr("id", *wide.split(", "), f"'{run}' AS {RUN_ID}", f"'mine' AS {JOB}")
        row.write.format("delta").mode("append").save(str(Path(TABLE).absolute()))
    spark.sql(f"OPTIMIZE delta.`{Path(TABLE).absolute()}`")
    found = files(snapshot())
    assert (len(found), found[0].bounds) == (1, {})
    assert live_owners(snapshot(), found) == {("mine", run): 5 for run in RUNS[:2]}
    assert opened == {"opened": 2, "read": 1}


def test_a_run_that_has_nothing_to_do_opens_no_file(make_job, imputing, opened):
    write("lake/features", pa.table({"id": range(10), "a": [0.5] * 10}))
    job = make_job(imputing, predictions={"p": 0})
    assert [score(job).status for _ in range(2)] == ["published", "unchanged"]
    assert opened == {}
