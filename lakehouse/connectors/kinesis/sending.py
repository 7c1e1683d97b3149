"""Writing events to a stream of Kinesis, each at least once, those of a key in their order.

The service may take some records of a request and refuse others. So of a key there is one at most in each, and what was
refused is sent again before anything that comes later.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lakehouse.connectors import kinesis
from lakehouse.connectors.kinesis import Stream
from lakehouse.connectors.messages import Event
from lakehouse.errors import ConfigError, Unavailable

LARGEST = (1 << 20) - 1_024
"""Bytes of an event's value: with its partition key, of 256 characters, it may have 1 MiB."""
SHORT, TRIES = 5.0, 2
"""Seconds for an answer before a run does its work, and how often it is asked for."""
PATIENCE = 30.0
"""Seconds in which no event at all is taken."""
_AT_ONCE, _BYTES = 500, 5 << 20
"""Records of a request, and their bytes with their keys, at most."""
_KEY_LENGTH = 256
"""Characters of a key, at most; of a longer one its digest is sent."""
_PAUSE, _LONGEST = 0.1, 3.0
"""Seconds before records that were not taken are sent again, at first and at most."""


def require(stream: Mapping[str, Any]) -> None:
    """Raise ConfigError where the library isn't installed, there is no such stream or the login is refused.

    One that may write to the stream need not be allowed to look at it: then nothing is said. Raises Unavailable where
    nobody answers within a few seconds.
    """
    named = _named(stream)
    client = kinesis.connect(named, TRIES, SHORT)
    try:
        kinesis.summary(client, named)
    except ConfigError as error:
        if not isinstance(error.__cause__, client.exceptions.AccessDeniedException):
            raise


def _named(stream: Mapping[str, Any]) -> Stream:
    return Stream(stream["stream"], stream["region"], stream["endpoint"], "publish_events")


def send(stream: Mapping[str, Any], events: Iterable[Event]) -> None:
    """Write the events to `stream`; their ids stand in their values.

    Raises ConfigError where they are refused, Unavailable where not all of them are known to be written.
    """
    named = _named(stream)
    client = kinesis.connect(named)
    with kinesis.explained(named, "writing to it"):
        for records in _requests(events):
            _put(client, named, records)


def _requests(events: Iterable[Event]) -> Iterator[list[dict[str, Any]]]:
    """The events as records, so many as may be sent at once."""
    records, keys, size = list[dict[str, Any]](), set[str](), 0
    for event in events:
        key = _key(event.key)
        more = len(event.value) + len(key.encode())
        if records and (key in keys or len(records) == _AT_ONCE or size + more > _BYTES):
            yield records
            records, keys, size = [], set(), 0
        records.append({"Data": event.value, "PartitionKey": key})
        keys.add(key)
        size += more
    if records:
        yield records


def _key(key: bytes) -> str:
    text = key.decode()
    return text if len(text) <= _KEY_LENGTH else hashlib.sha256(key).hexdigest()


def _put(client: Any, stream: Stream, records: Sequence[Mapping[str, Any]]) -> None:
    """Send records until all are taken. Raises Unavailable where for a while none is."""
    pause, moved = _PAUSE, time.monotonic()
    while True:
        told = client.put_records(StreamName=stream.name, Records=records)["Records"]
        left = [(record, answer) for record, answer in zip(records, told, strict=True) if answer.get("ErrorCode")]
        if not left:
            return
        if len(left) < len(records):
            pause, moved = _PAUSE, time.monotonic()
        elif time.monotonic() - moved > PATIENCE:
            why = left[0][1]
            raise Unavailable(f"{stream.name}: no event is taken: {why['ErrorCode']}: {why.get('ErrorMessage')}")
        records = [record for record, _ in left]
        time.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, _LONGEST)
