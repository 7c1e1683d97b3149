"""What challengers cost: two of them in a job's pass, beside the same models as three jobs.

Two comparisons. Whole processes: the job alone, with two challengers, and three jobs one after the other. And the pass
by itself in one process of one thread, which the bound is about: it may take at most 1.15 times the models' own
seconds and one read, where a read is all that the pass without challengers does but calling its model.

python -m tests.benchmarks.challengers [--rows 1000000] [--turns 3] [--only pass]
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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from lakehouse import pipeline
from lakehouse.checks import tally
from lakehouse.config import load_job
from lakehouse.engines import local
from lakehouse.planning import carriers
from lakehouse.planning.plan import make_plan
from lakehouse.planning.prepare import prepare
from lakehouse.runs import comparing, ledger
from tests.benchmarks.turns import DATE, TRACKING, in_turns, process, table
from tests.benchmarks.turns import prepare as make_tables

BOUND = 1.15


def jobs() -> list[str]:
    """Job files of the other benchmark's job: alone, with two challengers, and each challenger as a job of its own.

    One pair of challengers costs much more than the model, the other, of the model's own kind, as little as it does.
    """
    job: dict[str, Any] = yaml.safe_load(Path("job.yaml").read_text())
    uri, written = job["model"]["uri"], {"alone": job}
    for kind, uris in {"boosted": _boosted(), "linear": [uri, uri]}.items():
        rivals = [{"uri": rival, "name": f"rival{number}"} for number, rival in enumerate(uris)]
        sinks = [{"type": "delta", "table": f"lake/{kind}"}]
        written[kind] = {**job, "job": kind, "sinks": sinks, "model": {**job["model"], "challengers": rivals}}
        for number, rival in enumerate(uris):
            own = {"job": f"{kind}{number}", "sinks": [{"type": "delta", "table": f"lake/{kind}{number}"}]}
            written[f"{kind}{number}"] = {**job, **own, "model": {**job["model"], "uri": rival}}
    for name, content in written.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content))
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
    parser.add_argument("--only", choices=("pass", "processes"))
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        os.chdir(folder)
        make_tables(arguments.rows)
        jobs()
        print(
            f"{platform.platform()}, {local.cores()} cores, Python {platform.python_version()}, {arguments.rows:,} rows"
        )
        if arguments.only != "processes":
            for kind in ("boosted", "linear"):
                one_pass(kind, arguments.turns)
        if arguments.only != "pass":
            rivals = {
                "the model alone": scored("alone"),
                "with two challengers": scored("boosted"),
                "three jobs, one after the other": lambda: [scored(n)() for n in ("alone", "boosted0", "boosted1")],
            }
            table("Whole processes, local engine", in_turns(rivals, arguments.turns), arguments.rows)
        os.chdir("/")


def scored(name: str) -> Callable[[], Any]:
    """The job as a process of its own."""
    command = [sys.executable, "-m", "lakehouse.cli", "score", f"{name}.yaml", "--date", DATE, "--rescore"]
    return process(*command, "--engine", "local")


def one_pass(kind: str, turns: int) -> None:
    """Print what the pass takes alone and with challengers, in turns, and how that stands to the bound."""
    local.one_thread()
    with ExitStack() as stack:
        alone, compared = (_pass(name, stack) for name in ("alone", kind))
        alone(), compared()
        found = []
        for _ in range(turns):
            seconds, [own] = alone()
            whole, models = compared()
            found.append((seconds, own, whole, models, whole / (sum(models) + seconds - own)))
            print(f"    alone: {seconds:.2f} s, with challengers: {whole:.2f} s", file=sys.stderr, flush=True)
    print(f"\nThe pass, one process: {kind} challengers")
    print("| alone s | of which its model s | with challengers s | of which models s | × models and one read |")
    print("|---|---|---|---|---|")
    for seconds, own, whole, models, ratio in found:
        told = " + ".join(f"{one:.2f}" for one in models)
        print(f"| {seconds:.2f} | {own:.2f} | {whole:.2f} | {told} | {ratio:.2f} |")
    print(f"median {statistics.median(one[-1] for one in found):.2f}, at most {BOUND} is asked for")


def _pass(name: str, stack: ExitStack) -> Callable[[], tuple[float, list[float]]]:
    """The pass of a job, which is planned once: its seconds, and those of its models."""
    job = load_job(Path(f"{name}.yaml"), date=DATE, environ=os.environ)
    request = pipeline.Request("local", ledger.now(), pipeline.new_run_id(), rescore=True)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    plan = make_plan(job, request, folder)
    plan = plan.read(request)
    staging = prepare(plan, carriers.choose(plan, request, stack).sample()).staging
    work = carriers.units_of(plan, 1)

    def run() -> tuple[float, list[float]]:
        started = time.perf_counter()
        seen = tally(local.run(work, 1, staging, plan.model_folders))
        seconds = time.perf_counter() - started
        rivals = comparing.facts(staging, seen)
        return seconds, [seen.work["model"], *(rival["seconds"] for rival in rivals)]

    return run


if __name__ == "__main__":
    main()
