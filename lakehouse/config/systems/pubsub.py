"""Subscriptions of Google Pub/Sub: each run scores the messages that it is given, and acknowledges them at its end."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lakehouse.config.streams import MessageSource, bare_name
from lakehouse.config.systems import EventStream
from lakehouse.config.values import Text, address

_RULE = "3 to 255 letters, digits, '-', '_', '.', '~', '+' and '%', the first a letter"
Name = Annotated[Text, *bare_name("[A-Za-z][A-Za-z0-9._~+%-]{2,254}", _RULE)]

Project = Annotated[
    Text | None,
    Field(
        description="the project of Google Cloud that it is in; default: GOOGLE_CLOUD_PROJECT, or that of the login",
        examples=["games-prod"],
    ),
]
Endpoint = Annotated[
    Annotated[Text, address("europe-west1-pubsub.googleapis.com", scheme=False)] | None,
    Field(
        description="the address of the service, where it is not Google's own: of a region, or http://host:port of an "
        "emulator, which is reached without login (the library's own PUBSUB_EMULATOR_HOST says the same)",
        examples=["europe-west1-pubsub.googleapis.com"],
    ),
]


class PubsubSource(MessageSource):
    """A subscription of Pub/Sub whose messages are scored."""

    type: Literal["pubsub"] = Field(description="the system the input is in")
    subscription: Name = Field(
        description="the subscription, one that is pulled, whose messages are scored; of this job alone",
        examples=["games"],
    )
    project: Project = None
    endpoint: Endpoint = None
    start: Literal["earliest"] = Field(
        "earliest", description="left out: a subscription gives what was not acknowledged", examples=["earliest"]
    )
    on_loss: Literal["stop", "continue"] = Field(
        "stop",
        description="what a run does where messages may be lost or scored twice, as with a dead-letter topic or "
        "without the memory of what was published: stop (exit 3), or continue, and warn",
        examples=["continue"],
    )
    max_messages: int | None = Field(
        100_000, ge=1, description="a run takes so many messages at most", examples=[1000000]
    )
    quiet_seconds: float = Field(
        5.0,
        gt=0,
        description="a run ends its pull when no message has come for so long",
        examples=[9],
    )

    # as in lakehouse.schemas, which imports pyarrow
    PLACES: ClassVar[tuple[str, ...]] = ("_topic", "_offset", "_timestamp", "_message", "_unreadable")
    NO_SETTINGS: ClassVar[frozenset[str]] = MessageSource.NO_SETTINGS | {"endpoint", "quiet_seconds"}
    TAKES: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return self.subscription


class PubsubEvents(EventStream):
    """A topic of Pub/Sub that gets events of the job's runs."""

    type: Literal["pubsub"] = Field(description="the system the events go to")
    topic: Name = Field(description="the topic that gets the events, which has to be there", examples=["scored"])
    project: Project = None
    endpoint: Endpoint = None
    ordered: bool = Field(
        False,
        description="give each event an ordering key, a row's keys or the job's name, so that those of one key stay in "
        "order; it takes a request an event",
        examples=[True],
    )

    @property
    def name(self) -> str:
        return self.topic
