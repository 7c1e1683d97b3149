"""Ray Data: actors that keep the model, one a core, over the Parquet files of a Delta table, written to Parquet.

An actor asks for half a core: were all of them taken by actors, nothing would ever be read.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import pandas as pd
import ray

from tests.benchmarks.contestants import BATCH_ROWS, KEY, SCORE, Score, Setting, Task


class Scorer:
    """An actor: the model is loaded once."""

    def __init__(self, tracking: str, model: str, features: tuple[str, ...]):
        import mlflow

        mlflow.set_tracking_uri(tracking)
        self.model, self.features = mlflow.pyfunc.load_model(model), list(features)

    def __call__(self, rows: pd.DataFrame) -> pd.DataFrame:
        scores: Any = self.model.predict(rows[self.features])
        return pd.DataFrame({KEY: rows[KEY], SCORE: scores[:, 1]})


def start(variant: str, setting: Setting) -> Score:
    """Start Ray on this machine's cores."""
    from deltalake import DeltaTable

    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    ray.init(num_cpus=setting.cores, include_dashboard=False, logging_level="error", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def score(task: Task) -> None:
        shutil.rmtree(task.out, ignore_errors=True)
        rows = ray.data.read_parquet(DeltaTable(task.table).file_uris(), columns=[KEY, *task.features])
        scored = rows.map_batches(
            Scorer, fn_constructor_args=(setting.tracking, task.model, task.features), batch_format="pandas",
            batch_size=BATCH_ROWS, compute=ray.data.ActorPoolStrategy(size=setting.cores), num_cpus=0.5,
        )  # fmt: skip
        scored.write_parquet(task.out)

    return score
