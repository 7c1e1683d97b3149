"""The nodes that an answer is made of: values of one kind side by side, in a list; their bytes are in buffers.

Which kind a value is of is known here; how each kind is written and read, in `plain`, `arrays` and `frames`.
"""

from __future__ import annotations

import datetime as dt
import decimal
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

Node = dict[str, Any]
Buffers = list[Any]
Kind = tuple[Callable[[Sequence[Any], Buffers], Node], Callable[[Node, Buffers], list[Any]]]
"""How values of a kind are written, and how they are read again."""


def each(write_one: Callable[[Any, Buffers], Any], read_one: Callable[[Any, Buffers], Any]) -> Kind:
    """A kind whose values are written one by one, since they have nothing in common."""
    return (
        lambda values, buffers: {"each": [write_one(value, buffers) for value in values]},
        lambda node, buffers: [read_one(part, buffers) for part in node["each"]],
    )


class NotCarried(TypeError):
    """A value of a kind that can't be handed from one process to another without pickling it."""


def put(buffers: Buffers, array: Any) -> int:
    """An array's bytes as one more buffer; its number."""
    flat = np.ascontiguousarray(array).reshape(-1)
    buffers.append(flat.view(np.uint8) if flat.nbytes else np.empty(0, np.uint8))
    return len(buffers) - 1


def starts(node: Node, buffers: Buffers) -> list[int]:
    """Where each value begins, and the last one ends, of those whose lengths are in a node's buffer."""
    return [0, *np.cumsum(buffers[node["lengths"]].view(np.int64)).tolist()]


def write(values: Sequence[Any], buffers: Buffers) -> Node:
    """Values of one kind side by side; of several kinds, those of each, and which each is of. Raises NotCarried."""
    numbers: dict[str, int] = {}
    codes = [numbers.setdefault(_kind(value), len(numbers)) for value in values]
    if len(numbers) == 1:
        (kind,) = numbers
        return {"k": kind, "n": len(values), **_kinds()[kind][0](values, buffers)}
    parts = []
    for number, kind in enumerate(numbers):
        own = [value for value, code in zip(values, codes, strict=True) if code == number]
        parts.append({"k": kind, "n": len(own), **_kinds()[kind][0](own, buffers)})
    return {"k": "union", "codes": put(buffers, np.array(codes, np.uint8)), "parts": parts}


def read(node: Node, buffers: Buffers) -> list[Any]:
    """The values that `write` was given."""
    if node["k"] != "union":
        return _kinds()[node["k"]][1](node, buffers)
    parts = [iter(read(part, buffers)) for part in node["parts"]]
    return [next(parts[code]) for code in buffers[node["codes"]].tolist()]


@functools.cache
def _kinds() -> Mapping[str, Kind]:
    from lakehouse.models.isolated import arrays, frames, plain

    return {**plain.KINDS, **arrays.KINDS, **frames.KINDS}


@functools.cache
def _exact() -> Mapping[type, str]:
    import pandas as pd

    return {
        type(None): "none", bool: "bool", int: "int", float: "float", complex: "complex", str: "str", bytes: "bytes",
        list: "list", tuple: "tuple", dict: "dict", dt.date: "date", dt.datetime: "datetime", dt.timedelta: "timedelta",
        decimal.Decimal: "decimal", np.ndarray: "ndarray", pd.DataFrame: "frame", pd.Series: "series",
        pd.Timestamp: "stamp", pd.Timedelta: "span", pd.Categorical: "column", type(pd.NaT): "nat", type(pd.NA): "na",
    }  # fmt: skip


def _kind(value: Any) -> str:
    found = _exact().get(type(value))
    if found is None:
        found = _kind_of_other(value)
    return found


def _kind_of_other(value: Any) -> str:
    import pandas as pd

    if isinstance(value, np.generic):
        return "scalar"
    if isinstance(value, (pa.Array, pa.ChunkedArray)):
        return "arrow"
    if isinstance(value, np.ma.MaskedArray):
        return "masked"
    if isinstance(value, pd.Index):
        return "index"
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return "column"
    for kind, name in _bases():
        if isinstance(value, kind):
            return name
    if hasattr(value, "toarray") and hasattr(value, "tocoo"):
        return "sparse"
    if hasattr(value, "__array__"):  # tensors of the other libraries
        return "arrayed"
    raise NotCarried(
        f"the model answers with {type(value).__module__}.{type(value).__qualname__}, which can't be handed from its "
        "own process: let it answer with arrays, pandas' objects, lists, or texts and numbers"
    )


@functools.cache
def _bases() -> Sequence[tuple[type, str]]:
    """What others are a kind of, such as named tuples and a library's own dicts."""
    import pandas as pd

    return [
        (pd.DataFrame, "frame"), (pd.Series, "series"), (np.ndarray, "ndarray"), (Mapping, "dict"), (tuple, "tuple"),
        (list, "list"), (str, "str"), (bytes, "bytes"), (int, "int"), (float, "float"),
    ]  # fmt: skip
