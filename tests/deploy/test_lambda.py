"""What conf/deploy/lambda and conf/deploy/function have: calls by AWS's own models of them, commands by our own."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

import boto3
import pyarrow as pa
import pytest
from botocore.exceptions import ParamValidationError
from botocore.stub import Stubber

from lakehouse.config import load_job
from lakehouse.demo.data import FEATURES_SCHEMA, FLAGS
from lakehouse.serving.bodies import read
from lakehouse.serving.columns import reader_for
from lakehouse.serving.packaging.kinds import KINDS
from tests.deploy.tools import DEPLOY, parsed

ANSWER = {"FunctionName": "games-purchase"}


def call(name, given):
    """Have AWS's own model of a call judge what is given to it."""
    client = boto3.client("lambda", region_name="eu-west-1")
    with Stubber(client) as answers:
        answers.add_response(name, {})
        getattr(client, name)(**given)


@pytest.mark.parametrize("name", ["create-function", "create-event-source-mapping"])
def test_it_is_a_call_that_aws_knows(name):
    given = json.loads((DEPLOY / "lambda" / f"{name}.json").read_text())
    call(name.replace("-", "_"), given)
    assert f"aws lambda {name}" in (DEPLOY / "lambda" / "README.md").read_text()
    with pytest.raises(ParamValidationError, match="Nothing"):
        call(name.replace("-", "_"), {**given, "Nothing": 1})


def test_the_function_calls_what_a_package_has_with_the_python_that_its_libraries_are_for():
    given = json.loads((DEPLOY / "lambda" / "create-function.json").read_text())
    assert given["Handler"] == KINDS["lambda"].entry
    assert given["Runtime"].removeprefix("python") in KINDS["lambda"].runtimes
    assert given["Timeout"] > parsed(["package", "lambda", "conf/games.yaml"])["timeout"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_of_the_readme_is_one_of_ours(kind):
    text = (DEPLOY / kind / "README.md").read_text()
    line = re.findall(r"^lakehouse (package [^#\n]*)", text, re.MULTILINE)[0]
    command = parsed(shlex.split(line))
    assert (command["kind"], command["conf"]) == (kind, "conf/games.yaml")
    assert f"{str(command['keys']).removeprefix('env:')}" in text.replace(line, "") + json.dumps(
        [file.read_text() for file in (DEPLOY / kind).glob("*.json")]
    )


EXAMPLES = [
    (str(path.relative_to(DEPLOY.parents[1])), shown)
    for path in (*sorted(DEPLOY.glob("*/README.md")), DEPLOY.parents[1] / "lakehouse" / "serving" / "README.md")
    for shown in re.findall(r"['`](\{\"(?:records|columns)\": [^'`]*\})['`]", path.read_text())
]


@pytest.mark.parametrize(("page", "shown"), EXAMPLES)
def test_rows_that_a_page_shows_are_rows_of_the_demo(page, shown):
    """All of a row: as the job file has its keys and `keep`, and its model the features."""
    job = load_job(DEPLOY.parent / "games.yaml", date="2026-01-02", environ={"MLFLOW_TRACKING_URI": "sqlite:///x"})
    schema = pa.schema([FEATURES_SCHEMA.field(name) for name in (*job.keys, *job.keep, *FLAGS)])
    batch = read(shown.encode(), "application/json", reader_for(schema, [], 10))
    assert all(set(batch.column(flag).to_pylist()) <= {0, 1} for flag in FLAGS)


def test_the_pages_show_rows():
    assert {page for page, _ in EXAMPLES} == {"conf/deploy/lambda/README.md", "lakehouse/serving/README.md"}


def test_google_is_told_an_entry_that_the_package_has():
    entries = re.findall(r"entry[- ]point `?(\w+)", (DEPLOY / "function" / "README.md").read_text())
    assert set(entries) == {"http", "event"}
    assert all(f"def {entry}(" in KINDS["function"].text for entry in entries)


def test_make_says_that_an_environment_keeps_its_python(tmp_path):
    for name, version in ((".venv/bin/python", "(3, 11)"), ("python-of-mine", "(3, 13)")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\n[ "$1" = -m ] || echo "{version}"\n')
        path.chmod(0o755)
    for name in ("requirements.lock", "pyproject.toml", ".venv/.installed"):  # the last one is the newest
        (tmp_path / name).touch()
    command = ["make", "-f", str(DEPLOY.parents[1] / "Makefile"), "setup"]
    for python, said in (("./python-of-mine", "another Python, and keeps it"), (".venv/bin/python", ""), ("", "")):
        done = subprocess.run([*command, f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert said in done.stderr if said else not done.stderr
