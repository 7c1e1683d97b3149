"""Quarantine never stops a publish: where its table can't hold today's rows they go to the next one by number."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from lakehouse import pipeline, sinks
from lakehouse.engines import local
from lakehouse.engines import spark as engine
from lakehouse.errors import Blocked, Unavailable
from lakehouse.operations.replay import replay
from lakehouse.operations.sweep import sweep
from lakehouse.planning import naming
from lakehouse.planning.naming import quarantine_of
from lakehouse.planning.quarantine import numbered_table, tables
from lakehouse.runs import evidence, ledger
from lakehouse.sinks.target import Overtaken
from lakehouse.storage import locate
from lakehouse.views import terminal
from tests.conftest import read, score, version, write

ASIDE = "lake/scores_quarantine"


@pytest.fixture
def daily(make_job, imputing, monkeypatch):
    """A job that sets rows without an `a` aside."""
    monkeypatch.setattr(local, "cores", lambda: 1)
    loose = {"features": {"nulls": "quarantine"}, "checks": {"quarantine": {"max_fraction": 0.5}}}
    return lambda **sections: make_job(imputing, predictions={"p": 0}, **{**loose, **sections})


def give(kind: pa.DataType, *values: float | None, **more: list) -> None:
    """The feature table with these values of `a` in this type."""
    rows = pa.table({"id": pa.array(range(len(values)), pa.int64()), "a": pa.array(values, kind), **more})
    write("lake/features", rows, mode="overwrite", schema_mode="overwrite")


def told(job, **request) -> tuple[pipeline.Result, list[str]]:
    """A run's result and its warnings."""
    said: list[str] = []
    result = score(job, say=lambda event, v: said.append(v["message"]) if event == "warning" else None, **request)
    return result, said


def aside_of(result: pipeline.Result) -> list[str]:
    return [sink["table"] for sink in result.sinks if sink["kind"] == "quarantine"]


def test_an_older_table_that_cannot_hold_todays_rows_is_left_and_the_next_number_takes_them(daily):
    give(pa.int32(), 1, None)
    first, said = told(daily())
    assert (aside_of(first), said) == ([ASIDE], [])
    give(pa.float64(), 1.5, None, 2.5, None)
    second, said = told(daily())
    assert (second.status, aside_of(second)) == ("published", [f"{ASIDE}_2"])
    why = f"{ASIDE} can't hold these rows (a is int32 there and double here)"
    assert said == [f"rows that are set aside go to {ASIDE}_2, since {why}"]
    assert read("lake/scores")["id"].to_pylist() == [0, 2]
    assert (read(ASIDE).num_rows, read(f"{ASIDE}_2")["id"].to_pylist()) == (1, [1, 3])
    give(pa.float64(), 1.5, None)
    assert aside_of(told(daily())[0]) == [f"{ASIDE}_2"]
    give(pa.int32(), 2, None)
    assert aside_of(told(daily())[0]) == [ASIDE]


def test_a_column_that_the_older_table_holds_without_loss_is_stored_in_its_type(daily):
    give(pa.float64(), 1.5, None)
    score(daily())
    give(pa.int32(), 7, None, other=[1, 2])
    result, said = told(daily(keep=["other"], sinks=[{"type": "delta", "table": "lake/more"}],
                              checks={"quarantine": {"table": ASIDE, "max_fraction": 0.5}}))  # fmt: skip
    assert (aside_of(result), said) == ([ASIDE], [])
    rows = read(ASIDE)
    assert (rows.schema.field("a").type, set(rows["other"].to_pylist())) == (pa.float64(), {None, 2})


@pytest.mark.parametrize("again", ["first", "second"])
def test_rows_in_either_table_are_replayed(daily, again):
    runs = {}
    give(pa.int32(), 1, None)
    runs["first"] = score(daily(), rescore=True)
    if again == "second":
        give(pa.float64(), 1.5, None)
        runs["second"] = score(daily())
        assert aside_of(runs["second"]) == [f"{ASIDE}_2"]
    job = daily(features={"nulls": "model"})
    record = ledger.record_of(naming.state_of(job), "scores", runs[again].run_id)
    request = pipeline.Request("local", ledger.now(), pipeline.new_run_id())
    done = replay(job, record, request)
    assert (done.status, done.rows_read, done.rows_scored) == ("published", 1, 1)
    assert read("lake/scores")["id"].to_pylist() == [0, 1]


def test_rows_that_an_older_table_holds_in_wider_types_are_replayed_in_their_own(daily, register):
    x = pd.DataFrame({"a": np.arange(40, dtype=np.int32), "b": np.linspace(0, 4, 40)})
    uri = register(make_pipeline(SimpleImputer(), LinearRegression()).fit(x, x["b"]), x)
    rows = pa.table({"id": [0, 1], "a": [1, 2], "b": [0.5, None], "k": [3, 4]})
    write("lake/features", rows)
    kept = {"model": {"uri": uri}, "keep": ["k"]}
    score(daily(**kept, features={"nulls": "quarantine", "cast": {"a": "integer"}}))
    narrow = pa.schema([("id", pa.int64()), ("a", pa.int32()), ("b", pa.float64()), ("k", pa.int32())])
    write("lake/features", rows.cast(narrow), mode="overwrite", schema_mode="overwrite")
    kept |= {"sinks": [{"type": "delta", "table": "lake/more"}], "state": "lake/state"}
    checks = {"quarantine": {"table": ASIDE, "max_fraction": 0.5}}
    second = score(daily(**kept, checks=checks))
    assert aside_of(second) == [ASIDE]
    job = daily(**kept, checks=checks, features={"nulls": "model"})
    record = ledger.record_of(naming.state_of(job), "scores", second.run_id)
    done = replay(job, record, pipeline.Request("local", ledger.now(), pipeline.new_run_id()))
    assert (done.status, done.rows_scored) == ("published", 1)
    more = read("lake/more")
    assert (more.schema.field("k").type, more.sort_by("id")["k"].to_pylist()) == (pa.int32(), [3, 4])


def test_a_rule_on_a_column_named_like_the_slice_sets_rows_aside_in_its_slice(daily):
    write("lake/features", pa.table({"id": [0, 1], "a": [0.5, 1.5], "day": ["2026-01-02", None]}))
    Path("suite.json").write_text(
        json.dumps({"expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "day"}}]})
    )
    checks = {"features": "suite.json", "quarantine": {"max_fraction": 0.5}}
    done = score(daily(slice={"day": "2026-01-02"}, checks=checks))
    assert (done.status, read("lake/scores")["id"].to_pylist()) == ("published", [0])
    assert read(ASIDE).select(["id", "day"]).to_pylist() == [{"id": 1, "day": dt.date(2026, 1, 2)}]


def other_table() -> None:
    write(ASIDE, pa.table({"mine": [1]}))


def other_files() -> None:
    Path(ASIDE).mkdir(parents=True)
    pq.write_table(pa.table({"mine": [1]}), f"{ASIDE}/part-0.parquet")


def a_file() -> None:
    Path("lake").mkdir(exist_ok=True)
    Path(ASIDE).write_text("mine")


def broken_log() -> None:
    Path(ASIDE, "_delta_log").mkdir(parents=True)
    Path(ASIDE, "_delta_log", "00000000000000000000.json").write_text("{")


def with_constraint() -> None:
    a_quarantine()
    from deltalake import DeltaTable

    DeltaTable(ASIDE).alter.add_constraint({"few": "id < 100"})


def a_quarantine(partition_by=()) -> None:
    reason = pa.list_(pa.struct([("rule", pa.string()), ("column", pa.string()), ("observed", pa.string())]))
    rows = {"id": pa.array([], pa.int64()), "_run_id": pa.array([], pa.string()), "_job": pa.array([], pa.string()),
            "_reasons": pa.array([], reason)}  # fmt: skip
    write(ASIDE, pa.table(rows), partition_by)


def partitioned() -> None:
    a_quarantine(["_job"])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (other_table, "is no quarantine table"), (other_files, "is no table and holds other files (part-0.parquet)"),
        (a_file, "is a file"), (broken_log, "the Delta table can't be read"),
        (with_constraint, "can't take every row: it has id < 100"), (partitioned, "is partitioned by ['_job']"),
    ],
)  # fmt: skip
def test_what_else_lies_at_the_quarantines_place_stops_no_run(daily, make, why):
    make()
    files = {p: p.read_bytes() for p in Path("lake").rglob("*") if p.is_file()}
    give(pa.float64(), 1.5, None)
    result, said = told(daily())
    assert (result.status, aside_of(result), len(said)) == ("published", [f"{ASIDE}_2"], 1)
    assert why in said[0]
    assert {p: p.read_bytes() for p in files} == files
    assert [row["rows"] for row in evidence.quarantine_counts(daily(), every=False)] == [1]


def test_a_new_table_may_hold_the_jobs_own_state_and_quarantine(daily):
    give(pa.float64(), 1.5, None)
    within = {"state": "lake/scores/state", "checks": {"quarantine": {"table": "lake/scores/aside", "max_fraction": 0}}}
    with pytest.raises(Blocked):
        score(daily(**within))
    assert Path("lake/scores/aside/_delta_log").is_dir()
    within["checks"]["quarantine"]["max_fraction"] = 0.5
    assert score(daily(**within)).status == "published"


@pytest.mark.long
def test_executors_are_asked_for_the_table_that_takes_the_rows(daily, spark, monkeypatch):
    monkeypatch.setattr(engine, "one_machine", lambda session: False)
    a_file()
    give(pa.float64(), 1.5, None)
    result, _ = told(daily(), engine="spark")
    assert (result.status, aside_of(result)) == ("published", [f"{ASIDE}_2"])


@pytest.mark.parametrize("name", ["_probe-1", "_lakehouse_clock-1", "run-1/x", ".hidden"])
def test_what_other_runs_leave_at_the_quarantines_place_is_nobodys(daily, name):
    file = Path(ASIDE, name)
    file.parent.mkdir(parents=True)
    file.write_text("x")
    assert tables(daily())[0] == quarantine_of(daily())
    give(pa.float64(), 1.5, None)
    result, said = told(daily())
    assert (aside_of(result), said) == ([ASIDE], [])


def test_a_number_that_is_another_table_of_the_job_is_passed(daily):
    give(pa.int32(), 1, None)
    score(daily())
    give(pa.float64(), 1.5, None)
    write(f"{ASIDE}_2", read("lake/features"))
    result, said = told(daily(source={"table": f"{ASIDE}_2"}))
    assert aside_of(result) == [f"{ASIDE}_3"]
    assert f"{ASIDE}_2 is another table of this job" in said[0]


def test_a_blocked_run_names_the_table_that_has_its_rows_and_the_dry_run_says_nothing_of_rows_to_come(daily):
    other_table()
    give(pa.float64(), 1.5, None)
    strict = daily(checks={"quarantine": {"max_fraction": 0.0}})
    assert told(strict, dry_run=True)[0].status == "planned"
    assert not Path(f"{ASIDE}_2").exists()
    with pytest.raises(Blocked, match=rf"The rows are in {ASIDE}_2\."):
        score(strict)


@pytest.mark.parametrize("status", ["failed", "unrecorded"])
def test_rows_in_all_numbers_are_counted_and_those_of_a_run_that_ended_after_them_are_not_current(
    daily, monkeypatch, status
):
    """A run that was overtaken, or died, right after its quarantine commit."""
    ends = Overtaken("another run published; run again") if status == "failed" else KeyboardInterrupt()
    give(pa.int32(), 1, None)
    first = score(daily())
    give(pa.float64(), 1.5, 2.5, None, None)
    published = sinks.of("delta").publish

    def overtaken(target, *rest):
        if target.kind == "sink":
            raise ends
        return published(target, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(sinks.of("delta"), "publish", overtaken)
        with pytest.raises(type(ends)):
            score(daily())
    for intent in Path("lake/scores_state/intents").rglob("*.json"):
        intent.unlink()
    rows = {row["run_id"]: row for row in evidence.quarantine_counts(daily(), every=True)}
    lost = next(run for run in rows if run != first.run_id)
    assert [rows[run][k] for run in (first.run_id, lost) for k in ("status", "superseded", "rows")] == [
        "published", False, 1, status, None, 2
    ]  # fmt: skip
    assert [row["run_id"] for row in evidence.quarantine_counts(daily(), every=False)] == [first.run_id]
    assert status in terminal.quarantine_text(list(rows.values()))


def test_a_run_that_waits_to_be_finished_is_still_of_interest(daily, monkeypatch):
    give(pa.float64(), 1.5, None)
    with monkeypatch.context() as patched:
        patched.setattr(pipeline.ledger, "record", lambda *_: (_ for _ in ()).throw(Unavailable("the disk is full")))
        score(daily())
    assert [row["status"] for row in evidence.quarantine_counts(daily(), every=False)] == ["unfinished"]
    score(daily())
    assert [row["status"] for row in evidence.quarantine_counts(daily(), every=False)] == ["published"]


def test_each_reason_is_shown_with_what_one_row_had(daily):
    words = ["fine", "\x1b[2Jworse\n", "\x1b[2Jbad\n", "bad" * 40]
    rule = {
        "type": "expect_column_values_to_be_in_set",
        "kwargs": {"column": "word", "value_set": ["fine"], "mostly": 0.1},
    }
    Path("suite.yaml").write_text(json.dumps({"name": "s", "expectations": [rule]}))
    give(pa.float64(), 1.5, 2.5, 3.5, 4.5, word=words)
    score(daily(checks={"features": "suite.yaml", "quarantine": {"max_fraction": 1.0}}))
    [counted] = evidence.quarantine_counts(daily(), every=False)
    assert (counted["rows"], counted["column"], counted["example"]) == (3, "word", "\x1b[2Jbad\n")
    shown = terminal.quarantine_text([counted, {**counted, "example": words[3]}, {**counted, "example": None}])
    assert [line.split("  ")[-1] for line in shown.split("\n")[1:3]] == [" [2Jbad ", ("bad" * 40)[:59] + "…"]
    assert "\x1b" not in shown


def test_sweep_looks_into_every_number(daily, monkeypatch, workspace):
    other_table()
    give(pa.float64(), 1.5, None)

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipeline.checks, "tally", die)
        with pytest.raises(KeyboardInterrupt):
            score(daily())
    left = [one for one in sweep(daily(), take_away=True) if one.table == f"{ASIDE}_2"]
    assert [one.files for one in left] == [1]
    assert not Path(f"{ASIDE}_2").exists()


def test_the_page_shows_rows_of_the_table_that_was_used(daily):
    other_table()
    give(pa.float64(), 1.5, None)
    run = score(daily()).run_id
    facts = json.loads(Path(f"lake/scores_state/reports/{run}.json").read_text())
    assert [row["id"] for row in facts["samples"]] == [1]
    assert f"{ASIDE}_2" in evidence.page(daily(), run)[1].decode()


def test_names_are_numbered_in_every_system(make_job, workspace):
    table = quarantine_of(make_job("models:/m/1"))
    assert [numbered_table(table, n).table for n in (1, 2)] == [table.table, locate(f"{ASIDE}_2").uri]
    there = {"type": "snowflake", "connection": "c", "table": 'D.S."my scores"'}
    snow = quarantine_of(make_job("models:/m/1", sinks=[there], state="lake/state"))
    assert numbered_table(snow, 3).table == '"D"."S"."my scores_QUARANTINE_3"'


def test_the_end_of_a_run_shows_keys_predictions_and_then_what_was_kept(daily):
    kept = {f"kept{i}": ["x"] for i in range(7)}
    give(pa.float64(), 1.5, **kept)
    job = daily(keep=list(kept))
    shown = terminal.outcome(job, score(job), "").splitlines()[2]
    assert shown.split() == ["id", "p", "kept0", "kept1", "kept2", "kept3", "_model_version"]


def test_no_table_of_the_next_number_is_made_where_no_row_is_set_aside(daily):
    other_table()
    give(pa.float64(), 1.5)
    result, said = told(daily())
    assert (result.status, said, version(f"{ASIDE}_2")) == ("published", [], -1)
