"""Messages that wait until there are enough of them for a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from lakehouse.connectors.messages import LOT_BYTES
from lakehouse.connectors.pubsub.spool import DATA, ID, KEY, SCHEMA, TIME

_ROWS = 65_536


@dataclass
class Lot:
    """Messages that wait until there are enough for a file."""

    ids: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    size: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.ids) >= _ROWS or self.size >= LOT_BYTES

    def add(self, got: Sequence[Any]) -> None:
        """Take messages as they came."""
        said = [one.message for one in got]
        self.ids += [message.message_id for message in said]
        self.times += [m.publish_time.seconds * 1_000_000 + m.publish_time.nanos // 1_000 for m in said]
        self.keys += [message.ordering_key.encode() or None for message in said]
        data = [message.data for message in said]
        self.data += data
        self.size += sum(map(len, data))

    def rows(self) -> pa.Table:
        """All of them."""
        times = pa.array(self.times, pa.int64()).cast(SCHEMA.field(TIME).type)
        return pa.table({ID: self.ids, TIME: times, KEY: pa.array(self.keys, pa.binary()), DATA: self.data}, SCHEMA)
