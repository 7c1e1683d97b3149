"""Batches of messages from SQS and Kinesis: each message is a body of rows, its answer is sent on.

A message that can't be read, or whose answer can't be sent, is named as failed and comes again; the others don't. In a
stream, and in a queue that keeps its order, nothing after one that failed is touched.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lakehouse.errors import ConfigError
from lakehouse.serving.messages import ARROW, JSON, Request, Response
from lakehouse.serving.packaged import Package
from lakehouse.serving.server import LOG, Server

Sent = tuple[str, bytes]
"""A message's id, and the answer to it."""
Send = Callable[[Sequence[Sent]], list[str]]
"""Sends answers on; the ids of those that could not be sent."""
_SCORED = (200, 422)
_STREAM = b"\xff\xff\xff\xff"
"""How Arrow's stream begins."""


@dataclass(frozen=True)
class _Message:
    name: str
    body: bytes
    type: str


@dataclass(frozen=True)
class Source:
    """How a source's records are read. `ordered`: what follows a failed one has to wait; `rest`: all of it is named."""

    read: Callable[[Mapping[str, Any]], _Message]
    ordered: bool
    rest: bool


def source_of(event: Any) -> Source | None:
    """The source of a batch of records; None for an event that is none."""
    records = event.get("Records") if isinstance(event, Mapping) else None
    first = records[0] if isinstance(records, list) and records and isinstance(records[0], Mapping) else {}
    found = _SOURCES.get(str(first.get("eventSource")))
    return None if found is None else found(first)


def answer(
    records: Sequence[Mapping[str, Any]], source: Source, package: Package, send: Send | None,
    ask: Callable[[Request, Server], Response],
) -> dict[str, Any]:  # fmt: skip
    """Score each record's rows, send the answers, and name the records that have to come again."""
    messages = [source.read(record) for record in records]
    names = [message.name for message in messages]
    if send is None:
        LOG.error("%d messages, and nowhere to send their scores: package the job with --answers", len(messages))
        return _failed(names[:1] if source.ordered and not source.rest else names)
    answers, failed = list[Sent](), set[str]()
    for message in messages:
        headers = {"content-type": message.type, "x-request-id": message.name}
        request = Request("POST", package.path, {}, headers, message.body, "message", len(message.body))
        response = ask(request, package.inside)
        if response.status in _SCORED:
            answers.append((message.name, response.body))
            continue
        failed.add(message.name)
        said = "message %s is not scored, status %d: invoke the function with its body to see why"
        LOG.warning(said, message.name, response.status)  # the reason may show what is in it
        if source.ordered:
            break
    failed.update(send(answers) if answers else ())
    if not source.ordered:
        return _failed([name for name in names if name in failed])
    first = next((place for place, name in enumerate(names) if name in failed), len(names))
    return _failed(names[first:] if source.rest else names[first : first + 1])


def _failed(names: Sequence[str]) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": name} for name in names]}


def _of_queue(record: Mapping[str, Any]) -> _Message:
    attributes = record.get("messageAttributes") or {}
    kind = (attributes.get("Content-Type") or {}).get("stringValue") or JSON
    return _Message(str(record["messageId"]), str(record.get("body") or "").encode(errors="replace"), str(kind))


def _of_stream(record: Mapping[str, Any]) -> _Message:
    given = record["kinesis"]
    try:
        body = base64.b64decode(given.get("data") or "", validate=True)
    except (binascii.Error, ValueError):
        body = b""  # which is refused as any body without rows
    return _Message(str(given["sequenceNumber"]), body, ARROW if body.startswith(_STREAM) else JSON)


def _queue(first: Mapping[str, Any]) -> Source:
    in_order = str(first.get("eventSourceARN", "")).endswith(".fifo")
    return Source(_of_queue, in_order, in_order)


_SOURCES: Mapping[str, Callable[[Mapping[str, Any]], Source]] = {
    "aws:sqs": _queue,
    "aws:kinesis": lambda first: Source(_of_stream, True, False),
}
_PLACES = {"sqs": re.compile("https?://.+"), "kinesis": re.compile(r"[\w.-]{1,128}")}
_QUEUE_MOST, _QUEUE_BYTES = 10, 256 << 10
_STREAM_MOST, _STREAM_BYTES = 500, 5 << 20


def sender(place: str | None, job: str) -> Send | None:
    """What sends answers to this place, `sqs:URL` or `kinesis:STREAM`; None for none.

    Raises ConfigError for another place, and without boto3, which Lambda's own runtimes have.
    """
    if place is None:
        return None
    kind, name = place_of(place)
    try:
        import boto3
    except ImportError as error:
        raise ConfigError("--answers needs boto3, which is not installed: use a runtime of Lambda's own") from error
    return {"sqs": _to_queue, "kinesis": _to_stream}[kind](boto3, name, job)


def place_of(place: str) -> tuple[str, str]:
    """The kind and the name of a place for answers. Raises ConfigError."""
    kind, _, name = place.partition(":")
    form = _PLACES.get(kind)
    if form is not None and form.fullmatch(name):
        return kind, name
    raise ConfigError(f"--answers {place}: name a queue or a stream, sqs:URL or kinesis:STREAM")


def _to_queue(boto3: Any, url: str, job: str) -> Send:
    client = boto3.client("sqs")

    def entry(number: int, sent: Sent) -> dict[str, Any]:
        ordered = {"MessageGroupId": job, "MessageDeduplicationId": sent[0]} if url.endswith(".fifo") else {}
        return {"Id": str(number), "MessageBody": sent[1].decode(), **ordered}

    def send(part: Sequence[Sent]) -> list[str]:
        reply = client.send_message_batch(QueueUrl=url, Entries=[entry(n, one) for n, one in enumerate(part)])
        return [part[int(one["Id"])][0] for one in reply.get("Failed", ())]

    return _in_parts(send, _QUEUE_MOST, _QUEUE_BYTES)


def _to_stream(boto3: Any, name: str, job: str) -> Send:
    client = boto3.client("kinesis")

    def send(part: Sequence[Sent]) -> list[str]:
        records = [{"Data": body, "PartitionKey": message} for message, body in part]
        reply = client.put_records(StreamName=name, Records=records)
        return [one[0] for one, said in zip(part, reply["Records"], strict=True) if said.get("ErrorCode")]

    return _in_parts(send, _STREAM_MOST, _STREAM_BYTES)


def _in_parts(send: Send, most: int, size: int) -> Send:
    """`send` for any number of answers; a part that it fails on as a whole counts as not sent, and is logged."""

    def in_parts(answers: Sequence[Sent]) -> list[str]:
        parts, room = list[list[Sent]](), 0
        for one in answers:
            if not parts or len(parts[-1]) == most or len(one[1]) > room:
                parts.append([])
                room = size
            parts[-1].append(one)
            room -= len(one[1])
        failed = list[str]()
        for part in parts:
            try:
                failed += send(part)
            except Exception as error:
                LOG.warning("%d answers could not be sent: %s: %s", len(part), type(error).__name__, error)
                failed += [name for name, _ in part]
        return failed

    return in_parts
