"""Reading a folder of Parquet files: pin each file by what the storage says of it, cut those that are read into units.

Folders such as `day=2026-01-02` are columns (`partitions`), the files' footers give the schema (`footers`). Nothing
keeps other programs from writing to such a folder: a file that is not what was pinned ends the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs as pa_fs

from lakehouse.conditions import Comparison, Where, admits, parse_where
from lakehouse.connectors.parquet import FileUnit, Reading, cut
from lakehouse.errors import ConfigError, NotReady, nearest
from lakehouse.schemas import RUN_ID
from lakehouse.sources import FILES
from lakehouse.sources.parquet.footers import Footer, merge, read_footers, unreadable
from lakehouse.sources.parquet.partitions import partitions_of
from lakehouse.storage import Location, entries, locate, reaching, shown, siblings

if TYPE_CHECKING:
    from lakehouse.config.systems.parquet import ParquetSource


@dataclass(frozen=True)
class PinnedFile:
    """A file that is read: `stamp` is what the storage said of it, `partition` its values of the partition columns.

    `rows`, `sizes`: of each row group. `row_groups`: the numbers of those that can hold rows of `where`.
    """

    path: str
    size: int
    stamp: str
    partition: Mapping[str, Any]
    rows: tuple[int, ...]
    sizes: tuple[int, ...]
    row_groups: tuple[int, ...]


@dataclass(frozen=True)
class Pinned:
    """The input of a run: the files of a folder whose partitions can hold rows of `where`, as they are now.

    `changed`: when the last of them was written, in ms since 1970. `refused`: the columns of types that aren't handed
    on, and that type.
    """

    name: str
    root: Location
    schema: pa.Schema
    partition_columns: tuple[str, ...]
    where: Where | None
    files: tuple[PinnedFile, ...]
    changed: int | None
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> int | None:
        """When the last of the files that are read was written, in ms since 1970; None where there is none."""
        return self.changed

    @property
    def pieces(self) -> int:
        """How many files it is in."""
        return len(self.files)

    @property
    def comments(self) -> dict[str, str]:
        """Parquet files have none."""
        return {}

    @property
    def where_columns(self) -> Sequence[str]:
        """The columns of `where`."""
        return self.where.columns if self.where else ()

    @property
    def rows(self) -> int:
        """An upper bound of the rows to read."""
        return sum(file.rows[group] for file in self.files for group in file.row_groups)

    def fingerprint(self) -> list[tuple[str, str]]:
        """What is read: each file's path, and its size with its ETag or its time of writing."""
        return sorted((file.path, file.stamp) for file in self.files)

    def said(self) -> dict[str, Any]:
        """The folder, and when the last of the files was written."""
        return {"table": self.name, "version": self.version}


def qualified(source: ParquetSource) -> ParquetSource:
    """The source as it is: a path or URI names a folder in full."""
    return source


def uri_of(source: ParquetSource) -> str | None:
    """The URI of the folder."""
    return locate(source.table or "").uri


def rows_of_run(run: str) -> str:
    """The condition that selects the rows of one run in a table of the product's own."""
    return f"{RUN_ID} = '{run}'"


def pin(source: ParquetSource, names: Sequence[str] = ()) -> Pinned:
    """List the folder, and read the footers of the files whose partitions can hold rows of `where`.

    Raises ConfigError where there is no such folder or its files don't make one table, NotReady where it has no file.
    """
    assert source.table is not None  # as the job file's own checks demand
    root = locate(source.table)
    name, listed = shown(root), _listed(root)
    paths = list(listed)
    partitions, values = partitions_of(paths, name)
    footers = read_footers(root, paths[-1:])  # the newest by its name: the columns to begin with
    where = _parsed(source.where, _schema(footers, partitions, name), last=len(paths) == 1)
    if where is None and source.where:  # columns that only older files have, or whose type others tell
        footers = read_footers(root, paths)
        where = _parsed(source.where, _schema(footers, partitions, name), last=True)
    pruning = [c for c in (where.comparisons if where else ()) if c.column in partitions.names]
    partition = {
        path: own for path, own in zip(paths, values, strict=True) if all(admits(c, own[c.column]) for c in pruning)
    }
    footers = {**read_footers(root, [path for path in partition if path not in footers]), **footers}
    footers = {path: footers[path] for path in dict.fromkeys([*partition, *footers])}
    schema = _schema(footers, partitions, name)
    where = _parsed(source.where, schema, last=True)
    left = [c for c in (where.comparisons if where else ()) if c.column not in partitions.names]
    files = tuple(_file(path, listed[path], own, footers[path], left) for path, own in partition.items())
    changed = max((listed[file.path].mtime_ns // 1_000_000 for file in files), default=None)
    return Pinned(name, root, schema, tuple(partitions.names), where, files, changed, _refused(schema, footers))


def _listed(root: Location) -> dict[str, pa_fs.FileInfo]:
    """The files of the folder by path, in order, without those that are hidden. There is one at least."""
    found = entries(root)
    if any(path.startswith("_delta_log/") for path in found):
        raise ConfigError(
            f"source.table: {shown(root)} is a Delta table, some of whose files may be old: read it with type: delta"
        )
    if files := {path: found[path] for path in sorted(found) if not _is_hidden(path)}:
        return files
    with reaching(root):
        kind = root.filesystem().get_file_info(root.path).type
    if kind == pa_fs.FileType.File:
        raise ConfigError(f"source.table: {shown(root)} is a file: name the folder that it is in")
    if kind == pa_fs.FileType.NotFound:
        name = root.path.rsplit("/", 1)[-1]
        hint = nearest(name, [s for s in siblings(root) if s != name])
        raise ConfigError(f"source.table: there is no folder {shown(root)} ({root.path}); {hint}")
    raise NotReady(f"{shown(root)} has no Parquet file yet: nothing to score, nothing was replaced")


def _is_hidden(path: str) -> bool:
    """Whether it is no file of the table: a name begins with `_` or `.`, or marks a folder, as Hadoop once did."""
    return path.endswith("_$folder$") or any(part.startswith(("_", ".")) for part in path.split("/"))


def _schema(footers: Mapping[str, Footer], partitions: pa.Schema, name: str) -> pa.Schema:
    """The columns of the files, then those of the folders, which come first where both have one."""
    inside = {column.lower() for column in partitions.names}
    return pa.schema([*(f for f in merge(footers, name) if f.name.lower() not in inside), *partitions])


def _parsed(text: str | None, schema: pa.Schema, *, last: bool) -> Where | None:
    """The condition; None where it can't be parsed against this schema but may be against that of more files."""
    if not text:
        return None
    try:
        where = parse_where(text, schema)
        if where.reason:
            raise ConfigError(
                f"source.where: {where.reason}: of Parquet files only comparisons of columns with fixed values, joined "
                "by AND, are evaluated: write it so, or score a Delta table made of these files"
            )
    except ConfigError:
        if last:
            raise
        return None
    return where


def _file(
    path: str, info: pa_fs.FileInfo, partition: Mapping[str, Any], footer: Footer, comparisons: Sequence[Comparison]
) -> PinnedFile:
    rows = tuple(footer.metadata.row_group(g).num_rows for g in range(footer.metadata.num_row_groups))
    return PinnedFile(path, info.size, footer.stamp, partition, rows, footer.sizes, footer.row_groups(comparisons))


def _refused(schema: pa.Schema, footers: Mapping[str, Footer]) -> dict[str, str]:
    told = {name: kind for footer in footers.values() for name, kind in footer.refused.items()}
    own = {field.name: kind for field in schema if (kind := unreadable(field.type)) is not None}
    return {**own, **told}


def carrier(pinned: Pinned, columns: Sequence[str]) -> tuple[str, str]:
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


def carried(pinned: Pinned) -> list[str]:
    """The columns of types that are handed on."""
    return [name for name in pinned.schema.names if name not in pinned.refused]


def read(pinned: Pinned, columns: Sequence[str], limit: int | None = None) -> Pinned:
    """The input as it is: files are read by whoever scores them."""
    return pinned


def units(pinned: Pinned, columns: Sequence[str], batch_rows: int, tasks: int) -> list[FileUnit]:
    """The input as units, small files whole, large ones cut by row groups where there are few files."""
    inside = tuple(c for c in pinned.partition_columns if c in columns)
    comparisons = pinned.where.comparisons if pinned.where else ()
    reading = Reading(
        root=pinned.root,
        schema=pa.schema([pinned.schema.field(c) for c in columns]),
        partition_columns=inside,
        comparisons=tuple(c for c in comparisons if c.column not in pinned.partition_columns),
        batch_rows=batch_rows,
        remedy=": run again, which reads what is there then",
    )
    wholes = [_unit(reading, file, inside) for file in pinned.files if file.row_groups]
    sizes = {file.path: file.sizes for file in pinned.files}
    return cut(wholes, tasks, lambda unit: sizes[unit.path])


def _unit(reading: Reading, file: PinnedFile, inside: Sequence[str]) -> FileUnit:
    groups = file.row_groups if len(file.row_groups) < len(file.sizes) else None
    values = tuple(file.partition[c] for c in inside)
    return FileUnit(reading, file.path, file.size, values, groups, stamp=file.stamp)


def folder(pinned: Pinned) -> Location:
    """The folder of the files."""
    return pinned.root


def first_file(pinned: Pinned) -> Location | None:
    """The first of the files that are read."""
    return pinned.root.join(pinned.files[0].path) if pinned.files else None


def frame(spark: Any, pinned: Any, columns: Sequence[str], reason: str) -> Any:
    """Never asked for: `carrier` says `files`."""
    raise AssertionError("Parquet files are carried as files")
