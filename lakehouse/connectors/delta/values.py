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
    """Of one file. No page is read of a row group whose statistics tell, and of others one column after the other."""
    found: Counter[Any] = Counter()
    kept, position = None if file.live_mask is None else np.array(file.live_mask, dtype=bool), 0
    spelled = [snapshot.physical(column) for column in columns]
    with open_parquet(snapshot.location, file.relative, dictionaries=spelled) as stored:
        places = {stored.metadata.schema.column(i).path: i for i in range(stored.metadata.num_columns)}
        for number in range(stored.num_row_groups):
            group = stored.metadata.row_group(number)
            live = None if kept is None else kept[position : position + group.num_rows]
            position += group.num_rows
            rows = group.num_rows if live is None else int(live.sum())
            if not rows:
                continue
            same = [_only_value(group, places, name) for name in spelled]
            if _UNKNOWN not in same:
                found[tuple(same)] += rows
                continue
            unknown = [name for name, value in zip(spelled, same, strict=True) if value is _UNKNOWN]
            read = stored.read_row_group(number, columns=unknown)
            read = read if live is None else read.filter(pa.array(live))
            for values, count in _counted(read, unknown):
                found[tuple(values.get(name, value) for name, value in zip(spelled, same, strict=True))] += count
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


def _counted(rows: pa.Table, names: Sequence[str]) -> Iterator[tuple[dict[str, Any], int]]:
    """The distinct rows of text columns, as mappings, and how often each occurs; by their dictionaries' numbers."""
    columns = [rows.column(name).unify_dictionaries().combine_chunks() for name in names]
    columns = [c if pa.types.is_dictionary(c.type) else c.dictionary_encode() for c in columns]
    codes = [pc.fill_null(column.indices, -1).to_numpy().astype(np.int64) for column in columns]
    distinct, counts = np.unique(np.stack(codes, axis=1), axis=0, return_counts=True)
    for numbers, count in zip(distinct.tolist(), counts.tolist(), strict=True):
        values = (c.dictionary[n].as_py() if n >= 0 else None for c, n in zip(columns, numbers, strict=True))
        yield dict(zip(names, values, strict=True)), count
