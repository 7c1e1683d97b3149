"""A scoring run from features to scored table: what is published, what is left alone, and when it is unchanged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from tests.conftest import read, score, version, write

DAY, NEXT = "2026-01-02", "2026-01-03"


def features(day: str, rows: int = 40, start: int = 0, shift: float = 0.0) -> pa.Table:
    ids = np.arange(start, start + rows)
    return pa.table({"id": ids, "country": ["DE", "FR"] * (rows // 2), "a": ids * 0.1 + shift, "b": np.cos(ids),
                     "day": pa.array([day] * rows)})  # fmt: skip


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40), "b": np.cos(np.arange(40))})
    return register(LogisticRegression().fit(x, (x["a"] > 2).astype(int)), x)


@pytest.fixture
def daily(make_job, uri):
    def make(day=DAY, **more):
        return make_job(
            uri, date=day,
            source={"where": "day = '{date}'"}, model={"method": "predict_proba"}, keep=["country"],
            predictions={"p": {"class": 1}}, slice={"score_date": "{date}"}, **more,
        )  # fmt: skip

    return make


def test_scores_equal_the_models_own(daily, uri, tracking_uri):
    write("lake/features", features(DAY), ["day"])
    result = score(daily())
    import mlflow

    mlflow.set_registry_uri(tracking_uri)
    mlflow.set_tracking_uri(tracking_uri)
    model = mlflow.sklearn.load_model(uri)
    frame = features(DAY).to_pandas()
    expected = model.predict_proba(frame[["a", "b"]])[:, 1]
    rows = read("lake/scores")
    assert (result.status, result.rows_read, result.rows_scored, result.rows_quarantined) == ("published", 40, 40, 0)
    assert rows["id"].to_pylist() == frame["id"].tolist()
    np.testing.assert_allclose(rows["p"].to_numpy(), expected, rtol=1e-12)


def test_a_second_run_is_unchanged_and_commits_nothing(daily):
    write("lake/features", features(DAY), ["day"])
    score(daily())
    before = version("lake/scores")
    assert score(daily()).status == "unchanged"
    assert version("lake/scores") == before
