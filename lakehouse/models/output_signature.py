"""What a model's signature says of its outputs: the types that predictions are declared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.models.conversions import NAMES


def output_type(outputs: Sequence[dict[str, Any]], part: int | str) -> pa.DataType | None:
    """The type that the output signature (MLflow's own JSON form) declares for a part; None where it says nothing.

    `part`: a column's number, a name, or "*" for the whole output.
    """
    names = [str(spec.get("name", "")) for spec in outputs]
    if isinstance(part, str) and part in names:
        part, outputs = "*", [outputs[names.index(part)]]
    if len(outputs) == 1 and outputs[0].get("type") == "tensor":
        return _tensor_part(outputs[0].get("tensor-spec", {}), part)
    if isinstance(part, int) and part < len(outputs):
        return _declared_type(outputs[part])
    return _declared_type(outputs[0]) if len(outputs) == 1 and part == "*" else None


def _tensor_part(spec: dict[str, Any], part: int | str) -> pa.DataType | None:
    shape, dtype = spec.get("shape", []), str(spec.get("dtype"))
    try:
        kind = pa.from_numpy_dtype(np.dtype(dtype))
    except (TypeError, ValueError, NotImplementedError, pa.ArrowNotImplementedError):
        return pa.string() if dtype == "str" and len(shape) == 1 else None
    single = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
    if single or (len(shape) == 2 and isinstance(part, int)):
        return kind
    if part != "*":
        return None
    for _ in shape[1:]:
        kind = pa.list_(kind)
    return kind


def _declared_type(spec: dict[str, Any]) -> pa.DataType | None:
    """A column of the output signature, or a part of one, as Arrow."""
    named = str(spec.get("type"))
    if named == "array":
        item = _declared_type(spec.get("items") or {})
        return None if item is None else pa.list_(item)
    if named == "map":
        value = _declared_type(spec.get("values") or {})
        return None if value is None else pa.map_(pa.string(), value)
    if named == "object":
        fields = {name: _declared_type(part) for name, part in (spec.get("properties") or {}).items()}
        return None if None in fields.values() else pa.struct(fields)
    return pa.timestamp("us") if named == "datetime" else NAMES.get(named)  # as tables store it
