"""Where scored files are published: one folder a system, all with the functions of `SinkModule`.

A sink says how its table stands to a run, makes staged files its rows by one commit, and remembers which runs it has
published. `target` is what a run will do to one table, whatever its system. Nothing here decides whether to publish.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse import config
    from lakehouse.connectors.digest import Digest
    from lakehouse.sinks.target import FormerRows, InspectedTarget, QuarantineFit, SliceRequest, Target
    from lakehouse.storage import Location


@dataclass(frozen=True)
class Native:
    """How people name a table in the SQL of the system that it is in, and what stands beside it there.

    `dialect`: that SQL; `parts`: from a table's name its parts as the system keeps them, the table's own name last;
    `lacking`: which parts the name in a job file leaves to which connection, "" for a full one. `runs` is appended to
    the table's name for that of its ledger; `published_at`: the ledger's column.
    """

    dialect: str
    parts: Callable[[str], Sequence[str]]
    lacking: Callable[[Any], str]
    runs: str
    published_at: str


@dataclass(frozen=True)
class Living:
    """Rows of a run that live in a slice, whose values are texts.

    `rows`: how many surely do; `perhaps`: there may be more, or any at all where that is 0. `said`: of a run that isn't
    on record, what the table's system keeps of it, under the names of the ledger's columns.
    """

    slice: Mapping[str, str]
    run: str
    rows: int
    perhaps: bool = False
    said: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LiveFile:
    """A file of live rows. `name`: the same for the same rows alone; `may_hold`: by its statistics."""

    name: str
    may_hold: Callable[[Mapping[str, Any]], bool]
    batches: Callable[[], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class LiveTable:
    """A slice's live files in one version of its table."""

    version: int
    schema: pa.Schema
    files: Sequence[LiveFile]


@dataclass(frozen=True)
class RememberedRun:
    """What a table itself remembers of a run that published to it; what it doesn't is None, or not there.

    `columns`: under the names of the ledger's. `restores`: the run whose rows a rollback put back.
    """

    run: str
    identity: str | None
    version: int | None
    at: datetime | None
    columns: Mapping[str, Any]
    restores: str | None = None


@dataclass(frozen=True)
class Compaction:
    """How small files of a table are to be merged: to about so many `bytes` each.

    `begin`: called before the first file is written; until its block ends the files of the run that it gives are kept.
    None: small files are only looked for. `first`: columns of which the log gets statistics in any case. `spark` opens
    a session for a table's place where only Spark can do it; None where there is none.
    """

    bytes: int
    begin: Callable[[], AbstractContextManager[str]] | None = None
    first: tuple[str, ...] = ()
    spark: Callable[[Location], AbstractContextManager[Any]] | None = None


@dataclass(frozen=True)
class SmallFiles:
    """Small files that are merged, or could be, and their bytes; none where `kept` says why they stay."""

    files: int
    bytes: int
    kept: str | None = None

    def staying(self, why: str) -> SmallFiles:
        """The same as they stay."""
        return SmallFiles(self.files, self.bytes, why if self.files else None)


class SinkModule(Protocol):
    """What a module of this package does."""

    IN_PLACE: bool
    """Whether the staged files become the table's own where they lie; else they are uploaded, and go afterwards."""

    SYSTEM: str
    """The system as people call it."""

    NATIVE: Native | None
    """How the table is named in its own system's SQL; None where any system reads its files where they lie."""

    UPKEEP: str
    """What the system does by itself to keep a table in order, for people; empty where that is left to others."""

    QUARANTINE_SUFFIX: str
    COMPARISON_SUFFIX: str
    """What is appended to the name of a scored table for that of its quarantine."""

    def qualify(self, table: Any) -> Any:
        """The sink with its table named in full, where a shorter name depends on who asks; else as it is."""

    def uri_of(self, table: Any) -> str:
        """The URI of the table, as `Target.uri` has it."""

    def beside(self, uri: str, suffix: str) -> str:
        """The table beside this one with a suffix to its name, as `table` of a job file names it."""

    def exists(self, uri: str) -> bool:
        """Whether the table is there."""

    def name_in(self, display_name: str) -> str:
        """The last part of a table's name, as `display_name` gave it."""

    def inspect_table(
        self, target: Target, types: Mapping[str, pa.DataType] | None, asked: SliceRequest
    ) -> InspectedTarget:
        """The target with its slice and generation, and how its table stands to it.

        `types` are those that another table of the job has for the slice's columns, None where none is known.
        Raises Blocked where a person's change, another job's rows or an earlier append stand against the run.
        """

    def missing_columns(self, standing: InspectedTarget, wanted: pa.Schema) -> tuple[pa.Field, ...] | None:
        """The columns that the table lacks, None where there is no table; ConfigError for another schema."""

    def fit_quarantine(self, target: Target, wanted: pa.Schema) -> QuarantineFit:
        """How the quarantine table takes rows of this schema, which has the slice. Raises Unfit where it can't."""

    def has_quarantine(self, uri: str) -> bool | None:
        """Whether a quarantine table is there; None where nothing is."""

    def ensure(self, target: Target, comments: Mapping[str, str]) -> None:
        """Create the table, or add the columns that it lacks, so that it has the target's schema."""

    def require_room(self, target: Target) -> None:
        """Raise ConfigError where this machine, without executors, can't hold what publishing would have to hold."""

    def former(self, target: Target, version: int) -> FormerRows:
        """What was live in the target's slice at a version, as a run's record names it.

        Raises ConfigError where it is gone, Blocked where it isn't what was published any more.
        """

    def check(self, target: Target, run: str) -> Any:
        """Look at the table as it is now. Raises what `publish` would raise; commits nothing."""

    def publish(self, target: Target, run: str, checked: Any, spark: Any = None) -> int:
        """Commit the run's staged files, once; the table's version then."""

    def published(self, target: Target, run: str) -> bool:
        """Whether this run's commit is made."""

    def display_name(self, uri: str) -> str:
        """The table as people write it."""

    def generation(self, uri: str, identity: str) -> tuple[int, int | None]:
        """The generation that is published under this identity, 0 for none, and the table's version."""

    def positions(self, uri: str, job: str) -> Mapping[str, int]:
        """By name up to where a job's published runs have read each part of an input that is read in ranges.

        Raises ConfigError where the table can't keep that.
        """

    def columns(self, section: config.Sink) -> pa.Schema | None:
        """The table's columns, none where there is no table yet; None where no file tells and a system has to be asked.

        Raises Unavailable where the file can't be reached.
        """

    def stored_columns(self, section: Any, names: Sequence[str]) -> pa.Schema:
        """The table's columns, for which its system is asked; none where there is no table yet.

        They are spelled like `names` where these are the same to the system.
        """

    def preview(
        self,
        section: config.Sink,
        table: str,
        run: str,
        values: Mapping[str, str],
        chosen: Callable[[Sequence[str]], Sequence[str]],
        limit: int,
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """The names of columns and a few rows, for people, of what `run` published; the slice's own otherwise.

        `table` is the table as `display_name` gives it, `values` the slice as text, `chosen` picks among the table's
        columns. Without rows the names may be lacking too.
        """

    def set_aside(self, section: Any, job: str, runs: Collection[str] | None) -> Iterable[pa.RecordBatch]:
        """Run and reasons (`_run_id`, `_reasons`) of a job's rows in a quarantine table, none where it isn't there.

        `runs`: those that are asked for, where not all are; rows of others may come too.
        """

    def live_runs(self, section: Any, job: str, of: Collection[str]) -> set[str]:
        """Those of these runs of a job of which rows are in the table."""

    def living(self, section: Any, job: str, known: Mapping[str, str]) -> Sequence[Living]:
        """Which of a job's runs have rows in which slice, without a look at any row.

        `known`: the runs on record, and the identity of each.
        """

    def changed_by_others(self, section: Any, values: Mapping[str, str], run: str) -> Sequence[str] | None:
        """In words what others than this program did to the rows that a run published; `values`: its slice.

        Rows that only went to other files are as they were. None where the table's system doesn't tell that.
        """

    def remembered(self, section: Any, job: str) -> Sequence[RememberedRun]:
        """A job's runs as the table itself remembers them, without a look at any row; none where it isn't there."""

    def digest(self, section: Any, values: Mapping[str, str], types: Mapping[str, pa.DataType]) -> Digest:
        """The digest of these columns of the slice's rows, in no order; it reads them all. `values`: the slice."""

    def rows(self, section: Any, values: Mapping[str, str], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """These columns of the slice's rows. `values`: the slice."""

    def rows_at(
        self,
        section: Any,
        values: Mapping[str, str],
        names: Sequence[str],
        version: int | None,
        only: Mapping[str, Any],
    ) -> Iterator[tuple[str, pa.RecordBatch]]:
        """These columns of the slice's rows at a version, by default the newest, and the file that each batch is of.

        `version`: as a run's record names it, whose rows `only` then asks for. `only`: the values of columns that rows
        must have; columns that the table lacks are left out. Raises ConfigError where the version is gone.
        """

    def as_scored(self, column: pa.Array, kind: pa.DataType) -> pa.Array | None:
        """A column of `rows_at` in the type of the scores that it was made of, where the system keeps another.

        None where these can't be told from what it keeps.
        """

    def live_files(
        self, section: Any, known: int | None, values: Mapping[str, Any], keys: Sequence[str]
    ) -> LiveTable | None:
        """The slice's files as they are now, which tell by their statistics whether they may hold a key.

        None where the table has no other version than `known`. `values`: the slice. Raises ConfigError where there is
        no such table, or its system is better asked itself.
        """

    def folder(self, section: Any) -> Location | None:
        """The folder that files of runs may be left in; None where the table isn't one."""

    def unknown_files(self, folder: Location) -> set[str] | None:
        """The files below a folder that the table's own log doesn't know; None where no such table is there."""

    def uploaded(self, section: Any) -> Mapping[str, tuple[int, int]]:
        """What runs have left in the table's system: by run, how many files and tables, and their bytes."""

    def remove_uploaded(self, section: Any, run: str) -> None:
        """Remove what `uploaded` lists of a run."""

    def compact(self, section: Any, asked: Compaction) -> SmallFiles:
        """Merge the table's small files, without changing its rows, whose they are, or what other readers see.

        Raises Unavailable where the table stays too busy.
        """

    def keep_files(self, section: Any, wanted: timedelta, *, change: bool) -> str:
        """Have the table keep files that were replaced at least so long; what is changed at it, or would be."""

    def outdated(self, section: Any, kept_for: timedelta | None) -> Mapping[str, int]:
        """Files of the table, with their bytes, that were replaced longer ago than it keeps such, and than `kept_for`.

        Only those of which its log still tells.
        """

    def lost_with(self, section: Any, records: Sequence[Mapping[str, Any]], paths: Collection[str]) -> list[str]:
        """Those of these recorded runs whose rows can be put back now, and can't be once these files are gone."""

    def remove_outdated(self, section: Any, paths: Collection[str]) -> None:
        """Take such files away."""


def of(system: str) -> SinkModule:
    """The module for a system, by the `type` that names it in a job file."""
    return cast(SinkModule, import_module(f"lakehouse.sinks.{system}"))
