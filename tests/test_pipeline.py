"""A scoring run from features to scored table: what is published, what is left alone, and when it is unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from lakehouse import models
from lakehouse.engines import local
from lakehouse.errors import Blocked
from lakehouse.planning import naming
from lakehouse.runs import ledger
from tests.conftest import opened, read, score, version, write

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


def test_a_pool_of_processes_gives_the_table_that_one_process_gives(daily, monkeypatch):
    for start in (0, 40, 80):
        write("lake/features", features(DAY, start=start), ["day"])
    score(daily())
    alone = read("lake/scores")
    monkeypatch.setattr(local, "START_SECONDS", 0.0)
    steps = []
    result = score(daily(), rescore=True, say=lambda event, values: steps.append((event, values.get("tasks"))))
    assert ("units", min(local.cores(), 3)) in steps
    assert result.rows_scored == 120
    assert read("lake/scores").select(["id", "country", "p"]).equals(alone.select(["id", "country", "p"]))


def test_figures_go_to_mlflow_linked_to_the_model_version(daily, uri, tracking_uri):
    from mlflow import MlflowClient

    write("lake/features", features(DAY), ["day"])
    result = score(daily(tracking={"experiment": "runs"}))
    client = MlflowClient(tracking_uri)
    run = client.search_runs([client.get_experiment_by_name("runs").experiment_id])[0]
    assert (run.data.metrics["rows_scored"], run.data.tags["lakehouse.run_id"]) == (40, result.run_id)
    assert [f.path for f in client.list_artifacts(run.info.run_id)] == ["report.html"]
    name = uri.removeprefix("models:/").split("@")[0]
    assert client.get_model_version(name, "1").tags["last_run.scores"] == run.info.run_id


def test_the_model_is_in_the_ledger_the_commit_and_mlflow_alike(daily, tracking_uri):
    from mlflow import MlflowClient

    write("lake/features", features(DAY), ["day"])
    result = score(daily(tracking={"experiment": "lineage", "tag_versions": False}))
    (record,) = ledger.runs(naming.state_of(daily()), "scores")
    commit = json.loads(opened("lake/scores").history(1)[0]["userMetadata"])
    client = MlflowClient(tracking_uri)
    run = client.search_runs([client.get_experiment_by_name("lineage").experiment_id])[0]
    named = ("name", "version", "digest", "signature")
    found = [record[f"model_{name}"] for name in named]
    assert [commit["model" if name == "name" else f"model_{name}"] for name in named] == found
    assert [run.data.tags[f"lakehouse.model_{name}"] for name in named] == found
    assert (found[0], len(found[3])) == (result.model["name"], 64)
    assert client.get_model_version(*found[:2]).tags.get("last_run.scores") != run.info.run_id


def test_a_version_that_can_not_be_tagged_costs_a_warning_only(daily, monkeypatch):
    write("lake/features", features(DAY), ["day"])
    monkeypatch.setattr(models, "tag_version", lambda *_: 1 / 0)
    told = []
    result = score(daily(tracking={"experiment": "runs"}), say=lambda _, values: told.append(values.get("message", "")))
    assert result.status == "published"
    assert [text for text in told if "tag_versions: false leaves that out" in text]


def test_a_blocked_run_is_told_to_mlflow_too(daily, tracking_uri):
    from mlflow import MlflowClient

    write("lake/features", features(DAY), ["day"])
    Path("suite.yaml").write_text("{expectations: [{type: expect_table_row_count_to_equal, kwargs: {value: 1}}]}")
    with pytest.raises(Blocked, match="observed 40"):
        score(daily(tracking={"experiment": "blocked"}, checks={"features": "suite.yaml"}))
    client = MlflowClient(tracking_uri)
    run = client.search_runs([client.get_experiment_by_name("blocked").experiment_id])[0]
    assert run.data.tags["lakehouse.status"] == "blocked"
    assert [f.path for f in client.list_artifacts(run.info.run_id)] == ["report.html"]


def test_a_tracking_server_that_fails_costs_a_warning_only(daily, monkeypatch):
    write("lake/features", features(DAY), ["day"])
    monkeypatch.setattr(models, "log_run", lambda *_: 1 / 0)
    told = []
    result = score(daily(tracking={"experiment": "runs"}), say=lambda event, values: told.append(event))
    assert (result.status, "warning" in told) == ("published", True)
