"""What a run has pulled, put down where executors read it: files of Arrow in the job's state folder, a lot each.

Ids to acknowledge by are good for one process only and aren't among it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakehouse import formats
from lakehouse.connectors.messages import Messages
from lakehouse.errors import Unavailable
from lakehouse.schemas import TIMESTAMP
from lakehouse.storage import Location, display_name, entries, folders, remove, remove_empty, write_durably

ID, TIME, KEY, DATA = "id", "time", "key", "data"
SCHEMA = pa.schema([(ID, pa.string()), (TIME, TIMESTAMP), (KEY, pa.binary()), (DATA, pa.binary())])
_MARK = formats.KEY.encode()


@dataclass(frozen=True)
class Spooled:
    """A batch that is put down in a folder of its own: its number, and that of the published one before it, or 0.

    `forgone`: with it somebody accepts that up to this batch, if any, it isn't known what was published.
    """

    home: Location
    since: int
    number: int
    forgone: int = 0

    @property
    def folder(self) -> Location:
        """Where its lots are."""
        return self.home.join(f"{self.since}-{self.number}" + (f"-{self.forgone}" if self.forgone else ""))


def _file(lot: int) -> str:
    return f"{lot:05}.arrow"


def write(batch: Spooled, lot: int, rows: pa.Table) -> None:
    """Put a lot of messages down, so that it outlives a crash of the machine."""
    sink = pa.BufferOutputStream()
    schema = SCHEMA.with_metadata({_MARK: str(formats.MESSAGES.version)})
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(rows.replace_schema_metadata(schema.metadata).combine_chunks())
    write_durably(batch.folder.join(_file(lot)), sink.getvalue())


def read(folder: Location, lot: int, columns: Sequence[str]) -> pa.Table:
    """These columns of a lot. Raises FileNotFoundError where it is not there."""
    place = folder.join(_file(lot))
    with place.filesystem().open_input_file(place.path) as file:
        opened = pa.ipc.open_file(file)
        said = (opened.schema.metadata or {}).get(_MARK, b"0")
        formats.require(formats.MESSAGES, {formats.KEY: int(said)}, display_name(place))
        return opened.read_all().select(list(columns))


def ids(batch: Spooled) -> pa.Table:
    """The ids and times of all messages of a batch."""
    files = [name for name in entries(batch.folder) if name.endswith(".arrow")]
    return pa.concat_tables([read(batch.folder, lot, [ID, TIME]) for lot in range(len(files))])


def batches(home: Location) -> list[Spooled]:
    """All that are there."""
    names = [name.split("-") for name in folders(home)]
    return [Spooled(home, *map(int, name)) for name in names if len(name) in (2, 3) and all(map(str.isdecimal, name))]


def clear(batch: Spooled) -> None:
    """Take a batch away."""
    for name in entries(batch.folder):
        remove(batch.folder.join(name))
    remove_empty(batch.folder)


@dataclass(frozen=True)
class SpoolReader:
    """Reads what a run has pulled; its partitions are the lots' numbers."""

    topic: str
    folder: Location

    def read(self, partition: Any, start: int, stop: int, most: int) -> Iterator[Messages]:
        """See `messages.Reader`; a message's place in its lot is its number."""
        try:
            lot = read(self.folder, int(partition), SCHEMA.names)
        except FileNotFoundError as error:
            raise Unavailable(
                f"{self.topic}: {display_name(self.folder)}, where the run has put its messages down, is not there: "
                "another run has published meanwhile, or executors can't reach the job's state folder; run again"
            ) from error
        for begin in range(start, stop, most):
            part = lot.slice(begin, min(most, stop - begin))
            values = [value or None for value in part[DATA].to_pylist()]
            times = part[TIME].cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64()).to_pylist()
            yield Messages(values, part[KEY].to_pylist(), part[ID].to_pylist(), times)
