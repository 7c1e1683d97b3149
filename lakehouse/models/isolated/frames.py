"""pandas' frames, series, categories and nullable columns as nodes of a message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lakehouse.models.isolated import arrays, nodes, plain
from lakehouse.models.isolated.nodes import Buffers, Node, NotCarried


def _column(values: Any, buffers: Buffers) -> Node:
    """The values of a series: an array, or one of pandas' own kinds."""
    kind = values.dtype
    if isinstance(kind, pd.CategoricalDtype):
        known = pd.Categorical(values)
        return {
            "codes": arrays.array_node(known.codes, buffers),
            "categories": _index(known.categories, buffers),
            "ordered": bool(known.ordered),
        }
    if isinstance(kind, pd.DatetimeTZDtype):
        utc = pd.Series(values).dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
        return {"utc": arrays.array_node(utc, buffers), "zone": plain.zone_node(kind.tz)}
    if isinstance(kind, pd.StringDtype):
        series = pd.Series(values)
        given = [value if there else None for value, there in zip(series, series.notna(), strict=True)]
        return {"texts": nodes.write(given, buffers), "nullable": getattr(kind, "na_value", pd.NA) is pd.NA}
    if isinstance(kind, getattr(pd, "ArrowDtype", ())):
        return {"arrow": arrays.arrow_node(pa.array(values), buffers)}
    if isinstance(kind, pd.SparseDtype):
        return {"array": arrays.array_node(np.asarray(values), buffers)}
    if isinstance(kind, np.dtype):
        return {"array": arrays.array_node(np.asarray(values), buffers)}
    numbers: Any = getattr(kind, "numpy_dtype", None)
    if numbers is None or numbers.kind not in "biuf":
        raise NotCarried(
            f"the model answers with a column of {kind}, which can't be handed from its own process: let it answer "
            "with numbers, texts, times or categories"
        )
    missing = np.asarray(pd.isna(values))
    filled = pd.Series(values).to_numpy(dtype=numbers, na_value=numbers.type(0))
    return {
        "filled": arrays.array_node(filled, buffers),
        "missing": arrays.array_node(missing, buffers),
        "dtype": str(kind),
    }


def _of_column(node: Node, buffers: Buffers) -> Any:
    if "array" in node:
        return arrays.array_of(node["array"], buffers)
    if "codes" in node:
        categories = _of_index(node["categories"], buffers)
        return pd.Categorical.from_codes(arrays.array_of(node["codes"], buffers), categories, ordered=node["ordered"])
    if "utc" in node:
        utc = pd.Series(arrays.array_of(node["utc"], buffers)).dt.tz_localize("UTC")
        zone = node["zone"]  # pandas has its own kind for a name
        return utc.dt.tz_convert(zone if isinstance(zone, str) else plain.zone_of(zone)).array
    if "texts" in node:
        texts = nodes.read(node["texts"], buffers)
        return pd.array(texts, dtype="string") if node["nullable"] else np.array(texts, object)
    if "arrow" in node:
        return pd.arrays.ArrowExtensionArray(arrays.arrow_of(node["arrow"], buffers))
    made = pd.array(arrays.array_of(node["filled"], buffers), dtype=node["dtype"])
    made[arrays.array_of(node["missing"], buffers)] = pd.NA
    return made


def _index(index: Any, buffers: Buffers) -> Node:
    if isinstance(index, pd.RangeIndex):
        return {"range": [index.start, index.stop, index.step]}
    if isinstance(index, pd.MultiIndex):
        return {"tuples": nodes.write(index.tolist(), buffers)}
    return {"values": _column(index, buffers)}


def _of_index(node: Node, buffers: Buffers) -> Any:
    if "range" in node:
        return pd.RangeIndex(*node["range"])
    if "tuples" in node:
        return pd.MultiIndex.from_tuples(nodes.read(node["tuples"], buffers))
    return pd.Index(_of_column(node["values"], buffers))


def _values_of(series: Any, buffers: Buffers) -> Node:
    """The values of a series, whatever its index."""
    return _column(series.array if not isinstance(series.dtype, np.dtype) else series.to_numpy(), buffers)


def _series(series: Any, buffers: Buffers) -> Node:
    return {
        "values": _values_of(series, buffers),
        "index": _index(series.index, buffers),
        "name": nodes.write([series.name], buffers),
    }


def _of_series(node: Node, buffers: Buffers) -> Any:
    values, index = _of_column(node["values"], buffers), _of_index(node["index"], buffers)
    return _as_series(values, index, nodes.read(node["name"], buffers)[0])


def _as_series(values: Any, index: Any, name: Any = None) -> Any:
    """A series of these values, in which pandas guesses no type."""
    kind = object if isinstance(values, np.ndarray) and values.dtype.hasobject else None
    return pd.Series(values, index=index, name=name, dtype=kind)


def _frame(frame: Any, buffers: Buffers) -> Node:
    return {
        "columns": [_values_of(frame.iloc[:, place], buffers) for place in range(frame.shape[1])],
        "names": _index(frame.columns, buffers),
        "index": _index(frame.index, buffers),
    }


def _of_frame(node: Node, buffers: Buffers) -> Any:
    index = _of_index(node["index"], buffers)
    columns = [_of_column(column, buffers) for column in node["columns"]]
    frame = pd.DataFrame({place: _as_series(c, index) for place, c in enumerate(columns)}, index=index)
    frame.columns = _of_index(node["names"], buffers)
    return frame


KINDS: Mapping[str, nodes.Kind] = {
    "column": nodes.each(_column, _of_column),
    "index": nodes.each(_index, _of_index),
    "series": nodes.each(_series, _of_series),
    "frame": nodes.each(_frame, _of_frame),
}
