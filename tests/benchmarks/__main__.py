"""The demo's job against the plain `mlflow.pyfunc.spark_udf` script, on the same rows, in turns.

Two comparisons: whole processes (what a scheduler pays), and jobs inside one warm Spark session (what a notebook
pays). Prints minimum and median seconds and the ratio of the medians.

    python -m tests.benchmarks [--rows 1000000] [--turns 3]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from lakehouse import pipeline
from lakehouse.config import load_job
from lakehouse.demo import baseline, data, train
from lakehouse.engines import local, runtime
from lakehouse.runs import ledger

DATE = "2026-01-01"
TRACKING = "sqlite:///lake/mlflow.db"


def prepare(rows: int) -> None:
    """Features, model and job file in the working directory."""
    data.write_games("lake", rows_per_date=rows)
    train.train("lake/training/games", TRACKING)
    job = {
        "job": "games",
        "source": {"type": "delta", "table": "lake/features/games", "where": "event_date = '{date}'"},
        "model": {"uri": "models:/logit_games@champion", "tracking_uri": TRACKING, "method": "predict_proba"},
        "keys": ["player_id"],
        "keep": ["country"],
        "predictions": {"purchase_probability": {"class": 1}},
        "slice": {"score_date": "{date}"},
        "sinks": [{"type": "delta", "table": "lake/scores/games"}],
    }
    Path("job.yaml").write_text(yaml.safe_dump(job))


def process(*command: str) -> Callable[[], None]:
    """A command as one thing to time."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"JAVA_HOME": str(runtime.ensure_java()), "SPARK_LOCAL_IP": "127.0.0.1"}

    def run() -> None:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            raise RuntimeError(f"{command} failed:\n{done.stderr[-3000:]}")

    return run


def in_turns(rivals: dict[str, Callable[[], None]], turns: int) -> dict[str, list[float]]:
    """Seconds of each rival, one after the other, several times over."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(turns):
        for name, run in rivals.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
            print(f"    {name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return seconds


def table(title: str, seconds: dict[str, list[float]], rows: int) -> None:
    """Print the figures; the last rival is what the others are compared with."""
    *_, reference = seconds.values()
    print(f"\n{title}\n| | min s | median s | rows/s | times as fast |\n|---|---|---|---|---|")
    for name, taken in seconds.items():
        median = statistics.median(taken)
        ratio = statistics.median(reference) / median
        print(f"| {name} | {min(taken):.2f} | {median:.2f} | {rows / median:,.0f} | {ratio:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        os.chdir(folder)
        prepare(arguments.rows)
        compare(arguments.rows, arguments.turns)
        os.chdir("/")


def compare(rows: int, turns: int) -> None:
    """Both comparisons."""
    print(
        f"{platform.platform()}, {local.cores()} cores, Python {platform.python_version()}, {rows:,} rows × 10 doubles"
    )
    jars = ",".join(str(jar) for jar in runtime.jars())
    score = (sys.executable, "-m", "lakehouse.cli", "score", "job.yaml", "--date", DATE, "--rescore")
    plain = (sys.executable, "-m", "lakehouse.demo.baseline", "--features", "lake/features/games", "--model",
             "models:/logit_games@champion", "--tracking-uri", TRACKING, "--date", DATE, "--out", "lake/plain",
             "--jars", jars)  # fmt: skip
    rivals = {
        "lakehouse score --engine local": process(*score, "--engine", "local"),
        "lakehouse score --engine spark": process(*score),
        "plain spark_udf script": process(*plain),
    }
    table("Whole processes", in_turns(rivals, turns), rows)
    table("One warm Spark session", in_turns(warm(jars), turns + 1), rows)


def warm(jars: str) -> dict[str, Callable[[], None]]:
    """The same jobs inside one session; the first turn warms both up, and the minimum tells."""
    import mlflow

    mlflow.set_tracking_uri(TRACKING)
    os.environ["JAVA_HOME"] = str(runtime.ensure_java())
    spark = baseline.start_spark(jars)
    job = load_job("job.yaml", date=DATE, environ=os.environ)
    frame = load_job("job.yaml", date=DATE, environ=os.environ,
                     overrides=[f"source.where=event_date = '{DATE}' or event_date = '{DATE}'"])  # fmt: skip

    def ours(which: object) -> Callable[[], None]:
        def run() -> None:
            request = pipeline.Request("spark", ledger.now(), pipeline.new_run_id(), rescore=True)
            pipeline.score(which, request)  # type: ignore[arg-type]  # a Job

        return run

    return {
        "files carrier": ours(job),
        "frame carrier": ours(frame),
        "plain spark_udf": lambda: baseline.score(
            spark, "lake/features/games", "models:/logit_games@champion", DATE, "lake/plain"
        ) and None,
    }  # fmt: skip


if __name__ == "__main__":
    main()
