"""The columns that a request brings for a job: their types, which may be absent, and how many rows there may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from lakehouse.errors import nearest
from lakehouse.serving.messages import Refusal


@dataclass(frozen=True)
class Reader:
    """What is known of a job's columns before there is a request.

    `wire`: their types as JSON brings them; `optional`: those that may be absent from all rows, `required`: the others.
    `most`: rows. By their numbers, `floats`, and those of which JSON could bring what Arrow would bend (`checked`).
    """

    schema: pa.Schema
    wire: pa.StructType
    optional: frozenset[str]
    required: frozenset[str]
    most: int
    floats: tuple[int, ...]
    checked: tuple[int, ...]


def reader_for(schema: pa.Schema, optional: Sequence[str], most: int) -> Reader:
    """How bodies are read for a job that needs these columns."""
    kinds = [field.type for field in schema]
    bent = [pa.types.is_integer(kind) or pa.types.is_nested(kind) or wire_type(kind) != kind for kind in kinds]
    return Reader(
        schema,
        pa.struct([pa.field(f.name, wire_type(f.type)) for f in schema]),
        frozenset(optional),
        frozenset(schema.names) - frozenset(optional),
        most,
        tuple(number for number, kind in enumerate(kinds) if pa.types.is_floating(kind)),
        tuple(number for number, is_bent in enumerate(bent) if is_bent),
    )


def wire_type(kind: pa.DataType) -> pa.DataType:
    """The type in which JSON brings a column: what it has no form for comes as text."""
    if pa.types.is_temporal(kind) or pa.types.is_decimal(kind) or pa.types.is_binary(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_large_string(kind):
        return pa.string()
    return kind


def require_few(rows: int, reader: Reader) -> None:
    if rows > reader.most:
        raise Refusal(413, f"{rows:,} rows; at most {reader.most:,} are scored at once: send them in parts")


def require_columns(given: set[str], reader: Reader, *, case: bool = False) -> None:
    """Refuse a body that lacks a column in all its rows, as a run refuses a table that does."""
    if case:
        given = given | {field.name for field in reader.schema if field.name.lower() in {n.lower() for n in given}}
    lacking = [name for name in reader.schema.names if name not in given and name not in reader.optional]
    if lacking:
        others = given - set(reader.schema.names)
        hint = f"; {nearest(lacking[0], others)}" if others and "did you" in nearest(lacking[0], others) else ""
        raise Refusal(
            400, f"no row has the column {lacking[0]!r}{hint}; the job reads {', '.join(reader.schema.names)}"
        )
