"""Which values some columns of files have, and in how many live rows: from footers where these tell, else by reading.

Spark cuts the texts of the log's statistics to 32 characters and keeps none beyond the 32nd column, but in the files'
own footers they stand whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.connectors.delta.snapshot import DataFile, Snapshot
from lakehouse.storage.parquet import open_parquet

_AT_ONCE = 16
"""Files that are opened at one time, and at most so many more than whoever asks wants to hear of."""
_UNKNOWN = object()


def values_of(snapshot: Snapshot, columns: Sequence[str], files: Sequence[DataFile]) -> Iterator[Counter[Any]]:
    """By file, in their order: how many live rows have which values (a tuple) of these text columns.

    A column that a file lacks is null. Files are opened as far as they are asked for.
    """
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for first in range(0, len(files), _AT_ONCE):
            some = files[first : first + _AT_ONCE]
            yield from threads.map(lambda file: _values_inside(snapshot, columns, file), some)


def _values_inside(snapshot: Snapshot, columns: Sequence[str], file: DataFile) -> Counter[Any]:
    """Of one file. It is opened again, and pages are read, only for row groups whose statistics don't tell."""
    found: Counter[Any] = Counter()
    kept, ends = None if file.live_mask is None else file.live_mask.mask(), 0
    spelled, unclear = [snapshot.physical(column) for column in columns], dict[int, Any]()
    with open_parquet(snapshot.location, file.relative) as stored:
        footer = stored.metadata
    places = {footer.schema.column(i).path: i for i in range(footer.num_columns)}
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        starts, ends = ends, ends + group.num_rows
        live = None if kept is None else kept[starts:ends]
        values = [_only_value(group, places, name) for name in spelled]
        if _UNKNOWN in values:
            unclear[number] = live
        elif rows := group.num_rows if live is None else int(live.sum()):
            found[tuple(values)] += rows
    if unclear:
        there = [name for name in spelled if name in places]
        with open_parquet(snapshot.location, file.relative, dictionaries=there) as stored:
            for number, live in unclear.items():
                found.update(_counted(stored.read_row_group(number, columns=there), spelled, live))
    return found


def _only_value(group: pq.RowGroupMetaData, places: Mapping[str, int], name: str) -> Any:
    """The value that a column has in every row of a row group; `_UNKNOWN` where the footer doesn't tell it."""
    if name not in places:
        return None
    statistics = group.column(places[name]).statistics
    if statistics is None or not statistics.has_null_count:
        return _UNKNOWN
    if statistics.null_count == group.num_rows:
        return None
    if statistics.null_count or not statistics.has_min_max or statistics.min != statistics.max:
        return _UNKNOWN
    return statistics.min if isinstance(statistics.min, str) else _UNKNOWN


def _counted(rows: pa.Table, names: Sequence[str], live: Any) -> Counter[Any]:
    """How many rows, or of them live ones, have which values of these columns; by their dictionaries' numbers."""
    dictionaries = [_dictionary_of(rows, name) for name in names]
    codes = np.zeros(rows.num_rows, np.int64)
    for column in dictionaries:
        codes *= len(column.dictionary) + 1
        codes += pc.fill_null(column.indices, len(column.dictionary)).to_numpy()
    distinct, counts = np.unique(codes if live is None else codes[live], return_counts=True)
    found: Counter[Any] = Counter()
    for code, count in zip(distinct.tolist(), counts.tolist(), strict=True):
        values: list[Any] = []
        for column in reversed(dictionaries):
            code, number = divmod(code, len(column.dictionary) + 1)
            values.append(column.dictionary[number].as_py() if number < len(column.dictionary) else None)
        found[tuple(reversed(values))] += count
    return found


def _dictionary_of(rows: pa.Table, name: str) -> pa.DictionaryArray:
    """A column as a dictionary and numbers in it; null in every row where there is no such column."""
    if name not in rows.column_names:
        return pa.nulls(rows.num_rows, pa.string()).dictionary_encode()
    column = rows.column(name).unify_dictionaries().combine_chunks()
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
