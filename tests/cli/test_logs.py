"""`--log-format json`: all of stderr is JSON lines that say which run they are about."""

from __future__ import annotations

import json
import logging
import warnings
from datetime import datetime
from io import StringIO

import pyarrow as pa
import pytest

from lakehouse.views import logs
from tests.command import run
from tests.conftest import write

DAY, BAD, EMPTY = "2026-01-02", "2026-01-03", "2026-01-04"
CONF = "conf/scores.yaml"


@pytest.fixture
def lake(make_job, imputing):
    """A good day, a bad one with a row of three without a key, and no others."""
    write("lake/features", pa.table({"id": [1, 2, 3], "a": [0.1, 0.2, 0.3], "day": [DAY] * 3}))
    write("lake/features", pa.table({"id": [1, 2, None], "a": [0.1, 0.2, 0.3], "day": [BAD] * 3}))
    make_job(imputing, date=DAY, source={"where": "day = '{date}'"}, slice={"score_date": "{date}"})


@pytest.fixture
def lakehouse(lake, capfd):
    """lakehouse(command, …) → how it ended, and stderr's lines as objects."""

    def call(command, *arguments):
        done = run(capfd, command, CONF, "--engine", "local", *arguments)
        return done, [json.loads(line) for line in done.err.splitlines()]

    return call


def about(line):
    return {key: line.get(key) for key in ("job", "run_id", "date", "slice")}


def test_each_line_is_an_object_about_the_run(lakehouse):
    done, lines = lakehouse("score", "--date", DAY, "--json", "--log-format", "json")
    result = done.json
    expected = {"job": "scores", "run_id": result["run_id"], "date": DAY, "slice": {"score_date": DAY}}
    assert [about(line) for line in lines] == [expected] * len(lines)
    assert [line["event"] for line in lines][:3] == ["started", "plan", "units"]
    assert {line["level"] for line in lines} == {"info"}
    assert all(datetime.fromisoformat(line["time"]).utcoffset().total_seconds() == 0 for line in lines)
    assert lines[1]["message"].startswith("reading lake/features v1 with ")
    assert (lines[-1]["event"], lines[-1]["message"], lines[-1]["values"]) == ("ended", "published", result)


def test_an_error_is_a_line_too(lakehouse, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_LOG_FORMAT", "json")
    done, lines = lakehouse("score", "--date", BAD)
    last = lines[-1]
    assert (done.code, last["level"], last["event"], last["values"]["status"]) == (3, "error", "ended", "blocked")
    assert "Nothing was published" in last["message"]
    assert last["run_id"] == lines[0]["run_id"]


@pytest.mark.parametrize("parallel", ["1", pytest.param("2", marks=pytest.mark.long)])
def test_dates_of_a_backfill_are_told_apart(lakehouse, parallel):
    """Whether one process scores them, or each one of its own."""
    words = ["backfill", "--from", DAY, "--to", EMPTY, "--keep-going", "--log-format", "json", "--parallel", parallel]
    done, lines = lakehouse(*words)
    ended = {line["date"]: line for line in lines if line["event"] == "ended" and "date" in line}
    assert {day: (line["values"]["status"], line["level"]) for day, line in ended.items()} == {
        DAY: ("published", "info"), BAD: ("blocked", "error"), EMPTY: ("not_ready", "error"),
    }  # fmt: skip
    runs = {day: {line["run_id"] for line in lines if line.get("date") == day} for day in ended}
    assert [len(ids) for ids in runs.values()] == [1, 1, 1]
    assert len(set.union(*runs.values())) == 3
    plans = [line["values"]["run_id"] for line in lines if line["event"] == "plan"]
    assert sorted(plans) == sorted([*runs[DAY], *runs[BAD], *runs[EMPTY]])
    of_a_day = [line["event"] for line in lines if line.get("date") == DAY]
    assert [event for event in of_a_day if event in ("started", "plan", "units", "ended")] == [
        "started", "plan", "units", "ended",
    ]  # fmt: skip
    assert (done.code, lines[-1]["values"]["dates"]) == (3, {"published": 1, "blocked": 1, "not_ready": 1})


def test_a_held_run_that_is_published_keeps_its_id(lakehouse):
    _, lines = lakehouse("score", "--date", DAY, "--hold", "--log-format", "json")
    held = lines[-1]
    assert held["values"]["status"] == "held"
    _, lines = lakehouse("publish", "--run", held["run_id"], "--log-format", "json")
    assert [about(line) for line in lines] == [about(held)] * len(lines)
    assert lines[-1]["message"] == "published"


def test_a_format_that_is_none_is_refused(lakehouse, capfd):
    done = run(capfd, "score", CONF, "--log-format", "xml")
    assert (done.code, done.err) == (2, "failed: --log-format: 'xml' is none: use text or json\n")


def test_what_libraries_log_and_warn_of_is_a_line():
    to = StringIO()
    with warnings.catch_warnings(), logs.as_json(to):
        warnings.simplefilter("always")
        logging.getLogger("their.library").warning("takes %d s", 3)
        warnings.warn("will go", DeprecationWarning, stacklevel=1)
        try:
            raise ValueError("no")
        except ValueError:
            logging.getLogger("their.library").exception("failed")
    logging.getLogger("their.library").warning("not here")
    assert (logging._warnings_showwarning, logs.LOGGER.level) == (None, logging.NOTSET)
    lines = [json.loads(line) for line in to.getvalue().splitlines()]
    assert [(line["logger"], line["level"], line["event"]) for line in lines] == [
        ("their.library", "warning", "log"), ("py.warnings", "warning", "log"), ("their.library", "error", "log"),
    ]  # fmt: skip
    assert lines[0]["message"] == "takes 3 s"
    assert "ValueError: no" in lines[2]["traceback"]


def test_a_line_leaves_out_what_there_is_none_of_and_writes_any_value():
    to = StringIO()
    with logs.as_json(to):
        logs.line("note", "Zoë", {"job": "scores", "date": None, "slice": {}}, {"at": datetime(2026, 1, 2)})
        logs.line("ended", "failed", {}, level="error")
    assert "Zoë" in to.getvalue()
    note, ended = ({**json.loads(line), "time": ""} for line in to.getvalue().splitlines())
    values = {"at": "2026-01-02 00:00:00"}
    assert note == {
        "time": "", "level": "info", "event": "note", "message": "Zoë", "job": "scores", "values": values,
    }  # fmt: skip
    assert ended == {"time": "", "level": "error", "event": "ended", "message": "failed"}
