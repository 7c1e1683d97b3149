"""Kinesis on loopback: python kinesis_server.py. It prints its address. It is moto's, with what that lacks of the real one.

Here a shard that is split or merged keeps its records and ends with them, its children get the new ones; sequence numbers
have 186 bits and gaps; one of another shard is refused; records can be trimmed, as by retention, and from the number of
such a one on a shard gives nothing for ever, as people report of AWS.

PUT /_act with a JSON object does what no client can: {"act": "trim", "stream", "shard", "count"} deletes the oldest
records of a shard, "forget" deletes a closed one ("stream", "shard"), "age" lets its records have come earlier ("stream",
"shard", "seconds"), and "refuse" makes the next PutRecords refuse the records at these places ("stream", "places").
"""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from moto.kinesis import models
from moto.kinesis.exceptions import InvalidArgumentError
from moto.server import DomainDispatcherApplication, create_backend_app
from moto.utilities.utils import md5_hash
from werkzeug.serving import WSGIRequestHandler, make_server

REGION, ACCOUNT = "eu-west-1", "123456789012"
_numbers = (
    49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898 + n * 1_000_003
    for n in itertools.count()
)
_refusals: dict[str, list[list[int]]] = defaultdict(list)
"""By stream the places of records that its next PutRecords refuse."""


class Shard(models.Shard):
    """A shard as AWS has it."""

    __module__ = models.__name__  # moto looks for the service's name there

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

    __module__ = models.__name__

    def split_shard(self, shard_to_split: str, new_starting_hash_key: str) -> None:
        with _kept(self.shards[shard_to_split]):
            super().split_shard(shard_to_split, new_starting_hash_key)

    def merge_shards(self, shard_to_merge: str, adjacent_shard_to_merge: str) -> None:
        with _kept(self.shards[shard_to_merge]), _kept(self.shards[adjacent_shard_to_merge]):
            super().merge_shards(shard_to_merge, adjacent_shard_to_merge)

    def get_shard_for_key(self, partition_key: str, explicit_hash_key: str) -> models.Shard | None:
        if len(partition_key) > 256:
            raise InvalidArgumentError("partition_key")
        key = int(explicit_hash_key or int(md5_hash(partition_key.encode()).hexdigest(), 16))
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
_put_records = models.KinesisBackend.put_records


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


def _put(self: Any, stream_arn: str, stream_name: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    refused = set(_refusals[stream_name].pop(0)) if _refusals[stream_name] else set()
    answer = _put_records(self, stream_arn, stream_name, [r for n, r in enumerate(records) if n not in refused])
    said, taken = "Rate exceeded for shard shardId-000000000000", iter(answer["Records"])
    no = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": said}
    told = [no if n in refused else next(taken) for n in range(len(records))]
    return {"FailedRecordCount": len(refused), "Records": told}


def act(asked: dict[str, Any]) -> None:
    """Do what no client can; see the module's docstring."""
    name = asked["stream"]
    if asked["act"] == "refuse":
        _refusals[name].append(asked["places"])
        return
    shards = models.kinesis_backends[ACCOUNT][REGION].streams[name].shards
    held: Any = shards[asked["shard"]]
    if asked["act"] == "forget":
        del shards[asked["shard"]]
    elif asked["act"] == "trim":
        for number in list(held.records)[: asked["count"]]:
            held.trimmed = number
            del held.records[number]
    elif asked["act"] == "age":
        for record in held.records.values():
            record.created_at -= asked["seconds"]
            record.created_at_datetime -= timedelta(seconds=asked["seconds"])


class Handler(WSGIRequestHandler):
    """Connections are kept, and nothing is logged."""

    protocol_version = "HTTP/1.1"

    def log_request(self, *_: Any) -> None:
        pass


def with_acts(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/_act":
            return app(environ, start)
        act(json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
        start("200 OK", [("Content-Length", "0")])
        return []

    return answer


if __name__ == "__main__":
    models.Shard, models.Stream, models.compose_new_shard_iterator = Shard, Stream, _place  # type: ignore[misc]
    models.KinesisBackend.get_records, models.KinesisBackend.put_records = _records, _put  # type: ignore[method-assign]
    logging.getLogger("werkzeug").disabled = True
    app = with_acts(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
    print(f"http://127.0.0.1:{server.port}", flush=True)
    server.serve_forever()
