"""Counts of a column's values that workers make apart, in one pass, and that add up exactly. Pure.

Numbers fall into bins that are frozen beforehand: a bin is the leading 32 bits of a float64 (sign, exponent, 20 bits
of the mantissa), so that workers who know nothing of each other, or of any baseline, count into the same bins and
merging is addition. A column with more than `LIMIT` bins, fewer where there are very many columns, shifts their last
bit away, twice as coarse, as often as it takes; which level that ends at depends on the values and on the number of
columns alone, not on their order or on who saw them.

Of a batch at most `SAMPLE` rows are looked at, fewer where there are very many columns, one of every `weight`
neighbours, and each counts `weight` times; smaller batches are looked at whole. Rows and nulls are exact always.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import ConfigError

SAMPLE = 4_096
"""Rows of a batch that are looked at, at most."""
LIMIT = 4_096
"""Bins of a number; at the level of one for each power of two there are fewer."""
ALL_BINS, FEWEST = 256 * LIMIT, 1_024
"""Bins of all columns together, of which each has its share, but not less than the fewest."""
CATEGORIES, LONGEST = 1_000, 100
"""Distinct values of a text that are counted one by one, and the characters by which they are told apart."""
VERSION = 1
_TOGETHER = 1 << 16
"""Values of several columns that are put into bins at once: so many stay in a processor's cache."""
_PENDING = 8  # times the limit: values that wait to be counted together
_OVERHEAD = 16  # values that take as much memory as what holds those of a batch, were there none
_GOLDEN = (5**0.5 - 1) / 2
_FULL = np.iinfo(np.int64).max
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass
class Sketch:
    """Running counts of one column. Numbers: `counts` by bin `keys` of a `level`; texts: `values` and `other`."""

    type: str
    text: bool = False
    rows: int = 0  # exact, as `nulls`
    nulls: int = 0
    sampled: int = 0  # rows that were looked at, null or not
    nan: int = 0  # weighted from here on
    minus: int = 0
    plus: int = 0
    level: int = 0
    limit: int = LIMIT
    keys: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    counts: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    values: Counter[str] = field(default_factory=Counter)
    other: int = 0
    pending: list[tuple[int, npt.NDArray[np.int32]]] = field(default_factory=list)
    waiting: int = 0


@dataclass
class Sketches:
    """What one worker saw so far, by column; `left_out` are the columns that have no bins, with their types."""

    columns: dict[str, Sketch]
    left_out: dict[str, str]


class Profile(Sketches):
    """What all workers of a run saw; it can be dumped and merged again."""


def start(schema: pa.Schema, columns: Iterable[str]) -> Sketches:
    """Nothing seen yet of these columns of the batches. Raises KeyError for one that the schema lacks."""
    sketches = Sketches({}, {})
    for name in dict.fromkeys(columns):
        kind = schema.field(name).type
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        if _is_text(plain) or _is_number(plain):
            sketches.columns[name] = Sketch(str(plain), _is_text(plain))
        else:
            sketches.left_out[name] = str(kind)
    for sketch in sketches.columns.values():
        sketch.limit = _limit(len(sketches.columns))
    return sketches


def _limit(columns: int) -> int:
    return min(LIMIT, max(FEWEST, ALL_BINS // max(1, columns)))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    tests = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_boolean,
        pa.types.is_date,
        pa.types.is_timestamp,
    )
    return any(test(kind) for test in tests)


def observe(sketches: Sketches, batch: pa.RecordBatch) -> None:
    """Take a batch into the sketches; it has the columns of `start`'s schema, in any order, of the same types."""
    weight, rows = _sample(batch.num_rows, SAMPLE * _limit(len(sketches.columns)) // LIMIT)
    numbers: list[Sketch] = []
    parts: list[Floats] = []
    size = 0
    for name, sketch in sketches.columns.items():
        column = batch.column(name)
        sketch.rows += len(column)
        sketch.nulls += column.null_count
        sketch.sampled += len(column) if rows is None else len(rows)
        if sketch.text:
            _count_texts(sketch, column if rows is None else column.take(rows), weight)
            continue
        numbers.append(sketch)
        parts.append(_numbers(column, rows))
        size += len(parts[-1])
        if size >= _TOGETHER:
            _count_numbers(numbers, parts, weight)
            numbers, parts, size = [], [], 0
    if parts:
        _count_numbers(numbers, parts, weight)


def _count_numbers(sketches: Sequence[Sketch], parts: Sequence[Floats], weight: int) -> None:
    """Have each of the sketches count its part."""
    values = np.concatenate(parts)
    keys, finite = keys_of(values), np.isfinite(values)
    all_finite, begin = bool(finite.all()), 0
    for sketch, part in zip(sketches, parts, strict=True):
        span = slice(begin, begin := begin + len(part))
        found = keys[span]
        if not all_finite:
            found = found[finite[span]]
            sketch.nan += weight * int(np.count_nonzero(np.isnan(part)))
            sketch.minus += weight * int(np.count_nonzero(part == -np.inf))
            sketch.plus += weight * int(np.count_nonzero(part == np.inf))
        sketch.pending.append((weight, found))
        sketch.waiting += len(found) + _OVERHEAD
        if sketch.waiting >= _PENDING * sketch.limit:
            _settle(sketch)


@lru_cache(maxsize=16)
def _sample(rows: int, most: int) -> tuple[int, pa.Array | None]:
    """How many rows each row of a batch's sample of at most `most` stands for, and which these are; None: all.

    One of every `weight` neighbours, but not always the same one, else rows that come in a cycle (one for each hour
    of a player) would be seen at one place of it only. Multiples of the golden ratio fill every place alike.
    """
    weight = -(-rows // most)
    if weight <= 1:
        return 1, None
    steps = np.arange(-(-rows // weight))
    taken = steps * weight + (steps * _GOLDEN % 1 * weight).astype(np.int64)
    return weight, pa.array(taken[taken < rows])


def _numbers(column: pa.Array, rows: pa.Array | None) -> Floats:
    """The values of the rows that are not null, as float64: booleans 0 and 1, dates days, times seconds since 1970."""
    kind = column.type
    if rows is not None and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        places = rows.to_numpy()
        places = places + column.offset if column.offset else places
        valid, values = column.buffers()
        if column.null_count:  # Arrow's own ways past nulls take three times as long
            places = places[np.frombuffer(valid, np.uint8)[places >> 3] >> (places & 7) & 1 == 1]
        found: Floats = np.frombuffer(values, kind.to_pandas_dtype()).take(places).astype(np.float64, copy=False)
        return found
    taken = (column if rows is None else column.take(rows)).drop_null()
    if pa.types.is_dictionary(kind):
        return _numbers(taken.dictionary_decode(), None)
    if pa.types.is_date(kind):
        taken = taken.cast(pa.date32(), safe=False).cast(pa.int32())
    elif pa.types.is_timestamp(kind):
        taken = taken.cast(pa.int64())
    elif not pa.types.is_integer(kind):
        taken = taken.cast(pa.float64())
    numbers: Floats = taken.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    if pa.types.is_timestamp(kind):
        numbers *= _SECONDS[kind.unit]
    return numbers


def keys_of(values: Floats) -> npt.NDArray[np.int32]:
    """The bin of each finite number, ascending with it; -0.0 is 0.0, and a bin holds its lower bound on both sides."""
    bits = np.ascontiguousarray(values).view(np.int64)
    sign = bits >> 63
    return (((bits & _FULL) ^ sign) - sign >> 32).astype(np.int32)  # magnitude, negated where the sign is set


def bounds(keys: Ints) -> Floats:
    """The lower bounds of bins of level 0: `keys_of` turned round."""
    return np.copysign((np.abs(keys) << 32).view(np.float64), keys)


def _settle(sketch: Sketch) -> None:
    """Add what is pending to the counts."""
    keys, counts = [sketch.keys], [sketch.counts]
    for weight in {weight for weight, _ in sketch.pending}:
        found, times = _tally(np.concatenate([k for w, k in sketch.pending if w == weight]) >> sketch.level)
        keys.append(found)
        counts.append(times * weight)
    sketch.pending, sketch.waiting = [], 0
    _fold(sketch, np.concatenate(keys), np.concatenate(counts))


def _tally(keys: npt.NDArray[np.int32]) -> tuple[Ints, Ints]:
    """Distinct keys and how often each occurs; by sorting, unless there are fewer different ones than keys."""
    if len(keys) and int(keys.max()) - (least := int(keys.min())) < len(keys):
        counts = np.bincount(keys - least)
        found = np.flatnonzero(counts)
        return found + least, counts[found]
    distinct, times = np.unique(keys, return_counts=True)
    return distinct.astype(np.int64), times


def _fold(sketch: Sketch, keys: Ints, counts: Ints) -> None:
    """Make these bins of the sketch's level, in any order, its counts, at the finest level that keeps to its limit."""
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    while np.count_nonzero(np.diff(keys)) >= sketch.limit:
        keys, sketch.level = keys >> 1, sketch.level + 1
    first = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    sketch.keys, sketch.counts = keys[first], np.add.reduceat(counts, first) if len(first) else counts


def _count_texts(sketch: Sketch, column: pa.Array, weight: int) -> None:
    found = pc.value_counts(column.drop_null())
    values = found.field("values")
    values = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    for value, count in zip(values.cast(pa.large_binary()).to_pylist(), found.field("counts").to_pylist(), strict=True):
        sketch.values[value.decode(errors="replace")[:LONGEST]] += weight * count
    if len(sketch.values) > 8 * CATEGORIES:
        _cut(sketch, sketch.values.items())


def _cut(sketch: Sketch, counted: Iterable[tuple[str, int]]) -> None:
    """Leave the most frequent of its texts, of equals the first; the rest become `other`.

    A text that is among them whenever this happens is counted in full; else each time takes at most 1 in
    `CATEGORIES` of the column's rows from its count.
    """
    if len(sketch.values) > CATEGORIES:
        ranked = sorted(counted, key=itemgetter(1), reverse=True)
        sketch.values = Counter(dict(ranked[:CATEGORIES]))
        sketch.other += sum(count for _, count in ranked[CATEGORIES:])


_NUMBERS = ("rows", "nulls", "sampled", "nan", "minus", "plus", "other")


def dump(sketches: Sketches) -> dict[str, Any]:
    """What a worker sends home, fit for JSON: some 20 kB for a number at most, 5 kB each of thousands.

    Texts are as long as their values.
    """
    columns = {}
    for name, sketch in sketches.columns.items():
        _settle(sketch)
        _cut(sketch, sorted(sketch.values.items()))
        said = {part: getattr(sketch, part) for part in ("type", "text", "level", *_NUMBERS)}
        columns[name] = said | {
            "values": sorted(sketch.values.items()),
            "keys": _pack(np.diff(sketch.keys, prepend=0)),
            "counts": _pack(sketch.counts),
        }
    return {"version": VERSION, "columns": columns, "left_out": dict(sketches.left_out)}


def _pack(numbers: Ints) -> str:
    """Byte by byte of all numbers, the many zero bytes together, which halves what is left of them."""
    return b64encode(zlib.compress(numbers.astype("<i8").view(np.uint8).reshape(-1, 8).T.tobytes(), 1)).decode()


def _unpack(text: str) -> Ints:
    planes = np.frombuffer(zlib.decompress(b64decode(text)), np.uint8).reshape(8, -1)
    return np.ascontiguousarray(planes.T).view("<i8").reshape(-1).astype(np.int64)


def merge(dumps: Iterable[Mapping[str, Any]]) -> Profile:
    """All workers' dumps as one: the order doesn't matter, and merging merged ones gives the same.

    But for texts of more than `CATEGORIES` values: see `_cut`, which each merging does once.

    Raises ConfigError for dumps of another version, or that disagree on a column's type.
    """
    profile = Profile({}, {})
    for one in dumps:
        take_in(profile, one)
    for sketch in profile.columns.values():
        _cut(sketch, sorted(sketch.values.items()))
    return profile


def take_in(profile: Profile, one: Mapping[str, Any]) -> None:
    """Add a dump to a profile. Its texts are not cut before it is dumped itself: add no more than some dozens."""
    if one["version"] != VERSION:
        raise ConfigError(f"a profile has version {one['version']!r}, this program reads {VERSION}")
    profile.left_out.update(one["left_out"])
    limit = _limit(len(one["columns"]))
    for name, said in one["columns"].items():
        sketch = profile.columns.setdefault(name, Sketch(said["type"], said["text"], limit=limit))
        if sketch.type != said["type"]:
            raise ConfigError(f"column {name!r} was profiled as {sketch.type} and as {said['type']}")
        for part in _NUMBERS:
            setattr(sketch, part, getattr(sketch, part) + said[part])
        sketch.values.update(dict(said["values"]))
        level = max(sketch.level, said["level"])
        keys = (sketch.keys >> level - sketch.level, np.cumsum(_unpack(said["keys"])) >> level - said["level"])
        sketch.level = level
        _fold(sketch, np.concatenate(keys), np.concatenate((sketch.counts, _unpack(said["counts"]))))
