"""A prepared job's own row as a request in each form of body, and what is answered: a package is tried by it."""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv

from lakehouse.serving import answers
from lakehouse.serving.handler import handle
from lakehouse.serving.messages import ARROW, CSV, JSON, Request, as_json
from lakehouse.serving.server import Server

_COMPARED = ("status", "error", "scores", "quarantined")


def bodies_of(row: pa.RecordBatch) -> dict[str, tuple[str, bytes]]:
    """By a name: the media type and the body of a row in each form that has one for its types."""
    names = row.schema.names
    record = {name: answers.values(column)[0] for name, column in zip(names, row.columns, strict=True)}
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, row.schema) as writer:
        writer.write_batch(row)
    found = {
        "JSON": (JSON, as_json({"records": [record]})),
        "Arrow": (ARROW, bytes(stream.getvalue())),
    }
    if not any(pa.types.is_nested(field.type) or pa.types.is_binary(field.type) for field in row.schema):
        text = io.BytesIO()
        arrow_csv.write_csv(row, text)
        found["CSV"] = (CSV, text.getvalue())
    return found


def answers_to_sample(server: Server, job: str) -> dict[str, Any]:
    """What is answered to the job's own row in each form, without what differs from one request to the next."""
    found = {}
    for form, (kind, body) in bodies_of(server.jobs[job].open.prepared.row).items():
        response = handle(Request("POST", f"/v1/{job}/score", {}, {"content-type": kind}, body), server)
        said = {"status": response.status, **json.loads(response.body)}
        found[form] = {name: said[name] for name in _COMPARED if name in said}
    return found


def main(folder: str, began: float) -> None:
    """Open the package in this folder and print what it answers, and the seconds since it began until it could."""
    from lakehouse.serving.packaged import open_package

    package = open_package(Path(folder), alone=True)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "answers": answers_to_sample(package.inside, package.job)}))
    sys.stdout.flush()
