"""Rows as a text, for JSON."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pyarrow as pa


def rows_in(text: str) -> Iterator[pa.RecordBatch]:
    """The rows that `text_of` has made a text of."""
    yield from pa.ipc.open_stream(base64.b64decode(text))


def text_of(rows: pa.RecordBatch) -> str:
    """Rows as a text."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return base64.b64encode(sink.getvalue()).decode()
