"""`lakehouse model`: from a pickle to scores by commands alone, and a look into a file."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from tests.command import run
from tests.conftest import read, write

X = pd.DataFrame({"a": np.linspace(-1, 1, 40), "b": np.cos(np.arange(40))})


class Hostile:
    """Its pickle makes a file when it is loaded."""

    def __reduce__(self) -> Any:
        return os.system, ("touch canary",)


def test_a_look_into_a_hostile_pickle_ends_with_4_and_runs_nothing(
    workspace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("m.pkl").write_bytes(pickle.dumps(Hostile()))
    done = run(capfd, "model", "inspect", "m.pkl")
    assert (done.code, done.err, "system at byte" in done.out) == (4, "", True)
    assert not Path("canary").exists()


def test_a_pickle_becomes_scores(workspace: Path, tracking_uri: str, capfd: pytest.CaptureFixture[str]) -> None:
    model = LogisticRegression().fit(X, (X["a"] > 0).astype(int))
    Path("m.pkl").write_bytes(pickle.dumps(model))
    write("lake/features/games", pa.Table.from_pandas(X.assign(player_id=range(40)), preserve_index=False))
    done = run(
        capfd, "model", "import", "m.pkl", "--name", "from_pickle", "--features", "lake/features/games", "--method",
        "predict_proba", "--trust", "pickle", "--alias", "champion", "--tracking-uri", tracking_uri,
    )  # fmt: skip
    assert (done.code, done.out.startswith("registered from_pickle v1 as champion, stored as skops")) == (0, True)
    then = done.out.splitlines()[-1].removeprefix("next: lakehouse ").split()
    assert run(capfd, *then).code == 0
    assert run(capfd, "score", "conf/from_pickle.yaml", "--engine", "local").code == 0
    scored = read("lake/scores/from_pickle_scores")
    assert np.allclose(scored["probability"].to_numpy(), model.predict_proba(X)[:, 1], rtol=1e-12, atol=0)
