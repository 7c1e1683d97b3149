"""What Google's functions framework calls: requests over HTTP, and CloudEvents, each answered by the handler.

An event is a message of Pub/Sub, or has rows as its data; its answer is published to a topic. One that can't be scored,
or whose answer can't be published, raises: it is delivered again, as far as its subscription says.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request as Call
from urllib.request import urlopen

from lakehouse.errors import ConfigError, LakehouseError
from lakehouse.serving import access_log
from lakehouse.serving.handler import handle
from lakehouse.serving.messages import JSON, Request
from lakehouse.serving.packaged import Package, open_package
from lakehouse.serving.server import LOG

if TYPE_CHECKING:
    from flask import Response as Reply

EMULATOR = "PUBSUB_EMULATOR_HOST"
"""Google's own variable: where another server stands for Pub/Sub."""
_SERVICE = "https://pubsub.googleapis.com"
_TOKEN = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
_MESSAGE = "google.cloud.pubsub.topic.v1.messagePublished"
_TOPIC = re.compile(r"pubsub:(projects/[^/:]+/topics/[^/:]+)")
_OTHERS = ("key",)
"""Parameters that Google's API gateways hand on, which take the API key from them."""
_SECONDS = 30.0
_SCORED = (200, 422)

Publish = Callable[[str, bytes], None]


@contextmanager
def beginning() -> Iterator[None]:
    """End the process, and log in words why, where a function can't begin."""
    try:
        yield
    except LakehouseError as error:
        LOG.error("the function can't begin: %s", error)
        sys.stderr.flush()
        raise SystemExit(1) from None


def entries(folder: str | Path) -> tuple[Callable[[Any], Reply], Callable[[Any], None]]:
    """The functions for requests and for events, for the package in this folder, whose model is loaded now.

    Ends the process where `open_package` raises, or `--answers` name no topic, once the reason is logged.
    """
    from lakehouse.serving import flask_app  # what makes packages need not have Flask

    with beginning():
        package = open_package(Path(folder))
        publish = publisher(package.answers)

    def http(request: Any) -> Reply:
        _leave_if_stuck(package)
        return flask_app.reply(package.server, others=_OTHERS)

    def event(cloud_event: Any) -> None:
        _leave_if_stuck(package)
        _answer(cloud_event, package, publish)

    return http, event


def _leave_if_stuck(package: Package) -> None:
    if package.is_stuck():
        LOG.error("a model has not answered in time, and still goes on: this process ends, and is replaced")
        os.kill(os.getpid(), signal.SIGTERM)


def _answer(cloud_event: Any, package: Package, publish: Publish | None) -> None:
    """Score an event's rows and publish the answer. Raises LakehouseError where it has to come again."""
    if publish is None:
        raise ConfigError("an event has come, and there is nowhere to send its scores: package the job with --answers")
    name, kind, body = _message(cloud_event)
    began = time.perf_counter()
    headers = {"content-type": kind, "x-request-id": name}
    request = Request("POST", package.path, {}, headers, body, "event", len(body))
    response = handle(request, package.inside)
    access_log.write(request, response, time.perf_counter() - began, sys.stdout)
    if response.status not in _SCORED:  # the reason may show what is in it
        said = f"event {name} is not scored, status {response.status}: send its rows over HTTP to see why"
        raise LakehouseError(said)
    publish(name, response.body)


def _message(event: Any) -> tuple[str, str, bytes]:
    """An event's id, the media type of its rows, and these."""
    data = event.data
    if event["type"] == _MESSAGE:
        message: Mapping[str, Any] = data["message"]
        kind = {name.lower(): value for name, value in (message.get("attributes") or {}).items()}.get("content-type")
        try:
            body = base64.b64decode(message.get("data") or "", validate=True)
        except (binascii.Error, ValueError):
            body = b""  # which is refused as any body without rows
        return str(message.get("messageId") or event["id"]), str(kind or JSON), body
    kind = str(event.get("datacontenttype") or JSON)
    if isinstance(data, bytes):
        return str(event["id"]), kind, data
    return str(event["id"]), kind, data.encode() if isinstance(data, str) else json.dumps(data).encode()


def publisher(place: str | None) -> Publish | None:
    """What publishes answers to a topic, `pubsub:projects/PROJECT/topics/TOPIC`; None for none."""
    if place is None:
        return None
    topic, emulator = topic_of(place), os.environ.get(EMULATOR)
    address = f"http://{emulator}" if emulator else _SERVICE
    tokens = _Tokens()

    def publish(name: str, body: bytes) -> None:
        message = {"data": base64.b64encode(body).decode(), "attributes": {"request_id": name, "content-type": JSON}}
        call = Call(f"{address}/v1/{topic}:publish", json.dumps({"messages": [message]}).encode())
        call.add_header("Content-Type", JSON)
        try:
            if emulator is None:
                call.add_header("Authorization", f"Bearer {tokens.current()}")
            with urlopen(call, timeout=_SECONDS) as reply:
                reply.read()
        except OSError as error:
            raise LakehouseError(f"the answer to {name} can't be published to {topic}: {error}") from error

    return publish


def topic_of(place: str) -> str:
    """The topic that a place for answers names. Raises ConfigError."""
    named = _TOPIC.fullmatch(place)
    if named is None:
        raise ConfigError(f"--answers {place}: name a topic, pubsub:projects/PROJECT/topics/TOPIC")
    return named[1]


class _Tokens:
    """The access token of the function's own service account, asked for again before it ends."""

    def __init__(self) -> None:
        self._token, self._ends = "", 0.0

    def current(self) -> str:
        """The token. Raises OSError outside Google's cloud."""
        if time.monotonic() > self._ends - 60:
            with urlopen(Call(_TOKEN, headers={"Metadata-Flavor": "Google"}), timeout=_SECONDS) as reply:
                said = json.load(reply)
            self._token, self._ends = str(said["access_token"]), time.monotonic() + float(said["expires_in"])
        return self._token
