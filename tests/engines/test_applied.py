"""Models that Spark applies: each row gets its own answer, or is set aside, whatever the pipeline does with the rows."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

import lakehouse
from lakehouse.errors import Blocked, ConfigError, ModelRefused
from tests.conftest import read, score, write
from tests.models.test_hostile_pipelines import described, metadata, statement

N = 900


@pytest.fixture
def job(make_job, workspace):
    """job(statement, **sections): a job over 900 rows in three files, whose model is a statement of SQL."""
    write("lake/features", rows()[:300])
    write("lake/features", rows()[300:500])
    write("lake/features", rows()[500:])

    def make(text, **sections):
        statement(text)(workspace / "pipeline")
        own = {"uri": str(workspace / "pipeline"), "batch_rows": 64, "tracking_uri": None, **sections.pop("model", {})}
        return make_job("", model=own, **{"checks": {"quarantine": {"max_fraction": 0.5}}, **sections})

    return make


def rows() -> pa.Table:
    n = np.arange(N)
    return pa.table({"id": n, "a": np.sin(n), "b": (n % 9).astype(float)})


def scored() -> dict:
    table = read("lake/scores")
    return dict(zip(table["id"].to_pylist(), table["prediction"].to_pylist(), strict=True))


def expected(kept) -> dict:
    return {n: float(np.sin(n)) * 2 for n in range(N) if kept(n)}


def test_rows_that_the_model_leaves_out_are_set_aside(job, spark):
    result = score(job("SELECT *, a * 2 AS prediction FROM __THIS__ WHERE b > 0.5"), "spark")
    assert (result.rows_read, result.rows_scored, result.rows_quarantined) == (900, 800, 100)
    assert scored() == expected(lambda n: n % 9)
    aside = read("lake/scores_quarantine")
    assert aside["id"].to_pylist() == list(range(0, N, 9))
    assert {(r["rule"], r["observed"][:40]) for (r,) in aside["_reasons"].to_pylist()} == {
        ("model_raised", "RowLeftOut: the pipeline leaves this row")
    }


def test_what_a_rule_sets_aside_is_not_given_to_the_model(job, spark, workspace):
    """Spark raises on these rows, and does not tell which they are."""
    text = "SELECT *, a * 2 + 0 / b AS prediction FROM __THIS__"
    rule = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "b", "min_value": 0.5}}
    (workspace / "rules.yaml").write_text(yaml.safe_dump({"name": "rules", "expectations": [rule]}))
    checks = {"features": "rules.yaml", "quarantine": {"max_fraction": 0.5}}
    assert score(job(text, checks=checks), "spark").rows_quarantined == 100
    assert scored() == expected(lambda n: n % 9)
    assert {r["rule"] for (r,) in read("lake/scores_quarantine")["_reasons"].to_pylist()} == {rule["type"]}


@pytest.mark.long
def test_a_value_that_spark_raises_on_is_told_with_what_to_do(job, spark):
    with pytest.raises(ModelRefused, match=r"transform raises: \[DIVIDE_BY_ZERO\].*so that it can't be set aside"):
        score(job("SELECT *, 1 / b AS prediction FROM __THIS__"), "spark")
    assert not Path("lake/scores/_delta_log").exists()


@pytest.mark.long
@pytest.mark.parametrize("where", [None, "a < 2 or b < 1"])
def test_rows_that_the_model_moves_get_their_own_answers(job, spark, where):
    text = "SELECT *, a * 2 + 0 * max(a) OVER (PARTITION BY b ORDER BY a) AS prediction FROM __THIS__"
    source = {"type": "delta", "table": "lake/features", **({"where": where} if where else {})}
    result = score(job(text, model={"trust": ["python_function"]}, source=source), "spark")
    assert (result.rows_scored, result.carrier) == (900, "frame" if where else "files")
    assert scored() == expected(lambda n: True)


def test_what_can_not_be_is_refused_in_words(job, spark, workspace):
    plain = "SELECT *, a * 2 AS prediction FROM __THIS__"
    with pytest.raises(ConfigError, match=r"is a pipeline of Spark ML, which only Spark applies: use --engine spark"):
        score(job(plain))
    with pytest.raises(ConfigError, match=r"model\.method: a pipeline of Spark ML has no method 'predict_proba'"):
        score(remade(job, workspace, plain, model={"method": "predict_proba"}), "spark")
    with pytest.raises(
        ConfigError, match=r"predictions\.p: the model has no class 1: its stages give no probabilities"
    ):
        score(remade(job, workspace, plain, predictions={"p": {"class": 1}}), "spark")
    with pytest.raises(ModelRefused, match=r"the pipeline leaves out columns.*has to select"):
        score(remade(job, workspace, "SELECT a AS prediction FROM __THIS__"), "spark")
    with pytest.raises(ModelRefused, match=r"SQLTransformer can't be applied to the model's features \(a, b\)"):
        score(remade(job, workspace, "SELECT *, z AS prediction FROM __THIS__"), "spark")


def remade(job, workspace, text, **sections):
    shutil.rmtree(workspace / "pipeline")
    return job(text, **sections)


@pytest.mark.long
def test_an_answer_to_one_row_more_than_once_is_refused(job, spark):
    made = job("SELECT *, explode(array(a, b)) AS prediction FROM __THIS__", model={"trust": ["python_function"]})
    with pytest.raises(ModelRefused, match="the model answers a row more than once"):
        score(made, "spark")


@pytest.mark.long
def test_no_row_can_be_given_to_the_model(job, spark):
    made = job("SELECT *, a * 2 AS prediction FROM __THIS__")
    write("lake/features", rows().set_column(0, "id", pa.nulls(N, pa.int64())), mode="overwrite")
    with pytest.raises(Blocked, match="not one could be scored"):
        score(made, "spark")


@pytest.mark.long
def test_a_preview(job, spark, workspace):
    job("SELECT *, a * 2 AS prediction FROM __THIS__ WHERE b > 0.5")
    shown = lakehouse.preview(workspace / "conf/scores.yaml", rows=12)
    assert len(shown) == 12
    assert shown["prediction"].notna().tolist() == (shown["_reasons"] == "").tolist()
    assert shown["prediction"].notna().sum() in (10, 11)


@pytest.mark.long
def test_a_vector_of_the_last_stage_is_a_list(job, spark, workspace):
    place = workspace / "assembled"
    metadata(place / "sparkml", "pyspark.ml.pipeline.PipelineModel", "p", stageUids=["s"], language="Python")
    metadata(place / "sparkml/stages/0_s", "org.apache.spark.ml.feature.VectorAssembler", "s",
             inputCols=["a", "b"], outputCol="v", handleInvalid="error")  # fmt: skip
    described(place)
    made = job("SELECT * FROM __THIS__", model={"uri": str(place)}, predictions={"prediction": {"output": "v"}})
    write("lake/features", pa.table({"id": [N], "a": pa.array([None], pa.float64()), "b": [1.0]}))
    assert score(made, "spark").rows_quarantined == 1
    assert scored() == {n: [float(np.sin(n)), float(n % 9)] for n in range(N)}
    ((reason,),) = read("lake/scores_quarantine")["_reasons"].to_pylist()
    assert reason["observed"].endswith("its VectorAssembler of a, b does not take a value of it")
