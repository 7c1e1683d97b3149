"""Train a neural network on the games and register it: what a data scientist brings who works with Keras."""

from __future__ import annotations

import os
from importlib import metadata
from typing import Any

import mlflow
import pandas as pd
from deltalake import DeltaTable
from mlflow.models import infer_signature

from lakehouse.demo.data import FLAGS, LABEL
from lakehouse.demo.train import at_mlflow, experiment
from lakehouse.models import log_baseline
from lakehouse.models.loading import environment

with environment({"KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "jax")}):  # it is chosen while Keras is imported
    import keras
    import mlflow.keras

EPOCHS, BATCH = 3, 1024
SEED = 2026


def train(training_table_uri: str, tracking_uri: str, model_name: str = "keras_games", alias: str = "champion") -> int:
    """Fit a network on the games' Delta table, register it as the next version of `model_name`, point `alias` at it.

    It takes a matrix (n × flags, double, NaN where unknown) and answers with the probability of a purchase (n × 1,
    float32). Returns the version.
    """
    table = DeltaTable(training_table_uri).to_pyarrow_table()
    frame = table.select(list(FLAGS)).to_pandas()
    x, y = frame.to_numpy(), table[LABEL].to_numpy()
    keras.utils.set_random_seed(SEED)
    model = games_network(x.shape[1])
    history = model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0).history
    answer = model.predict(x, batch_size=8 * BATCH, verbose=0)

    with at_mlflow(tracking_uri):
        mlflow.set_experiment(experiment_id=experiment(tracking_uri))
        with mlflow.start_run(run_name=model_name):
            mlflow.log_params({"rows": len(x), "training_table": training_table_uri, "epochs": EPOCHS})
            mlflow.log_metric("training_loss", history["loss"][-1])
            logged = mlflow.keras.log_model(
                model,
                name=model_name,
                registered_model_name=model_name,
                signature=infer_signature(x, answer),
                # Given, because MLflow would otherwise load the model in a second process to find them.
                pip_requirements=[f"{p}=={metadata.version(p)}" for p in ("mlflow", "keras", keras.backend.backend())],
            )
            log_baseline(frame, pd.DataFrame({"purchase_probability": answer[:, 0]}))
        version = int(logged.registered_model_version)
        mlflow.MlflowClient().set_registered_model_alias(model_name, alias, str(version))
    return version


def trainer() -> str:
    """What trains it, in words."""
    return f"Keras {keras.__version__} on {keras.backend.backend()}"


def games_network(flags: int) -> Any:
    """Each flag one-hot as 0, 1 or unknown (NaN lies above all bounds), one hidden layer, a probability."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((flags,)),
            layers.Discretization(bin_boundaries=[0.5, 1.5], output_mode="one_hot"),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="binary_crossentropy")
    return model
