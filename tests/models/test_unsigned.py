"""Models that were logged without a signature, as many tutorials do: the job file says what they take."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from mlflow.types.schema import Array
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from lakehouse.config import Features, Signature, load_job
from lakehouse.errors import ConfigError, ModelRefused
from lakehouse.models import Trained, specs_of
from lakehouse.models.flavors import FLAVORS
from lakehouse.planning.unsigned import draft_signature
from tests.command import run
from tests.conftest import read, score, write

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

ROWS = 60
NUMBERS = np.random.default_rng(3)
TABLE = pa.table(
    {
        "id": np.arange(ROWS),
        "income": NUMBERS.normal(3000.0, 500.0, ROWS),
        "age": NUMBERS.integers(18, 80, ROWS).astype(np.int32),
        "note": ["x"] * ROWS,
        "country": NUMBERS.choice(["DE", "FR", "IT"], ROWS).tolist(),
    }
)
FRAME = TABLE.to_pandas()
LABEL = (FRAME["age"] > 45).astype(int)
DOUBLES = {"income": "double", "age": "double"}
FLOATS = FRAME[["income", "age"]].astype(float)


@pytest.fixture
def table(workspace: Path) -> None:
    write("lake/features", TABLE)


def save(flavor: Any, model: Any, **more: Any) -> str:
    """The folder of a model, saved without a signature and without an example."""
    folder = next(f"model{i}" for i in itertools.count() if not Path(f"model{i}").exists())
    flavor.save_model(model, folder, pip_requirements=["x"], **more)
    assert "signature" not in yaml.safe_load((Path(folder) / "MLmodel").read_text())
    return folder


def classifier() -> Any:
    """A pipeline that was fitted on a frame of age and country."""
    columns = make_column_transformer((OneHotEncoder(), ["country"]), (StandardScaler(), ["age"]))
    return make_pipeline(columns, LogisticRegression()).fit(FRAME[["age", "country"]], LABEL)


def booster(rows: Any = FLOATS) -> Any:
    import xgboost

    return xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(rows, LABEL), 4)


def graph() -> Any:
    """A regression as an ONNX graph that takes one matrix of two columns."""
    from skl2onnx import to_onnx

    model = make_pipeline(StandardScaler(), LinearRegression()).fit(FLOATS.to_numpy(), LABEL)
    return to_onnx(model, FLOATS.to_numpy(np.float32)[:1])


def refusal(job: Any) -> str:
    with pytest.raises(ModelRefused) as refused:
        score(job)
    return str(refused.value)


def paste(job_file: Path, message: str) -> None:
    """The lines of a refusal's draft put under the job file's `model:` as they stand."""
    draft = message.split("under model:\n")[1]
    text = job_file.read_text()
    assert "\nmodel:\n" in text
    job_file.write_text(text.replace("\nmodel:\n", f"\nmodel:\n{draft}\n"))


def test_the_draft_of_the_columns_that_the_model_names_can_be_pasted(table, make_job):
    model = classifier()
    folder = save(mlflow.sklearn, model, skops_trusted_types=["numpy.dtype"])
    said = refusal(make_job(folder, model={"method": "predict_proba"}, predictions={"p": {"class": 1}}))
    assert said.startswith(f"{folder} has no signature, so its features are not known: log it again with signature=")
    assert said.endswith("under model:\n  signature:\n    inputs: {age: integer, country: string}")
    paste(Path("conf/scores.yaml"), said)
    assert score(load_job(Path("conf/scores.yaml"), date=None, environ={})).status == "published"
    expected = model.predict_proba(FRAME[["age", "country"]])[:, 1]
    np.testing.assert_allclose(read("lake/scores")["p"].to_numpy(), expected, rtol=1e-12)


def test_columns_in_another_order_are_given_in_the_models_where_it_goes_by_name(table, make_job):
    import xgboost

    model = booster()
    swapped = {"age": "double", "income": "double"}
    job = make_job(save(mlflow.xgboost, model), model={"signature": {"inputs": swapped, "outputs": "float"}})
    score(job)
    np.testing.assert_array_equal(read("lake/scores")["prediction"].to_numpy(), model.predict(xgboost.DMatrix(FLOATS)))


def test_a_parameter_that_the_job_declares_reaches_the_model(table, make_job):
    import xgboost

    model = booster()
    folder = save(mlflow.xgboost, model)
    given = {"params": {"output_margin": True}, "signature": {"inputs": DOUBLES}}
    with pytest.raises(ConfigError, match=r"declare it in model\.signature\.params"):
        score(make_job(folder, model=given))
    declared = {"inputs": DOUBLES, "params": {"output_margin": "boolean"}}
    score(make_job(folder, model={**given, "signature": declared}))
    expected = model.predict(xgboost.DMatrix(FLOATS), output_margin=True)
    np.testing.assert_array_equal(read("lake/scores")["prediction"].to_numpy(), expected)
    with pytest.raises(ConfigError, match="takes a string, not True"):
        score(make_job(folder, model={**given, "signature": {**declared, "params": {"output_margin": "string"}}}))


def test_a_model_that_only_knows_how_many_columns_it_takes(table, make_job):
    import onnxruntime

    model = graph()
    folder = save(mlflow.onnx, model)
    said = refusal(make_job(folder, keep=["country", "note"]))
    assert said.splitlines()[1:] == [
        "  # the model does not name its columns: these are all of lake/features but keys, keep and slice",
        "  signature:",
        "    inputs: {income: double, age: integer}",
    ]
    assert "# TODO: the model takes 2 columns, these are 4\n" in refusal(make_job(folder))
    make_job(folder, keep=["country", "note"])
    paste(Path("conf/scores.yaml"), said)
    score(load_job(Path("conf/scores.yaml"), date=None, environ={}))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (answer,) = session.run(None, {session.get_inputs()[0].name: FLOATS.to_numpy(np.float32)})
    expected = answer[:, 0]
    np.testing.assert_array_equal(read("lake/scores")["prediction"].to_numpy(), expected)
    matrix = {"inputs": {"tensor": "float32", "shape": [-1, 2]}, "outputs": {"p": "float"}}
    narrow = {"tensor": ["income", "age"], "cast": {"income": "float", "age": "float"}}
    score(make_job(folder, job="matrix", model={"signature": matrix}, features=narrow, sinks=MATRIX))
    np.testing.assert_array_equal(read("lake/matrix")["p"].to_numpy(), expected)


MATRIX = [{"type": "delta", "table": "lake/matrix"}]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"income": "double"}, "the model was trained on 'age', which it does not name"),
        (
            {"income": "double", "id": "long"},
            "was trained on 'age', which it does not name, but 'id', which it was not",
        ),
        ({**DOUBLES, "id": "long"}, "the model was not trained on 'id', known: age, income"),
        (
            {"age": "double", "income": "double"},
            "in another order, and goes by their order: write them as income, age",
        ),
    ],
)
def test_a_signature_that_is_not_the_models_is_refused(table, make_job, lightgbm_folder, inputs, said):
    with pytest.raises(ConfigError) as refused:
        score(make_job(lightgbm_folder, model={"signature": {"inputs": inputs}}))
    assert str(refused.value).startswith("model.signature.inputs: ")
    assert said in str(refused.value)


def lightgbm_model(rows: Any = FLOATS) -> Any:
    import lightgbm

    settings = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 2}
    return lightgbm.train(settings, lightgbm.Dataset(rows, LABEL), 3)


@pytest.fixture(scope="module")
def lightgbm_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("lightgbm") / "model"
    mlflow.lightgbm.save_model(lightgbm_model(), folder, pip_requirements=["x"])
    return str(folder)


def test_another_number_of_columns_is_refused(table, make_job):
    folder = save(mlflow.xgboost, booster(FLOATS.to_numpy()))
    with pytest.raises(ConfigError, match="the model takes 2 columns, 1 are named"):
        score(make_job(folder, model={"signature": {"inputs": {"income": "double"}}}))


def test_a_signature_beside_the_models_own_must_be_equal(table, make_job):
    own = infer_signature(FLOATS, LABEL.to_numpy(), params={"output_margin": False})
    mlflow.xgboost.save_model(booster(), "own", signature=own, pip_requirements=["x"])
    equal = {"inputs": DOUBLES, "params": {"output_margin": "boolean"}}
    assert score(make_job("own", model={"signature": equal})).status == "published"
    other = make_job("own", model={"signature": {"inputs": {"income": "double", "age": "long"}}})
    with pytest.raises(ConfigError, match="has a signature of its own, which says otherwise: remove it"):
        score(other)


def test_a_jobs_signature_is_what_mlflow_stores_of_the_same():
    given = Signature(
        inputs={"a": "long", "b": {"type": "string", "required": False}, "c": "array<array<double>>"},
        outputs={"p": "double", "q": "array<string>"},
        params={"k": "long"},
    )
    doubles = Array(DataType.double)
    inputs = Schema(
        [ColSpec("long", "a"), ColSpec("string", "b", required=False), ColSpec(Array(doubles), "c", required=True)]
    )
    outputs = Schema([ColSpec("double", "p"), ColSpec(Array(DataType.string), "q")])
    sides = specs_of(given)
    assert sides["inputs"] == json.loads(inputs.to_json())
    assert [{**spec, "required": True} for spec in sides["outputs"]] == json.loads(outputs.to_json())
    assert sides["params"] == [{"name": "k", "type": "long", "default": None, "shape": None}]
    matrix = Schema([TensorSpec(np.dtype("float32"), (-1, 20))])
    shape = Signature(inputs={"tensor": "float32", "shape": [-1, 20]})
    assert specs_of(shape)["inputs"] == json.loads(matrix.to_json())


def _catboost(rows: Any) -> Any:
    import catboost

    settings = {"iterations": 2, "verbose": False, "allow_writing_files": False, "thread_count": 1}
    return catboost.CatBoostRegressor(**settings).fit(rows, LABEL)


def _ols(rows: Any) -> Any:
    import statsmodels.api

    return statsmodels.api.OLS(LABEL if isinstance(rows, pd.DataFrame) else LABEL.to_numpy(), rows).fit()


def _formula(rows: pd.DataFrame) -> Any:
    import statsmodels.formula.api

    return statsmodels.formula.api.ols("label ~ income + age", rows.assign(label=LABEL)).fit()


def _onnx(rows: Any) -> Any:
    import onnxruntime
    from skl2onnx import to_onnx

    made = to_onnx(StandardScaler().fit(FLOATS), FLOATS[:1] if rows is FLOATS else rows[:1])
    return onnxruntime.InferenceSession(made.SerializeToString())


def _scaled(rows: Any) -> Any:
    return make_pipeline("passthrough", make_pipeline(StandardScaler()), LogisticRegression()).fit(rows, LABEL)


NAMES = ("income", "age")
TRAINED: Mapping[str, tuple[Callable[..., Any], Trained, Trained]] = {
    "sklearn": (_scaled, Trained(NAMES, 2, True), Trained((), 2)),
    "xgboost": (booster, Trained(NAMES, 2, True), Trained((), 2)),
    "lightgbm": (lightgbm_model, Trained(NAMES, 2), Trained((), 2)),
    "catboost": (_catboost, Trained(NAMES, 2, True), Trained((), 2)),
    "statsmodels": (_ols, Trained(NAMES, 2), Trained((), 2)),
    "onnx": (_onnx, Trained(NAMES, 2, True), Trained((), 2)),
}


@pytest.mark.parametrize("flavor", TRAINED)
def test_what_a_library_knows_of_its_columns(flavor):
    train, of_frame, of_matrix = TRAINED[flavor]
    known = FLAVORS[f"mlflow.{flavor}"].trained_on
    assert known(train(FLOATS)) == of_frame
    assert known(train(FLOATS.to_numpy())) == of_matrix


def test_a_formula_makes_columns_of_its_own():
    assert FLAVORS["mlflow.statsmodels"].trained_on(_formula(FLOATS)) == Trained()


SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("yes", pa.int16()),
        ("a: #b", pa.list_(pa.float32())),
        ("day", pa.date32()),
        ("price", pa.decimal128(9, 2)),
        ("nested", pa.struct([("x", pa.int8())])),
        ("Income", pa.float64()),
    ]
)


@pytest.mark.parametrize(
    ("trained", "inputs", "notes"),
    [
        (
            Trained(("income", "cost", "const", "nested")),
            {"income": "double", "cost": "double", "const": "double", "nested": "double"},
            ["TODO: t has no column 'const'", "nested is struct<x: int8>, which no feature can be"],
        ),
        (
            Trained((), 4),
            {"yes": "integer", "a: #b": "array<float>", "day": "datetime", "cost": "double", "Income": "double"},
            ["nested is struct<x: int8>, which no feature can be",
             "the model does not name its columns: these are all of t but keys, keep and slice",
             "TODO: the model takes 4 columns, these are 5"],
        ),
    ],
)  # fmt: skip
def test_a_draft_is_yaml_that_says_what_to_look_at(trained, inputs, notes):
    features = Features(rename={"cost": "price"}, match="case_insensitive")
    draft = draft_signature(SCHEMA, trained, {"id"}, features, "t")
    assert list(draft.notes) == notes
    assert yaml.safe_load(f"model:\n  uri: m\n{draft}\n") == {"model": {"uri": "m", "signature": {"inputs": inputs}}}


def test_init_writes_the_draft_into_the_job_file(table, capfd):
    folder = save(mlflow.sklearn, classifier(), skops_trusted_types=["numpy.dtype"])
    assert run(capfd, "init", folder, "lake/features").code == 0
    file = Path(f"conf/{folder}.yaml")
    content = yaml.safe_load(file.read_text())
    assert content["model"]["signature"] == {"inputs": {"age": "integer", "country": "string"}}
    assert "# The model has no signature: model.signature is a draft to look through" in file.read_text()
    score(load_job(file, date=None, environ={}))
    expected = classifier().predict_proba(FRAME[["age", "country"]])[:, 1]
    np.testing.assert_allclose(read(f"lake/{folder}_scores")["probability"].to_numpy(), expected, rtol=1e-12)


def test_init_does_not_load_what_is_not_safe_to_load(table, capfd):
    folder = save(mlflow.sklearn, classifier(), serialization_format="cloudpickle")
    assert run(capfd, "init", folder, "lake/features").code == 0
    text = Path(f"conf/{folder}.yaml").read_text()
    wanted = {"income": "double", "age": "integer", "note": "string", "country": "string"}
    assert yaml.safe_load(text)["model"]["signature"] == {"inputs": wanted}
    assert "# the model was not loaded: these are all of lake/features but" in text
    assert "model: {trust: [pickle]}" in text


def test_init_tells_which_arrays_a_model_takes(table, capfd):
    folder = "arrays"
    signature = ModelSignature(Schema([TensorSpec(np.dtype("float32"), (-1, 2))]))
    fitted = LinearRegression().fit(FLOATS.to_numpy(), LABEL)
    mlflow.sklearn.save_model(
        fitted, folder, signature=signature, pip_requirements=["x"], skops_trusted_types=["numpy.dtype"]
    )
    assert run(capfd, "init", folder, "lake/features").code == 0
    text = Path(f"conf/{folder}.yaml").read_text()
    assert "#   an array of float32, shape [-1, 2]\n# TODO: say which columns it is made of" in text


def test_init_offers_names_as_yaml_has_them(table, capfd):
    numbered = pd.DataFrame(FLOATS.to_numpy())
    folder = "numbered"
    mlflow.sklearn.save_model(
        LinearRegression().fit(numbered.to_numpy(), LABEL), folder, signature=infer_signature(numbered),
        pip_requirements=["x"], skops_trusted_types=["numpy.dtype"],
    )  # fmt: skip
    assert run(capfd, "init", folder, "lake/features").code == 0
    offered = [part.split("add ")[1] for part in Path(f"conf/{folder}.yaml").read_text().splitlines() if "add " in part]
    assert [yaml.safe_load(part) for part in offered] == [{"features": {"rename": {n: "…"}}} for n in ("0", "1")]


def test_the_draft_of_a_model_that_takes_an_array(table):
    draft = draft_signature(TABLE.schema, Trained(shape=(2, 3), dtype="int8"), ["id"], Features(), "t")
    said = yaml.safe_load(str(draft))["signature"]
    assert said == {"inputs": {"tensor": "int8", "shape": [-1, 2, 3]}}
    wanted = json.loads(Schema([TensorSpec(np.dtype("int8"), (-1, 2, 3))]).to_json())
    assert specs_of(Signature(**said))["inputs"] == wanted
    assert "features: {tensor: […]}" in draft.notes[0]


KERAS = """
import sys
import keras, mlflow, numpy as np
from lakehouse import score
from lakehouse.models.flavors import FLAVORS, Trained
from tests.conftest import read

model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Rescaling(0.01), keras.layers.Dense(1)])
assert FLAVORS["mlflow.keras"].trained_on(model) == Trained((), 2)
mlflow.keras.save_model(model, "network", pip_requirements=["x"])
assert score("conf/scores.yaml", engine="local").status == "published"
rows = read("lake/features").select(["income", "age"]).to_pandas().to_numpy(np.float64)
found, expected = read("lake/scores")["prediction"].to_numpy(), model.predict(rows, verbose=0)[:, 0]
np.testing.assert_allclose(found, expected, rtol=1e-6)
"""


IMAGES = """
import sys
import keras, mlflow, numpy as np, pyarrow as pa, yaml
from pathlib import Path
from lakehouse import score
from lakehouse.errors import ConfigError, ModelRefused
from tests.conftest import read, write

layers = [keras.layers.Input((2, 2)), keras.layers.Rescaling(0.1), keras.layers.Flatten(), keras.layers.Dense(1)]
model = keras.Sequential(layers)
mlflow.keras.save_model(model, "network", pip_requirements=["x"])
rows = np.arange(40, dtype=np.float32).reshape(10, 2, 2)
write("lake/features", pa.table({"id": np.arange(10), "image": rows.tolist()}), mode="overwrite", schema_mode="overwrite")
job = yaml.safe_load(Path("conf/scores.yaml").read_text())


def refused(**sections):
    Path("conf/scores.yaml").write_text(yaml.safe_dump({**job, **sections}))
    try:
        assert score("conf/scores.yaml", engine="local").status == "published"
    except (ConfigError, ModelRefused) as error:
        return str(error)


said = refused()
assert "tensor: float32" in said, said
assert "shape: [-1, 2, 2]" in said, said
draft = {"inputs": {"tensor": "float32", "shape": [-1, 2, 2]}}
features = {"tensor": ["image"], "cast": {"image": "float"}}
wrong = {**job["model"], "signature": {"inputs": {"image": "array<array<double>>"}}}
said = refused(model=wrong)
assert said.endswith("the model takes one array: write {tensor: float32, shape: [-1, 2, 2]}"), said
assert refused(model={**job["model"], "signature": draft}, features=features) is None
found = read("lake/scores")["prediction"].to_numpy()
np.testing.assert_allclose(found, model.predict(rows, verbose=0)[:, 0], rtol=1e-6)
"""


@pytest.mark.long
def test_a_network_of_keras(table, make_job):
    """In a process of its own: JAX, once imported, stands against the forks of other tests."""
    Path("network").mkdir()
    make_job("network", model={"signature": {"inputs": DOUBLES}})
    Path("network").rmdir()
    home = {"PYTHONPATH": str(Path(__file__).parents[2]), "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", KERAS], check=True, env={**os.environ, **home})


@pytest.mark.long
def test_a_network_of_keras_that_takes_images(table, make_job):
    Path("network").mkdir()
    make_job("network")
    Path("network").rmdir()
    home = {"PYTHONPATH": str(Path(__file__).parents[2]), "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, "-c", IMAGES], check=True, env={**os.environ, **home})


@pytest.mark.long
def test_a_model_without_signature_on_spark(spark, table, make_job):
    folder = save(mlflow.sklearn, classifier(), skops_trusted_types=["numpy.dtype"])
    inputs = {"country": "string", "age": "integer"}  # not in the model's order
    job = make_job(
        folder, model={"method": "predict_proba", "signature": {"inputs": inputs}}, predictions={"p": {"class": 1}}
    )
    score(job, "spark")
    expected = classifier().predict_proba(FRAME[["age", "country"]])[:, 1]
    np.testing.assert_allclose(read("lake/scores")["p"].to_numpy(), expected, rtol=1e-12)
