"""Kinesis on loopback: moto's, in this process, with what it lacks of the real one.

Here a shard that is split or merged keeps its records and ends with them, its children get the new ones; sequence numbers
have 186 bits and gaps; one of another shard is refused; records can be trimmed, as by retention, and from the number of
such a one on a shard gives nothing for ever, as people report of AWS.
"""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest import mock

import boto3
from moto.kinesis import models
from moto.kinesis.exceptions import InvalidArgumentError
from moto.server import ThreadedMotoServer

REGION = "eu-west-1"
LOGIN = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
_numbers = (
    49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898 + n * 1_000_003
    for n in itertools.count()
)


class Shard(models.Shard):
    """A shard as AWS has it."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.first, self.trimmed = next(_numbers), 0

    def put_record(self, partition_key: str, data: str, explicit_hash_key: str) -> str:
        number = next(_numbers)
        self.records[number] = models.Record(partition_key, data, number, explicit_hash_key)
        return str(number)

    def get_min_sequence_number(self) -> int:
        return self.first

    def get_max_sequence_number(self) -> int:
        return max([self.first, *self.records]) + (0 if self.is_open else 7)


class Stream(models.Stream):
    """A stream as AWS has it."""

    def split_shard(self, shard_to_split: str, new_starting_hash_key: str) -> None:
        with _kept(self.shards[shard_to_split]):
            super().split_shard(shard_to_split, new_starting_hash_key)

    def merge_shards(self, shard_to_merge: str, adjacent_shard_to_merge: str) -> None:
        with _kept(self.shards[shard_to_merge]), _kept(self.shards[adjacent_shard_to_merge]):
            super().merge_shards(shard_to_merge, adjacent_shard_to_merge)

    def get_shard_for_key(self, partition_key: str, explicit_hash_key: str) -> models.Shard | None:
        key = int(explicit_hash_key)
        return next(s for s in self.shards.values() if s.is_open and s.starting_hash <= key <= s.ending_hash)


@contextmanager
def _kept(shard: models.Shard) -> Iterator[None]:
    """Hide a shard's records from moto, which would move them."""
    records, shard.records = shard.records, OrderedDict()
    yield
    shard.records = records


def _place(name: str | None, shard: Any, kind: str, number: Any, moment: Any) -> str:
    if number and not shard.first <= int(number) <= max([shard.trimmed, shard.get_max_sequence_number()]):
        raise InvalidArgumentError(f"StartingSequenceNumber {number} is none of {shard.shard_id}")
    return _compose(name, shard, kind, number, moment)


_compose = models.compose_new_shard_iterator


_get_records = models.KinesisBackend.get_records


def _records(self: Any, stream_arn: str | None, shard_iterator: str, limit: int | None) -> Any:
    name, shard_id, place = models.decompose_shard_iterator(shard_iterator)
    stream = self.describe_stream(stream_arn, name)
    shard = stream.get_shard(shard_id)
    if 0 < int(place) < shard.trimmed:
        return shard_iterator, [], stream.retention_period_hours * 3_600_000
    iterator, records, behind = _get_records(self, stream_arn, shard_iterator, limit)
    reached = int(models.decompose_shard_iterator(iterator)[2])
    if behind or len(records) == limit:  # AWS says how far from now they are
        behind = max(int((time.time() - records[-1].created_at) * 1000), 1)
    ended = not shard.is_open and reached >= max(shard.records, default=0)
    return (None if ended else iterator), records, behind


@dataclass
class Service:
    """The service, its address, and a client of it."""

    address: str
    client: Any

    def create(self, name: str, shards: int = 1) -> None:
        """Make a stream."""
        self.client.create_stream(StreamName=name, ShardCount=shards)

    def send(self, name: str, messages: Sequence[bytes], shard: int = 0) -> list[str]:
        """Send messages to a shard; their numbers."""
        key = str(self.shard(name, shard).starting_hash)
        records = [{"Data": data, "PartitionKey": "k", "ExplicitHashKey": key} for data in messages]
        return [r["SequenceNumber"] for r in self.client.put_records(StreamName=name, Records=records)["Records"]]

    def shard(self, name: str, shard: int) -> Any:
        """moto's own shard."""
        return self.stream(name).shards[f"shardId-{shard:012}"]

    def stream(self, name: str) -> Any:
        """moto's own stream."""
        return models.kinesis_backends["123456789012"][REGION].streams[name]

    def split(self, name: str, shard: int) -> None:
        """Split a shard into two halves."""
        whole = self.shard(name, shard)
        half = str((whole.starting_hash + whole.ending_hash) // 2)
        self.client.split_shard(StreamName=name, ShardToSplit=whole.shard_id, NewStartingHashKey=half)

    def merge(self, name: str, one: int, other: int) -> None:
        """Merge two shards."""
        ids = [self.shard(name, n).shard_id for n in (one, other)]
        self.client.merge_shards(StreamName=name, ShardToMerge=ids[0], AdjacentShardToMerge=ids[1])

    def trim(self, name: str, shard: int, count: int) -> None:
        """Delete the oldest records of a shard."""
        held = self.shard(name, shard)
        for number in list(held.records)[:count]:
            held.trimmed = number
            del held.records[number]

    def forget(self, name: str, shard: int) -> None:
        """Delete a closed shard, as AWS does when the retention of its last record has passed."""
        del self.stream(name).shards[f"shardId-{shard:012}"]

    def age(self, name: str, shard: int, seconds: float) -> None:
        """Let a shard's records have come so much earlier."""
        for record in self.shard(name, shard).records.values():
            record.created_at -= seconds
            record.created_at_datetime -= timedelta(seconds=seconds)


@contextmanager
def running() -> Iterator[Service]:
    """The service, as long as the block lasts."""
    with (
        mock.patch.object(models, "Shard", Shard),
        mock.patch.object(models, "Stream", Stream),
        mock.patch.object(models, "compose_new_shard_iterator", _place),
        mock.patch.object(models.KinesisBackend, "get_records", _records),
    ):
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        try:
            address = "http://{}:{}".format(*server.get_host_and_port())
            login = {name.lower(): value for name, value in LOGIN.items()}
            yield Service(address, boto3.client("kinesis", REGION, endpoint_url=address, **login))
        finally:
            server.stop()
