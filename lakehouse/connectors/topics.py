"""A topic's messages as a run's input: pinned, cut into units that read themselves, and what no topic can do.

The functions are those of `sources.SourceModule`, but for `pin`, which each system of messages has of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.connectors import records
from lakehouse.connectors.messages import PLACES, Messages, Piece, Range, Reader
from lakehouse.errors import ConfigError
from lakehouse.schemas import KEY_OF, MESSAGE, OFFSET, PARTITION, TIMESTAMP, TIMESTAMP_OF, TOPIC, UNREADABLE

__all__ = [
    "KEEPS_FINGERPRINT", "as_of", "at_version", "carrier", "first_file", "folder", "frame", "narrowed", "qualify",
    "read", "rows_of_run", "supported_columns", "units", "uri_of", "use_of_file",
]  # fmt: skip

MESSAGES = "messages"
KEEPS_FINGERPRINT = False
_BYTES = 256
"""What a message is taken to have: nobody says it before it is read."""
_LEAST = 10_000
"""Messages of a unit at least, where a partition is cut: each has a connection of its own."""
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999, in ms since 1970."""
_AT_ONCE = 65_536
"""Messages that become rows at once, at most."""


@dataclass(frozen=True)
class PinnedMessages:
    """The input of a run: messages that are there now and were not scored yet. `at_ms`: when that was looked up."""

    name: str
    schema: pa.Schema
    range: Range
    pieces_of: tuple[Piece, ...]
    at_ms: int
    reader: Reader
    format: records.Format
    where_columns: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        """The time at which it was looked up, in ms since 1970."""
        return self.at_ms

    @property
    def rows(self) -> int | None:
        """At most: offsets may have gaps. None where nobody knows before they are read, as where a message has many."""
        counts = [piece.rows for piece in self.pieces_of]
        if None in counts or self.format.kind == "arrow":
            return None
        return sum(count for count in counts if count is not None)

    @property
    def pieces(self) -> int:
        """The partitions that have messages."""
        return len(self.pieces_of)

    @property
    def size(self) -> None:
        """It is not said before they are read."""

    @property
    def comments(self) -> dict[str, str]:
        """Nothing says what a field means."""
        return {}

    def fingerprint(self, columns: Sequence[str] = ()) -> Any:
        """Where it begins and ends."""
        return [self.range.stream, sorted(self.range.since.items()), sorted(self.range.until.items())]

    def rewritten_since(self, version: int, columns: Sequence[str] = ()) -> Sequence[Any]:
        """None: messages are never rewritten."""
        return ()

    def describe(self) -> dict[str, Any]:
        """The topic, when it was looked at, and from where to where it is read."""
        ends = {name.rpartition("/")[2]: stop for name, stop in sorted(self.range.until.items())}
        return {"table": self.name, "version": self.at_ms, "until": ends}


@dataclass(frozen=True)
class MessageUnit:
    """A range of a partition. `schema`: the columns that are read, in order; `declared`: those of the messages."""

    reader: Reader
    format: records.Format
    piece: Piece
    schema: pa.Schema
    declared: pa.Schema
    batch_rows: int

    @property
    def size(self) -> int:
        rows = self.piece.rows
        return max(_LEAST if rows is None else rows, 1) * _BYTES

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its rows, in batches of at most `batch_rows` messages. Raises as `Reader.read`."""
        piece = self.piece
        for found in self.reader.read(piece.partition, piece.start, piece.stop, min(self.batch_rows, _AT_ONCE)):
            if found.values:
                yield self._wanted(self._rows(found))

    def parts(self, size: int) -> list[MessageUnit]:
        """The unit in parts of about so many bytes; as it is where its numbers don't tell where half of it is."""
        if not self.piece.dense:
            return [self]
        step = max(size // _BYTES, 1)
        starts = range(self.piece.start, self.piece.stop, step)
        return [replace(self, piece=replace(self.piece, start=s, stop=min(s + step, self.piece.stop))) for s in starts]

    def _wanted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """What is read of it: whoever doesn't ask why messages can't be read gets those that can."""
        if UNREADABLE in self.schema.names:
            return batch
        readable = batch.column(UNREADABLE).is_null()
        return (batch if pc.all(readable).as_py() else batch.filter(readable)).select(self.schema.names)

    def _rows(self, found: Messages) -> pa.RecordBatch:
        decoded = records.decode(found.values, self.declared, self.format)
        count, problems = len(found.values), {**decoded.problems, **found.problems}
        made: dict[str, Callable[[], pa.Array]] = {
            TOPIC: lambda: pa.repeat(pa.scalar(self.reader.topic, pa.string()), count),
            PARTITION: lambda: pa.repeat(pa.scalar(self.piece.partition, self.schema.field(PARTITION).type), count),
            OFFSET: lambda: pa.array(found.offsets, self.schema.field(OFFSET).type),
            TIMESTAMP_OF: lambda: _moments(found.times),
            KEY_OF: lambda: pa.array(found.keys, pa.binary()),
            MESSAGE: lambda: _at(problems, [found.values[n] for n in problems], count, pa.binary()),
            UNREADABLE: lambda: _at(problems, list(problems.values()), count, pa.string()),
        }
        columns, asked = [], UNREADABLE in self.schema.names
        schema = self.schema if asked else self.schema.append(pa.field(UNREADABLE, pa.string()))
        for field in schema:
            if field.name in made:
                column = made[field.name]()
                columns.append(column if decoded.of is None else column.take(decoded.of))
            else:
                columns.append(decoded.rows.column(field.name))
        return pa.RecordBatch.from_arrays(columns, schema=schema)


def _at(numbers: Collection[int], values: Sequence[Any], count: int, kind: pa.DataType) -> pa.Array:
    """An array with these values at these places, and null elsewhere."""
    places = np.full(count, len(values))
    places[list(numbers)] = range(len(values))
    return pa.array([*values, None], kind).take(pa.array(places))


def _moments(times: Sequence[int | None]) -> pa.Array:
    """Times in ms since 1970 as moments; null where they are of no year from 1 to 9999, which no reader knows."""
    numbers = pa.array(times, pa.int64())
    known = pc.and_(pc.greater_equal(numbers, _FIRST_MS), pc.less_equal(numbers, _LAST_MS))
    return pc.if_else(known, numbers, None).cast(pa.timestamp("ms", "UTC")).cast(TIMESTAMP)


def schema_of(columns: Mapping[str, str], places: pa.Schema = PLACES) -> pa.Schema:
    """All columns that can be read of messages with these."""
    return pa.schema([*records.schema_of(columns), *places])


def format_of(source: Any) -> records.Format:
    """How the source's messages hold rows. Raises ConfigError for a file with a schema that can't be used."""
    own = records.avro_in(source.avro_schema, source.schema_)
    return records.Format(source.format, own, source.registry, source.registry_login)


def qualify(source: Any) -> Any:
    """The source as it is: its topic is named in full."""
    return source


def uri_of(source: Any) -> str | None:
    """None: no sink writes to a topic."""
    return None


def rows_of_run(run: str) -> str:
    """Not asked: a topic is no table of the product's own."""
    raise AssertionError("a topic holds no rows of runs")


def _refuse(source: Any, what: str) -> NoReturn:
    raise ConfigError(f"{source.name}: {what}, since a topic keeps messages for a while only and has no versions")


def at_version(source: Any, version: int | None) -> Any:
    """Refused: messages of a run aren't read again yet."""
    _refuse(source, "what a run read of it isn't read again")


def as_of(source: Any, moment: datetime) -> Any:
    """Refused: a topic keeps no history."""
    _refuse(source, "what it held then isn't known")


def use_of_file(source: Any, file: str, readings: Sequence[tuple[int, str | None]]) -> Any:
    """Refused: there are no files."""
    _refuse(source, "no file of it can have been read")


def narrowed(source: Any, pinned: Any, values: Mapping[str, Any]) -> Any:
    """The source as it is: nothing is read of less than all messages."""
    return source


def carrier(pinned: PinnedMessages, columns: Sequence[str]) -> tuple[str, str]:
    """Always `messages`."""
    return MESSAGES, "workers read ranges of the partitions"


def supported_columns(pinned: PinnedMessages) -> Sequence[str]:
    """All of them, but for why a message can't be read: see `MessageUnit.batches`."""
    return tuple(name for name in pinned.schema.names if name != UNREADABLE)


def read(pinned: PinnedMessages, columns: Sequence[str], limit: int | None = None) -> PinnedMessages:
    """The input as it is: messages are read by whoever scores them."""
    return pinned


def units(pinned: PinnedMessages, columns: Sequence[str], batch_rows: int, tasks: int) -> list[MessageUnit]:
    """The partitions' ranges, cut where there are more tasks and the pieces stay large enough to be worth it."""
    schema = pa.schema([pinned.schema.field(c) for c in columns])
    declared = pa.schema([field for field in schema if field.name not in PLACES.names])
    if not len(declared):  # whether a message can be read at all is told by one of its columns
        declared = pa.schema([next(field for field in pinned.schema if field.name not in PLACES.names)])
    wholes = [
        MessageUnit(pinned.reader, pinned.format, piece, schema, declared, batch_rows) for piece in pinned.pieces_of
    ]
    step = max(-(-(pinned.rows or 0) // max(tasks, 1)), _LEAST)
    return [part for unit in wholes for part in unit.parts(step * _BYTES)]


def folder(pinned: PinnedMessages) -> None:
    """There are no files."""


def first_file(pinned: PinnedMessages) -> None:
    """There are no files."""


def frame(spark: Any, pinned: Any, columns: Sequence[str], reason: str) -> Any:
    """Never asked for: `carrier` says `messages`."""
    raise AssertionError("messages are carried as messages")
