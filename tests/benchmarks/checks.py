"""What checks cost: the same job without suites, with ten row rules in the pass, and Great Expectations on Spark.

python -m tests.benchmarks.checks [--rows 2000000] [--turns 3]
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
from tests.benchmarks.turns import DATE, in_turns, prepare, process, table

FEATURES = [
    *({"type": "expect_column_values_to_be_between", "kwargs": {"column": f"G{i}", "min_value": 0, "max_value": 1}}
      for i in (1, 2, 3)),
    *({"type": "expect_column_values_to_be_in_set", "kwargs": {"column": f"G{i}", "value_set": [0, 1]}} for i in (4, 5)),
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "G10", "mostly": 0.9}, "severity": "warning"},
    {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "country", "regex": "^[A-Z]{2}$"}},
]  # fmt: skip
SCORES = [
    {"type": "expect_column_values_to_be_between",
     "kwargs": {"column": "purchase_probability", "min_value": 0, "max_value": 1}},
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "purchase_probability"}},
    {"type": "expect_column_value_lengths_to_equal", "kwargs": {"column": "country", "value": 2}},
]  # fmt: skip


def validate() -> None:
    """The same ten rules by Great Expectations on Spark, over the features and the scores that the job published."""
    from lakehouse import checks
    from lakehouse.checks.rules import Delegated, read_suite
    from lakehouse.engines import spark as engine

    with engine.session(delta=True) as spark:
        for name, where, path in (
            ("features", f"event_date = '{DATE}'", "lake/features/games"),
            ("scores", f"score_date = '{DATE}'", "lake/scores/games"),
        ):
            suite = [Delegated(e, (), "") for e in read_suite(Path(f"{name}.yaml").read_bytes(), name)]
            rows = spark.read.format("delta").load(path).where(where)
            print(name, [finding.outcome.success for finding in checks.validate(name, suite, rows)])


def suites() -> None:
    """The job of the other benchmark, with suites."""
    for name, expectations in (("features", FEATURES), ("scores", SCORES)):
        Path(f"{name}.yaml").write_text(yaml.safe_dump({"name": name, "expectations": list(expectations)}))
    job: dict[str, Any] = yaml.safe_load(Path("job.yaml").read_text())
    job["checks"] = {"features": "features.yaml", "scores": "scores.yaml"}
    Path("checked.yaml").write_text(yaml.safe_dump(job))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.checks")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--validate", action="store_true", help="only Great Expectations, in this folder")
    arguments = parser.parse_args()
    if arguments.validate:
        validate()
        return
    home = Path(__file__).parents[2]
    os.environ["PYTHONPATH"] = str(home)
    with tempfile.TemporaryDirectory(prefix="lakehouse-bench-") as folder:
        os.chdir(folder)
        prepare(arguments.rows)
        suites()
        print(
            f"{platform.platform()}, {local.cores()} cores, Python {platform.python_version()}, {arguments.rows:,} rows"
        )
        for kind in ("local", "spark"):
            rivals = {
                f"ten row rules, {kind} engine": scored("checked.yaml", kind),
                f"no suites, {kind} engine": scored("job.yaml", kind),
            }
            if kind == "spark":
                alone = process(sys.executable, "-m", "tests.benchmarks.checks", "--validate")
                rivals = {"Great Expectations on Spark, alone": alone, **rivals}
            table(f"Whole processes, {kind} engine", in_turns(rivals, arguments.turns), arguments.rows)
        os.chdir("/")


def scored(conf: str, kind: str) -> Callable[[], None]:
    return process(sys.executable, "-m", "lakehouse.cli", "score", conf, "--date", DATE, "--rescore", "--engine", kind)


if __name__ == "__main__":
    main()
