"""Reading a folder of Parquet files: pin each file by what the storage says of it, cut those that are read into units.

Folders such as `day=2026-01-02` are columns (`partitions`), the files' footers give the schema (`footers`). Nothing
keeps other programs from writing to such a folder: a file that is not what was pinned ends the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import conditions
from lakehouse.connectors.parquet import FileUnit, ReadSettings, read_settings, split_into_units
from lakehouse.errors import ConfigError
from lakehouse.schemas import RUN_ID
from lakehouse.sources import FILES, FileUse
from lakehouse.sources.parquet.pinning import PinnedFile, PinnedFolder, pin
from lakehouse.storage import Location, locate

if TYPE_CHECKING:
    from lakehouse.config.systems.parquet import ParquetSource

__all__ = [
    "KEEPS_FINGERPRINT", "as_of", "at_version", "carrier", "first_file", "folder", "frame", "narrowed", "pin",
    "qualify", "read", "rows_of_run", "supported_columns", "units", "uri_of", "use_of_file",
]  # fmt: skip

KEEPS_FINGERPRINT = True


def qualify(source: ParquetSource) -> ParquetSource:
    """The source as it is: a path or URI names a folder in full."""
    return source


def uri_of(source: ParquetSource) -> str | None:
    """The URI of the folder."""
    return locate(source.table or "").uri


def rows_of_run(run: str) -> str:
    """The condition that selects the rows of one run in a table of the product's own."""
    return f"{RUN_ID} = '{run}'"


def narrowed(source: ParquetSource, pinned: Any, values: Mapping[str, Any]) -> ParquetSource:
    """By numbers and texts, as far as they are exact for Arrow."""
    return source.model_copy(update={"where": conditions.narrowed(source.where, values)})


def at_version(source: ParquetSource, version: int | None) -> ParquetSource:
    """The folder as it is: its `version` says whether a file was written since."""
    return source


def carrier(pinned: PinnedFolder, columns: Sequence[str]) -> tuple[str, str]:
    """Always `files`. Raises ConfigError for a column of a type that isn't handed on."""
    for column in columns:
        kind = pinned.refused.get(column)
        if kind == str(pa.null()):
            raise ConfigError(
                f"column {column!r} of {pinned.name} is null in every row of the files that are read, which tells no "
                "type: write the files with the column's type"
            )
        if kind is not None:
            raise ConfigError(
                f"column {column!r} of {pinned.name} is, or has within it, {kind}, which can be neither handed to a "
                "model nor kept: leave the column out of keys, keep, where and the model's features, or write the "
                "files with it as a string or in columns of simple types"
            )
    return FILES, "Arrow reads these files as they are"


def supported_columns(pinned: PinnedFolder) -> list[str]:
    """The columns of types that are handed on."""
    return [name for name in pinned.schema.names if name not in pinned.refused]


def read(pinned: PinnedFolder, columns: Sequence[str], limit: int | None = None) -> PinnedFolder:
    """The input as it is: files are read by whoever scores them."""
    return pinned


def units(pinned: PinnedFolder, columns: Sequence[str], batch_rows: int, tasks: int) -> list[FileUnit]:
    """The input as units, small files whole, large ones cut where there are few files: by row groups where known."""
    sizes = {file.path: file.sizes for file in pinned.files if file.sizes is not None}
    all_known = len(sizes) == len(pinned.files)
    reading = read_settings(
        pinned.root,
        pinned.schema,
        columns,
        pinned.partition_columns,
        pinned.where,
        batch_rows,
        remedy=": run again, which reads what is there then",
        known=None if all_known else frozenset(map(str.lower, pinned.schema.names)),
    )
    wholes = [_unit(reading, file) for file in pinned.files if file.row_groups != ()]
    return split_into_units(wholes, tasks, (lambda unit: sizes[unit.path]) if all_known else None)


def _unit(reading: ReadSettings, file: PinnedFile) -> FileUnit:
    groups = file.row_groups if file.sizes and len(file.row_groups or ()) < len(file.sizes) else None
    values = tuple(file.partition[c] for c in reading.partition_columns)
    return FileUnit(reading, file.path, file.size, values, groups, stamp=file.stamp)


def folder(pinned: PinnedFolder) -> Location:
    """The folder of the files."""
    return pinned.root


def first_file(pinned: PinnedFolder) -> Location | None:
    """The first of the files that are read."""
    return pinned.root.join(pinned.files[0].path) if pinned.files else None


def frame(spark: Any, pinned: Any, columns: Sequence[str], reason: str) -> Any:
    """Never asked for: `carrier` says `files`."""
    raise AssertionError("Parquet files are carried as files")


def as_of(source: ParquetSource, moment: datetime) -> ParquetSource:
    """Refused: nothing tells what was in the folder."""
    raise ConfigError(f"{source.table}: a folder of Parquet files keeps no history: what it held then isn't known")


def use_of_file(source: ParquetSource, file: str, readings: Sequence[tuple[int, str | None]]) -> FileUse:
    """Refused: nothing tells which files a run found."""
    raise ConfigError(
        f"{source.table}: a folder of Parquet files has no log, and runs don't list what they read: which of them read "
        "a file isn't known"
    )
