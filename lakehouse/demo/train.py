"""Train a model and register it: the part that a data scientist brings, written as MLflow's own guide does.

`train` is also what `lakehouse demo` calls, for the games and for a person's own table.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import; the demo stays offline

import mlflow
import mlflow.pyfunc  # in full: imported lazily later, it would switch MLflow's messages on again
import mlflow.sklearn
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import sklearn
import skops
from deltalake import DeltaTable
from mlflow.models import infer_signature
from mlflow.utils.logging_utils import MLFLOW_LOGGING_STREAM
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from lakehouse.demo.data import FLAGS, LABEL, label_classes
from lakehouse.errors import ConfigError, nearest
from lakehouse.models import log_baseline

EXPERIMENT = "lakehouse-demo"
TRUSTED_TYPES = ["numpy.dtype"]  # an imputer notes the dtype it was fitted on; skops asks before it rebuilds one
MAX_CATEGORIES = 100  # of one text column; the rarer values share a category


def train(
    training_table_uri: str,
    tracking_uri: str,
    model_name: str = "logit_games",
    alias: str = "champion",
    features: Sequence[str] = FLAGS,
    label: str = LABEL,
) -> int:
    """Fit a model on a Delta table, register it as the next version of `model_name`, point `alias` at it.

    A label with few values gives a classifier, whose pyfunc returns the probabilities of its classes
    (n × classes); any other number gives a regressor. On a `sqlite:///` tracking URI the artifacts go to
    `mlartifacts` beside the database. Returns the version. Raises ConfigError if the table lacks a column or
    the label has a single value.
    """
    table = DeltaTable(training_table_uri).to_pyarrow_table()
    for name in (*features, label):
        if name not in table.column_names:
            raise ConfigError(f"{training_table_uri} has no column {name!r}; {nearest(name, table.column_names)}")
    table = table.select([*features, label]).filter(pc.is_valid(table[label]))
    classes = label_classes(table[label])
    if len(classes or ()) == 1:
        raise ConfigError(f"{training_table_uri}: every label in {label!r} is {classes}; a model needs two classes")

    x, y = table.select(list(features)).to_pandas(), table[label].to_pandas()
    model = games_model() if tuple(features) == FLAGS else table_model(table.schema, features, classes is not None)
    model.fit(x, y)
    method = "predict" if classes is None else "predict_proba"

    with at_mlflow(tracking_uri):
        mlflow.set_experiment(experiment_id=experiment(tracking_uri))
        with mlflow.start_run(run_name=model_name):
            mlflow.log_params({"rows": len(x), "training_table": training_table_uri})
            mlflow.log_metric("training_score", model.score(x, y))
            logged = mlflow.sklearn.log_model(
                model,
                name=model_name,
                registered_model_name=model_name,
                signature=infer_signature(x, getattr(model, method)(x)),
                pyfunc_predict_fn=method,
                skops_trusted_types=TRUSTED_TYPES,
                # Given, because MLflow would otherwise load the model in a second process to find them.
                pip_requirements=[f"{m.__name__}=={m.__version__}" for m in (mlflow, skops)]
                + [f"scikit-learn=={sklearn.__version__}", f"pandas=={pd.__version__}"],
            )
            # What features and scores look like when all is well: later runs are held against it.
            likely = {"purchase_probability": model.predict_proba(x)[:, 1]} if label == LABEL else {}
            log_baseline(x, pd.DataFrame(likely) if likely else None)
        version = int(logged.registered_model_version)
        mlflow.MlflowClient().set_registered_model_alias(model_name, alias, str(version))
    return version


def games_model() -> Pipeline:
    """Owned flags, a missing one taken as the most frequent, into a logistic regression."""
    return make_pipeline(SimpleImputer(strategy="most_frequent"), LogisticRegression())


def table_model(schema: pa.Schema, features: Sequence[str], classes: bool) -> Pipeline:
    """Numbers imputed by their median and scaled, everything else one-hot encoded, into a linear model."""
    kinds = {f: schema.field(f).type for f in features}
    numbers = [f for f, kind in kinds.items() if pa.types.is_floating(kind) or pa.types.is_integer(kind)]
    encoder = OneHotEncoder(handle_unknown="ignore", max_categories=MAX_CATEGORIES)
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            ("categories", encoder, [f for f in features if f not in numbers]),
        ]
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1000) if classes else Ridge())


def registered(tracking_uri: str, model_name: str, alias: str = "champion") -> int | None:
    """The version that the alias of a model points at; None where there is none."""
    with at_mlflow(tracking_uri):
        found = mlflow.MlflowClient().search_registered_models(f"name = '{model_name}'")
    version = found[0].aliases.get(alias) if found else None
    return None if version is None else int(version)


@contextmanager
def at_mlflow(tracking_uri: str) -> Iterator[None]:
    """Point MLflow's process-wide settings at one server and keep it quiet; put both back afterwards."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    before = {name: os.environ.get(name) for name in names}
    MLFLOW_LOGGING_STREAM.enabled = False  # its level alone doesn't cover what it prints
    logging.getLogger("alembic").setLevel(logging.WARNING)
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # None is how MLflow itself unsets it
        mlflow.set_registry_uri("")
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        MLFLOW_LOGGING_STREAM.enabled = True


def experiment(tracking_uri: str) -> str:
    """Return the id of the demo's experiment, made on first use; artifacts lie beside a SQLite database."""
    found = mlflow.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    location = None
    if tracking_uri.startswith("sqlite:///"):
        database = Path(tracking_uri.removeprefix("sqlite:///")).absolute()
        location = (database.parent / "mlartifacts").as_uri()
    return mlflow.create_experiment(EXPERIMENT, artifact_location=location)
