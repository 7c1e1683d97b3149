"""How a column's values become a feature's type: what goes by itself, what needs a person's word, what does not fit.

Whole numbers stay equal or set their row aside, fractions go to the nearest floating value, instants become UTC wall
clocks: what `mlflow.pyfunc.spark_udf` takes, where it would not change a value unseen.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.models.nested import change_of_form, convert_nested, is_list, is_nested, pairs
from lakehouse.schemas import is_widened_by

NAMES = {
    "boolean": pa.bool_(), "integer": pa.int32(), "long": pa.int64(), "float": pa.float32(), "double": pa.float64(),
    "string": pa.string(), "binary": pa.binary(), "datetime": pa.timestamp("ns"),
}  # fmt: skip
"""MLflow's names of types. A datetime is what pandas and MLflow make of it: a wall clock in nanoseconds."""

_NO_COLUMNS = (pa.int8(), pa.int16(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
"""Integers of tensors, which no table or no job file has a type for."""
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$|^(?i:[+-]?(inf|infinity)|nan)$"
_WHOLE = r"^[+-]?0*[0-9]{1,38}$"  # as many digits as a decimal has, in which its bounds are looked at
_LEAP = r"([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)"
_DAY = (
    r"([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    rf"|02-(0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_TEXTS = {
    pa.float64(): _NUMBER, pa.float32(): _NUMBER, pa.int64(): _WHOLE, pa.int32(): _WHOLE,
    pa.bool_(): r"^(?i:true|false|0|1)$",
    NAMES["datetime"]: rf"^{_DAY}([ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{{1,9}})?)?)?$",
}  # fmt: skip
"""What a text must look like to be cast; what looks so is a value unless it is beyond the type's bounds."""
_FIRST, _LAST = "1677-09-21 00:12:43.145224193", "2262-04-11 23:47:16.854775807"
"""What 64 bits of nanoseconds reach."""


def type_name(kind: pa.DataType) -> str:
    """A feature's type as MLflow says it, where it has a name there."""
    if is_list(kind):
        return f"array<{type_name(kind.value_type)}>"
    if pa.types.is_map(kind):
        return f"map<{type_name(kind.item_type)}>"
    if pa.types.is_struct(kind):
        return f"object<{', '.join(f'{f.name}: {type_name(f.type)}' + ' (optional)' * f.nullable for f in kind)}>"
    return next((name for name, known in NAMES.items() if known == kind), str(kind))


def type_for(kind: pa.DataType) -> str | None:
    """The name of MLflow's type that a column of this type is as a feature; None for what no feature can be."""
    if is_list(kind):
        item = type_for(kind.value_type)
        return item and f"array<{item}>"
    if pa.types.is_integer(kind):
        return "integer" if kind.bit_width < 32 or kind == pa.int32() else "long"
    if pa.types.is_decimal(kind):
        return "double"
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return "datetime"
    plain = {pa.large_string(): "string", pa.large_binary(): "binary", pa.float16(): "float"}
    return plain.get(kind) or next((name for name, known in NAMES.items() if known == kind), None)


def conversion_of(given: pa.DataType, wanted: pa.DataType) -> str | None:
    """How a column becomes a feature without being asked, in words; "" where nothing changes, None where it does not.

    Of nested columns the parts are looked at.
    """
    if given == wanted or pa.types.is_null(given):
        return ""
    if is_nested(wanted):
        return _conversion_of_parts(given, wanted, conversion_of)
    if pa.types.is_timestamp(given) and pa.types.is_timestamp(wanted) and wanted.tz is None:
        return "as UTC wall clock" if given.tz else ""
    if pa.types.is_date(given) and pa.types.is_timestamp(wanted):
        return "at midnight"
    if is_widened_by(given, wanted):
        return "widened"
    if pa.types.is_floating(wanted) and pa.types.is_integer(given):
        return "exactly, or the row is set aside"
    if pa.types.is_floating(wanted) and pa.types.is_decimal(given):
        return "to the nearest"
    if wanted in _NO_COLUMNS and pa.types.is_integer(given):
        return "exactly, or the row is set aside"
    if pa.types.is_float16(wanted) and pa.types.is_floating(given):
        return "to the nearest"
    return None


def _conversion_of_parts(given: pa.DataType, wanted: pa.DataType, of: Callable[..., str | None]) -> str | None:
    parts = pairs(given, wanted)
    if parts is None:
        return None
    told = [change_of_form(given, wanted)]
    for name, part, becomes in parts:
        how = of(part, becomes)
        if how is None:
            return None
        told.append(f"{name} {how}".strip() if how else "")
    return ", ".join(words for words in told if words)


def requested_conversion(given: pa.DataType, wanted: pa.DataType) -> str | None:
    """How a column becomes a type that the job asks for in `features.cast`; None where it can't."""
    known = conversion_of(given, wanted)
    if known is not None:
        return known
    if is_list(given) and is_list(wanted):
        return _conversion_of_parts(given, wanted, requested_conversion)
    if pa.types.is_floating(wanted) and pa.types.is_floating(given):
        return "to the nearest"
    if _is_number(given) and _is_number(wanted) and not pa.types.is_decimal(wanted):
        return "exactly, or the row is set aside"
    if pa.types.is_string(given) and wanted in _TEXTS:
        return "read from text, or the row is set aside"
    if pa.types.is_string(wanted) and (
        pa.types.is_integer(given) or pa.types.is_decimal(given) or pa.types.is_date(given)
    ):
        return "as text"
    return None


def can_lose(given: pa.DataType, wanted: pa.DataType, cast: pa.DataType | None = None) -> bool:
    """Whether a value may be lost on its way to a type, by way of what the job has it cast to."""
    if cast is not None:
        return can_lose(given, cast) or can_lose(cast, wanted)
    if given == wanted or pa.types.is_null(given):
        return False
    if is_nested(wanted):
        parts = pairs(given, wanted) or ()
        return pa.types.is_fixed_size_list(wanted) or any(can_lose(part, becomes) for _, part, becomes in parts)
    nearest = pa.types.is_decimal(given) and pa.types.is_floating(wanted)
    return not nearest and (pa.types.is_timestamp(wanted) or not is_widened_by(given, wanted))


def convert(column: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Any | None]:
    """The column in a type that it has a way to, and a mask of the values that are lost in it, None: none are.

    A value that is lost is null in the result; so is a list, struct or map that loses a part.
    """
    if column.type == kind:
        return column, None
    if is_nested(kind) and is_nested(column.type):
        return convert_nested(column, kind, convert)
    if _is_number(column.type) and _is_number(kind):
        made, lost = _numbers(column, kind)
    elif pa.types.is_timestamp(kind) and not pa.types.is_string(column.type):
        made, lost = _clocks(column, kind)
    elif pa.types.is_string(column.type) and kind in _TEXTS:
        text = pc.ascii_trim_whitespace(column)
        text = pc.if_else(pc.match_substring_regex(text, _TEXTS[kind]), text, None)
        made = _parse_texts(pc.replace_substring_regex(text, r"^\+", ""), kind)
        lost = _mask(pc.and_(pc.is_valid(column), pc.is_null(made)))
        if pa.types.is_floating(kind):
            huge = pc.and_(pc.is_inf(made), pc.invert(pc.match_substring(text, "inf", ignore_case=True)))
            lost |= _mask(pc.fill_null(huge, False))
    else:
        return column.cast(kind), None
    if lost is None or not lost.any():
        return made, None
    return pc.if_else(pa.array(lost), pa.scalar(None, made.type), made), lost


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )


@functools.cache
def numpy_type(kind: pa.DataType) -> np.dtype[Any]:
    """What numpy has for numbers or booleans of this type; Arrow itself would import pandas to say so."""
    found: np.dtype[Any] = pa.array([], kind).to_numpy(zero_copy_only=False).dtype
    return found


def _numbers(column: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Any | None]:
    """Numbers and booleans as other ones, and which of them are not the same there."""
    given = column.type
    if pa.types.is_decimal(given) and pa.types.is_floating(kind):
        # Arrow's own cast to a double is off by a last place now and then
        return column.cast(pa.string()).cast(kind), None
    if pa.types.is_decimal(given):
        made, lost = convert(_whole(column), kind)
        none = _mask(pc.and_(pc.is_valid(column), pc.is_null(made)))
        return made, none if lost is None else none | lost
    if pa.types.is_boolean(given) or is_widened_by(given, kind):
        return column.cast(pa.int8()).cast(kind) if pa.types.is_boolean(given) else column.cast(kind), None
    values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
    dtype = numpy_type(kind)
    if pa.types.is_floating(kind):
        with np.errstate(over="ignore"):
            made = values.astype(dtype)
        same = np.isinf(values) | ~np.isinf(made) if pa.types.is_floating(given) else _same_whole(values, made)
    else:
        least, most = (0, 1) if pa.types.is_boolean(kind) else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        same = (values >= least) & (values < most + 1.0 if values.dtype.kind == "f" else values <= most)
        same &= values == np.trunc(values)
        made = np.where(same, values, 0).astype(dtype)
    nulls = _mask(pc.is_null(column))
    return pa.array(made, kind, mask=nulls), ~same & ~nulls


def _same_whole(values: Any, made: Any) -> Any:
    """Which whole numbers a floating type holds as they are."""
    limit = 1 << (np.finfo(made.dtype).nmant + 1)
    if values.size == 0 or (-limit <= values.min() and values.max() <= limit):
        return np.ones(len(values), bool)
    inside = made < 2.0 ** (8 * values.dtype.itemsize - 1)  # what is rounded up to 2**63 is no int64
    return inside & (np.where(inside, made, 0).astype(values.dtype) == values)


def _clocks(column: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Any | None]:
    """Days and instants as wall clocks, and which of them lie beyond the years that nanoseconds reach."""
    days = pa.types.is_date(column.type)
    column = column.cast(pa.timestamp("ms" if days else column.type.unit))  # a zone is a label on UTC instants
    try:
        return column.cast(kind), None
    except pa.ArrowInvalid:
        most = np.iinfo(np.int64).max // {"s": 10**9, "ms": 10**6, "us": 10**3}[column.type.unit]
        inside = _between(column.cast(pa.int64()), -most, most)
        return _kept(column, inside).cast(kind), _mask(pc.fill_null(pc.invert(inside), False))


def _whole(column: pa.Array) -> pa.Array:
    """Decimals as 64-bit integers; null for those that are none."""
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        fits, kind = pc.equal(column, pc.trunc(column)), column.type
        if kind.precision - kind.scale >= 19:  # as many digits as the bounds have
            least, most = (pa.scalar(Decimal(bound), kind) for bound in (-(2**63), 2**63 - 1))
            fits = pc.and_(fits, _between(column, least, most))
        return _kept(column, fits).cast(pa.int64())


def _parse_texts(text: pa.Array, kind: pa.DataType) -> pa.Array:
    """Texts that look like values of a type as these; null for those beyond its bounds."""
    try:
        return text.cast(kind)
    except pa.ArrowInvalid:
        if pa.types.is_integer(kind):
            return convert(text.cast(pa.decimal128(38)), kind)[0]
        clock = pc.replace_substring(text, "T", " ")
        return _kept(text, _between(clock, _FIRST, _LAST)).cast(kind)


def _between(column: pa.Array, least: Any, most: Any) -> pa.Array:
    return pc.and_(pc.greater_equal(column, least), pc.less_equal(column, most))


def _kept(column: pa.Array, fits: pa.Array) -> pa.Array:
    return pc.if_else(fits, column, pa.scalar(None, column.type))


def _mask(found: pa.Array) -> Any:
    return found.to_numpy(zero_copy_only=False)
