"""A customer table as people have it, scored with the model that a tutorial makes of it, by what `init` writes."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.command import run
from tests.conftest import read, write

ROWS = 2_000
NUMBERS, TEXTS = ["Age", "Monthly Charges", "TotalCalls", "Tenure Months"], ["Contract Type", "Country"]


def customers() -> pd.DataFrame:
    """Nullable integers, blanks and CamelCase in names, dates and decimals; the last ten are counters gone wild."""
    r = np.random.default_rng(7)
    calls = r.integers(0, 500, ROWS)
    calls[-10:] = 2**53 + 1
    return pd.DataFrame(
        {
            "CustomerId": np.arange(ROWS),
            "Age": pd.array(np.where(r.random(ROWS) < 0.1, None, r.integers(18, 90, ROWS)), "Int64"),
            "Monthly Charges": [Decimal(int(v)) / 100 for v in r.integers(1_000, 12_000, ROWS)],
            "TotalCalls": calls,
            "Tenure Months": pd.array(np.where(r.random(ROWS) < 0.05, None, r.integers(0, 72, ROWS)), "Int32"),
            "Contract Type": r.choice(["month", "year"], ROWS),
            "Country": np.where(r.random(ROWS) < 0.02, None, r.choice(["DE", "FR", "NO"], ROWS)),
            "SignupDate": [dt.date(2020, 1, 1) + dt.timedelta(int(d)) for d in r.integers(0, 2000, ROWS)],
        }
    )


def as_read_by_pandas(rows: pd.DataFrame) -> pd.DataFrame:
    """The same from a CSV file: integers with gaps and decimals are float64 there."""
    return rows[NUMBERS].astype("float64").join(rows[TEXTS])


@pytest.fixture
def fitted(tracking_uri: str, workspace: Path) -> Any:
    """What a tutorial makes of it, registered as `churn`."""
    x = as_read_by_pandas(customers()[:-10])
    y = np.where(x["Monthly Charges"] + x["TotalCalls"] / 10 > 90, "yes", "no")
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    texts = make_pipeline(SimpleImputer(missing_values=None, strategy="most_frequent"), OneHotEncoder())
    trained = make_pipeline(make_column_transformer((numbers, NUMBERS), (texts, TEXTS)), LogisticRegression()).fit(x, y)
    mlflow.set_tracking_uri(tracking_uri)
    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            trained, name="churn", signature=infer_signature(x, trained.predict(x)), serialization_format="cloudpickle",
            registered_model_name="churn", pip_requirements=["scikit-learn"],
        )  # fmt: skip
    mlflow.MlflowClient().set_registered_model_alias("churn", "champion", str(logged.registered_model_version))
    return trained


def by_deltalake(table: pa.Table, spark: Any) -> None:
    write("lake/customers", table)


def by_spark(table: pa.Table, spark: Any) -> None:
    columns = ", ".join(f"`{f.name}` {_SQL[str(f.type)]}" for f in table.schema)
    place = Path("lake/customers").resolve()
    spark.sql(
        f"CREATE TABLE delta.`{place}` ({columns}) USING delta TBLPROPERTIES ('delta.columnMapping.mode' = 'name')"
    )
    spark.createDataFrame(table.to_pylist(), columns).coalesce(1).write.format("delta").mode("append").save(str(place))


_SQL = {
    "int64": "BIGINT",
    "int32": "INT",
    "string": "STRING",
    "date32[day]": "DATE",
    "decimal128(10, 2)": "DECIMAL(10,2)",
}


@pytest.mark.parametrize(
    ("written_by", "engine"), [(by_deltalake, "local"), (by_spark, "spark")], ids=["deltalake", "Spark"]
)
@pytest.mark.quick("deltalake")
def test_churn_from_init_to_replay(written_by, engine, fitted, tracking_uri, workspace, capfd, spark):
    rows = customers()
    schema = pa.schema([("CustomerId", pa.int64()), ("Age", pa.int64()), ("Monthly Charges", pa.decimal128(10, 2)),
                        ("TotalCalls", pa.int64()), ("Tenure Months", pa.int32()), ("Contract Type", pa.string()),
                        ("Country", pa.string()), ("SignupDate", pa.date32())])  # fmt: skip
    written_by(pa.Table.from_pandas(rows, schema, preserve_index=False), spark)
    made = run(capfd, "init", "models:/churn@champion", "lake/customers", "--tracking-uri", tracking_uri)
    assert (made.code, made.err) == (0, "")
    conf = Path("conf/churn.yaml")
    text = conf.read_text()
    assert "'TotalCalls' (int64) becomes double exactly, or the row is set aside" in text
    # what init suggests: its own lines, uncommented
    trust = re.search(r"add model: \{trust: \[(.*)\]\}", text)
    assert trust is not None
    job = yaml.safe_load(text)
    job["model"] |= {"trust": trust[1].split(", "), "method": "predict_proba"}
    job["predictions"] = {"probability": {"class": "yes"}}
    conf.write_text(yaml.safe_dump(job))
    planned = run(capfd, "score", str(conf), "--engine", engine, "--dry-run")
    assert planned.code == 0
    assert "Monthly Charges (decimal128(10, 2)) to double to the nearest" in planned.out
    scored = run(capfd, "score", str(conf), "--engine", engine, "--json")
    assert (scored.code, scored.json["rows_scored"], scored.json["rows_quarantined"]) == (0, ROWS - 10, 10)
    got = read("lake/churn_scores").sort_by("CustomerId")
    expected = fitted.predict_proba(as_read_by_pandas(rows[:-10]))[:, list(fitted.classes_).index("yes")]
    np.testing.assert_allclose(got["probability"].to_numpy(), expected, rtol=1e-12)
    aside = read("lake/churn_scores_quarantine")
    assert {reason["rule"] for reasons in aside["_reasons"].to_pylist() for reason in reasons} == {"exact"}
    run_id = scored.json["run_id"]
    again = run(capfd, "replay", str(conf), "--run", run_id, "--engine", engine, "--json")
    assert (again.code, again.json["rows_read"], again.json["rows_quarantined"]) == (3, 10, 10)
