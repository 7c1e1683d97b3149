"""What conf/deploy/heroku has: the Procfile's line as a dyno runs it, within a dyno's memory and time."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time

import pytest

from lakehouse.serving.access import read_keys
from tests.conftest import write
from tests.deploy.tools import DEPLOY, ROOT, parsed
from tests.serving import processes
from tests.serving.conftest import SUITE, Place, features, model
from tests.serving.test_handler import records
from tests.serving.test_server import call

FOLDER = DEPLOY / "heroku"
STANDARD_2X = 1024  # MB; more is paged out, twice as much ends the dyno
ROUTER_SECONDS = 30  # it gives up then, and a stopped dyno is killed as long after
KEY = "0123456789abcdef"


@pytest.fixture
def line():
    (found,) = re.findall(r"^web: (.+)$", (FOLDER / "Procfile").read_text(), re.MULTILINE)
    return found


def test_the_line_is_a_command_of_ours_that_answers_and_ends_before_the_router_gives_up(line):
    words = line.replace("$PORT", "5000").replace("${WORKERS:-1}", "1")
    assert "$" not in words
    given = parsed(shlex.split(words)[1:])
    assert (given["confs"], given["host"], given["port"], given["workers"]) == (["conf/games.yaml"], "0.0.0.0", 5000, 1)
    assert given["timeout"] + 5 < ROUTER_SECONDS
    assert read_keys(given["keys"], {"SERVE_KEYS": f"shop={KEY}"}).keys() == {"shop"}


def test_what_the_slug_is_made_of_is_there():
    wheel = (FOLDER / "requirements.txt").read_text().split()[0]
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert wheel == f"./dist/lakehouse-{version}-py3-none-any.whl[serve,s3]"
    assert os.access(FOLDER / "bin" / "post_compile", os.X_OK)
    assert (FOLDER / ".python-version").read_text().strip() in (ROOT / "pyproject.toml").read_text()


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="processes and their memory are read as Linux tells them")
def test_the_line_serves_within_a_dyno_s_memory_and_ends_when_it_is_told(line, tmp_path, register, tracking_uri):
    place = Place(tmp_path, str(tmp_path / "conf" / "games.yaml"))
    (tmp_path / "conf").mkdir()
    (tmp_path / "suite.json").write_text(json.dumps(SUITE))
    write(place.table("features"), features())
    place.write_job(register(*model(), name="dyno"), tracking_uri)
    command, port = tmp_path / "bin" / "lakehouse", processes.free_port()
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m lakehouse.cli "$@"\n')
    command.chmod(0o755)
    environ = {"PORT": str(port), "SERVE_KEYS": f"shop={KEY}", "PYTHONPATH": str(ROOT)}
    path = f"{command.parent}:{os.environ['PATH']}"
    with open(tmp_path / "log", "w") as log:
        dyno = subprocess.Popen(
            ["bash", "-c", line], cwd=tmp_path, env={**os.environ, **environ, "PATH": path}, stdout=log, stderr=log
        )
    try:
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + 240
        while call(f"{address}/ready")[0] != 200:
            assert dyno.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.2)
        for _ in range(20):
            status, said = call(f"{address}/v1/likes/score", records(features(5_000)), X_API_Key=KEY)
            assert (status, said["rows"]["read"]) == (200, 5_000)
        used = sum(processes.megabytes(one) for one in processes.tree(dyno.pid))
        print(f"{used:.0f} MB")
        assert used < STANDARD_2X * 0.8
    finally:
        dyno.terminate()
        assert dyno.wait(ROUTER_SECONDS) == 0
