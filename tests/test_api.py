"""What people call in notebooks: a job scored, a job previewed, and that neither surprises."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

import lakehouse
from lakehouse.errors import Blocked, ConfigError
from tests.conftest import read, version, write


@pytest.fixture
def conf(register, make_job):
    x = pd.DataFrame({"a": np.arange(4.0)})
    uri = register(LinearRegression().fit(x, 2 * x["a"]), x)
    write("lake/features", pa.table({"id": [1, 2, 3, None], "a": [0.5, 1.0, None, 2.0], "day": ["d"] * 4}))
    return make_job(uri, predictions={"p": 0}, keep=["day"], checks={"quarantine": {"max_fraction": 0.5}}).path


@pytest.mark.parametrize("engine", ["local", "spark"])
def test_a_preview_has_scores_or_reasons_and_publishes_nothing(conf, engine, request, workspace):
    if engine == "spark":
        request.getfixturevalue("spark")
    shown = lakehouse.preview(conf, engine=engine)
    assert list(shown.columns) == ["id", "day", "p", "_reasons"]
    found = {None if pd.isna(row["id"]) else row["id"]: (row["p"], row["_reasons"]) for _, row in shown.iterrows()}
    assert [round(found[key][0], 9) for key in (1, 2)] == [1.0, 2.0]
    assert [found[key][1].split(" ")[0] for key in (1, 3, None)] == ["", "model_raised", "key_not_null"]
    assert pd.isna(found[3][0])
    assert (version("lake/scores"), (workspace / "lake/scores").exists()) == (-1, False)
    assert len(lakehouse.preview(conf, engine="local", rows=2)) == 2


def test_a_job_is_scored_and_its_result_shown(conf):
    result = lakehouse.score(conf, engine="local")
    assert (result.status, result.rows_scored, result.rows_quarantined) == ("published", 2, 2)
    assert read("lake/scores")["id"].to_pylist() == [1, 2]
    assert "<b>PUBLISHED</b>" in result._repr_html_()
    assert "read 4 = scored 2 + quarantined 2" in result._repr_html_()
    assert lakehouse.score(conf, engine="local").status == "unchanged"
    assert lakehouse.score(conf, engine="local", rescore=True, dry_run=True).plan["carrier"] == "files"


def test_what_the_command_line_says_is_raised(conf):
    with pytest.raises(ConfigError, match="no such file"):
        lakehouse.score("conf/nothing.yaml", engine="local")
    with pytest.raises(ConfigError, match="engine: 'sprak' is none: use spark or local"):
        lakehouse.preview(conf, engine="sprak")
    with pytest.raises(Blocked, match="To allow more") as raised:
        lakehouse.score(conf, engine="local", overrides=["checks.quarantine.max_fraction=0.1"])
    assert raised.value.result.rows_quarantined == 2


def test_importing_the_package_imports_nothing_heavy():
    heavy = ["mlflow", "pyspark", "pandas", "pyarrow", "numpy", "deltalake", "sklearn"]
    code = f"import sys, lakehouse; lakehouse.__all__; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
