"""Delta tables: folders, read as of a version or a time, whose files a run stages where they become the table's own."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from lakehouse.config.systems import Sink, Source
from lakehouse.config.values import Text


class DeltaSource(Source):
    """A Delta table whose rows are scored."""

    type: Literal["delta"] = Field(description="the system the input is in")
    table: Text | None = Field(
        None,
        description="the input table: a path, a URI or a name of Spark's catalog",
        examples=["lake/features/games"],
    )
    version: int | None = Field(
        None, ge=0, description="read this version of the table; default: the newest", examples=[12]
    )
    timestamp: Text | None = Field(
        None,
        description="read the table as of this time (ISO 8601, of UTC unless it says otherwise)",
        examples=["2026-01-02T03:04:05Z"],
    )

    CATALOG_FORMAT: ClassVar[str] = "delta"
    NO_SETTINGS: ClassVar[frozenset[str]] = Source.NO_SETTINGS | {"version", "timestamp"}

    @model_validator(mode="after")
    def _one_table_at_one_time(self) -> DeltaSource:
        if self.version is not None and self.timestamp is not None:
            raise ValueError("version and timestamp exclude each other: give one of them")
        if self.table is None:
            raise ValueError("table is missing: the input table, a path or URI")
        return self


class DeltaSink(Sink):
    """A Delta table that the scores are published to."""

    type: Literal["delta"] = Field(description="the system the table is in")
    table: Text = Field(
        description="the scored table: a path, a URI or a name of Spark's catalog", examples=["lake/scores/games"]
    )

    CATALOG_FORMAT: ClassVar[str] = "delta"
    HOLDS_STAGED_FILES: ClassVar[bool] = True
    KEEPS_RECEIPTS: ClassVar[bool] = True
