"""Messages' bytes as rows: objects in JSON, records in Avro, rows in Arrow. What can't be read says why.

JSON is read by Arrow, many messages at once; where it refuses these, they are tried in ever smaller parts, until those
that it refuses stand alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json

from lakehouse.connectors import avro, unreadable
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.schemas import TIMESTAMP, conform, stored_names

_TYPES = {
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "datetime": TIMESTAMP,
}
"""By MLflow's names."""
_PARTS = 8
"""What Arrow refuses is tried in so many parts."""
_SAID = 300


@dataclass(frozen=True)
class Format:
    """How messages hold rows: json, avro or arrow. `avro`: the schema that they are written by, as JSON.

    `registry`: the address of what has the schemas that messages name; `login`: where user:password for it is.
    """

    kind: str
    avro: str | None = None
    registry: str | None = None
    login: str | None = None


@dataclass(frozen=True)
class Decoded:
    """The rows of messages: one a message, null where it can't be read, unless `of` says which message each is of.

    `problems`: by the number of a message why it can't be read.
    """

    rows: pa.RecordBatch
    problems: Mapping[int, str]
    of: pa.Array | None = None


def schema_of(columns: Mapping[str, str]) -> pa.Schema:
    """The Arrow schema of columns whose types are MLflow's names."""
    return pa.schema([(name, _type(kind)) for name, kind in columns.items()])


def avro_in(path: str | None, columns: Mapping[str, str]) -> str | None:
    """The Avro schema in a file, if there is one, once it is seen that messages by it can have these columns."""
    return None if path is None else avro.schema_in(path, _declared(schema_of(columns)))


def _declared(schema: pa.Schema) -> Mapping[str, tuple[str, pa.DataType]]:
    return {field.name: (_name(field.type), field.type) for field in schema}


def _type(text: str) -> pa.DataType:
    inner = re.fullmatch(r"array<(.+)>", text)
    return pa.list_(_TYPES[inner[1]]) if inner else _TYPES[text]


def _name(kind: pa.DataType) -> str:
    """MLflow's name of a type, or Arrow's where it has none."""
    if pa.types.is_list(kind):
        return f"array<{_name(kind.value_type)}>"
    return next((name for name, known in _TYPES.items() if known == kind), str(kind))


def decode(values: Sequence[bytes | None], schema: pa.Schema, how: Format) -> Decoded:
    """The messages' rows with these columns. Raises Unavailable where a registry can't be reached."""
    if how.kind == "json":
        return _from_json(values, schema)
    if how.kind == "avro":
        return _from_avro(values, schema, how)
    return _from_arrow(values, schema)


def _short(error: object) -> str:
    return " ".join(str(error).split())[:_SAID]


_NOTHING = "the message has no value"


def _from_json(values: Sequence[bytes | None], schema: pa.Schema) -> Decoded:
    """Those that begin and end as an object are read together: no two of them can be one, nor parts of one."""
    texts = pa.array(values, pa.binary())
    whole = pc.and_(pc.starts_with(texts, b"{"), pc.ends_with(texts, b"}"))
    problems: dict[int, str] = {}
    if whole.null_count == 0 and pc.all(whole).as_py() is not False:
        return Decoded(
            _one_batch(_read_json([v for v in values if v is not None], range(len(values)), schema, problems), schema),
            problems,
        )
    parts, run = list[pa.Table](), list[int]()
    for number, fine in enumerate(whole.to_pylist()):
        if fine:
            run.append(number)
            continue
        parts += _read_json([values[n] for n in run], run, schema, problems)  # type: ignore[misc]  # none of these is null
        run = []
        parts += _read_odd(values[number], number, schema, problems)
    parts += _read_json([values[n] for n in run], run, schema, problems)  # type: ignore[misc]
    return Decoded(_one_batch(parts, schema), problems)


def _read_odd(value: bytes | None, number: int, schema: pa.Schema, problems: dict[int, str]) -> list[pa.Table]:
    """A message that doesn't begin or end as an object does, such as one with blanks around it."""
    text = b"" if value is None else value.strip(b" \t\r\n")
    if text[:1] == b"{" and text[-1:] == b"}":
        return _read_json([text], [number], schema, problems)
    problems[number] = _NOTHING if value is None else "it is no JSON object"
    return [_nulls(schema)]


def _read_json(
    values: Sequence[bytes], numbers: Sequence[int], schema: pa.Schema, problems: dict[int, str]
) -> list[pa.Table]:
    """Tables of the messages in their order, a row each; those that Arrow refuses are null, and among the problems."""
    if not values:
        return []
    try:
        table = _parse(b"\n".join(values), schema)
    except pa.ArrowInvalid as error:
        problem: str | None = _short(error)
    else:
        problem = (
            (_fault(table) or _no_number(table))
            if table.num_rows == len(values)
            else f"it holds {table.num_rows} JSON objects"
        )
        if problem is None:
            return [table]
    if len(values) == 1:
        problems[numbers[0]] = _said_of_json(values[0], str(problem), schema)
        return [_nulls(schema)]
    size = -(-len(values) // _PARTS)
    return [
        part
        for start in range(0, len(values), size)
        for part in _read_json(values[start : start + size], numbers[start : start + size], schema, problems)
    ]


def _said_of_json(value: bytes, problem: str, schema: pa.Schema) -> str:
    field, found = unreadable.in_json(problem, list(schema), lambda fields: _parse_only(value, fields))
    return found if field is None else f"the field {field.name!r} has {found}, it is declared as {_name(field.type)}"


def _parse_only(text: bytes, fields: Sequence[pa.Field]) -> None:
    _parse(text, pa.schema(fields))


def _parse(text: bytes, schema: pa.Schema) -> pa.Table:
    table = pa_json.read_json(
        io.BytesIO(text),
        read_options=pa_json.ReadOptions(use_threads=False, block_size=len(text) + 1),
        parse_options=pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    return table.select(schema.names)


def _fault(table: pa.Table) -> str | None:
    """Why values that Arrow has read can't be right, of the first field that has such; None where all are fine."""
    return next((said for field in table.schema if (said := _fault_of(table.column(field.name), field))), None)


def _fault_of(column: pa.ChunkedArray, field: pa.Field) -> str | None:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        said = "text that is no UTF-8" if "UTF8" in str(error) else f"values that are broken ({error})"
        return _short(f"the field {field.name!r} has {said}, it is declared as {_name(field.type)}")
    return None


def _no_number(table: pa.Table) -> str | None:
    """Of the first field that has what no number in JSON can become: NaN or an infinity; None where none has.

    Arrow reads the words NaN and Infinity, which are no JSON, and makes infinities of what its type can't hold.
    """
    for field in table.schema:
        column, kind = table.column(field.name), field.type
        if pa.types.is_list(kind):
            column, kind = pc.list_flatten(column), kind.value_type
        if pa.types.is_floating(kind) and pc.all(pc.is_finite(column)).as_py() is False:
            nan = pc.any(pc.is_nan(column)).as_py()
            said = "NaN, which is no JSON" if nan else "Infinity or a number that is too large"
            return f"the field {field.name!r} has {said}, it is declared as {_name(field.type)}"
    return None


def _nulls(schema: pa.Schema, rows: int = 1) -> pa.Table:
    return pa.Table.from_arrays([pa.nulls(rows, field.type) for field in schema], schema=schema)


def _one_batch(parts: Sequence[pa.Table], schema: pa.Schema) -> pa.RecordBatch:
    if not parts:
        return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
    table = pa.concat_tables(parts)
    return pa.RecordBatch.from_arrays([_one_array(column) for column in table.columns], schema=schema)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)


def _from_avro(values: Sequence[bytes | None], schema: pa.Schema, how: Format) -> Decoded:
    problems: dict[int, str] = {}
    read, rows = avro.reader(how.avro, how.registry, how.login, _declared(schema)), list[Mapping[str, Any]]()
    for number, value in enumerate(values):
        row: Any = {}
        if value is None:
            problems[number] = _NOTHING
        else:
            try:
                row = read(value)
            except Unavailable:
                raise
            except Exception as error:  # a message may break the library in any way
                problems[number] = _short(error)
            if not isinstance(row, dict):
                problems[number], row = "it is no Avro record", {}
        rows.append(row)
    return Decoded(_one_batch(_from_dicts(rows, range(len(rows)), schema, problems), schema), problems)


def _from_dicts(
    rows: Sequence[Mapping[str, Any]], numbers: Sequence[int], schema: pa.Schema, problems: dict[int, str]
) -> list[pa.Table]:
    """Tables of the rows in their order; those of which a value is of another type are null, and among the problems."""
    if not rows:
        return []
    try:
        return [pa.Table.from_pylist(list(rows), schema)]
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        problem = _short(error)
    if len(rows) == 1:
        problems[numbers[0]] = problem
        return [_nulls(schema)]
    size = -(-len(rows) // _PARTS)
    return [
        part
        for start in range(0, len(rows), size)
        for part in _from_dicts(rows[start : start + size], numbers[start : start + size], schema, problems)
    ]


def _from_arrow(values: Sequence[bytes | None], schema: pa.Schema) -> Decoded:
    parts, of, problems = list[pa.Table](), list[int](), dict[int, str]()
    for number, value in enumerate(values):
        try:
            if value is None:
                raise ValueError(_NOTHING)
            batches = _batches(pa.ipc.open_stream(value).read_all(), schema)
        except (ConfigError, pa.ArrowException, OSError, ValueError) as error:
            problems[number], batches = _short(error), _nulls(schema).to_batches()
        parts.append(pa.Table.from_batches(batches, schema))
        of += [number] * parts[-1].num_rows
    return Decoded(_one_batch(parts, schema), problems, pa.array(of, pa.int32()))


def _batches(table: pa.Table, schema: pa.Schema) -> list[pa.RecordBatch]:
    """The rows with the declared columns. Raises ValueError or ConfigError for values that can't be these."""
    given = zip(schema, stored_names(table.schema.names, schema.names), strict=True)
    there = [(name, field) for field, name in given if name is not None]
    for name, field in there:
        if (times := table.schema.names.count(name)) > 1:
            raise ValueError(f"the field {name!r} is there {times} times, it is declared once, as {_name(field.type)}")
        if said := _fault_of(table.column(name), field):
            raise ValueError(said)
    return [conform(batch, schema) for batch in table.to_batches()]
