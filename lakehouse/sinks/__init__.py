"""Where scored files are published: one module a system, all with the functions of `Sink`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.sinks.target import Asked, Room, Standing, Target


class Sink(Protocol):
    """What a module of this package does."""

    IN_PLACE: bool
    """Whether the staged files become the table's own where they lie; else they are uploaded, and go afterwards."""

    QUARANTINE_SUFFIX: str
    """What is appended to the name of a scored table for that of its quarantine."""

    def qualified(self, table: Any) -> Any:
        """The sink with its table named in full, where a shorter name depends on who asks; else as it is."""

    def uri_of(self, table: Any) -> str:
        """The URI of the table, as `Target.uri` has it."""

    def beside(self, uri: str, suffix: str) -> str:
        """The table beside this one with a suffix to its name, as `table` of a job file names it."""

    def exists(self, uri: str) -> bool:
        """Whether the table is there."""

    def name_in(self, shown: str) -> str:
        """The last part of a table's name, as `shown` gave it."""

    def stand(self, target: Target, types: Mapping[str, pa.DataType] | None, asked: Asked) -> Standing:
        """The target with its slice and generation, and how its table stands to it.

        `types` are those that another table of the job has for the slice's columns, None where none is known.
        Raises Blocked where a person's change, another job's rows or an earlier append stand against the run.
        """

    def lacks(self, standing: Standing, wanted: pa.Schema) -> tuple[pa.Field, ...] | None:
        """The columns that the table lacks, None where there is no table; ConfigError for another schema."""

    def room(self, target: Target, wanted: pa.Schema) -> Room:
        """How the quarantine table takes rows of this schema, which has the slice. Raises Unfit where it can't."""

    def has_quarantine(self, uri: str) -> bool | None:
        """Whether a quarantine table is there; None where nothing is."""

    def ensure(self, target: Target, comments: Mapping[str, str]) -> None:
        """Create the table, or add the columns that it lacks, so that it has the target's schema."""

    def check(self, target: Target, run: str) -> Any:
        """Look at the table as it is now. Raises what `publish` would raise; commits nothing."""

    def publish(self, target: Target, run: str, checked: Any, spark: Any = None) -> int:
        """Commit the run's staged files, once; the table's version then."""

    def published(self, target: Target, run: str) -> bool:
        """Whether this run's commit is made."""

    def shown(self, uri: str) -> str:
        """The table as people write it."""

    def generation(self, uri: str, identity: str) -> tuple[int, int | None]:
        """The generation that is published under this identity, 0 for none, and the table's version."""


def of(system: str) -> Sink:
    """The module for a system: "delta" or "snowflake"."""
    return cast(Sink, import_module(f"lakehouse.sinks.{system}"))
