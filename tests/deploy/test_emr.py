"""What conf/deploy/emr has: the call by AWS's own model of it, what it runs by our command."""

from __future__ import annotations

import json
import re
import shlex

import boto3
import pytest
from botocore.exceptions import ParamValidationError
from botocore.stub import Stubber

from tests.deploy.tools import DEPLOY, ROOT, parsed

FOLDER = DEPLOY / "emr"
ANSWER = {
    "applicationId": "00abcdefghijklmn",
    "jobRunId": "00abcdefghijklmo",
    "arn": "arn:aws:emr-serverless:eu-west-1:123456789012:/applications/00abcdefghijklmn/jobruns/00abcdefghijklmo",
}


@pytest.fixture
def given():
    return json.loads((FOLDER / "start-job-run.json").read_text())


def start(given):
    client = boto3.client("emr-serverless", region_name="eu-west-1")
    with Stubber(client) as answers:
        answers.add_response("start_job_run", ANSWER)
        client.start_job_run(**given)


def test_it_is_a_call_that_aws_knows(given):
    start(given)
    given["jobDriver"]["sparkSubmit"]["arguments"] = given["jobDriver"]["sparkSubmit"].pop("entryPointArguments")
    with pytest.raises(ParamValidationError, match="arguments"):
        start(given)


def test_it_runs_a_command_of_ours_with_what_the_readme_puts_there(given):
    submit = given["jobDriver"]["sparkSubmit"]
    command = parsed(["score", *submit["entryPointArguments"]])
    assert (command["conf"], command["result"]) == ("conf/games.yaml", "s3://example-scoring/results/games.json")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", str(command["date"]))  # yesterday
    assert (ROOT / "jobs" / submit["entryPoint"].rpartition("/")[2]).is_file()
    options = shlex.split(submit["sparkSubmitParameters"])
    archives = dict(archive.split("#")[::-1] for archive in options[options.index("--archives") + 1].split(","))
    readme = (FOLDER / "README.md").read_text()
    assert set(archives) == {"environment", "conf"}
    assert all(f"{path.rpartition('/')[2]}" in readme for path in archives.values())
    pythons = {option.partition("=")[2] for option in options if "PYTHON=" in option}
    assert pythons == {"./environment/bin/python"}
