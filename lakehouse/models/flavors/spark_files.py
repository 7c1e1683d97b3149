"""What of a stored pipeline of Spark ML could run code: the classes that it names, its statements of SQL, its schemas.

Its folders are Spark's: a stage's class and settings as JSON in `metadata`, what it learned as Parquet in `data`. Spark
makes an object of whatever class is named there, in Java or Python, and runs a statement as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakehouse.errors import ModelRefused
from lakehouse.models.flavors import spark_sql

_CLASSES = {
    "": ("PipelineModel",),
    "pipeline": ("PipelineModel",),
    "classification": (
        "DecisionTreeClassificationModel", "DecisionTreeClassifier", "FMClassificationModel", "FMClassifier",
        "GBTClassificationModel", "GBTClassifier", "LinearSVC", "LinearSVCModel", "LogisticRegression",
        "LogisticRegressionModel", "MultilayerPerceptronClassificationModel", "MultilayerPerceptronClassifier",
        "NaiveBayes", "NaiveBayesModel", "OneVsRestModel", "RandomForestClassificationModel", "RandomForestClassifier",
    ),
    "regression": (
        "AFTSurvivalRegressionModel", "DecisionTreeRegressionModel", "FMRegressionModel", "GBTRegressionModel",
        "GeneralizedLinearRegressionModel", "IsotonicRegressionModel", "LinearRegressionModel",
        "RandomForestRegressionModel",
    ),
    "clustering": ("BisectingKMeansModel", "GaussianMixtureModel", "KMeansModel", "LocalLDAModel"),
    "recommendation": ("ALSModel",),
    "fpm": ("FPGrowthModel",),
    "feature": (
        "Binarizer", "BucketedRandomProjectionLSHModel", "Bucketizer", "ChiSqSelectorModel", "ColumnPruner",
        "CountVectorizerModel", "DCT", "ElementwiseProduct", "FeatureHasher", "HashingTF", "IDFModel", "ImputerModel",
        "IndexToString", "Interaction", "MaxAbsScalerModel", "MinHashLSHModel", "MinMaxScalerModel", "NGram",
        "Normalizer", "OneHotEncoderModel", "PCAModel", "PolynomialExpansion", "RegexTokenizer", "RFormulaModel",
        "RobustScalerModel", "SQLTransformer", "StandardScalerModel", "StopWordsRemover", "StringIndexerModel",
        "TargetEncoderModel", "Tokenizer", "UnivariateFeatureSelectorModel", "VarianceThresholdSelectorModel",
        "VectorAssembler", "VectorAttributeRewriter", "VectorIndexerModel", "VectorSizeHint", "VectorSlicer",
        "Word2VecModel",
    ),
}  # fmt: skip
"""What Spark lets a client of Connect load, too, and parts of these. Not here: tuned models, which may name a folder
elsewhere, and DistributedLDAModel, which keeps files of its own."""
_KNOWN = {
    ".".join(filter(None, (root, module, name)))
    for root in ("org.apache.spark.ml", "pyspark.ml")
    for module, names in _CLASSES.items()
    for name in names
}
_UDTS = ("org.apache.spark.ml.linalg.VectorUDT", "org.apache.spark.ml.linalg.MatrixUDT")
_PYTHON_UDTS = ("pyspark.ml.linalg.VectorUDT", "pyspark.ml.linalg.MatrixUDT", None)
_PART = re.compile(r"part-[A-Za-z0-9_-]+(\.txt)?")
_BESIDE = re.compile(r"\.[^=]*|_SUCCESS|_(started|committed)_\d+")
"""Files that Spark does not read."""
_UID = re.compile(r"[A-Za-z0-9_-]+")


def needs_of(folder: Path) -> Iterator[tuple[str, str]]:
    """(trust, reason) for everything in a stored pipeline that is more than data; nothing of it is imported.

    Raises ModelRefused for what Spark might read otherwise than it is read here.
    """
    stages = [path for path in folder.rglob("metadata") if path.is_dir()]
    read = [path for path in folder.rglob("*") if path.is_file() and not _BESIDE.fullmatch(path.name)]
    stored = [path for path in read if path.parent.name != "metadata"]
    if other := [path.relative_to(folder).as_posix() for path in stored if path.suffix != ".parquet"]:
        raise ModelRefused(f"its folder {folder.name!r} holds files that are no part of a pipeline: {', '.join(other)}")
    if folder / "metadata" not in stages:
        raise ModelRefused(f"its folder {folder.name!r} holds no pipeline of Spark ML: there is no metadata in it")
    foreign = []
    for stage in sorted(stages):
        described = _described(stage)
        if described["class"] not in _KNOWN:
            foreign.append(str(described["class"]))
        if str(described["class"]).endswith(".SQLTransformer"):
            yield from _needs_of_statement(described)
    if foreign:
        names = ", ".join(dict.fromkeys(foreign))
        yield "python_function", f"its stages are of classes that are not known to be only data: {names}"
    if types := list(dict.fromkeys(name for file in stored for name in _foreign_types(file))):
        yield "python_function", f"its files hold values of types that are code: {', '.join(types)}"


def _needs_of_statement(described: dict[str, Any]) -> Iterator[tuple[str, str]]:
    given = {**described.get("defaultParamMap", {}), **described["paramMap"]}
    if why := spark_sql.doubt(str(given.get("statement", ""))):
        yield "python_function", f"its SQLTransformer runs a statement of SQL that may do more than compute: {why}"


def _described(metadata: Path) -> dict[str, Any]:
    """What a stage says of itself, where Spark reads exactly this: one line in one plain file."""
    place = metadata.parent.name
    files = [path for path in metadata.iterdir() if path.is_dir() or not _BESIDE.fullmatch(path.name)]
    if len(files) != 1 or not files[0].is_file() or not _PART.fullmatch(files[0].name):
        raise ModelRefused(f"the metadata of its stage {place!r} is not the one file that Spark writes")
    try:
        (line,) = files[0].read_text(encoding="utf-8").splitlines()
        said = json.loads(line, object_pairs_hook=_once)
    except (OSError, ValueError) as error:
        raise ModelRefused(f"the metadata of its stage {place!r} can't be read: {error}") from error
    if not isinstance(said, dict) or not isinstance(said.get("paramMap"), dict) or "class" not in said:
        raise ModelRefused(f"the metadata of its stage {place!r} is not what Spark writes")
    uids = said["paramMap"].get("stageUids", [])
    if not isinstance(uids, list) or any(not _UID.fullmatch(str(uid)) for uid in (*uids, said.get("uid"))):
        raise ModelRefused(f"its stage {place!r} names parts {uids!r}, which are no plain names")
    return said


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice in it")  # of which Java and Python may read another one
    return dict(pairs)


def _foreign_types(file: Path) -> Iterator[str]:
    """The classes that Spark would make of a file's own schema."""
    import pyarrow.parquet as pq

    try:
        told = pq.read_schema(file).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise ModelRefused(f"its file {file.name!r} can't be read: {error}") from error
    for key, schema in told.items():
        if key.startswith(b"org.apache.spark."):
            with_types = json.loads(schema) if schema.lstrip()[:1] in (b"{", b"[") else None
            yield from _types_in(with_types)


def _types_in(schema: Any) -> Iterator[str]:
    for part in schema if isinstance(schema, list) else ():
        yield from _types_in(part)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "udt" or "pyClass" in schema or "serializedClass" in schema:
        known = schema.get("class") in _UDTS and schema.get("pyClass") in _PYTHON_UDTS
        if not known or schema.get("serializedClass") is not None:
            yield str(schema.get("class") or schema.get("pyClass"))
    for part in schema.values():
        yield from _types_in(part)
