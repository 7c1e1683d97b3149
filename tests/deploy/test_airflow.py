"""What conf/deploy/airflow has: exit codes and the process without Airflow; the DAG by Airflow's own `dags test`."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from tests.conftest import read, write
from tests.deploy.tools import DEPLOY, ROOT, parsed, python_with

AIRFLOW = "apache-airflow==3.3.2"
FOLDER = DEPLOY / "airflow"
DAY = "2026-01-02"


@pytest.fixture
def command(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER / "plugins")
    import lakehouse_command

    return lakehouse_command


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, "success"), (1, "fail"), (2, "fail"), (3, "fail"), (4, "fail"), (5, "retry"), (6, "retry"),
        (130, "retry"), (143, "retry"), (-9, "retry"), (127, "fail"),
    ],
)  # fmt: skip
def test_what_an_exit_code_means(command, code, expected):
    assert command.outcome(code) == expected
    assert command.outcome(code, "skip") == ("skip" if code == 6 else expected)


def test_what_is_run_is_a_command_line_of_ours(command):
    line = command.words("lakehouse", "conf/games.yaml", DAY, "local", "/srv/scoring", ["--set", "source.version=3"])
    assert line[0] == "lakehouse"
    given = parsed(line[1:])
    assert (given["conf"], given["date"], given["engine"]) == ("conf/games.yaml", DAY, "local")
    assert (given["project_dir"], given["overrides"], given["as_json"]) == ("/srv/scoring", ["source.version=3"], True)
    assert command.words(["uv", "run", "lakehouse"], "c.yaml", None, None, None, []) == [
        "uv", "run", "lakehouse", "score", "c.yaml", "--json",
    ]  # fmt: skip


def test_the_other_python_imports_nothing_from_here(command, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/opt/airflow/plugins")
    assert "PYTHONPATH" not in command.environment({})
    assert command.environment({"MLFLOW_TRACKING_URI": "x"})["MLFLOW_TRACKING_URI"] == "x"


def test_its_lines_are_handed_on_and_its_object_is_read(command):
    code = "import sys; print('planning', file=sys.stderr); print('noise\\n{\"status\": \"not_ready\"}'); sys.exit(6)"
    lines = []
    assert command.run([sys.executable, "-c", code], {}, lines.append, id) == (6, {"status": "not_ready"})
    assert lines == ["planning"]
    assert command.run([sys.executable, "-c", "print('no object')"], {}, lines.append, id) == (0, {})


WAITS = """
import signal, sys, time
signal.signal(signal.SIGTERM, {handler})
print("ready", file=sys.stderr, flush=True)
while True: time.sleep(0.05)
"""


@pytest.mark.parametrize(("handler", "expected"), [("lambda *_: sys.exit(143)", 143), ("signal.SIG_IGN", -9)])
def test_a_task_that_is_ended_ends_the_command(command, handler, expected):
    """By SIGTERM, and by force where that is of no avail."""
    processes = []
    stop = threading.Thread(target=lambda: command.stop(processes[0], 0.5))
    code, _ = command.run(
        [sys.executable, "-c", WAITS.format(handler=handler)], {}, lambda _: stop.start(), processes.append
    )
    stop.join()
    assert code == expected


def test_what_interrupts_the_task_ends_the_command(command):
    def interrupt(_):
        raise KeyboardInterrupt

    processes = []
    with pytest.raises(KeyboardInterrupt):
        command.run(
            [sys.executable, "-c", WAITS.format(handler="lambda *_: sys.exit(143)")], {}, interrupt, processes.append
        )
    assert processes[0].returncode == 143


def told(home):
    """The environment of an Airflow whose folder and database are there."""
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
    }


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """The Python of an Airflow, and a folder with the database that it begins with."""
    python, home = python_with(AIRFLOW), tmp_path_factory.mktemp("airflow")
    done = subprocess.run([python, "-m", "airflow", "db", "migrate"], env=told(home), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return python, home


@pytest.fixture
def dag(airflow, workspace, make_job, register):
    """dag(date, **changes) → state, tries, attempts, XCom and log of its task, run by `airflow dags test`.

    It is the DAG of conf/deploy, with this folder's paths and short pauses; changes are words of its file.
    """
    python, beginning = airflow
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    write("lake/features", pa.table({"id": [1, 2], "a": [0.1, 0.2], "day": [DAY] * 2}))
    sections = {"source": {"where": "day = '{date}'"}, "slice": {"score_date": "{date}"}, "job": "games"}
    make_job(register(LinearRegression().fit(x, x["a"]), x), date=DAY, **sections)
    home = workspace / "airflow"
    shutil.copytree(FOLDER, home, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(beginning / "airflow.db", home)
    script, attempts = workspace / ".venv" / "bin" / "lakehouse", workspace / "attempts"
    script.parent.mkdir(parents=True)
    command = f'PYTHONPATH={ROOT} exec {sys.executable} -m lakehouse.cli "$@"'
    script.write_text(f"#!/bin/sh\necho attempt >>{attempts}\n{command}\n")
    script.chmod(0o755)

    def run(date, **changes):
        file = home / "dags" / "score_games.py"
        text = file.read_text()
        for word, other in {
            "/srv/scoring": str(workspace),
            "retries=12": "retries=1",
            "minutes=10": "seconds=1",
            **changes,
        }.items():
            assert word in text, word
            text = text.replace(word, other)
        file.write_text(text)
        line = [python, "-m", "airflow", "dags", "test", "score_games", date]
        done = subprocess.run(line, env=told(home), capture_output=True, text=True, check=False)
        log = done.stdout + done.stderr
        with closing(sqlite3.connect(home / "airflow.db")) as database:
            tasks = database.execute("select state, try_number from task_instance").fetchall()
            results = database.execute("select value from xcom where key = 'return_value'").fetchall()
        assert (len(tasks), len(results)) == (1, 1), log
        result = json.loads(results[0][0])
        return (*tasks[0], len(attempts.read_text().splitlines()), result["status"]), log

    return run


@pytest.mark.long
@pytest.mark.slow
def test_airflow_publishes(dag):
    ended, log = dag(DAY)
    assert ended == ("success", 1, 1, "published"), log
    assert {str(row["score_date"]) for row in read("lake/scores").to_pylist()} == {DAY}
    assert "exit code 0: published: success" in log


@pytest.mark.long
@pytest.mark.slow
def test_airflow_tries_again_what_is_not_ready(dag):
    ended, log = dag("2026-01-03")
    assert ended == ("failed", 2, 2, "not_ready"), log
    assert "source.min_rows" in log


@pytest.mark.long
@pytest.mark.slow
def test_airflow_skips_what_is_not_ready(dag):
    ended, log = dag("2026-01-03", **{'not_ready="retry"': 'not_ready="skip"'})
    assert ended == ("skipped", 1, 1, "not_ready"), log


@pytest.mark.long
@pytest.mark.slow
def test_airflow_does_not_try_again_what_a_person_has_to_mend(dag):
    ended, log = dag(DAY, **{'engine="local"': 'engine="local", extra=["--set", "keys=[nope]"]'})
    assert ended == ("failed", 1, 1, "failed"), log
    assert "nope" in log
