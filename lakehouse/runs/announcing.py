"""Events of a run to streams, such as topics: after its commits and before its intent goes, so at least once.

An event that is sent again, by whoever finishes the run, has the same id: of the run itself `<run>/run`, of a row
`<run>/row/<file>/<row>`, by its place in the staged files that the intent lists. A run's rows come before the run.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.connectors.messages import Event
from lakehouse.runs import ledger
from lakehouse.runs.ledger import Intent
from lakehouse.sinks.target import SINK, Target
from lakehouse.storage import sizes
from lakehouse.storage.parquet import open_parquet

if TYPE_CHECKING:
    from lakehouse.config import Job

FORMAT = 1
_AT_ONCE = 10_000
"""Rows that become events at once."""


def streams_of(job: Job) -> tuple[Mapping[str, Any], ...]:
    """What an intent says of the streams that its run is announced to; secrets stay references."""
    return tuple({**stream.model_dump(mode="json"), "keys": list(job.keys)} for stream in job.publish_events)


def announce(intent: Intent, record: Mapping[str, Any]) -> str:
    """Send the events of a run whose commits are made; what could not be told of it for good.

    Raises Unavailable or ConfigError where a stream doesn't take them now.
    """
    scored = next((target for target in intent.targets if target.kind == SINK), None)
    gone = scored is not None and any(stream["rows"] for stream in intent.streams) and _are_gone(scored)
    for stream in intent.streams:
        rows = scored if stream["rows"] and not gone else None
        client = import_module(f"lakehouse.connectors.{stream['type']}.sending")
        client.send(stream, _events(intent, record, rows, stream["keys"]))
    return "its rows could not be announced: their files are there no more" if gone else ""


def _are_gone(target: Target) -> bool:
    return None in sizes(target.root, [file.path for file in target.files]).values()


def _events(intent: Intent, record: Mapping[str, Any], scored: Target | None, keys: Sequence[str]) -> Iterator[Event]:
    if scored is not None:
        yield from _of_rows(intent.run_id, scored, keys)
    said = {
        "format": FORMAT,
        "event": "run",
        "id": f"{intent.run_id}/run",
        **{name: record[name] for name in ("job", "run_id", "date", "status", "started_at")},
        "rows": {kind: record[f"rows_{kind}"] for kind in ("read", "scored", "quarantined")},
        "model": ledger.model_of(record),
        "input": {name: record.get(f"input_{name}") for name in ("table", "version", "range")},
        "tables": record["sinks"],
    }
    yield Event(said["id"], record["job"].encode(), _as_json(said))


def _of_rows(run: str, target: Target, keys: Sequence[str]) -> Iterator[Event]:
    for number, file in enumerate(target.files):
        at = 0
        with open_parquet(target.root, file.path) as parquet:
            for batch in parquet.iter_batches(_AT_ONCE):
                for row in _finite(batch).to_pylist():
                    whole, id_ = {**row, **target.slice}, f"{run}/row/{number}/{at}"
                    said = {"format": FORMAT, "event": "row", "id": id_, "job": target.job, "row": whole}
                    yield Event(id_, _as_json([whole[key] for key in keys]), _as_json(said))
                    at += 1


def _finite(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with null for NaN and infinities, which JSON has not."""
    columns = [
        pc.if_else(pc.is_finite(column), column, None) if pa.types.is_floating(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _as_json(content: Any) -> bytes:
    try:
        return json.dumps(content, default=_plain, allow_nan=False).encode()
    except ValueError:  # a number within a list or struct
        return json.dumps(_without_nan(content), default=_plain).encode()


def _plain(value: Any) -> Any:
    """What JSON has no type for: times in ISO 8601, bytes in base64, decimals and others as text."""
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
