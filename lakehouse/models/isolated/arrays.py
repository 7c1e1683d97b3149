"""Arrays of NumPy, of SciPy and of Arrow as nodes of a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse.models.isolated import nodes
from lakehouse.models.isolated.nodes import Buffers, Node, NotCarried


def array_node(array: Any, buffers: Buffers) -> Node:
    array = np.asarray(array)
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    node: Node = {"shape": list(array.shape), "order": order}
    if array.dtype == object:
        return {**node, "objects": nodes.write(array.ravel(order).tolist(), buffers)}
    if array.dtype.hasobject or array.dtype.names or array.dtype.kind not in "biufcmMSU":
        raise NotCarried(
            f"the model answers with an array of {array.dtype}, which can't be handed from its own process: let it "
            "answer with a dict of arrays"
        )
    return {**node, "dtype": array.dtype.str, "at": nodes.put(buffers, array.ravel(order))}


def array_of(node: Node, buffers: Buffers) -> Any:
    if "objects" in node:
        items = nodes.read(node["objects"], buffers)
        flat: Any = np.empty(len(items), object)
        for place, item in enumerate(items):
            flat[place] = item
    else:
        kind = np.dtype(node["dtype"])
        whole = buffers[node["at"]]
        flat = whole.view(kind) if kind.itemsize else np.empty(int(np.prod(node["shape"])), kind)
    return flat.reshape(node["shape"], order=node["order"])


def _arrays(values: Sequence[Any], buffers: Buffers) -> Node:
    """Arrays of one dimension and type together, as there is one a row of lists; others each by itself."""
    first = values[0]
    if len(values) > 1 and all(v.ndim == 1 and v.dtype == first.dtype for v in values) and first.dtype != object:
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        return {"lengths": nodes.put(buffers, lengths), "joined": array_node(np.concatenate(values), buffers)}
    return {"each": [array_node(value, buffers) for value in values]}


def _of_arrays(node: Node, buffers: Buffers) -> list[Any]:
    if "each" in node:
        return [array_of(part, buffers) for part in node["each"]]
    whole, starts = array_of(node["joined"], buffers), nodes.starts(node, buffers)
    return [whole[start:stop].copy() for start, stop in pairwise(starts)]


def _scalars(values: Sequence[Any], buffers: Buffers) -> Node:
    kinds = {value.dtype for value in values}
    if len(kinds) == 1 or (all(kind.kind in "SU" for kind in kinds) and len({kind.kind for kind in kinds}) == 1):
        return {"joined": array_node(np.array(values), buffers)}
    return {"each": [array_node(np.array(value), buffers) for value in values]}


def _of_scalars(node: Node, buffers: Buffers) -> list[Any]:
    return list(array_of(node["joined"], buffers)) if "joined" in node else [
        array_of(part, buffers)[()] for part in node["each"]
    ]  # fmt: skip


def _masked(value: Any, buffers: Buffers) -> list[Node]:
    return [array_node(value.data, buffers), array_node(np.ma.getmaskarray(value), buffers)]


def _of_masked(node: list[Node], buffers: Buffers) -> Any:
    values, mask = node
    return np.ma.MaskedArray(array_of(values, buffers), array_of(mask, buffers))


def _sparse(value: Any, buffers: Buffers) -> list[Any]:
    """By row, column and value."""
    coo = value.tocoo()
    return [[array_node(part, buffers) for part in (coo.data, coo.row, coo.col)], list(value.shape)]


def _of_sparse(node: list[Any], buffers: Buffers) -> Any:
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]  # has no types

    (data, row, column), shape = node
    parts = (array_of(part, buffers) for part in (row, column))
    return csr_matrix((array_of(data, buffers), tuple(parts)), shape=tuple(shape))


def arrow_node(value: Any, buffers: Buffers) -> int:
    """An array of Arrow as a stream of one batch; the number of its buffer."""
    column = value.combine_chunks() if isinstance(value, pa.ChunkedArray) else value
    column = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    sink = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_arrays([column], names=["x"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return nodes.put(buffers, np.frombuffer(sink.getvalue(), np.uint8))


def arrow_of(at: int, buffers: Buffers) -> pa.Array:
    """The array of Arrow in a buffer."""
    with pa.ipc.open_stream(pa.py_buffer(buffers[at])) as reader:
        (batch,) = reader
    batch.validate(full=True)
    return batch.column(0)


KINDS: Mapping[str, nodes.Kind] = {
    "ndarray": (_arrays, _of_arrays),
    "scalar": (_scalars, _of_scalars),
    "masked": nodes.each(_masked, _of_masked),
    "sparse": nodes.each(_sparse, _of_sparse),
    "arrayed": nodes.each(lambda value, buffers: array_node(np.asarray(value), buffers), array_of),
    "arrow": nodes.each(arrow_node, arrow_of),
}
