"""What became of a request's rows, as JSON or as Arrow's stream."""

from __future__ import annotations

import base64
import datetime
import decimal
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.schemas import LINEAGE, REASON, REASONS
from lakehouse.serving.messages import ARROW, JSON, Refusal, as_json
from lakehouse.serving.scoring import Open, Scored, with_lineage

ROW = "_row"
"""Which row of the request it is, from 0."""


def chosen(accept: str) -> str:
    """The media type that the client accepts. Raises Refusal (406)."""
    asked = [part.partition(";")[0].strip().lower() for part in accept.split(",") if part.strip()]
    if ARROW in asked and JSON not in asked[: asked.index(ARROW)]:
        return ARROW
    if not asked or {JSON, "application/*", "*/*"} & set(asked):
        return JSON
    raise Refusal(406, f"the answer comes as {JSON} or {ARROW}: accept one of them")


def in_json(job: Open, found: Scored, request: str, *, columnar: bool) -> bytes:
    """Scores and rows that were set aside, a list each; `columnar`: each as lists of values by column."""
    form = _columnar if columnar else _records
    counts = {"read": len(found.rows) + len(found.rows_aside), "scored": len(found.rows)}
    counts["quarantined"] = len(found.rows_aside)
    aside = None if found.aside is None else found.aside.select([*job.prepared.keys, REASONS])
    return as_json(
        {
            "job": job.prepared.job,
            "request_id": request,
            "lineage": {name: plain(value) for name, value in found.lineage.items()},
            "rows": counts,
            "scores": form(found.scored, found.rows),
            "quarantined": [] if aside is None else form(aside, found.rows_aside),
        }
    )


def in_arrow(found: Scored) -> bytes:
    """A row for each of the request's, in its order: the scored table's columns, and `_reasons` where it was set aside.

    Scored rows have no reasons, and those that were set aside no predictions.
    """
    scored = with_lineage(found.scored, found.lineage)
    aside = found.aside
    empty = pa.nulls(scored.num_rows, pa.list_(REASON))
    parts = [pa.Table.from_batches([scored.append_column(REASONS, empty)])]
    if aside is not None:
        kept = [name for name in aside.schema.names if name in scored.schema.names or name == REASONS]
        parts.append(pa.Table.from_batches([with_lineage(aside.select(kept), found.lineage)]))
    order = np.argsort(np.concatenate([found.rows, found.rows_aside]), kind="stable")
    schema = parts[0].schema
    whole = pa.concat_tables([_filled(part, schema) for part in parts]).take(pa.array(order)).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole)
    return bytes(sink.getvalue())


def _filled(part: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        part.column(f.name).cast(f.type) if f.name in part.schema.names else pa.nulls(part.num_rows, f.type)
        for f in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _columnar(batch: pa.RecordBatch, rows: Any) -> dict[str, list[Any]]:
    return {ROW: rows.tolist()} | {n: values(c) for n, c in zip(batch.schema.names, batch.columns, strict=True)}


def _records(batch: pa.RecordBatch, rows: Any) -> list[dict[str, Any]]:
    names = [ROW, *batch.schema.names]
    return [dict(zip(names, row, strict=True)) for row in zip(rows.tolist(), *map(values, batch.columns), strict=True)]


def values(column: pa.Array) -> list[Any]:
    """A column's values as JSON has them: no number is NaN or infinite, times, decimals and bytes are text."""
    kind = column.type
    if pa.types.is_floating(kind):
        made = column.to_numpy(zero_copy_only=False)
        good = np.isfinite(made)
        return (
            list(made.tolist()) if good.all() else [v if g else None for v, g in zip(made.tolist(), good, strict=True)]
        )
    if pa.types.is_string(kind) or (pa.types.is_integer(kind) and not column.null_count):
        return list(column.to_numpy(zero_copy_only=False).tolist())
    if pa.types.is_timestamp(kind):
        return list(pc.replace_substring(column.cast(pa.string()), " ", "T", max_replacements=1).to_pylist())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return list(column.to_pylist())
    return [plain(value) for value in column.to_pylist()]


def plain(value: Any) -> Any:
    """One value as JSON has it."""
    for kind, form in _FORMS:
        if isinstance(value, kind):
            return form(value)
    return value


def _text_of_time(value: datetime.datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


_FORMS: Sequence[tuple[type, Callable[[Any], Any]]] = (
    (float, lambda value: value if np.isfinite(value) else None),
    (dict, lambda value: {str(name): plain(part) for name, part in value.items()}),
    (tuple, lambda value: [plain(part) for part in value]),
    (list, lambda value: [plain(part) for part in value]),
    (datetime.datetime, _text_of_time),
    (datetime.date, lambda value: value.isoformat()),
    (decimal.Decimal, str),
    (bytes, lambda value: base64.b64encode(value).decode()),
)


def lineage_of(row: pa.RecordBatch) -> dict[str, Any]:
    """The lineage of one row of the scored table."""
    return {f.name: plain(row.column(f.name)[0].as_py()) for f in LINEAGE if f.name in row.schema.names}
