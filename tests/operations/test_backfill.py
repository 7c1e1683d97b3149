"""`lakehouse backfill`: many dates leave what each by itself would have left, and one that fails is told from the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.errors import ConfigError
from lakehouse.operations import backfill
from lakehouse.operations.backfill import NOT_RUN, Asked, Outcome
from lakehouse.operations.days import dates
from lakehouse.planning import naming
from lakehouse.runs import ledger
from lakehouse.views import dates as views
from lakehouse.views.dates import summary
from tests.conftest import opened, read, score, write

DAYS = [f"2026-01-0{number}" for number in range(1, 7)]
EMPTY, BAD = DAYS[3], DAYS[4]


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"] * 2), x)


@pytest.fixture
def month(make_job, uri):
    """Days of three rows each, of which one has none, and one a row too many without a key."""

    def make(lake: str = "lake", **sections):
        rows = [(day, number, 0.5 * number) for day in DAYS if day != EMPTY for number in (1, 2, 3)]
        keys = pa.array([None if day == BAD and number > 1 else number for day, number, _ in rows], pa.int64())
        days, _, values = zip(*rows, strict=True)
        write(f"{lake}/features", pa.table({"id": keys, "a": list(values), "day": list(days)}))
        job = make_job(
            uri,
            date=DAYS[0],
            lake=lake,
            job=lake,
            source={"where": "day = '{date}'", "min_rows": 1},
            slice={"score_date": "{date}"},
            **sections,
        )
        return Asked(f"conf/{job.job}.yaml", engine="local")

    return make


def ended(found):
    return {one.date: one.status for one in found}


EXPECTED = dict.fromkeys(DAYS, "published") | {EMPTY: "not_ready", BAD: "blocked"}


def test_every_date_is_scored_once_and_what_fails_is_told(month):
    asked, told = month(), list[str]()
    shown = backfill.Shown(end=lambda one: told.append(one.date))
    found = backfill.backfill(asked, DAYS, keep_going=True, shown=shown)
    assert ended(found) == EXPECTED
    assert told == DAYS
    assert {one.date: one.code for one in found if one.code} == {EMPTY: 6, BAD: 3}
    assert "no row passes source.where" in found[3].message
    assert "Nothing was published" in found[4].message
    assert (found[0].rows_read, found[0].rows_scored, found[4].rows_quarantined) == (3, 3, 2)
    before = opened("lake/scores").version()
    again = backfill.backfill(asked, DAYS, keep_going=True)
    assert [s for s in ended(again).values() if s == "unchanged"] == ["unchanged"] * 4
    assert opened("lake/scores").version() == before


def test_after_a_date_that_failed_no_other_is_begun(month):
    found = backfill.backfill(month(), DAYS)
    assert ended(found) == EXPECTED | dict.fromkeys(DAYS[4:], "not run")


def test_it_leaves_what_each_date_by_itself_leaves(month):
    asked = month("one")
    backfill.backfill(asked, DAYS[:3])
    other = month("other")
    for day in DAYS[:3]:
        score(other.load(day))
    assert values("one/scores") == values("other/scores")


def values(table: str) -> list[tuple]:
    rows = read(table).to_pylist()
    return sorted((str(row["score_date"]), row["id"], row["prediction"]) for row in rows)


@pytest.mark.long
def test_spark_has_one_session_for_dates_in_parallel(month, spark):
    one, two = month("one"), month("two")
    backfill.backfill(one, DAYS, keep_going=True)
    found = backfill.backfill(Asked(two.conf, engine="spark"), DAYS, 3, keep_going=True)
    assert ended(found) == EXPECTED
    assert values("one/scores") == values("two/scores")
    assert spark.range(3).count() == 3  # somebody else's session stays


@pytest.mark.long
def test_processes_score_dates_in_parallel(month):
    one, two = month("one"), month("two")
    backfill.backfill(one, DAYS, keep_going=True)
    found = backfill.backfill(two, DAYS, 2, keep_going=True)
    assert ended(found) == EXPECTED
    assert values("one/scores") == values("two/scores")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (("2026-01-30", "2026-02-02", "day"), ["2026-01-30", "2026-01-31", "2026-02-01", "2026-02-02"]),
        (("2026-01-01", "2026-01-20", "week"), ["2026-01-01", "2026-01-08", "2026-01-15"]),
        (("9999-12-30", "9999-12-31", "day"), ["9999-12-30", "9999-12-31"]),
        (("9999-12-20", "9999-12-31", "week"), ["9999-12-20", "9999-12-27"]),
        (("9999-11-01", "9999-12-31", "month"), ["9999-11-01", "9999-12-01"]),
        (("2026-11-28", "2027-02-28", "month"), ["2026-11-28", "2026-12-28", "2027-01-28", "2027-02-28"]),
        (("2026-01-01", "2026-01-01", "month"), ["2026-01-01"]),
    ],
)
def test_dates(given, found):
    assert dates(*given) == found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("2026-01-02", "2026-01-01", "day"), "--to 2026-01-01 lies before --from 2026-01-02"),
        (("2026-1-2", "2026-01-05", "day"), "--from: '2026-1-2' is not a date: give YYYY-MM-DD"),
        (("2026-01-02", "20260105", "day"), "--to: '20260105' is not a date: give YYYY-MM-DD"),
        (("2026-01-31", "2026-05-01", "month"), "--from 2026-01-31: not every month has a 31th"),
        (("2026-01-02", "2026-01-05", "hour"), "--every: 'hour' is none: use day, week, month"),
    ],
)
def test_dates_that_are_none(given, said):
    with pytest.raises(ConfigError) as error:
        dates(*given)
    assert said in str(error.value)


def test_dates_without_slices_of_their_own_are_refused(make_job, uri):
    write("lake/features", pa.table({"id": [1], "a": [0.1]}))
    make_job(uri)
    with pytest.raises(ConfigError, match="2026-01-01 and 2026-01-02 would replace the same rows of lake/scores"):
        backfill.backfill(Asked("conf/scores.yaml", engine="local"), DAYS)
    assert not Path("lake/scores").exists()


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "lakehouse.cli", "backfill", "conf/lake.yaml", "--engine", "local", *words]


@pytest.mark.slow
def test_the_command_line(month):
    month()
    done = subprocess.run(
        command("--from", DAYS[0], "--to", DAYS[4], "--keep-going", "--json"),
        capture_output=True,
        text=True,
        check=False,
    )
    *lines, last = map(json.loads, done.stdout.splitlines())
    assert [(line["date"], line["status"]) for line in lines] == list(EXPECTED.items())[:5]
    assert last == {"status": "failed", "code": 3, "dates": {"published": 3, "not_ready": 1, "blocked": 1}}
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_the_command_line_for_people(month):
    backfill.backfill(month(), DAYS[:2])
    told = subprocess.run(command("--from", DAYS[0], "--to", DAYS[1]), capture_output=True, text=True, check=False)
    assert told.returncode == 0
    assert told.stdout.splitlines() == ["2 dates: 2 unchanged"]
    assert [line.split()[:2] for line in told.stderr.splitlines()] == [[day, "UNCHANGED"] for day in DAYS[:2]]
    one = backfill.Outcome(DAYS[0], "published")
    assert summary([one]) == "1 date: 1 published"


@pytest.mark.long
@pytest.mark.parametrize("parallel", ["1", "2"])
def test_one_that_is_killed_is_gone_on_with(month, parallel):
    """The first process ends in the middle; what the next one leaves is what one that was not killed leaves."""
    month("other")
    backfill.backfill(Asked("conf/other.yaml", engine="local"), DAYS, keep_going=True)
    month()
    words = ("--from", DAYS[0], "--to", DAYS[-1], "--keep-going", "--parallel", parallel)
    first = subprocess.Popen(
        command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    until = time.monotonic() + 60
    while not Path("lake/scores/_delta_log/00000000000000000001.json").exists() and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = subprocess.run(command(*words), capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert values("lake/scores") == values("other/scores")


def _dies(asked, day, run_id, say=None, watch=None):
    """In place of scoring a date: the process of one is killed once another one is at work too, the others go on."""
    Path(f"at-{day}").touch()
    until = time.monotonic() + 60
    while len(list(Path().glob("at-*"))) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    if day == DAYS[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    if not Path("again").exists():
        Path("again").touch()
        time.sleep(5)
    return backfill.Outcome(day, "published")


@pytest.mark.long
@pytest.mark.parametrize("keep_going", [False, True])
def test_a_process_that_is_killed_is_named_with_its_date_and_the_others_go_on(month, monkeypatch, keep_going):
    asked, told = month(), list[str]()
    monkeypatch.setattr(backfill, "score_date", _dies)
    shown = backfill.Shown(end=lambda one: told.append(one.date))
    found = backfill.backfill(asked, DAYS[:4], 2, keep_going=keep_going, shown=shown)
    first, second, *others = found
    assert (first.status, first.code, first.traceback) == ("failed", 5, "")
    assert first.message.startswith(f"the process that scored {DAYS[0]} ended with exit code -9 by SIGKILL")
    assert "run the same command again to go on" in first.message
    assert [one.status for one in others] == (["published"] * 2 if keep_going else ["not run"] * 2)
    assert second.status in ("published", *([] if keep_going else ["not run"]))  # or it was done before it was stopped
    assert len(set(told)) == len(told) >= (4 if keep_going else 2)


@pytest.mark.long
def test_one_that_is_stopped_says_how_far_it_came(month):
    month()
    words = ("--from", DAYS[0], "--to", DAYS[-1], "--keep-going", "--parallel", "2")
    running = subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    running.stderr.readline()
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 143
    assert "of 6 dates had ended; run it again to go on" in said
    assert "Traceback" not in said


def test_dates_are_named_that_were_not_begun():
    ended = {"2026-01-01": Outcome("2026-01-01", "published"), "2026-01-03": Outcome("2026-01-03", "blocked", 3)}
    found = [ended.get(day) or Outcome(day, NOT_RUN) for day in dates("2026-01-01", "2026-01-06")]
    told = views.summary(found).splitlines()
    assert told[1:3] == ["not scored: 2026-01-03", "not begun: 2026-01-02, 2026-01-04 to 2026-01-06"]
    assert views.summary(found[:1]) == "1 date: 1 published"


def test_one_that_is_stopped_names_what_is_left(month, monkeypatch):
    month()
    score_date = backfill.score_date

    def stop(asked, day, *more):
        if day == DAYS[2]:
            raise KeyboardInterrupt
        return score_date(asked, day, *more)

    monkeypatch.setattr(backfill, "score_date", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        backfill.backfill(Asked("conf/lake.yaml", engine="local"), DAYS, keep_going=True)
    left = f"{DAYS[2]} to {DAYS[-1]}"
    assert stopped.value.args == (f"2 of {len(DAYS)} dates had ended; run it again to go on with {left}",)


JANUARY = [f"2026-01-{number:02d}" for number in range(1, 32)]
DISTANCES = ("psi", "js", "ks")
CORRECTED, SHORT_OF_KEYS, LATE = JANUARY[4], JANUARY[9], JANUARY[16]


def input_of(day: str, *, final: bool = True) -> pa.Table:
    """Three rows of a day, of which one day has two without a key; `final`: as they are after the correction."""
    number, shift = JANUARY.index(day), 10.0 if final and day == CORRECTED else 0.0
    keys = [None if day == SHORT_OF_KEYS and row > 1 else 100 * number + row for row in (1, 2, 3)]
    a = [number + 0.5 * row + shift for row in (1, 2, 3)]
    return pa.table({"id": pa.array(keys, pa.int64()), "a": a, "day": [day] * 3})


def january(make_job, uri: str, lake: str, allowed: float) -> Asked:
    """The job file of a month, which lets this part of a day's rows be set aside."""
    job = make_job(
        uri,
        date=JANUARY[0],
        lake=lake,
        job=lake,
        source={"where": "day = '{date}'"},
        slice={"score_date": "{date}"},
        checks={"quarantine": {"max_fraction": allowed}},
    )
    return Asked(f"conf/{job.job}.yaml", engine="local")


def left_by(asked: Asked) -> dict[str, list[tuple]]:
    """What a month's runs left: scores, and of the runs that are live the counts, quarantined rows and metrics.

    But for the distances to a baseline, which is the first run that was published with a model version.
    """
    job = asked.load(JANUARY[0])
    records = ledger.runs(naming.state_of(job), job.job)
    over = ledger.superseded_runs(records)
    days = {r["run_id"]: r["date"] for r in records if r["run_id"] not in over}
    counted = ("date", "status", "rows_read", "rows_scored", "rows_quarantined", "model_version")
    aside = [r for r in read(f"{job.job}/scores_quarantine").to_pylist() if r["_run_id"] in days]
    metrics = [
        r
        for r in read(naming.state_of(job).join("metrics").uri).to_pylist()
        if r["run_id"] in days and r["metric"] not in DISTANCES
    ]
    named = ("subject", "name", "column", "metric", "value")
    return {
        "scores": values(f"{job.job}/scores"),
        "runs": sorted(tuple(r[name] for name in counted) for r in records if r["run_id"] in days),
        "quarantine": sorted((str(r["score_date"]), str(r["id"]), r["a"], r["_reasons"][0]["rule"]) for r in aside),
        "metrics": sorted((days[r["run_id"]], *(str(r[name]) for name in named)) for r in metrics),
    }


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("parallel", [1, 2])
def test_a_month_with_faults_ends_as_a_clean_one(make_job, uri, parallel):
    """Killed in the middle, a day that is blocked until it may have more set aside, one that is corrected after it was
    scored, one whose input comes late."""
    clean = january(make_job, uri, "clean", 0.7)
    for day in JANUARY:
        write("clean/features", input_of(day), ["day"])
    assert {one.status for one in backfill.backfill(clean, JANUARY)} == {"published"}

    faulty = january(make_job, uri, "faulty", 0.01)
    for day in JANUARY:
        if day != LATE:
            write("faulty/features", input_of(day, final=False), ["day"])
    words = ["--from", JANUARY[0], "--to", JANUARY[-1], "--keep-going", "--parallel", str(parallel), "--json"]
    words = [word.replace("conf/lake.yaml", "conf/faulty.yaml") for word in command(*words)]
    first = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 120
    while not Path("faulty/scores/_delta_log/00000000000000000009.json").exists() and time.monotonic() < until:
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert 9 <= opened("faulty/scores").version() < len(JANUARY) - 2

    done = subprocess.run(words, capture_output=True, text=True, check=False)
    told = {line["date"]: line["status"] for line in map(json.loads, done.stdout.splitlines()[:-1])}
    assert done.returncode == 3
    assert {day: told[day] for day in JANUARY if told[day] not in ("published", "unchanged")} == {
        SHORT_OF_KEYS: "blocked",
        LATE: "not_ready",
    }
    assert "unchanged" in told.values()

    faulty = january(make_job, uri, "faulty", 0.7)
    found = ended(backfill.backfill(faulty, JANUARY, parallel, keep_going=True))
    assert found == dict.fromkeys(JANUARY, "published") | {LATE: "not_ready"}
    write("faulty/features", input_of(CORRECTED), mode="overwrite", predicate=f"day = '{CORRECTED}'")
    write("faulty/features", input_of(LATE), ["day"])
    found = ended(backfill.backfill(faulty, JANUARY, parallel, keep_going=True))
    assert found == dict.fromkeys(JANUARY, "unchanged") | {CORRECTED: "published", LATE: "published"}
    version = opened("faulty/scores").version()
    assert set(ended(backfill.backfill(faulty, JANUARY, parallel)).values()) == {"unchanged"}
    assert opened("faulty/scores").version() == version

    expected, got = left_by(clean), left_by(faulty)
    assert len(expected["scores"]) == 3 * len(JANUARY) - 2
    assert expected["quarantine"] == [(SHORT_OF_KEYS, "None", a, "key_not_null") for a in (10.0, 10.5)]
    for what in expected:
        assert got[what] == expected[what], what
