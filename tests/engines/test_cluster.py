"""The job under spark-submit: on one machine, on a real standalone cluster, and over Spark Connect.

The Python that runs it has the lock's packages but not this one: that comes with the wheel or from the driver.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyspark
import pytest
import yaml
from sklearn.linear_model import LogisticRegression

from lakehouse.engines import runtime
from tests.conftest import opened, read, write
from tests.models.test_hostile_pipelines import statement

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SPARK_HOME = Path(pyspark.__file__).parent
ROWS = 4_000


@pytest.fixture(scope="module")
def place(tmp_path_factory, register, tracking_uri) -> Path:
    """A working directory with features, a job file and the entry point, and nothing else of the project."""
    folder = tmp_path_factory.mktemp("cluster")
    x = pd.DataFrame({"a": np.linspace(-1, 1, 50), "b": np.cos(np.arange(50))})
    uri = register(LogisticRegression().fit(x, (x["a"] > 0).astype(int)), x)
    ids = np.arange(ROWS)
    for part in np.array_split(ids, 4):
        rows = {"id": part, "a": np.sin(part), "b": np.cos(part), "day": ["2026-01-02"] * len(part)}
        write(str(folder / "lake/features"), pa.table(rows), ["day"])
    job = {
        "job": "scores",
        "source": {"type": "delta", "table": "lake/features", "where": "day = '{date}'"},
        "model": {"uri": uri, "tracking_uri": tracking_uri, "method": "predict_proba"},
        "keys": ["id"],
        "predictions": {"p": {"class": 1}},
        "slice": {"score_date": "{date}"},
        "sinks": [{"type": "delta", "table": "lake/scores"}],
    }
    (folder / "conf").mkdir()
    statement("SELECT *, a * 2 AS prediction FROM __THIS__ WHERE a < 0.5")(folder / "pipeline")
    applied = {
        **job, "job": "applied", "model": {"uri": "pipeline"}, "predictions": {"p": {"output": "prediction"}},
        "sinks": [{"type": "delta", "table": "lake/applied"}], "checks": {"quarantine": {"max_fraction": 0.9}},
    }  # fmt: skip
    (folder / "conf/applied.yaml").write_text(yaml.safe_dump(applied))
    (folder / "conf/job.yaml").write_text(yaml.safe_dump(job))
    shutil.copytree(ROOT / "jobs", folder / "jobs")
    shutil.copytree(ROOT / "conf/spark", folder / "conf/spark")
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The package as a wheel, built from a copy of its sources."""
    source = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "lakehouse", source / "lakehouse", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(source / "dist"),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """A Python with all packages but this one."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    packages = next(Path(p) for p in sys.path if p.endswith("site-packages"))
    own = next(folder.glob("lib/python3*/site-packages"))
    (own / "packages.pth").write_text(f"{packages}\n")
    executable = folder / "bin/python"
    command = [str(executable), "-c", "import pyspark, lakehouse"]
    probe = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert "No module named 'lakehouse'" in probe.stderr
    return executable


def environment(python: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYSPARK", "SPARK", "PYTHON"))}
    return kept | {
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "JAVA_HOME": str(runtime.ensure_java()),
        "PYSPARK_PYTHON": str(python),
        "PYSPARK_DRIVER_PYTHON": str(python),
        "SPARK_NO_DAEMONIZE": "1",
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(command: list[str], ready: str, log: Path, env: dict[str, str]) -> Iterator[None]:
    """A server process for as long as the block runs, from the moment its log says that it is ready."""
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env, cwd=log.parent, start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while ready not in log.read_text():
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=15)


def submit(place: Path, env: dict[str, str], *arguments: str) -> tuple[int, dict, str]:
    """spark-submit with these arguments; its exit code, the result object, and all that it printed."""
    result = place / "result.json"
    result.unlink(missing_ok=True)
    command = [str(SPARK_HOME / "bin/spark-submit"), *arguments, "--result", str(result)]
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, timeout=300, check=False)
    printed = done.stdout + done.stderr
    return done.returncode, json.loads(result.read_text()) if result.exists() else {}, printed


def forget(place: Path) -> None:
    for table in ("scores", "scores_state", "scores_quarantine"):
        shutil.rmtree(place / "lake" / table, ignore_errors=True)


JOB = ("jobs/score.py", "conf/job.yaml", "--date", "2026-01-02")
APPLIED = ("jobs/score.py", "conf/applied.yaml", "--date", "2026-01-02")


def assert_applied(place: Path, code: int, result: dict, printed: str) -> None:
    """A model that Spark applies has scored every row but those that it leaves out; nothing of it stayed behind."""
    a = np.sin(np.arange(ROWS))
    assert (code, result.get("status"), result.get("rows_scored")) == (0, "published", int((a < 0.5).sum())), printed
    scored = read(str(place / "lake/applied"))
    assert dict(zip(scored["id"].to_pylist(), scored["p"].to_pylist(), strict=True)) == {
        n: 2 * x for n, x in enumerate(a.tolist()) if x < 0.5
    }
    assert not list((place / "lake/applied").rglob("_model*"))
    shutil.rmtree(place / "lake/applied")
    shutil.rmtree(place / "lake/applied_state")


def test_spark_submit_on_one_machine(place, wheel, python):
    forget(place)
    flags = ("--properties-file", "conf/spark/local.conf", "--py-files", str(wheel))
    code, result, printed = submit(place, environment(python), *flags, *JOB)
    assert (code, result["status"], result["rows_scored"]) == (0, "published", ROWS), printed
    assert read(str(place / "lake/scores")).num_rows == ROWS


@pytest.mark.long
def test_frame_without_delta_jars_names_the_flag(place, wheel, python):
    forget(place)
    where = "source.where=day = '{date}' or day = '{date}'"
    flags = ("--properties-file", "conf/spark/local.conf", "--py-files", str(wheel))
    code, result, printed = submit(place, environment(python), *flags, *JOB, "--set", where)
    assert (code, result["status"]) == (2, "failed")
    assert '--jars "$(lakehouse jars)"' in result["message"]
    assert "has to be read by Spark itself (where: " in result["message"]
    assert "Traceback" not in printed
    assert not (place / "lake/scores/_delta_log").exists()


@pytest.mark.long
def test_checks_beyond_what_the_pass_counts_need_no_delta_jars(place, wheel, python):
    """More distinct values than are counted, of features and of scores: Great Expectations reads them by units."""
    ids = np.arange(12_000)
    write(str(place / "lake/many"), pa.table({"id": ids, "a": np.sin(ids), "b": np.cos(ids)}), mode="overwrite")
    many = {"type": "expect_column_unique_value_count_to_be_between", "kwargs": {"column": "id", "max_value": 12_000}}
    for name in ("features", "scores"):
        (place / f"conf/{name}.yaml").write_text(yaml.safe_dump({"name": name, "expectations": [many]}))
    job = yaml.safe_load((place / "conf/job.yaml").read_text())
    job |= {"job": "many", "source": {"type": "delta", "table": "lake/many"}, "slice": {},
            "sinks": [{"type": "delta", "table": "lake/many_scores"}],
            "checks": {"features": "conf/features.yaml", "scores": "conf/scores.yaml"}}  # fmt: skip
    (place / "conf/many.yaml").write_text(yaml.safe_dump(job))
    flags = ("--properties-file", "conf/spark/local.conf", "--py-files", str(wheel))
    code, result, printed = submit(place, environment(python), *flags, "jobs/score.py", "conf/many.yaml")
    assert (code, result["status"], result["checks"]) == (
        0, "published", {"passed": 3, "failed": 0, "warned": 0}
    ), printed  # fmt: skip


@pytest.mark.long
def test_a_target_that_spark_has_to_write_is_refused_before_scoring_without_delta_jars(place, wheel, python):
    forget(place)
    flags = ("--properties-file", "conf/spark/local.conf", "--py-files", str(wheel))
    assert submit(place, environment(python), *flags, *JOB)[0] == 0
    opened(str(place / "lake/scores")).alter.add_constraint({"odd": "p * 2 < 3"})
    for more in (["--dry-run"], ["--rescore"]):
        code, result, printed = submit(place, environment(python), *flags, *JOB, *more)
        assert (code, result["rows_read"]) == (2, 0), printed
        assert '--jars "$(lakehouse jars)"' in result["message"]
        assert "odd" in result["message"]
        assert "Traceback" not in printed


@pytest.mark.long
def test_frame_with_delta_jars(place, wheel, python):
    forget(place)
    where = "source.where=day = '{date}' or day = '{date}'"
    jars = ",".join(str(jar) for jar in runtime.jars())
    flags = ("--properties-file", "conf/spark/local.conf", "--py-files", str(wheel), "--jars", jars)
    code, result, printed = submit(place, environment(python), *flags, *JOB, "--set", where)
    assert (code, result["status"], result["carrier"], result["rows_scored"]) == (0, "published", "frame", ROWS), (
        printed
    )


@pytest.mark.long
def test_standalone_master_and_two_workers(place, wheel, python, tmp_path):
    forget(place)
    env, port = environment(python), free_port()
    start = str(SPARK_HOME / "bin/spark-class")
    master = [start, "org.apache.spark.deploy.master.Master", "--host", "127.0.0.1", "--port", str(port),
              "--webui-port", "0"]  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(server(master, "I have been elected leader", tmp_path / "master.log", env))
        for name in ("one", "two"):
            size = ("--cores", "1", "--memory", "1g", "--webui-port", "0", "--work-dir", str(tmp_path / name))
            worker = [start, "org.apache.spark.deploy.worker.Worker", "--host", "127.0.0.1", *size]
            worker.append(f"spark://127.0.0.1:{port}")
            log = tmp_path / f"{name}.log"
            stack.enter_context(server(worker, "Successfully registered with master", log, env))
        flags = ("--master", f"spark://127.0.0.1:{port}", "--py-files", str(wheel),
                 "--conf", "spark.executor.memory=512m", "--conf", "spark.ui.enabled=false",
                 "--conf", "spark.log.level=WARN")  # fmt: skip
        code, result, printed = submit(place, env, *flags, *JOB)
        applied = submit(place, env, *flags, *APPLIED)
        ran = [name for name in ("one", "two") if "Asked to launch executor" in (tmp_path / f"{name}.log").read_text()]
    assert (code, result["status"], result["rows_scored"]) == (0, "published", ROWS), printed
    assert_applied(place, *applied)
    assert ran == ["one", "two"]
    assert read(str(place / "lake/scores"))["id"].to_pylist() == list(range(ROWS))


@pytest.mark.long
def test_spark_connect(place, python, tmp_path):
    forget(place)
    env, port = environment(python), free_port()
    main = "org.apache.spark.sql.connect.service.SparkConnectServer"
    connect = [str(SPARK_HOME / "bin/spark-submit"), "--class", main, "--master", "local[2,4]",
               "--conf", "spark.connect.grpc.binding.address=127.0.0.1",
               "--conf", f"spark.connect.grpc.binding.port={port}",
               "--conf", "spark.ui.enabled=false", "spark-internal"]  # fmt: skip
    with server(connect, "Spark Connect server started at", tmp_path / "connect.log", env):
        client = {**os.environ, "SPARK_REMOTE": f"sc://127.0.0.1:{port}"}
        command = [sys.executable, "-m", "lakehouse.cli", "score", *JOB[1:], "--json"]
        done = subprocess.run(command, cwd=place, env=client, capture_output=True, text=True, timeout=200, check=False)
        command[4:] = [*APPLIED[1:], "--json"]
        applied = subprocess.run(
            command, cwd=place, env=client, capture_output=True, text=True, timeout=200, check=False
        )
    assert_applied(place, applied.returncode, json.loads(applied.stdout or "{}"), applied.stderr)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["status"], result["rows_scored"], result["engine"]) == ("published", ROWS, "spark")


def test_a_task_that_fails_is_tried_again(spark, tmp_path):
    """Spark's local mode does so only where it is asked to."""

    def once(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        if not (tmp_path / "tried").exists():
            (tmp_path / "tried").touch()
            raise OSError("a machine that goes")
        yield from batches

    assert spark.range(0, 2, 1, 1).mapInArrow(once, "id long").toArrow()["id"].to_pylist() == [0, 1]


def test_an_active_session_is_used_and_left_as_it_is(place, spark, monkeypatch):
    from lakehouse.config import load_job
    from tests.conftest import score

    forget(place)
    monkeypatch.chdir(place)
    spark.range(1).count()  # Delta changes settings of its own with a session's first query
    before = dict(spark.conf.getAll)
    result = score(load_job("conf/job.yaml", date="2026-01-02", environ=os.environ), "spark")
    assert (result.status, result.rows_scored) == ("published", ROWS)
    assert dict(spark.conf.getAll) == before
    assert spark.range(3).count() == 3
