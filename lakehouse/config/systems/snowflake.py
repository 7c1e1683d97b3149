"""Tables and queries in Snowflake, reached by a connection of connections.toml."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from lakehouse.config.systems import Sink, Source
from lakehouse.config.values import Text, Texts


class SnowflakeSource(Source):
    """A table, a view or a query in Snowflake whose rows are scored."""

    type: Literal["snowflake"] = Field(description="the system the input is in")
    connection: Text | None = Field(None, description="the connection's name in connections.toml", examples=["prod"])
    table: Text | None = Field(None, description="the input table's name in Snowflake", examples=["ml.features.games"])
    query: Text | None = Field(
        None,
        description="a SELECT instead of a table; may use {date}",
        examples=["SELECT * FROM games WHERE day = '{date}'"],
    )
    columns: Texts = Field(
        (), description="only these columns may be read; default: all", examples=[["player_id", "income"]]
    )
    timestamp: Text | None = Field(
        None,
        description="read the table as of this time (ISO 8601, of UTC unless it says otherwise)",
        examples=["2026-01-02T03:04:05Z"],
    )

    IN_FILES: ClassVar[bool] = False
    CASELESS: ClassVar[bool] = True
    NO_SETTINGS: ClassVar[frozenset[str]] = Source.NO_SETTINGS | {"timestamp"}
    REFUSED: ClassVar[dict[str, str]] = {"version": "a table in Snowflake has none; timestamp reads it as of a time"}

    @property
    def name(self) -> str:
        return self.table or f"the query on {self.connection}"

    def key_of(self, table: str) -> str:
        return _key(self.connection, table)

    @model_validator(mode="after")
    def _table_or_query(self) -> SnowflakeSource:
        _require(self.connection)
        if (self.table is None) == (self.query is None):
            raise ValueError("give exactly one of table and query")
        if self.query is not None and self.timestamp is not None:
            raise ValueError("timestamp: with a query, write AT(TIMESTAMP => …) into it")
        return self


class SnowflakeSink(Sink):
    """A table in Snowflake that the scores are published to."""

    type: Literal["snowflake"] = Field(description="the system the table is in")
    connection: Text | None = Field(None, description="the connection's name in connections.toml", examples=["prod"])
    table: Text = Field(description="the scored table's name in Snowflake", examples=["ml.scores.games"])

    IN_FILES: ClassVar[bool] = False

    def key_of(self, table: str) -> str:
        return _key(self.connection, table)

    @model_validator(mode="after")
    def _on_a_connection(self) -> SnowflakeSink:
        _require(self.connection)
        return self


def _key(connection: str | None, table: str) -> str:
    """Names are compared in upper case, as Snowflake keeps unquoted ones."""
    return f"{connection}:{table.upper()}"


def _require(connection: str | None) -> None:
    if connection is None:
        raise ValueError("connection is missing: the name of a connection in connections.toml")
