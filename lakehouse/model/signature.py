"""A model's signature against a table: which column is which feature, in which type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.contract import Feature, finder, rounds, widens
from lakehouse.errors import ConfigError, ModelRefused, nearest
from lakehouse.model.registry import Model

if TYPE_CHECKING:
    from lakehouse.config import Features

TYPES = {
    "boolean": pa.bool_(), "integer": pa.int32(), "long": pa.int64(), "float": pa.float32(), "double": pa.float64(),
    "string": pa.string(), "binary": pa.binary(), "datetime": pa.timestamp("us"),
}  # fmt: skip
_DTYPES = {"float64": pa.float64(), "float32": pa.float32(), "int64": pa.int64(), "int32": pa.int32()}


def inputs_of(model: Model) -> list[tuple[str, pa.DataType, bool]]:
    """Name, type and required of the features in the model's signature; none for a model that takes a tensor."""
    if model.signature[0].get("type") == "tensor":
        return []
    return [_column_spec(spec, model.uri) for spec in model.signature]


def features_of(
    model: Model, config: Features, schema: pa.Schema, table: str, *, nearest_double: bool = False
) -> tuple[tuple[Feature, ...], bool]:
    """The model's inputs against the table's columns, and whether the model takes them as one matrix.

    `nearest_double`: any number may become a floating one, as is usual where a table's numbers are all decimals.
    Raises ConfigError for a feature without a column, and for a column that can't be cast without loss.
    """
    inputs: Sequence[dict[str, Any]] = model.signature
    matrix = inputs[0].get("type") == "tensor"
    wanted = _tensor(inputs, config, model.uri) if matrix else [_column_spec(spec, model.uri) for spec in inputs]
    unknown = [name for name in config.rename if name not in {w[0] for w in wanted}]
    if unknown:
        hint = nearest(unknown[0], [w[0] for w in wanted])
        raise ConfigError(f"features.rename: the model has no feature {unknown[0]!r}, {hint}")
    features, find = [], finder(schema.names, config.match == "case_insensitive")
    for name, kind, required in wanted:
        named = config.rename.get(name, name)
        column = find(named)
        if column is None:
            raise ConfigError(
                f"the model's feature {name!r} has no column {named!r} in {table}, {nearest(named, schema.names)} "
                "(features.rename maps a feature to another column)"
            )
        given = schema.field(column).type
        if not (widens(given, kind) or (nearest_double and rounds(given, kind))):
            raise ConfigError(
                f"the model's feature {name!r} is {kind}, column {column!r} of {table} is {given}: no lossless cast; "
                "cast it where the table is written, or log the model with that type"
            )
        features.append(Feature(name, column, kind, required))
    return tuple(features), matrix


def _column_spec(spec: dict[str, Any], uri: str) -> tuple[str, pa.DataType, bool]:
    kind = TYPES.get(str(spec.get("type")))
    if kind is None or not spec.get("name"):
        raise ModelRefused(f"{uri}: the signature's input {spec} is not supported: {', '.join(TYPES)} columns are")
    return str(spec["name"]), kind, bool(spec.get("required", True))


def _tensor(inputs: Sequence[dict[str, Any]], config: Features, uri: str) -> list[tuple[str, pa.DataType, bool]]:
    spec = inputs[0].get("tensor-spec", {})
    shape, kind = spec.get("shape", []), _DTYPES.get(str(spec.get("dtype")))
    if len(inputs) != 1 or len(shape) != 2 or kind is None:
        raise ModelRefused(f"{uri}: the signature's tensor {inputs} is not supported: one of rows × columns is")
    if len(config.tensor) != shape[1] and (shape[1] != -1 or not config.tensor):
        raise ConfigError(
            f"features.tensor: the model takes a tensor of {shape[1]} columns, {len(config.tensor)} are named: "
            "list the table's columns in the tensor's order"
        )
    return [(name, kind, True) for name in config.tensor]
