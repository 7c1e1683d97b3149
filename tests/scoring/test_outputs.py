"""What a model answers, in every form, as columns of the type that was settled for them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lakehouse.errors import ModelRefused
from lakehouse.scoring.outputs import Output, read_outputs, settle_type
from tests.tables import assert_tables_equal


@pytest.mark.parametrize("answer", [1.0, None, np.array(1.0), iter([1.0, 2.0])])
@pytest.mark.parametrize("part", ["*", 0])
def test_an_answer_without_rows_is_refused(answer, part):
    complaint = rf"predictions\.p: the model answered 2 rows with a {type(answer).__name__}"
    with pytest.raises(ModelRefused, match=complaint):
        read_outputs(answer, 2, (Output("p", part),))


# What the model answers

MATRIX = [[0.25, 0.75], [0.5, 0.5]]
LISTS = pa.list_(pa.float64())
STAMP = pa.timestamp("us")
NAIVE = dt.datetime(2026, 1, 2)


@pytest.mark.parametrize(
    ("answer", "part", "expected"),
    [
        (np.array([1.5, 2.5]), "*", pa.array([1.5, 2.5])),
        (np.array([1.5, 2.5]), 0, pa.array([1.5, 2.5])),
        (np.array([1, 2], np.int32), "*", pa.array([1, 2], pa.int32())),
        (np.array(["a", "ü"]), "*", pa.array(["a", "ü"])),
        (np.array(["a", None], object), "*", pa.array(["a", None])),
        (np.array([True, False]), "*", pa.array([True, False])),
        (np.array(MATRIX), 1, pa.array([0.75, 0.5])),
        (np.array(MATRIX), "*", pa.array(MATRIX, LISTS)),
        (np.array([[1.5], [2.5]]), "*", pa.array([1.5, 2.5])),
        (np.asfortranarray(MATRIX), "*", pa.array(MATRIX, LISTS)),
        (np.array([[1.5], [2.5]]), 0, pa.array([1.5, 2.5])),
        (pd.Series([1.5, 2.5], index=[7, 3]), "*", pa.array([1.5, 2.5])),
        (pd.Series(["a", None]), "*", pa.array(["a", None])),
        (pd.Series([2**53 + 1, None], dtype="Int64"), "*", pa.array([2**53 + 1, None])),
        (pd.DataFrame({"n": pd.array([2**53 + 1, None], "Int64"), "x": [0.5, 1]}), "n", pa.array([2**53 + 1, None])),
        (pd.DataFrame({"n": pd.array([1.5, None], "Float64"), "x": [0.5, 1]}), 0, pa.array([1.5, None])),
        (pd.DataFrame({"no": [0.25, 0.5], "yes": [0.75, 0.5]}), "yes", pa.array([0.75, 0.5])),
        (pd.DataFrame({"no": [0.25, 0.5], "yes": [0.75, 0.5]}), 1, pa.array([0.75, 0.5])),
        (pd.DataFrame({"no": [0.25, 0.5], "yes": [0.75, 0.5]}), "*", pa.array(MATRIX, LISTS)),
        (pd.DataFrame({"only": [1.5, 2.5]}), "*", pa.array([1.5, 2.5])),
        (pd.DataFrame({0: [1.5, 2.5], 1: ["a", "b"]}), 1, pa.array(["a", "b"])),
        ([1.5, 2.5], "*", pa.array([1.5, 2.5])),
        (["a", None], "*", pa.array(["a", None])),
        (MATRIX, 1, pa.array([0.75, 0.5])),
        (MATRIX, "*", pa.array(MATRIX, LISTS)),
        ({"score": np.array([1.5, 2.5]), "label": ["a", "b"]}, "score", pa.array([1.5, 2.5])),
        ({"score": np.array([1.5, 2.5]), "label": ["a", "b"]}, "label", pa.array(["a", "b"])),
        ({"score": np.array([1.5, 2.5])}, "*", pa.array([1.5, 2.5])),
        ([(2**53 + 1, 0.5), (2**53 + 3, 1.5)], 0, pa.array([2**53 + 1, 2**53 + 3])),
        ([["yes", 0.9], ["no", 0.1]], 1, pa.array([0.9, 0.1])),
        (np.ma.array(MATRIX, mask=[[False, True], [True, True]]), "*", pa.array([[0.25, None], [None, None]], LISTS)),
        (np.array([1.5, pd.NA, np.nan], object)[[1, 2]], "*", pa.array([None, np.nan], from_pandas=False)),
        (np.array(["1969-12-31T23:59:59.9999999", "1970-01-01T00:00:00.0000019"], "datetime64[ns]"), "*",
         pa.array([-1, 1], pa.int64()).cast(pa.timestamp("us"))),
    ],
)  # fmt: skip
def test_every_kind_of_answer_is_read(answer, part, expected):
    [array], _ = read_outputs(answer, 2, (Output("p", part, *([expected.type] if expected.type == STAMP else [])),))
    assert_tables_equal(pa.table({"p": array}), pa.table({"p": expected}))


@pytest.mark.parametrize(
    ("answer", "part", "complaint"),
    [
        (np.array(MATRIX), 2, "no column 2, the model's output has 2"),
        (np.array([1.5, 2.5]), 1, "no column 1, the model's output has 1"),
        (np.array(MATRIX), "yes", "the model's output has no names, so no 'yes'"),
        (pd.DataFrame({"no": [0.25, 0.5]}), "yes", r"the model has no output 'yes', it has \['no'\]"),
        ([[1.0], [1.0, 2.0]], 1, "no column 1, the model's rows differ in length"),
        ({"no": [0.25, 0.5]}, "yes", r"the model has no output 'yes', it has \['no'\]"),
        (
            {"no": [0.25], "yes": [0.5]},
            "*",
            'the model answers with 2 outputs, .* predictions: {"no": "no", "yes": "yes"}',
        ),
        (pd.DataFrame({"a: b": [1, 2], "c": ["x", None]}), "*", r'.* as in predictions: {"a: b": "a: b", c: c}'),
        (pd.DataFrame([[1, 2]] * 2, columns=["a", "a"]), "a", "the model answers with 2 columns 'a'.*: .* 0 or 1"),
        (np.array([1j, 2]), "*", r"the model's values \(complex128\) make no column"),
        (["a", 1], "*", r"the model's values \(str, int\) make no column"),
        ([NAIVE.replace(tzinfo=dt.UTC), NAIVE], "*", ".*: times with a zone and others without one"),
    ],
)
def test_a_part_that_is_not_there_is_refused(answer, part, complaint):
    with pytest.raises(ModelRefused, match=rf"predictions\.p: {complaint}"):
        read_outputs(answer, 2, (Output("p", part),))


@pytest.mark.parametrize("answer", [{0.25, 0.5}, frozenset([1, 2])])
def test_a_set_is_refused_since_nobody_knows_whose_its_values_are(answer):
    with pytest.raises(ModelRefused, match="answers with a set, which has no order"):
        read_outputs(answer, 2, (Output("p", "*"),))


def test_nan_is_a_value_and_none_is_not():
    answer = np.array([np.nan, 1.0, -np.inf])
    [array], _ = read_outputs(answer, 3, (Output("p", "*", pa.float64()),))
    assert_tables_equal(pa.table({"p": array}), pa.table({"p": pa.array(answer)}))
    assert array.null_count == 0


def test_a_threshold_is_reached_by_its_own_value_and_nan_is_unknown():
    values = np.array([0.5, np.nextafter(0.5, 0), np.inf, -np.inf, np.nan])
    [array], _ = read_outputs(values, 5, (Output("p", "*", pa.bool_(), 0.5),))
    assert array.to_pylist() == [True, False, True, False, None]
    [array], _ = read_outputs(np.array([1, 2]), 2, (Output("p", "*", pa.bool_(), 1.5),))
    assert array.to_pylist() == [False, True]
    with pytest.raises(ModelRefused, match=r"predictions\.p: a threshold needs numbers, the model gives string"):
        read_outputs(["a", "b"], 2, (Output("p", "*", None, 0.5),))


# Values that don't fit


def unfit(answer: Any, kind: pa.DataType, rows: int) -> tuple[list[Any], dict[int, str]]:
    """The column, and the rows that are set aside with what was seen in them."""
    [array], broken = read_outputs(answer, rows, (Output("p", "*", kind),))
    assert array.type == kind
    assert {(b.rule, b.column) for b in broken} <= {("output_type", "p")}
    return array.to_pylist(), {int(r): t for b in broken for r, t in zip(b.rows, b.observed.to_pylist(), strict=True)}


@pytest.mark.parametrize(
    ("answer", "kind", "column", "aside"),
    [
        (["a", 1.5], pa.float64(), [None, 1.5], {0: "a (str)"}),
        (np.array([1.0, 2.5, 3.0]), pa.int64(), [1, None, 3], {1: "2.5 (float64)"}),
        (np.array([2**40, 1]), pa.int32(), [None, 1], {0: f"{2**40} (int64)"}),
        ([1, 2**70], pa.int64(), [1, None], {1: f"{2**70} (int)"}),
        ([2**53 + 1, 1], pa.float64(), [None, 1.0], {0: f"{2**53 + 1} (int)"}),
        (np.array([{}, "b"], object), pa.string(), [None, "b"], {0: "{} (dict)"}),
        (["1", 2], pa.int64(), [None, 2], {0: "1 (str)"}),
        (["\ud800", "b"], pa.string(), [None, "b"], {0: "? (str)"}),
        ([[0.5, 1], "x"], LISTS, [[0.5, 1.0], None], {1: "x (str)"}),
        ([True, 2], pa.bool_(), [True, None], {1: "2 (int)"}),
        ([NAIVE, None, NAIVE.replace(tzinfo=dt.UTC)], STAMP, [NAIVE, None, None],
         {2: "2026-01-02 00:00:00+00:00 (datetime)"}),
    ],
)  # fmt: skip
def test_a_value_of_another_type_sets_its_own_row_aside(answer, kind, column, aside):
    assert unfit(answer, kind, len(answer)) == (column, aside)


@pytest.mark.parametrize(
    ("answer", "kind", "column"),
    [
        ([0, 0], pa.float64(), [0.0, 0.0]),
        ([0, 0.25], pa.float64(), [0.0, 0.25]),
        (np.array([1.0, np.nan]), pa.int64(), [1, None]),
        ([None, None], pa.string(), [None, None]),
        (pd.Series(["a", np.nan], dtype=object), pa.string(), ["a", None]),
        (pd.Series(pd.Categorical(["lo", None, "lo"])), pa.string(), ["lo", None, "lo"]),
        (pd.Series(pd.Categorical([3, 1])), pa.int64(), [3, 1]),
        (np.ma.masked_array([1.5, 2.5], [True, False]), pa.float64(), [None, 2.5]),
        (pd.Series(pd.arrays.SparseArray([0.0, 2.5])), pa.float64(), [0.0, 2.5]),
        (pa.chunked_array([[1.5], [2.5]]), pa.float64(), [1.5, 2.5]),
        ((1.5, 2.5), pa.float64(), [1.5, 2.5]),
        ([{"a": 1, "b": "x"}, {"a": 2, "b": None}], pa.struct({"a": pa.int64(), "b": pa.string()}),
         [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
    ],
)  # fmt: skip
def test_what_means_the_same_in_the_settled_type_is_taken(answer, kind, column):
    assert unfit(answer, kind, len(answer)) == (column, {})


def test_nanoseconds_are_cut_and_zones_become_utc():
    naive = pd.Series(pd.to_datetime(["2026-01-01 00:00:00.123456789", None]))
    [array], broken = read_outputs(naive, 2, (Output("p", "*", pa.timestamp("us")),))
    assert (str(array[0]), array[1].as_py(), broken) == ("2026-01-01 00:00:00.123456", None, [])
    berlin = naive.dt.tz_localize("Europe/Berlin")
    [array], broken = read_outputs(berlin, 2, (Output("p", "*", pa.timestamp("us", "UTC")),))
    assert (array.cast(pa.string())[0].as_py(), broken) == ("2025-12-31 23:00:00.123456Z", [])


def test_sparse_matrices_are_read_as_dense_ones():
    from scipy import sparse

    matrix = sparse.csr_matrix(np.array(MATRIX))
    for part, expected in ((1, [0.75, 0.5]), ("*", MATRIX)):
        [array], _ = read_outputs(matrix, 2, (Output("p", part),))
        assert array.to_pylist() == expected


def test_records_are_read_by_the_name_of_a_field():
    records = [{"label": "a", "score": 0.5}, {"label": "b"}]
    [label, score], broken = read_outputs(records, 2, (Output("l", "label"), Output("s", "score", pa.float64())))
    assert (label.to_pylist(), score.to_pylist(), broken) == (["a", "b"], [0.5, None], [])
    with pytest.raises(ModelRefused, match=r"no output 'wrong', it has \['label', 'score'\]"):
        read_outputs(records, 2, (Output("l", "wrong"),))


@pytest.mark.parametrize("answer", [[{"label": "a"}], pd.DataFrame([{"label": "a"}]), {"label": ["a"]}])
def test_an_output_that_a_sample_had_is_null_where_none_of_the_rows_has_it(answer):
    [array], broken = read_outputs(answer, 1, (Output("s", "score", pa.float64()),))
    assert (array.to_pylist(), broken) == ([None], [])


MAPS = pa.map_(pa.string(), pa.int64())


def test_dicts_are_maps_where_that_is_declared():
    """Keys are each row's own; a value that is none of the type's sets its row aside."""
    answer = [{"a": 1}, {}, None, {"b": 2, "c": None}, {"a": 1.5}, {"a": "x"}, {1: 1}, "a"]
    [array], broken = read_outputs(answer, 8, (Output("p", "*", MAPS),))
    assert array.to_pylist() == [[("a", 1)], [], None, [("b", 2), ("c", None)], None, None, None, None]
    assert [b.rows.tolist() for b in broken] == [[4, 5, 6, 7]]
    inside = pa.list_(pa.struct({"m": MAPS, "n": pa.float64()}))
    deep = [[{"m": {"k": 1}, "n": 1}], [], None, [{"m": None}], [{"m": {}, "more": 1}]]
    [array], broken = read_outputs(pd.Series(deep), 5, (Output("p", "*", inside),))
    assert array.to_pylist() == [[{"m": [("k", 1)], "n": 1.0}], [], None, [{"m": None, "n": None}], None]
    assert [b.rows.tolist() for b in broken] == [[4]]


def test_arrays_of_more_dimensions_are_lists_of_lists():
    answer = np.arange(12, dtype=np.int32).reshape(2, 3, 2)
    for given in (answer, np.asfortranarray(answer), answer[::-1][::-1]):
        [array], _ = read_outputs(given, 2, (Output("p", "*"),))
        assert array.to_pylist() == answer.tolist()
    [array], _ = read_outputs(np.ma.array(answer, mask=answer == 3), 2, (Output("p", "*"),))
    assert array.to_pylist()[0] == [[0, 1], [2, None], [4, 5]]


def test_a_number_is_a_place_whatever_the_columns_are_called():
    answer = pd.DataFrame({1: [0.25, 0.5], 2: [0.75, 0.5]})  # as a classifier's probabilities of its classes 1 and 2
    [first, second], _ = read_outputs(answer, 2, (Output("one", 0), Output("two", 1)))
    assert (first.to_pylist(), second.to_pylist()) == ([0.25, 0.5], [0.75, 0.5])


@pytest.mark.parametrize(
    ("answer", "part", "value"),
    [(2.5, "*", 2.5), (np.float32(2.5), 0, 2.5), (np.array(2.5), "*", 2.5), ("a", "*", "a"), (True, 0, True),
     (np.array([0.25, 0.75]), 1, 0.75), (np.array([0.25, 0.75]), "*", [0.25, 0.75]), ({"p": 2.5}, "p", 2.5),
     (None, "*", None)],
)  # fmt: skip
def test_what_was_squeezed_of_the_answer_to_one_row_is_read(answer, part, value):
    [array], _ = read_outputs(answer, 1, (Output("p", part),))
    assert array.to_pylist() == [value]


@pytest.mark.parametrize("rows", [2, 5])
@pytest.mark.parametrize("part", [0, "*"])
def test_a_list_of_matrices_is_refused_whatever_the_number_of_rows(rows, part):
    with pytest.raises(ModelRefused, match=r"predictions\.p: the model answers with a list of 2 matrices"):
        read_outputs([np.zeros((rows, 2)), np.zeros((rows, 3))], rows, (Output("p", part),))


# The type that is settled on a sample


@pytest.mark.parametrize(
    ("declared", "sample", "kind", "contradicts"),
    [
        (pa.float64(), pa.array([0, 0]), pa.float64(), False),
        (pa.string(), pa.nulls(2), pa.string(), False),
        (pa.int64(), pa.array([1, 2], pa.int32()), pa.int64(), False),
        (pa.int64(), pa.array([1.0, 2.0]), pa.int64(), False),
        (pa.int64(), pa.array([1.0, 2.5]), pa.float64(), True),
        (pa.float32(), pa.array([0.1]), pa.float64(), False),
        (pa.float64(), pa.array([0.5], pa.float32()), pa.float64(), False),
        (pa.string(), pa.array([1]), pa.int64(), True),
        (pa.timestamp("us"), pa.array([0], pa.timestamp("ns", "UTC")), pa.timestamp("ns", "UTC"), False),
        (None, pa.array(["a"]), pa.string(), False),
        (None, pa.nulls(1), pa.null(), False),
    ],
)
def test_the_declared_type_counts_unless_the_sample_contradicts_it(declared, sample, kind, contradicts):
    assert settle_type(declared, sample) == (kind, contradicts)


def test_whole_numbers_beside_fractions_do_not_change_in_the_whole_of_a_frame():
    frame = pd.DataFrame({"n": [1, 2**53 + 1], "x": [0.5, 1.5]})
    [array], broken = read_outputs(frame, 2, (Output("p", "*", LISTS),))
    assert (array.to_pylist(), broken[0].rows.tolist()) == ([[1.0, 0.5], None], [1])


@pytest.mark.parametrize("kind", [lambda x, i: pd.Series(x, index=i), lambda x, i: pd.DataFrame({"p": x}, index=i)])
def test_rows_in_another_order_by_their_index_are_refused(kind):
    assert read_outputs(kind([1.5, 2.5, 3.5], [0, 1, 2]), 3, (Output("p", "*"),))[0][0].to_pylist() == [1.5, 2.5, 3.5]
    with pytest.raises(ModelRefused, match=r"in another order .*sort_index\(\)"):
        read_outputs(kind([3.5, 2.5, 1.5], [2, 1, 0]), 3, (Output("p", "*"),))


def test_a_tuple_of_arrays_is_refused_whatever_the_number_of_rows():
    with pytest.raises(ModelRefused, match="a tuple of 2 arrays"):
        read_outputs((np.array([1.0, 2.0]), np.array([3.0, 4.0])), 2, (Output("p", 0),))


@pytest.mark.parametrize("part", ["*", 0])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("answer", [np.array([]), []])
def test_an_empty_answer_is_refused(answer, rows, part):
    with pytest.raises(ModelRefused, match=f"{rows} rows with 0 values"):
        read_outputs(answer, rows, (Output("p", part),))
