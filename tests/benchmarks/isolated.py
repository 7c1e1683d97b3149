"""What an environment of its own costs: the same model isolated and not, with the same packages, on the same rows.

Whole processes on both engines, then jobs inside one warm process. The environment is built beforehand, which needs the
package index and is timed by itself.

    python -m tests.benchmarks.isolated [--rows 1000000] [--turns 3] [--engines local spark]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from deltalake import write_deltalake

from lakehouse import pipeline
from lakehouse.config import load_job
from lakehouse.engines import local, runtime
from lakehouse.runs import ledger
from tests.benchmarks.turns import in_turns, process

COLUMNS = [f"x{number}" for number in range(20)]
PACKAGES = ("mlflow-skinny", "scikit-learn", "skops", "numpy", "pandas", "pyarrow", "scipy")
FILES = 8


def prepare(rows: int) -> None:
    """Rows of twenty doubles, a model with a scaler, and the two jobs, in the working directory."""
    import mlflow
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng(0)
    for part in range(FILES):
        frame = pd.DataFrame(random.normal(size=(rows // FILES, len(COLUMNS))), columns=COLUMNS)
        frame.insert(0, "id", np.arange(len(frame)) + part * len(frame))
        write_deltalake("lake/features", frame, mode="append")
    x = frame[COLUMNS].head(4_000)
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, (x["x0"] + x["x1"] > 0).astype(int))
    mlflow.sklearn.save_model(
        fitted, "model", signature=infer_signature(x, fitted.predict(x)), skops_trusted_types=["numpy.dtype"],
        pip_requirements=[f"{name}=={metadata.version(name)}" for name in PACKAGES],
    )  # fmt: skip
    # Without MLflow's own line for all of MLflow: the skinny one loads it as well, and is built in a third of the time.
    listed = Path("model/requirements.txt")
    listed.write_text("\n".join(line for line in listed.read_text().splitlines() if not line.startswith("mlflow==")))
    for name in ("isolated", "strict"):
        job = {
            "job": name,
            "source": {"type": "delta", "table": "lake/features"},
            "model": {"uri": "model", "method": "predict_proba", "environment": name},
            "keys": ["id"],
            "predictions": {"p": {"class": 1}},
            "sinks": [{"type": "delta", "table": f"lake/{name}"}],
        }
        Path(f"{name}.yaml").write_text(yaml.safe_dump(job))


def whole(name: str, engine: str) -> Callable[[], None]:
    """`lakehouse score` as a process."""
    command = (sys.executable, "-m", "lakehouse.cli", "score", f"{name}.yaml", "--rescore", "--engine", engine)
    return process(*command)


def warm(name: str, engine: str) -> Callable[[], None]:
    """The same run in this process."""
    job = load_job(f"{name}.yaml", date=None, environ=os.environ)

    def run() -> None:
        pipeline.score(job, pipeline.Request(engine, ledger.now(), pipeline.new_run_id(), rescore=True))

    return run


def table(title: str, seconds: dict[str, list[float]], rows: int) -> None:
    """Print the figures side by side: each engine's isolated run against the one that is not."""
    print(f"\n{title}\n| | min s | median s | rows/s | × not isolated, min | median |\n|---|---|---|---|---|---|")
    for name, taken in seconds.items():
        beside = seconds[name.replace(", isolated", "")]
        median = statistics.median(taken)
        ratios = f"{min(taken) / min(beside):.2f} | {median / statistics.median(beside):.2f}"
        print(f"| {name} | {min(taken):.2f} | {median:.2f} | {rows / median:,.0f} | {ratios} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.isolated")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=["local", "spark"])
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        os.chdir(folder)
        prepare(arguments.rows)
        where = f"{platform.platform()}, {local.cores()} cores, Python {platform.python_version()}"
        print(f"{where}, {arguments.rows:,} rows × {len(COLUMNS)} doubles")
        started = time.perf_counter()
        process(sys.executable, "-m", "lakehouse.cli", "check", "isolated.yaml", "--engine", "local")()
        print(f"lakehouse check with the environment built, or found: {time.perf_counter() - started:.1f} s")
        os.environ["JAVA_HOME"] = str(runtime.ensure_java())
        for title, kind, more in (("Whole processes", whole, 0), ("One warm process", warm, 1)):
            rivals = {}
            for engine in arguments.engines:
                rivals[f"{engine}, isolated"] = kind("isolated", engine)
                rivals[engine] = kind("strict", engine)
            table(title, in_turns(rivals, arguments.turns + more), arguments.rows)
        os.chdir("/")


if __name__ == "__main__":
    main()
