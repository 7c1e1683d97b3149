"""What a model is given: how columns become features, what sets a row aside, and frames that a model may change."""

from __future__ import annotations

import datetime as dt
import gc
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingRegressor

from lakehouse.config import Features
from lakehouse.errors import ConfigError, ModelRefused
from lakehouse.models import FetchedModel, features_of
from lakehouse.models.conversions import NAMES, can_lose, conversion_of, convert, requested_conversion
from lakehouse.models.flavors.calling import with_categories
from lakehouse.models.flavors.lightgbm import categories_of
from lakehouse.models.loading import digest_of, load
from lakehouse.schemas import Feature, Tensor
from lakehouse.scoring.inputs import model_input, unfit_rows
from lakehouse.scoring.score import Scoring

DOUBLE, FLOAT, LONG, INTEGER, TEXT = pa.float64(), pa.float32(), pa.int64(), pa.int32(), pa.string()
CLOCK, NAN = NAMES["datetime"], float("nan")
UTC = dt.UTC


def at(*of: int) -> pd.Timestamp:
    return pd.Timestamp(*of)


# --- one value of one type as another ----------------------------------------------------------------------

BY_ITSELF: list[tuple[pa.DataType, pa.DataType, list[Any], list[Any], list[int]]] = [
    # given, wanted, values, what becomes of them, the places of those that are lost
    (LONG, DOUBLE, [1, None, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)], [1, None, 2**53, None, None, -(2.0**63)], [3, 4]),
    (LONG, FLOAT, [2**24, 2**24 + 1], [2**24, None], [1]),
    (INTEGER, DOUBLE, [-(2**31), None], [-(2**31), None], []),
    (INTEGER, FLOAT, [5, 2**31 - 1], [5, None], [1]),
    (pa.int16(), LONG, [5, None], [5, None], []),
    (FLOAT, DOUBLE, [0.5, None], [0.5, None], []),
    (pa.decimal128(20, 2), DOUBLE, [Decimal("1.10"), None, Decimal("123456789012345678.91")],
     [1.1, None, 123456789012345678.91], []),
    (pa.timestamp("us", "UTC"), CLOCK, [dt.datetime(2026, 1, 1, 12, tzinfo=UTC), None], [at(2026, 1, 1, 12), None], []),
    (pa.timestamp("us"), CLOCK, [dt.datetime(2026, 1, 1), dt.datetime(9999, 1, 1)], [at(2026, 1, 1), None], [1]),
    (pa.date32(), CLOCK, [dt.date(2026, 1, 1), None, dt.date(9999, 1, 1)], [at(2026, 1, 1), None, None], [2]),
    (pa.list_(LONG), pa.list_(DOUBLE), [[1, 2], None, [2**53 + 1], [], [None]], [[1, 2], None, None, [], [None]], [2]),
    (pa.list_(FLOAT), pa.list_(FLOAT, 2), [[1, 2], [3], None], [[1, 2], None, None], [1]),
]  # fmt: skip
IF_ASKED: list[tuple[pa.DataType, pa.DataType, list[Any], list[Any], list[int]]] = [
    (DOUBLE, LONG, [1, 1.5, None, NAN, 1e30, 2.0**63], [1, None, None, None, None, None], [1, 3, 4, 5]),
    (DOUBLE, FLOAT, [0.1, 1e300, float("inf"), None], [np.float32(0.1), None, float("inf"), None], [1]),
    (LONG, INTEGER, [1, 2**31, None], [1, None, None], [1]),
    (pa.bool_(), DOUBLE, [True, None, False], [1, None, 0], []),
    (INTEGER, pa.bool_(), [1, 0, 2, None], [True, False, None, None], [2]),
    (pa.decimal128(22, 1), LONG, [Decimal(1), Decimal("1.5"), None, 10**20], [1, None, None, None], [1, 3]),
    (TEXT, DOUBLE, [" 1.5", "+2", "-inf", ".5", None], [1.5, 2, float("-inf"), 0.5, None], []),
    (TEXT, DOUBLE, ["x", "1,5", "1e400", ""], [None] * 4, [0, 1, 2, 3]),
    (TEXT, LONG, ["12", "1.0", "9" * 20, None], [12, None, None, None], [1, 2]),
    (TEXT, LONG, [str(2**63 - 1), str(-(2**63)), str(2**63), "0" * 40 + "7"], [2**63 - 1, -(2**63), None, 7], [2]),
    (TEXT, INTEGER, ["-2147483648", "+2147483648", "9" * 50], [-(2**31), None, None], [1, 2]),
    (pa.decimal128(38, 18), LONG, [2**63 - 1, -(2**63), 2**63], [2**63 - 1, -(2**63), None], [2]),
    (TEXT, pa.bool_(), ["true", "0", "yes", None], [True, False, None, None], [2]),
    (TEXT, CLOCK, ["2026-01-01", "2026-01-01T10:00", "2026-13-01", "soon"], [at(2026, 1, 1), at(2026, 1, 1, 10), None, None], [2, 3]),
    (TEXT, CLOCK, ["2024-02-29", "1900-02-29", "2262-04-11 23:47:16", "2262-04-11T23:47:17", "1677-09-21"],
     [at(2024, 2, 29), None, at(2262, 4, 11, 23, 47, 16), None, None], [1, 3, 4]),
    (LONG, TEXT, [5, None], ["5", None], []),
    (pa.date32(), TEXT, [dt.date(2026, 1, 1)], ["2026-01-01"], []),
]  # fmt: skip


@pytest.mark.parametrize(("given", "wanted", "values", "expected", "lost"), [*BY_ITSELF, *IF_ASKED], ids=str)
def test_values_become_another_type_as_they_are_or_are_told(given, wanted, values, expected, lost):
    # behind other rows, as in a batch that was cut
    column = pa.array([*values[:1], *values], given)[1:]
    made, mask = convert(column, wanted)
    assert made.to_pylist() == expected
    assert ([] if mask is None else np.flatnonzero(mask).tolist()) == lost
    assert can_lose(given, wanted) or not lost


@pytest.mark.parametrize(
    ("good", "bad", "wanted"),
    [
        (dt.date(2026, 1, 1), dt.date(9999, 12, 31), CLOCK),
        (dt.datetime(2026, 1, 1), dt.datetime(9999, 12, 31), CLOCK),
        (Decimal("2.0"), Decimal("1.5"), LONG),
        ("7", "9" * 20, INTEGER),
        ("2026-02-01", "2026-02-31", CLOCK),
        ("2026-02-01", "9999-12-31", CLOCK),
    ],
    ids=str,
)
def test_many_values_that_do_not_fit_cost_no_more_calls_than_one(good, bad, wanted):
    def calls(values: list[Any]) -> int:
        column, counted = pa.array(values), 0

        def count(frame: object, event: str, of: object) -> None:
            nonlocal counted
            counted += event == "call"

        gc.disable()  # whatever is collected just then may call something
        sys.setprofile(count)
        try:
            _, lost = convert(column, wanted)
        finally:
            sys.setprofile(None)
            gc.enable()
        assert lost is not None
        assert np.flatnonzero(lost).tolist() == [i for i, v in enumerate(values) if v == bad]
        return counted

    assert calls([good, bad] * 500) == calls([good, bad])


@pytest.mark.parametrize(("given", "wanted"), [case[:2] for case in BY_ITSELF], ids=str)
def test_what_spark_udf_takes_needs_no_word(given, wanted):
    assert conversion_of(given, wanted) is not None


@pytest.mark.parametrize(("given", "wanted"), [case[:2] for case in IF_ASKED], ids=str)
def test_what_changes_a_value_or_its_meaning_needs_a_word(given, wanted):
    assert conversion_of(given, wanted) is None
    assert requested_conversion(given, wanted) is not None


@pytest.mark.parametrize(("given", "wanted"), [(pa.binary(), DOUBLE), (DOUBLE, TEXT), (pa.list_(TEXT), TEXT)], ids=str)
def test_what_has_no_way_is_refused_even_if_asked(given, wanted):
    assert requested_conversion(given, wanted) is None


# --- a signature against a table --------------------------------------------------------------------------


def model(*specs: ColSpec) -> FetchedModel:
    inputs = Schema(list(specs)).to_dict()
    return FetchedModel("models:/m/1", "m", "1", "", "", inputs, [], (), ())


def test_the_plan_tells_what_is_converted_and_what_is_left_out():
    wanted = model(ColSpec("double", "n"), ColSpec("double", "same"), ColSpec("long", "opt", required=False))
    table = pa.schema([("n", LONG), ("same", DOUBLE), ("OPT", LONG)])
    found = features_of(wanted, Features(), table, "t")
    assert [f.name for f in found.features] == ["n", "same"]
    assert found.converts == ("n (int64) to double exactly, or the row is set aside",)
    assert found.left_out == (
        "opt (optional, the table has no such column, though it has 'OPT': features: {rename: {opt: OPT}})",
    )


def test_a_cast_is_offered_where_one_would_do_and_taken_where_it_is_asked_for():
    wanted, table = model(ColSpec("double", "a b")), pa.schema([("x", TEXT)])
    renamed = Features(rename={"a b": "x"})
    with pytest.raises(ConfigError, match=r"features: \{cast: \{a b: double\}\}"):
        features_of(wanted, renamed, table, "t")
    for name in ("a b", "x"):
        found = features_of(wanted, renamed.model_copy(update={"cast": {name: "double"}}), table, "t")
        assert found.features == (Feature("a b", "x", DOUBLE, True, DOUBLE),)
        assert found.converts == ("x (string) to double read from text, or the row is set aside",)
    with pytest.raises(ConfigError, match=r"features\.cast: 'y' is no feature and no feature's column"):
        features_of(wanted, renamed.model_copy(update={"cast": {"x": "double", "y": "long"}}), table, "t")


@pytest.mark.parametrize(
    ("given", "cast", "said"),
    [
        (pa.float32(), "double", "it goes without features.cast, which makes double of it: remove it there"),
        (TEXT, "datetime", r"cast to datetime: no lossless cast; .* add features: \{cast: \{\"0\": float\}\}"),
    ],
)
def test_a_cast_to_another_type_than_the_feature_s_says_which_would_do(given, cast, said):
    with pytest.raises(ConfigError, match=said):
        features_of(model(ColSpec("float", "0")), Features(cast={"0": cast}), pa.schema([("0", given)]), "t")


def test_a_signature_that_names_a_feature_twice_is_refused():
    twice = replace(model(ColSpec("double", "a")), signature=model(ColSpec("double", "a")).signature * 2)
    with pytest.raises(ModelRefused, match="the signature names 'a' more than once"):
        features_of(twice, Features(), pa.schema([("a", DOUBLE)]), "t")


def test_a_table_without_any_of_the_features_is_refused():
    with pytest.raises(ConfigError, match="none of the model's features: a"):
        features_of(model(ColSpec("double", "a", required=False)), Features(), pa.schema([("b", LONG)]), "t")


# --- rows and frames --------------------------------------------------------------------------------------


def scoring(*features: Feature, **more: Any) -> Scoring:
    return Scoring((), (), features, (), **more)


def test_a_value_that_would_change_sets_its_row_aside_with_it():
    batch = pa.record_batch(
        {"n": pa.array([1, None, 2**53 + 1]), "t": ["1", "x", None], "v": [[1.0], [1.0, 2.0], [3.0, 4.0]]}
    )
    wanted = scoring(
        Feature("n", "n", DOUBLE, True),
        Feature("t", "t", DOUBLE, True, DOUBLE),
        Feature("v", "v", pa.list_(DOUBLE, 2), True),
    )
    found = [(b.rule, b.column, b.rows.tolist(), b.observed.to_pylist()) for b in unfit_rows(batch, wanted)]
    assert found == [
        ("exact", "n", [2], [str(2**53 + 1)]), ("cast", "t", [1], ["x"]), ("length", "v", [0], ["1"])
    ]  # fmt: skip


def test_lists_that_the_type_can_not_hold_are_set_aside():
    batch = pa.record_batch({"v": pa.array([[1, None], None, [2]]), "f": pa.array([[1.0], [NAN, None], [2.0]])})
    wanted = scoring(Feature("v", "v", pa.list_(LONG), True), Feature("f", "f", pa.list_(DOUBLE), True))
    assert [(b.rule, b.rows.tolist()) for b in unfit_rows(batch, wanted)] == [("required", [1]), ("required", [0])]
    strict = scoring(Feature("f", "f", pa.list_(DOUBLE), True), nulls="quarantine")
    assert {(b.rule, *b.rows.tolist()) for b in unfit_rows(batch, strict)} == {("required", 1), ("finite", 1)}


EVERYTHING = pa.record_batch(
    {
        "double": [1.0, 2.0, 3.0], "other": [1.5, 2.5, 3.5], "long": [1, 2, 3], "null": pa.array([1, None, 3]),
        "flag": [True, False, True], "unknown": pa.array([True, None, False]), "text": ["a", None, "c"],
        "clock": pa.array([dt.datetime(2026, 1, 1)] * 3, CLOCK), "list": [[1.0, 2.0], [3.0], []],
        "nested": [[[1], [2]], [[3, 4]], [[5], [6, 7]]], "bytes": [b"a", b"b", None], "emb": [[1.0, 2.0]] * 3,
    }
)  # fmt: skip


def overwrite(given: Any) -> None:
    """All that a model could do to what it is called with."""
    if isinstance(given, np.ndarray):
        given[:] = 99
        return
    for name in given.columns:
        for value in given[name]:
            if isinstance(value, np.ndarray):
                value[...] = 99
        values = given[name].array
        values[:] = values[[1, 1, 1]]
        given.loc[:, name] = given[name].shift(1).to_numpy() if given[name].dtype == object else given[name]


@pytest.mark.parametrize(
    ("names", "more"),
    [
        (["double", "other"], {}),
        (["double", "other"], {"tensors": (Tensor(None, "float64", (2,), 2),)}),
        (["emb"], {"tensors": (Tensor(None, "float64", (2,), 1),)}),
        (["double"], {}),
        (["long"], {}),
        (EVERYTHING.schema.names, {}),
    ],
    ids=["doubles", "matrix", "list", "one double", "one long", "everything"],
)
def test_what_a_model_changes_is_never_the_batch(names, more):
    kinds = {"emb": pa.list_(DOUBLE, 2)} if more else {}
    wanted = scoring(*(Feature(n, n, kinds.get(n, EVERYTHING.schema.field(n).type), False) for n in names), **more)
    before = EVERYTHING.to_pylist()
    for batch in (EVERYTHING, EVERYTHING[1:]):
        first, untouched = model_input(batch, wanted), model_input(batch, wanted)
        if not more:
            assert list(first.index) == list(range(batch.num_rows))
        if batch.num_rows == 3:
            overwrite(first)
        again = model_input(batch, wanted)
        (np.testing.assert_array_equal if more else pd.testing.assert_frame_equal)(again, untouched)
    assert EVERYTHING.to_pylist() == before


# --- the default call and the native one --------------------------------------------------------------------


class Seen(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined,misc]  # exported lazily
    """Answers with what it was given: dtypes and values of each row, as text."""

    def predict(self, context, model_input, params=None):
        if isinstance(model_input, np.ndarray):
            return [f"{model_input.dtype} {row.tolist()}" for row in model_input]
        columns = {c: (str(model_input[c].dtype), list(model_input[c])) for c in model_input}
        return [
            str(
                [
                    (c, kind, type(values[i]).__name__, np.array(values[i]).tolist())
                    for c, (kind, values) in columns.items()
                ]
            )
            for i in range(len(model_input))
        ]


def saved(folder: Path, *specs: ColSpec) -> str:
    mlflow.pyfunc.save_model(
        folder,
        python_model=Seen(),
        pip_requirements=["mlflow"],
        signature=ModelSignature(Schema(list(specs)), Schema([ColSpec("string")])),
    )
    return str(folder)


COLUMNS = {
    "double": (ColSpec("double", "double"), pa.array([1.5, None, 3.0])),
    "float": (ColSpec("float", "float"), pa.array([1.5, None, 3.0], FLOAT)),
    "integer": (ColSpec("integer", "integer"), pa.array([1, 2, 3], INTEGER)),
    "long": (ColSpec("long", "long", required=False), pa.array([1, 2, 3])),
    "boolean": (ColSpec("boolean", "boolean"), pa.array([True, False, True])),
    "unknown": (ColSpec("boolean", "unknown", required=False), pa.array([True, None, False])),
    "string": (ColSpec("string", "string"), pa.array(["a", None, "c"])),
    "binary": (ColSpec("binary", "binary"), pa.array([b"a", b"b", None])),
    "datetime": (ColSpec("datetime", "datetime"), pa.array([dt.datetime(2026, 1, 1), None, dt.datetime(1999, 1, 1)], pa.timestamp("us"))),
    "lists": (ColSpec(Array(DataType.double), "lists"), pa.array([[1.0, 2.0], [3.0], [None, 4.0]])),
    "optional": (ColSpec(Array(DataType.double), "optional", required=False), pa.array([[1.0], None, [2.0]])),
    "nested": (ColSpec(Array(Array(DataType.long)), "nested"), pa.array([[[1], [2]], [[3, 4]], [[5], [6]]])),
}  # fmt: skip


def test_the_model_sees_what_pyfunc_shows_it(tmp_path):
    """Every type, nulls where pyfunc takes them, as `spark_udf` hands them on: in one frame, and each column alone."""
    for number, names in enumerate([list(COLUMNS), *([name] for name in COLUMNS)]):
        path = saved(tmp_path / str(number), *(COLUMNS[name][0] for name in names))
        schema = pa.schema([(name, COLUMNS[name][1].type) for name in names])
        batch = pa.RecordBatch.from_arrays([COLUMNS[name][1] for name in names], schema=schema)
        wanted = features_of(model(*(COLUMNS[name][0] for name in names)), Features(), schema, "t")
        given = pd.DataFrame({name: _as_spark(COLUMNS[name][1]) for name in names})
        expected = mlflow.pyfunc.load_model(path).predict(given)
        answer = load(path, digest_of(Path(path)), None, ()).predict(model_input(batch, scoring(*wanted.features)))
        assert list(answer) == list(expected), names


def _as_spark(column: pa.Array) -> Any:
    """A column as Spark gives it to a pandas UDF."""
    return column.to_pandas(timestamp_as_object=False)


class NullsAllowed(BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Takes nulls in integers and booleans; -1 for each."""

    def fit(self, x: Any, y: Any = None) -> NullsAllowed:
        return self

    def predict(self, x: Any) -> Any:
        return sum(np.where(x[name].isna(), -1.0, 0.0) for name in x)

    def predict_proba(self, x: Any) -> Any:
        return self.predict(x)


@pytest.mark.parametrize(
    "column",
    [pa.array([1, None, 3]), pa.array([1, None, 3], INTEGER), pa.array([True, None, False])],
    ids=["long", "integer", "boolean"],
)
def test_the_default_call_takes_optional_nulls_as_the_native_one_does(tmp_path, column):
    kind = {LONG: "long", INTEGER: "integer"}.get(column.type, "boolean")
    spec = ColSpec(kind, "x", required=False)
    signature = ModelSignature(Schema([spec]), Schema([ColSpec("double")]))
    mlflow.sklearn.save_model(
        NullsAllowed(),
        tmp_path / "m",
        signature=signature,
        serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"],
    )
    batch = pa.record_batch({"x": column})
    wanted = scoring(*features_of(model(spec), Features(), batch.schema, "t").features)
    path, digest = str(tmp_path / "m"), digest_of(tmp_path / "m")
    answers = [list(load(path, digest, method, ()).predict(model_input(batch, wanted))) for method in (None, "predict")]
    assert answers == [[0.0, -1.0, 0.0]] * 2


@pytest.mark.parametrize("library", ["sklearn", "xgboost", "lightgbm"])
def test_optional_integers_are_floats_with_nan_to_models_of_floats(library):
    """`Int64` with nulls, which pyfunc's own look at a frame refuses, is what the same numbers as doubles are."""
    x = pd.DataFrame({"n": np.arange(200.0), "m": np.arange(200.0)[::-1]})
    x.loc[x["n"] % 5 == 0, "n"] = np.nan
    made = {
        "sklearn": lambda: HistGradientBoostingRegressor(max_iter=5),
        "xgboost": lambda: xgboost.XGBRegressor(n_estimators=5),
        "lightgbm": lambda: lightgbm.LGBMRegressor(n_estimators=5, verbose=-1),
    }[library]()
    y = np.where(x["n"].isna(), -9.0, x["n"])
    batch = pa.record_batch({"n": pa.array(x["n"], LONG, from_pandas=True), "m": pa.array(x["m"])})
    frame = model_input(batch, scoring(Feature("n", "n", LONG, False), Feature("m", "m", DOUBLE, True)))
    assert str(frame["n"].dtype) == "Int64"
    fitted = made.fit(x, y)
    np.testing.assert_array_equal(fitted.predict(frame), fitted.predict(x))


# --- categories -------------------------------------------------------------------------------------------


class Booster:
    """What LightGBM's model tells of its category columns, in its own words (4.7)."""

    def __init__(self, infos: str, *categories: list[Any]) -> None:
        self.pandas_categorical, self._infos = list(categories), infos

    def feature_name(self) -> list[str]:
        return ["a", "city", "code"]

    def model_to_string(self, num_iteration: int) -> str:
        return f"tree\nfeature_names=a city code\nfeature_infos={self._infos}\n"


def test_columns_have_the_categories_of_training_whatever_a_batch_holds():
    native = Booster("[-3:3] -1:0:2:1 none", ["lima", "oslo", "rome"], [10, 20])
    seen: list[pd.DataFrame] = []
    predict = with_categories(seen.append, categories_of(native))
    given = pd.DataFrame({"a": [0.5, 1.5], "city": ["rome", "bonn"], "code": [20, 10]})
    predict(given)
    assert seen[0]["city"].cat.codes.tolist() == [2, -1]
    assert seen[0]["code"].cat.codes.tolist() == [1, 0]
    assert given["city"].tolist() == ["rome", "bonn"]


def test_categories_of_which_the_columns_are_unknown_are_refused_by_name():
    with pytest.raises(ModelRefused, match=r"trained on 1 category columns, .* a, city, code"):
        categories_of(Booster("[-3:3] none none", ["lima"]))
    assert categories_of(Booster("[-3:3] none none")) == {}


def test_lightgbm_scores_text_by_the_categories_it_was_trained_on():
    r = np.random.default_rng(0)
    x = pd.DataFrame({"a": r.normal(size=300), "city": pd.Categorical(r.choice(["rome", "oslo", "lima"], 300))})
    fitted = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(x, (x["a"] > 0) ^ (x["city"] == "oslo"))
    texts = x.assign(city=x["city"].astype(str))
    answer = with_categories(fitted.predict_proba, categories_of(fitted))(texts[:7])
    np.testing.assert_array_equal(answer, fitted.predict_proba(x[:7]))
