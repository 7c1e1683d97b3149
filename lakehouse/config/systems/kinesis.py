"""Streams of Kinesis: each run scores the messages that came since the last published one."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lakehouse.config.streams import MessageSource, bare_name
from lakehouse.config.systems import EventStream, Source
from lakehouse.config.values import Text, address

Name = Annotated[Text, *bare_name("[a-zA-Z0-9_.-]{1,128}", "1 to 128 letters, digits, '_', '.' and '-'")]
Region = Annotated[
    Annotated[Text, *bare_name("[a-z]{2,}(-[a-z0-9]+)+", "a region of AWS, such as eu-west-1")] | None,
    Field(
        description="the region of AWS that the stream is in; default: what AWS's own variables and files say",
        examples=["eu-west-1"],
    ),
]
Endpoint = Annotated[
    Annotated[Text, address("http://localhost:4566")] | None,
    Field(
        description="the address of the service, where it is not AWS's own for the region",
        examples=["http://localhost:4566"],
    ),
]


class KinesisSource(MessageSource):
    """A stream of Kinesis whose records are scored."""

    type: Literal["kinesis"] = Field(description="the system the input is in")
    stream: Name = Field(description="the stream whose records are scored", examples=["games"])
    region: Region = None
    endpoint: Endpoint = None

    # as in lakehouse.schemas, which imports pyarrow
    PLACES: ClassVar[tuple[str, ...]] = ("_topic", "_partition", "_offset", "_timestamp", "_message", "_unreadable")
    NO_SETTINGS: ClassVar[frozenset[str]] = MessageSource.NO_SETTINGS | {"region", "endpoint"}
    TAKES: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return self.stream


class KinesisEvents(EventStream):
    """A stream of Kinesis that gets events of the job's runs."""

    type: Literal["kinesis"] = Field(description="the system the events go to")
    stream: Name = Field(description="the stream that gets the events, which has to be there", examples=["scored"])
    region: Region = None
    endpoint: Endpoint = None

    @property
    def name(self) -> str:
        return self.stream

    def is_read_as(self, source: Source) -> bool:
        """Whether the source reads this stream."""
        if not isinstance(source, KinesisSource):
            return False
        return (source.stream, source.region, source.endpoint) == (self.stream, self.region, self.endpoint)
