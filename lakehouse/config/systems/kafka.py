"""Topics of Kafka: each run scores the messages that came since the last published one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from lakehouse.config.streams import MessageSource
from lakehouse.config.systems import EventStream, Source
from lakehouse.config.values import Text
from lakehouse.references import is_reference

_SECRET = re.compile(r"password|secret|\.pem$|sasl\.jaas|sasl\.oauthbearer\.config")
"""Options whose values are secrets, by their names."""


def _require_servers(text: str) -> str:
    for server in text.split(","):
        if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}", server):
            raise ValueError(
                f"{server!r} is no broker: write host:port, several between commas, no scheme and no blanks"
            )
    return text


Servers = Annotated[
    Text,
    AfterValidator(_require_servers),
    Field(description="brokers to begin with, between commas", examples=["broker1:9092,broker2:9092"]),
]
Security = Annotated[
    dict[Text, Text],
    Field(
        description="how to log in: options of librdkafka, `security.protocol`, `sasl.…` and `ssl.…`; those that are "
        "secrets say where they are, env:NAME or file:PATH, which is looked up wherever messages are read or "
        "written, on executors too",
        examples=[
            {
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "PLAIN",
                "sasl.username": "scores",
                "sasl.password": "env:KAFKA_PASSWORD",
            }
        ],
    ),
]


def _require_login(security: Mapping[str, str]) -> None:
    """Raise ValueError for a secret that is given itself, which is not repeated, and for what can't be a login."""
    for option, value in security.items():
        if not re.match(r"security\.protocol$|sasl\.|ssl\.", option):
            raise ValueError(f"security: {option!r} is not about security: security.protocol, sasl.… or ssl.…")
        if _SECRET.search(option) and not is_reference(value):
            raise ValueError(f"security.{option}: name where it is, env:NAME or file:PATH, not the secret itself")
    mechanism = security.get("sasl.mechanism", security.get("sasl.mechanisms", ""))
    if mechanism.upper() == "OAUTHBEARER" and security.get("sasl.oauthbearer.method", "").lower() != "oidc":
        raise ValueError(
            "security.sasl.mechanism: with OAUTHBEARER nothing fetches a token, for which the client would wait: say "
            "sasl.oauthbearer.method: oidc, and sasl.oauthbearer.token.endpoint.url, .client.id and .client.secret"
        )


class KafkaSource(MessageSource):
    """A topic of Kafka whose messages are scored."""

    type: Literal["kafka"] = Field(description="the system the input is in")
    servers: Servers
    topic: Text = Field(description="the topic whose messages are scored", examples=["games"])
    security: Security = Field({})

    # as in lakehouse.schemas, which imports pyarrow
    PLACES: ClassVar[tuple[str, ...]] = ("_topic", "_partition", "_offset", "_timestamp", "_message", "_unreadable")
    NO_SETTINGS: ClassVar[frozenset[str]] = MessageSource.NO_SETTINGS | {"servers", "security"}

    @property
    def name(self) -> str:
        return self.topic

    @model_validator(mode="after")
    def _secrets_elsewhere(self) -> KafkaSource:
        _require_login(self.security)
        return self


class KafkaEvents(EventStream):
    """A topic of Kafka that gets events of the job's runs."""

    type: Literal["kafka"] = Field(description="the system the events go to")
    servers: Servers
    topic: Text = Field(description="the topic that gets the events, which has to be there", examples=["scored"])
    security: Security = Field({})

    @property
    def name(self) -> str:
        return self.topic

    @model_validator(mode="after")
    def _secrets_elsewhere(self) -> KafkaEvents:
        _require_login(self.security)
        return self

    def is_read_as(self, source: Source) -> bool:
        """Whether the source reads this topic from one of these servers."""
        return (
            isinstance(source, KafkaSource)
            and source.topic == self.topic
            and bool({*source.servers.split(",")} & {*self.servers.split(",")})
        )
