"""Lists, structs and maps: how they are taken apart into columns of their parts, and put together in another type.

A model's objects are structs (a field that may be null is an optional property) and its maps have texts as keys. What
becomes of the values themselves is for `conversions` to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Convert = Callable[[pa.Array, pa.DataType], tuple[pa.Array, Any | None]]
"""A column in another type, and a mask of the values that are lost in it, None: none are."""


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists, of one length or of any."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_nested(kind: pa.DataType) -> bool:
    """Whether values are lists, structs or maps."""
    return is_list(kind) or bool(pa.types.is_struct(kind) or pa.types.is_map(kind))


def leaf_of(kind: pa.DataType) -> pa.DataType:
    """The type of the innermost items of lists; of anything else the type itself."""
    return leaf_of(kind.value_type) if is_list(kind) else kind


def with_leaf(kind: pa.DataType, leaf: pa.DataType) -> pa.DataType:
    """Lists of another type of innermost items."""
    return pa.list_(with_leaf(kind.value_type, leaf)) if is_list(kind) else leaf


def pairs(given: pa.DataType, wanted: pa.DataType) -> list[tuple[str, pa.DataType, pa.DataType]] | None:
    """Name, type and wanted type of each part of a nested column; None where one can't be the other.

    An optional property that the column lacks is no part, nor is a field that the model has no property for.
    """
    if is_list(given) and is_list(wanted):
        return [("", given.value_type, wanted.value_type)]
    if pa.types.is_map(given) and pa.types.is_map(wanted):
        return [("keys", given.key_type, wanted.key_type), ("", given.item_type, wanted.item_type)]
    if pa.types.is_struct(given) and pa.types.is_struct(wanted) and not list(lacking(given, wanted)):
        return [(f.name, given.field(f.name).type, f.type) for f in wanted if given.get_field_index(f.name) >= 0]
    return None


def lacking(given: pa.DataType, wanted: pa.DataType) -> Iterator[str]:
    """The required properties that a column has no field for, as paths."""
    if pa.types.is_struct(given) and pa.types.is_struct(wanted):
        for field in wanted:
            if given.get_field_index(field.name) < 0:
                yield from [] if field.nullable else [field.name]
            else:
                yield from (f"{field.name}.{path}" for path in lacking(given.field(field.name).type, field.type))
    elif is_list(given) and is_list(wanted):
        yield from lacking(given.value_type, wanted.value_type)
    elif pa.types.is_map(given) and pa.types.is_map(wanted):
        yield from lacking(given.item_type, wanted.item_type)


def change_of_form(given: pa.DataType, wanted: pa.DataType) -> str:
    """What of a column's own form does not reach the model as it is, in words; "" for nothing."""
    if pa.types.is_fixed_size_list(wanted):
        return f"lists of {wanted.list_size}"
    if not pa.types.is_struct(wanted):
        return ""
    absent = [f.name for f in wanted if given.get_field_index(f.name) < 0]
    extra = [f.name for f in given if wanted.get_field_index(f.name) < 0]
    words = [f"without {', '.join(absent)} (optional, the column has no such field)"] if absent else []
    return ", ".join([*words, f"leaving out {', '.join(extra)}"] if extra else words)


def convert_nested(column: pa.Array, kind: pa.DataType, convert: Convert) -> tuple[pa.Array, Any | None]:
    """Lists, structs or maps with their parts in other types; a value that loses a part is lost as a whole."""
    if pa.types.is_struct(kind):
        return _structs(column, kind, convert)
    return _maps(column, kind, convert) if pa.types.is_map(kind) else _lists(column, kind, convert)


def _lists(column: pa.Array, kind: pa.DataType, convert: Convert) -> tuple[pa.Array, Any | None]:
    """Lists; one of another length than the type's is lost, too. Lists of one length become Arrow's lists of any."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    items, lost_items = convert(pc.list_flatten(column), kind.value_type)
    lost, nulls = np.zeros(len(column), bool), _nulls(column)
    if lost_items is not None:
        lost[np.repeat(np.arange(len(column)), lengths)[lost_items]] = True
    if pa.types.is_fixed_size_list(kind):
        lost |= (lengths != kind.list_size) & ~nulls
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    made = pa.ListArray.from_arrays(offsets, items, mask=pa.array(nulls | lost))
    return made, lost if lost.any() else None


def _maps(column: pa.Array, kind: pa.DataType, convert: Convert) -> tuple[pa.Array, Any | None]:
    starts, lengths, keys, items = entries(column)
    keys, lost_keys = convert(keys, kind.key_type)
    items, lost_items = convert(items, kind.item_type)
    lost, nulls = np.zeros(len(column), bool), _nulls(column)
    for mask in (lost_keys, lost_items):
        if mask is not None:
            lost[np.repeat(np.arange(len(column)), lengths)[mask]] = True
    offsets = np.append(starts, len(keys)).astype(np.int32)
    made = pa.MapArray.from_arrays(pa.array(offsets, mask=np.append(nulls | lost, False)), keys, items)
    return made, lost if lost.any() else None


def entries(column: pa.MapArray) -> tuple[Any, Any, pa.Array, pa.Array]:
    """Where the entries of each map begin and how many it has, and the keys and values of all; none of null ones."""
    if column.null_count:
        column = pc.if_else(column.is_valid(), column, pa.scalar([], column.type))
    offsets = column.offsets.to_numpy()
    inside = slice(offsets[0], offsets[-1])
    return offsets[:-1] - offsets[0], np.diff(offsets), column.keys[inside], column.items[inside]


def _structs(column: pa.Array, kind: pa.DataType, convert: Convert) -> tuple[pa.Array, Any | None]:
    parts = dict(zip([f.name for f in column.type], column.flatten(), strict=True))
    lost, made, fields = np.zeros(len(column), bool), [], []
    for field in kind:
        if field.name in parts:
            part, mask = convert(parts[field.name], field.type)
            lost |= False if mask is None else mask
            made.append(part)
            fields.append(pa.field(field.name, part.type, field.nullable))
    nothing = pa.array(_nulls(column) | lost)
    return pa.StructArray.from_arrays(made, fields=fields, mask=nothing), lost if lost.any() else None


def _nulls(column: pa.Array) -> Any:
    return column.is_null().to_numpy(zero_copy_only=False)
