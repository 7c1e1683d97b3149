"""What a dry run costs on a table of very many files, of which it reads no row but a few for a look.

python -m tests.benchmarks.large_log [--files 50000] [--turns 3]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from lakehouse.engines import local
from tests import memory
from tests.large_log import write_log

FEATURES = 20
TRACKING = "sqlite:///mlflow.db"
WHERES = {"all files": "", "one day of 100": "day = '2026-01-02'"}


def prepare(files: int) -> None:
    """The table, a model and a job file for each condition in the working directory."""
    write_log(Path("features"), files, features=FEATURES)
    _register()
    for number, where in enumerate(WHERES.values()):
        source = {"type": "delta", "table": "features", **({"where": where} if where else {})}
        job = {
            "job": f"log{number}",
            "source": source,
            "model": {"uri": "models:/big@champion", "tracking_uri": TRACKING},
            "keys": ["id"],
            "sinks": [{"type": "delta", "table": f"scores{number}"}],
        }
        Path(f"{number}.yaml").write_text(yaml.safe_dump(job))


def _register() -> None:
    import mlflow
    import numpy as np
    import pandas as pd
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    mlflow.set_tracking_uri(TRACKING)
    x = pd.DataFrame(np.random.default_rng(0).random((1_000, FEATURES)), columns=[f"x{i}" for i in range(FEATURES)])
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, x.sum(axis=1) > FEATURES / 2)
    info = mlflow.sklearn.log_model(
        model,
        name="big",
        registered_model_name="big",
        signature=infer_signature(x, model.predict(x)),
        skops_trusted_types=["numpy.dtype"],
    )
    mlflow.MlflowClient().set_registered_model_alias("big", "champion", str(info.registered_model_version))


def dry_run(job: str) -> tuple[float, float, float]:
    """Seconds from the start of the process to its end, seconds of its CPU, and its peak in MB."""
    command = [sys.executable, "-m", "lakehouse.cli", "score", job, "--dry-run", "--engine", "local"]
    started, before = time.perf_counter(), os.times()
    _, seen = memory.run(command, {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, 600)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, cpu, max((process.peak for process in seen.values()), default=0) / 1e6


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        os.chdir(folder)
        prepare(asked.files)
        print(f"\nDry run, {asked.files:,} files, {platform.system()}, {local.cores()} cores")
        print("| | min s | median s | CPU s | peak MB |\n|---|---|---|---|---|")
        for number, name in enumerate(WHERES):
            turns = [dry_run(f"{number}.yaml") for _ in range(asked.turns)]
            seconds, cpu, peak = zip(*turns, strict=True)
            print(
                f"| {name} | {min(seconds):.1f} | {statistics.median(seconds):.1f} | {statistics.median(cpu):.1f} "
                f"| {max(peak):.0f} |"
            )
        os.chdir("/")


if __name__ == "__main__":
    main()
