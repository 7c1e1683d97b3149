"""Pipelines of Spark ML that would run code: each is refused before Spark sees it, and Spark itself would have let it.

What a pipeline would do is to make a file, or to set a property of Java's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from lakehouse.models.flavors.spark_sql import doubt
from tests.command import Outcome, run, tree
from tests.conftest import write
from tests.models.test_hostile import SIDES

Build = Callable[[Path], None]


def metadata(place: Path, kind: str, uid: str, **settings: Any) -> Path:
    """A stage's folder as Spark writes it; its file of metadata."""
    said = {
        "class": kind,
        "timestamp": 1,
        "sparkVersion": "4.2.0",
        "uid": uid,
        "paramMap": settings,
        "defaultParamMap": {},
    }
    (place / "metadata").mkdir(parents=True)
    file = place / "metadata" / "part-00000-0a0b0c0d-0000-0000-0000-000000000000-c000.txt"
    file.write_text(json.dumps(said) + "\n")
    return file


def described(folder: Path, **own: Any) -> None:
    flavor = {
        "model_data": "sparkml",
        "model_class": "pyspark.ml.pipeline.PipelineModel",
        "pyspark_version": "4.2.0",
        **own,
    }
    flavors = {"python_function": {"loader_module": "mlflow.spark", "data": flavor["model_data"]}, "spark": flavor}
    (folder / "MLmodel").write_text(
        yaml.safe_dump({"flavors": flavors, "signature": SIDES, "mlflow_version": "3.17.2"})
    )


def pipeline(kind: str, language: str = "Python", **settings: Any) -> Build:
    """A pipeline of one stage of a class."""

    def build(folder: Path) -> None:
        metadata(folder / "sparkml", "pyspark.ml.pipeline.PipelineModel", "p", stageUids=["s"], language=language)
        metadata(folder / "sparkml" / "stages" / "0_s", kind, "s", **settings)
        described(folder)

    return build


def statement(text: str) -> Build:
    return pipeline("org.apache.spark.ml.feature.SQLTransformer", statement=text)


def changed(change: Callable[[Path], None]) -> Build:
    """An innocent pipeline, and what is done to its folder."""

    def build(folder: Path) -> None:
        statement("SELECT *, a AS prediction FROM __THIS__")(folder)
        change(folder / "sparkml")

    return build


def of_stage(folder: Path) -> Path:
    return next((folder / "stages" / "0_s" / "metadata").glob("part-*"))


def twice(folder: Path) -> None:
    file = of_stage(folder)
    file.write_text(file.read_text().replace('{"class":', '{"class": "installed_here.Cleaner", "class":', 1))


def outside(folder: Path) -> None:
    file = next((folder / "metadata").glob("part-*"))
    file.write_text(file.read_text().replace('["s"]', '["/../../../elsewhere"]'))


def with_type(**kind: Any) -> Callable[[Path], None]:
    """Data whose schema names a type that Spark would make an object of."""

    def change(folder: Path) -> None:
        field = {"name": "x", "type": {"type": "udt", "sqlType": "double", **kind}, "nullable": True, "metadata": {}}
        row = json.dumps({"type": "struct", "fields": [field]})
        (folder / "stages" / "0_s" / "data").mkdir()
        table = pa.table({"x": [1.0]}).replace_schema_metadata({"org.apache.spark.sql.parquet.row.metadata": row})
        pq.write_table(table, folder / "stages" / "0_s" / "data" / "part-00000.parquet")

    return change


CLASSES = "its stages are of classes that are not known to be only data"
SQL = "its SQLTransformer runs a statement of SQL that may do more than compute"
TYPES = "its files hold values of types that are code"
PROPERTY = "java_method('java.lang.System', 'setProperty', 'lakehouse.canary', 'ran')"
HOSTILE: Mapping[str, tuple[Build, str]] = {
    "a class of Python": (pipeline("installed_here.Cleaner"), f"{CLASSES}: installed_here.Cleaner"),
    "a class of Java": (pipeline("org.apache.spark.deploy.SparkSubmit", "Scala"), f"{CLASSES}: org.apache.spark.deploy.SparkSubmit"),
    "a class beside Spark's": (pipeline("pyspark.ml.tests.Mine"), f"{CLASSES}: pyspark.ml.tests.Mine"),
    "a tuned model": (pipeline("org.apache.spark.ml.tuning.CrossValidatorModel"), CLASSES),
    "a method of Java": (statement(f"SELECT *, {PROPERTY} AS prediction FROM __THIS__"), "calls java_method"),
    "two classes in one": (changed(twice), "a name stands twice in it"),
    "a folder elsewhere": (changed(outside), "which are no plain names"),
    "two files of metadata": (
        changed(lambda folder: of_stage(folder).with_name("part-00001.txt").write_text("{}") and None),
        "is not the one file that Spark writes",
    ),
    "metadata that is unpacked": (
        changed(lambda folder: of_stage(folder).rename(of_stage(folder).with_suffix(".gz")) and None),
        "is not the one file that Spark writes",
    ),
    "two lines": (
        changed(lambda folder: of_stage(folder).write_text(of_stage(folder).read_text() * 2) and None), "can't be read",
    ),
    "a type of Java": (changed(with_type(**{"class": "mine.Type", "pyClass": None})), f"{TYPES}: mine.Type"),
    "a type of Python": (
        changed(with_type(**{"class": "org.apache.spark.ml.linalg.VectorUDT", "pyClass": "mine.Type"})), TYPES,
    ),
    "a pickled type": (
        changed(with_type(pyClass="pyspark.ml.linalg.VectorUDT", serializedClass="gASVCg==")), TYPES,
    ),
    "another file": (changed(lambda folder: (folder / "mine.py").write_text("") and None), "no part of a pipeline: mine.py"),
    "no pipeline": (changed(lambda folder: (folder / "metadata").rename(folder / "meta") and None), "no part of a pipeline"),
    "elsewhere": (lambda folder: described(folder, model_data="../x"), "not beside its description"),
    "of Connect": (
        lambda folder: (statement("SELECT * FROM __THIS__")(folder), described(folder, model_class="pyspark.ml.connect.x.Y"))[1],
        "which is no pipeline that Spark applies",
    ),
}  # fmt: skip


@pytest.fixture
def score(workspace: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """score(folder, engine, trust) scores three rows by the model in a folder."""
    write("lake/features", pa.table({"id": [1, 2, 3], "a": [0.1, 0.2, 0.3], "b": [1.0, 2.0, 3.0]}))

    def go(folder: Path, engine: str = "local", trust: tuple[str, ...] = ()) -> Outcome:
        job = {
            "job": "scores",
            "source": {"type": "delta", "table": "lake/features"},
            "model": {"uri": str(folder), "trust": list(trust)},
            "keys": ["id"],
            "sinks": [{"type": "delta", "table": "lake/scores"}],
        }
        Path("job.yaml").write_text(yaml.safe_dump(job))
        return run(capfd, "score", "job.yaml", "--engine", engine, "--json")

    return go


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pipeline_is_refused(score: Callable[..., Outcome], folder: Path, name: str) -> None:
    build, said = HOSTILE[name]
    build(folder)
    before = tree(Path("lake"))
    done = score(folder)
    assert (done.code, said in done.json["message"]) == (4, True), done.json["message"]
    assert tree(Path("lake")) == before


@pytest.mark.long
def test_what_is_refused_would_have_run(
    score: Callable[..., Outcome], folder: Path, spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark imports a class of Python's while it loads a pipeline, and its SQL calls any method of Java's."""
    from pyspark.ml import PipelineModel

    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "installed_here.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for name in ("a class of Python", "a method of Java"):
        place = folder / name.replace(" ", "")
        place.mkdir()
        HOSTILE[name][0](place)
        assert score(place, "spark").code == 4
    assert not (tmp_path / "ran").exists()
    with pytest.raises(AttributeError, match="Cleaner"):
        PipelineModel.load(f"file://{folder}/aclassofPython/sparkml")
    assert (tmp_path / "ran").exists()
    java = spark._jvm.java.lang.System
    assert java.getProperty("lakehouse.canary") is None
    done = score(folder / "amethodofJava", "spark", ("python_function",))  # who trusts it lets it run
    assert (done.code, done.json["status"]) == (0, "published"), done.json
    assert java.getProperty("lakehouse.canary") == "ran"


@pytest.mark.parametrize(
    "text",
    [
        "SELECT *, (a + b) AS c FROM __THIS__",
        "select a, b, log(a + 1) / 2.5 as c, CASE WHEN b > 1 THEN 'x' ELSE 'it''s' END AS d from __THIS__ where a is not null",
        "SELECT *, CAST(a AS decimal(10, 2)) AS c, a IN (1, 2) AS d, coalesce(b, -1) AS e FROM __THIS__",
    ],
)
def test_statements_that_only_compute(text: str) -> None:
    assert doubt(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "SELECT reflect('java.lang.Runtime', 'getRuntime') FROM __THIS__",
        "SELECT `reflect`('java.lang.Runtime', 'getRuntime') FROM __THIS__",
        "SELECT reflect /**/ ('java.lang.Runtime', 'getRuntime') FROM __THIS__",
        "SELECT system.builtin.abs(a) FROM __THIS__",
        "SELECT TRANSFORM(a) USING 'touch x' AS b FROM __THIS__",
        "SELECT a FROM __THIS__ WHERE a > (SELECT max(a) FROM secret)",
        "SELECT a FROM __THIS__, secret",
        "SELECT a FROM __THIS__ JOIN secret",
        "SELECT a FROM __this__",
        "SELECT a FROM parquet.`/etc`",
        "SELECT a FROM secret -- FROM __THIS__",
        "SELECT a FROM __THIS__ WHERE a > 1 UNION TABLE secret",
        "SELECT max(a) OVER (ORDER BY b) FROM __THIS__",
        "SELECT a FROM __THIS__; DROP TABLE x",
        "SELECT '\\' || reflect(a, b) || '' FROM __THIS__",
        "SELECT a FROM __THIS__ WHERE explode(a)",
        "INSERT OVERWRITE DIRECTORY '/tmp/x' SELECT * FROM __THIS__",
        "ADD JAR '/tmp/x.jar'",
        "",
    ],
)
def test_statements_that_may_do_more(text: str) -> None:
    assert doubt(text)
