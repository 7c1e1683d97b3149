"""A topic's messages as rows, whatever system they are of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from lakehouse.connectors import topics
from lakehouse.connectors.messages import Messages, Piece
from lakehouse.connectors.records import Format, schema_of
from lakehouse.errors import ConfigError
from lakehouse.schemas import PARTITION, TIMESTAMP_OF, UNREADABLE, require_columns


@dataclass(frozen=True)
class Lots:
    """A reader that has these messages, whatever it is asked for."""

    lots: tuple[Messages, ...]
    topic: str = "games"

    def read(self, partition: int, start: int, stop: int, most: int) -> Iterator[Messages]:
        yield from self.lots


def rows_of(times: list[int | None]) -> pa.RecordBatch:
    """The rows of messages of these times."""
    count, declared = len(times), schema_of({"n": "long"})
    lot = Messages([b'{"n": %d}' % n for n in range(count)], [None] * count, list(range(count)), times)
    schema = topics.schema_of({"n": "long"})
    [rows] = topics.MessageUnit(Lots((lot,)), Format("json"), Piece(0, 0, count), schema, declared, 100).batches()
    return rows


@pytest.mark.parametrize("far", [2**63 - 1, 9_300_000_000_000_000, 253_402_300_800_000, -62_135_596_800_001, -(2**63)])
def test_a_message_of_no_year_that_readers_know_has_its_row_without_the_time(far):
    rows = rows_of([0, far, None, 253_402_300_799_999])
    last = datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)
    assert rows.column(TIMESTAMP_OF).to_pylist() == [datetime(1970, 1, 1, tzinfo=UTC), None, None, last]
    assert rows.column("n").to_pylist() == [0, 1, 2, 3]
    assert rows.column(UNREADABLE).null_count == 4


@pytest.mark.parametrize(
    ("key", "lacks", "said"),
    [
        ("_offest", "", "did you mean '_offset'?"),
        (PARTITION, PARTITION, "messages of this system don't have it: [_topic, _offset] tell them apart"),
        ("m", "", "known: n. If messages have it, add it to source.schema"),
        ("topic", "", "known: n. If messages have it, add it to source.schema"),
    ],
)
def test_a_column_that_messages_lack_is_told_with_what_they_have(key, lacks, said):
    schema = pa.schema([field for field in topics.schema_of({"n": "long"}) if field.name != lacks])
    with pytest.raises(ConfigError) as refused:
        require_columns(schema, (key,), "keys", "games")
    assert str(refused.value) == f"keys: games has no column {key!r}, {said}"
