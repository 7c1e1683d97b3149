"""Daft: a class UDF that keeps the model, one instance a core, over a Delta table, written to another.

The model is scikit-learn's own, given a matrix where it takes one: faster here than `mlflow.pyfunc` on a frame.
"""

from __future__ import annotations

from typing import Any

import daft
import numpy as np
import pandas as pd

from tests.benchmarks.contestants import BATCH_ROWS, KEY, SCORE, Score, Setting, Task


class Scorer:
    """The model, loaded when the first batch comes."""

    def __init__(self, tracking: str, model: str, features: tuple[str, ...], form: str):
        import mlflow

        mlflow.set_tracking_uri(tracking)
        self.model, self.features, self.form = mlflow.sklearn.load_model(model), features, form

    @daft.method.batch(return_dtype=daft.DataType.float64(), batch_size=BATCH_ROWS)
    def predict(self, *columns: daft.Series) -> Any:
        arrays = [column.to_arrow() for column in columns]
        if self.form == "matrix":
            return self.model.predict_proba(np.column_stack([array.to_numpy() for array in arrays]))[:, 1]
        frame = pd.DataFrame({name: a.to_pandas() for name, a in zip(self.features, arrays, strict=True)})
        return self.model.predict_proba(frame)[:, 1]


def start(variant: str, setting: Setting) -> Score:
    """Daft on this machine's cores."""

    def score(task: Task) -> None:
        scorer = daft.cls(Scorer, max_concurrency=setting.cores)(setting.tracking, task.model, task.features, task.form)
        rows = daft.read_deltalake(task.table)
        scored = rows.select(KEY, scorer.predict(*(daft.col(name) for name in task.features)).alias(SCORE))
        scored.write_deltalake(task.out, mode="overwrite")

    return score
