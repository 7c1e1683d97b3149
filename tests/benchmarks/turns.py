"""The demo's job, and how to time rivals in turns: what the benchmarks of single features share."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from lakehouse.demo import data, train
from lakehouse.engines import runtime

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


def without_bytecode_switch() -> dict[str, str]:
    """The environment, in which imports are compiled once and not in each process anew."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def process(*command: str) -> Callable[[], None]:
    """A command as one thing to time."""
    environment = without_bytecode_switch() | {"JAVA_HOME": str(runtime.ensure_java()), "SPARK_LOCAL_IP": "127.0.0.1"}

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
