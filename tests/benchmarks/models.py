"""The models that score, registered in MLflow as users would, and the job files for them.

Gradient boosting is scikit-learn's HistGradientBoostingClassifier: of its two the one that people take for tables of this
size. All are logged so that `pyfunc` answers with probabilities, in scikit-learn's default format of MLflow 3 (skops).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.contestants import KEY, SCORE, Task
from tests.benchmarks.tables import SHAPES, TEXTS, Shape, sample

ALIAS = "champion"
TITLES = {
    "logistic": "logistic regression behind a scaler",
    "boosting": "gradient boosting, 100 trees (HistGradientBoostingClassifier)",
    "forest": "forest of 300 trees",
}
TRAINED_ON = 20_000


def _estimator(kind: str, shape: Shape) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    if kind == "boosting":
        return HistGradientBoostingClassifier(max_iter=100, early_stopping=False, random_state=0)
    if kind == "forest":
        return RandomForestClassifier(300, max_depth=8, random_state=0)
    if shape.form == "matrix":
        return make_pipeline(StandardScaler(), LogisticRegression())
    numbers = [name for name in shape.features if name not in TEXTS]
    encoder = ColumnTransformer(
        [("texts", OneHotEncoder(handle_unknown="ignore"), list(TEXTS)), ("numbers", StandardScaler(), numbers)]
    )
    return make_pipeline(encoder, LogisticRegression(max_iter=1_000))


def register(kind: str, shape: Shape, tracking: str, folder: Path) -> tuple[str, str]:
    """Train a model of the shape's rows and register it: its URI by alias, and the folder of its files."""
    import mlflow
    import numpy as np
    from mlflow.models import infer_signature

    x = sample(shape, TRAINED_ON, start=1 << 40).select(list(shape.features)).to_pandas()
    y = (x["x0"] + x["x1"] * x["x2"] + np.random.default_rng(1).normal(size=len(x)) > 0).astype(int)
    model = _estimator(kind, shape).fit(x, y)
    mlflow.set_tracking_uri(tracking)
    if mlflow.get_experiment_by_name("benchmarks") is None:
        mlflow.create_experiment("benchmarks", (folder / "artifacts").as_uri())
    mlflow.set_experiment("benchmarks")
    name = f"{kind}_{shape.name}"
    info = mlflow.sklearn.log_model(
        model, name=name, registered_model_name=name, signature=infer_signature(x, model.predict_proba(x[:10])),
        pyfunc_predict_fn="predict_proba", pip_requirements=["scikit-learn"],
        skops_trusted_types=["numpy.dtype", "sklearn.tree._tree.Tree",
                             "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
    )  # fmt: skip
    mlflow.MlflowClient().set_registered_model_alias(name, ALIAS, info.registered_model_version)
    local = mlflow.artifacts.download_artifacts(f"models:/{name}@{ALIAS}", dst_path=str(folder / "files" / name))
    return f"models:/{name}@{ALIAS}", local.rstrip("/")


def _suites(shape: Shape) -> dict[str, list[dict[str, Any]]]:
    """Seven rules on features, three on scores, all of single rows; nothing breaks them."""
    numbers = [name for name in shape.features if name.startswith("x")]
    between = [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": c, "min_value": -100, "max_value": 100}}
        for c in numbers[:3]
    ]
    there = [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": c}} for c in shape.features[:2]]
    if shape.form == "frame":
        other: list[dict[str, Any]] = [
            {"type": "expect_column_values_to_be_in_set",
             "kwargs": {"column": "plan", "value_set": [f"plan_{n}" for n in range(TEXTS["plan"])]}},
            {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "country", "regex": "^country_[0-9]+$"}},
        ]  # fmt: skip
    else:
        other = [
            {"type": "expect_column_values_to_be_between", "kwargs": {"column": numbers[3], "min_value": -100}},
            {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": numbers[4], "mostly": 0.9},
             "severity": "warning"},
        ]  # fmt: skip
    scores: list[dict[str, Any]] = [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": SCORE, "min_value": 0, "max_value": 1}},
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": SCORE}},
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": KEY}},
    ]
    return {"features": [*between, *there, *other], "scores": scores}


def write_jobs(task: Task, shape: str, tracking: str, out: Path) -> None:
    """Job files of a task, one for each carrier and the local engine, each with a table of its own below `out`.

    The `frame` carrier is what a condition that Arrow doesn't evaluate leads to; this one holds for all rows.
    """
    for name, expectations in _suites(SHAPES[shape]).items():
        content = {"name": name, "expectations": expectations}
        Path(task.jobs, f"{shape}_{name}.yaml").write_text(yaml.safe_dump(content))
    for variant in ("files", "frame", "local"):
        where = {"where": f"{KEY} >= 0 or {KEY} >= 0"} if variant == "frame" else {}
        job = {
            "job": f"{task.name}_{variant}",
            "source": {"type": "delta", "table": task.table, **where},
            "model": {"uri": task.model, "tracking_uri": tracking, "method": "predict_proba"},
            "keys": [KEY],
            "predictions": {SCORE: {"class": 1}},
            "checks": {
                "features": str(Path(task.jobs, f"{shape}_features.yaml")),
                "scores": str(Path(task.jobs, f"{shape}_scores.yaml")),
                "drift": {"psi": 0.2, "action": "warn"},
            },
            "sinks": [{"type": "delta", "table": str(out / variant / "scores")}],
        }
        Path(task.jobs, f"{task.name}_{variant}.yaml").write_text(yaml.safe_dump(job))
