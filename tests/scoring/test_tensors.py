"""Tensors: which columns make each array that a model is given, and whole runs of models that take them."""

from __future__ import annotations

import os
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.models import ModelSignature
from mlflow.models.utils import _enforce_schema
from mlflow.types import Schema, TensorSpec

from lakehouse.config import Features
from lakehouse.errors import ConfigError, ModelRefused
from lakehouse.models import FetchedModel, features_of
from lakehouse.scoring.inputs import model_input, unfit_rows
from lakehouse.scoring.score import Scoring
from tests.conftest import read, score, write

F32, F64 = np.dtype("float32"), np.dtype("float64")


def spec(shape: tuple[int, ...], dtype: str = "float32", name: str | None = None) -> TensorSpec:
    return TensorSpec(np.dtype(dtype), (-1, *shape), name)


def scoring(specs: list[TensorSpec], table: pa.RecordBatch, **config: Any) -> Scoring:
    model = FetchedModel("models:/m/1", "m", "1", "", "", Schema(specs).to_dict(), [], (), ())
    found = features_of(model, Features(**config), table.schema, "t")
    return Scoring((), (), found.features, (), tensors=found.tensors)


def given(specs: list[TensorSpec], table: pa.RecordBatch, **config: Any) -> Any:
    return model_input(table, scoring(specs, table, **config))


IMAGES = np.arange(24, dtype="float32").reshape(2, 3, 4)
FLAT = pa.array(IMAGES.reshape(2, 12).tolist(), pa.list_(pa.float32()))
NESTED = pa.array(IMAGES.tolist(), pa.list_(pa.list_(pa.float32())))
BYTES = pa.array([[0, 255, 7], [1, 2, 3]], pa.list_(pa.int32()))
TABLE = pa.record_batch({
    "flat": FLAT, "nested": NESTED, "bytes": BYTES, "a": pa.array([1.5, 2.5]), "b": pa.array([3.0, None]),
    "n": pa.array([1, 2]), "s": ["x", "yz"], "t": ["é", ""], "yes": [True, False],
    "pair": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float64(), 2)),
})  # fmt: skip


@pytest.mark.parametrize(
    ("specs", "config", "expected"),
    [
        ([spec((3, 4))], {"tensor": ["nested"]}, IMAGES),
        ([spec((3, 4))], {"tensor": ["flat"], "reshape": ["flat"]}, IMAGES),
        ([spec((3, 4, 1))], {"tensor": ["flat"], "reshape": ["flat"]}, IMAGES[..., None]),
        ([spec((12,))], {"tensor": ["flat"]}, IMAGES.reshape(2, 12)),
        ([spec((3,), "uint8")], {"tensor": ["bytes"]}, np.array([[0, 255, 7], [1, 2, 3]], "uint8")),
        ([spec((3,), "float32")], {"tensor": ["bytes"]}, np.array([[0, 255, 7], [1, 2, 3]], "float32")),
        ([spec((2,))], {"tensor": ["pair"], "cast": {"pair": "float"}}, np.array([[1, 2], [3, 4]], "float32")),
        ([spec((-1,), "float64")], {"tensor": ["pair"]}, np.array([[1.0, 2], [3, 4]])),
        ([spec((2,), "float64")], {"tensor": ["a", "b"]}, np.array([[1.5, 3], [2.5, np.nan]])),
        ([spec((), "float64")], {"tensor": ["a"]}, np.array([1.5, 2.5])),
        ([spec((1,), "int16")], {"tensor": ["n"]}, np.array([[1], [2]], "int16")),
        ([spec((1,), "float16")], {"tensor": ["a"]}, np.array([[1.5], [2.5]], "float16")),
        ([spec((2,), "str")], {"tensor": ["s", "t"]}, np.array([["x", "é"], ["yz", ""]])),
        ([spec((2,), "object")], {"tensor": ["s", "t"]}, np.array([["x", "é"], ["yz", ""]], object)),
        ([spec((), "bool")], {"tensor": ["yes"]}, np.array([True, False])),
        ([spec((3, 4), name="image"), spec((2,), "float64", "rest")],
         {"tensor": {"image": "nested", "rest": ["a", "b"]}},
         {"image": IMAGES, "rest": np.array([[1.5, 3], [2.5, np.nan]])}),
        ([spec((3, 4), name="nested"), spec((1,), "int64", "n")], {}, {"nested": IMAGES, "n": np.array([[1], [2]])}),
        ([spec((), "float64", "a")], {}, {"a": np.array([1.5, 2.5])}),
        ([spec((), "float64", "x"), spec((1,), "int64", "n")], {"rename": {"x": "a"}},
         {"x": np.array([1.5, 2.5]), "n": np.array([[1], [2]])}),
        ([spec((3, 4), name="image")], {"rename": {"image": "nested"}}, {"image": IMAGES}),
    ],
)  # fmt: skip
def test_columns_become_arrays_of_the_tensor_s_shape(specs, config, expected):
    """For every batch that was cut, too, and none of what the model changes is the table's."""
    for start in (0, 1):
        batch = TABLE[start:]
        made = given(specs, batch, **config)
        pairs = [(made, expected)] if isinstance(expected, np.ndarray) else [(made[n], expected[n]) for n in expected]
        for array, wanted in pairs:
            assert array.dtype.kind == wanted.dtype.kind
            assert array.dtype == wanted.dtype or wanted.dtype.kind == "U"
            np.testing.assert_array_equal(array, wanted[start:])
            array[...] = array[:1]


@pytest.mark.parametrize("name", ["flat", "a"])
def test_a_named_tensor_is_what_mlflow_makes_of_a_frame(name):
    """MLflow's own way from a column of flat lists, or of single values, to an array."""
    wanted = spec((3, 4), name="flat") if name == "flat" else spec((1,), "float64", "a")
    frame = pd.DataFrame({name: TABLE[name].to_pandas()})
    expected = _enforce_schema(frame, Schema([wanted]))[name]
    made = given([wanted], TABLE, reshape=[name] if name == "flat" else [])[name]
    assert (made.dtype, made.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize(
    ("specs", "config", "said"),
    [
        ([spec((3, 4))], {"tensor": ["flat"]}, r"lists 2 deep, 'flat' is .*; if each is a row of 12 values.*\{reshape: \[flat\]\}"),
        ([spec((3, 4))], {"tensor": ["a", "b"]}, "takes one column of lists, 2 are named"),
        ([spec((3, 4))], {"tensor": ["nested"], "reshape": ["nested"]}, "only lists of single values are reshaped"),
        ([spec((3, -1))], {"tensor": ["nested"]}, "does not say of how many values"),
        ([spec((3,))], {"tensor": ["flat"], "reshape": ["x"]}, r"features\.reshape: 'x' is no column of a tensor"),
        ([spec(())], {"tensor": ["flat"]}, "takes a column of single values, 'flat' is list"),
        ([spec((2,))], {"tensor": ["a"]}, "takes 2 columns, 1 is named, 'a'"),
        ([spec((2,))], {}, "takes 2 columns, 0 are named"),
        ([spec((2,))], {"tensor": {"x": ["a", "b"]}}, "one tensor has no name: list its columns"),
        ([spec((2,), name="x"), spec((1,), name="y")], {"tensor": ["a", "b"]}, "takes 2 tensors, x, y: say which columns"),
        ([spec((2,), name="x")], {"tensor": {"z": ["a"]}}, "no tensor 'z', "),
        ([spec((1,), name="x")], {}, "feature 'x' has no column 'x' in t"),
        ([spec((2,))], {"tensor": ["pair"]}, r"cast: \{pair: float\}"),
        ([spec((2,))], {"tensor": ["a", "b"], "rename": {"a": "b"}}, "features.rename: 'a' is no tensor with a column"),
        ([spec((2,), name="x")], {"tensor": {"x": ["a", "b"]}, "rename": {"x": "a"}}, "features.rename: 'x' is no"),
        ([spec((2,), name="x")], {"tensor": ["a", "b"], "rename": {"x": "a"}}, "features.rename: 'x' is no tensor"),
        ([spec((1,))], {"tensor": ["z"]}, r"no column 'z' in t, .* \(features.tensor names the columns of a tensor\)"),
    ],
)  # fmt: skip
def test_columns_that_do_not_make_the_tensor_are_refused(specs, config, said):
    with pytest.raises(ConfigError, match=said):
        scoring(specs, TABLE, **config)


@pytest.mark.parametrize("wanted", [TensorSpec(F32, (4, 3)), spec((1,), "complex128")])
def test_a_tensor_that_no_rows_make_is_refused(wanted):
    with pytest.raises(ModelRefused, match=r"first dimension has to be that of the rows \(-1\)"):
        scoring([wanted], TABLE, tensor=["a"])


def test_a_row_that_has_not_the_shape_or_a_value_is_set_aside():
    table = pa.record_batch({
        "v": [[[1.0, 2.0]], [[1.0]], [None], None, [[1.0, 2.0], [3.0, 4.0]]],
        "n": pa.array([0, 1, 2, 3, 300]), "s": ["a", None, "c", "d", "e"],
    })  # fmt: skip
    specs = [spec((1, 2), "float64", "v"), spec((), "uint8", "n"), spec((), "str", "s")]
    found = {(b.rule, b.column, row) for b in unfit_rows(table, scoring(specs, table)) for row in b.rows.tolist()}
    assert found == {
        ("exact", "v", 1), ("required", "v", 2), ("required", "v", 3), ("length", "v", 4), ("exact", "n", 4),
        ("required", "s", 1),
    }  # fmt: skip


# Whole runs


# Keras calls numpy's older way to an array
KERAS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def keras():
    """Keras on JAX, as the tests' environment has it."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    return keras


R = np.random.default_rng(0)
ROWS = 70  # more than one padded batch in batches of 50
PIXELS, REST = R.random((ROWS, 4, 5), dtype="float32"), R.random((ROWS, 2), dtype="float32")
SIGNATURE = ModelSignature(Schema([spec((4, 5), name="image"), spec((2,), name="rest")]), Schema([spec((1,))]))
IMAGE_AND_REST = pa.table({
    "id": np.arange(ROWS), "pixels": pa.array(PIXELS.reshape(ROWS, 20).tolist(), pa.list_(pa.float32())),
    "r0": REST[:, 0], "r1": REST[:, 1],
})  # fmt: skip
TWO = {"features": {"tensor": {"image": "pixels", "rest": ["r0", "r1"]}, "reshape": ["pixels"]}}


def assert_scored(job: Any, expected: Any) -> None:
    write("lake/features", IMAGE_AND_REST, mode="overwrite")
    result = score(job)
    assert (result.status, result.rows_scored) == ("published", ROWS)
    np.testing.assert_allclose(np.stack(read("lake/scores")["p"].to_pylist()).ravel(), expected.ravel(), rtol=1e-5)


@KERAS
@pytest.mark.long
def test_a_keras_model_of_two_named_tensors(keras, make_job, tmp_path):
    image, rest = keras.Input((4, 5), name="image"), keras.Input((2,), name="rest")
    flat = keras.layers.Flatten()(image)
    native = keras.Model([image, rest], keras.layers.Dense(1)(keras.layers.Concatenate()([flat, rest])))
    mlflow.keras.save_model(native, str(tmp_path / "m"), signature=SIGNATURE)
    expected = mlflow.pyfunc.load_model(str(tmp_path / "m")).predict({"image": PIXELS, "rest": REST})
    job = make_job(str(tmp_path / "m"), **TWO, model={"batch_rows": 50}, predictions={"p": "*"})
    assert_scored(job, np.asarray(expected))


@KERAS
@pytest.mark.long
def test_a_keras_model_of_images(keras, make_job, tmp_path):
    native = keras.Sequential([keras.Input((4, 5)), keras.layers.Flatten(), keras.layers.Dense(1)])
    one = ModelSignature(Schema([spec((4, 5))]), Schema([spec((1,))]))
    mlflow.keras.save_model(native, str(tmp_path / "m"), signature=one)
    features = {"tensor": ["pixels"], "reshape": ["pixels"]}
    job = make_job(str(tmp_path / "m"), features=features, predictions={"p": "*"})
    assert_scored(job, np.asarray(mlflow.pyfunc.load_model(str(tmp_path / "m")).predict(PIXELS)))


@pytest.mark.long
def test_an_onnx_model_of_two_named_tensors(make_job, tmp_path):
    import onnx
    from onnx import TensorProto, helper

    single = TensorProto.FLOAT
    nodes = [
        helper.make_node("ReduceSum", ["image", "axes"], ["sums"], keepdims=0),
        helper.make_node("ReduceSum", ["rest", "one"], ["others"], keepdims=0),
        helper.make_node("Add", ["sums", "others"], ["total"]),
    ]
    graph = helper.make_graph(
        nodes, "sums",
        [helper.make_tensor_value_info("image", single, [None, 4, 5]), helper.make_tensor_value_info("rest", single, [None, 2])],
        [helper.make_tensor_value_info("total", single, [None])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]), helper.make_tensor("one", TensorProto.INT64, [1], [1])],
    )  # fmt: skip
    native = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(native)
    mlflow.onnx.save_model(native, tmp_path / "m", signature=SIGNATURE)
    expected = mlflow.pyfunc.load_model(str(tmp_path / "m")).predict({"image": PIXELS, "rest": REST})["total"]
    assert_scored(make_job(str(tmp_path / "m"), **TWO, predictions={"p": "*"}), np.asarray(expected))
