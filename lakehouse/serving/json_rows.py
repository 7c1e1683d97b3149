"""Rows from JSON, as records or by column: Arrow makes columns of them, and what it would bend is refused."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from functools import partial
from operator import methodcaller
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.serving.columns import Reader, require_columns, require_few, wire_type
from lakehouse.serving.messages import SHOWN, UNFIT, Refusal, from_json, in_words


def read_json(body: bytes, reader: Reader) -> pa.RecordBatch:
    try:
        content = from_json(body)
    except RecursionError as error:
        raise Refusal(400, "the body is nested too deeply") from error
    except ValueError as error:
        raise Refusal(400, f"the body is not JSON: {str(error)[:SHOWN]}") from error
    if isinstance(content, dict) and {"records", "columns"} <= content.keys():
        raise Refusal(400, "the body has records and columns: send the rows as one of the two")
    if isinstance(content, dict) and isinstance(content.get("columns"), dict):
        return _columns(content["columns"], reader)
    records = content.get("records") if isinstance(content, dict) else content
    if not isinstance(records, list):
        raise Refusal(
            400, 'JSON is read as {"records": [{column: value, …}, …]}, or {"columns": {column: [value, …], …}}'
        )
    return _records(records, reader)


def _records(records: list[Any], reader: Reader) -> pa.RecordBatch:
    require_few(len(records), reader)
    if set(map(type, records)) - {dict}:
        row, wrong = next((row, record) for row, record in enumerate(records) if not isinstance(record, dict))
        raise Refusal(400, f"row {row} is {_kind(type(wrong))}: each is an object of columns and values")
    if records and not reader.required <= records[0].keys():  # else no row need be looked at
        require_columns(set().union(*records), reader)
    values = partial(_values, records)
    try:
        arrays = pa.array(records, reader.wire).flatten()
    except UNFIT as error:
        raise _unfit(values, reader, error) from error
    return _checked(arrays, reader, values)


def _values(records: list[Any], name: str) -> list[Any]:
    return list(map(methodcaller("get", name), records))


def _columns(columns: dict[str, Any], reader: Reader) -> pa.RecordBatch:
    known = {name: columns[name] for name in reader.schema.names if name in columns}
    if wrong := [name for name, values in known.items() if not isinstance(values, list)]:
        raise Refusal(400, f"columns.{wrong[0]}: a list of values is needed")
    lengths = {name: len(values) for name, values in known.items()}
    if len(set(lengths.values())) > 1:
        raise Refusal(400, f"columns: the lists must be of one length, they have {json.dumps(lengths)[: SHOWN * 4]}")
    rows = next(iter(lengths.values()), 0)
    require_few(rows, reader)
    require_columns(set(columns), reader)
    values = _given(known, rows)
    try:
        arrays = [pa.array(values(wire.name), wire.type) for wire in reader.wire]
    except UNFIT as error:
        raise _unfit(values, reader, error) from error
    return _checked(arrays, reader, values)


def _given(known: dict[str, list[Any]], rows: int) -> Callable[[str], list[Any]]:
    """The values of a column by its name, nulls for one that isn't given."""
    return lambda name: known[name] if name in known else [None] * rows


def _checked(arrays: list[pa.Array], reader: Reader, values: Callable[[str], Sequence[Any]]) -> pa.RecordBatch:
    """Columns as they came, in their own types; `values`: one as Python has it, for what Arrow would let pass."""
    floats = [arrays[number].to_numpy(zero_copy_only=False) for number in reader.floats]
    if floats and np.isinf(np.concatenate(floats)).any():  # a number beyond what a float can hold
        place = next(place for place, column in enumerate(floats) if np.isinf(column).any())
        field, row = reader.schema.field(reader.floats[place]), int(np.isinf(floats[place]).argmax())
        raise _wrong(field, row, values(field.name)[row])
    for number in reader.checked:
        field = reader.schema.field(number)
        arrays[number] = _in_own_type(arrays[number], field, values(field.name))
    return pa.RecordBatch.from_arrays(arrays, schema=reader.schema)


def _in_own_type(made: pa.Array, field: pa.Field, values: Sequence[Any]) -> pa.Array:
    kind = field.type
    if pa.types.is_integer(kind) and float in set(map(type, values)):
        for number, value in enumerate(values):
            if isinstance(value, float) and not value.is_integer():
                raise _wrong(field, number, value)
    elif pa.types.is_nested(kind):
        for number, value in enumerate(values):
            if _loses(value, kind):
                raise _wrong(field, number, value)
    if made.type == kind:
        return made
    try:
        return _from_text(made, kind)
    except (*UNFIT, binascii.Error) as error:
        for number in range(len(made)):
            try:
                _from_text(made.slice(number, 1), kind)
            except (*UNFIT, binascii.Error):
                raise _wrong(field, number, made[number].as_py()) from error
        raise Refusal(400, f"column {field.name!r}: {str(error)[:SHOWN]}") from error


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


def _unfit(values: Callable[[str], Sequence[Any]], reader: Reader, error: Exception) -> Refusal:
    """Which column and row can't be read, once it is known that one can't."""
    for field in reader.schema:
        wire, column = reader.wire.field(field.name).type, values(field.name)
        try:
            pa.array(column, wire)
        except UNFIT:
            for number, value in enumerate(column):
                try:
                    pa.array([value], wire)
                except UNFIT:
                    return _wrong(field, number, value)
    return Refusal(400, f"the rows can't be read: {str(error)[:SHOWN]}")


def _wrong(field: pa.Field, row: int, value: Any) -> Refusal:
    how = " as text" if wire_type(field.type) != field.type else ""
    return Refusal(400, f"row {row}, column {field.name!r}: {in_words(value)} is no {field.type}{how}")


def _kind(kind: type) -> str:
    names: dict[type, str] = {list: "an array", str: "a text", type(None): "null", bool: "true or false"}
    return names.get(kind, "a number")
