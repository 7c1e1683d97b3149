"""`lakehouse demo --snowflake`: the demo's job on the stand-in, and what is said where it can't be run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.demo import snowflake
from tests.command import run

PROJECT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.long
def test_the_job_is_run_on_the_stand_in_and_what_it_holds_is_shown(workspace):
    shutil.copytree(PROJECT / "conf", "conf")
    command = [sys.executable, "-m", "lakehouse.cli", "demo", "--snowflake", "--rows", "3000"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    order = [
        "This is not Snowflake. It is a stand-in",
        "8,910 rows of lake/features/games are in its table GAMES",
        "games_snowflake: 2,909 rows, digest ",
        "verified: DEMO.PUBLIC.GAMES_SCORES: 2,909 rows, digest ",
        "read 2,910 = scored 2,909 + quarantined 1",
        "PUBLISHED  DEMO.PUBLIC.GAMES_SCORES v1",
        "UNCHANGED  DEMO.PUBLIC.GAMES_SCORES v1",
        "FROM GAMES_SCORES ORDER BY player_id",
        "FROM GAMES_SCORES_RUNS",
        "2500  owned_or_not      G4         7",
        "lakehouse score conf/games_snowflake.yaml --date 2026-01-02 --dry-run",
    ]
    found = [done.stdout.find(text) for text in order]
    assert -1 not in found, (order[found.index(-1)], done.stdout)
    assert found == sorted(found)
    [address] = re.findall(r"http://(\S+):\d+: 8,910", done.stdout)
    assert address == "127.0.0.1"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "failed: --snowflake: the stand-in for Snowflake is among the project's tests, which only a source checkout "
         "has: run it there, after `make setup`"),
        (["--csv", "a.csv", "--label", "y"], "failed: --snowflake shows the demo's games: leave out --csv and --label"),
    ],
)  # fmt: skip
def test_where_it_can_not_be_run_it_says_so(workspace, monkeypatch, capfd, arguments, said):
    monkeypatch.setattr(snowflake, "CHECKOUT", workspace)
    done = run(capfd, "demo", "--snowflake", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(said)


def test_a_stand_in_that_does_not_start_is_said(workspace, monkeypatch, capfd):
    (workspace / "tests").mkdir()
    (workspace / "tests/__init__.py").touch()  # or the real one is found, where PYTHONPATH has the project
    (workspace / "tests/warehouse.py").write_text("raise SystemExit('no network here')\n")
    monkeypatch.setattr(snowflake, "CHECKOUT", workspace)
    with (
        pytest.raises(snowflake.Unavailable, match=r"tests\.warehouse .* doesn't start, for the reason above"),
        snowflake.stand_in(workspace / "home", "prod"),
    ):
        pass
    assert "no network here" in capfd.readouterr().err
