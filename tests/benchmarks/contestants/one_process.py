"""One process: deltalake reads the columns needed into pandas, `mlflow.pyfunc` predicts, deltalake writes."""

from __future__ import annotations

import pyarrow as pa

from tests.benchmarks.contestants import KEY, SCORE, Score, Setting, Task


def start(variant: str, setting: Setting) -> Score:
    """Import; a model is loaded when it is first needed and kept."""
    import mlflow
    from deltalake import DeltaTable, write_deltalake

    mlflow.set_tracking_uri(setting.tracking)
    loaded: dict[str, mlflow.pyfunc.PyFuncModel] = {}

    def score(task: Task) -> None:
        if task.model not in loaded:
            loaded[task.model] = mlflow.pyfunc.load_model(task.model)
        rows = DeltaTable(task.table).to_pandas(columns=[KEY, *task.features])
        scores = loaded[task.model].predict(rows[list(task.features)])
        write_deltalake(task.out, pa.table({KEY: rows[KEY], SCORE: scores[:, 1]}), mode="overwrite")

    return score
