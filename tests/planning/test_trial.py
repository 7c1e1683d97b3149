"""`scoring_for` makes of a job, a model and a schema all that scoring batches takes: no plan, no table, no engine."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakehouse import models
from lakehouse.errors import ConfigError, ModelRefused, NotReady
from lakehouse.planning.trial import scoring_for
from lakehouse.scoring.score import score_batch, start_counters

SCHEMA = pa.schema([("id", pa.int64()), ("country", pa.string()), ("a", pa.float64())])


def batch(*rows):
    return pa.RecordBatch.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], SCHEMA)


@pytest.fixture
def job(make_job, imputing):
    """A job of which there are no tables."""
    return make_job(imputing, keep=["country"], predictions={"p": "*"})


@pytest.fixture
def model(job, tmp_path):
    return models.fetch(job.model, models.resolve(job.model), tmp_path)


def test_batches_are_scored_with_no_plan_and_no_table(job, model, workspace):
    scoring = scoring_for(job, model, SCHEMA, [batch((1, "x", 1.0))])
    predict = models.load(model.path, model.digest, job.model.method, ()).predict
    rows = batch((7, "de", 3.0), (None, "at", 1.0), (8, "ch", 0.5))
    scored, aside = score_batch(rows, scoring, predict, start_counters(scoring))
    assert scored.to_pylist() == [
        {"id": 7, "country": "de", "p": pytest.approx(3.0)},
        {"id": 8, "country": "ch", "p": pytest.approx(0.5)},
    ]
    assert [(row["country"], [r["rule"] for r in row["_reasons"]]) for row in aside.to_pylist()] == [
        ("at", ["key_not_null"])
    ]
    assert not (workspace / "lake").exists()


@pytest.mark.parametrize(
    ("schema", "error", "said"),
    [
        (SCHEMA.remove(0), ConfigError, "keys: the input has no column 'id'"),
        (SCHEMA.remove(1), ConfigError, "keep: the input has no column 'country'"),
        (SCHEMA.remove(2), ConfigError, "the model's feature 'a' has no column 'a' in the input"),
        (SCHEMA, NotReady, "no row"),
    ],
    ids=["key", "kept column", "feature", "no sample"],
)
def test_what_the_schema_lacks_is_said_before_a_row_is_scored(job, model, schema, error, said):
    with pytest.raises(error, match=said):
        scoring_for(job, model, schema, [])


def test_a_model_that_raises_on_every_row_is_refused(job, model, monkeypatch):
    def broken(*_):
        raise ValueError("out of order")

    loaded = models.load(model.path, model.digest, job.model.method, ())
    monkeypatch.setattr(models, "load", lambda *_: models.Predictor(broken, loaded.classes))
    with pytest.raises(ModelRefused, match="out of order"):
        scoring_for(job, model, SCHEMA, [batch((1, "x", 1.0))])
