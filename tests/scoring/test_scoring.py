"""`score_batch`: every row comes out once, scored or set aside with its reasons; the model's answer fits the schema."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from lakehouse.conditions import Comparison
from lakehouse.errors import ModelRefused
from lakehouse.schemas import Feature, Tensor
from lakehouse.scoring import score as scoring
from lakehouse.scoring.inputs import model_input
from lakehouse.scoring.outputs import Output
from lakehouse.scoring.score import Constraint, Counters, Scoring, score_batch, try_on
from tests.conftest import read, score, write
from tests.tables import assert_tables_equal

DOUBLE = (Feature("x", "x", pa.float64(), True),)
PREDICTION = (Output("p", "*", pa.float64()),)
PLAIN = Scoring(("id",), (), DOUBLE, PREDICTION)


def numbered(rows: int, start: int = 0) -> pa.RecordBatch:
    """Rows whose key and only feature are their number."""
    ids = np.arange(start, start + rows)
    return pa.record_batch({"id": ids, "x": ids.astype(float)})


class Doubling:
    """A model that doubles x and raises on the rows numbered `bad`; counts its calls."""

    def __init__(self, *bad: int) -> None:
        self.bad, self.calls = np.array(bad, dtype=float), 0

    def __call__(self, frame: pd.DataFrame) -> Any:
        self.calls += 1
        x = frame["x"].to_numpy()
        if found := sorted(set(x) & set(self.bad)):
            raise ValueError(f"can't stand {found[0]:g}")
        return x * 2


def observed(quarantined: pa.RecordBatch | None) -> dict[int, list[tuple[str, str, str | None]]]:
    """Reasons by key."""
    rows = quarantined.to_pylist() if quarantined is not None else []
    return {row["id"]: [tuple(reason.values()) for reason in row["_reasons"]] for row in rows}


# Rows on which the model raises


def test_three_bad_rows_of_200_000_are_set_aside_in_few_calls():
    model, counters = Doubling(7, 70_000, 199_999), Counters()
    scored, quarantined = score_batch(numbered(200_000), PLAIN, model, counters)
    expected = np.delete(np.arange(200_000), model.bad.astype(int))
    assert_tables_equal(pa.table(scored), pa.table({"id": expected, "p": expected * 2.0}))
    why = {int(bad): [("model_raised", "", f"ValueError: can't stand {bad:g}")] for bad in model.bad}
    assert observed(quarantined) == why
    assert quarantined.schema.names == ["id", "x", "_reasons"]
    assert (counters.read, counters.scored, counters.quarantined) == (200_000, 199_997, 3)
    assert counters.reasons == {("model_raised", ""): 3}
    # One for the batch, at most 8 probes, and a path of two halves a level (2^18 > 200,000) for each bad row.
    assert model.calls <= 1 + 8 + 3 * 2 * 18


def test_a_model_that_always_raises_is_found_out_in_few_calls_on_a_sample():
    calls = []

    def hopeless(frame: pd.DataFrame) -> Any:
        calls.append(len(frame))
        raise RuntimeError("no licence")

    error = try_on(numbered(1_024), PLAIN, hopeless)
    assert str(error) == "no licence"
    assert len(calls) <= 2 * 64 + 2 * 9
    said = scoring.describe_exception(error)
    assert said.startswith("RuntimeError: no licence\n  at ")
    assert "in hopeless: raise RuntimeError" in said


def test_without_a_row_that_can_be_scored_all_are_set_aside_and_nothing_is_refused():
    """Whether that is the model's fault or the rows' is for the driver to say, who knows of the other batches."""
    model = Doubling(*range(300))
    scored, quarantined = score_batch(numbered(300), PLAIN, model, Counters())
    assert (scored.num_rows, len(observed(quarantined))) == (0, 300)
    assert scored.schema.equals(pa.schema([("id", pa.int64()), ("p", pa.float64())]))


def test_a_bad_batch_after_scored_ones_is_set_aside_whole_and_refuses_nothing():
    model, counters = Doubling(*range(10, 20)), Counters()
    score_batch(numbered(10), PLAIN, model, counters)
    scored, quarantined = score_batch(numbered(10, start=10), PLAIN, model, counters)
    assert scored.num_rows == 0
    assert scored.schema.names == ["id", "p"]
    assert sorted(observed(quarantined)) == list(range(10, 20))
    assert (counters.read, counters.scored, counters.quarantined) == (20, 10, 10)


BATCHES = st.lists(st.integers(1, 40), min_size=1, max_size=6)
SOON = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def score_all(sizes: list[int], bad: set[int]) -> tuple[list[int], list[int], Counters]:
    """Keys scored and set aside over batches of these sizes; the first row of all is always good."""
    model, counters, start, good, aside = Doubling(*bad), Counters(), 1, [0], []
    score_batch(numbered(1), PLAIN, model, counters)
    for size in sizes:
        scored, quarantined = score_batch(numbered(size, start), PLAIN, model, counters)
        good += scored.column("id").to_pylist()
        aside += sorted(observed(quarantined))
        assert scored.column("p").to_pylist() == [2.0 * row for row in scored.column("id").to_pylist()]
        start += size
    return good, aside, counters


@SOON
@given(sizes=BATCHES, bad=st.sets(st.integers(1, 240)))
def test_exactly_the_bad_rows_are_set_aside(sizes, bad):
    everything = range(sum(sizes) + 1)
    good, aside, _ = score_all(sizes, bad)
    assert good == [row for row in everything if row not in bad]
    assert aside == [row for row in everything if row in bad]


def test_a_long_exception_keeps_its_end_where_the_cause_is():
    def wordy(frame: pd.DataFrame) -> Any:
        if 3.0 in frame["x"].to_numpy():
            raise ValueError("begin " + "x" * 10_000 + " the cause")
        return frame["x"].to_numpy()

    _, quarantined = score_batch(numbered(8), PLAIN, wordy, Counters())
    [(rule, column, said)] = observed(quarantined)[3]
    assert (rule, column, len(said)) == ("model_raised", "", 500)
    assert said.startswith("ValueError: begin xxx")
    assert said.endswith("xxx the cause")


@pytest.mark.parametrize("answer", [np.zeros(9), np.zeros(11), np.zeros((1, 10)), [], {"p": [1.0]}])
def test_another_number_of_rows_is_refused(answer):
    outputs = (Output("p", "p" if isinstance(answer, dict) else "*", pa.float64()),)
    with pytest.raises(ModelRefused, match=r"predictions\.p: the model answered 10 rows with"):
        score_batch(numbered(10), Scoring(("id",), (), DOUBLE, outputs), lambda frame: answer, Counters())


def test_an_answer_that_can_not_be_read_is_no_fault_of_a_row():
    """What the model answers is read outside of the search for rows on which it raises."""
    calls = []

    def predict(frame: pd.DataFrame) -> Any:
        calls.append(len(frame))
        return 1.0

    with pytest.raises(ModelRefused, match="answered 10 rows with a float"):
        score_batch(numbered(10), PLAIN, predict, Counters())
    assert calls == [10]


def test_an_empty_batch_never_reaches_the_model():
    scored, quarantined = score_batch(numbered(0), PLAIN, Doubling().bad.item, Counters())
    assert scored.schema.equals(pa.schema([("id", pa.int64()), ("p", pa.float64())]))
    assert (scored.num_rows, quarantined) == (0, None)


def test_a_sample_gives_the_answer_of_the_rows_the_model_takes():
    answer, rows = try_on(numbered(8), PLAIN, Doubling(2, 5))
    assert len(answer) == rows.num_rows >= 1
    nothing = pa.record_batch({"id": pa.array([None], pa.int64()), "x": [1.0]})
    assert try_on(nothing, PLAIN, Doubling()) is None
    assert "can't stand" in str(try_on(numbered(8), PLAIN, Doubling(*range(8))))


def test_rules_take_nan_for_the_greatest_number_as_spark_does():
    low = Constraint("check:low", "p", (Comparison("p", "<", (10.0,)),), "p < 10")
    high = Constraint("check:high", "p", (Comparison("p", ">", (1.0,)),), "p > 1")
    batch = pa.record_batch({"id": [0, 1, 2], "x": [1.0, np.nan, 0.0]})
    scored, quarantined = score_batch(batch, replace(PLAIN, constraints=(low, high)), Doubling(), Counters())
    assert scored.to_pylist() == [{"id": 0, "p": 2.0}]
    assert observed(quarantined) == {1: [("check:low", "p", "nan")], 2: [("check:high", "p", "0.0")]}


# Nulls

KINDS = {"d": pa.float64(), "s": pa.string(), "i": pa.int64(), "t": pa.bool_()}
WITH_NULLS = pa.record_batch(
    {
        "id": pa.array([0, 1, 2, 3, 4, None], pa.int64()),
        "d": pa.array([0.5, None, 0.5, 0.5, 0.5, None]),
        "s": pa.array(["a", "a", None, "a", "a", "a"]),
        "i": pa.array([2**53 + 1, 1, 1, None, 1, 1]),
        "t": pa.array([True, True, True, True, None, True]),
    }
)


def nulls(policy: str, required: bool) -> tuple[dict[Any, set[str]], list[pd.DataFrame]]:
    """What is set aside and why, and what the model is given."""
    seen: list[pd.DataFrame] = []

    def predict(frame: pd.DataFrame) -> Any:
        seen.append(frame)
        return np.zeros(len(frame))

    features = tuple(Feature(n, n, kind, required) for n, kind in KINDS.items())
    plan = Scoring(("id",), (), features, PREDICTION, nulls=policy)
    _, quarantined = score_batch(WITH_NULLS, plan, predict, Counters())
    return {key: {f"{rule} {column}" for rule, column, _ in why} for key, why in observed(quarantined).items()}, seen


def test_nulls_that_the_type_can_hold_go_to_the_model():
    aside, [given] = nulls("model", required=True)
    assert aside == {3: {"required i"}, 4: {"required t"}, None: {"key_not_null id"}}
    dtypes = {"d": "float64", "s": "object", "i": "int64", "t": "bool"}
    assert {name: str(kind) for name, kind in given.dtypes.items()} == dtypes
    pd.testing.assert_series_equal(given["d"], pd.Series([0.5, np.nan, 0.5], name="d"))
    assert given["s"].tolist() == ["a", "a", None]
    assert given["i"].tolist() == [2**53 + 1, 1, 1]


def test_nulls_in_required_features_can_be_set_aside():
    aside, [given] = nulls("quarantine", required=True)
    expected = {1: {"required d"}, 2: {"required s"}, 3: {"required i"}, 4: {"required t"}}
    assert aside == expected | {None: {"key_not_null id", "required d"}}
    assert given["i"].tolist() == [2**53 + 1]


def test_numbers_that_are_none_are_set_aside_where_nulls_are():
    batch = pa.record_batch({"id": [1, 2, 3, 4], "x": [1.0, float("nan"), float("-inf"), None]})
    for policy, left in (("model", [1, 2, 3, 4]), ("quarantine", [1])):
        policy_of = Scoring(("id",), (), DOUBLE, PREDICTION, policy)
        scored, quarantined = score_batch(batch, policy_of, lambda frame: frame["x"].to_numpy(), Counters())
        assert scored.column("id").to_pylist() == left
    assert observed(quarantined) == {
        2: [("finite", "x", "nan")], 3: [("finite", "x", "-inf")], 4: [("required", "x", None)]
    }  # fmt: skip


@pytest.mark.parametrize("policy", ["model", "quarantine"])
def test_nulls_in_optional_features_go_to_the_model_without_losing_a_digit(policy):
    aside, [given] = nulls(policy, required=False)
    assert aside == {None: {"key_not_null id"}}
    assert str(given["i"].dtype) == "Int64"
    assert given["i"].tolist() == [2**53 + 1, 1, 1, pd.NA, 1]
    assert given["t"].tolist() == [True, True, True, True, None]


# What the model is given


def test_doubles_are_one_fortran_matrix_without_a_copy(monkeypatch):
    made, empty = [], np.empty
    monkeypatch.setattr(np, "empty", lambda *shape, **kind: made.append(empty(*shape, **kind)) or made[-1])
    features = tuple(Feature(n, n, pa.float64(), True) for n in "abc")
    batch = pa.record_batch({"c": [5.0, None], "a": [1.0, 2.0], "b": pa.array([3, 4], pa.int32())})
    frame = model_input(batch, Scoring((), (), features, ()))
    assert list(frame.columns) == ["a", "b", "c"]
    np.testing.assert_array_equal(frame.to_numpy(), [[1.0, 3.0, 5.0], [2.0, 4.0, np.nan]])
    assert frame.to_numpy().flags.f_contiguous
    assert np.shares_memory(frame.to_numpy(), made[0])
    assert np.shares_memory(frame["c"].to_numpy(), made[0])


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.int64(), pa.int32()])
def test_a_tensor_is_a_bare_matrix_of_its_type(kind):
    features = tuple(Feature(n, n, kind, True) for n in "ab")
    batch = pa.record_batch({"b": pa.array([3, 4], kind), "a": pa.array([1, 2], kind)})
    tensors = (Tensor(None, str(np.dtype(kind.to_pandas_dtype())), (2,), 2),)
    matrix = model_input(batch, Scoring((), (), features, (), tensors=tensors))
    assert isinstance(matrix, np.ndarray)
    assert matrix.dtype == kind.to_pandas_dtype()
    assert matrix.flags.f_contiguous
    np.testing.assert_array_equal(matrix, [[1, 3], [2, 4]])


# A whole run


def test_a_real_model_sets_three_of_200_000_rows_aside(make_job, register):
    """scikit-learn's own complaint about infinity ends in `_reasons`; the other rows are scored as ever."""
    rows, bad = 200_000, [11, 77_777, 199_999]
    x = pd.DataFrame({"a": np.sin(np.arange(rows)), "b": np.cos(np.arange(rows))})
    model = LogisticRegression().fit(x[:500], x["a"][:500] > 0)
    uri = register(model, x[:5], method="predict_proba")
    given = x.copy()
    given.loc[bad, "a"] = [np.inf, -np.inf, np.inf]
    write("lake/features", pa.table({"id": np.arange(rows), "a": given["a"], "b": given["b"]}))
    result = score(make_job(uri, model={"method": "predict_proba"}, predictions={"p": {"class": True}}))
    assert result.status == "published"
    assert (result.rows_read, result.rows_scored, result.rows_quarantined) == (rows, rows - 3, 3)
    good = np.delete(np.arange(rows), bad)
    expected = pa.table({"id": good, "p": model.predict_proba(x.loc[good])[:, 1]})
    assert_tables_equal(read("lake/scores").select(["id", "p"]), expected, float64=1e-12)
    aside = read("lake/scores_quarantine").select(["id", "a", "b", "_reasons"]).to_pylist()
    assert [(row["id"], row["a"], row["b"]) for row in aside] == [(i, *given.loc[i]) for i in bad]
    for row in aside:
        [reason] = row["_reasons"]
        assert (reason["rule"], reason["column"]) == ("model_raised", "")
        assert reason["observed"].startswith("ValueError: Input X contains infinity")
