"""`lakehouse prove` and `lakehouse check-proof`: one score, proved without the lake; whatever was changed is caught."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from tests.command import run
from tests.conftest import opened, score, write

ROWS = 200


@pytest.fixture(scope="module")
def doubling(register):
    x = pd.DataFrame({"a": np.linspace(0, 4, 40)})
    return register(LinearRegression().fit(x, x["a"] * 2), x)


@pytest.fixture
def key(workspace):
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", "key.pem"], check=True)
    subprocess.run(["openssl", "pkey", "-in", "key.pem", "-pubout", "-out", "public.pem"], check=True)
    return "key.pem"


@pytest.fixture
def signed(make_job, doubling, key):
    """A job of 200 rows that leaves receipts."""

    def make(**sections):
        return make_job(doubling, predictions={"p": 0}, receipts={"sign": key}, **sections)

    write("lake/features", pa.table({"id": np.arange(ROWS), "a": np.arange(ROWS) / 7}))
    return make


def prove(capfd, *arguments):
    return run(capfd, "prove", "conf/scores.yaml", *arguments)


def test_a_score_is_proved_without_the_lake(capfd, signed, tmp_path):
    done = score(signed())
    made = prove(capfd, "--key", "7", "--out", "p.json")
    assert made.code == 0, made
    Path("lake").rename(tmp_path / "gone")
    found = run(capfd, "check-proof", "p.json", "--public-key", "public.pem", "--json")
    assert found.code == 0, found
    assert (found.json["keys"], found.json["predictions"]) == ({"id": 7}, {"p": pytest.approx(2.0)})
    assert found.json["statement"]["run_id"] == done.run_id


def test_a_row_edited_by_hand_is_not_proved(capfd, signed):
    score(signed())
    opened("lake/scores").update(predicate="id = 7", updates={"p": "0.5"})
    found = prove(capfd, "--key", "7")
    assert found.code == 3, found
    assert "p was 2.0" in found.err and "is 0.5" in found.err
