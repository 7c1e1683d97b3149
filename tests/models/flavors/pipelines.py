"""Pipelines of Spark ML, trained in the open session; a run applies them by Spark, whatever engine others take."""

from __future__ import annotations

from typing import Any

import mlflow.spark
import numpy as np
import pandas as pd
from mlflow.models import infer_signature

from tests.models.flavors.case import Case, Columns, Entry, labels, logger, numbers, with_nulls, with_text

MODULE = {"pip_requirements": ["pyspark"]}


def session() -> Any:
    """The open session."""
    from pyspark.sql import SparkSession

    found = SparkSession.getActiveSession()
    assert found is not None
    return found


def frame(rows: pd.DataFrame, **more: Any) -> Any:
    """Rows as a DataFrame of Spark, in which NaN of doubles is null as in a table."""
    import pyarrow as pa

    return session().createDataFrame(pa.Table.from_pandas(rows.assign(**more), preserve_index=False))


def fitted(rows: pd.DataFrame, stages: list[Any], y: Any) -> Any:
    """A pipeline of these stages fitted to rows with a label."""
    from pyspark.ml import Pipeline

    return Pipeline(stages=stages).fit(frame(rows, label=y))


def native(model: Any, rows: pd.DataFrame, **columns: Any) -> Columns:
    """What `transform` itself answers: by prediction a column of Spark's, in the rows' order; None where there is none."""
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions as F

    wanted = [
        (F.col(c) if isinstance(c, str) else vector_to_array(c[0])[c[1]] if c[1] is not None else vector_to_array(c[0]))
        .alias(name) for name, c in columns.items()
    ]  # fmt: skip
    found = model.transform(frame(rows, at=np.arange(len(rows)))).select("at", *wanted).toArrow().to_pydict()
    place = {row: number for number, row in enumerate(found["at"])}
    return {name: [found[name][place[r]] if r in place else None for r in range(len(rows))] for name in columns}


def log(model: Any, rows: pd.DataFrame, answers: Any) -> Any:
    return logger(
        lambda m, name, **more: mlflow.spark.log_model(m, artifact_path=name, **more), model, "pyspark",
        signature=infer_signature(rows, answers),
    )  # fmt: skip


def linear_regression() -> Case:
    from pyspark.ml.feature import VectorAssembler
    from pyspark.ml.regression import LinearRegression

    x = numbers()
    model = fitted(
        x, [VectorAssembler(inputCols=["a", "b"], outputCol="features"), LinearRegression()], x["a"] * 2 - x["b"]
    )
    answers = native(model, x, prediction="prediction")
    return Case(log(model, x, pd.Series(answers["prediction"])), x, answers, close=1e-12, engine="spark")


def logistic_regression(named: bool) -> Case:
    """Text and nulls: a category that training did not have, and what can't be assembled, are set aside."""
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.feature import OneHotEncoder, StringIndexer, VectorAssembler

    x = with_text()
    stages = [
        StringIndexer(inputCol="label", outputCol="y", stringOrderType="alphabetAsc"),
        StringIndexer(inputCol="c", outputCol="ci"), OneHotEncoder(inputCol="ci", outputCol="cv"),
        VectorAssembler(inputCols=["a", "cv"], outputCol="features"), LogisticRegression(labelCol="y"),
    ]  # fmt: skip
    model = fitted(x, stages, labels(x, "low", "mid", "high"))
    good = native(model, x, prediction="prediction", low=("probability", 1), high=("probability", 0),
                  mid=("probability", 2), raw=("rawPrediction", None), probability=("probability", None))  # fmt: skip
    rows = x.assign(c=["purple", *x["c"][1:]])
    rows.loc[7, "a"] = np.nan
    logged = log(model, x, pd.Series(good["prediction"]))
    if not named:
        return Case(logged, rows, {"prediction": good["prediction"]}, close=1e-12, aside=(0, 7), engine="spark")
    job = {"predictions": {**{n: {"class": n} for n in ("low", "high", "mid")},
                           "raw": {"output": "rawPrediction"}, "probability": {"output": "probability"}}}  # fmt: skip
    answers = {name: good[name] for name in ("low", "high", "mid", "raw", "probability")}
    return Case(logged, rows, answers, job, close=1e-12, aside=(0, 7), engine="spark")


def random_forest() -> Case:
    """Nulls that an Imputer fills, a tree's answers, the label of the class as text."""
    from pyspark.ml.classification import RandomForestClassifier
    from pyspark.ml.feature import Imputer, IndexToString, StringIndexer, VectorAssembler

    x = with_nulls(numbers())
    y = labels(numbers(), "no", "yes")
    indexed = StringIndexer(inputCol="label", outputCol="y", stringOrderType="alphabetAsc")
    stages = [
        indexed, Imputer(inputCols=["a", "b"], outputCols=["a2", "b2"]),
        VectorAssembler(inputCols=["a2", "b2"], outputCol="features"), RandomForestClassifier(labelCol="y", numTrees=3, seed=1),
        IndexToString(inputCol="prediction", outputCol="answer", labels=["no", "yes"]),
    ]  # fmt: skip
    model = fitted(x, stages, y)
    answers = native(model, x, answer="answer", yes=("probability", 1))
    job = {"predictions": {"answer": {"output": "answer"}, "yes": {"class": "yes"}}}
    return Case(log(model, x, pd.Series(y)), x, answers, job, engine="spark")


def kmeans_of_a_vector() -> Case:
    """No assembler in the pipeline: the table has the features as a list, the signature calls it a vector."""
    from pyspark.ml.clustering import KMeans
    from pyspark.ml.functions import array_to_vector

    x = pd.DataFrame({"features": [[a, b] for a, b in numbers().to_numpy()]})
    from pyspark.ml import Pipeline

    vectors = frame(x).withColumn("features", array_to_vector("features"))
    model = Pipeline(stages=[KMeans(k=3, seed=1)]).fit(vectors)
    found = model.transform(vectors)
    signature = infer_signature(vectors, found.select("prediction"))
    answers = {"prediction": found.toArrow()["prediction"].to_pylist()}
    logged = logger(
        lambda m, name, **more: mlflow.spark.log_model(m, artifact_path=name, **more), model, "pyspark", signature=signature,
    )  # fmt: skip
    return Case(logged, x, answers, engine="spark", result_type="int")


ENTRIES = [
    Entry("spark", "doubles", "a number", linear_regression),
    Entry("spark", "doubles and text, one unseen, and nulls", "a class by its number", lambda: logistic_regression(False)),
    Entry("spark", "doubles and text, one unseen, and nulls", "probabilities, and vectors as lists", lambda: logistic_regression(True)),
    Entry("spark", "doubles with nulls", "a class as text, and a probability", random_forest),
    Entry("spark", "a vector", "a cluster", kmeans_of_a_vector),
]  # fmt: skip
