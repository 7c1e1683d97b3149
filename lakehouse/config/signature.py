"""`model.signature`: what a model takes and gives, where whoever logged it did not say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from lakehouse.config.messages import describe_value
from lakehouse.config.values import Section
from lakehouse.errors import nearest

TYPES = ("boolean", "integer", "long", "float", "double", "string", "binary", "datetime")
"""MLflow's names of types; `array<double>` is a list of one of them, or of arrays."""
DTYPES = (
    "float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
    "str", "object", "datetime64[ns]",
)  # fmt: skip
"""NumPy's names of what an array may hold."""

_ARRAY = re.compile(r"array<(.*)>")
_PATTERN = rf"^(array<)*({'|'.join(TYPES)})>*$"


def _require_type(value: object, where: str) -> str:
    """A type's name as it stands. Raises ValueError for another, with the nearest."""
    if not isinstance(value, str):
        raise ValueError(f"{where}must be a type such as double, not {describe_value(value)}")
    item = value
    while array := _ARRAY.fullmatch(item):
        item = array[1]
    if item not in TYPES:
        raise ValueError(f"{where}{item!r} is no type of MLflow's, {nearest(item, (*TYPES, 'array<double>'))}")
    return value


def _mapping(value: object, wanted: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping) or not value:
        found = "an empty section" if isinstance(value, Mapping) else describe_value(value)
        raise ValueError(f"must be {wanted}, not {found}")
    for name in value:
        if not isinstance(name, str) or not name:
            raise ValueError(f"the name must be text, not {describe_value(name)}: put it in quotes")
    return value


def _inputs(value: object) -> object:
    """Columns, each with its type, or one array; a column that is required is its type's name alone."""
    given = _mapping(value, "columns, each with its type, or {tensor: float32, shape: [-1, 20]}")
    if set(given) == {"tensor", "shape"} and isinstance(given["shape"], list | tuple):
        return _tensor(given["tensor"], list(given["shape"]))
    return {name: _column(name, kind) for name, kind in given.items()}


def _tensor(dtype: object, shape: list[object]) -> dict[str, object]:
    if dtype not in DTYPES:
        raise ValueError(f"tensor: {dtype!r} is no type of an array, {nearest(str(dtype), DTYPES)}")
    if not shape or shape[0] != -1 or any(type(size) is not int or (size != -1 and size < 1) for size in shape):
        raise ValueError(f"shape: must be [-1, columns], of any number of rows, or have more dimensions, not {shape}")
    return {"tensor": dtype, "shape": shape}


def _column(name: str, value: object) -> object:
    if not isinstance(value, Mapping):
        return _require_type(value, f"{name}: ")
    for key in value:
        if key not in ("type", "required"):
            raise ValueError(f"{name}: unknown key {key!r}, {nearest(str(key), ('type', 'required'))}")
    kind, required = _require_type(value.get("type"), f"{name}.type: "), value.get("required", True)
    if not isinstance(required, bool):
        raise ValueError(f"{name}.required: must be true or false, not {describe_value(required)}")
    return kind if required else {"type": kind, "required": False}


def _outputs(value: object) -> object:
    if value is None or isinstance(value, str):
        return value if value is None else _require_type(value, "")
    named = _mapping(value, "a type, or names each with a type")
    return {name: _require_type(kind, f"{name}: ") for name, kind in named.items()}


def _params(value: object) -> object:
    if value in (None, {}):
        return {}
    named = _mapping(value, "names, each with a type")
    for name, kind in named.items():
        if _require_type(kind, f"{name}: ").startswith("array<array<") or "binary" in str(kind):
            raise ValueError(f"{name}: a parameter is a single value or a list of such, not {kind}")
    return dict(named)


_TYPE: dict[str, Any] = {"type": "string", "pattern": _PATTERN}
_COLUMN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {**_TYPE, "description": "the type's name in MLflow"},
        "required": {"type": "boolean", "default": True, "description": "whether a row needs a value of it"},
    },
    "required": ["type"],
    "additionalProperties": False,
}
_TENSOR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "tensor": {"enum": list(DTYPES), "type": "string", "description": "the array's type in NumPy"},
        "shape": {
            "type": "array",
            "items": {"type": "integer"},
            "minItems": 1,
            "description": "rows, which are -1 for any number, and columns, or more dimensions",
        },
    },
    "required": ["tensor", "shape"],
    "additionalProperties": False,
}


def _names(each: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": dict(each), "minProperties": 1}


Inputs = Annotated[
    Any,
    BeforeValidator(_inputs),
    WithJsonSchema({"anyOf": [_TENSOR, _names({"anyOf": [_TYPE, _COLUMN]})]}),
]
Outputs = Annotated[Any, BeforeValidator(_outputs), WithJsonSchema({"anyOf": [_TYPE, _names(_TYPE), {"type": "null"}]})]
Params = Annotated[
    Any, BeforeValidator(_params), WithJsonSchema({"type": "object", "additionalProperties": dict(_TYPE)})
]


class Signature(Section):
    """What a model without a signature takes and gives, in MLflow's types: boolean, integer (32 bits), long (64 bits),
    float (32 bits), double (64 bits), string, binary, datetime, and arrays such as `array<double>`."""

    inputs: Inputs = Field(
        description="the features: each with its type, or {type: …, required: false} for one that may be missing; "
        "{tensor: float32, shape: [-1, 20]} for a model that takes an array",
        examples=[{"age": "double", "country": {"type": "string", "required": False}}],
    )
    outputs: Outputs = Field(
        None,
        description="the type of its answer, or names each with one; default: as it answers to a few rows",
        examples=["double"],
    )
    params: Params = Field(
        {}, description="parameters that params may set, each with its type", examples=[{"num_beams": "long"}]
    )
