"""What conf/deploy/server has: the script of cron with the real command, units by systemd's own tool."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.cli.options import day
from tests.conftest import read, write
from tests.deploy.tools import parsed

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "conf" / "deploy" / "server"
YESTERDAY = str(datetime.now(UTC).date() - timedelta(days=1))


@pytest.fixture
def server(workspace, make_job, register):
    """A folder as the README says, with a job whose input has yesterday's rows, and how its script is run."""
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    write("lake/features", pa.table({"id": [1, 2], "a": [0.1, 0.2], "day": [YESTERDAY] * 2}))
    sections = {"source": {"where": "day = '{date}'"}, "slice": {"score_date": "{date}"}, "job": "games"}
    make_job(register(LinearRegression().fit(x, x["a"]), x), date=YESTERDAY, **sections)
    shutil.copy(SERVER / "score.sh", workspace)
    command = workspace / ".venv" / "bin" / "lakehouse"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\necho attempt >>attempts\nexec {sys.executable} -m lakehouse.cli "$@"\n')
    command.chmod(0o755)

    def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        given = {**os.environ, "TMPDIR": str(workspace), "PAUSE": "0", "PYTHONPATH": str(ROOT), **environ}
        command = ["sh", str(workspace / "score.sh"), "conf/games.yaml", "--engine", "local", *words]
        return subprocess.run(command, env=given, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), ([], 2), (["--date", "2026-01-02"], 2)])
def test_the_script_says_how_it_is_called(workspace, words, code):
    shutil.copy(SERVER / "score.sh", workspace)
    done = subprocess.run(["sh", "score.sh", *words], capture_output=True, text=True, check=False)
    said, other = (done.stdout, done.stderr) if code == 0 else (done.stderr, done.stdout)
    assert (done.returncode, other) == (code, "")
    assert "  score.sh conf/games.yaml [options of lakehouse score, but for --date]\n" in said
    assert said.endswith("PAUSE      seconds between them; default 600\n")


def attempts() -> int:
    return len(Path("attempts").read_text().splitlines())


@pytest.mark.slow
def test_the_script_scores_yesterday(server):
    done = server()
    assert done.returncode == 0, done.stderr
    assert attempts() == 1
    assert {str(row["score_date"]) for row in read("lake/scores").to_pylist()} == {YESTERDAY}


@pytest.mark.long
@pytest.mark.slow
def test_it_tries_again_while_the_input_is_not_ready_and_gives_up(server):
    done = server(DATE="2026-01-02", ATTEMPTS="2")
    assert (done.returncode, attempts()) == (6, 2)
    assert "conf/games.yaml 2026-01-02: given up after 2 attempts" in done.stderr


@pytest.mark.long
@pytest.mark.slow
def test_it_does_not_try_again_what_a_person_has_to_mend(server):
    done = server("--set", "keys=[nope]")
    assert (done.returncode, attempts()) == (2, 1)


def test_it_starts_no_second_run_beside_one(server, workspace):
    lock = workspace / "lakehouse-conf_games_yaml.lock"
    with subprocess.Popen(["flock", str(lock), "sleep", "30"]) as holder:
        try:
            while subprocess.run(["flock", "-n", str(lock), "true"], check=False).returncode == 0:
                pass
            done = server()
        finally:
            holder.terminate()
    assert (done.returncode, done.stdout) == (0, "conf/games.yaml: another run is at it\n")
    assert not Path("attempts").exists()


def test_the_units_are_sound(tmp_path):
    """By systemd's own tool, the command's path being one that is here."""
    for unit in SERVER.glob("*@.*"):
        text = unit.read_text().replace("/srv/scoring/.venv/bin/lakehouse", sys.executable)
        (tmp_path / unit.name).write_text(text.replace("User=scoring", f"User={os.environ.get('USER', 'root')}"))
    tool = shutil.which("systemd-analyze")
    if tool is None:  # as on macOS: then only that the timer starts the service, and codes as the README has them
        assert "RestartPreventExitStatus=1 2 3 4" in (SERVER / "lakehouse-score@.service").read_text()
        return
    units = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run([tool, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "lakehouse-" in line]) == (0, [])


def test_what_units_and_crontab_run_is_a_command_line_of_ours():
    """Their options are those of the command; the crontab's line has five fields of time and a user."""
    line = (SERVER / "lakehouse.cron").read_text().splitlines()[-1]
    found = re.fullmatch(r"(\S+ ){5}scoring (/srv/scoring/score\.sh) (conf/games\.yaml) --engine local >>\S+", line)
    assert found is not None
    (start,) = re.findall(r"^ExecStart=(.*)$", (SERVER / "lakehouse-score@.service").read_text(), re.MULTILINE)
    assert start.split()[1:] == ["score", "conf/%i.yaml", "--date", "yesterday"]
    (start,) = re.findall(r"^ExecStart=(.*)$", (SERVER / "lakehouse-follow@.service").read_text(), re.MULTILINE)
    given = parsed(start.split()[1:])
    assert (given["conf"], given["follow"], given["date"]) == ("conf/%i.yaml", True, None)


@pytest.mark.parametrize(
    ("environ", "given"),
    [({}, "--date yesterday "), ({"DATE": "2026-01-02"}, "--date 2026-01-02 "), ({"DATE": ""}, "")],
)
def test_the_script_gives_a_date_unless_there_is_none(workspace, environ, given):
    shutil.copy(SERVER / "score.sh", workspace)
    command = workspace / ".venv" / "bin" / "lakehouse"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\necho "$@"\n')
    command.chmod(0o755)
    there = {"PATH": os.environ["PATH"], "TMPDIR": str(workspace), **environ}
    words = ["sh", str(workspace / "score.sh"), "conf/games.yaml", "--engine", "local"]
    done = subprocess.run(words, env=there, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"score conf/games.yaml {given}--engine local\n")


def test_words_for_dates_are_those_of_utc():
    assert day("yesterday") == YESTERDAY
    assert day("today") == str(datetime.now(UTC).date())
    assert (day("2026-01-02"), day("tomorrow"), day(None)) == ("2026-01-02", "tomorrow", None)
