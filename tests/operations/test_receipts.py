"""`lakehouse explain` and `lakehouse verify`: scores made again from what they stand on, and what no longer can be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.command import run
from tests.conftest import opened, read, score, write

DAY, OTHER = "2026-01-02", "2026-01-03"
ROWS = 3_000


def frame(rows=ROWS, seed=0):
    """Features a, b, c of an output y, a text and a category."""
    random = np.random.default_rng(seed)
    x = pd.DataFrame(random.normal(size=(rows, 3)), columns=["a", "b", "c"])
    x["text"] = random.choice(["cheap red", "dear red", "cheap blue", "dear green"], rows)
    x["kind"] = random.choice(["x", "y", "z"], rows)
    y = (x["a"] + 0.5 * x["b"] + (x["kind"] == "x") + random.normal(size=rows) * 0.3 > 0.2).astype(int)
    return x, y


@pytest.fixture(scope="module")
def linear(register):
    x, y = frame()
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[["a", "b", "c"]], y)
    return register(model, x[["a", "b", "c"]], method="predict_proba")


@pytest.fixture(scope="module")
def daily_models(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return [register(LinearRegression().fit(x, x["a"] * times), x) for times in (1, 2)]


@pytest.fixture
def daily(make_job):
    def make(uri, day=DAY, **sections):
        return make_job(uri, date=day, slice={"score_date": "{date}"}, **{"predictions": {"p": 0}, **sections})

    write("lake/features", pa.table({"id": [1, 2, 3], "a": [1.0, 2.0, 3.0]}))
    return make


def explain(capfd, *arguments):
    return run(capfd, "explain", "conf/scores.yaml", "--json", *arguments)


def test_a_live_score_is_explained_and_comes_out_equal(capfd, daily, daily_models):
    done = score(daily(daily_models[0]))
    found = explain(capfd, "--key", "2")
    told = found.json
    assert found.code == 0, found
    assert (told["status"], told["live"], told["equal"]) == ("scored", True, True)
    assert told["stored"]["p"] == pytest.approx(2.0) == pytest.approx(told["again"]["p"])
    assert told["run"]["run_id"] == done.run_id
    assert told["run"]["program"]["lakehouse"]
    assert told["model"]["digest"] == done.model["digest"]
    assert (told["input"]["version"], told["input"]["file"].endswith(".parquet")) == (0, True)
    [feature] = told["features"]
    assert feature == {"name": "a", "column": "a", "value": 2.0, "type": "double", "given_as": "float64"}
    assert told["notes"] == told["unknown"] == []
