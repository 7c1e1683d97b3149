"""Upserts by key without a JVM: staged files come in as they are, live files that hold their keys are written anew.

Only files of which a row has a staged key are read whole; the others are ruled out by their bounds or their key
columns. Every row that no staged row replaces stays as it was, byte for byte in every column.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.connectors import delta
from lakehouse.engines import local
from lakehouse.scoring.files import Files
from lakehouse.scoring.staging import folder_of
from lakehouse.sinks.delta.history import live_files_of_slice
from lakehouse.sinks.target import Target

Rewritten = dict[tuple[str, int, str], tuple[delta.Add, ...] | None]
"""By a file's fingerprint: what its other rows were written to; None where it has no staged key."""

_ROW = "__row"


def rewrite(
    snapshot: delta.Snapshot, target: Target, run: str, known: Rewritten
) -> tuple[list[delta.DataFile], list[delta.Add]]:
    """The live files that hold staged keys, and new files of their other rows.

    `known` keeps what was found out, for a later attempt.
    """
    staged = delta.read_files(snapshot.location, [f.path for f in target.files], target.keys)
    # Other writers cut a timestamp's upper bound to milliseconds.
    ruled = [
        k for k in target.keys if not (pa.types.is_nested(staged[k].type) or pa.types.is_timestamp(staged[k].type))
    ]
    bounds = {k: pc.min_max(staged[k]).as_py() for k in ruled}
    files = [f for f in live_files_of_slice(snapshot, target.slice, target.keys) if _may_hold(f, bounds)]
    new = [f for f in files if f.fingerprint() not in known]
    with ThreadPoolExecutor(local.cores()) as pool:
        for file, adds in zip(new, pool.map(lambda f: _others(snapshot, f, staged, target, run), new), strict=True):
            known[file.fingerprint()] = adds
    removes = [f for f in files if known[f.fingerprint()] is not None]
    return removes, [add for f in removes for add in known[f.fingerprint()] or ()]


def _may_hold(file: delta.DataFile, staged: Mapping[str, Mapping[str, Any]]) -> bool:
    for key, wanted in staged.items():
        least, greatest, _ = file.bounds.get(key, (None, None, None))
        if least is None or greatest is None or wanted["min"] is None:
            continue
        try:
            if greatest < wanted["min"] or least > wanted["max"]:
                return False
        except TypeError:  # a bound that the log spells in another type
            continue
    return True


def _others(
    snapshot: delta.Snapshot, file: delta.DataFile, staged: pa.Table, target: Target, run: str
) -> tuple[delta.Add, ...] | None:
    """Write the rows of a live file whose key is not staged to new files; None where no key of it is."""
    keys = delta.rows_of(snapshot, target.keys, [file])
    kept = _without(keys, staged)
    if len(kept) == keys.num_rows:
        return None
    inside_file = [f for f in snapshot.schema if f.name not in snapshot.partition_columns]
    schema = pa.schema([pa.field(f.name, f.type) for f in inside_file])
    writer = Files(
        f"merged-{uuid.uuid4().hex[:8]}", 0, snapshot.location, schema, folder_of(run, target.slice), first=target.keys
    )
    position = 0
    try:
        for batch in delta.batches_of(snapshot, schema.names, file):
            taken = kept[(kept >= position) & (kept < position + batch.num_rows)] - position
            position += batch.num_rows
            writer.write(batch.take(pa.array(taken)))
        writer.close()
    finally:
        writer.abandon()
    return delta.adds_of(writer.done)


def _without(keys: pa.Table, staged: pa.Table) -> Any:
    """The numbers of the rows whose key is not among the staged ones, in order (int64)."""
    if keys.num_columns == 1:
        found = pc.is_in(keys.column(0), staged.column(0))
        return np.flatnonzero(~found.to_numpy())
    numbered = keys.append_column(_ROW, pa.array(np.arange(keys.num_rows)))
    left = numbered.join(staged, keys=keys.column_names, join_type="left anti")
    return np.sort(left[_ROW].to_numpy())
