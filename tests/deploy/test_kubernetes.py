"""What conf/deploy/kubernetes has, as far as it can be tried without a cluster: what is run, and what is tried again."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer.main
import yaml

from lakehouse.cli.commands import app

FOLDER = Path(__file__).parents[2] / "conf" / "deploy" / "kubernetes"


def parsed(words: list[str]) -> dict[str, object]:
    """A command line of ours as the command is given it; a word that it doesn't know is an error."""
    name, *rest = words
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    return dict(command.make_context(name, list(rest)).params)


@pytest.fixture
def cronjob():
    return yaml.safe_load((FOLDER / "cronjob.yaml").read_text())


def test_the_cronjob_runs_a_command_of_ours(cronjob):
    pod = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = parsed(container["args"])
    assert (given["conf"], given["engine"]) == ("conf/games.yaml", "local")
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert pod["securityContext"]["runAsNonRoot"] is True


def test_it_tries_again_what_may_pass_and_only_that(cronjob):
    job = cronjob["spec"]["jobTemplate"]["spec"]
    failing, _ = job["podFailurePolicy"]["rules"]
    assert failing["action"] == "FailJob"
    assert failing["onExitCodes"]["values"] == [1, 2, 3, 4]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # as podFailurePolicy demands
    assert cronjob["spec"]["concurrencyPolicy"] == "Forbid"


def test_the_spark_application_runs_a_command_of_ours():
    application = yaml.safe_load((FOLDER / "scheduled-spark-application.yaml").read_text())
    given = parsed(["score", *application["spec"]["template"]["arguments"]])
    assert (given["conf"], given["project_dir"]) == ("conf/games.yaml", "/work")
    script = application["spec"]["template"]["mainApplicationFile"]
    assert (FOLDER.parents[2] / "jobs" / Path(script).name).is_file()
    assert application["spec"]["concurrencyPolicy"] == "Forbid"
