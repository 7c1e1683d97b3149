"""Publishing to Snowflake: what a run writes, once, in one transaction; and whole jobs in every direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from tests.conftest import score, write

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


def bad_features(day: str = DAY, shift: float = 0.0) -> pa.Table:
    """Features of which two rows have no key."""
    lost = features(day, 2, 38).set_column(0, "id", pa.nulls(2, pa.int64()))
    return pa.concat_tables([features(day, 38, shift=shift), lost])


@pytest.fixture
def halfway(daily, account):
    """Two slices are published; then the input of the first changes. Gives the job, and then the rows it must have."""
    write("lake/features", pa.concat_tables([bad_features(), features(NEXT, start=100)]), ["day"])
    job = daily(checks={"quarantine": {"max_fraction": 0.1}})
    score(daily(NEXT))
    score(job)
    write("lake/features", bad_features(shift=0.5), ["day"], mode="overwrite", predicate=f"day = '{DAY}'")
    return job, scores(features(rows=38, shift=0.5), features(NEXT, start=100))


def assert_published_once(account, held, job, expected) -> None:
    """Assert what an uninterrupted run leaves: rows, quarantine, both ledgers and the run's own record."""
    assert held() == expected
    newest, *_ = account.run("SELECT run_id FROM scores_runs WHERE generation = 2")
    assert held(runs=True) >= set(newest)
    for table, runs in (("scores", 3), ("scores_quarantine", 2)):
        entered = account.run(f"SELECT run_id FROM {table}_runs WHERE run_id <> ''")
        assert len(entered) == len(set(entered)) == runs
    assert account.run(f"SELECT COUNT(*) FROM scores_quarantine WHERE _run_id = '{newest[0]}'") == [(2,)]
    assert account.run("SELECT COUNT(*) FROM scores_quarantine") == [(4,)]
    recorded = [(r["status"], r["generation"]) for r in ledger.runs(ledger.state_of(job), job.job, DAY)]
    assert recorded == [("published", 2), ("published", 1)]


@pytest.mark.parametrize("action", ["error", "drop", "lost reply"])
@pytest.mark.parametrize("number", range(45))
def test_a_fault_at_any_request_leaves_what_an_uninterrupted_run_leaves(halfway, account, held, number, action):
    job, expected = halfway
    account.server.fail((REQUESTS, action, 1, number))
    try:
        score(job)
    except LakehouseError as error:
        print(number, type(error), error)
    left = account.server.fail()
    account.server.reset()
    score(job)
    assert_published_once(account, held, job, expected)
    assert not left
