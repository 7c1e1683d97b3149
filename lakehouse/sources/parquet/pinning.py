"""Pinning a folder: which files are read, what the storage says of each, and what their columns are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs as pa_fs

from lakehouse.conditions import Comparison, Where, admits
from lakehouse.conditions.parsing import parse_where
from lakehouse.errors import ConfigError, NotReady, nearest
from lakehouse.schemas import finder
from lakehouse.sources.parquet.footers import Footer, merge, read_footers, read_stamps, unreadable
from lakehouse.sources.parquet.partitions import partitions_of
from lakehouse.storage import Location, display_name, entries, locate, reaching, siblings

if TYPE_CHECKING:
    from lakehouse.config.systems.parquet import ParquetSource


MOST, FEW = 256, 16
"""Of so many files all footers are read; of more, this few."""


@dataclass(frozen=True)
class PinnedFile:
    """A file that is read: `stamp` is what the storage said of it, `partition` its values of the partition columns.

    `rows`, `sizes`: of each row group. `row_groups`: the numbers of those that can hold rows of `where`. All are None
    where there are too many files to look at.
    """

    path: str
    size: int
    stamp: str
    partition: Mapping[str, Any]
    rows: tuple[int, ...] | None
    sizes: tuple[int, ...] | None
    row_groups: tuple[int, ...] | None


@dataclass(frozen=True)
class PinnedFolder:
    """The input of a run: the files of a folder whose partitions can hold rows of `where`, as they are now.

    `version`: when the last of them was written, in ms since 1970; None where there is none. `refused`: the
    columns of types that aren't handed on, and that type.
    """

    name: str
    root: Location
    schema: pa.Schema
    partition_columns: tuple[str, ...]
    where: Where | None
    files: tuple[PinnedFile, ...]
    version: int | None
    refused: Mapping[str, str] = field(default_factory=dict)
    range: None = None

    @property
    def pieces(self) -> int:
        """How many files it is in."""
        return len(self.files)

    @property
    def size(self) -> int:
        """Bytes of these."""
        return sum(file.size for file in self.files)

    @property
    def comments(self) -> dict[str, str]:
        """Parquet files have none."""
        return {}

    @property
    def where_columns(self) -> Sequence[str]:
        """The columns of `where`."""
        return self.where.columns if self.where else ()

    @property
    def rows(self) -> int | None:
        """An upper bound of the rows to read, None where the files were too many to look at."""
        if any(file.rows is None for file in self.files):
            return None
        return sum(file.rows[group] for file in self.files if file.rows for group in file.row_groups or ())

    def fingerprint(self, columns: Sequence[str] = ()) -> list[tuple[str, str]]:
        """What is read: each file's path, and its size with its ETag or its time of writing."""
        return sorted((file.path, file.stamp) for file in self.files)

    def rewritten_since(self, version: int, columns: Sequence[str] = ()) -> Sequence[Any]:
        """None: a folder has no versions."""
        return ()

    def describe(self) -> dict[str, Any]:
        """The folder, and when the last of the files was written."""
        return {"table": self.name, "version": self.version}


def pin(source: ParquetSource, names: Sequence[str] = ()) -> PinnedFolder:
    """List the folder, and read the footers of the files whose partitions can hold rows of `where`.

    Of more than MOST files those of a few tell the columns, unless one of `names` isn't among them; whoever reads the
    others widens what they hold, or refuses it, and counts their rows.

    Raises ConfigError where there is no such folder or its files don't make one table, NotReady where it has no file.
    """
    assert source.table is not None  # as the job file's own checks demand
    root = locate(source.table)
    name, listed = display_name(root), _list(root)
    partitions, values = partitions_of(list(listed), name)
    where, seen = _first_look(source.where, root, list(listed), partitions)
    inside, _ = _comparisons(where, partitions)
    partition = {
        path: own for path, own in zip(listed, values, strict=True) if all(admits(c, own[c.column]) for c in inside)
    }
    many = len(partition) > MOST
    seen |= read_footers(root, [p for p in (_some(list(partition)) if many else partition) if p not in seen])
    schema = _schema(*_parted(seen, partition), partitions, name)
    if many and not _has_all(schema, names):
        seen |= read_footers(root, [path for path in partition if path not in seen])
        schema = _schema(*_parted(seen, partition), partitions, name)
    footers, _ = _parted(seen, partition)
    where = _parse(source.where, schema)
    _, outside = _comparisons(where, partitions)
    if many:
        stamps = read_stamps(root, list(partition))
        files = tuple(PinnedFile(p, listed[p].size, stamps[p], own, None, None, None) for p, own in partition.items())
    else:
        files = tuple(_file(path, listed[path], own, footers[path], outside) for path, own in partition.items())
    changed = max((listed[file.path].mtime_ns // 1_000_000 for file in files), default=None)
    refused = _refuse_types(schema, footers, partitions)
    return PinnedFolder(name, root, schema, tuple(partitions.names), where, files, changed, refused)


def _some(paths: Sequence[str]) -> list[str]:
    """The paths of a few files, from the first to the last one."""
    return list(dict.fromkeys(paths[i * (len(paths) - 1) // (FEW - 1)] for i in range(FEW)))


def _parted(
    seen: Mapping[str, Footer], partition: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Footer], list[Footer]]:
    """The footers of the files that are read, in their order, and those of others."""
    read = {path: seen[path] for path in partition if path in seen}
    return read, [footer for path, footer in seen.items() if path not in partition]


def _has_all(schema: pa.Schema, names: Sequence[str]) -> bool:
    """Whether these columns are among the schema's, each with a type."""
    find = finder([f.name for f in schema if not pa.types.is_null(f.type)], case_insensitive=True)
    return all(find(name) is not None for name in names)


def _first_look(
    text: str | None, root: Location, paths: Sequence[str], partitions: pa.Schema
) -> tuple[Where | None, dict[str, Footer]]:
    """The condition, for the sake of the folders, and the footers that were read for it.

    Those are of the newest file by its name; of all where the condition has a column that only older ones have, or can
    be told only by their types.
    """
    name, footers = display_name(root), read_footers(root, paths[-1:])
    try:
        return _parse(text, _schema({}, list(footers.values()), partitions, name)), footers
    except ConfigError:
        if len(paths) == 1:
            raise
    footers |= read_footers(root, paths[:-1])
    return _parse(text, _schema({}, list(footers.values()), partitions, name)), footers


def _comparisons(where: Where | None, partitions: pa.Schema) -> tuple[list[Comparison], list[Comparison]]:
    """The comparisons with columns of the folders, and those with columns of the files."""
    both = where.comparisons if where else ()
    return [c for c in both if c.column in partitions.names], [c for c in both if c.column not in partitions.names]


def _list(root: Location) -> dict[str, pa_fs.FileInfo]:
    """The files of the folder by path, in order, without those that are hidden. There is one at least."""
    found = entries(root)
    if any(path.startswith("_delta_log/") for path in found):
        raise ConfigError(
            f"source.table: {display_name(root)} is a Delta table, some of whose files may be old: "
            "read it with type: delta"
        )
    if files := {path: found[path] for path in sorted(found) if not _is_hidden(path)}:
        return files
    with reaching(root):
        kind = root.filesystem().get_file_info(root.path).type
    if kind == pa_fs.FileType.File:
        raise ConfigError(f"source.table: {display_name(root)} is a file: name the folder that it is in")
    if kind == pa_fs.FileType.NotFound:
        name = root.path.rsplit("/", 1)[-1]
        hint = nearest(name, [s for s in siblings(root) if s != name])
        raise ConfigError(f"source.table: there is no folder {display_name(root)} ({root.path}); {hint}")
    raise NotReady(f"{display_name(root)} has no Parquet file yet: nothing to score, nothing was replaced")


def _is_hidden(path: str) -> bool:
    """Whether it is no file of the table: a name begins with `_` or `.`, or marks a folder, as Hadoop once did."""
    return path.endswith("_$folder$") or any(part.startswith(("_", ".")) for part in path.split("/"))


def _schema(read: Mapping[str, Footer], others: Sequence[Footer], partitions: pa.Schema, name: str) -> pa.Schema:
    """The columns of the files, then those of the folders, which count where both have one."""
    inside = {column.lower() for column in partitions.names}
    return pa.schema([*(f for f in merge(read, others, name) if f.name.lower() not in inside), *partitions])


def _parse(text: str | None, schema: pa.Schema) -> Where | None:
    """The condition. Raises ConfigError for more than comparisons."""
    where = parse_where(text, schema) if text else None
    if where and where.reason:
        raise ConfigError(
            f"source.where: {where.reason}: of Parquet files only comparisons of columns with fixed values, joined by "
            "AND, are evaluated: write it so, or score a Delta table made of these files"
        )
    return where


def _file(
    path: str, info: pa_fs.FileInfo, partition: Mapping[str, Any], footer: Footer, comparisons: Sequence[Comparison]
) -> PinnedFile:
    rows = tuple(footer.metadata.row_group(g).num_rows for g in range(footer.metadata.num_row_groups))
    return PinnedFile(path, info.size, footer.stamp, partition, rows, footer.sizes, footer.row_groups(comparisons))


def _refuse_types(schema: pa.Schema, footers: Mapping[str, Footer], partitions: pa.Schema) -> dict[str, str]:
    """The columns of types that aren't handed on, by what Arrow says of them and by what Spark noted in the files."""
    find = finder(schema.names, case_insensitive=True)
    noted = {find(name): kind for footer in footers.values() for name, kind in footer.refused.items()}
    own = {field.name: kind for field in schema if (kind := unreadable(field.type)) is not None}
    refused = {**own, **{name: kind for name, kind in noted.items() if name is not None}}
    return {name: kind for name, kind in refused.items() if name not in partitions.names}
