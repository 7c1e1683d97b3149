"""Models in files of skops: ordinary ones need no trust, and trees that were tampered with are never used."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
import skops.io
import xgboost
import yaml
from mlflow.models import infer_signature
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, TweedieRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier

from lakehouse import models
from lakehouse.config import Model
from lakehouse.errors import ModelRefused
from lakehouse.models.flavors.skops_types import TYPES

RANDOM = np.random.default_rng(3)
X = pd.DataFrame({"a": RANDOM.normal(size=60), "b": RANDOM.normal(size=60), "c": np.arange(60.0) % 4})
Y = (X["a"] + 0.3 * RANDOM.normal(size=60) > 0).astype(int)
COLUMNS = ColumnTransformer(
    [("n", make_pipeline(SimpleImputer(), StandardScaler()), ["a", "b"]),
     ("o", OneHotEncoder(handle_unknown="ignore"), ["c"])],
)  # fmt: skip
BY_TYPE = ColumnTransformer([("n", StandardScaler(), make_column_selector(dtype_include=np.number))])

ORDINARY = {
    "decision tree": DecisionTreeClassifier(),
    "forest": RandomForestClassifier(3),
    "extra trees": ExtraTreesRegressor(3),
    "isolation forest": make_pipeline(StandardScaler(), IsolationForest(n_estimators=3, max_features=2)),
    "gradient boosting": GradientBoostingClassifier(n_estimators=3),
    "gradient boosting, huber": GradientBoostingRegressor(n_estimators=3, loss="huber"),
    "gradient boosting from zero": GradientBoostingClassifier(n_estimators=3, init="zero"),
    "histogram boosting": HistGradientBoostingClassifier(max_iter=3),
    "histogram boosting, poisson": HistGradientBoostingRegressor(max_iter=3, loss="poisson"),
    "nearest neighbours": KNeighborsClassifier(algorithm="kd_tree"),
    "nearest neighbours, ball": KNeighborsRegressor(algorithm="ball_tree", metric="manhattan"),
    "nearest neighbours, weighted": KNeighborsClassifier(algorithm="kd_tree", metric="minkowski", p=3, weights="distance"),
    "nearest neighbours, brute": KNeighborsClassifier(algorithm="brute"),
    "svm": SVC(),
    "svm regression": SVR(kernel="linear"),
    "gaussian process": GaussianProcessClassifier(ConstantKernel() * RBF()),
    "gaussian process regression": GaussianProcessRegressor(Matern() + WhiteKernel()),
    "columns": make_pipeline(COLUMNS, RandomForestClassifier(3)),
    "columns by type": make_pipeline(BY_TYPE, LogisticRegression()),
    "selection": make_pipeline(SelectKBest(k=2), LogisticRegression()),
    "logarithm": make_pipeline(FunctionTransformer(np.log1p, validate=False), Ridge()),
    "target": TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
    "calibrated": CalibratedClassifierCV(RandomForestClassifier(3), cv=2),
    "stacked": StackingClassifier([("f", RandomForestClassifier(3)), ("l", LogisticRegression())], cv=2),
    "voting": VotingClassifier([("f", RandomForestClassifier(3)), ("l", LogisticRegression())]),
    "bagging": BaggingClassifier(n_estimators=3, max_features=2),
    "ada": AdaBoostClassifier(n_estimators=3),
    "grid": GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=2),
    "network": MLPClassifier((4,), solver="sgd", tol=1.0, n_iter_no_change=1),
    "sgd": SGDClassifier(),
    "tweedie": TweedieRegressor(power=1.5),
    "lightgbm in a pipeline": make_pipeline(StandardScaler().set_output(transform="pandas"), lightgbm.LGBMRegressor(n_estimators=3, verbose=-1)),
    "xgboost in a pipeline": make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=3)),
}  # fmt: skip


def fitted(model: Any) -> Any:
    data = X.abs() if isinstance(model, TransformedTargetRegressor) or "log1p" in str(model) else X
    return clone(model).fit(data, Y)


def save(model: Any, folder: Path, types: list[str] | None = None) -> Path:
    """Save a model as MLflow does, with the types that skops asks for."""
    asked = types if types is not None else skops.io.get_untrusted_types(data=skops.io.dumps(model))
    signature = infer_signature(X, np.zeros(60))
    mlflow.sklearn.save_model(
        model, folder / "model", signature=signature, skops_trusted_types=asked, pip_requirements=["scikit-learn"]
    )
    return folder / "model"


def load(folder: Path, to: Path, *trust: str) -> Any:
    """The predictor of a model in a folder, as a run gets it."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    config = Model(uri=str(folder), trust=trust)
    found = models.fetch(config, models.resolve(config), to)
    return models.load(found.path, found.digest, None, ())


@pytest.mark.quick(
    "forest", "isolation forest", "gradient boosting", "histogram boosting", "nearest neighbours", "svm",
    "gaussian process", "columns", "lightgbm in a pipeline", "xgboost in a pipeline",
)  # fmt: skip
@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_model_needs_no_trust(tmp_path: Path, name: str) -> None:
    model = fitted(ORDINARY[name])
    predictor = load(save(model, tmp_path), tmp_path / "to")
    given = X.abs() if name == "logarithm" else X
    np.testing.assert_array_equal(predictor.predict(given), model.predict(given))


@pytest.mark.parametrize("kind", [lightgbm.LGBMClassifier, lightgbm.LGBMRegressor])
def test_a_model_of_lightgbms_scikit_learn_interface_needs_no_trust(tmp_path: Path, kind: Any) -> None:
    model = kind(n_estimators=3, verbose=-1).fit(X, Y)
    mlflow.lightgbm.save_model(
        model, tmp_path / "model", signature=infer_signature(X, np.zeros(60)), pip_requirements=["lightgbm"],
        serialization_format="skops",
    )  # fmt: skip
    np.testing.assert_array_equal(load(tmp_path / "model", tmp_path / "to").predict(X), model.predict(X))


def test_each_listed_type_is_there_and_has_a_reason() -> None:
    import importlib

    for name, (ways, reason) in TYPES.items():
        module, _, kind = name.rpartition(".")
        assert getattr(importlib.import_module(module), kind) is not None, name
        assert (bool(ways), len(reason) > 3) == (True, True), name


# --- trees that were tampered with ------------------------------------------------------------------------


def nodes_of(tree: Any, **changes: Any) -> None:
    """Change the first node of a Tree of scikit-learn's."""
    state = tree.__getstate__()
    for name, value in changes.items():
        state["nodes"][name][0] = value
    tree.__setstate__(state)


def of_tree(model: Any, **changes: Any) -> Any:
    nodes_of(model.tree_, **changes)
    return model


def of_forest(**changes: Any) -> Any:
    model = fitted(RandomForestClassifier(3))
    nodes_of(model.estimators_[2].tree_, **changes)
    return model


def of_histogram(**changes: Any) -> Any:
    model = fitted(HistGradientBoostingRegressor(max_iter=3))
    for name, value in changes.items():
        model._predictors[1][0].nodes[name][0] = value
    return model


def of_neighbors(algorithm: str, place: int, change: Callable[[Any], None], metric: str = "euclidean") -> Any:
    model = fitted(KNeighborsClassifier(algorithm=algorithm, leaf_size=10, metric=metric))
    state = list(model._tree.__getstate__())
    state[place] = np.array(state[place])
    change(state[place])
    model._tree.__setstate__(tuple(state))
    return model


def put(place: Any, value: Any, field: str | None = None) -> Callable[[Any], None]:
    def change(array: Any) -> None:
        (array[field] if field else array)[place] = value

    return change


def with_attributes(model: Any, **attributes: Any) -> Any:
    model = fitted(model)
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def without(model: Any, name: str) -> Any:
    model = fitted(model)
    del model.__dict__[name]
    return model


def twice_as_wide() -> Any:
    model = fitted(GradientBoostingClassifier(n_estimators=3))
    model.estimators_ = np.hstack([model.estimators_, model.estimators_])
    return model


def bare_tree() -> Any:
    pipeline = fitted(make_pipeline(StandardScaler(), DecisionTreeClassifier()))
    pipeline.steps[-1] = ("tree", pipeline.steps[-1][1].tree_)
    return pipeline


def narrower() -> Any:
    """A forest that is given one feature, of trees that are for three."""
    model = fitted(RandomForestClassifier(3))
    model.n_features_in_ = 1
    return model


def disguised() -> Any:
    """A decision tree whose tree is another model, which says of itself what a sound tree says."""
    model, inside = fitted(TREE), with_attributes(LogisticRegression(), hidden=of_tree(fitted(TREE), feature=10**6))
    sizes = {"node_count": 1, "capacity": 1, "max_depth": 0, "n_features": 3, "n_outputs": 1, "max_n_classes": 1}
    arrays = {name: np.array([-1]) for name in ("children_left", "children_right", "feature")}
    inside.__dict__.update(sizes | arrays)
    model.tree_ = inside
    return model


def in_a_pipeline(model: Any) -> Any:
    pipeline = fitted(make_pipeline(StandardScaler(), VotingClassifier([("l", LogisticRegression())])))
    pipeline.steps[-1][1].estimators_.append(model)
    return pipeline


TREE, FOREST, HISTOGRAM = (
    DecisionTreeClassifier(),
    RandomForestClassifier(3),
    HistGradientBoostingClassifier(max_iter=3),
)
OUT, FEATURE = "leads out of the tree, or back", "asks for a feature that is none of the 3"
TAMPERED: dict[str, tuple[Callable[[], Any], str]] = {
    "child outside": (lambda: of_tree(fitted(TREE), left_child=10**6), OUT),
    "child before": (lambda: of_tree(fitted(TREE), right_child=0), OUT),
    "child of none": (lambda: of_tree(fitted(TREE), right_child=-1), OUT),
    "feature outside": (lambda: of_tree(fitted(TREE), feature=3), FEATURE),
    "feature below": (lambda: of_tree(fitted(TREE), feature=-2), FEATURE),
    "forest": (lambda: of_forest(left_child=10**9), OUT),
    "forest, feature": (lambda: of_forest(feature=10**9), FEATURE),
    "nested": (lambda: in_a_pipeline(of_forest(feature=10**9)), FEATURE),
    "narrower": (narrower, "its tree is for 3 features, it is given 1"),
    "any width": (lambda: without(FOREST, "n_features_in_"), "its number of features is None"),
    "no tree": (lambda: without(TREE, "tree_"), ""),
    "hidden method": (lambda: with_attributes(FOREST, _validate_X_predict=np.positive), "'_validate_X_predict' hides a method"),
    "disguised": (disguised, "it holds a LogisticRegression as its tree"),
    "bare": (bare_tree, "not where an estimator of scikit-learn's keeps one"),
    "boosting": (twice_as_wide, "it has trees for (2,) outputs and 1 to add them to"),
    "histogram, child": (lambda: of_histogram(left=10**6), OUT),
    "histogram, cycle": (lambda: of_histogram(right=0), OUT),
    "histogram, feature": (lambda: of_histogram(feature_idx=10**6), FEATURE),
    "histogram, below": (lambda: of_histogram(feature_idx=-1), FEATURE),
    "histogram, categories": (lambda: of_histogram(is_categorical=1, bitset_idx=9), "asks for categories that are not there"),
    "histogram, before": (lambda: with_attributes(HISTOGRAM, _preprocessor=fitted(COLUMNS)), "is not scikit-learn's own"),
    "kd tree, row": (lambda: of_neighbors("kd_tree", 1, put(5, 10**6)), "names rows that are not there"),
    "ball tree, row": (lambda: of_neighbors("ball_tree", 1, put(5, -1)), "names rows that are not there"),
    "kd tree, range": (lambda: of_neighbors("kd_tree", 2, put(2, 10**6, "idx_end")), "leads out of the tree"),
    "ball tree, leaf": (lambda: of_neighbors("ball_tree", 2, put(-1, 0, "is_leaf")), "leads out of the tree"),
    "labels": (lambda: with_attributes(KNeighborsClassifier(algorithm="brute"), _y=np.full(60, 10**6)), "its labels are none"),
}  # fmt: skip


@pytest.mark.quick(
    "child outside", "child before", "nested", "narrower", "hidden method", "bare", "boosting", "histogram, feature",
    "kd tree, row", "ball tree, leaf", "labels",
)  # fmt: skip
@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_tree_is_never_used(tmp_path: Path, name: str) -> None:
    build, said = TAMPERED[name]
    folder = tmp_path / "model"
    save(fitted(LogisticRegression()), tmp_path, ["numpy.dtype"])
    skops.io.dump(build(), folder / "model.skops")
    described = yaml.safe_load((folder / "MLmodel").read_text())
    types = skops.io.get_untrusted_types(file=folder / "model.skops")
    described["flavors"]["sklearn"]["skops_trusted_types"] = types
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    if name == "no tree":  # nothing to read out of bounds: it raises when it is asked
        load(folder, tmp_path / "to")
        return
    for trust in ((), ("pickle",)):
        with pytest.raises(ModelRefused, match=r"^the model's file is forged or damaged: ") as refused:
            load(folder, tmp_path / "to", *trust)
        assert said in str(refused.value)


def edited(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change what a file of skops says of its trees."""
    file = folder / "model.skops"
    with zipfile.ZipFile(file) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    schema = json.loads(files["schema.json"])
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if part.get("__loader__") == "TreeNode":
                edit(part)
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    with zipfile.ZipFile(file, "w") as opened:
        for name, content in {**files, "schema.json": json.dumps(schema).encode()}.items():
            opened.writestr(name, content)


def _outputs(tree: dict[str, Any]) -> None:
    tree["__reduce__"]["args"]["content"][2] = {
        **tree["__reduce__"]["args"]["content"][2],
        "content": "1000000",
        "__id__": 7,
    }


def _shadowed(tree: dict[str, Any]) -> None:
    """The first node of an id is taken for all of it, and it stands elsewhere."""
    number = tree["__reduce__"]["args"]["content"][2]
    tree["content"]["content"] = {"x": {**number, "content": "1000000"}, **tree["content"]["content"]}


def _shadowed_otherwise(tree: dict[str, Any]) -> None:
    """The same, by a number that is equal and is written otherwise."""
    number = tree["__reduce__"]["args"]["content"][2]
    first = {**number, "content": "1000000", "__id__": float(number["__id__"])}
    tree["content"]["content"] = {"x": first, **tree["content"]["content"]}


def _no_nodes(tree: dict[str, Any]) -> None:
    tree["content"]["content"] = {}
    tree["content"]["key_types"]["content"] = []


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_outputs, "a tree is not made of its numbers of features, classes and outputs"),
        (_shadowed, "a tree's arguments are something else elsewhere"),
        (_shadowed_otherwise, "a tree's arguments are something else elsewhere"),
        (_no_nodes, "its tree has no nodes"),
    ],
)
def test_a_tree_that_is_no_whole_one_is_never_made(tmp_path: Path, edit: Any, said: str) -> None:
    folder = save(fitted(TREE), tmp_path)
    edited(folder, edit)
    with pytest.raises(ModelRefused) as refused:
        load(folder, tmp_path / "to")
    assert said in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"no zip file", b"PK\x05\x06" + b"\0" * 18])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = save(fitted(LogisticRegression()), tmp_path)
    (folder / "model.skops").write_bytes(content)
    with pytest.raises(ModelRefused, match=r"its file 'model\.skops' is no sound file of skops"):
        load(folder, tmp_path / "to")
