"""Publishing to Snowflake: what a run writes, once, in one transaction; and whole jobs in every direction."""

from __future__ import annotations

import itertools
import shutil
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from lakehouse import ledger, pipeline, publication, sweep
from lakehouse.engines import local
from lakehouse.errors import Blocked, LakehouseError, Partial
from lakehouse.sinks import loading
from lakehouse.sinks.target import SINK
from lakehouse.snowflake import sessions
from tests.conftest import read, score, write

DAY, NEXT = "2026-01-02", "2026-01-03"
X = pd.DataFrame({"a": np.arange(40) / 7, "b": np.arange(40) % 3 - 1.0})
MODEL = LogisticRegression().fit(X, X["a"] > 3)


@pytest.fixture(scope="module")
def uri(register):
    return register(MODEL, X, method="predict_proba")


def features(day: str = DAY, rows: int = 40, start: int = 0, shift: float = 0.0) -> pa.Table:
    ids = np.arange(start, start + rows)
    return pa.table(
        {
            "id": ids,
            "a": ids / 7 + shift,
            "b": ids % 3 - 1.0,
            "country": [f"c{i % 3}" for i in ids],
            "day": [day] * rows,
        }
    )


def scores(*parts: pa.Table) -> list[tuple[Any, ...]]:
    """What a scored table must hold of these features: id, country, p rounded, day."""
    rows = []
    for part in parts:
        p = MODEL.predict_proba(part.select(["a", "b"]).to_pandas())[:, 1]
        rows += zip(
            part["id"].to_pylist(),
            part["country"].to_pylist(),
            np.round(p, 9).tolist(),
            part["day"].to_pylist(),
            strict=True,
        )
    return sorted(rows)


@pytest.fixture
def held(account):
    """held() → the scored table's rows as `scores` has them; held(runs=True) → the runs whose rows live."""

    def rows(runs: bool = False) -> Any:
        if runs:
            return {run for (run,) in account.run("SELECT DISTINCT _RUN_ID FROM scores")}
        found = account.run("SELECT id, country, p, TO_VARCHAR(score_date) FROM scores")
        return sorted((i, c, round(p, 9), d) for i, c, p, d in found)

    return rows


@pytest.fixture
def daily(make_job, uri, account):
    """daily(day) → the job of a day, from a Delta table to Snowflake; sections change it."""

    def make(day: str = DAY, **more: Any) -> Any:
        sink = {"type": "snowflake", "connection": account.name, "table": account.table("scores")}
        sections = {
            "source": {"where": "day = '{date}'"}, "model": {"method": "predict_proba"}, "keep": ["country"],
            "predictions": {"p": {"class": True}}, "slice": {"score_date": "{date}"}, "sinks": [sink], "state": "state",
        }  # fmt: skip
        return make_job(uri, date=day, **{**sections, **more})

    return make


def test_a_slice_is_published_and_replaced(daily, account, held):
    write("lake/features", pa.concat_tables([features(), features(NEXT, start=100)]))
    first = score(daily())
    assert (first.status, first.sinks[0]["version"]) == ("published", 1)
    other = score(daily(NEXT))
    assert held() == scores(features(), features(NEXT, start=100))
    assert score(daily()).status == "unchanged"
    again = score(daily(), rescore=True)
    assert held(runs=True) == {other.run_id, again.run_id}
    assert held() == scores(features(), features(NEXT, start=100))
    ledger = account.run(
        "SELECT run_id, identity, generation, row_count FROM scores_runs WHERE run_id <> '' ORDER BY published_at"
    )
    assert ledger == [
        (first.run_id, f"scores/score_date={DAY}", 1, 40), (other.run_id, f"scores/score_date={NEXT}", 1, 40),
        (again.run_id, f"scores/score_date={DAY}", 2, 40),
    ]  # fmt: skip


REQUESTS = r"^POST /(queries|session/v1/login)|^PUT /fs_bucket"
"""What the driver asks of Snowflake: statements, log-ins, uploads."""


class Crash(BaseException):
    """Stands for the end of the process: nothing in the code may catch it."""


def die() -> None:
    raise Crash


def bad_features(day: str = DAY, shift: float = 0.0) -> pa.Table:
    """Features of which two rows have no key."""
    lost = features(day, 2, 38).set_column(0, "id", pa.nulls(2, pa.int64()))
    return pa.concat_tables([features(day, 38, shift=shift), lost])


@pytest.fixture
def halfway(daily):
    """Two slices are published; then the input of the first changes. Gives the job, and then the rows it must have."""
    write("lake/features", pa.concat_tables([bad_features(), features(NEXT, start=100)]), ["day"])
    job = daily(checks={"quarantine": {"max_fraction": 0.1}})
    score(daily(NEXT))
    score(job)
    write("lake/features", bad_features(shift=0.5), ["day"], mode="overwrite", predicate=f"day = '{DAY}'")
    return job, scores(features(rows=38, shift=0.5), features(NEXT, start=100))


def assert_published_once(account, job, runs: int) -> None:
    """Assert that each of so many runs of the day has its rows set aside once, an entry in each ledger and a record."""
    wanted = [(generation,) for generation in range(1, runs + 1)]
    for table in ("scores", "scores_quarantine"):
        assert (
            account.run(f"SELECT generation FROM {table}_runs WHERE identity = '{job.job}/score_date={DAY}' ORDER BY 1")
            == wanted
        )
    assert account.run("SELECT COUNT(*) FROM scores_quarantine") == [(2 * runs,)]
    recorded = [(r["status"], r["generation"]) for r in ledger.runs(ledger.state_of(job), job.job, DAY)]
    assert sorted(recorded) == [("published", generation) for (generation,) in wanted]


@pytest.mark.parametrize(("number", "action"), [(0, "drop"), (3, "503"), (20, "drop"), (36, "lost reply")])
def test_a_fault_anywhere_in_a_run_is_mended_by_the_next(halfway, account, held, number, action):
    job, expected = halfway
    account.server.fail((REQUESTS, action, 1, number))
    with suppress(LakehouseError):
        score(job)
    assert account.server.fail() == []
    score(job)
    assert held() == expected
    assert_published_once(account, job, 2)


@pytest.fixture
def intent(halfway, monkeypatch):
    """A run that died once its intent was declared: intent, state folder, request."""
    found = []

    def die(*arguments):
        found[:] = arguments
        raise Crash

    monkeypatch.setattr(pipeline, "carry_out", die)
    with pytest.raises(Crash):
        score(halfway[0])
    return found


def carried_out(intent: Any, state: Any, request: Any) -> bool:
    """Whether a run could be finished."""
    try:
        publication.carry_out(intent, state, request)
    except (LakehouseError, Crash):
        return False
    return True


@pytest.mark.parametrize("action", ["error", "lost reply", "crash"])
def test_a_fault_at_any_statement_of_a_publish_is_mended_by_carrying_it_out_again(
    halfway, intent, account, held, monkeypatch, action
):
    """The same rows are published as one generation after the other, each with a fault at the next request."""
    job, expected = halfway
    declared, state, request = intent
    shutil.copytree("state", "kept")
    failed, runs = 0, 1
    for number in itertools.count():
        shutil.copytree("kept/staged", "state/staged", dirs_exist_ok=True)
        targets = tuple(replace(t, generation=number + 2) for t in declared.targets if t.kind == SINK)
        record = {**declared.record, "generation": number + 2, "run_id": f"{declared.run_id}-{number}"}
        mine = replace(declared, run_id=f"{declared.run_id}-{number}", targets=targets, record=record)
        with monkeypatch.context() as patched:
            if action == "crash":
                left = crash_at(patched, number)
            else:
                account.server.fail((REQUESTS, action, 1, number))
            failed += not carried_out(mine, state, request)
        missed = left if action == "crash" else account.server.fail()
        account.server.fail(("", "drop", 0))
        assert carried_out(mine, state, request)
        runs += 1
        assert held() == expected
        if missed:
            break
    ledger.close(state, declared)
    entered = account.run(
        f"SELECT generation FROM scores_runs WHERE identity = '{job.job}/score_date={DAY}' ORDER BY 1"
    )
    assert entered == [(generation,) for generation in range(1, runs + 1)]
    assert len(ledger.runs(ledger.state_of(job), job.job, DAY)) == runs
    assert number > 15
    assert failed > {"error": 5, "crash": 18, "lost reply": -1}[action]


def crash_at(monkeypatch, number: int) -> list[int]:
    """End the process, as far as the code can tell, after the n-th statement or upload; what is left to come then."""
    left = [number]

    def dying(act: Any) -> Any:
        def acting(*arguments: Any) -> Any:
            done = act(*arguments)
            if left:
                left[0] -= 1
                if left[0] < 0:
                    left.clear()
                    raise Crash
            return done

        return acting

    for name in ("cursor", "put", "described"):
        monkeypatch.setattr(sessions.Session, name, dying(getattr(sessions.Session, name)))
    return left


def test_what_dead_runs_left_in_snowflake_is_swept(daily, account, monkeypatch):
    write("lake/features", bad_features(), ["day"])
    job, enter = daily(checks={"quarantine": {"max_fraction": 0.1}}), loading._enter
    with monkeypatch.context() as patched:
        patched.setattr(
            loading, "_enter", lambda s, t, target, r: enter(s, t, target, r) if target.kind != SINK else die()
        )
        with pytest.raises(Crash):
            score(job)
    now = ledger.now()
    (waiting,) = [left for left in sweep.sweep(job, now, take_away=True) if left.table == account.table("SCORES")]
    assert (waiting.files, waiting.kept) == (2, "waits to be finished by the next run of its job")
    score(job)
    assert {left.files for left in sweep.sweep(job, now, take_away=True)} == {1}  # the dead run's table
    assert sweep.sweep(job, now, take_away=True) == []
    assert account.run("SELECT table_name FROM information_schema.tables WHERE table_name LIKE '%LOAD%'") == []
    assert account.run("LIST @scores_stage") == []


# Two tables of one job


@pytest.fixture
def both(daily, account):
    """A job into a Delta table and one in Snowflake."""
    snow = {"type": "snowflake", "connection": account.name, "table": account.table("scores")}
    return lambda day=DAY, **more: daily(day, sinks=[{"type": "delta", "table": "lake/scores"}, snow], **more)


def test_both_tables_of_a_job_get_the_same_rows_of_one_run(both, account, held):
    write("lake/features", pa.concat_tables([features(), features(NEXT, start=100)]), ["day"])
    done = score(both())
    score(both(NEXT))
    assert [(sink["type"], sink["version"]) for sink in done.sinks] == [("delta", 1), ("snowflake", 1)]
    mine = [(r["id"], r["country"], round(r["p"], 9), str(r["score_date"])) for r in read("lake/scores").to_pylist()]
    assert sorted(mine) == held() == scores(features(), features(NEXT, start=100))
    assert set(read("lake/scores")["_run_id"].to_pylist()) == held(runs=True)
    assert score(both()).status == "unchanged"
    one, other = pipeline.verified(both()).values()
    assert one == other
    assert (one.rows, one.uncompared) == (40, ())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE scores SET p = p + 1e-12 WHERE id = 7", "column 'p' has other values"),
        ("UPDATE scores SET country = 'C1' WHERE id = 7", "column 'country' has other values"),
        ("UPDATE scores SET _warnings = NULL WHERE id = 7", "column '_warnings' has other values"),
        ("DELETE FROM scores WHERE id = 7", "there are 40 rows and 39"),
    ],
)
def test_rows_that_differ_between_the_tables_are_found(both, account, change, said):
    write("lake/features", features(), ["day"])
    score(both())
    account.run(change)
    with pytest.raises(Blocked, match=said):
        pipeline.verified(both())


def test_a_sink_that_can_not_be_reached_leaves_the_run_partial_and_the_next_one_finishes_it_without_scoring(
    both, account, held, monkeypatch
):
    write("lake/features", features(), ["day"])
    account.server.fail(("^COMMIT", "error", 1))
    with pytest.raises(Partial, match="the next run of this job and slice goes on from here"):
        score(both())
    account.server.reset()
    assert read("lake/scores").num_rows == 40
    assert held() == []
    assert pipeline.status(both())[0].status == "partial"
    monkeypatch.setattr(local, "run", lambda *_: pytest.fail("scored again"))
    done = score(both())
    assert done.status == "published"
    assert held() == scores(features())
    assert set(read("lake/scores")["_run_id"].to_pylist()) == held(runs=True) == {done.run_id}
