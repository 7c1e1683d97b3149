"""One job that has published, made ready to be served: 400 rows, some of which its suite sets aside, in a folder of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lakehouse.config import load_job
from lakehouse.serving.handler import handle
from lakehouse.serving.limits import Limits
from lakehouse.serving.messages import JSON, Request, Response
from lakehouse.serving.prepared import JobFile, Prepared
from lakehouse.serving.preparing import prepare
from lakehouse.serving.server import Server, server_for
from tests.conftest import score, write

ROWS = 400
SUITE = {
    "name": "s",
    "expectations": [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "a", "min_value": -9, "max_value": 9}},
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "b", "max_value": 2},
            "severity": "warning",
        },
    ],
}


@dataclass(frozen=True)
class Place:
    """The job's folder: its file and tables."""

    folder: Path
    conf: str

    def table(self, name: str) -> str:
        return str(self.folder / "lake" / name)

    def write_job(self, uri: str, tracking_uri: str, **sections: Any) -> Any:
        content = {
            "job": "likes",
            "source": {"type": "delta", "table": self.table("features")},
            "model": {"uri": uri, "tracking_uri": tracking_uri, "method": "predict_proba"},
            "keys": ["id"],
            "keep": ["kind"],
            "predictions": {"p": {"class": 1}},
            "checks": {"features": str(self.folder / "suite.json"), "quarantine": {"max_fraction": 0.1}},
            "sinks": [{"type": "delta", "table": self.table("scores")}],
            **sections,
        }
        Path(self.conf).write_text(yaml.safe_dump(content, sort_keys=False))
        return load_job(self.conf, date=None, environ=os.environ)


def features(rows: int = ROWS, seed: int = 0) -> pa.Table:
    """Ids, kinds, a day, and the features a, b and c, of which a is out of bounds in each 50th row."""
    random = np.random.default_rng(seed)
    x = {name: random.normal(size=rows) for name in "abc"}
    x["a"][::50] = 99.0
    days = pa.array(np.arange(rows) % 30 + 20_000, pa.int32()).cast(pa.date32())
    kinds = pa.array(["x", "y", None] * rows)[:rows]
    return pa.table({"id": np.arange(rows), "kind": kinds, "day": days, **x})


def model(seed: int = 0) -> tuple[Any, pd.DataFrame]:
    """A logistic regression of a, b and c."""
    random = np.random.default_rng(seed)
    x = pd.DataFrame(random.normal(size=(300, 3)), columns=list("abc"))
    y = (x["a"] + (1 + seed) * x["b"] + random.normal(size=300) * 0.3 > 0).astype(int)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y), x


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, register: Callable[..., str], tracking_uri: str) -> Place:
    """The job, which has published once."""
    folder = tmp_path_factory.mktemp("serving")
    made = Place(folder, str(folder / "likes.yaml"))
    (folder / "suite.json").write_text(json.dumps(SUITE))
    write(made.table("features"), features())
    score(made.write_job(register(*model(), name="likes"), tracking_uri))
    return made


@pytest.fixture(scope="session")
def prepared(place: Place) -> Prepared:
    """The job, made ready."""
    return prepare(JobFile(place.conf), place.folder / "models", datetime.now(UTC), lambda message: None)


@pytest.fixture(scope="session")
def server(prepared: Prepared) -> Server:
    """It, loaded into this process, its table looked at."""
    made = server_for([prepared], Limits(rows=1_000), {})
    made.jobs["likes"].published.refresh()
    return made


@pytest.fixture
def ask(server: Server) -> Callable[..., Response]:
    """ask(body, type, path, **headers) → the response; of a body that is no bytes its JSON."""

    def make(body: Any = b"", kind: str = JSON, path: str = "/v1/likes/score", at: Server = server, method: str = "",
             query: Any = None, **headers: str) -> Response:  # fmt: skip
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
        how = method or ("POST" if path.endswith("/score") else "GET")
        return handle(Request(how, path, query or {}, named, content, "somebody"), at)

    return make
