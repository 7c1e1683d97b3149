"""How rows of a DataFrame are looked at, and how they come to workers."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from lakehouse.engines.spark import running, tasks


def noting(folder, rows, batches):
    """In a worker: some rows of this partition, which leaves a file that says that it was read."""
    number = tasks.task_number()
    Path(folder, str(number)).touch()
    for batch in batches:
        kept = batch.slice(0, rows[number])
        yield pa.record_batch([kept.column(0)], names=["a.b"])


def looked_at(spark, folder, rows):
    frame = spark.range(0, 4_000, 1, len(rows)).mapInArrow(functools.partial(noting, str(folder), rows), "`a.b` long")
    found = next(running.first_batches(frame), None)
    return found, sorted(int(path.name) for path in folder.iterdir())


def test_where_the_first_partition_has_rows_enough_no_other_is_read(spark, tmp_path):
    found, read = looked_at(spark, tmp_path, [1000, 1000, 1000, 1000])
    assert found.schema.names == ["a.b"]
    assert found.column(0).to_pylist() == list(range(256))
    assert read == [0]


def test_where_it_has_few_the_others_are_read(spark, tmp_path):
    found, read = looked_at(spark, tmp_path, [3, 0, 1000, 1000])
    assert found.column(0).to_pylist() == [*range(3), *range(2000, 2253)]
    assert read == [0, 1, 2, 3]


def test_values_of_every_type_are_looked_at_as_they_are(spark):
    rows = spark.sql(
        """SELECT CAST(n AS byte) a, CAST(n AS float) b, IF(n = 1, CAST('NaN' AS double), NULL) c, X'00ff' d,
        CAST(n + 0.25 AS decimal(20, 4)) e, DATE '9999-12-31' f, TIMESTAMP '2026-03-29 01:30:00.123456' g,
        TIMESTAMP_NTZ '1890-01-01 00:00:00' h, IF(n = 1, 'ü', NULL) i, ARRAY(n, NULL) j, MAP('k', ARRAY(n)) k,
        NAMED_STRUCT('x', n = 1, 'y', NAMED_STRUCT('z', TIMESTAMP '2026-10-25 01:30:00')) l, n = 1 m
        FROM VALUES (1), (2) AS t(n)"""
    )
    found = pa.Table.from_batches([next(running.first_batches(rows))])
    assert found.to_pandas().equals(rows.toArrow().to_pandas())
    assert found.schema == rows.toArrow().schema


def test_of_no_rows_there_is_nothing_to_look_at(spark, tmp_path):
    found, read = looked_at(spark, tmp_path, [0, 0, 0, 0])
    assert found is None
    assert read == [0, 1, 2, 3]


def test_times_that_python_does_not_hold_are_looked_at_too(spark):
    rows = spark.sql("SELECT TIMESTAMP '-0001-12-31 00:00:00' t, 1 n")
    found = next(running.first_batches(rows))
    assert found.column("n").to_pylist() == [1]
    assert found.column("t").equals(rows.toArrow().column("t").combine_chunks())


@pytest.mark.parametrize(("batch_rows", "lifted"), [(65_536, True), (16_000, False)])
def test_spark_adds_up_a_batch_s_bytes_where_its_rows_may_be_large(spark, batch_rows, lifted):
    key, seen = "spark.sql.execution.arrow.maxBytesPerBatch", []
    before = spark.conf.get(key)

    class Work:
        def __init__(self):
            self.spark = spark

        def collect(self, frame, most):
            spark.range(1).collect()  # or what was shipped is never fetched
            seen.append(spark.conf.get(key))
            return []

    running.run_frame(Work(), spark.range(3), 1, SimpleNamespace(batch_rows=batch_rows), "no model")
    assert (seen == [str(2**31 - 1)]) is lifted
    assert spark.conf.get(key) == before
