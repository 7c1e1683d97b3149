"""Snowflake's types as Arrow's and back, and the rows of a result in the types that were declared for it."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.connectors.snowflake.names import fold, quote
from lakehouse.errors import ConfigError
from lakehouse.schemas import TIMESTAMP, conform

_NAMES = (
    "FIXED",
    "REAL",
    "TEXT",
    "DATE",
    "TIMESTAMP",
    "VARIANT",
    "TIMESTAMP_LTZ",
    "TIMESTAMP_TZ",
    "TIMESTAMP_NTZ",
    "OBJECT",
    "ARRAY",
    "BINARY",
    "TIME",
    "BOOLEAN",
    "GEOGRAPHY",
    "GEOMETRY",
    "VECTOR",
    "MAP",
)
"""The connector's type codes by their number."""
_READ = {
    "REAL": pa.float64(), "TEXT": pa.string(), "DATE": pa.date32(), "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP_NTZ": pa.timestamp("us"), "TIMESTAMP_LTZ": TIMESTAMP, "TIMESTAMP_TZ": TIMESTAMP,
    "BINARY": pa.binary(), "BOOLEAN": pa.bool_(), "TIME": pa.string(),
    "VARIANT": pa.string(), "OBJECT": pa.string(), "ARRAY": pa.string(), "MAP": pa.string(),
}  # fmt: skip
_TIMES, _MICROSECONDS = ("TIMESTAMP_NTZ", "TIMESTAMP_LTZ", "TIMESTAMP_TZ"), 6
_INT64_DIGITS, _BEYOND_37_DIGITS = 19, 10**37
_MOST_PLACES = 37
"""Decimal places that a NUMBER has at most."""
_UNSAID = 38
"""The precision of a column that is declared INTEGER: it says nothing of the values."""
_INTEGERS = {pa.int8(): 3, pa.int16(): 5, pa.int32(): 10, pa.int64(): _INT64_DIGITS}
_WRITTEN = {
    pa.float32(): "FLOAT", pa.float64(): "FLOAT", pa.bool_(): "BOOLEAN", pa.string(): "VARCHAR",
    pa.binary(): "BINARY", pa.date32(): "DATE", pa.timestamp("us"): "TIMESTAMP_NTZ(6)", TIMESTAMP: "TIMESTAMP_LTZ(6)",
}  # fmt: skip


def name_of(column: Any) -> str:
    """A described column's type by its name, such as FIXED or VARIANT."""
    code = column.type_code
    return _NAMES[code] if code < len(_NAMES) else f"of type {code}"


def read_type(column: Any) -> pa.DataType | None:
    """The Arrow type that a described column is read as; None for one that is not handed on.

    NUMBER without decimals is int64 up to 19 digits, and at 38, which is what INTEGER means; else a decimal. Instants
    are UTC; TIME, VARIANT, ARRAY, OBJECT and MAP are text, the latter JSON.
    """
    if name_of(column) != "FIXED":
        return _READ.get(name_of(column))
    precision, scale = column.precision or _UNSAID, column.scale or 0
    if scale == 0 and (precision <= _INT64_DIGITS or precision == _UNSAID):
        return pa.int64()
    return pa.decimal128(precision, scale)


def read_expression(column: Any) -> str:
    """A described column in a query's SELECT: times to the microsecond, for the connector scales finer ones wrongly."""
    finer = name_of(column) in _TIMES and (column.scale or 0) > _MICROSECONDS
    return quote(column.name) + (f"::{name_of(column)}({_MICROSECONDS})" if finer else "")


def written_type(kind: pa.DataType) -> str:
    """The type of a column in Snowflake that holds every value of `kind`. Raises ConfigError where there is none."""
    if kind in _INTEGERS:
        return f"NUMBER({_INTEGERS[kind]},0)"
    if pa.types.is_decimal(kind) and kind.scale <= _MOST_PLACES:
        return f"NUMBER({kind.precision},{kind.scale})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return "ARRAY"
    if pa.types.is_struct(kind) or pa.types.is_map(kind):
        return "OBJECT"
    if kind in _WRITTEN:
        return _WRITTEN[kind]
    raise ConfigError(f"a column of type {kind} has no type in Snowflake that holds it")


def declare_column(field: pa.Field) -> str:
    """A column of a table that is created, in SQL: its name as it is folded, and its type."""
    return f"{quote(fold(field.name))} {written_type(field.type)}"


def can_hold(column: Any, kind: pa.DataType) -> bool:
    """Whether a described column holds every value of `kind`, as far as its type says; a text's length it doesn't."""
    name = name_of(column)
    if kind in _INTEGERS or pa.types.is_decimal(kind):
        digits, scale = (_INTEGERS[kind], 0) if kind in _INTEGERS else (kind.precision, kind.scale)
        precision, places = column.precision or _UNSAID, column.scale or 0
        # No more digits than 38 fit anywhere: INTEGER takes what an int64 holds.
        return name == "FIXED" and places >= scale and precision - places >= digits - scale
    if pa.types.is_floating(kind):
        return name == "REAL"
    if pa.types.is_nested(kind):
        wanted = ("ARRAY",) if written_type(kind) == "ARRAY" else ("OBJECT", "MAP")
        return name in (*wanted, "VARIANT")
    instants = ("TIMESTAMP_LTZ", "TIMESTAMP_TZ") if kind == TIMESTAMP else ("TIMESTAMP_NTZ", "TIMESTAMP")
    return name in instants if pa.types.is_timestamp(kind) else _READ.get(name) == kind and name not in _JSON


_JSON = ("TIME", "VARIANT", "OBJECT", "ARRAY", "MAP")


def cast_rows(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Rows as the connector gives them in the declared types, its names in its order.

    Raises ConfigError for an integer beyond 64 bits in a column that is declared INTEGER.
    """
    columns = [_simple(batch.column(field.name), field) for field in schema]
    return conform(pa.RecordBatch.from_arrays(columns, names=schema.names), schema)


def parse_json(column: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """ARRAYs and OBJECTs, which come as JSON, as lists and structs; None where JSON doesn't tell the values of `kind`.

    It tells numbers, texts and booleans.
    """
    try:
        return pa.array([None if text is None else json.loads(text) for text in column.to_pylist()], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError):
        return None


def _simple(column: pa.Array, field: pa.Field) -> pa.Array:
    """Times as text; numbers, which come in the narrowest integers that hold a batch or with 38 digits, as declared."""
    if pa.types.is_time(column.type) and pa.types.is_string(field.type):
        return column.cast(pa.time64("us"), safe=False).cast(pa.string())
    if pa.types.is_decimal(field.type):
        column = column.cast(pa.decimal128(38, 0)) if pa.types.is_integer(column.type) else column
        return column.cast(field.type)
    if pa.types.is_decimal(column.type) and pa.types.is_integer(field.type):
        try:
            return column.cast(field.type)
        except pa.ArrowInvalid as error:
            largest = pc.max(pc.abs(column)).as_py()
            cast = "NUMBER(37, 0), which is handed on as a decimal" if largest < _BEYOND_37_DIGITS else "VARCHAR"
            raise ConfigError(
                f"column {field.name!r} holds {largest}, beyond 64 bits: read it by source.query with "
                f"{field.name}::{cast}"
            ) from error
    return column
