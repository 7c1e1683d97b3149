"""A worker's Parquet files of one kind, a row group at a time; none is visible to a reader before it is committed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.schemas import EXPLANATIONS, WARNINGS
from lakehouse.scoring.statistics import MOST, Column, columns_of, filterable, observe, statistics
from lakehouse.storage import Location, create_file
from lakehouse.storage.parquet import SMALL_BYTES, open_parquet

TARGET_BYTES = 128 << 20
"""Files are closed at about this size."""
GROUP_ROWS, GROUP_BYTES = 1 << 20, 32 << 20
"""A row group is written when so many rows, or bytes of them in memory, have come together."""
_CHUNK = 8192
"""Rows of a constant that are laid out in memory."""
_LOOKED_AT = 4096
"""Rows by which it is told whether a column of integers, such as a key, has a dictionary."""


@dataclass
class _Output:
    """One file being written."""

    path: str
    sink: pa.NativeFile
    writer: pq.ParquetWriter
    columns: dict[str, Column]
    rows: int = 0


@dataclass
class Files:
    """Files of one kind in one folder below their table's root, rolled at `target` bytes (None: `TARGET_BYTES`).

    `constants` are values of columns that are the same in every row; batches don't have these. The log gets statistics
    of the columns named `first`, of lineage, and of others as far as that makes no more than `most`.
    """

    kind: str
    task: int
    root: Location
    schema: pa.Schema
    folder: str
    constants: Mapping[str, Any] = field(default_factory=dict)
    first: Sequence[str] = ()
    most: int = MOST
    target: int | None = None
    open: _Output | None = None
    done: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0  # that wait, and their bytes
    size: int = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a batch, which has the schema's columns in any order.

        `_warnings` and `_explanations`, where it lacks them, are none.
        """
        if batch.num_rows == 0:
            return
        if self.rows + batch.num_rows > GROUP_ROWS:
            self._write_group()
        self.waiting.append(self._own(batch))
        self.rows += batch.num_rows
        self.size += self.waiting[-1].nbytes
        if self.rows >= GROUP_ROWS or self.size >= min(GROUP_BYTES, self.target or TARGET_BYTES):
            self._write_group()

    def close(self) -> None:
        """Write what waits, finish the open file and note it in the manifest."""
        self._write_group()
        self._finish()

    def abandon(self) -> None:
        """Let go of a file that is still open because something failed; no manifest has it."""
        output, self.open = self.open, None
        for stream in (output.writer, output.sink) if output else ():
            with suppress(OSError, pa.ArrowException):  # most likely what failed fails again
                stream.close()

    def _own(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch's columns in the file's types; copied, since what waits must not keep a whole input batch alive."""
        arrays, fields = [], [f for f in self.schema if f.name not in self.constants]
        for f in fields:
            if f.name == WARNINGS and batch.schema.get_field_index(WARNINGS) < 0:
                none = np.zeros(batch.num_rows + 1, np.int32)
                arrays.append(pa.ListArray.from_arrays(none, pa.array([], pa.string())))
                continue
            if f.name == EXPLANATIONS and batch.schema.get_field_index(EXPLANATIONS) < 0:
                arrays.append(pa.nulls(batch.num_rows, f.type))
                continue
            column = batch.column(f.name)
            arrays.append(pa.concat_arrays([column if column.type == f.type else column.cast(f.type)]))
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _write_group(self) -> None:
        if not self.waiting:
            return
        table, rows = pa.Table.from_batches(self.waiting), self.rows
        output = self.open = self.open or self._create(table)
        self.waiting, self.rows, self.size = [], 0, 0
        for name in table.column_names:
            if name in output.columns:
                observe(output.columns[name], table.column(name))
        same = {name: _repeated(self.schema.field(name).type, value, rows) for name, value in self.constants.items()}
        columns = [same[f.name] if f.name in same else table.column(f.name) for f in self.schema]
        output.writer.write_table(pa.table(columns, schema=output.writer.schema), GROUP_ROWS)
        output.rows += rows
        if output.sink.tell() >= (self.target or TARGET_BYTES):
            self._finish()

    def _create(self, first: pa.Table) -> _Output:
        """A new file, whose first rows these are."""
        name = f"{self.kind}-{self.task:05d}-{uuid.uuid4().hex}.parquet"
        sink = create_file(self.root.join(self.folder, name))
        safe, columns = filterable(self.schema), columns_of(self.schema, self.first, self.most)
        for constant, value in ((c, v) for c, v in self.constants.items() if c in columns):
            observe(columns[constant], pa.array([] if value is None else [value], columns[constant].type))
        given = [f.with_type(_repeated_type(f.type)) if f.name in self.constants else f for f in self.schema]
        writer = pq.ParquetWriter(
            sink,
            pa.schema(given),
            compression="snappy",
            use_dictionary=[name for name in safe if name in self.constants or _repeats(first.column(name))],
            write_statistics=safe,
            store_schema=False,
            version="2.6",
        )
        return _Output(f"{self.folder}/{name}", sink, writer, columns)

    def _finish(self) -> None:
        output = self.open
        if output is None:
            return
        output.writer.close()
        size = output.sink.tell()
        output.sink.close()
        self.open = None  # not before: what fails to close is left to `abandon`
        for name in (name for name, value in self.constants.items() if value is None and name in output.columns):
            output.columns[name].nulls = output.rows
        self.done.append(
            {
                "task": self.task,
                "kind": self.kind,
                "path": output.path,
                "rows": output.rows,
                "bytes": size,
                "detail": statistics(output.rows, output.columns),
            }
        )


def _repeats(column: pa.ChunkedArray) -> bool:
    """Whether a dictionary of its values may be smaller than they are, and isn't given up after all that work."""
    some = column.slice(0, _LOOKED_AT)
    return not pa.types.is_integer(column.type) or 2 * pc.count_distinct(some).as_py() < len(some)


def _repeated_type(kind: pa.DataType) -> pa.DataType:
    """The type in which a constant is handed to the writer: to Parquet, a dictionary's texts are texts."""
    return pa.dictionary(pa.int32(), kind) if pa.types.is_string(kind) else kind


def _repeated(kind: pa.DataType, value: Any, rows: int) -> pa.ChunkedArray:
    """The value in so many rows, as one short chunk over and over, which stays in the processor's cache."""
    length = min(rows, _CHUNK)
    if value is None:
        chunk = pa.nulls(length, _repeated_type(kind))
    elif pa.types.is_string(kind):
        chunk = pa.DictionaryArray.from_arrays(pa.array(np.zeros(length, np.int32)), pa.array([value], kind))
    else:
        chunk = pa.repeat(pa.scalar(value, kind), length)
    whole, rest = divmod(rows, length)
    return pa.chunked_array([*[chunk] * whole, chunk.slice(0, rest)], chunk.type)


def head(
    location: Location, path: str, columns: Sequence[str], rows: int, size: int | None = None
) -> list[dict[str, Any]]:
    """The first rows of one Parquet file, as mappings by column. `size`: its bytes, where they are known."""
    with open_parquet(location, path, whole=size is not None and size <= SMALL_BYTES) as file:
        for batch in file.iter_batches(rows, columns=list(columns), use_threads=False):
            return list(batch.to_pylist())
    return []
