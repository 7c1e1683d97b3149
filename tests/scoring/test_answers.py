"""Whole runs of models whose answers are not of one type, or that fail on many rows: what is published, what is said."""

from __future__ import annotations

import datetime as dt
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Map
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression

from lakehouse.engines import local
from lakehouse.errors import Blocked, ModelRefused
from tests.conftest import read, score, write

TRUST = {"trust": ["pickle"]}


class Answering(BaseEstimator):
    """A model that answers in the way it is told, and raises where its feature is below zero."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def predict(self, frame: pd.DataFrame) -> Any:
        x = frame["x"].to_numpy()
        if (x < 0).any():
            if self.kind == "exit":
                sys.exit(0)
            raise ValueError(f"{(x < 0).sum()} below zero")
        if self.kind == "exit":
            return x
        if self.kind == "numbers":
            return [int(value) if value == int(value) else value for value in x.tolist()]
        if self.kind == "maps":
            return [{f"day {int(value)}": value, "all": 1} for value in x.tolist()]
        if self.kind == "times":
            return pd.Timestamp(2026, 1, 1, nanosecond=1) + pd.to_timedelta(x, unit="D")
        if self.kind == "records":
            return [{"half": value / 2, "label": f"{value:g}"} for value in x.tolist()]
        return [None] * len(x)


@pytest.fixture
def job_of(register: Any, make_job: Any) -> Any:
    """job_of(kind, x, declared) → a job over a table of x whose model answers so, its signature declaring that type."""

    def make(kind: str, x: Any, declared: Any, **sections: Any) -> Any:
        outputs = Schema([ColSpec(declared)]) if declared else None
        signature = ModelSignature(Schema([ColSpec("double", "x")]), outputs)
        uri = register(
            Answering(kind), pd.DataFrame({"x": [1.0]}), signature=signature, serialization_format="cloudpickle"
        )
        write("lake/features", pa.table({"id": np.arange(len(x)), "x": np.asarray(x, float)}), mode="overwrite")
        return make_job(uri, **{"model": TRUST, "predictions": {"p": "*"}, **sections})

    return make


def aside() -> dict[int, list[tuple[str, str, str | None]]]:
    """The rows in quarantine and why."""
    rows = read("lake/scores_quarantine").to_pylist()
    return {row["id"]: [tuple(reason.values()) for reason in row["_reasons"]] for row in rows}


def said_by(job: Any, **request: Any) -> tuple[Any, list[str]]:
    """A run's result and its warnings."""
    warnings: list[str] = []
    result = score(job, say=lambda event, values: warnings.append(values["message"]) if event == "warning" else None)
    return result, warnings


NUMBERS = [*range(200), 0.25]


def test_whole_numbers_first_are_doubles_where_that_is_declared(job_of):
    assert score(job_of("numbers", NUMBERS, "double")).rows_scored == 201
    assert read("lake/scores")["p"].to_pylist() == [float(x) for x in NUMBERS]


def test_a_value_that_the_declared_type_can_not_hold_sets_its_row_aside(job_of):
    result = score(job_of("numbers", NUMBERS, "long"))
    assert (result.status, result.rows_scored, result.rows_quarantined) == ("published", 200, 1)
    assert read("lake/scores")["p"].type == pa.int64()
    assert aside() == {200: [("output_type", "p", "0.25 (float)")]}


def test_what_the_sample_contradicts_is_said_and_nothing_is_lost(job_of):
    result, [warning] = said_by(job_of("numbers", NUMBERS[::-1], "long"))
    assert (result.rows_scored, read("lake/scores")["p"].type) == (201, pa.float64())
    assert warning.startswith("predictions.p: the model's signature declares int64, it answers with double")


def test_the_scored_table_s_own_doubles_stay_doubles_on_a_day_of_whole_numbers(job_of):
    assert score(job_of("numbers", [0.25, 1], None)).rows_scored == 2
    assert score(job_of("numbers", [1, 2], None)).rows_scored == 2
    assert read("lake/scores")["p"].to_pylist() == [1.0, 2.0]


def test_records_are_a_struct(job_of):
    assert score(job_of("records", [1, 2], None)).rows_scored == 2
    assert read("lake/scores")["p"].to_pylist() == [{"half": 0.5, "label": "1"}, {"half": 1.0, "label": "2"}]


def test_dicts_are_maps_where_the_signature_declares_them(job_of):
    """Keys that no row of the sample had are no others than those that it had."""
    result, said = said_by(job_of("maps", range(200), Map(DataType.double)))
    assert (result.rows_scored, said) == (200, [])
    assert read("lake/scores")["p"].type == pa.map_(pa.string(), pa.float64())
    assert read("lake/scores")["p"].to_pylist()[199] == [("day 199", 199.0), ("all", 1.0)]


def test_what_is_cut_of_times_is_said_once(job_of):
    _, [said] = said_by(job_of("times", [1, 2], "datetime"))
    assert said == "predictions.p: its times in nanoseconds are cut to microseconds, as tables store them"
    assert read("lake/scores")["p"].to_pylist() == [dt.datetime(2026, 1, 2), dt.datetime(2026, 1, 3)]


def test_nothing_but_nulls_is_refused_where_no_type_is_declared(job_of):
    with pytest.raises(ModelRefused, match=r"predictions\.p: .* nothing but nulls.*log it with one"):
        score(job_of("nulls", [1, 2], None))
    assert score(job_of("nulls", [1, 2], "string")).rows_scored == 2
    assert read("lake/scores")["p"].to_pylist() == [None, None]


def test_bad_rows_are_set_aside_wherever_they_stand(job_of):
    x, budget = np.arange(1_000.0), {"checks": {"quarantine": {"max_rows": 375, "max_fraction": 1.0}}}
    for bad in (slice(0, 375), slice(625, None), slice(None, None, 3)):
        given = x.copy()
        given[bad] = -1
        result = score(job_of("numbers", given, "double", **budget))
        assert (result.status, result.rows_quarantined) == ("published", int((given < 0).sum()))


def test_a_run_that_can_not_be_published_any_more_stops_and_says_how_far_it_came(job_of, monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 1)  # of several processes each stops by itself
    x = np.where(np.arange(100_000) % 2, -1.0, 1.0)
    with pytest.raises(Blocked) as blocked:
        score(job_of("numbers", x, "double", model={**TRUST, "batch_rows": 1_000}))
    said = str(blocked.value)
    assert "scoring stopped after 3,000 of at most 100,000 rows: the model can't score more rows than the 1,000" in said
    result = blocked.value.result
    assert (result.rows_read, result.rows_scored + result.rows_quarantined) == (3_000, 3_000)
    rules = {reason[0] for why in aside().values() for reason in why}
    assert rules == {"model_raised", "not_tried"}


def test_a_model_that_raises_on_every_row_is_refused_with_the_place_where_it_does(job_of):
    with pytest.raises(ModelRefused) as refused:
        score(job_of("numbers", [-1.0] * 5_000, "double"))
    first, error, *places = str(refused.value).splitlines()
    assert first == "the model raises on every row it was tried on (rows from all over the first 5,000):"
    assert error.startswith("ValueError: ")
    assert any("in predict: raise ValueError" in place for place in places)


def test_a_model_that_would_end_the_process_sets_that_row_aside(job_of):
    x = [1.0, 2.0, -1.0, 4.0]
    result, _ = said_by(job_of("exit", x, None, checks={"quarantine": {"max_fraction": 0.5}}))
    assert (result.rows_scored, result.rows_quarantined) == (3, 1)
    assert aside() == {2: [("model_raised", "", "RuntimeError: the model ends the process: SystemExit(0)")]}


@pytest.mark.long
def test_a_model_that_would_end_a_spark_worker_sets_that_row_aside(job_of, spark):
    job = job_of("exit", [1.0, 2.0, -1.0, 4.0], None, checks={"quarantine": {"max_fraction": 0.5}})
    result = score(job, "spark")
    assert (result.status, result.rows_scored, result.rows_quarantined) == ("published", 3, 1)
    assert aside() == {2: [("model_raised", "", "RuntimeError: the model ends the process: SystemExit(0)")]}


def test_nulls_where_the_signature_allows_none_are_explained_where_they_block_a_run(register, make_job):
    x = pd.DataFrame({"x": [1, 2]})
    uri = register(LinearRegression().fit(x, x["x"]), x)
    write("lake/features", pa.table({"id": [1, 2, 3], "x": pa.array([1, None, None], pa.int64())}))
    with pytest.raises(Blocked) as blocked:
        score(make_job(uri, predictions={"p": "*"}))
    assert (
        "The model's signature requires x, where the table has nulls: fill them in there, or log the model with a "
        "signature that has them optional"
    ) in str(blocked.value).splitlines()
