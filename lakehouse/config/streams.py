"""What sources of messages have in common: how a message becomes a row, and where reading begins and goes on."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from lakehouse.config.messages import describe_value
from lakehouse.config.systems import Source
from lakehouse.config.values import Text, address
from lakehouse.errors import nearest
from lakehouse.references import is_reference

TYPES = ("boolean", "integer", "long", "float", "double", "string", "binary", "datetime")
"""MLflow's names of the types that columns of messages may have."""
_TYPE = rf"(?:{'|'.join(TYPES)}|array<(?:{'|'.join(TYPES)})>)"


def _require_type(value: str) -> str:
    if re.fullmatch(_TYPE, value) is None:
        raise ValueError(f"{value!r} is no type of a column, {nearest(value, (*TYPES, 'array<double>'))}")
    return value


def _require_reference(value: str) -> str:
    if not is_reference(value):  # it may be the secret itself: it is not repeated
        raise ValueError("name where the secret is, env:NAME or file:PATH, not the secret itself")
    return value


ColumnType = Annotated[str, AfterValidator(_require_type), WithJsonSchema({"type": "string", "pattern": f"^{_TYPE}$"})]
Reference = Annotated[
    str, AfterValidator(_require_reference), WithJsonSchema({"type": "string", "pattern": "^(env|file):."})
]
"""A secret, by where it is."""


def bare_name(pattern: str, rule: str) -> tuple[AfterValidator, WithJsonSchema]:
    """What a text has to be that names a stream within its account: by a pattern, and the same in words."""

    def require(value: str) -> str:
        if re.fullmatch(pattern, value):
            return value
        last = re.split("[/:]", value)[-1]
        hint = f": give the bare name, {last}" if last != value and re.fullmatch(pattern, last) else ""
        raise ValueError(f"must be {rule}, not {describe_value(value)}{hint}")

    return AfterValidator(require), WithJsonSchema({"type": "string", "pattern": f"^{pattern}$"})


class MessageSource(Source):
    """Messages of which each run takes those that came since the last published one."""

    table: Text | None = Field(None, description="left out: messages are in no table", examples=[None])
    where: Text | None = Field(None, description="left out: every message is scored", examples=[None])
    format: Literal["json", "avro", "arrow"] = Field(
        "json",
        description="what a message holds: an object in JSON, a record in Avro, or rows as an Arrow IPC stream",
        examples=["avro"],
    )
    schema_: dict[Text, ColumnType] = Field(
        alias="schema",
        min_length=1,
        description="the columns that are read of a message, each with its type in MLflow's words (boolean, integer, "
        "long, float, double, string, binary, datetime, array<…> of these); what else it holds is ignored",
        examples=[{"player_id": "string", "hours": "double"}],
    )
    avro_schema: Text | None = Field(
        None,
        description="format avro: the file with the schema that messages are written by, where they don't name one of "
        "a registry",
        examples=["conf/games.avsc"],
    )
    registry: Annotated[Text, address("http://registry.example.com:8081")] | None = Field(
        None,
        description="format avro: the address of a schema registry with Confluent's API, whose ids begin the messages",
        examples=["http://registry.example.com:8081"],
    )
    registry_login: Reference | None = Field(
        None,
        description="where user:password for the registry is: env:NAME or file:PATH",
        examples=["env:REGISTRY_LOGIN"],
    )
    start: Text = Field(
        "earliest",
        description="where a partition begins of which no run has published any message: earliest, or a time "
        "(ISO 8601)",
        examples=["2026-01-02T00:00:00Z"],
    )
    on_loss: Literal["stop", "continue"] = Field(
        "stop",
        description="what a run does where messages are gone that were never scored, as after their retention or where "
        "the topic was made anew: stop (exit 3), or continue with those that are there, and warn",
        examples=["continue"],
    )
    max_messages: int | None = Field(
        None, ge=1, description="a run takes about so many messages at most; default: all", examples=[1000000]
    )

    IN_FILES: ClassVar[bool] = False
    IN_RANGES: ClassVar[bool] = True
    NO_SETTINGS: ClassVar[frozenset[str]] = Source.NO_SETTINGS | {"registry_login", "on_loss", "max_messages"}

    @property
    def start_time(self) -> datetime | None:
        """The time that `start` names, None for the earliest message."""
        return None if self.start == "earliest" else datetime.fromisoformat(self.start)

    @model_validator(mode="after")
    def _of_messages(self) -> MessageSource:
        for key, given in (("table", self.table), ("where", self.where)):
            if given is not None:
                raise ValueError(f"{key}: does not go together with type: {self.type}")
        if self.format != "arrow" and self.max_messages is not None and self.max_messages < self.min_rows:
            raise ValueError(
                f"max_messages: {self.max_messages:,} is less than min_rows ({self.min_rows:,}), so that no run would "
                "ever have enough: raise the one or lower the other"
            )
        if self.start != "earliest":
            _require_time(self.start)
        if self.format == "avro" and (self.avro_schema is None) == (self.registry is None):
            raise ValueError("format avro: give exactly one of avro_schema and registry")
        if self.format != "avro" and (self.avro_schema or self.registry):
            raise ValueError(f"avro_schema and registry are for format: avro, not {self.format}")
        if self.registry_login is not None and self.registry is None:
            raise ValueError("registry_login: there is no registry")
        if self.format == "json" and (named := [name for name, kind in self.schema_.items() if "binary" in kind]):
            raise ValueError(f"schema: {named[0]!r} can't be binary: JSON has no bytes")
        if clash := sorted(name for name in self.schema_ if name in (*self.PLACES, "_key")):
            raise ValueError(f"schema: {clash[0]!r} is a column that each message has anyway: leave it out")
        return self


def _require_time(text: str) -> None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"start: {text!r} is neither earliest nor a time, such as 2026-01-02T00:00:00Z") from error
    if moment.tzinfo is None:
        example = f"{text}Z" if ":" in text else f"{text[:10]}T00:00:00Z"
        raise ValueError(f"start: {text!r} must say its zone, such as {example}")
