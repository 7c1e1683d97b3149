"""What a run needs of its session and its executors is found out before it scores: Delta's jars, shared storage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyspark
import pytest
from deltalake import DeltaTable
from sklearn.linear_model import LogisticRegression

from lakehouse.engines import probing, runtime
from lakehouse.engines import spark as engine
from lakehouse.errors import ConfigError
from lakehouse.storage import locate
from tests.command import run, tree
from tests.conftest import score, write


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40), "b": np.cos(np.arange(40))})
    return register(LogisticRegression().fit(x, (x["a"] > 2).astype(int)), x)


@pytest.fixture
def job(make_job, uri):
    """A job over forty rows."""
    n = np.arange(40)
    write("lake/features", pa.table({"id": n, "a": n * 0.1, "b": np.cos(n), "country": ["DE", "FR"] * 20}))

    def make(**sections):
        return make_job(uri, model={"method": "predict_proba"}, predictions={"p": {"class": 1}}, **sections)

    return make


def submitted(workspace: Path) -> tuple[int, str]:
    """spark-submit of the job without Delta's jars: exit code and message."""
    command = [
        Path(pyspark.__file__).parent / "bin/spark-submit", "--master", "local[1]", "--conf", "spark.ui.enabled=false",
        "--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.driver.bindAddress=127.0.0.1",
        Path(__file__).parents[2] / "jobs/score.py", "conf/scores.yaml", "--result", "out.json",
    ]  # fmt: skip
    env = {**os.environ, "JAVA_HOME": str(runtime.ensure_java()), "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(command, cwd=workspace, env=env, capture_output=True, text=True, timeout=300, check=False)
    message = str(json.loads((workspace / "out.json").read_text())["message"])
    assert "\tat " not in done.stdout + done.stderr  # no stack of Java's
    return done.returncode, message


@pytest.mark.long
def test_a_submitted_session_without_delta_that_has_to_read_the_table(job, workspace):
    job(source={"where": "country LIKE 'D%'"})
    before = tree(workspace / "lake")
    assert submitted(workspace) == (
        2,
        "lake/features has to be read by Spark itself (where: \"country LIKE 'D%'\" is not a simple comparison), and this "
        'Spark has no Delta: add --jars "$(lakehouse jars)" or --packages with the delta-spark package to spark-submit',
    )
    assert tree(workspace / "lake") == before


@pytest.mark.long
def test_a_submitted_session_without_delta_that_has_to_write_the_table(job, workspace):
    score(job())
    DeltaTable("lake/scores").alter.add_constraint({"odd": "p * 2 >= 0"})
    write("lake/features", pa.table({"id": [99], "a": [0.0], "b": [0.0], "country": ["DE"]}))
    before = tree(workspace / "lake")
    code, message = submitted(workspace)
    said = (
        "lake/scores has to be written by Spark itself (CHECK constraint odd (p * 2 >= 0), which only Spark evaluates)"
    )
    assert (code, message.split(", and this")[0]) == (2, said)
    assert tree(workspace / "lake") == before


@pytest.mark.long
def test_the_plan_says_what_needs_delta_in_spark(job, workspace, capfd):
    job(source={"where": "country LIKE 'D%'"})
    done = run(capfd, "score", "conf/scores.yaml", "--engine", "spark", "--dry-run", "--json")
    assert done.json["plan"]["needs_delta"] == [
        "lake/features has to be read by Spark itself (where: \"country LIKE 'D%'\" is not a simple comparison)"
    ]


def test_executors_that_reach_what_the_driver_does(spark, workspace):
    write("lake/features", pa.table({"id": [1]}))
    (file,) = Path("lake/features").glob("*.parquet")
    roots = [locate("lake/scores"), locate("lake/aside")]
    probing.require_fit(spark, str(uuid.uuid4()), locate(str(file)), roots)
    assert not [p for p in Path("lake/scores").rglob("*") if p.is_file()]


def test_executors_that_do_not(spark, workspace):
    said = (
        r"^Spark's executors can't read what the driver can: lake/features/gone\.parquet\. They must reach the tables at "
        "the same paths and with rights of their own"
    )
    with pytest.raises(ConfigError, match=said):
        probing.require_fit(spark, "1", locate("lake/features/gone.parquet"), [locate("lake/scores")])


def test_nobody_is_asked_where_there_is_one_machine(spark):
    assert engine.one_machine(spark)
