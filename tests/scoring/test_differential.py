"""Scores equal those of `mlflow.pyfunc.spark_udf` on the same rows, by any carrier and engine (promise 11)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pyfunc
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from tests.conftest import read, score, write
from tests.tables import assert_tables_equal

ROWS = 120
EVERY_ROW = "id >= 0 OR id < 0"  # an OR is left to Spark: the frame carrier
PROMISED = {"float64": 1e-12, "float32": 1e-5}
PICKLE = {"serialization_format": "pickle", "skops_trusted_types": None}

Answer = list[Any]
Expected = Callable[[Answer], pa.Array]


def frame(nulls: bool) -> pd.DataFrame:
    """Features of every kind; without nulls to fit on, with them to score."""
    n = np.arange(ROWS)
    rows = pd.DataFrame(
        {
            "a": np.sin(n) * 3,
            "b": n * 0.37 % 5,
            "f": (np.cos(n) * 2).astype(np.float32),
            "i": (n * 7 % 11 - 5).astype(np.int32),
            "l": n.astype(np.int64) * 1_000_003 % 17,
            "s": pd.Series(["Zürich", "", "NaN", "zürich"])[n % 4].to_numpy(dtype=object),
            "t": n % 3 == 0,
        }
    )
    if nulls:
        rows.loc[n % 5 == 1, "a"] = np.nan
        rows.loc[n % 7 == 1, "f"] = np.nan
        rows.loc[n % 6 == 1, "s"] = None
    return rows


def rows() -> pa.Table:
    """The rows to score, keyed; `a` has nulls and NaN."""
    table = pa.Table.from_pandas(frame(nulls=True), preserve_index=False)
    a = frame(nulls=True)["a"].tolist()
    a = [None if v != v and i % 2 else v for i, v in enumerate(a)]
    table = table.set_column(0, "a", pa.array(a, pa.float64()))
    return table.add_column(0, "id", pa.array(np.arange(ROWS)))


DOUBLES, KINDS = ["a", "b"], ["a", "b", "f", "i", "l", "s", "t"]


def on_doubles(model: Any) -> Any:
    return make_pipeline(SimpleImputer(), StandardScaler(), model)


def on_kinds(model: Any) -> Any:
    return make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), ["a", "b", "f", "i", "l"]),
            (OneHotEncoder(handle_unknown="ignore"), ["s"]),
            ("passthrough", ["t"]),
        ),
        model,
    )


def part(number: int, kind: pa.DataType | None = None) -> Expected:
    return lambda answer: pa.array([value[number] for value in answer], kind or pa.float64())


def whole(kind: pa.DataType) -> Expected:
    return lambda answer: pa.array(answer, kind)


def from_on(threshold: float, number: int) -> Expected:
    return lambda answer: pa.array([value[number] >= threshold for value in answer])


@dataclass(frozen=True)
class Case:
    """A model, what the job says of it, and each prediction as a function of what spark_udf answers."""

    model: Callable[[], Any]
    y: Callable[[pd.DataFrame], Any]
    result_type: str
    expected: Mapping[str, Expected]
    columns: list[str] = field(default_factory=lambda: DOUBLES)
    method: str = "predict"
    job: Mapping[str, Any] = field(default_factory=dict)
    logging: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = False


def positive(x: pd.DataFrame) -> Any:
    return (x["a"] + x["b"] > 2.5).astype(int)


def named(x: pd.DataFrame) -> Any:
    return np.array(["klein", "", "groß"], dtype=object)[np.digitize(x["a"] + x["b"], [0, 3])]


CASES = {
    "probabilities of int classes": Case(
        lambda: on_doubles(LogisticRegression()), positive, "array<double>",
        {"no": part(0), "yes": part(1), "likely": from_on(0.5, 1), "all": whole(pa.list_(pa.float64()))},
        method="predict_proba",
        job={"model": {"method": "predict_proba"},
             "predictions": {"no": {"class": 0}, "yes": {"class": 1}, "likely": {"class": 1, "threshold": 0.5},
                             "all": "*"}},
    ),
    "probabilities of string classes over every kind": Case(
        lambda: on_kinds(LogisticRegression()), named, "array<double>",
        {"small": part(2), "none": part(0), "sure": from_on(0.9, 1)},
        columns=KINDS, method="predict_proba",
        job={"predictions": {"small": {"class": "klein"}, "none": {"class": ""},
                             "sure": {"class": "groß", "threshold": 0.9}}},
    ),
    "string labels over every kind": Case(
        lambda: on_kinds(LogisticRegression()), named, "string",
        {"label": whole(pa.string())}, columns=KINDS, job={"predictions": {"label": "*"}}, exact=True,
    ),
    "int labels": Case(
        lambda: on_doubles(LogisticRegression()), positive, "long",
        {"prediction": whole(pa.int64()), "one": lambda answer: pa.array([v >= 1 for v in answer])},
        job={"predictions": {"prediction": 0, "one": {"output": 0, "threshold": 1}}}, exact=True,
    ),
    "bool labels": Case(
        lambda: on_doubles(LogisticRegression()), lambda x: positive(x).astype(bool), "boolean",
        {"prediction": whole(pa.bool_())}, exact=True,
    ),
    "linear regression over every kind": Case(
        lambda: on_kinds(LinearRegression()), lambda x: x["a"] * 1e6 + x["i"], "double",
        {"prediction": whole(pa.float64()), "large": lambda answer: pa.array([v >= 1e6 for v in answer])},
        columns=KINDS, job={"predictions": {"prediction": "*", "large": {"output": 0, "threshold": 1e6}}},
    ),
    "float32 in and out": Case(
        lambda: on_doubles(LinearRegression()), lambda x: x["f"] * np.float32(3.3), "float",
        {"prediction": whole(pa.float32())}, columns=["f"],
    ),
    "several outputs": Case(
        lambda: on_doubles(LinearRegression()), lambda x: np.column_stack([x["a"], x["b"] * -2]), "array<double>",
        {"second": part(1), "first": part(0), "both": whole(pa.list_(pa.float64()))},
        job={"predictions": {"second": 1, "first": 0, "both": "*"}},
    ),
    "an output named by the signature": Case(
        lambda: on_doubles(LinearRegression()), lambda x: x["a"], "double", {"score": whole(pa.float64())},
        logging={"signature": ModelSignature(
            Schema([ColSpec("double", "a"), ColSpec("double", "b")]), Schema([ColSpec("double", "score")]))},
    ),
    "outputs named by the signature": Case(
        lambda: on_doubles(LinearRegression()), lambda x: np.column_stack([x["a"], x["b"] * -2]), "array<double>",
        {"up": part(0), "down": part(1)},
        logging={"signature": ModelSignature(
            Schema([ColSpec("double", "a"), ColSpec("double", "b")]),
            Schema([ColSpec("double", "up"), ColSpec("double", "down")]))},
    ),
    "a forest's labels": Case(
        lambda: on_kinds(RandomForestClassifier(8, random_state=0)), named, "string",
        {"prediction": whole(pa.string())}, columns=KINDS, logging=PICKLE, job={"model": {"trust": ["pickle"]}},
        exact=True,
    ),
    "a forest's probabilities": Case(
        lambda: on_kinds(RandomForestClassifier(8, random_state=0)), positive, "array<double>",
        {"yes": part(1), "likely": from_on(0.5, 1)}, columns=KINDS, method="predict_proba", logging=PICKLE,
        job={"model": {"trust": ["pickle"]},
             "predictions": {"yes": {"class": 1}, "likely": {"class": 1, "threshold": 0.5}}},
        exact=True,
    ),
    "a forest's numbers": Case(
        lambda: RandomForestRegressor(8, random_state=0), lambda x: x["b"] * 10, "double",
        {"prediction": whole(pa.float64())}, columns=["b", "i"], logging=PICKLE, job={"model": {"trust": ["pickle"]}},
        exact=True,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def registry(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own functions find the tests' registry, in this process and in Spark's workers, and only here."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", tracking_uri)
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", tracking_uri)
    monkeypatch.setattr("mlflow.tracking._model_registry.utils._registry_uri", tracking_uri)


@pytest.fixture
def every_way(spark, make_job):
    """every_way(uri, **sections) → the scored rows of lake/features, by engine and carrier."""

    def run(uri: str, **sections: Any) -> dict[str, pa.Table]:
        scored = {}
        for engine, carrier in (("local", "files"), ("spark", "files"), ("spark", "frame")):
            way = f"{engine}_{carrier}"
            job = make_job(
                uri,
                **sections,
                job=way,
                source={"where": EVERY_ROW} if carrier == "frame" else {},
                sinks=[{"type": "delta", "table": f"lake/{way}"}],
            )
            result = score(job, engine)
            assert (result.status, result.carrier, result.engine) == ("published", carrier, engine)
            assert (result.rows_read, result.rows_scored) == (ROWS, ROWS)
            scored[way] = read(f"lake/{way}")
        return scored

    return run


def udf_answer(spark: Any, uri: str, argument: Any, result_type: str) -> Answer:
    """What spark_udf says of the rows of lake/features, in the order of their keys."""
    predict = mlflow.pyfunc.spark_udf(spark, uri, result_type=result_type, env_manager="local")
    features = spark.read.format("delta").load(str(Path("lake/features").absolute()))
    answers = features.select("id", predict(argument).alias("answer"))
    return answers.toArrow().sort_by("id")["answer"].to_pylist()


def assert_scores_equal(ways: dict[str, pa.Table], expected: pa.Table, **allowed: float) -> None:
    """Keys and predictions come first in the scored table, in the job's order."""
    for scored in ways.values():
        assert scored.column_names[: expected.num_columns] == expected.column_names
        assert_tables_equal(scored.select(expected.column_names), expected, **allowed)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.quick("probabilities of int classes")
def test_every_way_of_scoring_equals_spark_udf(name, spark, register, every_way):
    from pyspark.sql import functions as F

    case = CASES[name]
    x = frame(nulls=False)
    uri = register(case.model().fit(x[case.columns], case.y(x)), x[case.columns], method=case.method, **case.logging)
    write("lake/features", rows())
    answer = udf_answer(spark, uri, F.struct(*case.columns), case.result_type)
    expected = pa.table({"id": np.arange(ROWS), **{c: f(answer) for c, f in case.expected.items()}})
    assert_scores_equal(every_way(uri, **case.job), expected, **{} if case.exact else PROMISED)


@pytest.mark.long
def test_a_tensor_is_stacked_from_columns(spark, register, every_way):
    from pyspark.sql import functions as F

    x = frame(nulls=False)[["l", "b"]].to_numpy()
    tensor = ModelSignature(
        Schema([TensorSpec(np.dtype("float64"), (-1, 2))]), Schema([TensorSpec(np.dtype("float64"), (-1,))])
    )
    uri = register(LinearRegression().fit(x, x[:, 0] - 4 * x[:, 1]), x, signature=tensor)
    table = rows()
    write("lake/features", table.append_column("whole", table["l"].cast(pa.int32())))
    answer = udf_answer(spark, uri, F.array(F.col("whole").cast("double"), "b"), "double")
    expected = pa.table({"id": np.arange(ROWS), "prediction": pa.array(answer, pa.float64())})
    assert_scores_equal(every_way(uri, features={"tensor": ["whole", "b"]}), expected, **PROMISED)


def test_files_and_batches_change_nothing(register, make_job):
    """Four files in batches of 7 rows, against one file in one batch."""
    x = frame(nulls=False)
    uri = register(on_kinds(LogisticRegression()).fit(x[KINDS], named(x)), x[KINDS], method="predict_proba")
    sections = {"predictions": {"label": "*"}}
    write("lake/features", rows())
    score(make_job(uri, **sections))
    for start in range(0, ROWS, 30):
        write("lake/pieces", rows().slice(start, 30))
    pieces = make_job(
        uri, **sections, job="pieces", source={"table": "lake/pieces"}, model={"batch_rows": 7},
        sinks=[{"type": "delta", "table": "lake/pieced"}],
    )  # fmt: skip
    score(pieces)
    columns = ["id", "label"]
    assert_tables_equal(read("lake/pieced").select(columns), read("lake/scores").select(columns), **PROMISED)


@pytest.mark.long
def test_optional_integers_keep_every_digit(spark, register, every_way):
    """2^53 is the last integer up to which doubles are exact; nulls beside it must not make doubles of it."""
    x = frame(nulls=False)
    uri = register(on_doubles(LinearRegression()).fit(x[DOUBLES], x["a"]), x[DOUBLES])
    ids = [2**53 + 1 + i for i in range(ROWS - 2)] + [-(2**63), 2**63 - 1]
    big = [None if i % 3 == 0 else 2**63 - 1 - i for i in range(ROWS)]
    given = pa.table({"id": pa.array(ids, pa.int64()), "big": pa.array(big, pa.int64())})
    write("lake/features", pa.table([*given, *rows().select(DOUBLES)], names=["id", "big", *DOUBLES]))
    expected = given.sort_by("id")
    for scored in every_way(uri, keep=["big"]).values():
        assert_tables_equal(scored.select(["id", "big"]), expected)


@pytest.mark.long
def test_an_optional_integer_feature_reaches_the_model_with_every_digit(spark, register, every_way):
    """A tree parts neighbours above 2^53, and nulls from both; spark_udf refuses a batch with such nulls."""
    odd, even, null = 2**53 + 1, 2**53, None
    values = [odd, even, null] * (ROWS // 3)
    labels = ["odd", "even", "null"] * (ROWS // 3)
    x = pd.DataFrame({"big": pd.array(values, "Int64")})
    model = make_pipeline(FunctionTransformer(last_digits), DecisionTreeClassifier()).fit(x, labels)
    optional = ModelSignature(Schema([ColSpec("long", "big", required=False)]), Schema([ColSpec("string")]))
    uri = register(model, x, signature=optional, **PICKLE)
    write("lake/features", pa.table({"id": np.arange(ROWS), "big": pa.array(values, pa.int64())}))
    ways = every_way(uri, model={"trust": ["pickle"], "method": "predict"})
    assert_scores_equal(ways, pa.table({"id": np.arange(ROWS), "prediction": labels}))


def last_digits(x: pd.DataFrame) -> pd.DataFrame:
    """The last two digits, -1 for none; exact, where a double would have lost them."""
    return (x % 100).fillna(-1).astype("float64")
