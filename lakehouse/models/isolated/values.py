"""A model's answer as plain structure and buffers, column by column, and back again: the same, bit for bit.

NumPy arrays of any type and rank, masked and sparse ones, pandas' frames, series, categories and nullable types, Arrow
arrays, dates, decimals, and lists, tuples and mappings of them all. What is none of these is refused in words.
"""

from __future__ import annotations

import datetime as dt
import decimal
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

Node = dict[str, Any]
Buffers = list[Any]
_UTC = dt.timezone(dt.timedelta(0))


class NotCarried(TypeError):
    """A value of a kind that can't be handed from one process to another without pickling it."""


def encode(value: Any) -> tuple[Node, Buffers]:
    """A value as a node of a message's head and its buffers. Raises NotCarried."""
    buffers: Buffers = []
    return _list([value], buffers), buffers


def decode(node: Node, buffers: Buffers) -> Any:
    """The value that `encode` was given."""
    (value,) = _READ[node["k"]](node, buffers)
    return value


def _put(buffers: Buffers, array: Any) -> int:
    flat = np.ascontiguousarray(array).reshape(-1)
    buffers.append(flat.view(np.uint8) if flat.nbytes else np.empty(0, np.uint8))
    return len(buffers) - 1


def _list(values: Sequence[Any], buffers: Buffers) -> Node:
    """Values of one kind side by side; of several kinds, those of each, and which each is of."""
    kinds: dict[str, int] = {}
    codes = [kinds.setdefault(_kind(value), len(kinds)) for value in values]
    if len(kinds) == 1:
        (kind,) = kinds
        return {"k": kind, "n": len(values), **_WRITE[kind](values, buffers)}
    parts = []
    for number, kind in enumerate(kinds):
        own = [value for value, code in zip(values, codes, strict=True) if code == number]
        parts.append({"k": kind, "n": len(own), **_WRITE[kind](own, buffers)})
    return {"k": "union", "codes": _put(buffers, np.array(codes, np.uint8)), "parts": parts}


def _of_union(node: Node, buffers: Buffers) -> list[Any]:
    parts = [iter(_READ[part["k"]](part, buffers)) for part in node["parts"]]
    return [next(parts[code]) for code in buffers[node["codes"]].tolist()]


_EXACT: dict[type, str] = {
    type(None): "none", bool: "bool", int: "int", float: "float", complex: "complex", str: "str", bytes: "bytes",
    list: "list", tuple: "tuple", dict: "dict", dt.date: "date", dt.datetime: "datetime", dt.timedelta: "timedelta",
    decimal.Decimal: "decimal", np.ndarray: "ndarray", pd.DataFrame: "frame", pd.Series: "series",
    pd.Timestamp: "stamp", pd.Timedelta: "span", pd.Categorical: "column", type(pd.NaT): "nat", type(pd.NA): "na",
}  # fmt: skip


def _kind(value: Any) -> str:
    found = _EXACT.get(type(value))
    if found is None:
        found = _kind_of_other(value)
    return found


def _kind_of_other(value: Any) -> str:
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
    for kind, name in _BASES:
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


_BASES: list[tuple[type, str]] = [
    (pd.DataFrame, "frame"), (pd.Series, "series"), (np.ndarray, "ndarray"), (Mapping, "dict"), (tuple, "tuple"),
    (list, "list"), (str, "str"), (bytes, "bytes"), (int, "int"), (float, "float"),
]  # fmt: skip
"""What others are a kind of, such as named tuples and a library's own dicts."""


# Plain values.


def _nothing(values: Sequence[Any], buffers: Buffers) -> Node:
    return {}


def _always(value: Any) -> Callable[[Node, Buffers], list[Any]]:
    return lambda node, buffers: [value] * int(node["n"])


def _numbers(kind: str) -> Callable[[Sequence[Any], Buffers], Node]:
    return lambda values, buffers: {"at": _put(buffers, np.array(values, kind))}


def _of_numbers(kind: str) -> Callable[[Node, Buffers], list[Any]]:
    return lambda node, buffers: list(buffers[node["at"]].view(kind).tolist())


def _ints(values: Sequence[int], buffers: Buffers) -> Node:
    if all(-(2**63) <= value < 2**63 for value in values):
        return {"at": _put(buffers, np.array([int(v) for v in values], np.int64))}
    return {"long": [str(int(value)) for value in values]}


def _of_ints(node: Node, buffers: Buffers) -> list[int]:
    return list(map(int, node["long"])) if "long" in node else buffers[node["at"]].view(np.int64).tolist()


def _texts(values: Sequence[str], buffers: Buffers) -> Node:
    return _bytes([value.encode("utf-8", "surrogatepass") for value in values], buffers)


def _of_texts(node: Node, buffers: Buffers) -> list[str]:
    return [value.decode("utf-8", "surrogatepass") for value in _of_bytes(node, buffers)]


def _bytes(values: Sequence[bytes], buffers: Buffers) -> Node:
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    return {"lengths": _put(buffers, lengths), "at": _put(buffers, np.frombuffer(b"".join(values), np.uint8))}


def _of_bytes(node: Node, buffers: Buffers) -> list[bytes]:
    whole, starts = buffers[node["at"]].tobytes(), _starts(node, buffers)
    return [whole[start:stop] for start, stop in pairwise(starts)]


def _starts(node: Node, buffers: Buffers) -> list[int]:
    return [0, *np.cumsum(buffers[node["lengths"]].view(np.int64)).tolist()]


# Lists and mappings.


def _lists(values: Sequence[Sequence[Any]], buffers: Buffers) -> Node:
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    inner = [item for value in values for item in value]
    return {"lengths": _put(buffers, lengths), "items": _list(inner, buffers)}


def _of_lists(made: Callable[[list[Any]], Any]) -> Callable[[Node, Buffers], list[Any]]:
    def read(node: Node, buffers: Buffers) -> list[Any]:
        items, starts = _READ[node["items"]["k"]](node["items"], buffers), _starts(node, buffers)
        return [made(items[start:stop]) for start, stop in pairwise(starts)]

    return read


def _dicts(values: Sequence[Mapping[Any, Any]], buffers: Buffers) -> Node:
    keys = list(values[0])
    if all(list(value) == keys for value in values):  # a column a key
        columns = [_list([value[key] for value in values], buffers) for key in keys]
        return {"keys": _list(keys, buffers), "columns": columns}
    return {
        "names": _list([list(value) for value in values], buffers),
        "values": _list([list(value.values()) for value in values], buffers),
    }


def _of_dicts(node: Node, buffers: Buffers) -> list[dict[Any, Any]]:
    def read(part: str) -> list[Any]:
        return _READ[node[part]["k"]](node[part], buffers)

    if "keys" not in node:
        return [dict(zip(*pair, strict=True)) for pair in zip(read("names"), read("values"), strict=True)]
    keys, columns = read("keys"), [_READ[part["k"]](part, buffers) for part in node["columns"]]
    if not columns:
        return [{} for _ in range(node["n"])]
    return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]


# Dates and the like.


def _zone(value: dt.tzinfo | None) -> str | int | None:
    """A time zone by its name, or its seconds from UTC."""
    if value is None:
        return None
    if not isinstance(value, dt.timezone):
        try:
            return str(zoneinfo.ZoneInfo(str(value)).key)
        except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
            pass
    offset = value.utcoffset(None)
    if offset is None:
        raise NotCarried(f"the model answers with times of the zone {value!r}, which has no name: let it answer in UTC")
    return int(offset.total_seconds())


def _of_zone(said: str | int | None) -> dt.tzinfo | None:
    if said is None or isinstance(said, str):
        return None if said is None else zoneinfo.ZoneInfo(said)
    return dt.timezone(dt.timedelta(seconds=said)) if said else _UTC


def _datetimes(values: Sequence[dt.datetime], buffers: Buffers) -> Node:
    plain = [value if value.tzinfo is None else value.astimezone(_UTC) for value in values]
    micros = np.array([value.replace(tzinfo=None) for value in plain], "M8[us]")
    return {"at": _put(buffers, micros.view(np.int64)), "zones": [_zone(value.tzinfo) for value in values]}


def _of_datetimes(node: Node, buffers: Buffers) -> list[dt.datetime]:
    made = buffers[node["at"]].view("M8[us]").tolist()
    zones = [_of_zone(said) for said in node["zones"]]
    return [v if z is None else v.replace(tzinfo=_UTC).astimezone(z) for v, z in zip(made, zones, strict=True)]


def _decimals(values: Sequence[decimal.Decimal], buffers: Buffers) -> Node:
    return {"texts": _list([str(value) for value in values], buffers)}


def _of_decimals(node: Node, buffers: Buffers) -> list[decimal.Decimal]:
    return [decimal.Decimal(text) for text in _of_texts(node["texts"], buffers)]


def _stamps(values: Sequence[pd.Timestamp], buffers: Buffers) -> Node:
    each = [
        [int(v.to_numpy().view(np.int64)), np.datetime_data(v.to_numpy().dtype)[0], _zone(v.tzinfo)] for v in values
    ]
    return {"each": each}


def _of_stamps(node: Node, buffers: Buffers) -> list[Any]:
    made = [(pd.Timestamp(np.datetime64(value, unit)), _of_zone(zone)) for value, unit, zone in node["each"]]
    return [stamp if zone is None else stamp.tz_localize("UTC").tz_convert(zone) for stamp, zone in made]


def _spans(values: Sequence[pd.Timedelta], buffers: Buffers) -> Node:
    arrays = [value.to_timedelta64() for value in values]
    return {"each": [[int(v.view(np.int64)), np.datetime_data(v.dtype)[0]] for v in arrays]}


def _of_spans(node: Node, buffers: Buffers) -> list[Any]:
    return [pd.Timedelta(np.timedelta64(value, unit)) for value, unit in node["each"]]


# Arrays.


def _array(array: Any, buffers: Buffers) -> Node:
    array = np.asarray(array)
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    node: Node = {"shape": list(array.shape), "order": order}
    if array.dtype == object:
        return {**node, "objects": _list(array.ravel(order).tolist(), buffers)}
    if array.dtype.hasobject or array.dtype.names or array.dtype.kind not in "biufcmMSU":
        raise NotCarried(
            f"the model answers with an array of {array.dtype}, which can't be handed from its own process: let it "
            "answer with a dict of arrays"
        )
    return {**node, "dtype": array.dtype.str, "at": _put(buffers, array.ravel(order))}


def _of_array(node: Node, buffers: Buffers) -> Any:
    if "objects" in node:
        items = _READ[node["objects"]["k"]](node["objects"], buffers)
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
        return {"lengths": _put(buffers, lengths), "joined": _array(np.concatenate(values), buffers)}
    return {"each": [_array(value, buffers) for value in values]}


def _of_arrays(node: Node, buffers: Buffers) -> list[Any]:
    if "each" in node:
        return [_of_array(part, buffers) for part in node["each"]]
    whole, starts = _of_array(node["joined"], buffers), _starts(node, buffers)
    return [whole[start:stop].copy() for start, stop in pairwise(starts)]


def _scalars(values: Sequence[Any], buffers: Buffers) -> Node:
    kinds = {value.dtype for value in values}
    if len(kinds) == 1 or (all(kind.kind in "SU" for kind in kinds) and len({kind.kind for kind in kinds}) == 1):
        return {"joined": _array(np.array(values), buffers)}
    return {"each": [_array(np.array(value), buffers) for value in values]}


def _of_scalars(node: Node, buffers: Buffers) -> list[Any]:
    return list(_of_array(node["joined"], buffers)) if "joined" in node else [
        _of_array(part, buffers)[()] for part in node["each"]
    ]  # fmt: skip


def _masked(values: Sequence[Any], buffers: Buffers) -> Node:
    return {"each": [[_array(v.data, buffers), _array(np.ma.getmaskarray(v), buffers)] for v in values]}


def _of_masked(node: Node, buffers: Buffers) -> list[Any]:
    return [np.ma.MaskedArray(_of_array(a, buffers), _of_array(m, buffers)) for a, m in node["each"]]


def _sparse(values: Sequence[Any], buffers: Buffers) -> Node:
    """By row, column and value."""
    each = []
    for value in values:
        coo = value.tocoo()
        each.append([[_array(part, buffers) for part in (coo.data, coo.row, coo.col)], list(value.shape)])
    return {"each": each}


def _of_sparse(node: Node, buffers: Buffers) -> list[Any]:
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]  # has no types

    made = []
    for (data, row, column), shape in node["each"]:
        parts = (_of_array(part, buffers) for part in (row, column))
        made.append(csr_matrix((_of_array(data, buffers), tuple(parts)), shape=tuple(shape)))
    return made


def _arrayed(values: Sequence[Any], buffers: Buffers) -> Node:
    return {"each": [_array(np.asarray(value), buffers) for value in values]}


def _arrow(values: Sequence[Any], buffers: Buffers) -> Node:
    each = []
    for value in values:
        column = value.combine_chunks() if isinstance(value, pa.ChunkedArray) else value
        column = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
        sink = pa.BufferOutputStream()
        batch = pa.RecordBatch.from_arrays([column], names=["x"])
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        each.append(_put(buffers, np.frombuffer(sink.getvalue(), np.uint8)))
    return {"each": each}


def _of_arrow(node: Node, buffers: Buffers) -> list[Any]:
    made = []
    for at in node["each"]:
        with pa.ipc.open_stream(pa.py_buffer(buffers[at])) as reader:
            (batch,) = reader
        batch.validate(full=True)
        made.append(batch.column(0))
    return made


# pandas.


def _column(values: Any, buffers: Buffers) -> Node:
    """The values of a series: an array, or one of pandas' own kinds."""
    kind = values.dtype
    if isinstance(kind, pd.CategoricalDtype):
        known = pd.Categorical(values)
        return {
            "codes": _array(known.codes, buffers),
            "categories": _index(known.categories, buffers),
            "ordered": bool(known.ordered),
        }
    if isinstance(kind, pd.DatetimeTZDtype):
        utc = pd.Series(values).dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
        return {"utc": _array(utc, buffers), "zone": _zone(kind.tz)}
    if isinstance(kind, pd.StringDtype):
        series = pd.Series(values)
        given = [value if there else None for value, there in zip(series, series.notna(), strict=True)]
        return {"texts": _list(given, buffers), "nullable": getattr(kind, "na_value", pd.NA) is pd.NA}
    if isinstance(kind, getattr(pd, "ArrowDtype", ())):
        return {"arrow": _arrow([pa.array(values)], buffers)}
    if isinstance(kind, pd.SparseDtype):
        return {"array": _array(np.asarray(values), buffers)}
    if isinstance(kind, np.dtype):
        return {"array": _array(np.asarray(values), buffers)}
    plain = getattr(kind, "numpy_dtype", None)
    if plain is None or plain.kind not in "biuf":
        raise NotCarried(
            f"the model answers with a column of {kind}, which can't be handed from its own process: let it answer "
            "with numbers, texts, times or categories"
        )
    missing = np.asarray(pd.isna(values))
    filled = pd.Series(values).to_numpy(dtype=plain, na_value=plain.type(0))
    return {"filled": _array(filled, buffers), "missing": _array(missing, buffers), "dtype": str(kind)}


def _of_column(node: Node, buffers: Buffers) -> Any:
    if "array" in node:
        return _of_array(node["array"], buffers)
    if "codes" in node:
        categories = _of_index(node["categories"], buffers)
        return pd.Categorical.from_codes(_of_array(node["codes"], buffers), categories, ordered=node["ordered"])
    if "utc" in node:
        utc = pd.Series(_of_array(node["utc"], buffers)).dt.tz_localize("UTC")
        zone = node["zone"]  # pandas has its own kind for a name
        return utc.dt.tz_convert(zone if isinstance(zone, str) else _of_zone(zone)).array
    if "texts" in node:
        texts = _READ[node["texts"]["k"]](node["texts"], buffers)
        return pd.array(texts, dtype="string") if node["nullable"] else np.array(texts, object)
    if "arrow" in node:
        (column,) = _of_arrow(node["arrow"], buffers)
        return pd.arrays.ArrowExtensionArray(column)
    made = pd.array(_of_array(node["filled"], buffers), dtype=node["dtype"])
    made[_of_array(node["missing"], buffers)] = pd.NA
    return made


def _columns(values: Sequence[Any], buffers: Buffers) -> Node:
    return {"each": [_column(value, buffers) for value in values]}


def _of_columns(node: Node, buffers: Buffers) -> list[Any]:
    return [_of_column(part, buffers) for part in node["each"]]


def _index(index: Any, buffers: Buffers) -> Node:
    if isinstance(index, pd.RangeIndex):
        return {"range": [index.start, index.stop, index.step]}
    if isinstance(index, pd.MultiIndex):
        return {"tuples": _list(index.tolist(), buffers)}
    return {"values": _column(index, buffers)}


def _of_index(node: Node, buffers: Buffers) -> Any:
    if "range" in node:
        return pd.RangeIndex(*node["range"])
    if "tuples" in node:
        return pd.MultiIndex.from_tuples(_READ[node["tuples"]["k"]](node["tuples"], buffers))
    return pd.Index(_of_column(node["values"], buffers))


def _indices(values: Sequence[Any], buffers: Buffers) -> Node:
    return {"each": [_index(value, buffers) for value in values]}


def _of_indices(node: Node, buffers: Buffers) -> list[Any]:
    return [_of_index(part, buffers) for part in node["each"]]


def _series(values: Sequence[Any], buffers: Buffers) -> Node:
    each = [
        {
            "values": _column(v.array if not isinstance(v.dtype, np.dtype) else v.to_numpy(), buffers),
            "index": _index(v.index, buffers),
            "name": _list([v.name], buffers),
        }
        for v in values
    ]
    return {"each": each}


def _of_series(node: Node, buffers: Buffers) -> list[Any]:
    made = []
    for part in node["each"]:
        values, index = _of_column(part["values"], buffers), _of_index(part["index"], buffers)
        made.append(_as_series(values, index, decode(part["name"], buffers)))
    return made


def _as_series(values: Any, index: Any, name: Any = None) -> Any:
    """A series of these values, in which pandas guesses no type."""
    kind = object if isinstance(values, np.ndarray) and values.dtype.hasobject else None
    return pd.Series(values, index=index, name=name, dtype=kind)


def _frames(values: Sequence[Any], buffers: Buffers) -> Node:
    each = []
    for frame in values:
        columns = [frame.iloc[:, place] for place in range(frame.shape[1])]
        each.append(
            {
                "columns": [
                    _column(c.array if not isinstance(c.dtype, np.dtype) else c.to_numpy(), buffers) for c in columns
                ],
                "names": _index(frame.columns, buffers),
                "index": _index(frame.index, buffers),
            }
        )
    return {"each": each}


def _of_frames(node: Node, buffers: Buffers) -> list[Any]:
    made = []
    for part in node["each"]:
        index = _of_index(part["index"], buffers)
        columns = [_of_column(column, buffers) for column in part["columns"]]
        frame = pd.DataFrame(
            {place: _as_series(c, index) for place, c in enumerate(columns)},
            index=index,
        )
        frame.columns = _of_index(part["names"], buffers)
        made.append(frame)
    return made


_WRITE: dict[str, Callable[[Sequence[Any], Buffers], Node]] = {
    "none": _nothing, "nat": _nothing, "na": _nothing, "bool": _numbers("?"), "int": _ints, "float": _numbers("<f8"),
    "complex": _numbers("<c16"), "str": _texts, "bytes": _bytes, "list": _lists, "tuple": _lists, "dict": _dicts,
    "date": _numbers("M8[D]"), "timedelta": _numbers("m8[us]"), "datetime": _datetimes, "decimal": _decimals,
    "stamp": _stamps, "span": _spans, "ndarray": _arrays, "scalar": _scalars, "masked": _masked, "sparse": _sparse,
    "arrayed": _arrayed, "arrow": _arrow, "column": _columns, "index": _indices, "series": _series, "frame": _frames,
}  # fmt: skip
_READ: dict[str, Callable[[Node, Buffers], list[Any]]] = {
    "none": _always(None), "nat": _always(pd.NaT), "na": _always(pd.NA), "bool": _of_numbers("?"), "int": _of_ints,
    "float": _of_numbers("<f8"), "complex": _of_numbers("<c16"), "str": _of_texts, "bytes": _of_bytes,
    "list": _of_lists(list), "tuple": _of_lists(tuple), "dict": _of_dicts, "date": _of_numbers("M8[D]"),
    "timedelta": _of_numbers("m8[us]"), "datetime": _of_datetimes, "decimal": _of_decimals, "stamp": _of_stamps,
    "span": _of_spans, "ndarray": _of_arrays, "scalar": _of_scalars, "masked": _of_masked, "sparse": _of_sparse,
    "arrayed": _of_arrays, "arrow": _of_arrow, "column": _of_columns, "index": _of_indices, "series": _of_series,
    "frame": _of_frames, "union": _of_union,
}  # fmt: skip
