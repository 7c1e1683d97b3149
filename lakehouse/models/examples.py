"""The input example that a model was logged with: read as JSON and nothing else, as rows of its features."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakehouse.errors import ModelRefused
from lakehouse.models.flavors.calling import is_plain_name
from lakehouse.models.loading import read_description
from lakehouse.models.nested import is_list
from lakehouse.schemas import Feature

_LARGEST = 16 << 20
"""Bytes of an example that is read."""


def input_example(path: Path, features: Sequence[Feature], rows: int) -> pa.RecordBatch | None:
    """At most so many rows of a fetched model's input example, one column a feature, by its name and in its type.

    None where there is none, or none that makes these features by itself.
    """
    try:
        found = _columns(_read(path), [str(f.name) for f in features])
        arrays = [_array(found.get(str(f.name)), f) for f in features]
        example = pa.RecordBatch.from_arrays(arrays, names=[str(f.name) for f in features])
    except (ModelRefused, OSError, ValueError, TypeError, KeyError, LookupError, pa.ArrowException):
        return None
    return example.slice(0, rows) if example.num_rows else None


def _read(path: Path) -> Any:
    """The example's JSON without the parameters that may stand beside it. Raises ValueError for any other form."""
    info = read_description(path).get("saved_input_example_info")
    name = info.get("artifact_path") if isinstance(info, Mapping) else None
    if not isinstance(name, str) or not is_plain_name(name) or not name.endswith(".json"):
        raise ValueError("no input example")
    if (path / name).stat().st_size > _LARGEST:
        raise ValueError("a large input example")
    content = json.loads((path / name).read_text(encoding="utf-8"))
    with_params = isinstance(info, Mapping) and bool(info.get("params")) and set(content) == {"inputs", "params"}
    return content["inputs"] if with_params else content


def _columns(content: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    """The example's values by feature: of a frame split into columns and data, a matrix, or columns by name."""
    if isinstance(content, Mapping) and "inputs" in content:
        content = content["inputs"]
    if isinstance(content, Mapping) and {"columns", "data"} <= set(content):
        columns = [str(column) for column in content["columns"]]
        return {name: [row[at] for row in content["data"]] for at, name in enumerate(columns)}
    if isinstance(content, Mapping):
        return {str(name): list(values) for name, values in content.items() if isinstance(values, list)}
    if len(names) == 1 and isinstance(content[0], list) and len(content[0]) != 1:
        return {names[0]: list(content)}
    return {name: [row[at] for row in content] for at, name in enumerate(names)}


def _array(values: list[Any] | None, feature: Feature) -> pa.Array:
    if values is None:
        raise KeyError(feature.name)
    if feature.required and None in values and not pa.types.is_floating(feature.type):
        raise ValueError(f"{feature.name}: a null")
    if pa.types.is_timestamp(feature.type):
        return pa.array(values, pa.string()).cast(feature.type)
    if pa.types.is_binary(feature.type):
        return pa.array([None if v is None else base64.b64decode(v, validate=True) for v in values], feature.type)
    if pa.types.is_floating(feature.type) or is_list(feature.type):
        return pa.array(values, feature.type)
    made = pa.array(values)  # texts stay texts, and no fraction is cut
    return made if made.type == feature.type else made.cast(feature.type)
