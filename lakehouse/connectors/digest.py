"""A hash of the content of a table in any order, the same from Arrow and from Snowflake: equal means the same rows.

A column's total is the sum of MD5_NUMBER_LOWER64 of the texts of its values (canonical.py), nulls adding nothing. The
total is the sum of that of the rows, a row's text being the hashes of its values in hex, one after the other. Sums know
no order, and count a row as often as it is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakehouse.connectors import canonical
from lakehouse.connectors.canonical import kind_of
from lakehouse.connectors.snowflake import fold, quote

Hashes = NDArray[np.uint64]

ROWS = 1 << 14
"""Rows that are worked on at once: what that needs fits into a processor's cache."""
_NULL = "-" * 16
"""Stands in a row for the hash of a null."""


@dataclass(frozen=True)
class Digest:
    """What rows hash to: how many there are, the sum of the rows' hashes, and of each column's values' hashes.

    `uncompared`: columns whose type can't be compared; they have no part in it.
    """

    rows: int
    total: int
    columns: Mapping[str, int]
    uncompared: tuple[str, ...] = ()


def differences(a: Digest, b: Digest) -> list[str]:
    """In words what differs between the rows of two digests; empty where they are the same rows."""
    said = [] if a.rows == b.rows else [f"there are {a.rows} rows and {b.rows}"]
    # of no rows the types may not be known
    aside = () if a.rows and b.rows else (*a.uncompared, *b.uncompared)
    names = [name for name in {**a.columns, **b.columns} if name not in aside]
    for name in names:
        if name not in a.columns or name not in b.columns:
            said.append(f"column {name!r} can be compared on one side only")
        elif a.columns[name] != b.columns[name]:
            said.append(f"column {name!r} has other values")
    if not said and a.total != b.total:
        said.append("each column has the same values, but not in the same rows")
    return said


def of_batches(batches: Iterable[pa.RecordBatch], columns: Sequence[str]) -> Digest:
    """The digest of these columns of all rows. Raises KeyError for a column that a batch lacks."""
    rows, total, sums, uncompared = 0, 0, dict.fromkeys(columns, 0), set[str]()
    for batch in batches:
        batch = batch.select(sorted(sums))
        uncompared |= {field.name for field in batch.schema if not kind_of(field.type)}
        names = [name for name in batch.schema.names if name not in uncompared]
        for start in range(0, batch.num_rows, ROWS):
            part = batch.slice(start, ROWS)
            hashes = [_hashes(canonical.texts(part.column(name))) for name in names]
            for name, (values, _) in zip(names, hashes, strict=True):
                sums[name] += _sum(values)
            total += _sum(_of_rows(part.num_rows, hashes))
            rows += part.num_rows
    compared = {name: value for name, value in sums.items() if name not in uncompared}
    return Digest(rows, total, compared, tuple(name for name in sums if name in uncompared))


def _hashes(texts: pa.Array) -> tuple[Hashes, Any]:
    """A column's hashes, 0 for null, and where the nulls are."""
    if not texts.null_count:
        return _md5(texts), None
    absent = texts.is_null().to_numpy(zero_copy_only=False)
    return np.where(absent, np.uint64(0), _md5(texts.fill_null(""))), absent


def _of_rows(rows: int, columns: Sequence[tuple[Hashes, Any]]) -> Hashes:
    hexes = np.empty((rows, len(columns), 8), np.uint16)
    for i, (hashes, absent) in enumerate(columns):
        hexes[:, i] = canonical.HEX[hashes.astype(">u8").view(np.uint8).reshape(rows, 8)]
        if absent is not None:
            hexes[absent, i] = np.frombuffer(_NULL.encode(), np.uint16)
    width = len(columns) * len(_NULL)
    return _md5(pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), rows, [None, pa.py_buffer(hexes)]))


def _md5(texts: pa.Array) -> Hashes:
    """For each text its MD5_NUMBER_LOWER64: the last 8 bytes of MD5 of its UTF-8 bytes as a big-endian number.

    A checksum here: it tells rows apart, and keeps no secret.
    """
    distinct = texts.dictionary_encode()  # most columns of a scored table hold few values
    values = distinct.dictionary.cast(pa.large_binary()).to_pylist()
    digests = b"".join([hashlib.md5(value, usedforsecurity=False).digest() for value in values])
    hashes: Hashes = np.frombuffer(digests, ">u8")[1::2].astype(np.uint64)
    return np.take(hashes, np.asarray(distinct.indices))


def _sum(hashes: Hashes) -> int:
    """Exactly: halves of 32 bits don't overflow."""
    return (int((hashes >> np.uint64(32)).sum()) << 32) + int((hashes & np.uint64(0xFFFFFFFF)).sum())


def sql(columns: Mapping[str, pa.DataType], table: str, where: str = "") -> str:
    """The SELECT for Snowflake whose one row `from_row` reads.

    `columns`: names and types on the Arrow side; a name is folded as Snowflake keeps it. `table` and `where` are SQL.
    """
    names = _compared_columns(columns)
    layers: list[list[str]] = []
    for i, name in enumerate(names):
        for depth, template in enumerate(canonical.SQL[kind_of(columns[name])]):
            layers += [[]] if depth == len(layers) else []
            layers[depth].append(template.format(c=quote(fold(name)), i=i))
    first, *more = layers or [["1 AS T"]]
    # on its own, so that names in `where` are the table's and not those given here
    rows = f"(SELECT * FROM {table} WHERE {where})" if where else table
    query = f"SELECT {', '.join(first)} FROM {rows}"
    for layer in more:
        query = f"SELECT *, {', '.join(layer)} FROM ({query})"
    texts = [f"T{i}" for i in range(len(names))]
    row = " || ".join(f"COALESCE(UPPER(SUBSTR(MD5({text}), 17)), '{_NULL}')" for text in texts) or "''"
    sums = [f"SUM(CAST(MD5_NUMBER_LOWER64({text}) AS NUMBER(20, 0)))" for text in (row, *texts)]
    return f"SELECT COUNT(*), {', '.join(sums)} FROM ({query})"


def from_row(row: Sequence[Any], columns: Mapping[str, pa.DataType]) -> Digest:
    """The digest that Snowflake's answer to `sql` of the same columns is."""
    rows, total, *sums = (int(value or 0) for value in row)  # the sum of nothing is NULL
    by_name = dict(zip(_compared_columns(columns), sums, strict=True))
    compared = {name: by_name[name] for name in columns if name in by_name}
    return Digest(rows, total, compared, tuple(name for name in columns if name not in by_name))


def _compared_columns(columns: Mapping[str, pa.DataType]) -> list[str]:
    """Names in the order in which rows are made of them."""
    return sorted(name for name, type_ in columns.items() if kind_of(type_))
