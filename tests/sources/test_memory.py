"""What reading costs: a worker holds one row group as it is stored, or one part of a result, and one batch as Arrow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake.transaction import AddAction
from sklearn.linear_model import LinearRegression

from lakehouse.config import Model
from tests.conftest import opened, write

PROJECT = Path(__file__).parents[2]
READ = """
import sys
from lakehouse.config.systems.delta import DeltaSource
from lakehouse.sources.delta import pin, units
from tests.memory import peak_of

pinned = pin(DeltaSource(type="delta", table=sys.argv[1]))
before = peak_of()
rows = sum(b.num_rows for u in units(pinned, pinned.snapshot.schema.names, int(sys.argv[2]), 1) for b in u.batches())
print(rows, before, peak_of())
"""
SCORE = """
import os, sys
from lakehouse import pipeline
from lakehouse.runs import ledger
from lakehouse.config import load_job
from tests.memory import peak_of

peaks = []
for limit in ("id < 20", "id >= 20"):  # the first run imports all that is needed, and loads the model
    job = load_job(sys.argv[1], date=None, environ=os.environ, overrides=[f"source.where={limit}"])
    done = pipeline.score(job, pipeline.Request("local", ledger.now(), pipeline.new_run_id()))
    peaks.append(peak_of())
print(done.rows_scored, *peaks)
"""


def child(code: str, *arguments: str) -> list[int]:
    """The numbers that a program in a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env={**os.environ, "PYTHONPATH": str(PROJECT)}, stdout=subprocess.PIPE,
        text=True, timeout=120, check=True,
    )  # fmt: skip
    return [int(number) for number in done.stdout.split()]


@pytest.mark.long
@pytest.mark.slow
def test_a_large_row_group_is_read_in_bounded_memory(workspace):
    """300 MB of doubles that don't compress: at most 1.5 times the row group on top of the imports (measured: 1.3)."""
    rows, table = 1_000_000, workspace / "wide"
    write(str(table), pa.table({f"x{i}": [0.0] for i in range(37)}))
    noise = np.random.default_rng(0).normal(size=rows)
    columns = {f"x{i}": np.roll(noise, i) for i in range(37)}
    pq.write_table(pa.table(columns), table / "one.parquet", row_group_size=rows, use_dictionary=False)
    add = AddAction(
        "one.parquet", (table / "one.parquet").stat().st_size, {}, 0, True, json.dumps({"numRecords": rows})
    )
    opened(str(table)).create_write_transaction([add], "overwrite", opened(str(table)).schema())
    group = pq.read_metadata(table / "one.parquet").row_group(0)
    assert (group.num_rows, group.total_byte_size > 295e6) == (rows, True)
    batch_rows = Model.model_fields["batch_rows"].default
    read, before, peak = child(READ, str(table), str(batch_rows))
    assert read == rows
    assert peak - before < 1.5 * group.total_byte_size, f"{(peak - before) / group.total_byte_size:.2f} times the group"
    assert peak < 1e9


@pytest.mark.slow
@pytest.mark.long
def test_a_result_of_snowflake_is_scored_in_bounded_memory(make_job, register, account):
    """200,000 rows × 12 columns, 192 MB of text, in 40 parts: a worker needs 190 MB on top of the imports at most, however
    many rows there are (measured: 156 to 162 MB; when it was written 106 to 117 MB, at 100,000, 200,000 and 400,000)."""
    x = pd.DataFrame({"a": np.arange(20) / 7})
    uri = register(LinearRegression().fit(x, x["a"]), x)
    rows, texts = 200_020, [f"t{i}" for i in range(10)]
    columns = ", ".join(f"REPEAT(MD5(range || '{name}'), 3) AS {name}" for name in texts)
    account.run(f"CREATE TABLE wide AS SELECT range AS id, range / 7 AS a, {columns} FROM range({rows})")
    if account.server is not None:
        account.server.set(chunk_rows=5_000)
    place = {"type": "snowflake", "connection": account.name}
    job = make_job(uri, source={**place, "table": account.table("wide")}, keep=texts)
    scored, before, peak = child(SCORE, job.path)
    assert scored == rows - 20
    assert peak - before < 190e6, f"{(peak - before) / 1e6:.0f} MB on top of {before / 1e6:.0f} MB"
    assert peak < 1e9
