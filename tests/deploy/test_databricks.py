"""What conf/deploy/databricks has: its job by Databricks' own models, what it runs by our command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.deploy.tools import DEPLOY, ROOT, answer, parsed, python_with

FOLDER = DEPLOY / "databricks"
AS_A_JOB = """
import json, sys
from databricks.bundles.jobs import Job
job = Job.from_dict(json.loads(sys.argv[1]))
print(json.dumps(job.as_dict()))
"""


@pytest.fixture
def bundle(tmp_path):
    """A folder as the README says: the files of the bundle beside those of the project; its one job."""
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    for name in ("jobs", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def job(bundle):
    [file] = bundle.glob(yaml.safe_load((bundle / "databricks.yml").read_text())["include"][0])
    return yaml.safe_load(file.read_text())["resources"]["jobs"]["score_games"]


def test_it_runs_a_command_of_ours_from_files_that_are_there(bundle, job):
    [task], [cluster] = job["tasks"], job["job_clusters"]
    assert (bundle / "resources" / task["spark_python_task"]["python_file"]).is_file()
    given = parsed(["score", *task["spark_python_task"]["parameters"]])
    assert (bundle / given["conf"]).is_file()
    assert (given["date"], given["project_dir"]) == ("{{job.parameters.date}}", "${workspace.file_path}")
    assert job["parameters"] == [{"name": "date", "default": "{{job.trigger.time.iso_date}}"}]
    assert task["job_cluster_key"] == cluster["job_cluster_key"]
    [script] = [each["workspace"]["destination"] for each in cluster["new_cluster"]["init_scripts"]]
    assert (bundle / script.removeprefix("${workspace.file_path}/")).is_file()
    assert job["max_concurrent_runs"] == 1


def test_its_variables_are_declared(bundle, job):
    declared = yaml.safe_load((bundle / "databricks.yml").read_text())["variables"]
    used = {word.partition("}")[0] for word in json.dumps(job).split("${var.")[1:]}
    assert used == set(declared)


def test_what_it_installs_is_all_but_spark(tmp_path):
    """The script with a pip that only says what it was asked for."""
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nif [ "$1" = -m ]; then echo "$@" >>{tmp_path}/asked; else exec {sys.executable} "$@"; fi\n'
    )
    python.chmod(0o755)
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "lakehouse-0.1.0-py3-none-any.whl").touch()
    told = {**os.environ, "SCORING_PYTHON": str(python), "SCORING_FILES": str(tmp_path), "TMPDIR": str(tmp_path)}
    subprocess.run(["sh", str(FOLDER / "install.sh")], env=told, check=True)
    first, second = (tmp_path / "asked").read_text().splitlines()
    assert first.endswith(f"--no-deps {tmp_path}/dist/lakehouse-0.1.0-py3-none-any.whl")
    asked = (tmp_path / "lakehouse-requirements.txt").read_text()
    assert str(tmp_path / "lakehouse-requirements.txt") in second
    assert "mlflow" in asked
    assert "deltalake" in asked
    assert not {"pyspark", "delta-spark", "pytest", "ruff"} & {
        line.split("<")[0].split(">")[0] for line in asked.splitlines()
    }


def test_a_success_is_no_error_to_who_runs_the_script():
    """Databricks takes any SystemExit of a Python task for a failure."""
    script = f"import sys, runpy; sys.argv = ['score.py', {{}}]; runpy.run_path({str(ROOT / 'jobs' / 'score.py')!r}, run_name='__main__'); print('after')"
    told = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = [
        subprocess.run(
            [sys.executable, "-c", script.format(repr(word))], env=told, capture_output=True, text=True, check=False
        )
        for word in ("--help", "--no-such-option")
    ]
    assert [(done.returncode, done.stdout.endswith("after\n")) for done in ended] == [(0, True), (2, False)]


@pytest.mark.long
def test_it_is_a_job_that_databricks_knows(job):
    python = python_with("databricks-bundles==1.22.1")
    assert json.loads(answer(python, AS_A_JOB, json.dumps(job))) == job
    job["tasks"][0]["spark_python_task"]["arguments"] = job["tasks"][0]["spark_python_task"].pop("parameters")
    with pytest.raises(AssertionError, match="arguments"):
        answer(python, AS_A_JOB, json.dumps(job))
