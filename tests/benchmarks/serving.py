"""What the handler of `lakehouse serve` takes for 1 and for 1,000 rows, by form of the body: `python -m tests.benchmarks.serving`.

A logistic regression of 20 doubles behind a scaler, two row rules; times of the processor, in one process with no server.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lakehouse.engines.threads import WITHOUT_THREADS

os.environ.update(WITHOUT_THREADS, MLFLOW_DISABLE_TELEMETRY="true")

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import yaml
from deltalake import write_deltalake
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lakehouse.scoring.inputs import model_input
from lakehouse.serving import answers, bodies, scoring
from lakehouse.serving.handler import handle
from lakehouse.serving.limits import Limits
from lakehouse.serving.messages import ARROW, CSV, JSON, Request
from lakehouse.serving.preparing import JobFile, prepare
from lakehouse.serving.server import Server, server_for

FEATURES = [f"f{number}" for number in range(20)]
RULES = [
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "f0", "min_value": -20, "max_value": 20}},
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "f1"}, "severity": "warning"},
]


def job_of(folder: Path) -> tuple[str, str, str, int]:
    """The job file, its model's URI and registry, and how many rows its table has, with keys from 0."""
    random, tracking = np.random.default_rng(0), f"sqlite:///{folder}/mlflow.db"
    x = pd.DataFrame(random.normal(size=(2_000, len(FEATURES))), columns=FEATURES)
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, (x["f0"] > 0).astype(int))
    mlflow.set_tracking_uri(tracking)
    mlflow.create_experiment("serving", (folder / "artifacts").as_uri())
    mlflow.set_experiment("serving")
    info = mlflow.sklearn.log_model(
        fitted,
        name="logit",
        registered_model_name="logit",
        signature=infer_signature(x, fitted.predict_proba(x)),
        pip_requirements=["scikit-learn"],
        skops_trusted_types=["numpy.dtype"],
        pyfunc_predict_fn="predict_proba",  # for MLflow's own server
    )
    write_deltalake(str(folder / "features"), pa.table({"id": np.arange(len(x)), **{c: x[c] for c in FEATURES}}))
    (folder / "suite.json").write_text(json.dumps({"name": "s", "expectations": RULES}))
    uri = f"models:/logit/{info.registered_model_version}"
    content = {
        "job": "logit",
        "source": {"type": "delta", "table": str(folder / "features")},
        "model": {
            "uri": uri,
            "tracking_uri": tracking,
            "method": "predict_proba",
        },
        "keys": ["id"],
        "predictions": {"p": {"class": 1}},
        "checks": {"features": str(folder / "suite.json")},
        "sinks": [{"type": "delta", "table": str(folder / "scores")}],
    }
    (folder / "logit.yaml").write_text(yaml.safe_dump(content))
    return str(folder / "logit.yaml"), uri, tracking, len(x)


def _requests(rows: int) -> dict[str, Request]:
    random = np.random.default_rng(1)
    table = pa.table({"id": np.arange(rows), **{c: random.normal(size=rows) for c in FEATURES}})
    stream, text = pa.BufferOutputStream(), io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    arrow_csv.write_csv(table, text)
    sent = {
        "JSON records": (json.dumps({"records": table.to_pylist()}).encode(), JSON, JSON),
        "JSON columns": (json.dumps({"columns": table.to_pydict()}).encode(), JSON, JSON),
        "CSV": (text.getvalue(), CSV, JSON),
        "Arrow, answer too": (stream.getvalue().to_pybytes(), ARROW, ARROW),
    }
    return {
        name: Request("POST", "/v1/logit/score", {}, {"content-type": kind, "accept": accept}, body)
        for name, (body, kind, accept) in sent.items()
    }


def _milliseconds(work: Callable[[], Any], turns: int) -> float:
    for _ in range(10):
        work()
    times = []
    for _ in range(turns):
        began = time.process_time_ns()
        work()
        times.append((time.process_time_ns() - began) / 1e6)
    return statistics.median(times)


def _parts(server: Server, request: Request, turns: int) -> dict[str, float]:
    """What reading, scoring, the model alone and answering take."""
    job, now = server.jobs["logit"], datetime.now(UTC)
    kind = request.headers["content-type"]
    batch = bodies.read(request.body, kind, job.reader)
    found = scoring.score(job.open, batch, "r", now)
    given = model_input(batch, job.open.prepared.scoring, job.open.predict)
    return {
        "read": _milliseconds(lambda: bodies.read(request.body, kind, job.reader), turns),
        "score": _milliseconds(lambda: scoring.score(job.open, batch, "r", now), turns),
        "of that the model": _milliseconds(lambda: job.open.predict(given), turns),
        "answer": _milliseconds(lambda: answers.in_json(job.open, found, "r", columnar=False), turns),
    }


def main() -> None:
    """Print medians as a table."""
    with tempfile.TemporaryDirectory() as place:
        prepared = prepare(JobFile(job_of(Path(place))[0]), Path(place) / "model", datetime.now(UTC), print)
        server = server_for([prepared], Limits(), {})
        print("| rows | body | ms |\n|---|---|---|")
        for rows, turns in ((1, 500), (1_000, 100)):
            asked = _requests(rows)
            for name, request in asked.items():
                assert handle(request, server).status == 200
                print(f"| {rows:,} | {name} | {_milliseconds(lambda r=request: handle(r, server), turns):.3f} |")
            for part, took in _parts(server, asked["JSON records"], turns).items():
                print(f"| {rows:,} | JSON records: {part} | {took:.3f} |")


if __name__ == "__main__":
    main()
