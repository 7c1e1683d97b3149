"""Reading a Delta table: pin one version, choose the carrier, cut the surviving files into units."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.conditions import Comparison, Where, admits, mask, may_admit, parse_where
from lakehouse.connectors.delta import DataFile, Snapshot, open_table
from lakehouse.connectors.spark import lacking
from lakehouse.errors import ConfigError, Unavailable, nearest
from lakehouse.schemas import RUN_ID, conform, stored_names
from lakehouse.sources import FILES, FRAME
from lakehouse.storage import Location, locate, shown, siblings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from lakehouse.config.systems.delta import DeltaSource

SPLIT_BYTES, SMALL_BYTES = 8 << 20, 1 << 20
"""Files below the first size are one unit; larger ones are cut by row groups where there are few files. Those up to the
second are read whole, whatever columns are wanted."""

_ARROW_READS = frozenset(
    ["appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns", "identityColumns",
     "deletionVectors", "v2Checkpoint", "timestampNtz", "vacuumProtocolCheck", "inCommitTimestamp", "domainMetadata",
     "rowTracking", "clustering", "allowColumnDefaults", "icebergCompatV1", "icebergCompatV2", "variantType",
     "variantType-preview", "variantShredding", "variantShredding-preview"]
)  # fmt: skip
"""Table features that leave the meaning of the Parquet files to a reader of Arrow as it is (VARIANT is refused)."""

_CARRIED = re.compile(
    r"boolean|byte|short|integer|long|float|double|decimal\(.*\)|string|binary|date|timestamp|timestamp_ntz"
)
"""The log's names of the simple types that Arrow and Spark read alike: no VARIANT, VOID or interval among them."""

_ELSEWHERE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*:")
"""Absolute paths; Spark writes `file:/…` with one slash."""


@dataclass(frozen=True)
class Pinned:
    """The input of a run: one version of one table, and the files of it that can hold rows of `where`."""

    name: str
    snapshot: Snapshot
    where: Where | None
    files: tuple[DataFile, ...]

    @property
    def schema(self) -> pa.Schema:
        """The table's columns."""
        return self.snapshot.schema

    @property
    def version(self) -> int:
        """The table's version."""
        return self.snapshot.version

    @property
    def pieces(self) -> int:
        """How many files it is in."""
        return len(self.files)

    @property
    def comments(self) -> dict[str, str]:
        """What the columns are, of those that say."""
        return {c: str(m["comment"]) for c, m in self.snapshot.metadata.items() if m.get("comment")}

    @property
    def where_columns(self) -> Sequence[str]:
        """The columns of `where`."""
        return self.where.columns if self.where else ()

    def said(self) -> dict[str, Any]:
        """Table and version."""
        return {"table": self.name, "version": self.version}

    @property
    def rows(self) -> int | None:
        """An upper bound of the rows to read, None where the log doesn't say."""
        counts = [sum(f.kept) if f.kept is not None else f.rows for f in self.files]
        return None if None in counts else sum(c for c in counts if c is not None)

    def fingerprint(self) -> list[tuple[str, int, str]]:
        """What is read: path, size and deletion vector of every surviving file."""
        return sorted(f.fingerprint() for f in self.files)


def qualified(source: DeltaSource) -> DeltaSource:
    """The source as it is: a path or URI names a table in full."""
    return source


def uri_of(source: DeltaSource) -> str | None:
    """The URI of the table."""
    return locate(source.table or "").uri


def rows_of_run(run: str) -> str:
    """The condition that selects the rows of one run in a table of the product's own."""
    return f"{RUN_ID} = '{run}'"


def pin(source: DeltaSource, names: Sequence[str] = ()) -> Pinned:
    """Resolve the source to one version of its table. Raises ConfigError where there is no such table or version."""
    assert source.table is not None  # as the job file's own checks demand of a Delta source
    location = locate(source.table)
    snapshot = open_table(location, source.version, source.timestamp)
    if snapshot is None:
        name = location.path.rsplit("/", 1)[-1]
        hint = nearest(name, [s for s in siblings(location) if s != name])
        raise ConfigError(f"source.table: there is no Delta table at {shown(location)} ({location.path}); {hint}")
    where = parse_where(source.where, snapshot.schema) if source.where else None
    comparisons = where.comparisons if where else ()
    inside = set(snapshot.partition_columns)
    files = snapshot.files([c.column for c in comparisons if c.column not in inside])
    # Spark compares CHAR values padded, the log and the partitions hold them as they were written.
    unsure = {c.column for c in comparisons if _has_char(snapshot, c.column) or _has_blank(files, c.column)}
    sure = [c for c in comparisons if c.column not in unsure]
    return Pinned(shown(location), snapshot, where, tuple(f for f in files if _survives(f, sure, inside)))


def read(pinned: Pinned, columns: Sequence[str], limit: int | None = None) -> Pinned:
    """The input as it is: files are read by whoever scores them."""
    return pinned


def _survives(file: DataFile, comparisons: Sequence[Comparison], partition_columns: set[str]) -> bool:
    for c in comparisons:
        if c.column in partition_columns:
            if not admits(c, file.partition[c.column]):
                return False
        elif c.column in file.bounds and not may_admit(c, *file.bounds[c.column], file.rows):
            return False
    return True


def _has_blank(files: Sequence[DataFile], column: str) -> bool:
    """Whether a partition's value is an empty text, which deltalake writes; it reads it as null, Spark as it is."""
    return any(column in f.partition and f.partition[column] is None and f"{column}=" in f.relative.split("/")
               for f in files)  # fmt: skip


def _has_char(snapshot: Snapshot, column: str) -> bool:
    """Whether a column is, or has within it, a CHAR."""
    return re.search(r"\bchar\(", _declared(snapshot, column), re.IGNORECASE) is not None


def _declared(snapshot: Snapshot, column: str) -> str:
    """The type in SQL where it has CHAR or VARCHAR in it, which the log keeps as strings."""
    return str(snapshot.metadata[column].get("__CHAR_VARCHAR_TYPE_STRING", ""))


def carrier(pinned: Pinned, columns: Sequence[str]) -> tuple[str, str]:
    """The carrier for these columns of the input, and the reason for it.

    Raises ConfigError for a column of a type that no carrier hands on, such as VARIANT.
    """
    _refuse_types(pinned, columns)
    snapshot, reasons = pinned.snapshot, []
    if pinned.where and pinned.where.reason:
        reasons.append(f"where: {pinned.where.reason}")
    if snapshot.configuration.get("delta.columnMapping.mode", "none") != "none":
        reasons.append("the table uses column mapping")
    if foreign := sorted(snapshot.features - _ARROW_READS - {"columnMapping"}):
        reasons.append(f"table features {', '.join(foreign)}")
    if any(_ELSEWHERE.match(f.path) for f in pinned.files):
        reasons.append("files outside the table's folder (a shallow clone)")
    for name in columns:
        if _has_char(snapshot, name):
            reasons.append(f"column {name!r} is {_declared(snapshot, name)}, padded by Spark only")
        if name not in snapshot.partition_columns:
            continue
        if pa.types.is_timestamp(snapshot.schema.field(name).type):
            reasons.append(f"partition column {name!r} holds timestamps without a zone")
        if _has_blank(pinned.files, name):
            reasons.append(f"partition column {name!r} holds an empty text")
    if reasons:
        return FRAME, "; ".join(reasons)
    return FILES, "Arrow reads this table's files as they are"


def carried(pinned: Pinned) -> list[str]:
    """The columns of types that a carrier hands on."""
    declared = _declared_types(pinned)
    return [name for name in pinned.schema.names if all(map(_CARRIED.fullmatch, _simple_types(declared[name])))]


def _declared_types(pinned: Pinned) -> dict[str, Any]:
    return {f["name"]: f["type"] for f in json.loads(pinned.snapshot.table.schema().to_json())["fields"]}


def _refuse_types(pinned: Pinned, columns: Sequence[str]) -> None:
    declared = _declared_types(pinned)
    for name in columns:
        for kind in _simple_types(declared[name]):
            if not _CARRIED.fullmatch(kind):
                within = "is" if kind == declared[name] else "has within it"
                raise ConfigError(
                    f"column {name!r} of {pinned.name} {within} {kind.upper()}, which can be neither handed to a model "
                    "nor kept: leave the column out of keys, keep, where and the model's features, or have the table "
                    "hold it as a string or in columns of simple types"
                )


def _simple_types(kind: Any) -> Iterator[str]:
    """The simple types in a type as the log spells it."""
    if isinstance(kind, str):
        yield kind
        return
    for field in kind.get("fields", []):
        yield from _simple_types(field["type"])
    for part in ("elementType", "keyType", "valueType"):
        if part in kind:
            yield from _simple_types(kind[part])


@dataclass(frozen=True)
class Reading:
    """What all units of one input have in common; `schema` is that of the columns to read, in order."""

    root: Location
    schema: pa.Schema
    partition_columns: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    batch_rows: int


@dataclass(frozen=True)
class FileUnit:
    """A Parquet file, or some of its row groups. `kept`: one bit a row of the whole file, packed."""

    reading: Reading
    path: str
    size: int
    partition: tuple[Any, ...]
    row_groups: tuple[int, ...] | None = None
    kept: bytes | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Conformed batches of the rows that pass `where`, at most `batch_rows` each, empty ones left out.

        Raises OSError when the file yields another number of rows than its footer says, ConfigError for one that can't
        be Parquet, Unavailable for one that is gone.
        """
        try:
            yield from self._batches()
        except FileNotFoundError as error:
            raise Unavailable(
                f"{self.path} of {shown(self.reading.root)} is not there any more (VACUUM?): the next run reads the "
                "table's newest version"
            ) from error
        except pa.ArrowInvalid as error:
            raise ConfigError(f"{self.path} of {shown(self.reading.root)} can't be read as Parquet: {error}") from error

    def _batches(self) -> Iterator[pa.RecordBatch]:
        reading = self.reading
        file = self._opened()
        groups = self.row_groups if self.row_groups is not None else tuple(range(file.num_row_groups))
        kept = self._kept_rows(file, groups)
        wanted = [name for name in reading.schema.names if name not in reading.partition_columns]
        names = [name for name in stored_names(file.schema_arrow.names, wanted) if name is not None]
        hybrid = _counts_in_hybrid_calendar(file.metadata.metadata or {})
        position = 0
        for batch in file.iter_batches(reading.batch_rows, row_groups=list(groups), columns=names, use_threads=False):
            whole = conform(self._with_partition(batch), reading.schema)
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

    def _opened(self) -> pq.ParquetFile:
        """The file; a small one is read whole at once, which is one request instead of three."""
        path, filesystem = f"{self.reading.root.path}/{self.path}", self.reading.root.filesystem()
        if self.row_groups is not None or self.size > SMALL_BYTES:
            return pq.ParquetFile(path, filesystem=filesystem, coerce_int96_timestamp_unit="us", pre_buffer=True)
        with filesystem.open_input_stream(path) as stream:
            return pq.ParquetFile(pa.BufferReader(stream.read_buffer()), coerce_int96_timestamp_unit="us")

    def _with_partition(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        for name, value in zip(self.reading.partition_columns, self.partition, strict=True):
            constant = pa.repeat(pa.scalar(value, self.reading.schema.field(name).type), batch.num_rows)
            batch = batch.append_column(name, constant)
        return batch

    def _kept_rows(self, file: pq.ParquetFile, groups: Sequence[int]) -> np.ndarray[Any, Any] | None:
        if self.kept is None:
            return None
        counts = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        starts = np.concatenate([[0], np.cumsum(counts)])
        bits = np.unpackbits(np.frombuffer(self.kept, np.uint8), count=int(starts[-1])).astype(bool)
        return np.concatenate([bits[starts[g] : starts[g + 1]] for g in groups] or [bits[:0]])


def _counts_in_hybrid_calendar(footer: Mapping[bytes, bytes]) -> bool:
    """Whether the file is by a Spark before 3.1, or by one told to write as those did.

    Source: Spark's DataSourceUtils.datetimeRebaseSpec and int96RebaseSpec.
    """
    version = [int(part) for part in re.findall(rb"\d+", footer.get(b"org.apache.spark.version", b""))[:2]]
    marked = b"org.apache.spark.legacyDateTime" in footer or b"org.apache.spark.legacyINT96" in footer
    return marked or (bool(version) and version < [3, 1])


_GREGORIAN = pa.scalar(date(1582, 10, 15))
_ZONED = pa.scalar(datetime(1900, 1, 1, tzinfo=UTC), pa.timestamp("us", "UTC"))
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


def units(pinned: Pinned, columns: Sequence[str], batch_rows: int, tasks: int) -> list[FileUnit]:
    """The input as units, small files whole, large ones cut by row groups where there are few files."""
    snapshot = pinned.snapshot
    inside = tuple(c for c in snapshot.partition_columns if c in columns)
    comparisons = pinned.where.comparisons if pinned.where else ()
    reading = Reading(
        root=snapshot.location,
        schema=pa.schema([snapshot.schema.field(c) for c in columns]),
        partition_columns=inside,
        comparisons=tuple(c for c in comparisons if c.column not in snapshot.partition_columns),
        batch_rows=batch_rows,
    )
    result: list[FileUnit] = []
    few = len(pinned.files) < 4 * tasks
    for file in pinned.files:
        kept = None if file.kept is None else np.packbits(np.array(file.kept, dtype=bool)).tobytes()
        unit = FileUnit(reading, file.relative, file.size, tuple(file.partition[c] for c in inside), None, kept)
        split = file.size > SPLIT_BYTES and (few or file.size > 16 * SPLIT_BYTES)
        result += _by_row_groups(unit) if split else [unit]
    return result


def _by_row_groups(unit: FileUnit) -> list[FileUnit]:
    sizes = _group_sizes(unit.reading.root, unit.path, unit.size)
    return [
        FileUnit(unit.reading, unit.path, size, unit.partition, (group,), unit.kept) for group, size in enumerate(sizes)
    ]


@lru_cache(maxsize=4_096)
def _group_sizes(root: Location, path: str, size: int) -> tuple[int, ...]:
    """The sizes of a file's row groups. A run asks several times; a file of a table is never written to again."""
    with pq.ParquetFile(f"{root.path}/{path}", filesystem=root.filesystem()) as file:
        return tuple(file.metadata.row_group(g).total_byte_size for g in range(file.num_row_groups))


_LOSSY = ("spark.sql.files.ignoreMissingFiles", "spark.sql.files.ignoreCorruptFiles")
"""Settings of a session by which files that can't be read are left out without a word; reads of Delta can't differ."""


def folder(pinned: Pinned) -> Location:
    """The table's folder."""
    return pinned.snapshot.location


def first_file(pinned: Pinned) -> Location | None:
    """The first of the files that are read."""
    return pinned.snapshot.location.join(pinned.files[0].relative) if pinned.files else None


def frame(spark: SparkSession, pinned: Pinned, columns: Sequence[str], reason: str = "") -> DataFrame:
    """The pinned rows as a Spark DataFrame, which has to read them itself because of `reason`.

    Raises ConfigError where Spark has no Delta or would leave files out.
    """
    location = pinned.snapshot.location
    needs = f"{pinned.name} has to be read by Spark itself{f' ({reason})' if reason else ''}"
    if lossy := [key for key in _LOSSY if str(spark.conf.get(key, None)).lower() == "true"]:
        raise ConfigError(
            f"{needs}, and this session leaves out files that it can't read, and says nothing: "
            f"set {' and '.join(lossy)} to false"
        )
    reader = spark.read.format("delta").option("versionAsOf", pinned.snapshot.version)
    try:
        rows = reader.options(**location.hadoop_options()).load(location.hadoop_uri)
        rows = rows.where(pinned.where.text) if pinned.where else rows
        return rows.select([f"`{c.replace('`', '``')}`" for c in columns])
    except Exception as error:
        refusal = lacking(error, needs, location.remote)
        if refusal is not None:
            raise refusal from error
        text = str(error)
        if "DELTA_UNSUPPORTED_TIME_TRAVEL" in text:
            raise ConfigError(
                f"{pinned.name} at version {pinned.snapshot.version} has to be read by Spark itself, which goes back "
                "no further than delta.deletedFileRetentionDuration (by default 7 days): read a newer version, or have "
                "the table keep its files for longer"
            ) from error
        if "PARSE_SYNTAX_ERROR" in text or "UNRESOLVED" in text or "DATATYPE_MISMATCH" in text:
            raise ConfigError(f"source.where: Spark refuses it: {text.splitlines()[0]}") from error
        raise
