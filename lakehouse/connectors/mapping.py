"""Delta's column mapping: the fields of a file under the table's names, at every level of nesting.

Files of a table with column mapping know a field by a name of its own, or by a number (`PARQUET:field_id`), so that
columns can be renamed and dropped without writing a file. Source: Delta's protocol, "Column Mapping".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from lakehouse.errors import ConfigError
from lakehouse.schemas import stored_names

NAME, ID = "name", "id"
"""The modes: files know fields by name, or by number."""
_STORED_NAME, _NUMBER = b"delta.columnMapping.physicalName", b"delta.columnMapping.id"
_FIELD_ID = b"PARQUET:field_id"
_GONE = "\0"


def find_columns(stored: pa.Schema, wanted: pa.Schema, mode: str) -> dict[str, pa.Field]:
    """By a file's name of it, each column that the table has, with the table's names, in its structs too.

    `stored`: the schema of a file; `wanted`: the table's, with what the log notes at each field. What the file lacks is
    left out. Raises ConfigError where it is unclear which field is meant, and by number where the file has no numbers.
    """
    if mode == ID and len(stored) and not any(_FIELD_ID in (field.metadata or {}) for field in stored):
        raise ConfigError("the table knows its columns by Parquet field ids, and the file has none")
    fields = _find(list(stored), list(wanted), mode)
    return {stored[place].name: field for place, field in fields.items()}


def rename(batch: pa.RecordBatch, fields: dict[str, pa.Field]) -> pa.RecordBatch:
    """The columns of a file's batch that are among `fields` (`find_columns`), under the table's names."""
    columns = [(batch.column(name), field) for name, field in fields.items()]
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * batch.num_rows, pa.struct([])))
    arrays = [array.view(field.type) if pa.types.is_nested(array.type) else array for array, field in columns]
    return pa.RecordBatch.from_arrays(arrays, names=[field.name for _, field in columns])


def digest_of(wanted: Iterable[pa.Field]) -> str | None:
    """What tells these fields from others of the same names; None where all are stored under the table's names.

    A stored name is never given twice: a column that was dropped and added again has another.
    """
    names = _names(wanted)
    return hashlib.sha256(json.dumps(names).encode()).hexdigest() if _differ(names) else None


def _names(wanted: Iterable[pa.Field]) -> list[Any]:
    within = ((field, [field.type.field(i) for i in range(field.type.num_fields)]) for field in wanted)
    return [[field.name, _stored_name(field), *_names(parts)] for field, parts in within]


def _differ(names: Iterable[Any]) -> bool:
    return any(name != stored or _differ(parts) for name, stored, *parts in names)


def _find(stored: Sequence[pa.Field], wanted: Sequence[pa.Field], mode: str) -> dict[int, pa.Field]:
    """By its place in the file, each field that the table has, with the table's names."""
    places = _by_number(stored, wanted) if mode == ID else _by_name(stored, wanted)
    return {
        place: stored[place].with_name(field.name).with_type(_named(stored[place].type, field.type, mode))
        for place, field in zip(places, wanted, strict=True)
        if place is not None
    }


def _by_name(stored: Sequence[pa.Field], wanted: Sequence[pa.Field]) -> list[int | None]:
    places = {field.name: place for place, field in enumerate(stored)}
    found = stored_names(list(places), map(_stored_name, wanted))
    return [None if name is None else places[name] for name in found]


def _stored_name(field: pa.Field) -> str:
    return str((field.metadata or {}).get(_STORED_NAME, field.name.encode()).decode())


def _by_number(stored: Sequence[pa.Field], wanted: Sequence[pa.Field]) -> list[int | None]:
    places = dict[bytes, int]()
    for place, field in enumerate(stored):
        number = (field.metadata or {}).get(_FIELD_ID)
        if number is not None and places.setdefault(number, place) != place:
            raise ConfigError(f"fields {stored[places[number]].name!r} and {field.name!r} have one id, {int(number)}")
    return [places.get((field.metadata or {}).get(_NUMBER, b"")) for field in wanted]


def _named(stored: pa.DataType, wanted: pa.DataType, mode: str) -> pa.DataType:
    """A type as a file has it, with the table's names; fields that the table has no more get one that none has."""
    if _is_list(stored) and _is_list(wanted):
        item = stored.value_field.with_type(_named(stored.value_type, wanted.value_type, mode))
        return pa.list_(item) if pa.types.is_list(stored) else pa.large_list(item)
    if pa.types.is_map(stored) and pa.types.is_map(wanted):
        key = stored.key_field.with_type(_named(stored.key_type, wanted.key_type, mode))
        return pa.map_(key, stored.item_field.with_type(_named(stored.item_type, wanted.item_type, mode)))
    if pa.types.is_struct(stored) and pa.types.is_struct(wanted):
        found = _find(list(stored), list(wanted), mode)
        return pa.struct([found.get(place, f.with_name(f"{_GONE}{place}")) for place, f in enumerate(stored)])
    return stored


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
