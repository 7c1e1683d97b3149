"""Values in JSON: as bytes, those that `encoding` makes of Arrow, and from Arrow.

Null, booleans, integers, finite floats (with a dot or an exponent), texts and lists are themselves; everything
else is an object of one key: {"float": "NaN"}, {"date": "2026-01-02"}, {"timestamp": "2026-01-02T03:04:05.000006"},
{"instant": "2026-01-02T03:04:05.000006Z"}, {"binary": "00ff"}, {"decimal": "12.5"}, {"struct": [["a", 1]]},
{"map": [["key", 1]]}.
Each value is written in one way only, so that no character of it can be another.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa

from lakehouse.connectors import canonical
from lakehouse.models.nested import is_list
from lakehouse.scoring.encoding import (
    BINARY,
    BOOLEAN,
    DATE,
    DECIMAL,
    FLOAT,
    INSTANT,
    INTEGER,
    LIST,
    MAP,
    NAN,
    NULL,
    STRUCT,
    TEXT,
    TIMESTAMP,
)

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # of wall clocks as of instants


def encode_values(values: Iterable[Any]) -> bytes:
    """The bytes of a row of these values."""
    return b"".join(map(encode_value, values))


def encode_value(value: Any) -> bytes:
    """The bytes of one value as it is in JSON. Raises ValueError for what is none."""
    if value is None:
        return _head(NULL, 0)
    if isinstance(value, bool):
        return _head(BOOLEAN, int(value))
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return _head(INTEGER, value & (1 << 64) - 1)
    if isinstance(value, float):
        return _head(FLOAT, _bits(value))
    if isinstance(value, str):
        return _with_bytes(TEXT, value.encode())
    if isinstance(value, list):
        return _head(LIST, len(value)) + encode_values(value)
    if isinstance(value, dict) and len(value) == 1:
        [(name, said)] = value.items()
        if name in _NAMED:
            return _NAMED[name](said)
    raise ValueError(f"{value!r} is no value")


def _head(tag: int, word: int) -> bytes:
    return struct.pack("<BQ", tag, word)


def _with_bytes(tag: int, content: bytes) -> bytes:
    return _head(tag, len(content)) + content


def _bits(value: float) -> int:
    return NAN if math.isnan(value) else int.from_bytes(struct.pack("<d", value), "little")


def _only(said: str, text: str) -> str:
    """A text as it has to be, so that one value has one; raises ValueError for another one."""
    if said != text:
        raise ValueError(f"{said!r} is to be {text!r}")
    return said


def _micros(said: str, end: str) -> int:
    time = datetime.fromisoformat(said.removesuffix("Z"))
    _only(said, f"{time.isoformat(timespec='microseconds')}{end}")
    return (time - _EPOCH) // timedelta(microseconds=1) & (1 << 64) - 1


def _days(said: str) -> int:
    day = date.fromisoformat(_only(said, date.fromisoformat(said).isoformat()))
    return (day - _EPOCH.date()).days & (1 << 64) - 1


def _float(said: str) -> bytes:
    if said not in ("NaN", "Infinity", "-Infinity"):
        raise ValueError(f"{said!r} is not one of NaN, Infinity and -Infinity")
    return _head(FLOAT, _bits(float(said)))


def _pairs(tag: int, pairs: Any) -> bytes:
    if not isinstance(pairs, list) or any(not isinstance(pair, list) or len(pair) != 2 for pair in pairs):
        raise ValueError(f"{pairs!r} is no list of pairs")
    return _head(tag, len(pairs)) + b"".join(encode_value(one) + encode_value(other) for one, other in pairs)


_NAMED: Mapping[str, Callable[[Any], bytes]] = {
    "float": _float,
    "date": lambda said: _head(DATE, _days(said)),
    "timestamp": lambda said: _head(TIMESTAMP, _micros(said, "")),
    "instant": lambda said: _head(INSTANT, _micros(said, "Z")),
    "binary": lambda said: _with_bytes(BINARY, bytes.fromhex(_only(said, bytes.fromhex(said).hex()))),
    "decimal": lambda said: _with_bytes(DECIMAL, said.encode()),
    "struct": lambda said: _pairs(STRUCT, said),
    "map": lambda said: _pairs(MAP, said),
}


def as_json(value: pa.Scalar) -> Any:
    """A value of Arrow as it is in JSON."""
    kind, types = value.type, pa.types
    if not value.is_valid:
        return None
    if types.is_dictionary(kind):
        return as_json(value.value)
    if is_list(kind):
        return [as_json(item) for item in value]
    if types.is_map(kind):
        pairs = zip(value.values.field(0), value.values.field(1), strict=True)
        return {"map": [[as_json(key), as_json(item)] for key, item in pairs]}
    if types.is_struct(kind):
        return {"struct": [[name, as_json(item)] for name, item in value.items()]}
    if kind == pa.uint64():
        return {"decimal": str(value.as_py())}
    if types.is_decimal(kind):
        return {"decimal": canonical.texts(pa.array([value.as_py()], kind))[0].as_py()}
    if types.is_timestamp(kind):
        micros = value.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64()).as_py()
        text = (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds")
        return {"timestamp": text} if kind.tz is None else {"instant": f"{text}Z"}
    plain = value.as_py()
    if types.is_date(kind):
        return {"date": plain.isoformat()}
    if isinstance(plain, bytes):
        return {"binary": plain.hex()}
    if isinstance(plain, float) and not math.isfinite(plain):
        return {"float": "NaN" if math.isnan(plain) else "Infinity" if plain > 0 else "-Infinity"}
    return float(plain) if types.is_floating(kind) else plain
