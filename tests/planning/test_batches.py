"""How many rows a batch has: as the job says, and fewer where they are large."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.planning import prepare
from lakehouse.schemas import Feature
from lakehouse.scoring import staging
from tests.conftest import read, score, write


def features(count: int) -> list[Feature]:
    return [Feature(f"x{number}", f"x{number}", pa.float64(), True) for number in range(count)]


def rows(each: int) -> pa.RecordBatch:
    values = pa.array(np.zeros(10 * each))
    return pa.record_batch({"pixels": pa.FixedSizeListArray.from_arrays(values, each)})


@pytest.mark.parametrize(
    ("count", "seen", "most", "expected"),
    [
        (20, None, 65_536, 65_536),
        (500, None, 65_536, 16_777),  # 64 MB of 500 doubles
        (500, None, 4_096, 4_096),
        (1, rows(150_528), 65_536, 55),  # an image of 224 by 224 in three colours
        (1, rows(150_528).slice(0, 0), 65_536, 65_536),
        (1, rows(100_000_000 // 10), 65_536, 1),
    ],
    ids=["few features", "many", "as the job says", "arrays", "no row was tried", "huge"],
)
def test_a_batch_has_64_mb_at_most(count, seen, most, expected):
    assert prepare.batch_rows(most, features(count), seen) == expected


def test_a_run_calls_its_model_on_no_more(make_job, register, monkeypatch):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    write("lake/features", pa.table({"id": np.arange(100), "a": np.arange(100) / 10}))
    monkeypatch.setattr(prepare, "BATCH_BYTES", 16 * 30)  # of a key and a feature
    seen, scored = list[int](), staging.score_rows
    monkeypatch.setattr(staging, "score_rows", lambda batch, *more: seen.append(batch.num_rows) or scored(batch, *more))
    assert score(make_job(register(LinearRegression().fit(x, x["a"] * 10), x), predictions={"p": 0})).rows_scored == 100
    assert sum(seen) == 100
    assert 20 < max(seen) <= 30  # with a bit for each value that is there
    np.testing.assert_allclose(read("lake/scores").sort_by("id")["p"].to_numpy(), np.arange(100))
