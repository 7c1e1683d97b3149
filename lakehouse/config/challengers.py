"""What a job says of challengers: other models that are compared with the one whose scores are published."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lakehouse.config.values import Param, Section, Text, Trust, tuple_of


class Challenger(Section):
    """Another model that is given the same rows, to be compared with the one whose scores are published."""

    uri: Text = Field(description="the challenger, as `model.uri`", examples=["models:/churn@challenger"])
    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")] | None = Field(
        None,
        description="ends the names of its columns; default: its alias, else v and its version",
        examples=["wider"],
    )
    method: Literal["predict", "predict_proba", "predict_log_proba", "decision_function", "pyfunc"] | None = Field(
        None,
        description="as `model.method`, or pyfunc for one without such methods; default: the model's own",
        examples=["pyfunc"],
    )
    params: dict[Text, Param] | None = Field(
        None, description="as `model.params`; default: the model's own", examples=[{"num_beams": 4}]
    )
    trust: Annotated[tuple[Trust, ...], tuple_of()] | None = Field(
        None, description="as `model.trust`; default: the model's own", examples=[["pickle"]]
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        return {"uri": value} if isinstance(value, str) else value

    @property
    def label(self) -> str:
        """What its columns end in."""
        if self.name is not None:
            return self.name
        place = self.uri.removeprefix("models:")
        alias = re.sub(r"[^A-Za-z0-9]+", "_", place.rpartition("@")[2] if "@" in place else place.rpartition("/")[2])
        return alias if alias[:1].isalpha() else f"v{alias}"


class Comparison(Section):
    """Where the scores of challengers go, and what they are compared by."""

    table: Text | None = Field(
        None,
        description="the table of comparisons; default: beside the first sink's, with `_challengers` to its name",
        examples=["lake/scores/games_challengers"],
    )
    by: Text | None = Field(
        None,
        description="a key or kept column: figures are also given for each of its values, of which 200 are kept apart "
        "(of the others together, and `promotion.max_shift` then refuses)",
        examples=["country"],
    )


class Promotion(Section):
    """What `lakehouse promote` asks of the last comparison before it moves the alias."""

    min_rows: int = Field(1, ge=1, description="rows that were compared", examples=[10000])
    max_failed: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="share of the rows that the challenger could not score", examples=[0.001]
    )
    max_flips: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="share of the rows that get another label or decision", examples=[0.02]
    )
    max_shift: Annotated[float, Field(ge=0)] | None = Field(
        None,
        description="how far the mean of a numeric prediction may move, overall and in each segment",
        examples=[0.05],
    )
