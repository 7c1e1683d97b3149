"""Pipelines of Spark ML: Spark applies them to a DataFrame, in the session of the run's driver.

MLflow's own function of such a model makes a DataFrame of what it is given, in a session of the process's own, which a
worker has not. So only Spark's engine scores with them: `open_on_frames` gives it what the pipeline's own `transform`
does.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.errors import ModelRefused
from lakehouse.models.flavors import calling, spark_files, spark_sql
from lakehouse.models.flavors.calling import Predictor, Trained

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from lakehouse.models.frames import FrameInput, FrameModel, Part

NAME, LIBRARY = "spark", ("pyspark", "pyspark_version")
WHAT = "a pipeline of Spark ML"

_LEAVES_OUT = ("Bucketizer", "StringIndexerModel", "VectorAssembler", "VectorIndexerModel", "VectorSizeHint")
"""Stages that raise on a row with a value that they don't take, or are told to leave such rows out."""
_MOVES = ("ALSModel", "FPGrowthModel")
_OF_AN_ANSWER = ("predictionCol", "probabilityCol", "rawPredictionCol")


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    named = str(description.get("model_data", ""))
    if not calling.is_plain_name(named) or function.get("data", named) != named:
        raise ModelRefused(f"its pipeline lies at {named!r}, not beside its description")
    _refuse_connect(description)
    yield from spark_files.needs_of(path / named)


def settings(description: Mapping[str, Any]) -> Mapping[str, str]:
    """Raises: it is asked for before a model is loaded into a process, which is not for these."""
    raise _refusal()


def open_model(loaded: Any, method: str | None, params: Mapping[str, Any]) -> Predictor:
    raise _refusal()


def trained_on(native: Any) -> Trained:
    raise _refusal()


def _refusal() -> ModelRefused:
    return ModelRefused(
        f"the model is {WHAT}, which Spark applies, not a process of its own: score with --engine spark"
    )


def _refuse_connect(description: Mapping[str, Any]) -> None:
    kind = str(description.get("model_class", ""))
    if kind.startswith("pyspark.ml.connect."):
        raise ModelRefused(f"it is a {kind}, which is no pipeline that Spark applies: log one of pyspark.ml")


def open_on_frames(
    spark: SparkSession, path: Path, place: str, description: Mapping[str, Any], given: FrameInput
) -> FrameModel:
    """Load the pipeline and see, by an empty DataFrame, what it makes of the features.

    A stage that would raise on a row is told to leave it out instead, so that one row does not fail all of a task's.
    """
    from lakehouse.models.frames import FrameModel

    _refuse_connect(description)
    pipeline = _load(path, f"{place}/{description['model_data']}", description)
    empty = _with_vectors(_empty(spark, given), pipeline, given.features)
    leaving, made = list[str](), empty
    for stage in pipeline.stages:
        leaving += _leave_out(stage, made.columns)
        made = _transformed(stage, made, given)
    if gone := [name for name in given.carried.names if name not in made.columns]:
        raise ModelRefused(f"the pipeline leaves out columns that it is not asked for, such as {gone[0]}: {_NO_STAR}")
    last = _classifier(pipeline)
    classes = None if last is None else _classes(pipeline, last)
    probabilities = None if last is None else str(last.getOrDefault("probabilityCol"))
    columns = _columns(pipeline, empty, made, given, probabilities, len(classes or ()))

    def apply(frame: DataFrame, kept: Sequence[str], parts: Sequence[Part]) -> DataFrame:
        from lakehouse.models.frames import ANSWER

        answered = pipeline.transform(_with_vectors(frame, pipeline, given.features))
        asked = [columns[part].alias(f"{ANSWER}{number}") for number, part in enumerate(parts)]
        selected: DataFrame = answered.select(*kept, *asked)
        return selected

    return FrameModel(
        apply,
        tuple(columns),
        f"the pipeline leaves this row out: {' or '.join(leaving) or 'a stage of it'} does not take a value of it",
        any(map(_moves, pipeline.stages)),
        classes,
        "its stages give no probabilities of classes",
        probabilities if probabilities in columns else None,
        "PipelineModel.transform",
        f"pyspark {spark.version}",
    )


def _moves(stage: Any) -> bool:
    """Whether rows may come out of a stage in another order, as of a join or of code that is not known."""
    if type(stage).__name__ == "SQLTransformer":
        return bool(spark_sql.doubt(str(stage.getStatement())))
    return type(stage).__name__ in _MOVES or not type(stage).__module__.startswith("pyspark.ml.")


_NO_STAR = "a SQLTransformer has to select *"


def _load(path: Path, place: str, description: Mapping[str, Any]) -> Any:
    from pyspark.ml import PipelineModel

    if description.get("code"):
        from mlflow.utils.model_utils import FLAVOR_CONFIG_CODE, _add_code_from_conf_to_system_path

        add_code: Any = _add_code_from_conf_to_system_path
        add_code(str(path), description, code_key=FLAVOR_CONFIG_CODE)
    try:
        return PipelineModel.load(place)
    except Exception as error:
        raise ModelRefused(f"the model can't be loaded here: {_first_line(error)}") from error


def _without(carried: pa.Schema, said: str) -> str:
    """What Spark says without the columns that nobody but this project has made."""
    return re.sub(rf",? `(?:{'|'.join(carried.names)})`", "", said)


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _empty(spark: SparkSession, given: FrameInput) -> DataFrame:
    from pyspark.sql.pandas.types import from_arrow_schema

    return spark.createDataFrame(
        [], from_arrow_schema(pa.schema([*given.features, *given.carried]), prefer_timestamp_ntz=True)
    )


def _with_vectors(frame: DataFrame, pipeline: Any, features: pa.Schema) -> DataFrame:
    """The lists that a stage takes for its vector of features as vectors, as MLflow makes them of arrays."""
    from pyspark.ml.functions import array_to_vector
    from pyspark.sql import functions as F

    taken = {stage.getOrDefault("featuresCol") for stage in pipeline.stages if stage.hasParam("featuresCol")}
    taken |= {name for stage in pipeline.stages for name in _inputs(stage)}
    for field in features:
        if field.name in taken and field.type == pa.list_(pa.float64()) and _wants_vector(pipeline, field.name):
            frame = frame.withColumn(field.name, array_to_vector(F.col(_quoted(field.name))))
    return frame


def _wants_vector(pipeline: Any, name: str) -> bool:
    """Whether the first stage that takes this column takes a vector: those that take a list are the ones below."""
    of_lists = ("CountVectorizerModel", "FPGrowthModel", "HashingTF", "NGram", "StopWordsRemover", "Word2VecModel")
    stage = next((s for s in pipeline.stages if name in (*_inputs(s), _param(s, "featuresCol"))), None)
    return stage is not None and type(stage).__name__ not in of_lists


def _param(stage: Any, name: str) -> Any:
    return stage.getOrDefault(name) if stage.hasParam(name) and stage.isDefined(name) else None


def _inputs(stage: Any) -> list[str]:
    return [*([one] if (one := _param(stage, "inputCol")) else []), *(_param(stage, "inputCols") or [])]


def _leave_out(stage: Any, there: Sequence[str]) -> Iterator[str]:
    """Tell a stage to leave out rows on which it would raise; it in words, where it does."""
    inputs = _inputs(stage)
    if type(stage).__name__ not in _LEAVES_OUT or not inputs or any(name not in there for name in inputs):
        return
    if _param(stage, "handleInvalid") == "error":
        stage.set(stage.handleInvalid, "skip")
    if _param(stage, "handleInvalid") == "skip":
        yield f"its {type(stage).__name__.removesuffix('Model')} of {', '.join(inputs)}"


def _transformed(stage: Any, frame: DataFrame, given: FrameInput) -> DataFrame:
    try:
        made: DataFrame = stage.transform(frame)
    except Exception as error:
        said = _without(given.carried, _first_line(error))
        raise ModelRefused(
            f"the pipeline's stage {type(stage).__name__} can't be applied to the model's features "
            f"({', '.join(given.features.names)}): {said}. Log it with the stages that it was fitted "
            "behind, such as the VectorAssembler, or give the table and the signature the column that it takes (a "
            "vector as a list of doubles)"
        ) from error
    return made


def _classifier(pipeline: Any) -> Any:
    """The last stage that gives probabilities of classes."""
    known = [stage for stage in pipeline.stages if _param(stage, "probabilityCol") and hasattr(stage, "numClasses")]
    return known[-1] if known else None


def _classes(pipeline: Any, last: Any) -> tuple[Any, ...]:
    """The labels in the order of the probabilities: those that a stage turns predictions into, or labels from."""
    count = int(last.numClasses)
    for stage in pipeline.stages:
        name, labels = type(stage).__name__, list[str]()
        if name == "IndexToString" and _inputs(stage) == [_param(last, "predictionCol")]:
            labels = list(_param(stage, "labels") or [])
        elif name == "StringIndexerModel":
            made = [_param(stage, "outputCol")] if _param(stage, "inputCol") else _param(stage, "outputCols")
            if _param(last, "labelCol") in made:
                labels = list(stage.labelsArray[made.index(_param(last, "labelCol"))])
        if len(labels) == count:
            return tuple(labels)
    return tuple(range(count))


def _columns(
    pipeline: Any, empty: DataFrame, made: DataFrame, given: FrameInput, probabilities: str | None, count: int
) -> dict[Part, Column]:
    """What may be asked of the pipeline; vectors as lists, those in between only where somebody asks for them."""
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions as F
    from pyspark.sql.types import UserDefinedType

    answers = {_param(stage, name) for stage in pipeline.stages for name in _OF_AN_ANSWER}
    answers |= {*given.asked, *given.named, *(_param(stage, "outputCol") for stage in pipeline.stages[-1:])}
    found: dict[Part, Column] = {}
    for field in made.schema:
        if field.name in empty.columns:
            continue
        column, own = F.col(_quoted(field.name)), isinstance(field.dataType, UserDefinedType)
        if own and (field.name not in answers or "VectorUDT" not in type(field.dataType).__name__):
            continue
        found[field.name] = vector_to_array(column) if own else column
    predicted = [name for stage in reversed(pipeline.stages) if (name := _param(stage, "predictionCol"))]
    likely = [
        *(given.named if len(given.named) == 1 else ()),
        *predicted,
        "prediction",
        *(found if len(found) == 1 else ()),
    ]
    if whole := next((name for name in likely if name in found), None):
        found["*"] = found[whole]
    if probabilities in found:
        found |= {place: F.get(found[str(probabilities)], F.lit(place)) for place in range(count)}
    return found


@functools.cache
def _quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"
