"""Who is compared: one file a family, each written as its own users would write it. None knows of the others.

A family has `start(variant, setting)`, which starts what a warm program of that kind keeps (a session, processes) and
returns a function that scores one task, from reading to the commit. `python -m tests.benchmarks.contestants` runs one
of them, once (cold) or whenever it is told to (warm). Daft and Ray run in an environment of their own: what is
imported here and in their files has to be in there, too.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEY, SCORE = "id", "p"
"""The columns that everybody writes: a 64-bit integer, and the probability of class 1 as a double."""
BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Setting:
    """What the machine has: cores, a comma-separated list of Spark's jars for Delta, MLflow's tracking URI."""

    cores: int
    jars: str
    tracking: str


@dataclass(frozen=True)
class Task:
    """One table to score with one model.

    `table`, `out`: folders of Delta tables (for some, `out` is one of Parquet files); `model`: its URI in MLflow's
    registry; `files`: the folder of the same model's files; `form`: "matrix" where the features are doubles and the
    model takes a matrix as well as a frame, else "frame"; `jobs`: the folder of the job files.
    """

    name: str
    table: str
    features: tuple[str, ...]
    form: str
    model: str
    files: str
    jobs: str
    out: str

    def write(self, path: Path) -> None:
        """Write the task as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self)))


def read(path: str) -> Task:
    """A task that was written as JSON."""
    told: dict[str, Any] = json.loads(Path(path).read_text())
    return Task(**{**told, "features": tuple(told["features"])})


Score = Callable[[Task], None]


@dataclass(frozen=True)
class Contestant:
    """Who takes part: how it is called in tables, its module here, whether it runs in the peers' own environment.

    `home`: contestants of one home share a warm process and its session.
    """

    name: str
    title: str
    module: str
    home: str
    ours: bool = False
    peer: bool = False


ALL = {
    one.name: one
    for one in (
        Contestant("floor", "floor: bare processes, one a core", "floor", "floor"),
        Contestant("files", "`lakehouse`, Spark, `files` carrier", "ours", "ours-spark", ours=True),
        Contestant("frame", "`lakehouse`, Spark, `frame` carrier", "ours", "ours-spark", ours=True),
        Contestant("local", "`lakehouse`, local engine", "ours", "ours-local", ours=True),
        Contestant("default", "(a) `spark_udf` script, default session", "spark_script", "spark-default"),
        Contestant("tuned", "(b) `spark_udf` script, tuned", "spark_script", "spark-tuned"),
        Contestant("stacks", "(c) mlops-stacks' `predict.py`, all columns kept", "spark_script", "spark-tuned"),
        Contestant("one", "(d) one process, deltalake and `mlflow.pyfunc`", "one_process", "one"),
        Contestant("daft", "(e) Daft, class UDF", "daft_udf", "daft", peer=True),
        Contestant("ray", "(f) Ray Data, actors", "ray_actors", "ray", peer=True),
        Contestant("unchanged", "`lakehouse`, local engine, UNCHANGED", "ours", "", ours=True),
        Contestant("bare", "a bare Spark session with one count", "spark_script", ""),
    )
}
