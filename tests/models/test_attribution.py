"""What each feature contributed: with the base it adds up to what the library itself gives."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lakehouse.models import attribute, is_exact
from lakehouse.models.flavors import Predictor

_RANDOM = np.random.default_rng(0)
X = pd.DataFrame(_RANDOM.normal(size=(300, 3)), columns=list("abc"))
Y = 2 * X["a"] - X["b"]
TWO, THREE = (Y > 0).astype(int), pd.cut(Y, 3, labels=False)
ROW = X[:1]


def scaled(model, y):
    return make_pipeline(StandardScaler(), model).fit(X, y)


def xgb(kind, y):
    import xgboost

    return getattr(xgboost, kind)(n_estimators=5).fit(X, y)


def lgbm(y):
    import lightgbm

    return lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(X, y)


def cat(y):
    import catboost

    return catboost.CatBoostClassifier(iterations=5, verbose=0, allow_writing_files=False).fit(X, y)


def histograms(y):
    return HistGradientBoostingClassifier(max_iter=5).fit(X, y)


def predictor(model):
    classes = getattr(model, "classes_", None)
    return Predictor(model.predict, None if classes is None else tuple(classes), native=model)


def decided(model):
    return model.decision_function(ROW)[0]


CASES = {
    "log-odds": lambda: (m := scaled(LogisticRegression(), TWO), 1, decided(m)),
    "of the first class": lambda: (m := LogisticRegression().fit(X, TWO), 0, -decided(m)),
    "of one of three": lambda: (m := LogisticRegression().fit(X, THREE), 2, decided(m)[2]),
    "a number": lambda: (m := scaled(Ridge(), Y), 0, m.predict(ROW)[0]),
    "XGBoost": lambda: (m := xgb("XGBClassifier", TWO), 1, m.predict(ROW, output_margin=True)[0]),
    "XGBoost of three": lambda: (m := xgb("XGBClassifier", THREE), 2, m.predict(ROW, output_margin=True)[0, 2]),
    "XGBoost's regressor": lambda: (m := xgb("XGBRegressor", Y), "*", m.predict(ROW)[0]),
    "LightGBM": lambda: (m := lgbm(TWO), 0, -m.predict(ROW, raw_score=True)[0]),
    "LightGBM of three": lambda: (m := lgbm(THREE), 1, m.predict(ROW, raw_score=True)[0, 1]),
    "CatBoost": lambda: (m := cat(TWO), 1, m.predict(ROW, prediction_type="RawFormulaVal")[0]),
    "CatBoost of three": lambda: (m := cat(THREE), 1, m.predict(ROW, prediction_type="RawFormulaVal")[0, 1]),
}
SHAP = {
    "a forest": lambda: (m := RandomForestClassifier(5).fit(X, TWO), 0, m.predict_proba(ROW)[0, 0]),
    "threads": lambda: (m := RandomForestClassifier(5, n_jobs=2).fit(X, TWO), 1, m.predict_proba(ROW)[0, 1]),
    "histograms": lambda: (m := histograms(TWO), 0, -decided(m)),
    "a boosted regressor": lambda: (m := GradientBoostingRegressor(n_estimators=5).fit(X, Y), "*", m.predict(ROW)[0]),
}


@pytest.mark.parametrize("case", CASES)
def test_contributions_add_up_to_what_the_library_gives(case):
    assert_adds_up(*CASES[case]())


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of Matplotlib, as shap is imported
@pytest.mark.parametrize("case", SHAP)
def test_trees_of_scikit_learn_by_the_package_shap(case):
    assert_adds_up(*SHAP[case]())


def assert_adds_up(model, part, wanted):
    found, several = (attribute(predictor(model), rows, X[:64], part) for rows in (ROW, X[:5]))
    assert found is not None
    assert several is not None
    assert found.values.shape == (1, 3)
    assert found.base + found.values.sum() == pytest.approx(float(wanted), rel=1e-5)
    for place in range(5):
        alone = attribute(predictor(model), X[place : place + 1], X[:64], part)
        assert several.values[place] == pytest.approx(alone.values[0], rel=1e-5, abs=1e-9)


def test_others_do_not_tell():
    behind_pca = make_pipeline(PCA(2), Ridge()).fit(X, Y)
    assert attribute(predictor(behind_pca), ROW, X[:64], "*") is None
    assert attribute(Predictor(lambda given: given, None), ROW, X[:64], "*") is None
    assert attribute(predictor(LogisticRegression().fit(X, THREE)), ROW, X[:64], "*") is None


def test_trees_are_exact_and_what_adds_up_by_blas_or_threads_is_not():
    def behind(step):
        return make_pipeline(step, HistGradientBoostingClassifier(max_iter=2)).fit(X, TWO)

    made = {
        "trees": RandomForestClassifier(2).fit(X, TWO),
        "threads": RandomForestClassifier(2, n_jobs=2).fit(X, TWO),
        "scaled": behind(make_column_transformer((StandardScaler(), ["a"]))),
        "pca": behind(make_column_transformer((PCA(1), ["a", "b"]))),
        "linear": Ridge().fit(X, Y),
        "xgboost": xgb("XGBRegressor", Y),
    }
    found = {name: is_exact(predictor(model)) for name, model in made.items()}
    assert found == {"trees": True, "threads": False, "scaled": True, "pca": False, "linear": False, "xgboost": True}
