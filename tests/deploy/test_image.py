"""The Dockerfiles' steps carried out in clean roots of Debian, and runs in what they make: as no root, offline, read-only.

What differs from an engine's image is said in clean_root.py; Python is Debian's own, of another minor version than the
base image's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.conftest import opened, read
from tests.deploy import clean_root
from tests.deploy.tools import DEPLOY, ROOT

USER = 185
NAME = "registry.example.com/lakehouse:0.1.0"
MAKE = """
import mlflow, numpy as np, pandas as pd, pyarrow as pa
from deltalake import write_deltalake
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression
x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
model = LinearRegression().fit(x, 2 * x["a"])
mlflow.create_experiment("churn", "file:///work/lake/artifacts")
mlflow.set_experiment("churn")
info = mlflow.sklearn.log_model(model, name="churn", registered_model_name="churn",
                                signature=infer_signature(x, model.predict(x)), skops_trusted_types=["numpy.dtype"])
mlflow.MlflowClient().set_registered_model_alias("churn", "champion", info.registered_model_version)
write_deltalake("lake/features", pa.table({"id": range(40), "a": x["a"]}))
"""
JOB = {
    "job": "churn",
    "source": {"type": "delta", "table": "lake/features"},
    "model": {"uri": "models:/churn@champion"},
    "keys": ["id"],
    "predictions": {"p": 0},
    "sinks": [{"type": "delta", "table": "lake/scores"}],
}

pytestmark = [pytest.mark.long, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    needed = ("unshare", "apt-get", "dpkg", "setpriv")
    if lacking := [
        name for name in needed if shutil.which(name, path=f"{os.environ['PATH']}:{clean_root.PATH}") is None
    ]:
        pytest.skip(f"building a root needs Linux and Debian's tools: there is no {', '.join(lacking)}")
    if os.geteuid() != 0:
        pytest.skip("building a root needs root, for chroot and mounts")
    made = tmp_path_factory.mktemp("image")
    yield made
    clean_root.remove(made)


@pytest.fixture(scope="module")
def images(folder):
    return clean_root.build(DEPLOY / "docker" / "Dockerfile", ROOT, folder / "docker")


@pytest.fixture(scope="module")
def image(images):
    return images["last"]


@pytest.fixture
def lake(image, tmp_path, monkeypatch):
    """A project's conf and lake, the user's own, with a model and a table that the image itself has made."""
    monkeypatch.chdir(tmp_path)
    Path("conf").mkdir()
    Path("lake").mkdir()
    os.chown("lake", USER, USER)
    Path("conf/churn.yaml").write_text(yaml.safe_dump(JOB))
    done = lakehouse(image, "-c", MAKE, entrypoint="python")
    assert done.returncode == 0, done.stderr


def lakehouse(image, *words, entrypoint=""):
    """A container of the image as its README starts it, but without a network, and as the CronJob has it: read-only."""
    told = replace(image, env={**image.env, "MLFLOW_TRACKING_URI": "sqlite:////work/lake/mlflow.db"})
    mounts = [("bind-ro", str(Path("conf").absolute()), "/work/conf"), ("bind", str(Path("lake").absolute()), "/work/lake"),
              ("read-only",), ("tmpfs", "/tmp")]  # fmt: skip
    command = [entrypoint] if entrypoint else image.entrypoint
    return clean_root.run(told, [*command, *words], mounts=mounts, online=False)


def test_it_begins_the_command_as_nobody_special(image):
    assert (image.user, image.workdir, image.cmd) == (str(USER), "/work", ("--help",))
    done = clean_root.run(image, [*image.entrypoint, *image.cmd], online=False)
    assert (done.returncode, "Usage: lakehouse" in done.stdout) == (0, True), done.stderr
    done = clean_root.run(image, ["sh", "-c", "id -u; grep CapEff /proc/self/status; touch /opt/lakehouse/x"])
    assert done.stdout.split() == [str(USER), "CapEff:", "0000000000000000"]
    assert "Permission denied" in done.stderr


@pytest.mark.parametrize("engine", ["local", "spark"])
def test_it_scores_offline_with_a_root_that_is_read_only(image, lake, engine):
    done = lakehouse(image, "check", "conf", "--engine", engine)
    assert done.returncode == 0, done.stdout + done.stderr
    done = lakehouse(image, "score", "conf/churn.yaml", "--engine", engine, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert (said["status"], said["rows_scored"], said["engine"]) == ("published", 40, engine)
    rows = sorted((row["id"], row["p"]) for row in read("lake/scores").to_pylist())
    assert rows == [(number, pytest.approx(2 * 4 * number / 39)) for number in range(40)]
    assert opened("lake/scores").version() == said["sinks"][0]["version"]
    assert {Path(file).stat().st_uid for file in Path("lake/scores").rglob("*.parquet")} == {USER}
    again = lakehouse(image, "score", "conf/churn.yaml", "--engine", engine, "--json")
    assert json.loads(again.stdout)["status"] == "unchanged"


ASK = """
import json, subprocess, sys, time
from urllib.request import Request, urlopen
with subprocess.Popen(sys.argv[1:]) as server:
    for _ in range(1200):
        try:
            urlopen("http://127.0.0.1:8000/ready", timeout=10).close()
            break
        except OSError:
            assert server.poll() is None
            time.sleep(0.1)
    body = json.dumps([{"id": 1, "a": 3.0}]).encode()
    asked = Request("http://127.0.0.1:8000/v1/churn/score", body, {"Content-Type": "application/json"})
    (score,) = json.load(urlopen(asked, timeout=60))["scores"]
    server.terminate()
    print(json.dumps([score["p"], server.wait(60)]))
"""


def test_the_server_s_image_answers_without_spark_and_java_with_a_root_that_is_read_only(images, lake):
    made = images["server"]
    assert (made.user, made.entrypoint[:2]) == (str(USER), ("tini", "--"))
    done = lakehouse(made, "-c", ASK, *made.entrypoint, "conf/churn.yaml", entrypoint="python")
    assert done.returncode == 0, done.stdout + done.stderr
    score, code = json.loads(done.stdout.splitlines()[-1])
    assert (score, code) == (pytest.approx(6.0), 0)
    found = clean_root.run(made, ["sh", "-c", "python -c 'import pyspark'; command -v java"])
    assert "No module named 'pyspark'" in found.stderr
    assert found.stdout == ""


def test_dataproc_s_image_has_the_package_without_spark(image, folder):
    made = clean_root.build(DEPLOY / "dataproc" / "Dockerfile", ROOT, folder / "dataproc", {NAME: image})["last"]
    code = "import importlib.util as u, lakehouse, mlflow, deltalake; print(u.find_spec('pyspark'))"
    done = clean_root.run(made, [made.env["PYSPARK_PYTHON"], "-c", code], online=False)
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr
    assert made.user == "1099"


def test_what_a_step_may_not_do_ends_the_build(folder):
    file = folder / "Dockerfile"
    file.write_text("FROM python:3.12-slim-bookworm\nRUN echo said && false\n")
    with pytest.raises(AssertionError, match="RUN echo said && false: said"):
        clean_root.build(file, ROOT, folder / "failing")
    file.write_text("FROM python:3.12-slim-bookworm\nONBUILD RUN true\n")
    with pytest.raises(pytest.fail.Exception, match="ONBUILD RUN true: what this does is not known"):
        clean_root.build(file, ROOT, folder / "unknown")
    assert (
        subprocess.run(["grep", "-c", str(folder), "/proc/mounts"], stdout=subprocess.PIPE, check=False).stdout
        == b"0\n"
    )
