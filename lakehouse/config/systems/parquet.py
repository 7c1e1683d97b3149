"""Folders of Parquet files: exports, results of queries, what other programs leave; read only."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lakehouse.config.systems import Source
from lakehouse.config.values import Text


class ParquetSource(Source):
    """A folder of Parquet files whose rows are scored."""

    type: Literal["parquet"] = Field(description="the system the input is in")
    table: Text | None = Field(
        None, description="the folder of the input's files: a path or a URI", examples=["lake/exports/games"]
    )

    @model_validator(mode="after")
    def _in_a_folder(self) -> ParquetSource:
        if self.table is None:
            raise ValueError("table is missing: the folder of the input's files, a path or URI")
        return self
