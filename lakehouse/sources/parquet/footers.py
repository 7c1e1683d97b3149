"""What Parquet files say of themselves in their footers: columns, row groups and bounds; and one schema for all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.conditions import Comparison
from lakehouse.connectors.parquet import groups_that_admit, unsupported_types
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.schemas import finder, is_widened_by, nullable_type
from lakehouse.storage import Location, display_name, reaching, stamp
from lakehouse.storage.parquet import open_parquet

_AT_ONCE = 16
"""Files whose footers are asked for at one time."""
_SPARKS_SCHEMA = b"org.apache.spark.sql.parquet.row.metadata"
_SIMPLE = (
    pa.types.is_boolean, pa.types.is_signed_integer, pa.types.is_float32, pa.types.is_float64,
    pa.types.is_decimal128, pa.types.is_string, pa.types.is_binary, pa.types.is_date32, pa.types.is_timestamp,
)  # fmt: skip
"""The types, as `_declared_type` gives them, that Arrow and Spark read alike."""


@dataclass(frozen=True)
class Footer:
    """The footer of a file and what the storage said of the file just before it was read.

    `schema` has the types that a table of such columns has. `refused`: the columns of a type that isn't handed on, and
    that type.
    """

    stamp: str
    schema: pa.Schema
    refused: Mapping[str, str]
    metadata: pq.FileMetaData

    @property
    def sizes(self) -> tuple[int, ...]:
        """The bytes of each row group."""
        return tuple(self.metadata.row_group(g).total_byte_size for g in range(self.metadata.num_row_groups))

    def row_groups(self, comparisons: Sequence[Comparison]) -> tuple[int, ...]:
        """The numbers of the row groups that can hold rows that pass all comparisons."""
        return groups_that_admit(self.metadata, self.schema.names, comparisons)


def read_footers(root: Location, paths: Sequence[str]) -> dict[str, Footer]:
    """The footers of these files below `root`, by path.

    Raises ConfigError for a file that isn't Parquet, Unavailable for one that is gone.
    """
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return dict(zip(paths, threads.map(lambda path: _read(root, path), paths), strict=True))


def read_stamps(root: Location, paths: Sequence[str]) -> dict[str, str]:
    """What the storage says of these files below `root`, by path. Raises Unavailable for one that is gone."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return dict(zip(paths, threads.map(lambda path: _stamp(root, path), paths), strict=True))


def _stamp(root: Location, path: str) -> str:
    seen = stamp(root.join(path))
    if seen is None:
        raise _gone(root, path)
    return seen


def _gone(root: Location, path: str) -> Unavailable:
    return Unavailable(f"{path} of {display_name(root)} is gone since the folder was listed: run again")


def _read(root: Location, path: str) -> Footer:
    file, seen = root.join(path), _stamp(root, path)
    try:
        with reaching(file), open_parquet(root, path) as opened:
            schema, metadata = opened.schema_arrow, opened.metadata
    except FileNotFoundError as error:
        raise _gone(root, path) from error
    except Unavailable as error:
        if not isinstance(error.__cause__, pa.ArrowInvalid):
            raise
        raise _not_parquet(root, path, error.__cause__) from error
    except pa.ArrowInvalid as error:
        raise _not_parquet(root, path, error) from error
    return _footer(root, path, seen, schema, metadata)


def _not_parquet(root: Location, path: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"source.table: {path} of {display_name(root)} can't be read as Parquet: {error}; what is not of the "
        "input goes to another folder, or gets a name that begins with '_' or '.'"
    )


def _footer(root: Location, path: str, seen: str, schema: pa.Schema, metadata: pq.FileMetaData) -> Footer:
    if twice := sorted({name for name in schema.names if schema.names.count(name) > 1}):
        raise ConfigError(f"source.table: {path} of {display_name(root)} has two columns {twice[0]!r}")
    instants = _int96_columns(schema.names, metadata)
    declared = pa.schema([pa.field(f.name, nullable_type(_declared_type(f.type, f.name in instants))) for f in schema])
    spark = json.loads((metadata.metadata or {}).get(_SPARKS_SCHEMA, b'{"fields": []}'))
    refused = {f["name"]: kinds[0].upper() for f in spark["fields"] if (kinds := unsupported_types(f["type"]))}
    return Footer(seen, declared, refused, metadata)


def _int96_columns(names: Sequence[str], metadata: pq.FileMetaData) -> set[str]:
    """The columns of INT96, in which Spark and Hive keep instants; Arrow gives them no zone."""
    columns = [metadata.schema.column(i) for i in range(metadata.num_columns)]
    paths = [column.path for column in columns if column.physical_type == "INT96"]
    return {name for name in names if any(path == name or path.startswith(f"{name}.") for path in paths)}


def _declared_type(kind: pa.DataType, instant: bool) -> pa.DataType:
    """The type that a table declares for values stored so: one for all widths of offsets and units of time."""
    if pa.types.is_dictionary(kind):
        return _declared_type(kind.value_type, instant)
    if pa.types.is_struct(kind):
        return pa.struct([f.with_type(_declared_type(f.type, instant)) for f in kind])
    if pa.types.is_map(kind):
        return pa.map_(_declared_type(kind.key_type, instant), _declared_type(kind.item_type, instant))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_declared_type(kind.value_type, instant))
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz or instant else None)
    if pa.types.is_decimal(kind) and kind.precision <= 38:
        return pa.decimal128(kind.precision, kind.scale)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) else kind


def unreadable(kind: pa.DataType) -> str | None:
    """The simple type in a type that isn't handed on; None where all are."""
    if pa.types.is_struct(kind):
        parts = [f.type for f in kind]
    elif pa.types.is_map(kind):
        parts = [kind.key_type, kind.item_type]
    elif pa.types.is_list(kind):
        parts = [kind.value_type]
    else:
        return None if any(known(kind) for known in _SIMPLE) else str(kind)
    return next((found for part in parts if (found := unreadable(part)) is not None), None)


def merge(footers: Mapping[str, Footer], others: Sequence[Footer], folder: str) -> pa.Schema:
    """One schema for files: the columns of the first, then those that only others have; all may hold nulls.

    Of two types of a column the one that holds every value of the other is taken. Names that differ only in case are
    the same. `others` are files that are not read, for columns that those which are read lack, or have no value in.
    Raises ConfigError for a column of which neither type holds the other.
    """
    kinds, origin, before = dict[str, pa.DataType](), dict[str, str](), None
    for path, footer in footers.items():
        if before is not None and footer.schema.equals(before):
            continue
        before = footer.schema
        for name, kind in _name_columns(footer.schema, list(kinds)):
            both = _wider(kinds.get(name, kind), kind)
            if both is None:
                raise ConfigError(
                    f"source.table: column {name!r} of {folder} is {kinds[name]} in {origin[name]} and {kind} in "
                    f"{path}: write the files with one type, or name a folder in which they have one"
                )
            if both != kinds.get(name):
                kinds[name], origin[name] = both, path
    for footer in others:
        for name, kind in _name_columns(footer.schema, list(kinds)):
            if pa.types.is_null(kinds.get(name, pa.null())):
                kinds[name] = kind
    return pa.schema([pa.field(name, kind) for name, kind in kinds.items()])


def _name_columns(schema: pa.Schema, known: Sequence[str]) -> Iterator[tuple[str, pa.DataType]]:
    """The columns by the names that other files have given them; those of one file are never the same."""
    alike, find = Counter(map(str.lower, schema.names)), finder(known, case_insensitive=True)
    for field in schema:
        name = find(field.name) if alike[field.name.lower()] == 1 else None
        yield name or field.name, field.type


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Which of two types holds every value of both; None where neither does."""
    if is_widened_by(other, one):
        return one
    if is_widened_by(one, other):
        return other
    if pa.types.is_list(one) and pa.types.is_list(other):
        item = _wider(one.value_type, other.value_type)
        return pa.list_(item) if item is not None else None
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _wider_struct({f.name: f.type for f in one}, {f.name: f.type for f in other})
    return None


def _wider_struct(one: Mapping[str, Any], other: Mapping[str, Any]) -> pa.DataType | None:
    kinds = {name: _wider(one.get(name, kind), other.get(name, kind)) for name, kind in {**other, **one}.items()}
    return pa.struct(list(kinds.items())) if None not in kinds.values() else None
