"""Google's own fake of Pub/Sub (pstest) on loopback, built once into the cache by Go; and what tests do to it.

Messages that are not acknowledged come again when their time is up, for which the fake's clock can be put forward. It
hands out one message of an ordering key until that is acknowledged, forgets messages after ten minutes whatever their
retention, and gives no login a right.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cloud_servers import installed, program

PROJECT = "tests"
_SOURCE = Path(__file__).parent / "pstest"


@dataclass(frozen=True)
class Message:
    """A message as the server knows it: how often it was handed out, and acknowledged."""

    id: str
    data: bytes
    attributes: dict[str, str]
    key: str
    deliveries: int
    acks: int


@dataclass(frozen=True)
class Service:
    """A running server."""

    address: str
    process: subprocess.Popen[str]

    @property
    def endpoint(self) -> str:
        """The address as a job file has it."""
        return f"http://{self.address}"

    def _client(self, kind: str) -> Any:
        import grpc
        from google import pubsub_v1  # as generated: a request is a call

        made = getattr(pubsub_v1, kind)
        return made(transport=made.get_transport_class("grpc")(channel=grpc.insecure_channel(self.address)))

    def create(self, **options: Any) -> str:
        """Make a topic and a subscription of it, both of one new name."""
        name = f"games-{uuid.uuid4().hex[:8]}"
        with self._client("PublisherClient") as client:
            client.create_topic(request={"name": topic_path(name)})
        self.subscribe(name, name, **options)
        return name

    def subscribe(self, name: str, topic: str, **options: Any) -> None:
        """Make a subscription."""
        asked = {"name": subscription_path(name), "topic": topic_path(topic), "ack_deadline_seconds": 10, **options}
        with self._client("SubscriberClient") as client:
            client.create_subscription(request=asked)

    def delete_topic(self, name: str) -> None:
        """Delete a topic; its subscriptions stay."""
        with self._client("PublisherClient") as client:
            client.delete_topic(request={"topic": topic_path(name)})

    def send(self, topic: str, values: Iterable[bytes], key: str = "") -> None:
        """Publish messages."""
        sent = [{"data": value, "ordering_key": key} for value in values]
        with self._client("PublisherClient") as client:
            for start in range(0, len(sent), 1_000):
                client.publish(request={"topic": topic_path(topic), "messages": sent[start : start + 1_000]})

    def pull(self, name: str) -> list[str]:
        """Be handed out what there is, for ten seconds: the ids of these messages."""
        with self._client("SubscriberClient") as client:
            said = client.pull(request={"subscription": subscription_path(name), "max_messages": 1_000})
        return [one.message.message_id for one in said.received_messages]

    def _do(self, do: str, **asked: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **asked}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def forward(self, seconds: float) -> None:
        """Put its clock forward."""
        self._do("forward", seconds=seconds)

    def fail(self, method: str, code: int, times: int = 1) -> None:
        """Have the next calls of a method end with a code of gRPC's."""
        self._do("fail", method=method, code=code, times=times)

    def detach(self, name: str) -> None:
        """Detach a subscription from its topic."""
        self._do("detach", subscription=subscription_path(name))

    def messages(self, topic: str) -> list[Message]:
        """All messages of a topic, in their order."""
        found = self._do("messages", topic=topic)
        return [
            Message(
                one["ID"], base64.b64decode(one["Data"] or ""), one["Attributes"] or {}, one["Key"], one["Deliveries"],
                one["Acks"],
            )
            for one in found
        ]  # fmt: skip


def topic_path(name: str) -> str:
    """A topic's full name."""
    return f"projects/{PROJECT}/topics/{name}"


def subscription_path(name: str) -> str:
    """A subscription's full name."""
    return f"projects/{PROJECT}/subscriptions/{name}"


def _built() -> Path:
    """The server's program."""
    files = sorted(_SOURCE.iterdir())
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    build = [*program("go"), "build", "-C", str(_SOURCE), "-o", "{}/pstest", "."]
    return installed(f"pstest-{digest}", build) / "pstest"


@contextmanager
def running() -> Iterator[Service]:
    """Pub/Sub, until the block ends."""
    with subprocess.Popen([str(_built())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield Service(server.stdout.readline().strip(), server)
        server.stdin.close()
