"""Parquet files, read in units as Spark reads them: whole files, or some of their row groups."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.conditions import Comparison, Where, mask, may_admit
from lakehouse.connectors import mapping
from lakehouse.connectors.live_rows import LiveRows
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.schemas import conform, stored_names
from lakehouse.storage import Location, display_name, stamp
from lakehouse.storage.parquet import SMALL_BYTES, open_parquet

SPLIT_BYTES = 8 << 20
"""Files below this size are one unit; larger ones may be cut by row groups."""
MOST_BYTES = 128 << 20
"""Files whose row groups are known are cut where they are larger, however many there are."""

_CARRIED = re.compile(
    r"boolean|byte|short|integer|long|float|double|decimal\(.*\)|string|binary|date|timestamp|timestamp_ntz"
)
"""Spark's names of the simple types that it and Arrow read alike: no VARIANT, VOID or interval among them."""


@dataclass(frozen=True)
class ReadSettings:
    """What all units of one input have in common; `schema` is that of the columns to read, in order.

    `remedy` ends the sentence that says that a file is not what it was when the run began. `mapped`: where files know
    columns otherwise than the table (`connectors.mapping`), the mode, and the columns with what says how. `known`: the
    names, in lower case, of all columns of files of which nobody has looked at each: whoever reads one refuses others,
    and leaves out the row groups that can't hold rows of `where`.
    """

    root: Location
    schema: pa.Schema
    partition_columns: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    batch_rows: int
    remedy: str = ""
    mapped: tuple[str, pa.Schema] | None = None
    known: frozenset[str] | None = None


def read_settings(
    root: Location,
    schema: pa.Schema,
    columns: Sequence[str],
    partition_columns: Sequence[str],
    where: Where | None,
    batch_rows: int,
    remedy: str,
    mapped: tuple[str, pa.Schema] | None = None,
    known: frozenset[str] | None = None,
) -> ReadSettings:
    """What units of these columns of a table have in common; those with partition columns are made already."""
    return ReadSettings(
        root=root,
        schema=pa.schema([schema.field(c) for c in columns]),
        partition_columns=tuple(c for c in partition_columns if c in columns),
        comparisons=tuple(c for c in (where.comparisons if where else ()) if c.column not in partition_columns),
        batch_rows=batch_rows,
        remedy=remedy,
        mapped=mapped,
        known=known,
    )


@dataclass(frozen=True)
class FileUnit:
    """A Parquet file, or some of its row groups. `live_mask`: the rows of the whole file that are not deleted.

    `span`: the first byte, that after the last, and the size of the file, for the row groups that begin there; the
    footer says which these are, to whoever reads the unit. `stamp`: what the storage said of the file when it was
    pinned, where nothing else keeps it from being written to."""

    reading: ReadSettings
    path: str
    size: int
    partition: tuple[Any, ...]
    row_groups: tuple[int, ...] | None = None
    live_mask: LiveRows | None = None
    stamp: str | None = None
    span: tuple[int, int, int] | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Conformed batches of the rows that pass `where`, at most `batch_rows` each, empty ones left out.

        Raises OSError when the file yields another number of rows than its footer says, ConfigError for one that can't
        be Parquet, Unavailable for one that is gone, or that is not what was pinned.
        """
        try:
            with self._is_unchanged():
                yield from self._batches()
        except FileNotFoundError as error:
            raise Unavailable(
                f"{self.path} of {display_name(self.reading.root)} is not there any more{self.reading.remedy}"
            ) from error
        except pa.ArrowInvalid as error:
            raise ConfigError(
                f"{self.path} of {display_name(self.reading.root)} can't be read as Parquet: {error}"
            ) from error

    def has_rows(self) -> bool:
        """Whether any row passes `where`, for which only its columns are read; True without it. Raises as `batches`."""
        if not self.reading.comparisons:
            return True
        named = dict.fromkeys(c.column for c in self.reading.comparisons)
        schema = pa.schema([self.reading.schema.field(name) for name in named])
        reading = replace(self.reading, schema=schema, partition_columns=())
        return any(True for _ in replace(self, reading=reading, partition=()).batches())

    def parts(self, size: int) -> list[FileUnit]:
        """The unit in parts of so many bytes, where it is a whole file; else itself."""
        whole = self.row_groups is None and self.span is None
        return cut_at(self, range(size, self.size, size)) if whole else [self]

    @contextmanager
    def _is_unchanged(self) -> Iterator[None]:
        """Raise Unavailable where the file is not what was pinned, before the block or after it."""
        self._require_unchanged()
        try:
            yield
        except Exception:
            self._require_unchanged()
            raise
        self._require_unchanged()

    def _require_unchanged(self) -> None:
        if self.stamp is None:
            return
        now = stamp(self.reading.root.join(self.path))
        if now is None:
            raise FileNotFoundError(self.path)
        if now != self.stamp:
            raise Unavailable(
                f"{self.path} of {display_name(self.reading.root)} was written to after this run had looked at it"
                f"{self.reading.remedy}"
            )

    def _batches(self) -> Iterator[pa.RecordBatch]:
        reading = self.reading
        file = self._open()
        groups = self._groups(file)
        kept = self._live_rows(file, groups)
        names, named = self._columns(file.schema_arrow)
        hybrid = _counts_in_hybrid_calendar(file.metadata.metadata or {})
        position = 0
        for batch in file.iter_batches(reading.batch_rows, row_groups=list(groups), columns=names, use_threads=False):
            whole = conform(self._with_partition(named(batch)), reading.schema)
            if hybrid:
                _refuse_old_moments(whole, self.path)
            passing = mask(whole, reading.comparisons)
            if passing is not None:
                whole = whole.filter(passing) if kept is None else whole
            if kept is not None:
                alive = kept[position : position + batch.num_rows]
                passing = alive if passing is None else alive & passing.to_numpy(zero_copy_only=False)
                whole = whole.filter(pa.array(passing))
            position += batch.num_rows
            if whole.num_rows:
                yield whole
        expected = sum(file.metadata.row_group(g).num_rows for g in groups)
        if position != expected:
            raise OSError(f"{self.path}: read {position} rows where its footer says {expected}")

    def _groups(self, file: pq.ParquetFile) -> tuple[int, ...]:
        """The numbers of the row groups that are read."""
        if self.row_groups is not None:
            return self.row_groups
        footer = file.metadata
        groups = tuple(range(footer.num_row_groups))
        if self.span is not None:
            groups = groups_of_span([footer.row_group(g).total_byte_size for g in groups], *self.span)
        if self.reading.known is None:
            return groups
        names = file.schema_arrow.names
        self._require_known(names, self.reading.known)
        admitted = set(groups_that_admit(footer, names, self.reading.comparisons))
        return tuple(g for g in groups if g in admitted)

    def _require_known(self, names: Sequence[str], known: frozenset[str]) -> None:
        """Raise ConfigError where a file that nobody has looked at does not make one table with the others."""
        where = f"{self.path} of {display_name(self.reading.root)}"
        if twice := sorted(name for name, often in Counter(names).items() if often > 1):
            raise ConfigError(f"source.table: {where} has two columns {twice[0]!r}")
        if other := sorted(name for name in names if name.lower() not in known):
            raise ConfigError(
                f"source.table: {where} has a column {other[0]!r}, which none of the files has that were looked at (of "
                "very many, a few are): give the newest file all columns, or name a folder with fewer files"
            )

    def _columns(self, stored: pa.Schema) -> tuple[list[str], Callable[[pa.RecordBatch], pa.RecordBatch]]:
        """The columns of the file that are read, and what gives batches of them the table's names."""
        reading = self.reading
        wanted = [name for name in reading.schema.names if name not in reading.partition_columns]
        if reading.mapped is None:
            return [name for name in stored_names(stored.names, wanted) if name is not None], lambda batch: batch
        mode, columns = reading.mapped
        try:
            fields = mapping.find_columns(stored, pa.schema([columns.field(name) for name in wanted]), mode)
        except ConfigError as error:
            raise ConfigError(f"{self.path} of {display_name(reading.root)}: {error}") from error
        return list(fields), lambda batch: mapping.rename(batch, fields)

    def _open(self) -> pq.ParquetFile:
        """The file; a small one is read whole."""
        whole = self.row_groups is None and self.span is None and self.size <= SMALL_BYTES
        return open_parquet(self.reading.root, self.path, whole=whole, pre_buffer=True)

    def _with_partition(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        for name, value in zip(self.reading.partition_columns, self.partition, strict=True):
            constant = pa.repeat(pa.scalar(value, self.reading.schema.field(name).type), batch.num_rows)
            batch = batch.append_column(name, constant)
        return batch

    def _live_rows(self, file: pq.ParquetFile, groups: Sequence[int]) -> np.ndarray[Any, Any] | None:
        if self.live_mask is None:
            return None
        counts = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        starts = np.concatenate([[0], np.cumsum(counts)])
        if self.live_mask.rows != starts[-1]:
            raise OSError(f"{self.path}: its footer says {starts[-1]} rows, its deletion vector {self.live_mask.rows}")
        bits = self.live_mask.mask()
        return np.concatenate([bits[starts[g] : starts[g + 1]] for g in groups] or [bits[:0]])


def _counts_in_hybrid_calendar(footer: Mapping[bytes, bytes]) -> bool:
    """Whether the file is by a Spark before 3.1, or by one told to write as those did.

    Source: Spark's DataSourceUtils.datetimeRebaseSpec and int96RebaseSpec.
    """
    version = [int(part) for part in re.findall(rb"\d+", footer.get(b"org.apache.spark.version", b""))[:2]]
    marked = b"org.apache.spark.legacyDateTime" in footer or b"org.apache.spark.legacyINT96" in footer
    return marked or (bool(version) and version < [3, 1])


_GREGORIAN = date(1582, 10, 15)
_ZONED = datetime(1900, 1, 1, tzinfo=UTC)
"""From here on the zones of the writer and of UTC agree with today's rules."""


def _refuse_old_moments(batch: pa.RecordBatch, path: str) -> None:
    for field, column in zip(batch.schema, batch.columns, strict=True):
        for part in _simple_parts(column):
            zoned = pa.types.is_timestamp(part.type) and part.type.tz is not None
            if not (zoned or pa.types.is_date(part.type)):
                continue
            first, limit = pc.min(part), _ZONED if zoned else _GREGORIAN
            if first.is_valid and pc.less(first, limit).as_py():
                raise ConfigError(
                    f"column {field.name!r}: {path} was written in the calendar of Spark 2 and holds {first}, which "
                    "means another day today: rewrite the file with today's Spark, which converts it"
                )


def _simple_parts(array: pa.Array) -> Iterator[pa.Array]:
    """The arrays of simple types within an array."""
    if pa.types.is_struct(array.type):
        parts = array.flatten()
    elif pa.types.is_map(array.type):
        parts = [array.keys, array.items]
    elif pa.types.is_list(array.type):
        parts = [array.flatten()]
    else:
        yield array
        return
    for part in parts:
        yield from _simple_parts(part)


def groups_of_span(sizes: Sequence[int], start: int, stop: int, whole: int) -> tuple[int, ...]:
    """The row groups of these sizes that begin in the bytes from `start` to `stop` of a file of `whole` bytes.

    By their share of the file: of spans side by side each row group is of exactly one, and one may have none.
    """
    total, before, found = max(sum(sizes), 1), 0, list[int]()
    for group, size in enumerate(sizes):
        if start <= min(before * whole // total, whole - 1) < stop:
            found.append(group)
        before += size
    return tuple(found)


def groups_that_admit(
    footer: pq.FileMetaData, names: Sequence[str], comparisons: Sequence[Comparison]
) -> tuple[int, ...]:
    """The row groups that can hold rows that pass all comparisons, by their bounds. `names`: of the file's columns."""
    paths = [footer.schema.column(i).path for i in range(footer.num_columns)]
    often = Counter(paths)
    places = {path: i for i, path in enumerate(paths) if often[path] == 1}  # a.b may be b within a, too
    stored = stored_names(names, [c.column for c in comparisons])
    known = [(c, places[n]) for c, n in zip(comparisons, stored, strict=True) if n in places]
    groups = [(g, footer.row_group(g)) for g in range(footer.num_row_groups)]
    return tuple(g for g, group in groups if all(_may_admit(c, group, place) for c, place in known))


def _may_admit(comparison: Comparison, group: pq.RowGroupMetaData, place: int) -> bool:
    statistics = group.column(place).statistics
    if statistics is None:
        return True
    bounded = statistics.has_min_max and comparison.values
    least, greatest = (statistics.min, statistics.max) if bounded else (None, None)
    nulls = statistics.null_count if statistics.has_null_count else None
    return may_admit(comparison, least, greatest, nulls, group.num_rows)


def split_into_units(
    wholes: Sequence[FileUnit], tasks: int, group_sizes: Callable[[FileUnit], Sequence[int]] | None = None
) -> list[FileUnit]:
    """Units of files for about so many tasks.

    `group_sizes` gives the bytes of each row group of a file, where these are known: then large files are cut by row
    groups where there are few files, very large ones always. Otherwise no file is opened: those of more than a quarter
    of a task's bytes are cut where, laid end to end, a task's end; where there are several for each task, only those
    that are too large for one row group, or a cut would shift rows, which are of one side or the other as a whole.
    """
    if group_sizes is not None:
        few = len(wholes) < 4 * tasks
        large = [unit.size > SPLIT_BYTES and (few or unit.size > MOST_BYTES) for unit in wholes]
        parts = [_by_row_groups(u, group_sizes(u)) if cut else [u] for u, cut in zip(wholes, large, strict=True)]
        return [unit for several in parts for unit in several]
    share = max(sum(unit.size for unit in wholes) // tasks, SPLIT_BYTES, 1)
    least = max(SPLIT_BYTES if len(wholes) < 2 * tasks else MOST_BYTES, share // 4)
    result, end = list[FileUnit](), 0
    for unit in wholes:
        if unit.size <= least:
            result.append(unit)
            continue
        result += cut_at(unit, range(share - end % share, unit.size, share))
        end += unit.size
    return result


def _by_row_groups(unit: FileUnit, sizes: Sequence[int]) -> list[FileUnit]:
    groups = unit.row_groups if unit.row_groups is not None else range(len(sizes))
    return [replace(unit, size=sizes[group], row_groups=(group,)) for group in groups]


def cut_at(unit: FileUnit, places: Sequence[int]) -> list[FileUnit]:
    """The unit of a whole file as spans that end at these bytes, but for those near its ends."""
    least, whole = SPLIT_BYTES // 2, unit.size
    ends = [place for place in places if least <= place <= whole - least]
    if not ends:
        return [unit]
    spans = zip([0, *ends], [*ends, whole], strict=True)
    return [replace(unit, size=stop - start, span=(start, stop, whole)) for start, stop in spans]


def unsupported_types(kind: Any) -> list[str]:
    """The simple types in a type, as Delta's log and Spark's JSON spell it, that Arrow and Spark don't read alike."""
    return [simple for simple in _simple_types(kind) if not _CARRIED.fullmatch(simple)]


def _simple_types(kind: Any) -> Iterator[str]:
    """The simple types in a type as Spark's JSON spells it."""
    if isinstance(kind, str):
        yield kind
        return
    for field in kind.get("fields", []):
        yield from _simple_types(field["type"])
    for part in ("elementType", "keyType", "valueType"):
        if part in kind:
            yield from _simple_types(kind[part])
