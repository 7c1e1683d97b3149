"""`lakehouse reconcile`: ledger and metrics again, from what the job's tables themselves remember."""

from __future__ import annotations

import shutil
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.config import load_job
from lakehouse.operations import lookup, reconciling
from lakehouse.operations.rollback import rollback
from lakehouse.pipeline import Request, new_run_id
from lakehouse.planning import naming
from lakehouse.runs import evidence, ledger, tables
from tests.command import run
from tests.conftest import opened, read, score, write

DAY, OTHER = "2026-01-02", "2026-01-03"
TOLD = [
    "run_id", "job", "date", "identity", "status", "generation", "rows_read", "rows_scored", "rows_quarantined",
    "model_name", "model_version", "model_digest", "model_signature", "input_table", "input_version", "fingerprint",
    "as_of", "sinks", "message",
]  # fmt: skip


@pytest.fixture(scope="module")
def models(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return [register(LinearRegression().fit(x, x["a"] * times), x) for times in (1, 2)]


@pytest.fixture
def daily(make_job):
    write("lake/features", pa.table({"id": pa.array([1, 2, None]), "a": [1.0, 2.0, 3.0]}))

    def make(uri, day=DAY, **sections):
        checks = {"quarantine": {"max_fraction": 0.5}}
        return make_job(uri, date=day, **{"slice": {"score_date": "{date}"}, "predictions": {"p": 0}, "checks": checks, **sections})

    return make


def load(day):
    return load_job("conf/scores.yaml", date=day, environ={})


def records(job):
    return [{name: row[name] for name in TOLD} for row in ledger.runs(naming.state_of(job), "scores")]


def metrics():
    return sorted((r["run_id"], r["subject"], r["name"], r["column"], r["metric"], r["value"]) for r in read("lake/scores_state/metrics").to_pylist())


def back(job):
    return rollback(job, Request("local", ledger.now(), new_run_id()))


def test_the_ledger_is_what_it_was_as_far_as_the_tables_tell(daily, models):
    score(daily(models[0]))
    score(daily(models[0], OTHER))
    score(daily(models[1]))
    back(daily(models[1]))
    job, figures = daily(models[0]), None
    before, times = records(job), [r["finished_at"] for r in ledger.runs(naming.state_of(job), "scores")]
    figures = metrics()
    for name in ("runs", "metrics"):
        shutil.rmtree(f"lake/scores_state/{name}")
    assert records(job) == []
    would = reconciling.reconcile(load, dry_run=True)
    assert (len(would.records), records(job)) == (4, [])
    done = reconciling.reconcile(load, dry_run=False)
    assert (len(done.records), done.notes) == (4, [reconciling.UNTOLD])
    assert records(job) == before
    again = [r["finished_at"] for r in ledger.runs(naming.state_of(job), "scores")]
    assert all(abs(one - two) < timedelta(seconds=5) for one, two in zip(times, again, strict=True))
    assert set(metrics()) >= set(figures)
    assert reconciling.reconcile(load, dry_run=False) == reconciling.Reconciled("scores")
    assert lookup.status(daily(models[0]))[0].status == "published"
    assert score(daily(models[0])).status == "unchanged"
    assert back(daily(models[0])).status == "published"
