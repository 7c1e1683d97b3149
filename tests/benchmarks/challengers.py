"""What challengers cost: the same job alone, with two challengers in its pass, and as three jobs one after the other.

python -m tests.benchmarks.challengers [--rows 1000000] [--turns 3]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from lakehouse.engines import local
from tests.benchmarks.__main__ import DATE, TRACKING, in_turns, prepare, process, table


def jobs() -> list[str]:
    """Job files of the other benchmark's job: alone, with two challengers, and each challenger as a job of its own."""
    job: dict[str, Any] = yaml.safe_load(Path("job.yaml").read_text())
    uri, rivals = job["model"]["uri"], _boosted()
    written = {"alone": job, "compared": {**job, "model": {**job["model"], "challengers": rivals}}}
    for number, rival in enumerate(rivals):
        own = {"job": f"rival{number}", "sinks": [{"type": "delta", "table": f"lake/rival{number}"}]}
        written[f"rival{number}"] = {**job, **own, "model": {**job["model"], "uri": rival}}
    for name, content in written.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content))
    assert uri not in rivals
    return list(written)


def _boosted() -> list[str]:
    """The URIs of two gradient boosted models of the same features."""
    import mlflow
    import xgboost
    from deltalake import DeltaTable
    from mlflow.models import infer_signature

    frame = DeltaTable("lake/training/games").to_pandas().head(20_000)
    x = frame[[name for name in frame.columns if name.startswith("G")]].astype("float64")
    y = (x.iloc[:, 0] > x.iloc[:, 0].median()).astype(int)
    mlflow.set_tracking_uri(TRACKING)
    uris = []
    for trees in (100, 200):
        model = xgboost.XGBClassifier(n_estimators=trees, max_depth=5).fit(x, y)
        info = mlflow.xgboost.log_model(
            model, name=f"boosted{trees}", registered_model_name=f"boosted{trees}",
            signature=infer_signature(x, model.predict(x)),
        )  # fmt: skip
        uris.append(f"models:/boosted{trees}/{info.registered_model_version}")
    return uris


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.challengers")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        os.chdir(folder)
        prepare(arguments.rows)
        names = jobs()
        cores = local.cores()
        print(f"{platform.platform()}, {cores} cores, Python {platform.python_version()}, {arguments.rows:,} rows")
        rivals = {
            "the model alone": scored("alone"),
            "with two challengers": scored("compared"),
            "three jobs, one after the other": lambda: [scored(name)() for name in names if name != "compared"],
        }
        table("Whole processes, local engine", in_turns(rivals, arguments.turns), arguments.rows)
        os.chdir("/")


def scored(name: str) -> Callable[[], Any]:
    command = [sys.executable, "-m", "lakehouse.cli", "score", f"{name}.yaml", "--date", DATE, "--rescore"]
    return process(*command, "--engine", "local")


if __name__ == "__main__":
    main()
