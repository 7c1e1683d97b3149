"""Where features are read: one module a system, all with the functions of `SourceModule`.

A source pins its input at one moment, says which carrier can bring it to the worker, and cuts it into units that read
themselves. Nothing here knows the model or where the scores go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from lakehouse.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.config.systems import Source
    from lakehouse.connectors.messages import Range
    from lakehouse.storage import Location

FILES = "files"
CHUNKS = "chunks"
FRAME = "frame"


@dataclass(frozen=True)
class FileUse:
    """Who read a file of an input, by the log of its table, which tells of versions from `since` on.

    `added`, `removed`: the versions with which it came and went, None where that is further back, or still to come.
    `known`: whether there is such a file at all. `used`: of each reading that was asked about, None where it can't be
    told.
    """

    path: str
    since: int
    known: bool
    added: int | None
    removed: int | None
    used: tuple[bool | None, ...]


class PinnedInput(Protocol):
    """The input of a run, as it was at one moment. `pieces`: how many files or chunks it is in, where that is known."""

    @property
    def name(self) -> str:
        """What is read, for people."""

    @property
    def schema(self) -> pa.Schema:
        """All columns that may be read."""

    @property
    def version(self) -> int | None:
        """What `_input_version` will hold: the table's version, or the statement's time in ms since 1970."""

    @property
    def rows(self) -> int | None:
        """An upper bound of the rows to read, None where it isn't known."""

    @property
    def pieces(self) -> int | None:
        """How many files or chunks it is in, None where that isn't known."""

    @property
    def size(self) -> int | None:
        """The bytes of these, None where that isn't known."""

    @property
    def comments(self) -> Mapping[str, str]:
        """What the columns are, of those that say."""

    @property
    def where_columns(self) -> Sequence[str]:
        """The columns that the worker filters by."""

    @property
    def range(self) -> Range | None:
        """What a run takes of an input that is read in ranges; None for one that is read as it is at a moment."""

    def fingerprint(self, columns: Sequence[str] = ()) -> Any:
        """JSON-able, and the same where the same would be read of these columns."""

    def rewritten_since(self, version: int, columns: Sequence[str] = ()) -> Sequence[Any]:
        """What `fingerprint` gives, or gave, for the same rows in this version, where they were only written to other
        files since.

        Empty where a row may have changed, where the system can't tell, and where it has no versions.
        """

    def describe(self) -> dict[str, Any]:
        """The input for people and programs: `table` and `version` at least."""


class Unit(Protocol):
    """A picklable piece of the input, of `size` bytes."""

    @property
    def size(self) -> int:
        """About how much work it is."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its rows, conformed to the pinned schema."""


class SourceModule(Protocol):
    """What a module of this package does."""

    KEEPS_FINGERPRINT: bool
    """Whether the input `at_version` has the very fingerprint that it had for the run that read it."""

    def qualify(self, source: Any) -> Any:
        """The source with its table named in full, where a shorter name depends on who asks; else as it is."""

    def uri_of(self, source: Any) -> str | None:
        """One text for the table, as a sink of the same system has it (`Target.uri`); None where a query is read."""

    def rows_of_run(self, run: str) -> str:
        """The condition that selects the rows of one run in a table of the product's own."""

    def at_version(self, source: Any, version: int | None) -> Any:
        """The source as it was at this version, where its system can go back; as it is where it has no versions.

        Raises ConfigError where what was read then can't be read again.
        """

    def narrowed(self, source: Any, pinned: Any, values: Mapping[str, Any]) -> Any:
        """The source with only those of its rows that have these values, or more where `where` can't say it."""

    def pin(self, source: Any, names: Sequence[str]) -> Any:
        """The input as it is now, nothing read; `names` are those of columns as the job spells them."""

    def carrier(self, pinned: Any, columns: Sequence[str]) -> tuple[str, str]:
        """The carrier for these columns and the reason. Raises ConfigError for types that none hands on."""

    def supported_columns(self, pinned: Any) -> Sequence[str]:
        """The columns of types that a carrier hands on."""

    def read(self, pinned: Any, columns: Sequence[str], limit: int | None = None) -> Any:
        """The pinned input, read as far as that is one act; at most `limit` rows, where the system can tell."""

    def units(self, pinned: Any, columns: Sequence[str], batch_rows: int, tasks: int) -> Sequence[Unit]:
        """The input as units for about so many tasks."""

    def folder(self, pinned: Any) -> Location | None:
        """The folder of the input's files, which executors have to reach; None where there are no files."""

    def first_file(self, pinned: Any) -> Location | None:
        """One of the files that units are made of, by which executors are tried; None where there is none."""

    def as_of(self, source: Any, moment: datetime) -> Any:
        """The source as it reads what was there right before a moment.

        Raises ConfigError where that isn't known any more, or the system keeps no history.
        """

    def use_of_file(self, source: Any, file: str, readings: Sequence[tuple[int, str | None]]) -> FileUse:
        """Which of these readings, each a version and a condition, had a file among those that they read.

        Raises ConfigError where the system has no such history.
        """

    def frame(self, spark: Any, pinned: Any, columns: Sequence[str], reason: str) -> Any:
        """The pinned input as a Spark DataFrame, for the carrier `frame`, which this input has for that reason."""


class Taking(Protocol):
    """What a run was handed out by a system."""

    def declared(self) -> None:
        """It may be published from now on, be it by another process."""

    def settle(self) -> None:
        """It is published, or was before: tell the system that nobody needs it any more."""


@dataclass(frozen=True)
class Left:
    """What a run was handed out and put down in a folder, and when, in seconds since 1970.

    `over`: no run can publish it any more.
    """

    folder: Location
    over: bool
    at_s: float


class TakingModule(SourceModule, Protocol):
    """What the module of a system does besides that hands rows out (`Source.TAKES`)."""

    def taken(self, job: str, state: Location, *, few: bool) -> AbstractContextManager[Taking]:
        """What a run takes when its input is pinned, which is given back at the end unless it is settled.

        `few`: it publishes nothing, so that some rows are enough.
        """

    def left(self, source: Any, job: str, state: Location) -> Sequence[Left]:
        """What the job's runs have put down that is there still; `source` knows the positions (`Source.after`)."""


def named(table: str, **keys: Any) -> Source:
    """The section that reads the Delta table at a path or URI, or else the folder of Parquet files there.

    A table that is in no files is named as `<system>://<connection>/<table>`. Raises ConfigError where it is named
    otherwise, and where a Delta table is there that can't be read.
    """
    from lakehouse.config.systems import Source, build
    from lakehouse.connectors.delta import open_table
    from lakehouse.storage import locate

    system, _, place = table.partition("://")
    if system in named_by_connection():
        connection, _, name = place.partition("/")
        if not connection or not name or "/" in name:
            raise ConfigError(f"{table}: write {system}://<connection>/<table>, such as {system}://prod/lake.ml.scores")
        return build(Source, type=system, connection=connection, table=name, **keys)
    kind = "parquet" if open_table(locate(table)) is None else "delta"
    return build(Source, type=kind, table=table, **keys)


def named_by_connection() -> list[str]:
    """The systems whose tables are in no files, as `type` of a job file has them."""
    from lakehouse.config.systems import Source, models_of

    return [system for system, model in models_of(Source).items() if not (model.IN_FILES or model.IN_RANGES)]


def of(system: str) -> SourceModule:
    """The module for a system, by the `type` that names it in a job file."""
    return cast(SourceModule, import_module(f"lakehouse.sources.{system}"))


def instant_of(timestamp: str) -> datetime:
    """The instant of a `source.timestamp`, which is of UTC unless it says otherwise.

    Raises ConfigError where it is no time in ISO 8601.
    """
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError as error:
        raise ConfigError(
            f"source.timestamp: {timestamp!r} is no time: write one in ISO 8601, such as 2026-01-02T03:04:05Z"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
