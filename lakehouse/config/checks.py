"""What a job says of checks: rules, drift, and rows that are set aside."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from pydantic import Field

from lakehouse.config.values import Section, Text


class Quarantine(Section):
    """Where rows that can't be scored go, and how many may."""

    table: Text | None = Field(
        None,
        description="default: the first sink's table with _quarantine appended",
        examples=["lake/quarantine/games"],
    )
    max_fraction: float = Field(
        0.01, ge=0, le=1, description="a larger fraction of the rows blocks the run", examples=[0.001]
    )
    max_rows: int | None = Field(None, ge=0, description="more rows than this block the run", examples=[1000])

    @property
    def limit(self) -> str:
        """The budget as the job says it."""
        rows = "" if self.max_rows is None else f", max_rows {self.max_rows:,}"
        return f"max_fraction {self.max_fraction:g}{rows}"

    def allowed(self, rows: int | None) -> int | None:
        """How many of so many rows may be set aside; None where their number isn't known and nothing else limits it."""
        if rows is None:
            return self.max_rows
        share = int(Fraction(str(self.max_fraction)) * rows)  # 0.29 * 100 is 28.999… in binary
        return share if self.max_rows is None else min(share, self.max_rows)


class Drift(Section):
    """How far features and predictions may move from what the model was trained, or first published, with."""

    psi: float = Field(0.2, gt=0, description="a population stability index above this is drift", examples=[0.1])
    action: Literal["warn", "block"] = Field(
        "warn", description="what drift does: publish with a warning, or block", examples=["block"]
    )


class Checks(Section):
    """What must hold before anything is published."""

    features: Text | None = Field(
        None,
        description="Great Expectations suite (YAML or JSON) for the input rows",
        examples=["conf/expectations/games_features.yaml"],
    )
    scores: Text | None = Field(
        None,
        description="Great Expectations suite (YAML or JSON) for the scored rows",
        examples=["conf/expectations/games_scores.yaml"],
    )
    drift: Drift | None = Field(None, description="how far features and predictions may move")
    strict: bool = Field(
        False,
        description="a row that breaks a critical rule blocks the run, as Great Expectations reads it",
        examples=[True],
    )
    quarantine: Quarantine = Field(default_factory=Quarantine, description="rows set aside with their reasons")
