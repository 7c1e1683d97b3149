"""Runs the stand-in for Kinesis (kinesis_server.py) in a process of its own, and does to streams what tests need."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

REGION = "eu-west-1"
LOGIN = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
_AT_ONCE = 500
"""Records of a request, at most."""


def shard_id(number: int) -> str:
    """A shard's name."""
    return f"shardId-{number:012}"


@dataclass
class Service:
    """The service, its address, and a client of it."""

    address: str
    client: Any

    def create(self, name: str, shards: int = 1) -> None:
        """Make a stream."""
        self.client.create_stream(StreamName=name, ShardCount=shards)

    def send(self, name: str, messages: Iterable[bytes], shard: int = 0) -> list[str]:
        """Send messages to a shard; their numbers."""
        key, numbers = str(self._hashes(name, shard)[0]), list[str]()
        left = iter(messages)
        while some := list(islice(left, _AT_ONCE)):
            records = [{"Data": data, "PartitionKey": "k", "ExplicitHashKey": key} for data in some]
            answer = self.client.put_records(StreamName=name, Records=records)
            numbers += [record["SequenceNumber"] for record in answer["Records"]]
        return numbers

    def received(self, name: str) -> list[tuple[str, bytes]]:
        """The records of the first shard, in order: partition key and data."""
        first = {"ShardId": shard_id(0), "ShardIteratorType": "TRIM_HORIZON"}
        iterator, found = self.client.get_shard_iterator(StreamName=name, **first)["ShardIterator"], []
        while records := (answer := self.client.get_records(ShardIterator=iterator))["Records"]:
            found += [(record["PartitionKey"], record["Data"]) for record in records]
            iterator = answer["NextShardIterator"]
        return found

    def _hashes(self, name: str, shard: int) -> tuple[int, int]:
        """The first and the last hash of a shard's keys."""
        shards = {one["ShardId"]: one["HashKeyRange"] for one in self.client.list_shards(StreamName=name)["Shards"]}
        held = shards[shard_id(shard)]
        return int(held["StartingHashKey"]), int(held["EndingHashKey"])

    def split(self, name: str, shard: int) -> None:
        """Split a shard into two halves."""
        half = str(sum(self._hashes(name, shard)) // 2)
        self.client.split_shard(StreamName=name, ShardToSplit=shard_id(shard), NewStartingHashKey=half)

    def merge(self, name: str, one: int, other: int) -> None:
        """Merge two shards."""
        self.client.merge_shards(StreamName=name, ShardToMerge=shard_id(one), AdjacentShardToMerge=shard_id(other))

    def trim(self, name: str, shard: int, count: int) -> None:
        """Delete the oldest records of a shard."""
        self._act("trim", name, shard=shard_id(shard), count=count)

    def forget(self, name: str, shard: int) -> None:
        """Delete a closed shard, as AWS does when the retention of its last record has passed."""
        self._act("forget", name, shard=shard_id(shard))

    def age(self, name: str, shard: int, seconds: float) -> None:
        """Let a shard's records have come so much earlier."""
        self._act("age", name, shard=shard_id(shard), seconds=seconds)

    def refuse(self, name: str, *places: Sequence[int]) -> None:
        """Let the next requests that send records to a stream be refused those at these places, one entry a request."""
        for some in places:
            self._act("refuse", name, places=list(some))

    def _act(self, act: str, name: str, **values: Any) -> None:
        body = json.dumps({"act": act, "stream": name, **values}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.address}/_act", body, method="PUT")).close()


@contextmanager
def running() -> Iterator[Service]:
    """The service, as long as the block lasts."""
    import boto3

    command = [sys.executable, str(Path(__file__).with_name("kinesis_server.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        login = {name.lower(): value for name, value in LOGIN.items()}
        try:
            yield Service(address, boto3.client("kinesis", REGION, endpoint_url=address, **login))
        finally:
            server.terminate()
