"""Models of ONNX Runtime and Keras."""

from __future__ import annotations

from typing import Any

import mlflow.onnx
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, Schema
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lakehouse.models.loading import environment
from tests.models.flavors.case import Case, Columns, Entry, labels, logger, numbers

FLOAT32 = 1e-5


def run_onnx(model: Any, feeds: dict[str, Any]) -> dict[str, Any]:
    """The outputs of ONNX Runtime itself, by name."""
    from onnxruntime import InferenceSession

    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def float32(x: pd.DataFrame) -> Any:
    return x.to_numpy().astype(np.float32)


def onnx_classifier(zipmap: bool, *classes: Any) -> Case:
    from skl2onnx import to_onnx

    x = numbers()
    model = RandomForestClassifier(4, random_state=0).fit(float32(x), labels(x, *classes))
    options = None if zipmap else {id(model): {"zipmap": False}}
    graph = to_onnx(model, float32(x)[:1], options=options)
    answer = run_onnx(graph, {"X": float32(x)})
    inputs = infer_signature(x).inputs
    log = logger(mlflow.onnx.log_model, graph, "onnxruntime", signature=ModelSignature(inputs))
    if zipmap:
        shares = answer["output_probability"]
        native: Columns = {"label": answer["output_label"], "shares": list(shares)}
        return Case(log, x, native, {"predictions": {"label": "output_label", "shares": "output_probability"}})
    native = {"label": answer["label"], "shares": answer["probabilities"]}
    return Case(
        log,
        x,
        native,
        {"predictions": {"label": "label", "shares": "probabilities"}},
        close=FLOAT32,
        result_type="struct<label: string, probabilities: array<float>>",
    )


def onnx_inputs() -> Case:
    """One input a column, as skl2onnx makes them of a frame."""
    from skl2onnx import to_onnx

    x = numbers().astype(np.float32)
    scaled = make_column_transformer((StandardScaler(), ["a", "b"]))
    model = make_pipeline(scaled, LinearRegression()).fit(x, x["a"] * 2 - x["b"])
    graph = to_onnx(model, x[:1])
    answer = run_onnx(graph, {name: x[name].to_numpy().reshape(-1, 1) for name in x})
    outputs = Schema([ColSpec("float", "variable")])
    signature = ModelSignature(infer_signature(x).inputs, outputs)
    log = logger(mlflow.onnx.log_model, graph, "onnxruntime", signature=signature)
    return Case(log, x, {"variable": answer["variable"].ravel()}, close=FLOAT32)


def onnx_tensor() -> Case:
    from skl2onnx import to_onnx

    x = numbers()
    model = LinearRegression().fit(float32(x), x["a"] * 2 - x["b"])
    graph = to_onnx(model, float32(x)[:1])
    answer = run_onnx(graph, {"X": float32(x)})
    log = logger(mlflow.onnx.log_model, graph, "onnxruntime", signature=infer_signature(float32(x), answer))
    columns = {"features": {"tensor": ["a", "b"]}}
    return Case(
        log, x.astype(np.float32), {"variable": answer["variable"].ravel()}, columns, close=FLOAT32, given=float32(x)
    )


def keras() -> Any:
    with environment({"KERAS_BACKEND": "jax"}):  # for this process only: workers find it out from the model
        import keras as library

    library.utils.set_random_seed(0)
    return library


def keras_logger(model: Any, signature: Any) -> Any:
    import mlflow.keras

    return logger(mlflow.keras.log_model, model, "keras", signature=signature)


def keras_sigmoid() -> Case:
    layers = keras().layers
    x = numbers()
    model = keras().Sequential([keras().Input((2,)), layers.Dense(4, activation="relu"), layers.Dense(1, "sigmoid")])
    answer = model.predict(float32(x), verbose=0)
    log = keras_logger(model, infer_signature(float32(x), answer))
    columns = {"features": {"tensor": ["a", "b"]}}
    return Case(log, x.astype(np.float32), {"prediction": answer.ravel()}, columns, close=FLOAT32, given=float32(x))


def keras_softmax() -> Case:
    layers = keras().layers
    x = numbers()
    model = keras().Sequential([keras().Input((2,)), layers.Dense(3, activation="softmax")])
    answer = model.predict(float32(x), verbose=0)
    log = keras_logger(model, infer_signature(float32(x), answer))
    job = {"features": {"tensor": ["a", "b"]}, "predictions": {"all": "*"}}
    return Case(
        log, x.astype(np.float32), {"all": answer}, job, close=FLOAT32, given=float32(x), result_type="array<float>"
    )


def keras_outputs() -> Case:
    layers = keras().layers
    x = numbers()
    given = keras().Input((2,))
    shared = layers.Dense(4, activation="relu")(given)
    outputs = [layers.Dense(1, name="up")(shared), layers.Dense(2, "softmax", name="shares")(shared)]
    model = keras().Model(given, outputs)
    up, shares = model.predict(float32(x), verbose=0)
    log = keras_logger(model, ModelSignature(infer_signature(float32(x)).inputs))
    job = {"features": {"tensor": ["a", "b"]}, "predictions": {"up": "up", "shares": "shares"}}
    return Case(
        log, x.astype(np.float32), {"up": up.ravel(), "shares": shares}, job, close=FLOAT32, given=float32(x),
        result_type="struct<up: float, shares: array<float>>",
    )  # fmt: skip


ENTRIES = [
    Entry("onnx", "doubles", "label and probabilities, without zipmap", lambda: onnx_classifier(False, "low", "high")),
    Entry("onnx", "doubles", "text label and probabilities, with zipmap", lambda: onnx_classifier(True, "low", "high")),
    Entry("onnx", "doubles", "number label and probabilities, with zipmap", lambda: onnx_classifier(True, 0, 1)),
    Entry("onnx", "a column each", "a number", onnx_inputs),
    Entry("onnx", "a tensor", "a number", onnx_tensor),
    Entry("keras", "a tensor", "a sigmoid", keras_sigmoid),
    Entry("keras", "a tensor", "a softmax, as a list", keras_softmax),
    Entry("keras", "a tensor", "two outputs", keras_outputs),
]  # fmt: skip
