"""Ranges of a stream's shards, read as a run has pinned them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lakehouse.connectors import kinesis
from lakehouse.connectors.kinesis import Stream
from lakehouse.connectors.messages import LOT_BYTES, Messages
from lakehouse.errors import Blocked, Unavailable

_MAGIC, _DIGEST_BYTES = b"\xf3\x89\x9a\xc2", 16
"""What several records in one begin with, and what they end with: the MD5 of all in between."""
_AGGREGATED = (
    "it holds several records that Amazon's Kinesis Producer Library has aggregated, and is not taken apart: set "
    "AggregationEnabled to false where it is written"
)


@dataclass(frozen=True)
class StreamReader:
    """Reads ranges of a stream's shards, as long as it is the stream of this id."""

    stream: Stream
    id: str

    @property
    def topic(self) -> str:
        """The stream's name."""
        return self.stream.name

    def read(self, partition: str, start: int, stop: int, most: int) -> Iterator[Messages]:
        """See `messages.Reader`; `start` is the number of a record."""
        client, lot, size = kinesis.connect(self.stream), Messages([], [], [], []), 0
        for record in self._records(client, partition, start, stop):
            _add(lot, record)
            size += len(record["Data"])
            if len(lot.values) == most or size >= LOT_BYTES:
                yield lot
                lot, size = Messages([], [], [], []), 0
        if lot.values:
            yield lot
        if kinesis.look(client, self.stream).id != self.id:
            raise Unavailable(f"{self.topic}: the stream was made anew while it was read; run again")

    def _records(self, client: Any, shard: str, start: int, stop: int) -> Iterator[Mapping[str, Any]]:
        """The records of the range. The first of them is still to be there, or others may be gone as well."""
        begun, moved = False, time.monotonic()
        for page in kinesis.pages(client, self.stream, shard, **kinesis.at(start)):
            if page.records and not begun and kinesis.number(page.records[0]) != start:
                break
            for record in page.records:
                if kinesis.number(record) >= stop:
                    return
                yield record
            if page.records:
                begun, moved = True, time.monotonic()
                if kinesis.number(page.records[-1]) == stop - 1:
                    return
            elif not begun and page.caught_up:
                break
            elif time.monotonic() - moved > kinesis.PATIENCE:
                raise Unavailable(f"{self.topic}: {shard} gave no record for {kinesis.PATIENCE:.0f} s before {stop}")
            if page.ended:
                return
        raise Blocked(
            f"{self.topic}: records of {shard} from {start} on were deleted while they were about to be read, such as "
            "by retention: run again, which says what is lost"
        )


def _add(lot: Messages, record: Mapping[str, Any]) -> None:
    numbers: Any = lot.offsets
    if _is_aggregated(record["Data"]):
        lot.problems[len(lot.values)] = _AGGREGATED
    lot.values.append(record["Data"])
    lot.keys.append(record["PartitionKey"].encode())
    numbers.append(record["SequenceNumber"])
    lot.times.append(kinesis.ms_of(record))


def _is_aggregated(data: bytes) -> bool:
    if not data.startswith(_MAGIC):
        return False
    inside, digest = data[len(_MAGIC) : -_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    return hashlib.md5(inside, usedforsecurity=False).digest() == digest
