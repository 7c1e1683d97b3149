"""A model's signature against a table: which column is which feature, in which type."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.errors import ConfigError, ModelRefused, in_yaml, nearest
from lakehouse.models.conversions import NAMES, conversion_of, requested_conversion, type_name
from lakehouse.models.nested import lacking, leaf_of, with_leaf
from lakehouse.models.registry import FetchedModel
from lakehouse.models.tensors import tensors_of
from lakehouse.schemas import Feature, Tensor, column_of, finder, is_widened_by, nearest_column

if TYPE_CHECKING:
    from lakehouse.config import Features

UNSIGNED = (
    " has no signature, so its features are not known: log it again with signature=infer_signature(X, model.predict(X))"
)


@dataclass(frozen=True)
class Inputs:
    """What a model is given: a frame of features, or arrays of them where there are `tensors`.

    `converts`, `left_out`: what a person should know of it.
    """

    features: tuple[Feature, ...]
    tensors: tuple[Tensor, ...] = ()
    converts: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Wanted:
    name: str | int
    type: pa.DataType
    required: bool


def inputs_of(model: FetchedModel) -> list[tuple[str, pa.DataType, bool]]:
    """Name, type and required of the features in the model's signature; none for a model that takes a tensor."""
    if model.signature and model.signature[0].get("type") == "tensor":
        return []
    wanted = (_column_spec(spec, model.uri) for spec in _column_specs(model.signature))
    return [(str(w.name), w.type, w.required) for w in wanted]


def features_of(
    model: FetchedModel, config: Features, schema: pa.Schema, table: str, *, set_aside: bool = False
) -> Inputs:
    """The model's inputs against the table's columns, and how each becomes what the model is given.

    An optional feature without a column is left out, as pyfunc does. `set_aside`: the table is one of quarantine, where
    a value may stand in a wider type than it came in, from which it goes back.
    Raises ConfigError for a feature without a column, and for a column that does not become its type by itself;
    ModelRefused for a model without signature.
    """
    if not model.signature:
        raise ModelRefused(f"{model.uri}{UNSIGNED}, or say it in model.signature")
    inputs: Sequence[dict[str, Any]] = model.signature
    tensors: list[Tensor] = []
    rename: Mapping[str, str] = config.rename
    if inputs[0].get("type") == "tensor":
        wanted, rename = [], {}  # the tensors' own columns are named already
        for tensor, columns in tensors_of(inputs, config, schema, model.uri):
            tensors.append(tensor)
            wanted += [_Wanted(name, kind, True) for name, kind in columns]
    else:
        wanted = [_column_spec(spec, model.uri) for spec in _column_specs(inputs)]
    names = [str(w.name) for w in wanted]
    if not tensors and (twice := next((name for name, times in Counter(names).items() if times > 1), None)):
        raise ModelRefused(
            f"{model.uri}: the signature names {twice!r} more than once: log the model with another name"
        )
    if unknown := next((name for name in rename if name not in names), None):
        raise ConfigError(f"features.rename: the model has no feature {unknown!r}, {nearest(unknown, names)}")
    features, told, left_out = list[Feature](), list[str](), list[str]()
    find = finder(schema.names, config.match == "case_insensitive")
    for w in wanted:
        named = rename.get(str(w.name), str(w.name))
        column = find(named)
        if column is None and not w.required and str(w.name) not in rename:
            left_out.append(_left_out(w, schema))
            continue
        if column is None:
            raise ConfigError(
                f"the model's feature {str(w.name)!r} has no column {named!r} in {table}, "
                f"{nearest_column(named, schema)} ({_named_elsewhere(tensors)})"
            )
        given = schema.field(column).type
        back = w.type if set_aside and is_widened_by(w.type, given) else None
        feature, how = _feature(w, column, given, config.cast, table, back)
        features.append(feature)
        told += [how] if how else []
    if not features:
        raise ConfigError(f"{table} has none of the model's features: {', '.join(names)}")
    used = {*names, *(f.column for f in features)}
    if unused := next((name for name in config.cast if name not in used), None):
        raise ConfigError(f"features.cast: {unused!r} is no feature and no feature's column, {nearest(unused, used)}")
    return Inputs(tuple(features), tuple(tensors), tuple(told), tuple(left_out))


def _feature(
    wanted: _Wanted, column: str, given: pa.DataType, casts: Mapping[str, str], table: str, back: pa.DataType | None
) -> tuple[Feature, str]:
    """The feature that a column is, and how it becomes it, in words; nothing where it is it already."""
    name, kind = str(wanted.name), wanted.type
    asked = casts.get(name, casts.get(column))
    cast = with_leaf(given, NAMES[asked]) if asked is not None else back
    first, then = (None, given) if cast is None else (requested_conversion(given, cast), cast)
    if cast is not None and first is None:
        raise ConfigError(f"features.cast: column {column!r} of {table} is {given}, which does not become {asked}")
    how = conversion_of(then, kind)
    if how is None:
        what = f"the model's feature {name!r} is {type_name(kind)}, column {column!r} of {table} is {given}"
        if asked and conversion_of(given, kind) is not None:
            raise ConfigError(f"{what}: it goes without features.cast, which makes {asked} of it: remove it there")
        what += f", cast to {asked}" if asked else ""
        raise ConfigError(f"{what}: {_remedy(name, given, kind)}")
    how = ", ".join(dict.fromkeys(part for part in (first, how) if part))
    told = f"{column} ({given}) to {type_name(kind)} {how}" if how else ""
    return Feature(wanted.name, column, kind, wanted.required, cast), told


def _remedy(name: str, given: pa.DataType, kind: pa.DataType) -> str:
    if absent := next(lacking(given, kind), None):
        return f"the column has no field {absent!r}, which the model requires"
    wanted = leaf_of(kind)
    if requested_conversion(given, kind) is not None and wanted in NAMES.values():
        word = f"features: {{cast: {{{in_yaml(name)}: {type_name(wanted)}}}}}"
        return (
            f"no lossless cast; if its values are meant so, add {word} (rows whose value does not become one are set "
            "aside)"
        )
    return "no lossless cast; cast it where the table is written, or log the model with that type"


def _named_elsewhere(tensors: Sequence[Tensor]) -> str:
    """Where the job file says which column a feature is."""
    if not tensors:
        return "features.rename maps a feature to another column"
    return "features.tensor names the columns of a tensor"


def _left_out(wanted: _Wanted, schema: pa.Schema) -> str:
    other = column_of(schema, str(wanted.name), case_insensitive=True)
    hint = (
        f", though it has {other!r}: features: {{rename: {{{in_yaml(str(wanted.name))}: {in_yaml(other)}}}}}"
        if other
        else ""
    )
    return f"{wanted.name} (optional, the table has no such column{hint})"


def _column_specs(inputs: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """The columns of a signature. Of a model that takes a list of records, by its type hints, these are the fields:
    MLflow makes the records of a frame's rows."""
    if len(inputs) == 1 and inputs[0].get("type") == "object" and not inputs[0].get("name"):
        return [{"name": name, **spec} for name, spec in (inputs[0].get("properties") or {}).items()]
    return inputs


def _column_spec(spec: dict[str, Any], uri: str) -> _Wanted:
    kind, name = _type(spec), spec.get("name")
    if kind is None or name is None or name == "":
        raise ModelRefused(f"{uri}: the signature's input {spec} is not supported: {_why_not(spec, kind)}")
    return _Wanted(name if isinstance(name, int) else str(name), kind, bool(spec.get("required", True)))


def _why_not(spec: Mapping[str, Any], kind: pa.DataType | None) -> str:
    if '"any"' in json.dumps(spec):
        return (
            "MLflow writes any for what it could not tell, such as a null in the example: log the model with a "
            "signature that says the type"
        )
    if kind is not None:
        return "it has no name, so that it's not known which column it is: log the model with named columns"
    return f"its columns are {', '.join(NAMES)}, and arrays, objects and maps of them"


def _type(spec: Mapping[str, Any]) -> pa.DataType | None:
    """The Arrow type of a column or of a part of one, None for one that is not handed on.

    Objects are structs, whose optional properties are the fields that may be null.
    """
    match spec.get("type"):
        case "array":
            item = _type(spec.get("items") or {})
            return item and pa.list_(item)
        case "sparkml_vector":
            return pa.list_(pa.float64())
        case "map":
            value = _type(spec.get("values") or {})
            return value and pa.map_(pa.string(), value)
        case "object":
            parts = {name: (_type(part), part) for name, part in (spec.get("properties") or {}).items()}
            if not parts or any(kind is None for kind, _ in parts.values()):
                return None
            fields = [pa.field(name, kind, not part.get("required", True)) for name, (kind, part) in parts.items()]
            return pa.struct(fields)
    return NAMES.get(str(spec.get("type")))
