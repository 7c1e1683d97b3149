"""Which messages were published already, by their ids: what is acknowledged may still come again.

A batch has a number, which is the position in the commit of its scores. Files here have the ids of one batch or of
several that follow one another, sorted by the time at which the messages were written to their topic, and say in their
names from which batch to which, so that those that were really published are the ones that lead back from the position.
A message has the same time whenever it comes: only files, and row groups, of the times of what has come are read.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse import formats
from lakehouse.connectors.pubsub import spool
from lakehouse.connectors.pubsub.spool import ID, SCHEMA, TIME, Spooled
from lakehouse.storage import Location, display_name, entries, remove, write_durably
from lakehouse.storage.parquet import open_parquet

_GROUP = 65_536
"""Ids of a row group."""
_FILE = 1_000_000
"""Ids of a file that no others are merged with."""
_SUFFIX = ".parquet"
_SCHEMA = pa.schema([SCHEMA.field(ID), SCHEMA.field(TIME)])


@dataclass(frozen=True)
class Published:
    """A file of ids: of the batches after `before` up to `last`, of messages from `oldest` to `newest` (µs)."""

    before: int
    last: int
    oldest: int
    newest: int
    rows: int

    @property
    def name(self) -> str:
        """The file's name."""
        return "-".join(map(str, (self.before, self.last, self.oldest, self.newest, self.rows))) + _SUFFIX


def files(folder: Location) -> list[Published]:
    """All that are there."""
    names = [name.removesuffix(_SUFFIX).split("-") for name in entries(folder) if name.endswith(_SUFFIX)]
    return [Published(*map(int, name)) for name in names if len(name) == 5 and all(map(str.isdecimal, name))]


def chain(there: Sequence[Published], position: int) -> tuple[list[Published], int]:
    """The files of what was published up to a position, newest first, and the batch before them, 0 if none is."""
    by_last: dict[int, Published] = {}
    for file in there:
        known = by_last.get(file.last)
        by_last[file.last] = file if known is None or file.before < known.before else known
    found = []
    while position in by_last:
        found.append(by_last[position])
        position = found[-1].before
    return found, position


def among(folder: Location, known: Sequence[Published], rows: pa.Table) -> set[str]:
    """The ids of those messages, of which there is at least one, that were published already."""
    times = np.sort(rows[TIME].cast(pa.int64()).to_numpy())
    wanted, found = rows[ID].combine_chunks(), set[tuple[str, int]]()

    def overlaps(oldest: int, newest: int) -> bool:
        at = int(np.searchsorted(times, oldest))
        return at < len(times) and times[at] <= newest

    for file in (file for file in known if overlaps(file.oldest, file.newest)):
        with open_parquet(folder, file.name) as parquet:
            said = (parquet.schema_arrow.metadata or {}).get(formats.KEY.encode(), b"0")
            formats.require(formats.MESSAGES, {formats.KEY: int(said)}, display_name(folder.join(file.name)))
            for group in range(parquet.num_row_groups):
                bounds = parquet.metadata.row_group(group).column(1).statistics
                if overlaps(_us(bounds.min), _us(bounds.max)):
                    held = parquet.read_row_group(group, columns=[ID, TIME])
                    held = held.filter(pc.is_in(held[ID], value_set=wanted))
                    found.update(_pairs(held))
    return {id_ for id_, _ in found.intersection(_pairs(rows))} if found else set()


def _us(moment: object) -> int:
    return int(pa.scalar(moment, pa.timestamp("us", "UTC")).value)


def _pairs(rows: pa.Table) -> list[tuple[str, int]]:
    return list(zip(rows[ID].to_pylist(), rows[TIME].cast(pa.int64()).to_pylist(), strict=True))


def forgo(folder: Location, position: int) -> None:
    """Take it from now on that nothing was published up to this batch, since nobody knows any more what was."""
    _write(folder, Published(0, position, 0, 0, 0), pa.table({ID: [], TIME: []}, _SCHEMA))


def _write(folder: Location, file: Published, rows: pa.Table) -> None:
    sink, said = io.BytesIO(), {formats.KEY: str(formats.MESSAGES.version)}
    pq.write_table(rows.replace_schema_metadata(said), sink, row_group_size=_GROUP, compression="zstd")
    write_durably(folder.join(file.name), sink.getvalue())


def remember(folder: Location, batch: Spooled, keep_from: int) -> None:
    """Keep the ids of a batch that was published; forget those of batches with numbers up to `keep_from`.

    Small files that come right before it are merged with it. The batch itself may go then. With it counts what it
    forgoes.
    """
    if batch.forgone:
        forgo(folder, batch.forgone)
    there, rows = files(folder), [spool.ids(batch)]
    first, count, merged = batch.since, rows[0].num_rows, list[Published]()
    for file in chain(there, batch.since)[0]:
        if file.rows > count or file.rows + count > _FILE:
            break
        with open_parquet(folder, file.name, whole=True) as parquet:
            rows.append(parquet.read([ID, TIME]))
        first, count = file.before, count + file.rows
        merged.append(file)
    table = pa.concat_tables([part.replace_schema_metadata(None) for part in rows]).sort_by(TIME)
    times = table[TIME].cast(pa.int64())
    _write(folder, Published(first, batch.number, times[0].as_py(), times[-1].as_py(), count), table)
    for file in [*merged, *(file for file in there if file.last <= keep_from)]:
        remove(folder.join(file.name))
