"""Looking at the runs of a job: of any date, by the beginning of an id, and where tables are named by the date."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.engines import local
from tests import command
from tests.conftest import score, write

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"]), x)


@pytest.fixture
def daily(make_job, uri, monkeypatch, lake):
    """A job of three days, each with a row that has no key; its table is named as told."""
    monkeypatch.setattr(local, "cores", lambda: 1)
    rows = [(i, day) for day in DAYS for i in (1, 2, None)]
    days = [day for _, day in rows]
    write(f"{lake}/features", pa.table({"id": [i for i, _ in rows], "a": [0.1] * 9, "day": days}), ["day"])

    def make(table, day=DAYS[0], **sections):
        return make_job(
            uri, date=day, source={"where": "day = '{date}'", "table": f"{lake}/features"}, predictions={"p": 0},
            sinks=[{"type": "delta", "table": f"{lake}/{table}"}], checks={"quarantine": {"max_fraction": 0.5}},
            **sections,
        )  # fmt: skip

    return make


@pytest.mark.parametrize("table", ["scores_{date}", "{date}/scores", "{date}/to_{date}"])
@pytest.mark.quick("disk-{date}/scores")
def test_runs_of_tables_that_are_named_by_the_date_are_found(daily, capfd, table):
    job = daily(table)
    newest = {day: score(daily(table, day)).run_id for day in (DAYS[1], DAYS[0])}
    listed = command.run(capfd, "runs", job.path, "--json")
    assert listed.code == 0
    rows = command.run(capfd, "runs", job.path).out.splitlines()[1:]
    assert [row.split()[-1] for row in rows] == [newest[DAYS[0]], newest[DAYS[1]]]
    aside = command.run(capfd, "quarantine", job.path).out
    assert all(run in aside for run in newest.values())
    told = command.run(capfd, "status", job.path, "--json")
    assert (told.code, told.json["run_id"], told.json["date"]) == (0, newest[DAYS[0]], DAYS[0])
    page = command.run(capfd, "report", job.path, "--run", newest[DAYS[1]][:8], "--out", "page.html")
    assert (page.code, newest[DAYS[1]] in page.out) == (0, True)
    assert command.run(capfd, "sweep", job.path).out == "nothing is left over\n"


@pytest.mark.parametrize("lake", ["disk"], indirect=True)
@pytest.mark.parametrize(("table", "aside"), [("s_{date}", "q"), ("s", "q_{date}"), ("s_{date}", "q_{date}")])
def test_all_dates_are_looked_at_whatever_of_a_job_is_named_by_them(make_job, uri, daily, capfd, table, aside):
    def of(day):
        checks = {"quarantine": {"max_fraction": 0.5, "table": f"lake/{aside}"}}
        return make_job(
            uri, date=day, source={"where": "day = '{date}'", "table": "lake/features"}, predictions={"p": 0},
            sinks=[{"type": "delta", "table": f"lake/{table}"}], checks=checks, slice={"score_date": "{date}"},
        )  # fmt: skip

    done = {score(of(day)).run_id for day in DAYS[:2]}
    counted = json.loads(command.run(capfd, "quarantine", of(DAYS[0]).path, "--json").out)
    assert {row["run_id"]: (row["status"], row["rows"]) for row in counted} == dict.fromkeys(done, ("published", 1))
    (Path("lake") / f"{table.format(date='2026-02-30')}_state").mkdir(exist_ok=True)
    left = [Path("lake", place.format(date=DAYS[0]), "run-dead", "rows.parquet") for place in (table, aside)]
    for file in left:
        file.parent.mkdir()
        file.write_text("staged")
    swept = command.run(capfd, "sweep", of(DAYS[0]).path, "--json")
    assert sorted((row["table"], row["run_id"]) for row in json.loads(swept.out)) == sorted(
        (str(file.parent.parent), "dead") for file in left
    )
    assert command.run(capfd, "runs", of(DAYS[0]).path).code == 0


@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_status_without_a_date_is_that_of_the_newest_run(daily, capfd):
    job = daily("scores", slice={"score_date": "{date}"})
    before = command.run(capfd, "status", job.path)
    assert (before.code, "give --date" in before.err) == (2, True)
    for day in (DAYS[2], DAYS[1]):
        score(daily("scores", day, slice={"score_date": "{date}"}))
    told = command.run(capfd, "status", job.path, "--json")
    assert (told.code, told.json["status"], told.json["date"]) == (0, "published", DAYS[1])


@pytest.mark.parametrize("lake", ["disk"], indirect=True)
def test_a_run_is_named_by_the_beginning_of_its_id(daily, capfd, monkeypatch):
    job = daily("scores", slice={"score_date": "{date}"})
    ids = ["3f2a0000-0000-4000-8000-000000000001", "3f2b0000-0000-4000-8000-000000000002"]
    for day, run in zip(DAYS, ids, strict=False):
        monkeypatch.setattr("lakehouse.pipeline.new_run_id", lambda run=run: run)
        score(daily("scores", day, slice={"score_date": "{date}"}))

    def page(run):
        return command.run(capfd, "report", job.path, "--out", "page.html", "--run", run)

    assert [ids[0] in page("3f2a").out, ids[1] in page(ids[1]).out] == [True, True]
    several, none = page("3f2"), page("4")
    assert (several.code, "2 runs of scores begin with '3f2'" in several.err) == (2, True)
    assert all(f"{run}  {day} published" in several.err for day, run in zip(DAYS, ids, strict=False))
    assert (none.code, "has no run '4' on record" in none.err) == (2, True)
    replayed = command.run(capfd, "replay", job.path, "--run", "3f2a", "--engine", "local", "--json")
    assert replayed.json["date"] == DAYS[0]
