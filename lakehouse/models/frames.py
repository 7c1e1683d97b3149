"""Models that Spark itself applies, in the driver's session: what one offers to the engine, and how one is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.errors import ModelRefused
from lakehouse.models.flavors import ON_FRAMES
from lakehouse.models.loading import digest_of, read_description
from lakehouse.models.registry import FetchedModel

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Part = int | str
"""A part of an answer, as `scoring.outputs.Output` names it: a column, a class by its place, or all of it."""
ANSWER = "lakehouse_answer_"
"""What the columns of `FrameModel.apply` are called, each with the number of its part."""


@dataclass(frozen=True)
class FrameModel:
    """A model that makes of a DataFrame of features one with its answers.

    `apply(frame, kept, parts)` gives the columns `kept` as they were, and one for each part, named by `ANSWER`; it may
    leave rows out, of which `dropped` says why it does. `parts`: all that it answers with. `moves_rows`: a row may come
    out in another partition, or in another order. `classes`, `without_classes`, `called`, `library`: as of `Predictor`;
    `probabilities`: the part with those of all classes.
    """

    apply: Callable[[DataFrame, Sequence[str], Sequence[Part]], DataFrame]
    parts: tuple[Part, ...]
    dropped: str
    moves_rows: bool
    classes: tuple[Any, ...] | None
    without_classes: str
    probabilities: str | None
    called: str
    library: str


@dataclass(frozen=True)
class FrameInput:
    """What a model is given: `features` by their names and types; `carried` are columns that go through it unchanged.

    `asked`: the columns of its answer that somebody wants; `named`: those that its signature names.
    """

    features: pa.Schema
    carried: pa.Schema
    asked: tuple[str, ...]
    named: tuple[str, ...]


def open_on_frames(spark: SparkSession, model: FetchedModel, place: str, given: FrameInput) -> FrameModel:
    """Open a fetched model, whose bytes were judged, from `place`, where Spark reads them.

    Raises ModelRefused for other bytes than were judged, and for a model that can't be opened or applied to this input.
    """
    found = digest_of(Path(model.path))
    if found != model.digest:
        raise ModelRefused(f"the model's bytes changed on the way: sha256:{found} instead of sha256:{model.digest}")
    flavor = ON_FRAMES[model.flavor]
    description = read_description(Path(model.path))["flavors"].get(flavor.NAME, {})
    return flavor.open_on_frames(spark, Path(model.path), place, description, given)
