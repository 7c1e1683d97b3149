"""A slice's values in the types of the table's columns, and as texts: the same for every system."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import pyarrow as pa

from lakehouse.config.messages import UNQUOTED
from lakehouse.connectors import delta
from lakehouse.errors import ConfigError


def slice_types(values: Mapping[str, Any], existing: pa.Schema | None) -> dict[str, pa.DataType]:
    """The types of the slice columns: the table's own, else by the values (an ISO date is a date)."""
    return {
        name: existing.field(name).type if existing is not None and name in existing.names else _slice_type(value)
        for name, value in values.items()
    }


def _slice_type(value: Any) -> pa.DataType:
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return pa.int64()
    if isinstance(value, date):
        return pa.date32()
    try:
        return pa.date32() if date.fromisoformat(value).isoformat() == value else pa.string()
    except ValueError:
        return pa.string()


def slice_texts(values: Mapping[str, Any], types: Mapping[str, pa.DataType]) -> dict[str, str]:
    """The slice's values as the Delta log spells them. Raises ConfigError for one that its column can't hold."""
    texts = {}
    for name, value in values.items():
        if isinstance(value, bool) and pa.types.is_string(types[name]):
            raise ConfigError(f"slice.{name}: {str(value).lower()} is no text, as the column's values are; {UNQUOTED}")
        if (text := _as_it_is(value, types[name])) is not None:
            texts[name] = text
            continue
        try:
            scalar = pa.scalar(str(value) if pa.types.is_string(types[name]) else value)
            typed = scalar.cast(types[name]).as_py()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise ConfigError(f"slice.{name}: {value!r} is not a value of the column's type, {types[name]}") from error
        texts[name] = str(delta.partition_text(typed))
    return texts


def _as_it_is(value: Any, kind: pa.DataType) -> str | None:
    """The text of a text, or of a day, for which no cast is needed (Arrow imports pandas for one)."""
    if pa.types.is_string(kind):
        return str(value)
    if pa.types.is_date32(kind) and (type(value) is date or (isinstance(value, str) and _slice_type(value) == kind)):
        return str(value)
    return None
