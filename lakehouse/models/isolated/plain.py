"""Plain values, lists, mappings and dates as nodes of a message: values of one kind side by side."""

from __future__ import annotations

import datetime as dt
import decimal
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from lakehouse.models.isolated import nodes
from lakehouse.models.isolated.nodes import Buffers, Node, NotCarried

_UTC = dt.timezone(dt.timedelta(0))


def _nothing(values: Sequence[Any], buffers: Buffers) -> Node:
    return {}


def _always(value: Any) -> Callable[[Node, Buffers], list[Any]]:
    return lambda node, buffers: [value] * int(node["n"])


def _numbers(kind: str) -> Callable[[Sequence[Any], Buffers], Node]:
    return lambda values, buffers: {"at": nodes.put(buffers, np.array(values, kind))}


def _of_numbers(kind: str) -> Callable[[Node, Buffers], list[Any]]:
    return lambda node, buffers: list(buffers[node["at"]].view(kind).tolist())


def _ints(values: Sequence[int], buffers: Buffers) -> Node:
    if all(-(2**63) <= value < 2**63 for value in values):
        return {"at": nodes.put(buffers, np.array([int(v) for v in values], np.int64))}
    return {"long": [str(int(value)) for value in values]}


def _of_ints(node: Node, buffers: Buffers) -> list[int]:
    return list(map(int, node["long"])) if "long" in node else buffers[node["at"]].view(np.int64).tolist()


def _texts(values: Sequence[str], buffers: Buffers) -> Node:
    return _bytes([value.encode("utf-8", "surrogatepass") for value in values], buffers)


def _of_texts(node: Node, buffers: Buffers) -> list[str]:
    return [value.decode("utf-8", "surrogatepass") for value in _of_bytes(node, buffers)]


def _bytes(values: Sequence[bytes], buffers: Buffers) -> Node:
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    return {"lengths": nodes.put(buffers, lengths), "at": nodes.put(buffers, np.frombuffer(b"".join(values), np.uint8))}


def _of_bytes(node: Node, buffers: Buffers) -> list[bytes]:
    whole, starts = buffers[node["at"]].tobytes(), nodes.starts(node, buffers)
    return [whole[start:stop] for start, stop in pairwise(starts)]


def _lists(values: Sequence[Sequence[Any]], buffers: Buffers) -> Node:
    lengths = np.fromiter(map(len, values), np.int64, len(values))
    inner = [item for value in values for item in value]
    return {"lengths": nodes.put(buffers, lengths), "items": nodes.write(inner, buffers)}


def _of_lists(made: Callable[[list[Any]], Any]) -> Callable[[Node, Buffers], list[Any]]:
    def read(node: Node, buffers: Buffers) -> list[Any]:
        items, starts = nodes.read(node["items"], buffers), nodes.starts(node, buffers)
        return [made(items[start:stop]) for start, stop in pairwise(starts)]

    return read


def _dicts(values: Sequence[Mapping[Any, Any]], buffers: Buffers) -> Node:
    keys = list(values[0])
    if all(list(value) == keys for value in values):  # a column a key
        columns = [nodes.write([value[key] for value in values], buffers) for key in keys]
        return {"keys": nodes.write(keys, buffers), "columns": columns}
    return {
        "names": nodes.write([list(value) for value in values], buffers),
        "values": nodes.write([list(value.values()) for value in values], buffers),
    }


def _of_dicts(node: Node, buffers: Buffers) -> list[dict[Any, Any]]:
    def read(part: str) -> list[Any]:
        return nodes.read(node[part], buffers)

    if "keys" not in node:
        return [dict(zip(*pair, strict=True)) for pair in zip(read("names"), read("values"), strict=True)]
    keys, columns = read("keys"), [nodes.read(part, buffers) for part in node["columns"]]
    if not columns:
        return [{} for _ in range(node["n"])]
    return [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]


def zone_node(value: dt.tzinfo | None) -> str | int | None:
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


def zone_of(said: str | int | None) -> dt.tzinfo | None:
    if said is None or isinstance(said, str):
        return None if said is None else zoneinfo.ZoneInfo(said)
    return dt.timezone(dt.timedelta(seconds=said)) if said else _UTC


def _datetimes(values: Sequence[dt.datetime], buffers: Buffers) -> Node:
    plain = [value if value.tzinfo is None else value.astimezone(_UTC) for value in values]
    micros = np.array([value.replace(tzinfo=None) for value in plain], "M8[us]")
    return {"at": nodes.put(buffers, micros.view(np.int64)), "zones": [zone_node(value.tzinfo) for value in values]}


def _of_datetimes(node: Node, buffers: Buffers) -> list[dt.datetime]:
    made = buffers[node["at"]].view("M8[us]").tolist()
    zones = [zone_of(said) for said in node["zones"]]
    return [v if z is None else v.replace(tzinfo=_UTC).astimezone(z) for v, z in zip(made, zones, strict=True)]


def _decimals(values: Sequence[decimal.Decimal], buffers: Buffers) -> Node:
    return {"texts": nodes.write([str(value) for value in values], buffers)}


def _of_decimals(node: Node, buffers: Buffers) -> list[decimal.Decimal]:
    return [decimal.Decimal(text) for text in _of_texts(node["texts"], buffers)]


def _stamps(values: Sequence[pd.Timestamp], buffers: Buffers) -> Node:
    each = [
        [int(v.to_numpy().view(np.int64)), np.datetime_data(v.to_numpy().dtype)[0], zone_node(v.tzinfo)] for v in values
    ]
    return {"each": each}


def _of_stamps(node: Node, buffers: Buffers) -> list[Any]:
    made = [(pd.Timestamp(np.datetime64(value, unit)), zone_of(zone)) for value, unit, zone in node["each"]]
    return [stamp if zone is None else stamp.tz_localize("UTC").tz_convert(zone) for stamp, zone in made]


def _spans(values: Sequence[pd.Timedelta], buffers: Buffers) -> Node:
    arrays = [value.to_timedelta64() for value in values]
    return {"each": [[int(v.view(np.int64)), np.datetime_data(v.dtype)[0]] for v in arrays]}


def _of_spans(node: Node, buffers: Buffers) -> list[Any]:
    return [pd.Timedelta(np.timedelta64(value, unit)) for value, unit in node["each"]]


KINDS: Mapping[str, nodes.Kind] = {
    "none": (_nothing, _always(None)),
    "nat": (_nothing, _always(pd.NaT)),
    "na": (_nothing, _always(pd.NA)),
    "bool": (_numbers("?"), _of_numbers("?")),
    "int": (_ints, _of_ints),
    "float": (_numbers("<f8"), _of_numbers("<f8")),
    "complex": (_numbers("<c16"), _of_numbers("<c16")),
    "str": (_texts, _of_texts),
    "bytes": (_bytes, _of_bytes),
    "list": (_lists, _of_lists(list)),
    "tuple": (_lists, _of_lists(tuple)),
    "dict": (_dicts, _of_dicts),
    "date": (_numbers("M8[D]"), _of_numbers("M8[D]")),
    "timedelta": (_numbers("m8[us]"), _of_numbers("m8[us]")),
    "datetime": (_datetimes, _of_datetimes),
    "decimal": (_decimals, _of_decimals),
    "stamp": (_stamps, _of_stamps),
    "span": (_spans, _of_spans),
}
