"""The text of a value, the same from Arrow and in Snowflake's SQL: equal values have the same, others another.

Null has none.

| type | text |
|---|---|
| boolean | true, false |
| integer, decimal | digits without zeros at either end that say nothing: -12.5, .05, 0; whatever the scale |
| float | the 64 bits of the magnitude as a whole number, with the sign; one NaN, one zero; float32 as its double |
| string | itself |
| binary | hex in upper case |
| date | days since 1970 |
| timestamp | microseconds since 1970, of UTC where it has a zone |
| list of strings, booleans, integers or such lists | JSON |

Other types are not compared: Snowflake doesn't promise the order of an OBJECT's keys, nor digits of numbers in JSON
that aren't whole; and of nanoseconds int64 doesn't hold year 9999.

What only Snowflake itself can prove, because the tests' stand-in for it is another engine:

* POWER(2, n) is exact for whole n from -1022 to 1023; dividing FLOATs by it, multiplying by it, and casting whole
  ones to NUMBER are, too; LOG errs by less than one. Doubles below 2.2e-308 are not taken for 0 at loading.
* TO_JSON of an ARRAY has no spaces, escapes only what JSON must, with \\b \\f \\n \\r \\t and else as \\u001F in upper
  case, and an absent element is null. Where it doesn't, equal rows are said to differ, never the other way round.
* The text of a NUMBER has neither an exponent nor blanks; DATEDIFF and DATE_PART(EPOCH_MICROSECOND, …) reach from
  year 1 to 9999.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

HEX = np.frombuffer(b"".join(b"%02X" % byte for byte in range(256)), np.uint16)
"""The two hex digits of each byte."""
_SHORT = {"\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
_ESCAPES = {"\\": r"\\", '"': r"\""}
_CONTROLS = {c: _SHORT.get(c, f"\\u{ord(c):04X}") for c in map(chr, range(32))}
_INFINITY, _NAN = 0x7FF0 << 48, 0x7FF8 << 48


def kind_of(type_: pa.DataType) -> str:
    """The row of the table above that a type belongs to; empty for types that are not compared."""
    types = pa.types
    if types.is_dictionary(type_):
        return kind_of(type_.value_type)
    if types.is_list(type_) or types.is_large_list(type_):
        return "list" if kind_of(type_.value_type) in ("list", "string", "boolean", "integer") else ""
    if types.is_timestamp(type_):
        return "" if type_.unit == "ns" else "timestamp"
    if types.is_decimal(type_):
        return "decimal" if type_.precision <= 38 and type_.scale >= 0 else ""
    tests = {
        "boolean": (types.is_boolean,),
        "integer": (types.is_integer,),
        "float": (types.is_floating,),
        "string": (types.is_string, types.is_large_string, types.is_string_view),
        "binary": (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary),
        "date": (types.is_date,),
    }
    return next((kind for kind, some in tests.items() if any(test(type_) for test in some)), "")


def texts(values: pa.Array) -> pa.Array:
    """The texts of a column whose type is compared, as large_string."""
    values = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    return _ARROW[kind_of(values.type)](values)


def _plain(values: pa.Array) -> pa.Array:
    return values.cast(pa.large_string())


def _decimal(values: pa.Array) -> pa.Array:
    """Arrow's own text may have an exponent: this is made of the unscaled number's."""
    scale = values.type.scale
    values = values.cast(pa.decimal128(38, scale))
    unscaled = pa.Array.from_buffers(pa.decimal128(38, 0), len(values), values.buffers(), offset=values.offset)
    text = unscaled.cast(pa.string()).cast(pa.large_string())
    digits = pc.utf8_ltrim(text, "-")
    if scale:
        digits = pc.utf8_lpad(digits, scale, "0")
        whole, part = pc.utf8_slice_codeunits(digits, 0, -scale), pc.utf8_slice_codeunits(digits, -scale)
        digits = pc.utf8_rtrim(pc.utf8_rtrim(join(pc.utf8_ltrim(whole, "0"), ".", part), "0"), ".")
    signed = pc.if_else(pc.starts_with(text, "-"), join("-", digits), digits)
    return pc.if_else(pc.equal(digits, ""), pa.scalar("0", pa.large_string()), signed)


def _float(values: pa.Array) -> pa.Array:
    numbers = pc.fill_null(values.cast(pa.float64()), 0.0).to_numpy()
    bits = np.abs(numbers).view(np.int64)
    signed = np.where(np.isnan(numbers), _NAN, np.where(numbers < 0, -bits, bits))
    mask = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
    return pa.array(signed, mask=mask).cast(pa.large_string())


def _binary(values: pa.Array) -> pa.Array:
    """Two characters a byte, so that offsets double."""
    filled = pc.fill_null(values.cast(pa.large_binary()), b"")
    _, offsets, content = filled.buffers()
    ends = np.frombuffer(offsets, np.int64)[filled.offset :][: len(filled) + 1]
    characters = HEX[np.frombuffer(content or b"", np.uint8)[ends[0] : ends[-1]]]
    buffers = [None, pa.py_buffer((ends - ends[0]) * 2), pa.py_buffer(characters)]
    return pc.if_else(values.is_valid(), pa.Array.from_buffers(pa.large_string(), len(values), buffers), None)


def _date(values: pa.Array) -> pa.Array:
    return values.cast(pa.date32()).cast(pa.int32()).cast(pa.large_string())


def _timestamp(values: pa.Array) -> pa.Array:
    return values.cast(pa.timestamp("us", values.type.tz)).cast(pa.int64()).cast(pa.large_string())


def _list(values: pa.Array) -> pa.Array:
    elements = values.flatten()
    items = texts(elements)
    items = quote(items) if kind_of(elements.type) == "string" else items
    ends = np.cumsum(pc.fill_null(pc.list_value_length(values), 0).to_numpy())
    offsets = pa.array(np.append(0, ends), pa.int32())
    lists = pa.ListArray.from_arrays(offsets, pc.fill_null(items, "null").cast(pa.string()))
    inside = pc.binary_join(lists, ",").cast(pa.large_string())
    return pc.if_else(values.is_valid(), join("[", inside, "]"), None)


def quote(values: pa.Array) -> pa.Array:
    """Strings in JSON. Beyond U+007F nothing is escaped."""
    escapes = dict(_ESCAPES)
    if pc.any(pc.match_substring_regex(values, r"[\x00-\x1f]")).as_py():
        escapes |= _CONTROLS
    for character, escaped in escapes.items():  # the backslash comes first
        values = pc.replace_substring(values, character, escaped)
    return join('"', values, '"')


def join(*parts: Any) -> pa.Array:
    """The parts one after the other, each a column of texts or the same text for each row; null where one is."""
    scalars = (pa.scalar(part, pa.large_string()) if isinstance(part, str) else part for part in (*parts, ""))
    return pc.binary_join_element_wise(*scalars)


_ARROW: Mapping[str, Callable[[pa.Array], pa.Array]] = {
    "boolean": _plain, "integer": _plain, "decimal": _decimal, "float": _float, "string": _plain,
    "binary": _binary, "date": _date, "timestamp": _timestamp, "list": _list,
}  # fmt: skip
_NUMBER = (
    "{c} AS N{i}, REPLACE(CAST({c} AS VARCHAR), '-', '') AS D{i}",
    # texts are cast to texts because the stand-in forgets else what to trim
    "IFF(CONTAINS(D{i}, '.'), RTRIM(CAST(RTRIM(CAST(D{i} AS VARCHAR), '0') AS VARCHAR), '.'), D{i}) AS S{i}",
    "CASE WHEN N{i} = 0 THEN '0' ELSE IFF(N{i} < 0, '-', '') || LTRIM(CAST(S{i} AS VARCHAR), '0') END AS T{i}",
)
_NOT_A_NUMBER, _MOST, _LEAST = (f"CAST('{text}' AS FLOAT)" for text in ("NaN", "inf", "-inf"))
SQL: Mapping[str, tuple[str, ...]] = {
    "boolean": ("CAST({c} AS VARCHAR) AS T{i}",),
    "integer": _NUMBER,
    "decimal": _NUMBER,
    "float": (
        "CAST({c} AS FLOAT) AS F{i}",
        f"IFF(F{{i}} IN ({_NOT_A_NUMBER}, {_MOST}, {_LEAST}, 0), 1, ABS(F{{i}})) AS A{{i}}",
        # the exponent or one beside it, of a normal double: so each power of 2 is one
        "LEAST(GREATEST(FLOOR(LOG(2, A{i})), -1022), 1023) AS E{i}",
        "A{i} / POWER(2, E{i}) AS M{i}",
        # what mends the exponent
        "IFF(M{i} >= 2, 1, IFF(M{i} < 1 AND E{i} > -1022, -1, 0)) AS C{i}",
        # its bits are above the 52 of the mantissa, whose own highest is counted in them
        f"CAST(E{{i}} + C{{i}} + 1022 AS NUMBER(5, 0)) * {2**52} + "
        "CAST(M{i} * POWER(2, 52 - C{i}) AS NUMBER(16, 0)) AS B{i}",
        f"CASE WHEN F{{i}} = {_NOT_A_NUMBER} THEN '{_NAN}' WHEN F{{i}} = {_MOST} THEN '{_INFINITY}' "
        f"WHEN F{{i}} = {_LEAST} THEN '-{_INFINITY}' WHEN F{{i}} = 0 THEN '0' "
        "ELSE CAST(IFF(F{i} < 0, -B{i}, B{i}) AS VARCHAR) END AS T{i}",
    ),
    "string": ("{c} AS T{i}",),
    "binary": ("HEX_ENCODE({c}) AS T{i}",),
    "date": ("CAST(DATEDIFF(DAY, CAST('1970-01-01' AS DATE), {c}) AS VARCHAR) AS T{i}",),
    "timestamp": ("CAST(DATE_PART(EPOCH_MICROSECOND, {c}) AS VARCHAR) AS T{i}",),
    "list": ("TO_JSON({c}) AS T{i}",),
}
"""What to select of column {c} for its text T{i}; of several, each from the SELECT of the one before it."""
