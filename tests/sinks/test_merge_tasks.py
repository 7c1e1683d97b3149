"""`write: merge` on Spark: executors look the keys up and write what stays, with what comes of it as without them."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from sklearn.linear_model import LinearRegression

from lakehouse.connectors import delta
from lakehouse.engines import local, memory
from lakehouse.schemas import LINEAGE
from lakehouse.scoring import statistics
from lakehouse.scoring.files import Files
from lakehouse.sinks.delta import merge, merge_tasks
from lakehouse.storage import locate
from tests.conftest import read, score, write
from tests.tables import assert_tables_equal

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
COLUMNS = {
    "whole": lambda i: pa.array(i, pa.int64()),
    "number": lambda i: pa.array([float("nan") if n == 7 else n / 4 for n in i], pa.float64()),
    "text": lambda i: pa.array([f"{'ü' * (n % 3)}{n}" for n in i], pa.string()),
    "day": lambda i: pa.array([date.fromordinal(738_000 + n) for n in i], pa.date32()),
    "at": lambda i: pa.array([NOON.replace(microsecond=n) for n in i], pa.timestamp("us", "UTC")),
    "amount": lambda i: pa.array([Decimal(n) / 8 for n in i], pa.decimal128(20, 3)),
}


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"] * 10), x)


@pytest.fixture
def upsert(make_job, uri, monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 1)

    def make(*keys):
        sink = {"type": "delta", "table": "lake/scores", "write": "merge"}
        return make_job(uri, keys=list(keys), predictions={"p": 0}, sinks=[sink])

    return make


def give(ids, a: float, *keys: str) -> None:
    table = {**{key: COLUMNS[key](ids) for key in keys}, "a": pa.array([a] * len(ids), pa.float64())}
    write("lake/features", pa.table(table), mode="overwrite")


def on_executors(monkeypatch) -> None:
    """Nothing is few, and the driver reads neither keys nor rows."""

    def refuse(*_, **__):
        raise AssertionError("the driver reads keys")

    monkeypatch.setattr(merge, "FEW", 0)
    for name in ("read_files", "rows_of"):
        monkeypatch.setattr(delta, name, refuse)
    monkeypatch.setattr(merge_tasks, "_STAGED_ROWS", 3)


def files() -> set[str]:
    return {path.rpartition("/")[2] for path in DeltaTable("lake/scores").file_uris()}


@pytest.mark.quick("keys0")
@pytest.mark.parametrize("keys", [["text", "whole"], ["whole"], ["number"], ["text"], ["day"], ["at"], ["amount"]])
def test_executors_and_one_process_leave_the_same_table(upsert, spark, monkeypatch, keys):
    for start in (0, 1, 2):
        give(range(start, 12, 3), start / 10, *keys)
        score(upsert(*keys))
    DeltaTable("lake/scores").delete("p = 0")  # nothing of it is left that could come back
    give([1, 4, 7, 10, 2, 20], 1.0, *keys)  # one file wholly, one in part, one not at all
    shutil.copytree("lake", "before")
    before, tables, stayed = files(), [], []
    for engine in ("local", "spark"):
        shutil.rmtree("lake")
        shutil.copytree("before", "lake")
        if engine == "spark":
            on_executors(monkeypatch)
        assert score(upsert(*keys), engine, rescore=True).status == "published"
        rows = read("lake/scores").drop_columns([n for n in LINEAGE.names if n != "_job"])
        order = [(key, "ascending") for key in keys]
        tables.append(rows.sort_by(order))
        stayed.append(files() & before)
    assert_tables_equal(*tables)
    assert tables[0].num_rows == 9
    assert stayed[0] == stayed[1]


def test_what_memory_does_not_hold_is_merged_by_executors(upsert, spark, monkeypatch):
    give(range(10), 0.1, "whole")
    score(upsert("whole"))
    monkeypatch.setattr(memory, "available", lambda: 1_000)
    give(range(5, 15), 0.2, "whole")
    assert score(upsert("whole"), "spark").status == "published"
    rows = read("lake/scores").sort_by("whole")
    assert np.round(rows["p"].to_numpy(), 9).tolist() == [1.0] * 5 + [2.0] * 10


def test_a_few_rows_are_merged_without_executors(upsert, spark, monkeypatch):
    monkeypatch.setattr(merge_tasks, "rewrite", lambda *_: pytest.fail("executors were asked"))
    for a in (0.1, 0.2):
        give(range(3), a, "whole")
        score(upsert("whole"), "spark")
    assert np.round(read("lake/scores")["p"].to_numpy(), 9).tolist() == [2.0] * 3


def test_only_files_whose_bounds_meet_those_of_the_staged_ones_are_read(upsert, spark, monkeypatch):
    for start in (0, 100, 200):
        give(range(start, start + 9), 0.1, "whole")
        score(upsert("whole"))
    asked, rewrite = [], merge_tasks.rewrite

    def counted(spark, snapshot, files, target, run):
        asked.append([file.bounds["whole"][:2] for file in files])
        return rewrite(spark, snapshot, files, target, run)

    monkeypatch.setattr(merge_tasks, "rewrite", counted)
    on_executors(monkeypatch)
    give([104, 150], 0.2, "whole")
    score(upsert("whole"), "spark")
    assert asked == [[(100, 108)]]


def test_rows_without_a_key_stay(tmp_path):
    """A table may hold such, from others."""
    write(f"{tmp_path}/t", pa.table({"id": pa.array([1, None, 3]), "p": [1.0, 2.0, 3.0]}))
    snapshot = delta.open_table(locate(f"{tmp_path}/t"))
    files = snapshot.files(["id"])
    target = SimpleNamespace(keys=("id",), slice={})
    work = merge_tasks.Work(snapshot, target, "r", tuple(files), (), (((0,), ()),))
    (read_keys,) = merge_tasks.read_keys(work, iter([pa.record_batch({"id": [0]})]))
    assert read_keys.select(["file", "row", "key0"]).to_pydict() == {"file": [0, 0], "row": [0, 2], "key0": [1, 3]}


@pytest.mark.parametrize(
    ("kind", "values", "least", "greatest"),
    [
        (pa.int64(), [3, -(2**62), None], -(2**62), 3),
        (pa.float64(), [0.1, float("-inf")], float("-inf"), 0.1),
        (pa.decimal128(20, 3), [Decimal("0.1"), Decimal(7)], Decimal("0.1"), Decimal(7)),
        (pa.date32(), [date(2026, 1, 2), date(1, 1, 1)], date(1, 1, 1), date(2026, 1, 2)),
        (pa.string(), ["b", "ä"], "b", "ä"),
        (pa.bool_(), [True, False], False, True),
        (pa.float64(), [1.0, float("nan")], None, None),
        (pa.timestamp("us", "UTC"), [NOON], None, None),
    ],
)
def test_bounds_are_read_back_as_they_were_written(tmp_path, kind, values, least, greatest):
    writer = Files("scored", 0, locate(str(tmp_path)), pa.schema([("c", kind)]), "run-1")
    writer.write(pa.record_batch({"c": pa.array(values, kind)}))
    writer.close()
    said = writer.done[0]["detail"]
    assert json.loads(said)["numRecords"] == len(values)
    assert statistics.bounds_of(said, {"c": kind}) == ({} if least is None else {"c": (least, greatest)})
