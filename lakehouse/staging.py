"""The worker: batches in, staged Parquet files and a manifest out. Runs on executors and in local processes.

Nothing it writes is visible to a reader until the files are committed; every attempt writes files of its own.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse import profile, rules
from lakehouse.contract import (
    COUNTS,
    FAILED,
    LINEAGE,
    MANIFEST,
    QUARANTINED,
    SCORED,
    WARNINGS,
    conform,
)  # fmt: skip
from lakehouse.errors import LakehouseError
from lakehouse.progress import Address, tell
from lakehouse.scoring import Checked, Predict, Scoring, begin, score_batch
from lakehouse.statistics import Column, columns_of, filterable, observe, statistics
from lakehouse.storage import Location, create_file

TARGET_BYTES = 128 << 20
"""Staged files are closed at about this size."""
_TELL_EVERY = 0.2  # seconds


class Unit(Protocol):
    """A picklable piece of the input."""

    def batches(self) -> Iterator[pa.RecordBatch]: ...


@dataclass(frozen=True)
class Staging:
    """All that a worker has to know, picklable. Schemas are those of the staged files (no slice columns)."""

    run_id: str
    slice: Mapping[str, str]
    scoring: Scoring
    input_schema: pa.Schema
    scored_schema: pa.Schema
    quarantine_schema: pa.Schema
    scored_root: Location
    quarantine_root: Location
    lineage: Mapping[str, Any]
    digest: str
    method: str | None
    params: tuple[tuple[str, Any], ...]
    batch_rows: int
    progress: Address | None = None


@dataclass
class _Output:
    """One staged file being written."""

    path: str
    sink: pa.NativeFile
    writer: pq.ParquetWriter
    columns: dict[str, Column]
    rows: int = 0


@dataclass
class Files:
    """A worker's files of one kind in one folder below their table's root, rolled at `TARGET_BYTES`."""

    kind: str
    task: int
    root: Location
    schema: pa.Schema
    folder: str
    open: _Output | None = None
    done: list[dict[str, Any]] = field(default_factory=list)

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a batch in this schema."""
        if batch.num_rows == 0:
            return
        output = self.open = self.open or self._create()
        output.writer.write_batch(batch)
        output.rows += batch.num_rows
        for name, column in output.columns.items():
            observe(column, batch.column(name))
        if output.sink.tell() >= TARGET_BYTES:
            self.close()

    def _create(self) -> _Output:
        name = f"{self.kind}-{self.task:05d}-{uuid.uuid4().hex}.parquet"
        sink = create_file(self.root.join(self.folder, name))
        safe = filterable(self.schema)
        writer = pq.ParquetWriter(
            sink, self.schema, compression="snappy", use_dictionary=safe, write_statistics=safe, store_schema=False,
            version="2.6",
        )  # fmt: skip
        return _Output(f"{self.folder}/{name}", sink, writer, columns_of(self.schema))

    def close(self) -> None:
        """Finish the open file and note it in the manifest."""
        output, self.open = self.open, None
        if output is None:
            return
        output.writer.close()
        size = output.sink.tell()
        output.sink.close()
        self.done.append(
            {"task": self.task, "kind": self.kind, "path": output.path, "rows": output.rows, "bytes": size,
             "detail": statistics(output.rows, output.columns)}
        )  # fmt: skip


def folder_of(run_id: str, slice_texts: Mapping[str, str]) -> str:
    """Where a run's files lie below their table's root, spelled as the filesystem does.

    The log holds the slice's values, but Polars takes them from the path, where no other `name=value` may stand.
    """
    values = (f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in slice_texts.items())
    return "/".join([f"run-{run_id}", *values])


def stage(
    task: int, batches: Iterable[pa.RecordBatch], staging: Staging, predict: Predict, on_batch: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Score conformed batches and stage what comes out; the manifest rows of this worker.

    `on_batch` is called with the rows read so far. Where the model fails on more rows than the run may set aside, the
    rest is not read. A model that can't be used ends as one FAILED row instead of an exception, so that no engine
    tries it again.
    """
    counters = begin(staging.scoring, staging.input_schema)
    folder = folder_of(staging.run_id, staging.slice)
    scored = Files(SCORED, task, staging.scored_root, staging.scored_schema, folder)
    quarantined = Files(QUARANTINED, task, staging.quarantine_root, staging.quarantine_schema, folder)
    started = time.perf_counter()
    try:
        for batch in batches:
            good, bad = score_batch(batch, staging.scoring, predict, counters)
            scored.write(with_lineage(good, scored.schema, staging.lineage))
            if bad is not None:
                quarantined.write(with_lineage(bad, quarantined.schema, staging.lineage))
            on_batch(counters.read)
            if counters.hopeless:
                break
    except LakehouseError as error:
        return [failed(task, error)]
    scored.close()
    quarantined.close()
    detail = {
        "read": counters.read,
        "scored": counters.scored,
        "quarantined": counters.quarantined,
        "reasons": [[rule, column, count] for (rule, column), count in sorted(counters.reasons.items())],
        "isolation_calls": counters.isolation_calls,
        "hopeless": counters.hopeless,
        "profiles": {name: profile.dump(sketches) for name, sketches in counters.profiles.items()},
        "checks": {
            suite: _dumped(c) for suite, c in (("features", counters.features), ("scores", counters.scores)) if c
        },
        "seconds": round(time.perf_counter() - started, 3),
    }
    counts = {
        "task": task,
        "kind": COUNTS,
        "path": None,
        "rows": counters.read,
        "bytes": 0,
        "detail": json.dumps(detail),
    }
    return [*scored.done, *quarantined.done, counts]


def _dumped(checked: Checked) -> dict[str, Any]:
    return {"rows": [count.to_dict() for count in checked.rows], "tables": rules.dump(checked.tables)}


def stage_units(task: int, units: Iterable[Unit], staging: Staging, predict: Predict) -> list[dict[str, Any]]:
    """Stage the batches of several units one after the other, telling the driver how far it is."""
    worker, told, done = f"{task}-{uuid.uuid4().hex[:8]}", [0.0], [0]

    def batches() -> Iterator[pa.RecordBatch]:
        for unit in units:
            yield from unit.batches()
            done[0] += 1

    def on_batch(rows: int) -> None:
        now = time.monotonic()
        if now - told[0] > _TELL_EVERY:
            told[0] = now
            tell(staging.progress, worker, done[0], rows)

    manifest = stage(task, batches(), staging, predict, on_batch)
    tell(staging.progress, worker, done[0], sum(m["rows"] for m in manifest if m["kind"] == COUNTS))
    return manifest


def stage_frame(
    task: int, batches: Iterable[pa.RecordBatch], staging: Staging, predict: Predict
) -> list[dict[str, Any]]:
    """Stage the batches of a Spark partition, which come in Spark's own Arrow types."""

    @dataclass(frozen=True)
    class Partition:
        def batches(self) -> Iterator[pa.RecordBatch]:
            return (conform(batch, staging.input_schema) for batch in batches if batch.num_rows)

    return stage_units(task, [Partition()], staging, predict)


def failed(task: int, error: LakehouseError) -> dict[str, Any]:
    """A manifest row that tells the driver of an error that trying again would not mend."""
    detail = json.dumps({"kind": type(error).__name__, "message": str(error)})
    return {"task": task, "kind": FAILED, "path": None, "rows": 0, "bytes": 0, "detail": detail}


def manifest_batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Manifest rows as one Arrow batch."""
    return pa.RecordBatch.from_pylist(rows, schema=MANIFEST)


def with_lineage(batch: pa.RecordBatch, schema: pa.Schema, lineage: Mapping[str, Any]) -> pa.RecordBatch:
    """The batch in the staged file's schema: its own columns, then the constants of the run."""
    arrays = []
    for f in schema:
        if f.name not in LINEAGE.names or (f.name == WARNINGS and f.name in batch.schema.names):
            column = batch.column(f.name)
            arrays.append(column if column.type == f.type else column.cast(f.type))
        elif f.name == WARNINGS:
            arrays.append(pa.ListArray.from_arrays(np.zeros(batch.num_rows + 1, np.int32), pa.array([], pa.string())))
        else:
            arrays.append(pa.repeat(pa.scalar(lineage[f.name], f.type), batch.num_rows))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
