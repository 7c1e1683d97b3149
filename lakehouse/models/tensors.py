"""A signature's tensors against a table: which columns make each array that the model is given."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.errors import ConfigError, ModelRefused, in_yaml, nearest
from lakehouse.models.nested import is_list
from lakehouse.schemas import Tensor, column_of

if TYPE_CHECKING:
    from lakehouse.config import Features

_WHOLE = {f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)}
DTYPES: Mapping[str, pa.DataType] = {
    "float64": pa.float64(), "float32": pa.float32(), "float16": pa.float16(), **_WHOLE, "bool": pa.bool_(),
    "str": pa.string(), "object": pa.string(), "datetime64[ns]": pa.timestamp("ns"),
}  # fmt: skip
"""numpy's types of tensors, and what a column's values become for them. Texts are `str` or `object`."""

Columns = list[tuple[str, pa.DataType]]
"""The columns of a tensor, and the type that each has to become."""


def tensors_of(
    inputs: Sequence[dict[str, Any]], config: Features, schema: pa.Schema, uri: str
) -> Iterator[tuple[Tensor, Columns]]:
    """Each tensor of the signature with its columns: as `features.tensor` says, else the one of the tensor's name.

    Raises ConfigError where columns and shape don't go together, ModelRefused for a tensor of another kind.
    """
    known = [str(spec["name"]) for spec in inputs if spec.get("name") is not None]
    said = config.tensor
    if isinstance(said, Mapping):
        if not known:
            raise ConfigError("features.tensor: the model's one tensor has no name: list its columns, without names")
        if unknown := next((name for name in said if name not in known), None):
            raise ConfigError(f"features.tensor: the model has no tensor {unknown!r}, {nearest(unknown, known)}")
    elif said and len(inputs) > 1:
        raise ConfigError(
            f"features.tensor: the model takes {len(inputs)} tensors, {', '.join(known)}: say which columns each is "
            f"made of, as in features: {{tensor: {{{in_yaml(known[0])}: [{', '.join(map(in_yaml, said))}]}}}}"
        )
    named = [name for name in known if not said or (isinstance(said, Mapping) and name not in said)]
    if unknown := next((name for name in config.rename if name not in named), None):
        raise ConfigError(
            f"features.rename: {unknown!r} is no tensor with a column of its name: say in features.tensor which "
            "columns a tensor is made of"
        )
    used: list[str] = []
    for spec in inputs:
        name = None if spec.get("name") is None else str(spec["name"])
        columns = _columns_of(name, said, config.rename)
        used += columns
        yield _tensor(spec, name, columns, config, schema, uri)
    if unused := next((column for column in config.reshape if column not in used), None):
        raise ConfigError(f"features.reshape: {unused!r} is no column of a tensor, {nearest(unused, used)}")


def _columns_of(name: str | None, said: Any, rename: Mapping[str, str]) -> tuple[str, ...]:
    """The columns that the job names for a tensor, else the one of its name, or that this is renamed to."""
    own = (rename.get(name, name),) if name else ()
    return tuple(said.get(name, own) if isinstance(said, Mapping) else said or own)


def _tensor(
    spec: Mapping[str, Any], name: str | None, columns: tuple[str, ...], config: Features, schema: pa.Schema, uri: str
) -> tuple[Tensor, Columns]:
    told = spec.get("tensor-spec", {})
    shape, dtype = tuple(told.get("shape", ())), str(told.get("dtype"))
    kind = DTYPES.get(dtype)
    if kind is None or not shape or shape[0] != -1:
        raise ModelRefused(
            f"{uri}: the signature's tensor {dict(spec)} is not supported: its first dimension has to be that of the "
            f"rows (-1), and its values {', '.join(DTYPES)}"
        )
    what = f"features.tensor: the model's tensor{f' {name!r}' if name else ''} of shape {list(shape)}"
    row = shape[1:]
    named = column_of(schema, columns[0], config.match == "case_insensitive") if len(columns) == 1 else None
    if named is not None and is_list(given := schema.field(named).type):
        row, kind = _of_lists(row, kind, given, named, columns[0] in config.reshape, what)
    elif len(row) > 1:
        raise ConfigError(f"{what} takes one column of lists, {_count(columns)}")
    else:
        if row == (-1,) and columns:
            row = (len(columns),)
        if len(columns) != math.prod(row):
            raise ConfigError(
                f"{what} takes {math.prod(row) if row != (-1,) else 'its'} columns, {_count(columns)}: list the "
                "table's columns in the tensor's order, or the one that holds them as a list"
            )
    return Tensor(name, dtype, row, len(columns)), [(column, kind) for column in columns]


def _count(columns: Sequence[str]) -> str:
    return f"{len(columns)} are named" if len(columns) != 1 else f"1 is named, {columns[0]!r}"


def _of_lists(
    row: tuple[int, ...], kind: pa.DataType, given: pa.DataType, column: str, reshape: bool, what: str
) -> tuple[tuple[int, ...], pa.DataType]:
    """The shape of a row and the lists that a column has to hold for it; a flat one only where the job says so."""
    lengths = _lengths(given)
    if not row:
        raise ConfigError(f"{what} takes a column of single values, {column!r} is {given}")
    if len(lengths) == len(row):
        row = tuple(size if wanted == -1 else wanted for wanted, size in zip(row, lengths, strict=True))
    if min(row) < 1:
        raise ConfigError(
            f"{what}: {column!r} is a list, and the model does not say of how many values: log it with a tensor of "
            "fixed dimensions behind that of the rows, or name a column a value"
        )
    if reshape:
        if len(lengths) != 1:
            raise ConfigError(f"features.reshape: {column!r} is {given}: only lists of single values are reshaped")
        return row, pa.list_(kind, math.prod(row))
    if len(lengths) != len(row):
        flat = (
            f"; if each is a row of {math.prod(row)} values, the last dimension's side by side, add features: "
            f"{{reshape: [{in_yaml(column)}]}}"
        )
        raise ConfigError(
            f"{what} takes lists {len(row)} deep, {column!r} is {given}{flat if len(lengths) == 1 else ''}"
        )
    for size in reversed(row):
        kind = pa.list_(kind, size)
    return row, kind


def _lengths(kind: pa.DataType) -> list[int]:
    """The lengths of a list and of those within it, -1 where any may be."""
    if not is_list(kind):
        return []
    return [kind.list_size if pa.types.is_fixed_size_list(kind) else -1, *_lengths(kind.value_type)]
