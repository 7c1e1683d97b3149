"""Arrow's stream format from somebody who isn't trusted: refused before it takes more memory than its bytes promise.

A stream is metadata (FlatBuffers, as the format's Message.fbs has it) and buffers. Arrow checks the metadata and, when
it is told to, the buffers (`validate(full=True)`); what it does not limit is how much compressed or repeated values
expand to.
"""

from __future__ import annotations

import struct

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.serving.messages import UNFIT, Refusal

_ROWS, _COMPRESSION, _HEADER = 0, 3, 2
_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2
_EXPANDS = 64
"""Times the bytes of a body that its values may take once they are spelled out."""


def read_stream(body: bytes, most: int) -> pa.Table:
    """The rows of a stream. Raises Refusal for what is none, 413 for more than `most` rows."""
    try:
        batches, rows = list[pa.RecordBatch](), 0
        _look_through(body)
        with pa.ipc.open_stream(pa.py_buffer(body), options=pa.ipc.IpcReadOptions(use_threads=False)) as stream:
            schema = stream.schema
            if len(set(schema.names)) < len(schema.names):
                raise Refusal(400, "the stream names a column twice")
            for batch in stream:
                rows += batch.num_rows
                if rows > most:
                    raise Refusal(413, f"more than {most:,} rows: send them in parts")
                batch.validate(full=True)
                _require_moderate(batch, len(body))
                batches.append(batch)
    except (*UNFIT, OSError, KeyError, RecursionError, struct.error) as error:
        raise Refusal(400, f"the body is no Arrow stream that can be read: {_said(body, error)}") from error
    return pa.Table.from_batches(batches, schema)


def _said(body: bytes, error: Exception) -> str:
    if body.startswith(b"ARROW1"):
        return "it is an Arrow file: write it as a stream (pyarrow.ipc.new_stream)"
    if isinstance(error, struct.error):  # metadata that points beyond its end
        return "its messages are broken"
    return str(error)[:160]


def _look_through(body: bytes) -> None:
    """Refuse compressed buffers, whose size is only known once memory is taken for it."""
    at = 0
    while at + 8 <= len(body):
        marker, length = struct.unpack_from("<Ii", body, at)
        start = at + 8
        if marker != 0xFFFFFFFF:  # the form before 0.15: no marker
            length, start = struct.unpack_from("<i", body, at)[0], at + 4
        if length <= 0:
            return
        root = start + struct.unpack_from("<I", body, start)[0]
        kind = _scalar(body, root, 1, "<B")
        header = _offset(body, root, _HEADER)
        if kind == _DICTIONARY_BATCH and header:
            header = _offset(body, header, 1)
        if kind in (_RECORD_BATCH, _DICTIONARY_BATCH) and header and _field(body, header, _COMPRESSION):
            raise Refusal(400, "the stream's buffers are compressed: send them as they are")
        size = _scalar(body, root, 3, "<q")
        if size < 0:
            raise ValueError("a body of less than no bytes")
        at = start + length + size


def _field(body: bytes, table: int, number: int) -> int:
    """Where a field of a FlatBuffers table lies, 0 where it is left out."""
    entries = table - struct.unpack_from("<i", body, table)[0]
    if entries < 0 or 4 + 2 * number + 2 > struct.unpack_from("<H", body, entries)[0]:
        return 0
    offset: int = struct.unpack_from("<H", body, entries + 4 + 2 * number)[0]
    return table + offset if offset else 0


def _offset(body: bytes, table: int, number: int) -> int:
    place = _field(body, table, number)
    return place + int(struct.unpack_from("<I", body, place)[0]) if place else 0


def _scalar(body: bytes, table: int, number: int, form: str) -> int:
    place = _field(body, table, number)
    return int(struct.unpack_from(form, body, place)[0]) if place else 0


def _require_moderate(batch: pa.RecordBatch, size: int) -> None:
    """Refuse dictionaries that spell out to much more than they came as, such as a long text in every row."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if not pa.types.is_dictionary(column.type):
            continue
        values = column.dictionary
        texts = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
        if not texts and (pa.types.is_nested(values.type) or pa.types.is_binary(values.type)):
            raise Refusal(400, f"column {name!r}: a dictionary of {values.type} is not read: send the values")
        if texts:
            lengths = pc.fill_null(pc.binary_length(values), 0).cast(pa.int64())
            whole = pc.sum(pc.fill_null(lengths.take(column.indices), 0)).as_py() or 0
            if whole > max(_EXPANDS * size, 1 << 20):
                raise Refusal(413, f"column {name!r}: its dictionary spells out to {whole:,} bytes: send less rows")
