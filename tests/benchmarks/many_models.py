"""What a model a value of a column costs: 300 small models in one job, against one model of the same kind on the same rows.

python -m tests.benchmarks.many_models [--rows 3000000] [--models 300] [--turns 3]
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from lakehouse.engines import local
from tests.benchmarks.turns import in_turns, process

FEATURES = 10
_FILES = 8


def prepare(rows: int, models: int) -> float:
    """Rows of as many segments as there are models, a model for each and one for all, and two job files; kB a model."""
    from deltalake import write_deltalake

    rng = np.random.default_rng(0)
    for part in range(_FILES):
        ids = np.arange(rows * part // _FILES, rows * (part + 1) // _FILES)
        columns: dict[str, Any] = {"id": ids, "segment": pa.array(rng.integers(0, models, len(ids))).cast(pa.string())}
        columns |= {f"f{i}": rng.normal(size=len(ids)) for i in range(FEATURES)}
        write_deltalake("lake/features", pa.table(columns), mode="append")
    size = register(models)
    shared = {
        "source": {"type": "delta", "table": "lake/features"},
        "keys": ["id"],
        "keep": ["segment"],
        "predictions": {"p": {"class": 1}},
    }
    common = {"tracking_uri": "sqlite:///mlflow.db", "method": "predict_proba"}
    for name, model in (("one", {"uri": "models:/all@champion"}),
                        ("many", {"uri": "models:/churn_{segment}@champion", "by": "segment"})):  # fmt: skip
        sinks = [{"type": "delta", "table": f"lake/{name}"}]
        Path(f"{name}.yaml").write_text(
            yaml.safe_dump({"job": name, "model": {**model, **common}, "sinks": sinks, **shared})
        )
    return size


def register(models: int) -> float:
    """A logistic regression for each segment, and one for all; how many kB one of their files is."""
    import mlflow
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    x = pd.DataFrame(rng.normal(size=(400, FEATURES)), columns=[f"f{i}" for i in range(FEATURES)])
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    client, folder = mlflow.MlflowClient(), Path("models")
    signature, size = None, 0.0
    for number in range(-1, models):
        model = LogisticRegression().fit(x, (x @ rng.normal(size=FEATURES) > 0).astype(int))
        signature = signature or infer_signature(x, model.predict(x))
        name = f"churn_{number}" if number >= 0 else "all"
        place = folder / name
        if number < 0:
            mlflow.sklearn.save_model(
                model, place, signature=signature, pip_requirements=["scikit-learn"],
                skops_trusted_types=["numpy.dtype"],
            )  # fmt: skip
            size = (place / "model.skops").stat().st_size / 1024
        else:  # what MLflow would write, without asking it 300 times what the environment is
            from skops.io import dump

            shutil.copytree(folder / "all", place)
            dump(model, place / "model.skops")
        client.create_registered_model(name)
        version = client.create_model_version(name, str(place.absolute())).version
        client.set_registered_model_alias(name, "champion", version)
    return size


def compare(rows: int, turns: int, engine: str) -> None:
    """Whole processes, in turns."""
    rivals = {
        name: process(
            sys.executable, "-m", "lakehouse.cli", "score", f"{job}.yaml", "--rescore", "--engine", engine
        )
        for name, job in (("one model", "one"), ("a model a segment", "many"))
    }  # fmt: skip
    seconds = in_turns(rivals, turns)
    print(f"\nWhole processes, engine {engine}\n| | min s | median s | rows/s | times as long |\n|---|---|---|---|---|")
    reference = seconds["one model"]
    for name, taken in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(taken, reference, strict=True))
        median = statistics.median(taken)
        print(f"| {name} | {min(taken):.2f} | {median:.2f} | {rows / median:,.0f} | {ratio:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.many_models")
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--engine", choices=("local", "spark"), action="append")
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        os.chdir(folder)
        size = prepare(arguments.rows, arguments.models)
        print(
            f"{platform.platform()}, {local.cores()} cores, Python {platform.python_version()}, {arguments.rows:,} rows × "
            f"{FEATURES} doubles, {arguments.models} models of {size:.0f} kB"
        )
        for engine in arguments.engine or ("local", "spark"):
            compare(arguments.rows, arguments.turns, engine)
        os.chdir("/")


if __name__ == "__main__":
    main()
