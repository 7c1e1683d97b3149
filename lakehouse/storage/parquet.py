"""Parquet files on any storage, opened in one way."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.storage.location import Location

SMALL_BYTES = 1 << 20
"""A file of at most so many bytes is best read whole, whatever columns are wanted."""


def open_parquet(
    root: Location, path: str, *, whole: bool = False, pre_buffer: bool = False, dictionaries: Sequence[str] = ()
) -> pq.ParquetFile:
    """The Parquet file at this path below a folder; the caller closes it.

    Times of Spark's and Hive's INT96 are read in microseconds: Arrow's nanoseconds hold no year beyond 2262. `whole`:
    read it at once, which is one request instead of three; `pre_buffer`: join the requests for a row group's columns;
    `dictionaries`: text columns that are read as their dictionaries and numbers in these.
    Raises OSError or pyarrow's ArrowInvalid where it can't be read.
    """
    filesystem, place = root.filesystem(), f"{root.path}/{path}"
    if not whole:
        return pq.ParquetFile(
            place,
            filesystem=filesystem,
            coerce_int96_timestamp_unit="us",
            pre_buffer=pre_buffer,
            read_dictionary=list(dictionaries) or None,
        )
    with filesystem.open_input_stream(place) as stream:
        return pq.ParquetFile(pa.BufferReader(stream.read_buffer()), coerce_int96_timestamp_unit="us")
