"""Objects, maps and arrays of them: what a model is given is what MLflow's own look at a frame would leave of it."""

from __future__ import annotations

import copy
import datetime as dt
import math
import re
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.models import ModelSignature
from mlflow.models.utils import _enforce_schema
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType, Array, Map, Object, Property

from lakehouse.config import Features
from lakehouse.errors import ConfigError, ModelRefused
from lakehouse.models import FetchedModel, features_of
from lakehouse.models.conversions import convert
from lakehouse.models.tensors import DTYPES
from lakehouse.schemas import Feature
from lakehouse.scoring.inputs import model_input, unfit_rows
from lakehouse.scoring.score import Scoring
from tests.conftest import read, score, turns, write

LONG, DOUBLE, TEXT = DataType.long, DataType.double, DataType.string
OPTIONAL = {"required": False}


def model(*specs: ColSpec) -> FetchedModel:
    return FetchedModel("models:/m/1", "m", "1", "", "", Schema(list(specs)).to_dict(), [], (), ())


def features(spec: ColSpec, column: pa.Array) -> tuple[Feature, ...]:
    return features_of(model(spec), Features(), pa.schema([("x", column.type)]), "t").features


def shown(value: Any) -> Any:
    """A value with the types of all that is in it; NaN as text, which is equal to itself."""
    if isinstance(value, dict):
        return {name: shown(part) for name, part in value.items()}
    if isinstance(value, np.ndarray):
        return ("array", [shown(part) for part in value])
    if isinstance(value, float) and math.isnan(value):
        return (type(value).__name__, "nan")
    # numpy's texts and bytes are Python's, too
    return ("bytes" if isinstance(value, bytes) else "str" if isinstance(value, str) else type(value).__name__, value)


def seen(spec: ColSpec, column: pa.Array) -> list[Any]:
    frame = model_input(pa.record_batch({"x": column}), Scoring((), (), features(spec, column), ()))
    assert list(frame.columns) == ["x"]
    return list(frame["x"])


def unfit(spec: ColSpec, column: pa.Array, **more: Any) -> set[tuple[str, int]]:
    """The rows that are set aside, with the rule of each."""
    batch = pa.record_batch({"x": column})
    broken = unfit_rows(batch, Scoring((), (), features(spec, column), (), **more))
    return {(b.rule, row) for b in broken for row in b.rows.tolist()}


PERSON = Object(
    [Property("age", LONG), Property("name", TEXT, required=False), Property("at", DataType.datetime, required=False)]
)
PERSONS = pa.struct([("age", pa.int64()), ("name", pa.string()), ("at", pa.timestamp("us", "UTC"))])


def test_objects_and_maps_are_dicts_of_what_mlflow_leaves_in_them():
    moment = dt.datetime(2026, 1, 2, 3, tzinfo=dt.UTC)
    persons = pa.array([{"age": 1, "name": None, "at": moment}, {"age": 2**53 + 1, "name": "é", "at": None}], PERSONS)
    first, second = seen(ColSpec(PERSON, "x"), persons)
    assert shown(first) == shown({"age": np.int64(1), "name": None, "at": pd.Timestamp(2026, 1, 2, 3)})
    assert shown(second) == shown({"age": np.int64(2**53 + 1), "name": "é", "at": None})
    maps = pa.array([[("a", 0.5), ("", -0.0)], []], pa.map_(pa.string(), pa.float64()))
    assert shown(seen(ColSpec(Map(DOUBLE), "x"), maps)[0]) == shown({"a": np.float64(0.5), "": np.float64(-0.0)})
    assert seen(ColSpec(Map(DOUBLE), "x"), maps)[1] == {}
    lists = pa.array([[{"age": 1}], []], pa.list_(pa.struct([("age", pa.int64())])))
    one, none = seen(ColSpec(Array(PERSON), "x"), lists)
    assert (shown(one), len(none)) == (("array", [{"age": ("int64", 1)}]), 0)


def test_nan_stays_where_it_is_required_and_is_none_where_it_is_not():
    spec = ColSpec(Object([Property("must", DOUBLE), Property("may", DOUBLE, required=False)]), "x")
    column = pa.array([{"must": math.nan, "may": math.nan}], pa.struct([("must", pa.float64()), ("may", pa.float64())]))
    [value] = seen(spec, column)
    assert shown(value) == {"must": ("float64", "nan"), "may": ("NoneType", None)}


def test_an_optional_property_that_the_column_lacks_is_absent_and_what_it_has_more_is_told():
    column = pa.schema([("x", pa.struct([("age", pa.int32()), ("more", pa.string())]))])
    found = features_of(model(ColSpec(PERSON, "x")), Features(), column, "t")
    assert found.converts == (
        "x (struct<age: int32, more: string>) to object<age: long, at: datetime (optional), name: string (optional)> "
        "without at, name (optional, the column has no such field), leaving out more, age widened",
    )
    [value] = seen(ColSpec(PERSON, "x"), pa.array([{"age": 3, "more": "z"}], column.field("x").type))
    assert shown(value) == {"age": ("int64", 3)}


@pytest.mark.parametrize(
    ("spec", "column", "said"),
    [
        (ColSpec(PERSON, "x"), pa.struct([("name", pa.string())]), "the column has no field 'age', which the model requires"),
        (ColSpec(Array(PERSON), "x"), pa.list_(pa.struct([("name", pa.string())])), "the column has no field 'age'"),
        (ColSpec(Map(LONG), "x"), pa.map_(pa.int32(), pa.int64()), "map<long>, column 'x' of t is map<int32, int64>"),
        (ColSpec(PERSON, "x"), pa.string(), "no lossless cast"),
        (ColSpec(TEXT, "x"), PERSONS, "no lossless cast"),
    ],
)  # fmt: skip
def test_a_column_of_another_form_is_refused(spec, column, said):
    with pytest.raises(ConfigError) as refused:
        features_of(model(spec), Features(), pa.schema([("x", column)]), "t")
    assert said in str(refused.value)


@pytest.mark.parametrize("kind", [AnyType(), Array(AnyType()), Map(AnyType()), Object([Property("p", AnyType())])])
def test_any_is_refused_in_words(kind):
    with pytest.raises(ModelRefused, match=r"MLflow writes any for what it could not tell, .* that says the type"):
        features_of(model(ColSpec(kind, "x")), Features(), pa.schema([("x", pa.string())]), "t")


def test_a_null_where_a_part_has_to_be_sets_its_row_aside():
    persons = pa.array([{"age": 1}, {"age": None}, None, {"age": 4}], pa.struct([("age", pa.int64())]))
    assert unfit(ColSpec(PERSON, "x"), persons) == {("required", 1), ("required", 2)}
    lists = pa.array([[{"age": 1}, None], [], None, [{"age": None}]], pa.list_(pa.struct([("age", pa.int64())])))
    assert unfit(ColSpec(Array(PERSON), "x", **OPTIONAL), lists) == {("required", 3)}
    maps = pa.array([[("a", 1.0)], None, [("b", None)]], pa.map_(pa.string(), pa.float64()))
    assert unfit(ColSpec(Map(DOUBLE), "x", **OPTIONAL), maps) == set()
    assert seen(ColSpec(Map(DOUBLE), "x", **OPTIONAL), maps) == [{"a": 1.0}, None, {"b": None}]
    infinite = pa.array([[("a", math.inf)], [("a", 1.0)]], maps.type)
    assert unfit(ColSpec(Map(DOUBLE), "x"), infinite, nulls="quarantine") == {("finite", 0)}


def test_what_a_part_would_lose_sets_its_row_aside_with_the_whole_value():
    spec = ColSpec(Object([Property("p", Map(DOUBLE))]), "x")
    column = pa.array(
        [{"p": [("k", 2**53 + 1)]}, {"p": [("k", 5)]}], pa.struct([("p", pa.map_(pa.string(), pa.int64()))])
    )
    assert unfit(spec, column) == {("exact", 0)}
    assert seen(spec, column)[1] == {"p": {"k": 5.0}}


# Generated types and values

SCALARS: dict[DataType, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    DataType.boolean: (pa.bool_(), st.booleans()),
    DataType.integer: (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    LONG: (pa.int64(), st.sampled_from([2**53 + 1, -(2**63), 2**63 - 1]) | st.integers(-(2**63), 2**63 - 1)),
    DataType.float: (pa.float32(), st.floats(width=32, allow_nan=False)),
    DOUBLE: (pa.float64(), st.floats()),
    TEXT: (pa.string(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
    DataType.binary: (pa.binary(), st.binary(max_size=5)),
}
Kind = Any


def kinds(depth: int) -> st.SearchStrategy[Kind]:
    """MLflow's types, nested at most so deep; no arrays of arrays, which MLflow refuses unless all are of one length."""
    scalar = st.sampled_from(list(SCALARS))
    if not depth:
        return scalar
    inner = kinds(depth - 1)
    fields = st.lists(
        st.tuples(st.sampled_from("abcd"), inner, st.booleans()), min_size=1, max_size=3, unique_by=lambda f: f[0]
    )
    objects = fields.map(lambda found: Object([Property(name, kind, required=must) for name, kind, must in found]))
    arrays = inner.filter(lambda kind: not isinstance(kind, Array)).map(Array)
    return st.one_of(scalar, objects, objects, arrays, inner.map(Map))


def arrow(kind: Kind) -> pa.DataType:
    if isinstance(kind, Object):
        return pa.struct([(p.name, arrow(p.dtype)) for p in kind.properties])
    if isinstance(kind, Map):
        return pa.map_(pa.string(), arrow(kind.value_type))
    return pa.list_(arrow(kind.dtype)) if isinstance(kind, Array) else SCALARS[kind][0]


def values(kind: Kind, required: bool, item: bool = False) -> st.SearchStrategy[Any]:
    """What the type holds, as pyarrow takes it; nulls where it may have some."""
    if isinstance(kind, Object):
        some = st.fixed_dictionaries({p.name: values(p.dtype, p.required) for p in kind.properties})
    elif isinstance(kind, Map):
        keys = st.text("klm", max_size=2)
        some = st.dictionaries(keys, values(kind.value_type, required), max_size=3).map(lambda d: list(d.items()))
    elif isinstance(kind, Array):
        some = st.lists(values(kind.dtype, required, True), min_size=1, max_size=3)
    else:
        some = SCALARS[kind][1]
    return some if required or (item and isinstance(kind, DataType)) else st.one_of(st.none(), some, some)


def as_pandas(value: Any, kind: Kind) -> Any:
    """A value as pyarrow gives it to pandas, which is how Spark hands it to a model: what MLflow then looks at."""
    if value is None:
        return None
    if isinstance(kind, Object):
        return {p.name: as_pandas(value[p.name], p.dtype) for p in kind.properties}
    if isinstance(kind, Map):
        return {key: as_pandas(part, kind.value_type) for key, part in value}
    if isinstance(kind, Array):
        parts = [as_pandas(part, kind.dtype) for part in value]
        made = np.empty(len(parts), object if not isinstance(kind.dtype, DataType) else kind.dtype.to_numpy())
        if kind.dtype in (TEXT, DataType.binary):
            made = np.empty(len(parts), object)
        for place, part in enumerate(parts):
            made[place] = part
        return made
    return value if kind in (TEXT, DataType.binary) else kind.to_numpy().type(value)


@pytest.mark.seeds
@settings(max_examples=turns(60, 200), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data(), kind=kinds(3).filter(lambda kind: not isinstance(kind, DataType)), required=st.booleans())
def test_nested_values_reach_the_model_as_mlflow_would_leave_them(data, kind, required):
    spec, rows = (
        ColSpec(kind, "x", required=required),
        data.draw(st.lists(values(kind, required), min_size=1, max_size=4)),
    )
    column = pa.array([*rows[:1], *rows], arrow(kind))[1:]  # behind another row, as in a batch that was cut
    assert unfit(spec, column) == set()
    frame = pd.DataFrame({"x": pd.Series([as_pandas(row, kind) for row in rows], dtype=object)})
    expected = _enforce_schema(copy.deepcopy(frame), Schema([spec]))["x"]
    assert [shown(value) for value in seen(spec, column)] == [shown(value) for value in expected]
    again, lost = convert(column, features(spec, column)[0].type)
    assert (again.to_pylist(), lost) == (column.to_pylist(), None) or "nan" in str(rows)


# Whole runs


class Sums(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined,misc]  # exported lazily
    """Answers with what it finds in an object, a map and a list of objects, and with their types."""

    def predict(self, context, model_input, params=None):
        return pd.DataFrame(
            {
                "total": [
                    float(p["age"] + sum(m.values()) + sum(item["price"] for item in items))
                    for p, m, items in zip(
                        model_input["person"], model_input["by_day"], model_input["items"], strict=True
                    )
                ],
                "types": [
                    f"{type(p).__name__} {type(p['age']).__name__} {type(m).__name__} {type(items).__name__} {p.get('name')}"
                    for p, m, items in zip(
                        model_input["person"], model_input["by_day"], model_input["items"], strict=True
                    )
                ],
            }
        )


SIGNATURE = ModelSignature(
    Schema([
        ColSpec(Object([Property("age", LONG), Property("name", TEXT, required=False)]), "person"),
        ColSpec(Map(DOUBLE), "by_day"),
        ColSpec(Array(Object([Property("price", DOUBLE)])), "items"),
    ]),
    Schema([ColSpec("double", "total"), ColSpec("string", "types")]),
)  # fmt: skip
ITEMS = pa.list_(pa.struct([("price", pa.float64())]))
TABLE = pa.table(
    {
        "id": [1, 2, 3],
        "person": pa.array([{"age": 1, "name": "a"}, {"age": 2, "name": None}, {"age": None, "name": "c"}],
                           pa.struct([("age", pa.int64()), ("name", pa.string())])),
        "by_day": pa.array([[("mo", 0.5), ("tu", 0.25)], [], [("mo", 1.0)]], pa.map_(pa.string(), pa.float64())),
        "items": pa.array([[{"price": 10.0}], [{"price": 1.0}, {"price": 2.0}], []], ITEMS),
    }
)  # fmt: skip


@pytest.fixture
def summing(tracking_uri, tmp_path):
    """The URI of the model `Sums`, in a folder."""
    mlflow.pyfunc.save_model(tmp_path / "sums", python_model=Sums(), signature=SIGNATURE, pip_requirements=["mlflow"])
    return str(tmp_path / "sums")


def assert_scored_as_pyfunc_does(job: Any, uri: str, engine: str) -> None:
    write("lake/features", TABLE, mode="overwrite")
    result = score(job, engine)
    assert (result.status, result.rows_scored, result.rows_quarantined) == ("published", 2, 1)
    given = pd.DataFrame({
        "person": [{"age": 1, "name": "a"}, {"age": 2, "name": None}],
        "by_day": [{"mo": 0.5, "tu": 0.25}, {}],
        "items": [np.array([{"price": 10.0}]), np.array([{"price": 1.0}, {"price": 2.0}])],
    })  # fmt: skip
    expected = mlflow.pyfunc.load_model(uri).predict(given)
    scored = read("lake/scores")
    assert {name: scored[name].to_pylist() for name in ("total", "types")} == expected.to_dict("list")
    assert scored["types"].to_pylist()[0] == "dict int64 dict ndarray a"
    assert [r["rule"] for r in read("lake/scores_quarantine")["_reasons"].to_pylist()[0]] == ["required"]


JOB = {"model": {"trust": ["pickle", "python_function"]}, "checks": {"quarantine": {"max_fraction": 0.5}}}


def test_a_run_with_an_object_a_map_and_an_array_of_objects(make_job, summing):
    assert_scored_as_pyfunc_does(make_job(summing, **JOB), summing, "local")


@pytest.mark.long
def test_such_a_run_on_spark(make_job, summing, spark):
    assert_scored_as_pyfunc_does(make_job(summing, **JOB), summing, "spark")
    every_row = {"source": {"where": "id >= 0 OR id < 0"}}  # an OR is left to Spark: the frame carrier
    assert_scored_as_pyfunc_does(make_job(summing, **JOB, **every_row), summing, "spark")


# The table of types in conf/README.md

README = (Path(__file__).parents[2] / "conf/README.md").read_text()
TYPES = README.partition("## Types")[2].partition("What the model answers")[0]
GIVEN = {
    "boolean": pa.array([True]), "integer": pa.array([1], pa.int32()), "long": pa.array([1]),
    "float": pa.array([0.5], pa.float32()), "double": pa.array([0.5]), "string": pa.array(["a"]),
    "binary": pa.array([b"a"]), "datetime": pa.array([dt.datetime(2026, 1, 1)], pa.timestamp("us")),
    "array": pa.array([[0.5]]), "object": pa.array([{"p": 0.5}]), "map": pa.array([[("k", 0.5)]], pa.map_(pa.string(), pa.float64())),
}  # fmt: skip
SPECS = {"array": Array(DOUBLE), "object": Object([Property("p", DOUBLE)]), "map": Map(DOUBLE)}


def test_the_table_of_types_is_what_a_model_is_given():
    """Every type of MLflow's has its line, which names the dtype, or the class of values that are objects."""
    lines = {}
    for first, given_as in re.findall(r"^\| ([^|]*) \| [^|]* \| ([^|]*) \|$", TYPES, re.MULTILINE):
        lines |= dict.fromkeys(re.findall(r"`(\w+)`", first), given_as)
    assert {t.name for t in DataType} | {"array", "object", "map", "any"} == set(lines)
    for name, column in GIVEN.items():
        spec = ColSpec(SPECS.get(name, name), "x")
        frame = model_input(pa.record_batch({"x": column}), Scoring((), (), features(spec, column), ()))
        kind, value = str(frame["x"].dtype), frame["x"][0]
        words = {"array": "an array of numpy's", "object": "a dict of", "map": "a dict,"}.get(name, f"`{kind}`")
        words = f"`{type(value).__name__}`" if kind == "object" and name not in SPECS else words
        assert words in lines[name]
    listed = TYPES.partition("A tensor's dtype is one of ")[2].partition("(texts)")[0]
    assert {"float16", "float64", "int8", "int64", "uint8", "uint64", "bool", "str", "object"} <= set(DTYPES)
    assert set(re.findall(r"`([\w]+)`", listed)) <= set(DTYPES)
