"""A request's rows as an Arrow batch of the columns that a job needs: from JSON, Arrow's stream or CSV.

Whatever a body has in it, what is wrong with it is the client's to mend: it is refused in words, with status 400.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from lakehouse.errors import ConfigError, nearest
from lakehouse.schemas import conform, finder
from lakehouse.serving.messages import ARROW, CSV, JSON, Refusal
from lakehouse.serving.streams import read_stream

TYPES = (JSON, ARROW, CSV)
_SHOWN = 80
_UNFIT = (pa.ArrowException, TypeError, ValueError, OverflowError)
"""What Arrow raises for values that a type can't hold."""


@dataclass(frozen=True)
class Reader:
    """What is known of a job's columns before there is a request.

    `wire`: their types as JSON brings them; `optional`: those that may be absent from all rows. `most`: rows.
    """

    schema: pa.Schema
    wire: pa.StructType
    optional: frozenset[str]
    most: int


def reader_for(schema: pa.Schema, optional: Sequence[str], most: int) -> Reader:
    """How bodies are read for a job that needs these columns."""
    return Reader(schema, pa.struct([pa.field(f.name, _wire(f.type)) for f in schema]), frozenset(optional), most)


def read(body: bytes, kind: str, reader: Reader) -> pa.RecordBatch:
    """The rows of a body of this media type. Raises Refusal: 400, 413 for too many rows, 415 for another type."""
    media = kind.partition(";")[0].strip().lower() or JSON
    reading = {JSON: _json, ARROW: _arrow, CSV: _csv}.get(media)
    if reading is None:
        raise Refusal(415, f"Content-Type {media[:_SHOWN]!r} is not read here: send {', '.join(TYPES)}")
    batch = reading(body, reader)
    if not batch.num_rows:
        raise Refusal(400, "the body has no rows: send at least one")
    return batch


def _json(body: bytes, reader: Reader) -> pa.RecordBatch:
    try:
        content = json.loads(body, parse_constant=_no_constant)
    except RecursionError as error:
        raise Refusal(400, "the body is nested too deeply") from error
    except ValueError as error:
        raise Refusal(400, f"the body is not JSON: {str(error)[:_SHOWN]}") from error
    if isinstance(content, dict) and isinstance(content.get("columns"), dict):
        return _columns(content["columns"], reader)
    records = content.get("records") if isinstance(content, dict) else content
    if not isinstance(records, list):
        raise Refusal(
            400, 'JSON is read as {"records": [{column: value, …}, …]}, or {"columns": {column: [value, …], …}}'
        )
    return _records(records, reader)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON: send null for a value that is missing")


def _records(records: list[Any], reader: Reader) -> pa.RecordBatch:
    _require_few(len(records), reader)
    if wrong := set(map(type, records)) - {dict}:
        raise Refusal(400, f"records: each is an object of columns and values; one is {_kind(wrong.pop())}")
    _require_columns(set().union(*records), reader)
    try:
        made = pa.array(records, reader.wire)
    except _UNFIT as error:
        raise _unfit(partial(_values, records), reader, error) from error
    arrays = []
    for number, field in enumerate(reader.schema):
        arrays.append(_checked(made.field(number), field, partial(_values, records, field.name)))
    return pa.RecordBatch.from_arrays(arrays, schema=reader.schema)


def _values(records: list[Any], name: str) -> list[Any]:
    return list(map(methodcaller("get", name), records))


def _columns(columns: dict[str, Any], reader: Reader) -> pa.RecordBatch:
    known = {name: columns[name] for name in reader.schema.names if name in columns}
    if wrong := [name for name, values in known.items() if not isinstance(values, list)]:
        raise Refusal(400, f"columns.{wrong[0]}: a list of values is needed")
    lengths = {name: len(values) for name, values in known.items()}
    if len(set(lengths.values())) > 1:
        raise Refusal(400, f"columns: the lists must be of one length, they have {json.dumps(lengths)[: _SHOWN * 4]}")
    rows = next(iter(lengths.values()), 0)
    _require_few(rows, reader)
    _require_columns(set(columns), reader)
    arrays = []
    for field, wire in zip(reader.schema, reader.wire, strict=True):
        values = known.get(field.name)
        try:
            made = pa.nulls(rows, wire.type) if values is None else pa.array(values, wire.type)
        except _UNFIT as error:
            raise _unfit(known.__getitem__, reader, error, [field.name]) from error
        arrays.append(_checked(made, field, partial(list, values or ())))
    return pa.RecordBatch.from_arrays(arrays, schema=reader.schema)


def _wire(kind: pa.DataType) -> pa.DataType:
    """The type in which JSON brings a column: what it has no form for comes as text."""
    if pa.types.is_temporal(kind) or pa.types.is_decimal(kind) or pa.types.is_binary(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_large_string(kind):
        return pa.string()
    return kind


def _checked(made: pa.Array, field: pa.Field, values: Callable[[], Sequence[Any]]) -> pa.Array:
    """A column as it came, in its own type; `values`: it as Python has it, for what Arrow would let pass."""
    kind = field.type
    if pa.types.is_integer(kind) and float in set(map(type, values())):
        for number, value in enumerate(values()):
            if isinstance(value, float) and not value.is_integer():
                raise _wrong(field, number, value)
    elif pa.types.is_floating(kind) and pc.any(pc.is_inf(made)).as_py():
        number = pc.index(pc.is_inf(made), True).as_py()
        raise _wrong(field, number, values()[number])
    elif pa.types.is_nested(kind):
        for number, value in enumerate(values()):
            if _loses(value, kind):
                raise _wrong(field, number, value)
    if made.type == kind:
        return made
    try:
        return _from_text(made, kind)
    except (*_UNFIT, binascii.Error) as error:
        for number in range(len(made)):
            try:
                _from_text(made.slice(number, 1), kind)
            except (*_UNFIT, binascii.Error):
                raise _wrong(field, number, made[number].as_py()) from error
        raise Refusal(400, f"column {field.name!r}: {str(error)[:_SHOWN]}") from error


def _from_text(made: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        texts = made.to_pylist()
        return pa.array([None if t is None else base64.b64decode(t, validate=True) for t in texts], kind)
    return made.cast(kind)


def _loses(value: Any, kind: pa.DataType) -> bool:
    """Whether a nested value has a fraction where the type has whole numbers, or a number that is out of range."""
    if isinstance(value, dict):
        of_map = pa.types.is_map(kind)
        inner = {f.name: f.type for f in kind} if pa.types.is_struct(kind) else {}
        return any(_loses(v, kind.item_type if of_map else inner[n]) for n, v in value.items() if of_map or n in inner)
    if isinstance(value, list):
        return bool(kind.num_fields) and any(_loses(item, kind.field(0).type) for item in value)
    if not isinstance(value, float):
        return False
    return value in (float("inf"), float("-inf")) or (pa.types.is_integer(kind) and not value.is_integer())


def _unfit(
    values: Callable[[str], Sequence[Any]], reader: Reader, error: Exception, names: Sequence[str] = ()
) -> Refusal:
    """Which column and row can't be read, once it is known that one can't."""
    for field in reader.schema:
        if names and field.name not in names:
            continue
        wire, column = reader.wire.field(field.name).type, values(field.name)
        try:
            pa.array(column, wire)
        except _UNFIT:
            for number, value in enumerate(column):
                try:
                    pa.array([value], wire)
                except _UNFIT:
                    return _wrong(field, number, value)
    return Refusal(400, f"the rows can't be read: {str(error)[:_SHOWN]}")


def _wrong(field: pa.Field, row: int, value: Any) -> Refusal:
    said = json.dumps(value, default=str)
    said = said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"
    how = " as text" if _wire(field.type) != field.type else ""
    return Refusal(400, f"row {row}, column {field.name!r}: {said} is no {field.type}{how}")


def _kind(kind: type) -> str:
    names: dict[type, str] = {list: "an array", str: "a text", type(None): "null", bool: "true or false"}
    return names.get(kind, "a number")


def _arrow(body: bytes, reader: Reader) -> pa.RecordBatch:
    table = read_stream(body, reader.most)
    _require_columns(set(table.schema.names), reader, case=True)
    return _conformed(table, reader)


def _csv(body: bytes, reader: Reader) -> pa.RecordBatch:
    head = body[: body.find(b"\n") + 1 or len(body)].decode("utf-8-sig", errors="replace")
    try:
        names = next(csv.reader([head.strip("\r\n")]), [])
    except csv.Error as error:
        raise Refusal(400, f"the CSV can't be read: its first line: {error}") from error
    if len(names) > 10 * len(reader.schema) + 1_000:
        raise Refusal(400, f"the first line has {len(names):,} columns; the job reads {len(reader.schema)}")
    if len(set(names)) < len(names):
        raise Refusal(400, "the first line names a column twice")
    _require_columns(set(names), reader, case=True)
    find = finder(names, case_insensitive=True)
    stored = {name: field for field in reader.schema if (name := find(field.name)) is not None}
    types = {name: _csv_type(field.type) for name, field in stored.items()}
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(body),
            read_options=arrow_csv.ReadOptions(use_threads=False),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types, include_columns=list(types), null_values=[""], strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )  # fmt: skip
    except (*_UNFIT, KeyError) as error:
        raise Refusal(400, f"the CSV can't be read: {str(error)[: _SHOWN * 3]}") from error
    _require_few(table.num_rows, reader)
    return _conformed(table, reader)


def _csv_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_nested(kind):
        raise Refusal(415, f"a column of this job is {kind}, which CSV has no form for: send JSON or Arrow")
    return kind


def _conformed(table: pa.Table, reader: Reader) -> pa.RecordBatch:
    table = table.combine_chunks()
    names = table.schema.names
    arrays = [c.chunk(0) if c.num_chunks else pa.array([], c.type) for c in table.columns]
    try:
        return conform(pa.RecordBatch.from_arrays(arrays, names=names), reader.schema)
    except ConfigError as error:
        said = str(error).replace("is stored as", "comes as").replace("the table declares", "the job needs")
        raise Refusal(400, said) from error
    except _UNFIT as error:
        raise Refusal(400, f"the rows can't be read: {str(error)[:_SHOWN]}") from error


def _require_few(rows: int, reader: Reader) -> None:
    if rows > reader.most:
        raise Refusal(413, f"{rows:,} rows; at most {reader.most:,} are scored at once: send them in parts")


def _require_columns(given: set[str], reader: Reader, *, case: bool = False) -> None:
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
