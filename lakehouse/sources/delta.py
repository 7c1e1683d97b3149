"""Reading a Delta table: pin one version, choose the carrier, cut the surviving files into units."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import conditions
from lakehouse.conditions import Comparison, Where, admits
from lakehouse.conditions.parsing import parse_where
from lakehouse.connectors.delta import (
    DataFile,
    Snapshot,
    data_changes,
    life_of,
    open_table,
    partition_value,
    version_before,
)
from lakehouse.connectors.mapping import digest_of
from lakehouse.connectors.parquet import FileUnit, read_settings, split_into_units, unsupported_types
from lakehouse.connectors.spark import missing_support
from lakehouse.errors import ConfigError, nearest
from lakehouse.schemas import RUN_ID
from lakehouse.sources import FILES, FRAME, FileUse, instant_of
from lakehouse.storage import Location, display_name, entries_of, locate, siblings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from lakehouse.config.systems.delta import DeltaSource

_ARROW_READS = frozenset(
    ["appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns", "identityColumns",
     "deletionVectors", "v2Checkpoint", "timestampNtz", "vacuumProtocolCheck", "inCommitTimestamp", "domainMetadata",
     "rowTracking", "clustering", "allowColumnDefaults", "icebergCompatV1", "icebergCompatV2", "variantType",
     "variantType-preview", "variantShredding", "variantShredding-preview", "columnMapping"]
)  # fmt: skip
"""Table features that leave the meaning of the Parquet files to a reader of Arrow as it is (VARIANT is refused)."""

_ZONED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
"""An instant, as Delta's writers spell it since 3.2; before, it was the wall clock of whatever zone they had."""

Files = list[tuple[str, int, str]]

KEEPS_FINGERPRINT = True

_ELSEWHERE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*:")
"""Absolute paths; Spark writes `file:/…` with one slash."""


@dataclass(frozen=True)
class PinnedTable:
    """The input of a run: one version of one table, and the files of it that can hold rows of `where`."""

    name: str
    snapshot: Snapshot
    where: Where | None
    files: tuple[DataFile, ...]
    range: None = None

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
    def size(self) -> int:
        """Bytes of these."""
        return sum(file.size for file in self.files)

    @property
    def comments(self) -> dict[str, str]:
        """What the columns are, of those that say."""
        return {c: str(m["comment"]) for c, m in self.snapshot.metadata.items() if m.get("comment")}

    @property
    def where_columns(self) -> Sequence[str]:
        """The columns of `where`."""
        return self.where.columns if self.where else ()

    def describe(self) -> dict[str, Any]:
        """Table and version."""
        return {"table": self.name, "version": self.version}

    @property
    def rows(self) -> int | None:
        """An upper bound of the rows to read, None where the log doesn't say."""
        counts = [f.live_rows for f in self.files]
        return None if None in counts else sum(c for c in counts if c is not None)

    def fingerprint(self, columns: Sequence[str] = ()) -> Files:
        """What is read: path, size and deletion vector of every surviving file.

        With column mapping also which fields of them the columns are, last: a column that was dropped and added again
        has the same name in the same files, and other values.
        """
        return [*_read_files(self.files), *_mapped(self.snapshot, columns)]

    def rewritten_since(self, version: int, columns: Sequence[str] = ()) -> Sequence[Files]:
        """The fingerprints of the same rows in this version, where they were only written to other files since.

        By the log in between: OPTIMIZE and its kin say that they change no data. None where a file that may hold rows
        of `where` came or went otherwise, or a column is another now, and where the log is not there any more. With
        column mapping the second is that of runs before fingerprints knew of it.
        """
        if version > self.snapshot.version or (version == self.snapshot.version and self.snapshot.mapping is None):
            return ()
        changes = data_changes(self.snapshot, version)
        inside = set(self.snapshot.partition_columns)
        comparisons = [c for c in (self.where.comparisons if self.where else ()) if c.column in inside]
        if changes is None or any(_may_hold(self.snapshot, change, comparisons) for change in changes):
            return ()
        try:
            then = open_table(self.snapshot.location, version)
        except ConfigError:  # a file of the log that is needed for it is gone
            return ()
        if then is None:
            return ()
        named = columns if self.snapshot.mapping or then.mapping else ()
        if not {*named, *self.where_columns} <= set(then.schema.names):
            return ()
        mapped = _mapped(then, columns)
        if mapped != _mapped(self.snapshot, columns):
            return ()
        files = _read_files(_surviving_files(then, self.where))
        return [[*files, *mapped], files] if mapped else [files]


def _read_files(files: Sequence[DataFile]) -> Files:
    return sorted(f.fingerprint() for f in files)


def _mapped(snapshot: Snapshot, columns: Sequence[str]) -> Files:
    """What tells these columns from others of their names, where column mapping has them stored under other names."""
    digest = digest_of(snapshot.noted(sorted(columns))) if snapshot.mapping is not None else None
    return [] if digest is None else [("", len(columns), digest)]


def qualify(source: DeltaSource) -> DeltaSource:
    """The source as it is: a path or URI names a table in full."""
    return source


def uri_of(source: DeltaSource) -> str | None:
    """The URI of the table."""
    return locate(source.table or "").uri


def rows_of_run(run: str) -> str:
    """The condition that selects the rows of one run in a table of the product's own."""
    return f"{RUN_ID} = '{run}'"


def narrowed(source: DeltaSource, pinned: Any, values: Mapping[str, Any]) -> DeltaSource:
    """By numbers and texts, as far as they are exact for Arrow."""
    return source.model_copy(update={"where": conditions.narrowed(source.where, values)})


def at_version(source: DeltaSource, version: int | None) -> DeltaSource:
    """The table at this version."""
    return source.model_copy(update={"version": version, "timestamp": None})


def pin(source: DeltaSource, names: Sequence[str] = ()) -> PinnedTable:
    """Resolve the source to one version of its table. Raises ConfigError where there is no such table or version."""
    assert source.table is not None  # as the job file's own checks demand of a Delta source
    location = locate(source.table)
    snapshot = open_table(location, _version_of(source, location))
    if snapshot is None:
        name = location.path.rsplit("/", 1)[-1]
        hint = nearest(name, [s for s in siblings(location) if s != name])
        raise ConfigError(
            f"source.table: there is no Delta table at {display_name(location)} ({location.path}); {hint}"
        )
    where = parse_where(source.where, snapshot.schema) if source.where else None
    return PinnedTable(display_name(location), snapshot, where, _surviving_files(snapshot, where))


def _version_of(source: DeltaSource, location: Location) -> int | None:
    """The version that is asked for: by its number, or the newest of a time, that time's own included."""
    if source.timestamp is None or open_table(location) is None:
        return source.version
    moment = instant_of(source.timestamp) + timedelta(microseconds=1)
    try:
        return version_before(location, moment)
    except ConfigError as error:
        raise ConfigError(f"source.timestamp: {error}") from error


def _surviving_files(snapshot: Snapshot, where: Where | None) -> tuple[DataFile, ...]:
    """The live files that can hold rows of `where`, by partition values and statistics."""
    comparisons = where.comparisons if where else ()
    # Spark compares CHAR values padded, the log and the partitions hold them as they were written.
    return tuple(snapshot.files(comparisons=[c for c in comparisons if not _has_char(snapshot, c.column)]))


def _may_hold(snapshot: Snapshot, action: Mapping[str, Any], comparisons: Sequence[Comparison]) -> bool:
    """Whether a file that came or went may hold rows that pass these comparisons of partition columns."""
    values = {c.column: partition_value(snapshot, action, c.column) for c in comparisons}
    sure = [c for c in comparisons if values[c.column] is not None and not _has_char(snapshot, c.column)]
    return all(admits(c, values[c.column]) for c in sure)


def read(pinned: PinnedTable, columns: Sequence[str], limit: int | None = None) -> PinnedTable:
    """The input as it is: files are read by whoever scores them."""
    return pinned


def _has_blank(snapshot: Snapshot, files: Sequence[DataFile], column: str) -> bool:
    """Whether a partition's value is an empty text, which deltalake writes; it reads it as null, Spark as it is."""
    empty = any(column in f.partition and f.partition[column] is None for f in files)
    return empty and "" in snapshot.partition_texts(column)


def _lacks_zone(snapshot: Snapshot, column: str) -> bool:
    """Whether a partition's value is a moment, but in a zone that nothing says."""
    kind = snapshot.schema.field(column).type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        return False
    return any(text and not _ZONED.fullmatch(text) for text in snapshot.partition_texts(column))


def _has_char(snapshot: Snapshot, column: str) -> bool:
    """Whether a column is, or has within it, a CHAR."""
    return re.search(r"\bchar\(", _declared_type(snapshot, column), re.IGNORECASE) is not None


def _declared_type(snapshot: Snapshot, column: str) -> str:
    """The type in SQL where it has CHAR or VARCHAR in it, which the log keeps as strings."""
    return str(snapshot.metadata[column].get("__CHAR_VARCHAR_TYPE_STRING", ""))


def carrier(pinned: PinnedTable, columns: Sequence[str]) -> tuple[str, str]:
    """The carrier for these columns of the input, and the reason for it.

    Raises ConfigError for a column of a type that no carrier hands on, such as VARIANT.
    """
    _refuse_types(pinned, columns)
    snapshot, reasons = pinned.snapshot, []
    if pinned.where and pinned.where.reason:
        reasons.append(f"where: {pinned.where.reason}")
    if foreign := sorted(snapshot.features - _ARROW_READS):
        reasons.append(f"table features {', '.join(foreign)}")
    if any(_ELSEWHERE.match(f.path) for f in pinned.files):
        reasons.append("files outside the table's folder (a shallow clone)")
    for name in columns:
        if _has_char(snapshot, name):
            reasons.append(f"column {name!r} is {_declared_type(snapshot, name)}, padded by Spark only")
        if name not in snapshot.partition_columns:
            continue
        if _lacks_zone(snapshot, name):
            reasons.append(f"partition column {name!r} holds timestamps without a zone")
        if _has_blank(snapshot, pinned.files, name):
            reasons.append(f"partition column {name!r} holds an empty text")
    if reasons:
        return FRAME, "; ".join(reasons)
    return FILES, "Arrow reads this table's files as they are"


def supported_columns(pinned: PinnedTable) -> list[str]:
    """The columns of types that a carrier hands on."""
    declared = _declared_types(pinned)
    return [name for name in pinned.schema.names if not unsupported_types(declared[name])]


def _declared_types(pinned: PinnedTable) -> dict[str, Any]:
    return {f["name"]: f["type"] for f in json.loads(pinned.snapshot.table.schema().to_json())["fields"]}


def _refuse_types(pinned: PinnedTable, columns: Sequence[str]) -> None:
    declared = _declared_types(pinned)
    for name in columns:
        for kind in unsupported_types(declared[name]):
            within = "is" if kind == declared[name] else "has within it"
            raise ConfigError(
                f"column {name!r} of {pinned.name} {within} {kind.upper()}, which can be neither handed to a model "
                "nor kept: leave the column out of keys, keep, where and the model's features, or have the table "
                "hold it as a string or in columns of simple types"
            )


def units(pinned: PinnedTable, columns: Sequence[str], batch_rows: int, tasks: int) -> list[FileUnit]:
    """The input as units, small files whole, large ones in parts where there are few files; no file is opened."""
    snapshot = pinned.snapshot
    reading = read_settings(
        snapshot.location,
        snapshot.schema,
        columns,
        snapshot.partition_columns,
        pinned.where,
        batch_rows,
        remedy=" (VACUUM?): the next run reads the table's newest version",
        mapped=None if snapshot.mapping is None else (snapshot.mapping, snapshot.noted(columns)),
    )
    inside = reading.partition_columns
    wholes = [
        FileUnit(reading, f.relative, f.size, tuple(f.partition[c] for c in inside), live_mask=f.live_mask)
        for f in pinned.files
    ]
    return split_into_units(wholes, tasks)


_LOSSY = ("spark.sql.files.ignoreMissingFiles", "spark.sql.files.ignoreCorruptFiles")
"""Settings of a session by which files that can't be read are left out without a word; reads of Delta can't differ."""


def folder(pinned: PinnedTable) -> Location:
    """The table's folder."""
    return pinned.snapshot.location


def first_file(pinned: PinnedTable) -> Location | None:
    """The first of the files that are read."""
    return pinned.snapshot.location.join(pinned.files[0].relative) if pinned.files else None


def frame(spark: SparkSession, pinned: PinnedTable, columns: Sequence[str], reason: str = "") -> DataFrame:
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
        refusal = missing_support(error, needs, location)
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


def as_of(source: DeltaSource, moment: datetime) -> DeltaSource:
    """The source at the version that the table had right before a moment.

    Raises ConfigError where the log doesn't reach back to it, or VACUUM has taken a file that would be read.
    """
    if source.version is not None or source.timestamp is not None:
        key = "version" if source.version is not None else "timestamp"
        raise ConfigError(f"source.{key}: the job reads one version whatever the date: leave it out")
    location = locate(source.table or "")
    found = source.model_copy(update={"version": version_before(location, moment)})
    pinned = pin(found)
    paths = [file.relative for file in pinned.files if not _ELSEWHERE.match(file.path)]
    folders = {path.rpartition("/")[0] for path in paths}
    there = {
        f"{folder}/{name}" if folder else name
        for folder in folders
        for name in entries_of(location.join(folder) if folder else location)
    }
    if gone := set(paths) - there:
        raise ConfigError(
            f"{pinned.name}: {len(gone)} of {len(paths)} files that version {pinned.version} has for it are gone, such "
            f"as {min(gone)} (VACUUM)"
        )
    return found


def use_of_file(source: DeltaSource, file: str, readings: Sequence[tuple[int, str | None]]) -> FileUse:
    """By the log's commits, and by what it says of the file's partition and bounds: a run read it that may have."""
    newest = open_table(locate(source.table or ""))
    if newest is None:
        raise ConfigError(f"source.table: there is no Delta table at {source.table}")
    life = life_of(newest, file)
    there = [life.was_in(version) for version, _ in readings]
    versions = [version for (version, _), was in zip(readings, there, strict=True) if was]
    then = open_table(newest.location, max(versions)) if versions else None
    read: dict[str | None, bool] = {}
    if then is not None:
        for where in {where for (_, where), was in zip(readings, there, strict=True) if was}:
            kept = _surviving_files(then, parse_where(where, then.schema) if where else None)
            read[where] = any(one.relative == life.path for one in kept)
    used = tuple(was and read[where] for (_, where), was in zip(readings, there, strict=True))
    return FileUse(life.path, life.since, life.is_known, life.added, life.removed, used)
