"""From Snowflake to Snowflake, on the stand-in: the job against the plain script in one process, on the same rows, in turns.

Two models, one that costs next to nothing and one that costs about 10 µs a row. Two comparisons of each: whole processes,
and jobs inside one warm process with one Spark session; in both the whole, and reading and scoring alone. Then the memory
of each worker, and the server's own share.

    python -m tests.benchmarks.snowflake [--rows 1000000] [--turns 3]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from lakehouse import pipeline
from lakehouse.config import load_job
from lakehouse.connectors import snowflake
from lakehouse.demo import data, train
from lakehouse.demo.commands import TRACKING
from lakehouse.demo.snowflake import load
from lakehouse.engines import local, runtime
from lakehouse.runs import ledger
from tests import memory, warehouse
from tests.benchmarks import plain
from tests.benchmarks.turns import without_bytecode_switch

LOGIT, FOREST = "logit_games", "forest_games"
MODELS = {LOGIT: "logistic regression", FOREST: "forest of 300 trees"}
CHUNK_ROWS = 65_536
MOST_BYTES = 1.5e9
"""More than this no worker may use."""
QUERY = f"SELECT {', '.join((data.KEY, data.COUNTRY, *data.FLAGS))} FROM GAMES"
PLAIN = "plain script, one process"
Taken = tuple[float, float]
"""Seconds: of the whole, and without publishing."""
MEANING = """
What this means: the server is one Python process on the same cores, not Snowflake. It carries out the query once and
keeps the parts, as Snowflake's result cache does, so that reading is what the client does and a download over loopback.
Publishing is the server's work on COPY and INSERT, in one process for all, and the job has more of it: it loads into a
table of its own first, writes 10 columns where the script writes 3, and keeps a ledger, in one transaction. "Read and
scored" therefore compares clients, "whole" compares them with a slow server behind both. Where a model costs next to
nothing, what a job does besides (pinning, policy, profiles, lineage, starting Spark) is what one sees; what a model costs
is what workers share. Neither says how fast an account is: there a query takes longer, publishing is its warehouse's work,
and parts come over a network."""


def prepare(server: warehouse.Warehouse, rows: int) -> None:
    """The features on the server, two models and a job file of each in the working directory."""
    data.write_games("lake", rows_per_date=1_000)
    train.train("lake/training/games", TRACKING)
    log_forest()
    server.set(chunk_rows=CHUNK_ROWS, once=r"^SELECT .* FROM \S*GAMES\b")
    [games] = data.make_games([data.DATES[1]], rows, seed=2026)
    with snowflake.session(warehouse.NAME) as session:
        load(session, "GAMES", games.drop_columns([data.EVENT_DATE]))
    connection = {"type": "snowflake", "connection": warehouse.NAME}
    for name in MODELS:
        job = {
            "job": name,
            "source": {**connection, "table": "GAMES"},
            "model": {
                "uri": f"models:/{name}/1",
                "tracking_uri": TRACKING,
                "method": "predict_proba",
                "trust": ["pickle"],
            },
            "keys": [data.KEY],
            "keep": [data.COUNTRY],
            "predictions": {"purchase_probability": {"class": 1}},
            "sinks": [{**connection, "table": f"SCORES_{name}"}],
            "state": "lake/state",
        }
        Path(f"{name}.yaml").write_text(yaml.safe_dump(job))


def log_forest() -> None:
    """A model that takes its time, beside the demo's."""
    import mlflow
    from mlflow.models import infer_signature
    from sklearn.ensemble import RandomForestClassifier

    training = data.make_games_training(50_000, seed=2026)
    x, y = training.select(list(data.FLAGS)).to_pandas(), training[data.LABEL].to_pandas()
    forest = RandomForestClassifier(300, max_depth=8, random_state=0).fit(x, y)
    mlflow.set_tracking_uri(TRACKING)
    mlflow.set_registry_uri(TRACKING)
    mlflow.set_experiment(train.EXPERIMENT)
    mlflow.sklearn.log_model(
        forest, name=FOREST, registered_model_name=FOREST, signature=infer_signature(x, forest.predict_proba(x[:10])),
        pyfunc_predict_fn="predict_proba", pip_requirements=["scikit-learn"],
        skops_trusted_types=["numpy.dtype", "sklearn.tree._tree.Tree"],
    )  # fmt: skip


def process(*module: str) -> Callable[[], tuple[Taken, list[int]]]:
    """A program as one thing to time; also the peaks of its workers."""
    environment = without_bytecode_switch()

    def run() -> tuple[Taken, list[int]]:
        started = time.perf_counter()
        out, seen = memory.run([sys.executable, "-m", *module], environment, timeout=900)
        whole = time.perf_counter() - started
        seconds = json.loads(out.strip().splitlines()[-1])["seconds"]
        return (whole, whole - seconds["publish"]), memory.workers(seen)

    return run


def warm(run: Callable[[], Mapping[str, float]]) -> Callable[[], tuple[Taken, list[int]]]:
    """A function that gives the seconds of its phases, to be timed in this process."""

    def timed() -> tuple[Taken, list[int]]:
        started = time.perf_counter()
        seconds = run()
        whole = time.perf_counter() - started
        return (whole, whole - seconds["publish"]), []

    return timed


def job(name: str, engine: str) -> Mapping[str, float]:
    """A job in this process."""
    request = pipeline.Request(engine, ledger.now(), pipeline.new_run_id(), rescore=True)
    return pipeline.score(load_job(f"{name}.yaml", date=None, environ=os.environ), request).seconds or {}


def compare(title: str, rivals: Mapping[str, Callable[[], tuple[Taken, list[int]]]], rows: int, turns: int) -> None:
    """Run the rivals, one after the other, several times over; print figures, the script being what is compared with."""
    taken: dict[str, list[Taken]] = {name: [] for name in rivals}
    peaks: dict[str, list[int]] = {}
    for _ in range(turns):
        for name, run in rivals.items():
            seconds, used = run()
            taken[name].append(seconds)
            peaks[name] = max(peaks.get(name, []), used)
            print(f"    {name}: {seconds[0]:.2f} s, {seconds[1]:.2f} s", file=sys.stderr, flush=True)
    print(
        f"\n{title}\n| | whole: median s | rows/s | times as fast | read and scored: median s | rows/s | times as fast |"
    )
    print("|---" * 7 + "|")
    medians = {name: tuple(map(statistics.median, zip(*seconds, strict=True))) for name, seconds in taken.items()}
    for name, mine in medians.items():
        cells = [f"{s:.2f} | {rows / s:,.0f} | {s0 / s:.1f}" for s, s0 in zip(mine, medians[PLAIN], strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")
    if any(peaks.values()):
        print("\nPeak memory of each process that scores:")
        for name, used in peaks.items():
            print(f"* {name}: {', '.join(f'{peak / 1e6:,.0f} MB' for peak in used)}")
        if over := [name for name, used in peaks.items() if name != PLAIN and max(used) > MOST_BYTES]:
            sys.exit(f"a worker used more than {MOST_BYTES / 1e9} GB: {over}")


def server_share(rows: int) -> None:
    """Print what the server takes for the query and its parts, which the job and the script then find made."""
    with snowflake.session(warehouse.NAME) as session:
        started = time.perf_counter()
        _, batches = session.query(QUERY)
        made = time.perf_counter() - started
        started = time.perf_counter()
        fetched = sum(snowflake.fetch_rows(batch).num_rows for batch in batches)
        seconds = time.perf_counter() - started
    assert fetched == rows
    print(
        f"\nThe server: {made:.1f} s for the query, once; {seconds:.2f} s to fetch its {len(batches)} parts as Arrow in one "
        f"process without scoring ({rows / seconds:,.0f} rows/s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.snowflake")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    os.environ |= {"PYTHONPATH": str(Path(__file__).parents[2]), "JAVA_HOME": str(runtime.ensure_java()),
                   "SPARK_LOCAL_IP": "127.0.0.1"}  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder, warehouse.running() as server:
        os.chdir(folder)
        os.environ["SNOWFLAKE_HOME"] = str(server.home(Path(folder), database="BENCH", schema="PUBLIC"))
        prepare(server, arguments.rows)
        print(
            f"{platform.platform()}, {local.cores()} cores, Python {platform.python_version()}, {arguments.rows:,} rows × "
            f"{2 + len(data.FLAGS)} columns in parts of {CHUNK_ROWS:,} rows, a stand-in for Snowflake"
        )
        server_share(arguments.rows)
        for name in MODELS:
            both(name, arguments.rows, arguments.turns)
        print(MEANING)
        os.chdir("/")


def both(name: str, rows: int, turns: int) -> None:
    """Both comparisons with one of the models."""
    from lakehouse.engines import spark as engine

    score = ("lakehouse.cli", "score", f"{name}.yaml", "--rescore", "--json", "--engine")
    script = {"connection": warehouse.NAME, "table": "GAMES", "model": f"models:/{name}/1", "out": "PLAIN"}
    options = [word for key, value in script.items() for word in (f"--{key}", value)]
    spark = f"`--engine spark`, {local.cores()} workers"
    rivals = {
        spark: process(*score, "spark"),
        "`--engine local`": process(*score, "local"),
        PLAIN: process("tests.benchmarks.plain", *options, "--tracking-uri", TRACKING),
    }
    compare(f"{MODELS[name].capitalize()}: whole processes", rivals, rows, turns)
    with engine.session(delta=False):
        rivals = {
            spark: warm(lambda: job(name, "spark")),
            "`--engine local`": warm(lambda: job(name, "local")),
            PLAIN: warm(lambda: plain.score(**script)),
        }
        compare(f"{MODELS[name].capitalize()}: warm, one process with one Spark session", rivals, rows, turns + 1)


if __name__ == "__main__":
    main()
