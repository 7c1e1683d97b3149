"""The staged files: few row groups of a bounded size, whatever the batches, and exact statistics of them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.config.systems.delta import DeltaSource
from lakehouse.connectors import parquet
from lakehouse.schemas import LINEAGE
from lakehouse.scoring import files, staging
from lakehouse.scoring.files import Files
from lakehouse.scoring.staging import join_batches
from lakehouse.sources import delta
from lakehouse.storage import locate
from tests.conftest import opened, read, score, write

OWN = pa.schema([("id", pa.int64()), ("p", pa.float64())])
CONSTANTS = {
    "_model_name": "m", "_model_version": "7", "_run_id": "r" * 36, "_input_version": None,
    "_scored_at": datetime(2026, 1, 5, tzinfo=UTC), "_job": "j",
}  # fmt: skip


@pytest.fixture
def out(tmp_path) -> Files:
    return Files("scored", 0, locate(str(tmp_path)), pa.schema([*OWN, *LINEAGE]), "run-1", CONSTANTS)


def rows(first: int, count: int) -> pa.RecordBatch:
    return pa.record_batch({"id": range(first, first + count), "p": [0.5] * count}, OWN)


def test_many_small_batches_make_one_row_group_with_exact_statistics(out, tmp_path):
    for i in range(500):
        out.write(rows(2 * i, 2))
    out.close()
    [done] = out.done
    footer = pq.read_metadata(tmp_path / done["path"])
    assert (footer.num_rows, footer.num_row_groups) == (1_000, 1)
    said = json.loads(done["detail"])
    assert said["numRecords"] == 1_000
    assert (said["minValues"]["id"], said["maxValues"]["id"]) == (0, 999)
    assert said["minValues"]["_run_id"] == said["maxValues"]["_run_id"] == "r" * 36
    assert said["minValues"]["_scored_at"] == said["maxValues"]["_scored_at"] == "2026-01-05T00:00:00.000Z"
    assert (said["nullCount"]["_run_id"], said["nullCount"]["_input_version"]) == (0, 1_000)
    assert "_input_version" not in said["minValues"]


def test_constants_are_plain_columns_to_whoever_reads_the_file(out, tmp_path):
    out.write(rows(0, 3))
    out.close()
    table = pq.read_table(tmp_path / out.done[0]["path"], partitioning=None)
    assert table.schema.field("_run_id").type == pa.string()
    assert table.to_pylist()[2] == {"id": 2, "p": 0.5, "_warnings": [], **CONSTANTS}
    column = pq.read_metadata(tmp_path / out.done[0]["path"]).row_group(0).column(2)
    assert (column.path_in_schema, column.statistics.min, column.statistics.null_count) == ("_model_name", "m", 0)


def test_a_row_group_is_written_when_its_rows_or_bytes_have_come_together(out, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "GROUP_ROWS", 10)
    for i in range(6):
        out.write(rows(4 * i, 4))
        assert out.rows <= 10
    monkeypatch.setattr(files, "GROUP_ROWS", 1_000)
    monkeypatch.setattr(files, "GROUP_BYTES", 800)
    out.write(rows(24, 100))
    out.close()
    groups = pq.read_metadata(tmp_path / out.done[0]["path"])
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [8, 8, 108]


class NoFooter(io.BytesIO):
    """A disk that is full when a file's end is to be written."""

    def write(self, data) -> int:
        if self.tell() and bytes(data).endswith(b"PAR1"):
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_a_file_whose_end_could_not_be_written_is_let_go_of(out, monkeypatch):
    disk = NoFooter()
    monkeypatch.setattr(files, "create_file", lambda at: pa.PythonFile(disk, mode="w"))
    out.write(rows(0, 2))
    with pytest.raises(OSError, match="No space left"):
        out.close()
    out.abandon()
    assert (disk.closed, out.done) == (True, [])


def test_what_waits_does_not_keep_the_batch_that_it_is_of(out):
    wide = pa.record_batch({"p": [0.0] * 50_000, "id": range(50_000), **{f"x{i}": [0.0] * 50_000 for i in range(20)}})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, wide.schema) as stream:
        stream.write_batch(wide)
    held = pa.ipc.open_stream(sink.getvalue()).read_next_batch()
    del wide, sink, stream
    before = pa.total_allocated_bytes()
    out.write(held.slice(0, 10).select(["id", "p"]))
    del held
    assert pa.total_allocated_bytes() < before - 8_000_000
    out.close()


def test_small_batches_are_joined_in_their_order():
    given = [rows(10 * i, 10) for i in range(100)]
    found = list(join_batches(given, 300))
    assert pa.Table.from_batches(found).equals(pa.Table.from_batches(given))
    assert [batch.num_rows for batch in found] == [160] * 6 + [40]


def test_joined_batches_keep_to_the_rows_and_bytes_asked_for(monkeypatch):
    sizes = [150, 140, 149, 3, 300, 1, 290]
    found = [batch.num_rows for batch in join_batches([rows(0, n) for n in sizes], 300)]
    assert (sum(found), max(found)) == (sum(sizes), 300)
    monkeypatch.setattr("lakehouse.scoring.staging.JOINED_BYTES", 20 * rows(0, 1).nbytes)
    assert [batch.num_rows for batch in join_batches([rows(0, 4) for _ in range(6)], 300)] == [12, 12]


def test_very_many_tiny_batches_take_up_no_more_than_what_is_in_them():
    held = []

    def tiny():
        for number in range(5_000):
            yield pa.record_batch({f"x{n}": np.full(1, number) for n in range(20)})
            held.append(pa.total_allocated_bytes())

    before = pa.total_allocated_bytes()
    [found] = join_batches(tiny(), 20_000)
    assert found.column(0).to_pylist() == list(range(5_000))
    assert max(held) - before < 5_000 * 20 * 64 // 2


def test_a_batch_of_its_full_size_is_handed_on_before_the_next_is_read():
    read = []

    def reading() -> Iterator[pa.RecordBatch]:
        for i in range(3):
            read.append(i)
            yield rows(0, 100)

    found = join_batches(reading(), 100)
    next(found)
    assert read == [0]


def test_the_rows_of_many_small_files_reach_the_model_together(make_job, register, monkeypatch):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    uri = register(LinearRegression().fit(x, x["a"] * 10), x)
    for i in range(30):
        write("lake/features", pa.table({"id": [2 * i, 2 * i + 1], "a": [0.5 * i, 1.0 * i]}))
    sizes, plain = [], staging.score_rows
    monkeypatch.setattr(staging, "score_rows", lambda batch, *more: sizes.append(batch.num_rows) or plain(batch, *more))
    done = score(make_job(uri, predictions={"p": 0}))
    assert (done.rows_scored, sizes) == (60, [60])
    assert read("lake/scores")["id"].to_pylist() == list(range(60))
    assert read("lake/scores")["p"].to_pylist() == pytest.approx(read("lake/features")["a"].to_numpy() * 10)
    [file] = opened("lake/scores").file_uris()
    assert pq.read_metadata(file).num_row_groups == 1


def test_a_large_file_is_cut_without_a_look_at_its_row_groups(tmp_path, monkeypatch):
    write(str(tmp_path / "t"), pa.table({"a": range(1_000)}))
    pinned = delta.pin(DeltaSource(type="delta", table=str(tmp_path / "t")))
    monkeypatch.setattr(parquet, "SPLIT_BYTES", 1)
    opened_files, plain = [], pq.ParquetFile
    monkeypatch.setattr(pq, "ParquetFile", lambda *a, **k: opened_files.append(a) or plain(*a, **k))
    found = [delta.units(pinned, ["a"], 100, tasks) for tasks in (1, 1, 2)]
    assert opened_files == []
    for units in found:
        assert sum(batch.num_rows for unit in units for batch in unit.batches()) == 1_000
