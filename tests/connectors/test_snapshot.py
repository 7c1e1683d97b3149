"""A table's files without reading them: which are ruled out, and what is kept of those that remain."""

from __future__ import annotations

import datetime as dt
import hashlib
import pickle

import numpy as np
import pyarrow as pa
import pytest
from deltalake import WriterProperties
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.conditions import admits, may_admit
from lakehouse.conditions.parsing import parse_where
from lakehouse.config.systems.delta import DeltaSource
from lakehouse.connectors import parquet
from lakehouse.connectors.delta import DataFile, Snapshot, open_table, partition_text
from lakehouse.connectors.live_rows import pack
from lakehouse.sources.delta import pin, units
from lakehouse.storage import locate
from tests.conftest import write
from tests.large_log import write_log

FILES = 600


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Snapshot:
    """A table of many files in 100 partitions, with ids counting on, none of which is there."""
    folder = tmp_path_factory.mktemp("log") / "features"
    write_log(folder, FILES, features=2, real=0)
    snapshot = open_table(locate(str(folder)))
    assert snapshot is not None
    return snapshot


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("day = '2026-01-02'", 6),
        ("day IN ('2026-01-02', '2026-01-05') AND id < 10000000", 2),
        ("day > '2026-04-10' AND x0 > 0.5 AND id >= 30000000", 18),
        ("id = 12345678", 1),
        ("id = -5", 0),
        ("day IS NULL", 0),
        ("x1 IS NOT NULL", FILES),
    ],
)
def test_files_that_partition_values_and_statistics_rule_out_are_left_out(many, where, count):
    comparisons, named = parse_where(where, many.schema).comparisons, ("id", "x0", "x1")

    def may_hold(file: DataFile) -> bool:
        inside = [c for c in comparisons if c.column == "day"]
        outside = [c for c in comparisons if c.column != "day"]
        possible = all(may_admit(c, *file.bounds[c.column], file.rows) for c in outside)
        return possible and all(admits(c, file.partition["day"]) for c in inside)

    found = many.files(named, comparisons)
    assert found == [file for file in many.files(named) if may_hold(file)]
    assert len(found) == count


def test_files_of_a_partition_by_its_text(many):
    found = many.files(partition={"day": "2026-01-02"})
    assert found == [file for file in many.files() if partition_text(file.partition["day"]) == "2026-01-02"]
    assert {file.partition["day"] for file in found} == {dt.date(2026, 1, 2)}


@pytest.mark.parametrize(
    ("values", "where"),
    [
        (pa.array([1, None, 3]), "p >= 3"), (pa.array(["a", None, "b c"]), "p != 'a'"),
        (pa.array([True, None, False]), "p = true"), (pa.array(["a", "", None]), "p IS NULL"),
        (pa.array(["a", "", None]), "p = 'a'"),
    ],
)  # fmt: skip
def test_partition_values_of_any_type(workspace, values, where):
    write("t", pa.table({"id": range(len(values)), "p": values}), ["p"])
    pinned = pin(DeltaSource(type="delta", table="t", where=where))
    every = pin(DeltaSource(type="delta", table="t"))
    # What deltalake has written for an empty text is read as null: such a column is left to Spark.
    unsure = "" in values.to_pylist()
    [comparison] = parse_where(where, every.schema).comparisons
    assert pinned.files == tuple(f for f in every.files if unsure or admits(comparison, f.partition["p"]))


@given(st.lists(st.booleans(), max_size=70))
def test_live_rows_are_kept_as_they_are(mask):
    kept = pack(np.array(mask, dtype=bool))
    assert (kept.mask().tolist(), kept.rows, kept.live) == (mask, len(mask), sum(mask))


def test_live_rows_take_little_and_give_the_fingerprint_that_they_gave_before():
    mask = np.ones(1_000_000, dtype=bool)
    mask[np.random.default_rng(0).integers(0, len(mask), 1_000)] = False
    file = DataFile("a%20b.parquet", 7, len(mask), {}, live_mask=pack(mask))
    assert len(pickle.dumps(file.live_mask)) < 10_000
    assert file.fingerprint() == ("a%20b.parquet", 7, hashlib.sha256(bytes(mask.tolist())).hexdigest())
    assert file.live_rows == int(mask.sum())


def test_units_of_large_files_that_are_not_there(many):
    """Nothing is opened: a unit a file of 100 MB where there are many for a task, spans of them where there are few."""
    pinned = pin(DeltaSource(type="delta", table=many.location.uri))
    assert len(units(pinned, ["id"], 1_000, 10)) == FILES
    cut = units(pinned, ["id"], 1_000, FILES * 2)
    assert [unit.span for unit in cut[:2]] == [(0, 50 << 20, 100 << 20), (50 << 20, 100 << 20, 100 << 20)]
    assert len(cut) == FILES * 2


def test_spans_of_large_files_give_every_row_once(workspace, monkeypatch):
    for start, rows in ((0, 1_000), (1_000, 10), (1_010, 2_500)):
        ids = pa.table({"id": range(start, start + rows)})
        write("t", ids, writer_properties=WriterProperties(max_row_group_size=100))
    monkeypatch.setattr(parquet, "SPLIT_BYTES", 0)
    pinned = pin(DeltaSource(type="delta", table="t", where="id != 5"))
    for tasks in (1, 2, 3, 7, 50):
        cut = units(pinned, ["id"], 64, tasks)
        assert sum(unit.span is not None for unit in cut) >= (tasks if tasks > 1 else 0)
        ids = sorted(i for unit in cut for batch in unit.batches() for i in batch["id"].to_pylist())
        assert ids == [i for i in range(3_510) if i != 5]
