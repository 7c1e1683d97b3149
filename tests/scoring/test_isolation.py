"""Rows on which a model raises: exactly these are set aside, whatever the model does to what it is given, at a bounded cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.schemas import Feature
from lakehouse.scoring.isolation import NOT_TRIED, isolate
from lakehouse.scoring.outputs import Output
from lakehouse.scoring.score import Counters, Scoring, score_batch
from tests.conftest import turns

ROWS = pa.schema([("id", pa.int64()), ("x", pa.float64()), ("city", pa.string())])
DOUBLES = Scoring(("id",), (), (Feature("x", "x", pa.float64(), True),), (Output("p", "*", pa.float64()),))
MIXED = replace(DOUBLES, features=(*DOUBLES.features, Feature("city", "city", pa.string(), True)))
CODES = {"oslo": 1.0, "rome": 2.0}


def plain(frame: pd.DataFrame) -> Any:
    """Raises on a number below zero."""
    if (frame["x"] < 0).any():
        raise ValueError("negative")
    return frame["x"] * 2 + 1


def in_place(frame: pd.DataFrame) -> Any:
    """Changes what it is given before it raises, and if it doesn't."""
    frame["x"] *= 2
    if (frame["x"] < 0).any():
        raise ValueError("negative")
    frame["x"] += 1
    return frame["x"].to_numpy()


def by_index(frame: pd.DataFrame) -> Any:
    """Joins what it computes to what it was given by an index that begins at 0."""
    codes = pd.DataFrame({"code": np.where(frame["x"] < 0, np.nan, 1.0)})
    joined = pd.concat([frame, codes], axis=1)
    if joined.isna().any().any():
        raise ValueError("NaN")
    return joined["x"].to_numpy() * 2 + joined["code"].to_numpy()


def by_type(frame: pd.DataFrame) -> Any:
    """Raises on some values of a text, not on numbers."""
    return frame["x"] * 2 + frame["city"].map(lambda city: CODES[city]) * 0 + 1


MODELS = [(plain, DOUBLES), (plain, MIXED), (in_place, DOUBLES), (in_place, MIXED), (by_index, DOUBLES),
          (by_index, MIXED), (by_type, MIXED)]  # fmt: skip


def rows_of(bad: np.ndarray[Any, Any]) -> pa.RecordBatch:
    """Numbered rows; the bad ones hold a number below zero and an unknown city."""
    x = np.where(bad, -1.0, np.arange(len(bad)))
    cities = np.where(bad, "lima", np.where(np.arange(len(bad)) % 2, "oslo", "rome"))
    return pa.record_batch([pa.array(np.arange(len(bad))), pa.array(x), pa.array(cities)], schema=ROWS)


@pytest.mark.seeds
@settings(max_examples=turns(60, 400), deadline=None)
@given(
    rows=st.integers(1, 700),
    share=st.sampled_from([0.0, 0.002, 0.01, 0.1, 0.5, 0.97, 1.0]),
    batch_rows=st.integers(1, 700),
    model=st.sampled_from(MODELS),
    allowed=st.one_of(st.none(), st.integers(0, 100)),
    seed=st.integers(0, 2**32 - 1),
    first=st.booleans(),
)
def test_good_rows_have_the_score_that_they_have_alone_and_the_bad_ones_are_set_aside(
    rows, share, batch_rows, model, allowed, seed, first
):
    predict, scoring = model
    bad = np.random.default_rng(seed).random(rows) < share
    bad = np.sort(bad)[::-1] if first else bad
    calls = [0]

    def counted(frame: pd.DataFrame) -> Any:
        calls[0] += 1
        return predict(frame)

    counters, scores, why, read = Counters(), dict[int, float](), dict[int, str](), 0
    for start in range(0, rows, batch_rows):
        batch = rows_of(bad).slice(start, batch_rows)
        read += batch.num_rows
        scored, aside = score_batch(batch, replace(scoring, allowed=allowed), counted, counters)
        scores |= dict(zip(scored.column("id").to_pylist(), scored.column("p").to_pylist(), strict=True))
        why |= {row["id"]: row["_reasons"][0]["rule"] for row in (aside.to_pylist() if aside else ())}
        if counters.hopeless:
            break
    assert scores == {row: 2.0 * row + 1 for row in scores}
    assert sorted([*scores, *why]) == list(range(read))
    raised = {row for row, rule in why.items() if rule == "model_raised"}
    assert raised <= set(np.flatnonzero(bad))
    assert not set(scores) & set(np.flatnonzero(bad))
    if not counters.hopeless:
        assert raised == set(np.flatnonzero(bad[:read])) == set(why)
        assert allowed is None or len(why) <= allowed
    batches = -(-read // batch_rows)
    assert counters.isolation_calls + batches >= calls[0]
    assert calls[0] <= batches * 66 + 1.2 * read


@pytest.mark.long
def test_a_few_bad_rows_cost_a_few_calls_each_for_as_long_as_the_run_lasts():
    """What 400 bad rows among a million did: once a worker had spent its calls, a batch went with each."""
    counters, aside = Counters(), 0
    for _ in range(20):
        bad = np.zeros(50_000, bool)
        bad[np.random.default_rng(counters.read).choice(50_000, 20, replace=False)] = True
        _, quarantined = score_batch(rows_of(bad), DOUBLES, plain, counters)
        aside += quarantined.num_rows
    assert (counters.scored, aside) == (20 * 49_980, 400)
    assert counters.isolation_calls <= 400 * 2 * 16


@pytest.mark.quick("0.5")
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_many_bad_rows_cost_about_a_call_a_row(share):
    bad = np.random.default_rng(1).random(4_000) < share
    counters = Counters()
    scored, quarantined = score_batch(rows_of(bad), DOUBLES, plain, counters)
    assert (scored.num_rows, quarantined.num_rows) == ((~bad).sum(), bad.sum())
    assert counters.reasons == {("model_raised", ""): bad.sum()}
    assert counters.isolation_calls <= 1.2 * 4_000


def test_beyond_the_budget_no_call_is_made_and_what_was_not_tried_says_so():
    bad = np.ones(60_000, bool)
    counters = Counters()
    scored, quarantined = score_batch(rows_of(bad), replace(DOUBLES, allowed=100), plain, counters)
    assert counters.hopeless
    assert counters.isolation_calls <= 2 * 101 + 16
    assert counters.reasons == {("model_raised", ""): 101, ("not_tried", ""): 59_899}
    assert (scored.num_rows, quarantined.num_rows) == (0, 60_000)
    last = quarantined.column("_reasons")[59_999].as_py()
    assert last == [{"rule": "not_tried", "column": "", "observed": None}]


def test_rows_that_were_set_aside_before_count_against_the_budget():
    batch = pa.record_batch([pa.array([None, None, *range(8)]), pa.array([1.0] * 9 + [-1.0]), pa.array(["oslo"] * 10)],
                            schema=ROWS)  # fmt: skip
    for allowed, hopeless in ((3, False), (2, True)):
        counters = Counters()
        score_batch(batch, replace(DOUBLES, allowed=allowed), plain, counters)
        assert counters.hopeless == hopeless


@settings(max_examples=200, deadline=None)
@given(bad=st.lists(st.booleans(), min_size=1, max_size=300), room=st.one_of(st.none(), st.integers(0, 40)))
def test_every_row_is_answered_for_once_in_order(bad, room):
    if not any(bad):
        bad[0] = True
    calls = []

    def ask(start: int, stop: int) -> Any:
        calls.append((start, stop))
        return ValueError(start) if any(bad[start:stop]) else list(range(start, stop))

    parts = isolate(len(bad), ValueError("whole"), ask, room)
    assert [row for start, stop, _ in parts for row in range(start, stop)] == list(range(len(bad)))
    for start, stop, answer in parts:
        if isinstance(answer, Exception):
            assert stop == start + 1
            assert bad[start]
        elif answer is not NOT_TRIED:
            assert answer == list(range(start, stop))
    assert len(calls) == len(set(calls))
    if room is None or sum(bad) <= room:
        assert sum(isinstance(answer, Exception) for _, _, answer in parts) == sum(bad)
