"""The tables that are scored: Delta logs written by hand over Parquet files, so that thousands of files are one commit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.contestants import KEY

GROUP_ROWS = 1 << 18
TEXTS = {"country": 30, "plan": 5, "device": 12, "campaign": 200, "city": 2_000, "referrer": 500}
"""Columns of texts, and how many values each has."""
Columns = Callable[[np.random.Generator, int], dict[str, Any]]


@dataclass(frozen=True)
class Shape:
    """A kind of table: `features` of its columns go to the model, `form` is how (see Task)."""

    name: str
    features: tuple[str, ...]
    form: str
    columns: Columns


def doubles(columns: int) -> Columns:
    """So many standard normal doubles: x0, x1, …"""
    return lambda random, rows: {f"x{n}": random.normal(size=rows) for n in range(columns)}


def texts_and_doubles(random: np.random.Generator, rows: int) -> dict[str, Any]:
    """Texts of few and of many values, and twelve doubles."""
    made: dict[str, Any] = {}
    for name, values in TEXTS.items():
        known = pa.array([f"{name}_{n}" for n in range(values)])
        made[name] = known.take(pa.array(random.integers(0, values, rows)))
    return made | {f"x{n}": random.normal(size=rows) for n in range(12)}


NARROW = Shape("narrow", tuple(f"x{n}" for n in range(20)), "matrix", doubles(40))
WIDE = Shape("wide", tuple(f"x{n}" for n in range(500)), "matrix", doubles(500))
MIXED = Shape("mixed", (*TEXTS, *(f"x{n}" for n in range(12))), "frame", texts_and_doubles)
SHAPES = {shape.name: shape for shape in (NARROW, WIDE, MIXED)}


def sample(shape: Shape, rows: int, start: int = 0) -> pa.Table:
    """Rows of a shape; `start` is the first key and the seed."""
    made = shape.columns(np.random.default_rng([2026, start]), rows)
    return pa.table({KEY: np.arange(start, start + rows, dtype=np.int64), **made})


def make(folder: Path, shape: Shape, rows: int, files: int) -> None:
    """A Delta table of so many files, which have equally many rows; in files of more, row groups of 262,144."""
    folder.mkdir(parents=True)
    bounds = [rows * n // files for n in range(files + 1)]
    adds = []
    for number, (start, end) in enumerate(pairwise(bounds)):
        path = folder / f"part-{number:05}.snappy.parquet"
        with pq.ParquetWriter(path, sample(shape, 0).schema) as writer:
            for piece in range(start, end, GROUP_ROWS):
                writer.write_table(sample(shape, min(GROUP_ROWS, end - piece), piece))
        adds.append((path.name, path.stat().st_size, end - start))
    write_log(folder, sample(shape, 0).schema, adds)


def link(table: Path, folder: Path, files: int, times: int = 1) -> None:
    """A table of the first files of another, the same on disk; `times`: each so often, under names of its own."""
    folder.mkdir(parents=True)
    adds = []
    for add in list(added(table))[:files]:
        for n in range(times):
            name = f"{n:05}-{add['path']}"
            os.link(table / add["path"], folder / name)
            adds.append((name, add["size"], json.loads(add["stats"])["numRecords"]))
    first = next(iter(added(table)))
    write_log(folder, pq.read_schema(table / first["path"]), adds)


def added(table: Path) -> Iterator[dict[str, Any]]:
    """The files of a table that was made here, as its log has them."""
    for line in (table / "_delta_log" / f"{0:020}.json").read_text().splitlines():
        if add := json.loads(line).get("add"):
            yield add


def write_log(folder: Path, schema: pa.Schema, adds: list[tuple[str, int, int]]) -> None:
    """The log of a table whose files are there: name, bytes and rows of each."""
    from deltalake import Schema

    now = 1_767_225_600_000
    actions: list[dict[str, Any]] = [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {"metaData": {"id": "00000000-0000-4000-8000-000000000000", "format": {"provider": "parquet", "options": {}},
                      "schemaString": Schema.from_arrow(schema).to_json(), "partitionColumns": [],
                      "configuration": {}, "createdTime": now}},
    ]  # fmt: skip
    for name, size, rows in adds:
        actions.append(
            {"add": {"path": name, "size": size, "partitionValues": {}, "modificationTime": now, "dataChange": True,
                     "stats": json.dumps({"numRecords": rows})}}
        )  # fmt: skip
    log = folder / "_delta_log"
    log.mkdir()
    (log / f"{0:020}.json").write_text("\n".join(json.dumps(action) for action in actions) + "\n")
