"""What conf/deploy/dataproc has: the batch by Google's own model of it, what it runs by our command."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.deploy.tools import DEPLOY, ROOT, answer, parsed, python_with

FOLDER = DEPLOY / "dataproc"
AS_A_BATCH = """
import sys
from google.cloud.dataproc_v1 import Batch
batch = Batch.from_json(open(sys.argv[1]).read(), ignore_unknown_fields=False)
print(batch.pyspark_batch.main_python_file_uri, batch.environment_config.execution_config.ttl.total_seconds())
"""


@pytest.fixture
def batch():
    return json.loads((FOLDER / "batch.json").read_text())


@pytest.fixture
def submitted(tmp_path):
    """submitted(*arguments) → the words with which submit.sh calls gcloud."""
    (tmp_path / "gcloud").write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    (tmp_path / "gcloud").chmod(0o755)

    def run(*arguments):
        told = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        command = ["sh", str(FOLDER / "submit.sh"), *arguments]
        return subprocess.run(command, env=told, capture_output=True, text=True, check=True).stdout.splitlines()

    return run


def test_the_script_submits_the_batch_of_the_file(batch, submitted):
    words = submitted()
    assert words[:4] == ["dataproc", "batches", "submit", "pyspark"]
    options = dict(word.removeprefix("--").split("=", 1) for word in words[5 : words.index("--")])
    configured, runtime = batch["pysparkBatch"], batch["runtimeConfig"]
    assert words[4] == configured["mainPythonFileUri"]
    assert words[words.index("--") + 1 :] == configured["args"]
    assert (options["version"], options["container-image"]) == (runtime["version"], runtime["containerImage"])
    assert [options["archives"]] == configured["archiveUris"]
    assert dict(pair.split("=") for pair in options["properties"].split(",")) == runtime["properties"]
    execution = batch["environmentConfig"]["executionConfig"]
    assert options["service-account"] == execution["serviceAccount"]
    assert (options["ttl"], execution["ttl"]) == ("3h", "10800s")


def test_it_runs_a_command_of_ours(batch, submitted):
    given = parsed(["score", *batch["pysparkBatch"]["args"]])
    assert (given["conf"], given["result"]) == ("conf/games.yaml", "gs://example-scoring/results/games.json")
    words = submitted("2026-01-02")
    assert parsed(["score", *words[words.index("--") + 1 :]])["date"] == "2026-01-02"
    assert (ROOT / "jobs" / words[4].rpartition("/")[2]).is_file()


@pytest.mark.long
def test_it_is_a_batch_that_google_knows(batch, tmp_path):
    python = python_with("google-cloud-dataproc==5.32.0")
    said = answer(python, AS_A_BATCH, str(FOLDER / "batch.json"))
    assert said.split() == ["gs://example-scoring/lakehouse/score.py", "10800.0"]
    batch["pysparkBatch"]["arguments"] = batch["pysparkBatch"].pop("args")
    (tmp_path / "batch.json").write_text(json.dumps(batch))
    with pytest.raises(AssertionError, match="no field named"):
        answer(python, AS_A_BATCH, str(tmp_path / "batch.json"))
