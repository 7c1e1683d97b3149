"""Tables with rules of their own: what is published directly, what Spark copies, what is refused by name.

The table in conf/README.md is made of these cases.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from lakehouse.connectors import delta
from lakehouse.errors import Blocked, ConfigError
from lakehouse.schemas import LINEAGE
from lakehouse.sinks.delta import copied
from lakehouse.sinks.target import Overtaken
from lakehouse.storage import locate
from tests.conftest import score, write
from tests.runs.test_exactly_once import unfinished

DAY = "2026-01-02"
README = (Path(__file__).parents[2] / "conf/README.md").read_text()
BASE = "id BIGINT, code STRING, p DOUBLE"
DIRECT, COPIED, ENFORCED, REFUSED = "direct", "copied by Spark", "direct, rows held against it", "refused"


def table(columns: str = BASE, properties: str = "", then: str = "", partitioned: str = "PARTITIONED BY (score_date)"):
    return columns, properties, then, partitioned


CASES: dict[str, tuple[str, Any]] = {
    "no features": (DIRECT, table()),
    "change data feed": (DIRECT, table(properties="'delta.enableChangeDataFeed'='true'")),
    "deletion vectors": (DIRECT, table(properties="'delta.enableDeletionVectors'='true'")),
    "v2 checkpoints": (DIRECT, table(properties="'delta.checkpointPolicy'='v2'")),
    "timestamps without zone": (DIRECT, table(properties="'delta.feature.timestampNtz'='supported'")),
    "NOT NULL": (ENFORCED, table("id BIGINT NOT NULL, code STRING NOT NULL, p DOUBLE NOT NULL")),
    "CHECK, simple comparisons": (ENFORCED, table(then="ADD CONSTRAINT low CHECK (p < 1000 AND code IS NOT NULL)")),
    "CHECK, any other": (COPIED, table(then="ADD CONSTRAINT low CHECK (p * 2 < 2000 OR code = 'x')")),
    "column mapping": (COPIED, table(properties="'delta.columnMapping.mode'='name'")),
    "column mapping, renamed": (
        COPIED, table("id BIGINT, old STRING, p DOUBLE", "'delta.columnMapping.mode'='name'", "RENAME COLUMN old TO code"),
    ),
    "generated column": (COPIED, table(f"{BASE}, twice DOUBLE GENERATED ALWAYS AS (p * 2)")),
    "identity column": (COPIED, table(f"{BASE}, n BIGINT GENERATED ALWAYS AS IDENTITY")),
    "default": (COPIED, table(f"{BASE}, x INT DEFAULT 3", "'delta.feature.allowColumnDefaults'='supported'")),
    "CHAR and VARCHAR": (COPIED, table("id BIGINT, code VARCHAR(3), p DOUBLE")),
    "row tracking": (COPIED, table(properties="'delta.enableRowTracking'='true'")),
    "in-commit timestamps": (COPIED, table(properties="'delta.enableInCommitTimestamps'='true'")),
    "type widening": (COPIED, table(properties="'delta.enableTypeWidening'='true'")),
    "liquid clustering": (COPIED, table(f"{BASE}, score_date DATE", partitioned="CLUSTER BY (id)")),
    "Iceberg compatibility": (
        COPIED, table(properties="'delta.enableIcebergCompatV2'='true','delta.columnMapping.mode'='name'"),
    ),
    "appendOnly": (REFUSED, table(properties="'delta.appendOnly'='true'")),
    "VARIANT column": (REFUSED, table(f"{BASE}, v VARIANT")),
}  # fmt: skip
LINES = ", ".join(f"{f.name} {kind}" for f, kind in zip(
    LINEAGE, ["STRING", "STRING", "STRING", "BIGINT", "TIMESTAMP", "ARRAY<STRING>", "STRING"], strict=True))  # fmt: skip


@pytest.fixture(scope="module")
def uri(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"] * 10), x)


@pytest.fixture
def create(spark, workspace):
    def make(case: Any) -> str:
        columns, properties, then, partitioned = case
        path = f"{workspace}/lake/scores"
        spark.conf.set("spark.databricks.delta.properties.defaults.enableDeletionVectors", "false")
        slices = "" if "CLUSTER" in partitioned else ", score_date DATE"
        spark.sql(f"CREATE TABLE delta.`{path}` ({columns}, {LINES}{slices}) USING delta {partitioned}"
                  + (f" TBLPROPERTIES ({properties})" if properties else ""))  # fmt: skip
        if then:
            spark.sql(f"ALTER TABLE delta.`{path}` {then}")
        return path

    return make


@pytest.fixture
def daily(make_job, uri):
    def make(write="replace", clustered=False, **sections):
        sections = {"slice": {"score_date": "{date}"}, "keep": ["code"], **sections}
        if clustered:
            sections |= {"slice": {}, "keep": ["code", "score_date"]}
        sections = {"checks": {"quarantine": {"max_fraction": 0.5}}, **sections}
        return make_job(uri, date=DAY, predictions={"p": 0}, sinks=[{"type": "delta", "table": "lake/scores", "write": write}],
                        **sections)  # fmt: skip

    return make


def features(ids, a, code="abc") -> pa.Table:
    dates = pa.array([date(2026, 1, 2)] * len(ids))
    return pa.table({"id": pa.array(ids, pa.int64()), "code": [code] * len(ids), "a": a, "score_date": dates})


def rows(spark, path: str, columns: str = "id, code, p") -> list[tuple[Any, ...]]:
    found = spark.sql(f"SELECT {columns} FROM delta.`{path}` ORDER BY id").collect()
    return [tuple(round(v, 6) if isinstance(v, float) else v for v in row) for row in found]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.quick("column mapping, renamed", "appendOnly", "VARIANT column")
def test_a_table_with_rules(name, create, daily, spark):
    outcome, case = CASES[name]
    path, clustered = create(case), "CLUSTER" in case[3]
    write("lake/features", features([1, 2], [0.1, 0.2]))
    job = daily(clustered=clustered)
    before = delta.open_table(locate(path)).version
    if outcome == REFUSED:
        with pytest.raises(ConfigError, match=r"appendOnly|variant|VARIANT"):
            score(job, "spark")
        assert delta.open_table(locate(path)).version == before
        return
    engine, thorough = "spark" if outcome == COPIED else "local", outcome != COPIED or name == "column mapping"
    plan = score(job, "spark", dry_run=True).plan
    assert ("copied by Spark" in plan["publish"]) == (outcome == COPIED)
    assert score(job, engine).status == "published"
    assert rows(spark, path) == [(1, "abc", 1.0), (2, "abc", 2.0)]
    if name == "generated column":
        assert rows(spark, path, "twice") == [(2.0,), (4.0,)]
    if thorough:
        assert score(job, engine).status == "unchanged"
    write("lake/features", features([2, 3], [0.5, 0.6]), mode="overwrite")
    second = score(daily(clustered=clustered), engine)
    assert (second.status, second.rows_scored) == ("published", 2)
    assert rows(spark, path) == [(2, "abc", 5.0), (3, "abc", 6.0)]
    snapshot = delta.open_table(locate(path))
    identity = "scores/" if clustered else f"scores/score_date={DAY}"
    assert [snapshot.transaction(f"{identity}{i}") for i in ("", f"/run/{second.run_id}", "/rows/2")] == [2, 2, 2]
    assert score(daily(clustered=clustered), engine).status == "unchanged"
    if not thorough:
        return
    spark.sql(f"DELETE FROM delta.`{path}` WHERE id = 2")
    with pytest.raises(Blocked, match=r"rows were changed since by commit \d+ \(DELETE\)"):
        score(daily(clustered=clustered), engine)


@pytest.mark.long
@pytest.mark.parametrize("how", ["direct", "copied"])
def test_rows_that_break_a_rule(how, create, daily, spark):
    """Simple ones go to quarantine with the constraint's name; of the others Spark refuses the whole write."""
    check = "p < 100 AND code IS NOT NULL" if how == "direct" else "abs(p) < 100"
    path = create(table("id BIGINT, code STRING, p DOUBLE NOT NULL", then=f"ADD CONSTRAINT small CHECK ({check})"))
    write("lake/features", features([1, 2, 3], [0.1, 20.0, 0.3]))
    if how == "copied":
        with pytest.raises(Blocked, match=r"rule of the table stands against score_date=2026-01-02: .*DELTA_"):
            score(daily(), "spark")
        assert (rows(spark, path), unfinished(daily())) == ([], 0)
        return
    assert score(daily(), "local").rows_quarantined == 1
    assert rows(spark, path) == [(1, "abc", 1.0), (3, "abc", 3.0)]
    (aside,) = spark.sql(
        "SELECT id, _reasons FROM delta.`lake/scores_quarantine`".replace("lake", f"{Path.cwd()}/lake")
    ).collect()
    (reason,) = aside["_reasons"]
    assert (aside["id"], reason["rule"], reason["column"]) == (2, "check:small", "p,code")
    assert reason["observed"].startswith("200.0")


def test_a_null_prediction_that_a_table_does_not_take_is_set_aside(create, daily, spark):
    path = create(table("id BIGINT, code STRING NOT NULL, p DOUBLE"))
    write("lake/features", pa.table({"id": [1, 2], "code": ["abc", None], "a": [0.1, 0.2],
                                     "score_date": pa.array([date(2026, 1, 2)] * 2)}))  # fmt: skip
    assert score(daily(), "local").rows_quarantined == 1
    assert rows(spark, path) == [(1, "abc", 1.0)]


@pytest.mark.long
def test_a_copy_that_was_stopped_is_made_once(create, daily, spark, monkeypatch):
    """Killed after Spark's own commit, before the transaction ids that follow it."""
    path = create(CASES["column mapping"][1])
    write("lake/features", features([1, 2], [0.1, 0.2]))
    with monkeypatch.context() as patched:
        patched.setattr(copied, "_verify", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            score(daily(), "spark")
    assert (len(rows(spark, path)), unfinished(daily())) == (2, 1)
    with pytest.raises(ConfigError, match="can only be finished by Spark: use --engine spark"):
        score(daily(), "local")
    result = score(daily(), "spark")
    assert (result.status, unfinished(daily())) == ("published", 0)
    assert rows(spark, path) == [(1, "abc", 1.0), (2, "abc", 2.0)]
    writes = [
        c
        for c in spark.sql(f"DESCRIBE HISTORY delta.`{path}`").collect()
        if c["operationMetrics"].get("numOutputRows") == "2"
    ]
    assert len(writes) == 1
    assert score(daily(), "spark").status == "unchanged"


@pytest.mark.long
def test_a_copy_that_another_run_overtakes_is_told_although_spark_says_nothing(create, daily, spark, monkeypatch):
    """Spark skips a transaction id that is there already without a word."""
    path = create(CASES["column mapping"][1])
    write("lake/features", features([1, 2], [0.1, 0.2]))
    original = copied._write

    def overtaken(*args: Any) -> None:
        monkeypatch.setattr(copied, "_write", original)
        assert score(daily(state="other_state"), "spark").status == "published"
        original(*args)

    monkeypatch.setattr(copied, "_write", overtaken)
    with pytest.raises(Overtaken, match=r"another run published score_date=2026-01-02 meanwhile \(0 of 2 rows live\)"):
        score(daily(), "spark")
    assert (rows(spark, path), unfinished(daily())) == ([(1, "abc", 1.0), (2, "abc", 2.0)], 0)
    assert score(daily(), "spark").status == "unchanged"


@pytest.mark.long
def test_a_writer_that_comes_in_between_sparks_copy_is_tried_again(create, daily, spark, monkeypatch):
    path = create(CASES["column mapping"][1])
    write("lake/features", features([1, 2], [0.1, 0.2]))
    original, calls = copied._write, []

    def conflicting(*args: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("[DELTA_CONCURRENT_APPEND] files were added by a concurrent update")
        original(*args)

    monkeypatch.setattr(copied, "_write", conflicting)
    assert score(daily(), "spark").status == "published"
    assert (len(calls), rows(spark, path)) == (2, [(1, "abc", 1.0), (2, "abc", 2.0)])


@pytest.mark.parametrize("name", ["column mapping", "change data feed", "deletion vectors"])
@pytest.mark.long
def test_spark_merges_where_a_direct_commit_can_not(name, create, daily, spark):
    path = create(CASES[name][1])
    write("lake/features", features([1, 2], [0.1, 0.2]))
    assert "copied by Spark" in score(daily("merge"), "spark", dry_run=True).plan["publish"]
    before = dict(spark.sparkContext.getConf().getAll()), spark.conf.get("spark.databricks.delta.write.txnAppId", None)
    score(daily("merge"), "spark")
    write("lake/features", features([2, 3], [0.5, 0.6]), mode="overwrite")
    assert score(daily("merge"), "spark").status == "published"
    assert rows(spark, path) == [(1, "abc", 1.0), (2, "abc", 5.0), (3, "abc", 6.0)]
    assert score(daily("merge"), "spark").status == "unchanged"
    assert (
        dict(spark.sparkContext.getConf().getAll()),
        spark.conf.get("spark.databricks.delta.write.txnAppId", None),
    ) == before


def test_a_kept_struct_with_a_required_part_makes_a_table_that_spark_reads(daily, spark, workspace):
    """The source may demand values of its rows; that is no reason for the scored table to do so."""
    path = f"{workspace}/lake/features"
    spark.sql(
        f"CREATE TABLE delta.`{path}` (id BIGINT, code STRUCT<x: INT NOT NULL>, a DOUBLE, n TIMESTAMP_NTZ) USING delta"
    )
    spark.sql(f"INSERT INTO delta.`{path}` VALUES (1, named_struct('x', 7), 0.1, TIMESTAMP_NTZ'2026-01-02 03:04:05')")
    assert score(daily(keep=["code", "n"]), "local").status == "published"
    assert rows(spark, f"{workspace}/lake/scores", "code.x, p") == [(7, 1.0)]
    assert score(daily(keep=["code", "n"]), "local").status == "unchanged"


@pytest.mark.long
def test_a_kept_struct_of_a_table_with_column_mapping(daily, spark, workspace):
    path = f"{workspace}/lake/features"
    spark.sql(f"CREATE TABLE delta.`{path}` (id BIGINT, code STRUCT<x: INT>, a DOUBLE) USING delta "
              "TBLPROPERTIES ('delta.columnMapping.mode'='name')")  # fmt: skip
    spark.sql(f"INSERT INTO delta.`{path}` VALUES (1, named_struct('x', 7), 0.1)")
    assert score(daily(), "spark").status == "published"
    assert rows(spark, f"{workspace}/lake/scores", "code.x, p") == [(7, 1.0)]


def test_a_table_that_spark_writes_to_as_well_is_warned_of_once_a_run(create, daily):
    create(CASES["no features"][1])
    write("lake/features", features([1], [0.1]))
    said = []
    score(daily(), "local", say=lambda event, values: said.append((event, values.get("message"))))
    (warning,) = [message for event, message in said if event == "warning"]
    assert warning.startswith("lake/scores: Spark writes to this table too, and its own log store on a local disk")
    said.clear()
    write("lake/features", features([2], [0.1]))
    score(daily(), "local", say=lambda event, values: said.append((event, values.get("message"))))
    assert [message for event, message in said if event == "warning"] == []


def test_the_readme_has_these_outcomes():
    section = README.split("| the table has | a publish is |")[1].split("\n\n")[0]
    told = dict(re.findall(r"^\| ([^|]+?) \| ([^|-][^|]*?) \|$", section, re.MULTILINE))
    assert told == {name: outcome for name, (outcome, _) in CASES.items()}
