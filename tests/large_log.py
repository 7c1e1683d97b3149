"""Delta tables whose log names many files of which only a few are there: for what the driver does without reading rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

_A_COMMIT = 5_000
_DAYS = 100


def write_log(
    folder: Path,
    files: int,
    *,
    features: int = 20,
    size: int = 100 << 20,
    real: int = 4,
    checkpoint: bool = True,
    days: int = _DAYS,
) -> None:
    """A table partitioned by `day` with a key and so many double features, of so many files of 100,000 rows each.

    Only the `real` first of the files, in the order in which a reader gets them, are there, with 1,000 rows; the log
    says that each is of `size` bytes. All have statistics of every column.
    """
    log = folder / "_delta_log"
    log.mkdir(parents=True)
    names = [f"x{number}" for number in range(features)]
    paths = [
        f"day=2026-{1 + d // 28:02d}-{1 + d % 28:02d}/part-{n:06d}.parquet" for n in range(files) for d in [n % days]
    ]
    for version, start in enumerate(range(0, files, _A_COMMIT)):
        actions = _table_actions(names) if version == 0 else []
        actions += [_add(paths[n], n, names, size) for n in range(start, min(start + _A_COMMIT, files))]
        text = "\n".join(json.dumps(action, separators=(",", ":")) for action in actions)
        (log / f"{version:020d}.json").write_text(text + "\n", encoding="utf-8")
    table = DeltaTable(str(folder))
    if checkpoint:
        table.create_checkpoint()
        table = DeltaTable(str(folder))
    for path in pa.table(table.get_add_actions()).column("path").slice(0, real).to_pylist():
        write_file(folder / path, int(path[-14:-8]), names)


def write_file(path: Path, number: int, names: Sequence[str], rows: int = 1_000) -> None:
    """One of the table's files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(number)
    columns: Mapping[str, Any] = {"id": np.arange(rows) + number * 100_000, **{n: draw.random(rows) for n in names}}
    pq.write_table(pa.table(dict(columns)), path)


def _table_actions(names: Sequence[str]) -> list[dict[str, Any]]:
    kinds = {"id": "long", **dict.fromkeys(names, "double"), "day": "date"}
    fields = [{"name": name, "type": kind, "nullable": True, "metadata": {}} for name, kind in kinds.items()]
    metadata = {
        "id": "00000000-0000-0000-0000-000000000001",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": ["day"],
        "configuration": {},
        "createdTime": 1_767_225_600_000,
    }
    return [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, {"metaData": metadata}]


def _add(path: str, number: int, names: Sequence[str], size: int) -> dict[str, Any]:
    first = number * 100_000
    statistics = {
        "numRecords": 100_000,
        "minValues": {"id": first, **{name: 0.0001 * (i + 1) for i, name in enumerate(names)}},
        "maxValues": {"id": first + 99_999, **{name: 1 - 0.0001 * (i + 1) for i, name in enumerate(names)}},
        "nullCount": {"id": 0, **dict.fromkeys(names, 0)},
    }
    return {
        "add": {
            "path": path,
            "partitionValues": {"day": path[4:14]},
            "size": size,
            "modificationTime": 1_767_225_600_000,
            "dataChange": True,
            "stats": json.dumps(statistics),
        }
    }
