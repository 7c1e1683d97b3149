"""Models called on a bare matrix, past pandas and MLflow: the same answers bit by bit, or not called so at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost
from mlflow.models import infer_signature
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from lakehouse import models
from lakehouse.models.flavors import calling
from lakehouse.models.flavors import sklearn as flavor
from lakehouse.planning import trial
from lakehouse.planning.trial import try_model
from tests.planning.test_trial import SCHEMA, batch

RNG = np.random.default_rng(7)
ROWS = 400
X = pd.DataFrame({
    "d": RNG.normal(size=ROWS), "e": RNG.normal(size=ROWS),
    "i": RNG.integers(-(2**62), 2**62, ROWS), "f": RNG.normal(size=ROWS).astype("float32"),
})  # fmt: skip
Y = (X["d"] > 0).astype(int)
DOUBLES = ["d", "e"]


def given(frame, nulls=()):
    columns = [pa.array(frame[name].to_numpy(), mask=np.arange(len(frame)) % 3 == 0 if name in nulls else None)
               for name in frame]  # fmt: skip
    return models.Given(len(frame), tuple(columns), tuple(frame), (True,) * len(columns))


def opened(native, library, frame, method, tmp_path):
    import mlflow

    logs: dict = {"serialization_format": "cloudpickle"} if library == "sklearn" else {}
    logs["pip_requirements"] = [library]  # else MLflow finds them out, which takes seconds
    signature = infer_signature(frame, native.predict(frame))
    getattr(mlflow, library).save_model(native, str(tmp_path / "model"), signature=signature, **logs)
    return models.load(str(tmp_path / "model"), models.digest_of(tmp_path / "model"), method, ())


OWN = {
    "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
    "forest": RandomForestClassifier(n_estimators=7, random_state=0),
    "boosted": HistGradientBoostingClassifier(max_iter=5),
    "neighbours": KNeighborsClassifier(),
    "calibrated": CalibratedClassifierCV(LogisticRegression(), cv=2),
    "voting": VotingClassifier([("a", LogisticRegression()), ("b", RandomForestClassifier(3))], voting="soft"),
}


@pytest.mark.quick("logistic-doubles", "logistic-several types", "forest-doubles", "boosted-several types")
@pytest.mark.parametrize("columns", [DOUBLES, ["d", "i", "f"]], ids=["doubles", "several types"])
@pytest.mark.parametrize("name", OWN)
def test_scikit_learns_own_answer_a_matrix_as_they_answer_a_frame(name, columns, tmp_path):
    predictor = opened(OWN[name].fit(X[columns], Y), "sklearn", X[columns], "predict_proba", tmp_path)
    rows = given(X[columns])
    assert predictor.direct is not None
    assert predictor.direct_called.endswith(".predict_proba")
    assert predictor.direct(rows).tobytes() == predictor.predict(rows.as_input()).tobytes()


def test_xgboost_answers_a_matrix_as_it_answers_a_frame(tmp_path):
    native = xgboost.XGBClassifier(n_estimators=5).fit(X[DOUBLES], Y)
    predictor = opened(native, "xgboost", X[DOUBLES], "predict_proba", tmp_path)
    rows = given(X[DOUBLES], nulls=["e"])
    assert predictor.direct(rows).tobytes() == predictor.predict(rows.as_input()).tobytes()


@pytest.mark.parametrize(
    ("call", "calls"),
    [
        (lambda x: x[:, :2] + 1, [40, 40, 20]),
        (lambda x: np.where(x[:, 0] > 50, "high", "low"), [40, 40, 20]),
        (lambda x: [x[:, 0], x[:, 1]], [40, 100]),
        (lambda x: x.sum(axis=0), [40, 100]),
    ],
    ids=["numbers", "labels", "a list", "not a row each"],
)
def test_a_large_matrix_is_handed_over_in_pieces_where_the_answers_can_be_joined(call, calls, monkeypatch):
    monkeypatch.setattr(calling, "PIECE_BYTES", 40 * 3 * 8)
    whole = np.asfortranarray(np.arange(300.0).reshape(100, 3))
    seen = []

    def counting(x):
        seen.append(len(x))
        return call(x)

    answer = calling.on_matrix(counting, None, mixed=False)(given(pd.DataFrame(whole, columns=list("abc"))))
    assert seen == calls
    np.testing.assert_array_equal(answer, call(whole))


def test_what_makes_no_matrix_goes_through_mlflow(tmp_path):
    """Integers with nulls are pandas' own, and booleans beside numbers make objects: neither is a matrix of numbers."""
    predictor = opened(OWN["boosted"].fit(X[["d", "i"]], Y), "sklearn", X[["d", "i"]], None, tmp_path)
    rows = given(X[["d", "i"]], nulls=["i"])
    assert rows.as_matrix(mixed=True) is None
    assert given(pd.DataFrame({"d": [1.0], "b": [True]})).as_matrix(mixed=True) is None
    assert (predictor.direct(rows) == predictor.predict(rows.as_input())).all()
    doubles = given(X[DOUBLES], nulls=["e"])
    assert np.array_equal(doubles.as_matrix(), doubles.as_input().to_numpy(), equal_nan=True)


class Doubling(TransformerMixin, BaseEstimator):
    """A person's own."""

    def fit(self, x, y=None):
        self.fitted_ = True
        return self

    def transform(self, x):
        return x * 2


@pytest.mark.parametrize(
    "native",
    [
        make_pipeline(ColumnTransformer([("scaled", StandardScaler(), ["e"])]), LinearRegression()),
        make_pipeline(FunctionTransformer(), LinearRegression()),
        make_pipeline(Doubling(), LinearRegression()),
        CalibratedClassifierCV(make_pipeline(Doubling(), LogisticRegression())),
    ],
    ids=["by name", "a function", "a class", "a class within"],
)
def test_models_that_may_look_at_more_than_numbers_get_their_frame(native):
    assert not flavor.takes_matrix(native)


@pytest.mark.parametrize(
    ("direct", "says"),
    [
        (lambda predict: lambda rows: predict(rows.as_input()), True),
        (lambda predict: lambda rows: predict(rows.as_input()) + 1e-15, False),
        (lambda predict: lambda rows: predict(rows.as_input()).astype("float32"), False),
        (lambda predict: lambda rows: 1 / 0, False),
    ],
    ids=["equal", "another last bit", "another type", "raises"],
)
def test_the_sample_decides_whether_it_is_called_directly(direct, says, make_job, imputing, monkeypatch, tmp_path):
    job = make_job(imputing, keep=["country"], predictions={"p": "*"})
    model = models.fetch(job.model, models.resolve(job.model), tmp_path)
    loaded = models.load(model.path, model.digest, job.model.method, ())
    other = replace(loaded, direct=direct(loaded.predict))
    monkeypatch.setattr(models, "load", lambda *_: other)
    inputs = models.features_of(model, job.features, SCHEMA, "the input")
    suites = trial.checks.suites_of(job.checks)
    compiled = trial.rules.compile_suite(suites.features, SCHEMA)
    tried = try_model(job, model, inputs, compiled, suites, SCHEMA, [batch((1, "x", 1.0))])
    assert tried.direct is says
