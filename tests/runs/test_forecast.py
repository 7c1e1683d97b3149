"""What a dry run says of how long a run will take, by the job's earlier runs."""

from __future__ import annotations

from lakehouse.runs.forecast import LOOKED_AT, forecast
from lakehouse.views import terminal


def run(rows, score, engine="spark", **more):
    return {"engine": engine, "rows_read": rows, "seconds": {"plan": 2.0, "score": score, "publish": 1.0}, **more}


def test_a_run_takes_as_long_as_earlier_ones_did():
    records = [run(1_000, 1.0), run(2_000, 1.0), run(3_000, 1.0)]
    assert forecast(records, 20_000, "spark") == (
        "about 13 s, as the last 3 runs on the spark engine took (2,000 rows/s in the pass)"
    )
    assert forecast(records[:1], 20_000, "spark").startswith("about 23 s, as the last run")


def test_only_runs_that_scored_rows_on_this_engine_tell():
    assert forecast([run(1_000, 1.0, "local"), run(0, 1.0), run(5, 0.0)], 10, "spark") == ""
    assert forecast([run(1_000, 1.0)], None, "spark") == ""
    old = [run(1_000, 1.0)] * LOOKED_AT + [run(10, 1.0)] * 50
    assert "(1,000 rows/s" in forecast(old, 10, "spark")


def test_runs_tell_what_workers_spent_their_time_on():
    assert terminal._core_seconds({"rows_read": 500_000, "work": {"core": 0.6}}) == "1.20"
    assert terminal._core_seconds({"rows_read": 500_000}) == terminal._shares({}) == ""
    assert terminal._shares({"reading": 1.0, "model": 3.0, "core": 9.0}) == "reading 25% model 75%"
