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
    assert found.num_rows >= 3
    assert read == [0, 1, 2, 3]


def test_of_no_rows_there_is_nothing_to_look_at(spark, tmp_path):
    found, read = looked_at(spark, tmp_path, [0, 0, 0, 0])
    assert found is None
    assert read == [0, 1, 2, 3]


@pytest.mark.parametrize(("batch_rows", "lifted"), [(65_536, True), (16_000, False)])
def test_spark_adds_up_a_batch_s_bytes_where_its_rows_may_be_large(spark, batch_rows, lifted):
    key, seen = "spark.sql.execution.arrow.maxBytesPerBatch", []
    before = spark.conf.get(key)

    class Work:
        def __init__(self):
            self.spark = spark

        def collect(self, frame, most):
            seen.append(spark.conf.get(key))
            return []

    running.run_frame(Work(), spark.range(3), 1, SimpleNamespace(batch_rows=batch_rows), "no model")
    assert (seen == [str(2**31 - 1)]) is lifted
    assert spark.conf.get(key) == before
