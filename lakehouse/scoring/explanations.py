"""Why a row has its score: the features that contributed most, of the rows for which it matters, in the pass itself."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import models
from lakehouse.schemas import EXPLAINED, EXPLANATION, EXPLANATIONS, Feature
from lakehouse.scoring import texts
from lakehouse.scoring.inputs import model_given
from lakehouse.scoring.reasons import Numbers
from lakehouse.scoring.score import Predict, Scoring


@dataclass(frozen=True)
class Explaining:
    """Which rows are explained, and by how many features.

    `prediction`: the column that tells which rows; those from `least` to `most` are meant. `part`: the model's output
    that is explained; `others`: rows of the input that linear contributions are held against.
    """

    prediction: str
    part: int | str
    top: int
    least: float
    most: float
    others: pa.RecordBatch


def to_record(explaining: Explaining, features: Sequence[Feature]) -> dict[str, Any]:
    """As JSON holds it, for whoever makes explanations again; of the other rows the features alone."""
    columns = list(dict.fromkeys(feature.column for feature in features))
    least, most = (value if math.isfinite(value) else None for value in (explaining.least, explaining.most))
    known = {name: getattr(explaining, name) for name in ("prediction", "part", "top")}
    return {**known, "least": least, "most": most, "others": texts.text_of(explaining.others.select(columns))}


def from_record(said: Mapping[str, Any]) -> Explaining:
    """What `to_record` has noted."""
    (others,) = texts.rows_in(said["others"])
    least = -math.inf if said["least"] is None else said["least"]
    most = math.inf if said["most"] is None else said["most"]
    return Explaining(said["prediction"], said["part"], said["top"], least, most, others)


class Explainer:
    """Explains rows in one worker, and counts them and the seconds that it takes."""

    def __init__(self, explaining: Explaining, scoring: Scoring, predict: Predict) -> None:
        """`predict`: as `with_predictor` makes it."""
        self.explaining, self.scoring, self.predictor = explaining, scoring, getattr(predict, "predictor", None)
        self.names = pa.array([str(feature.name) for feature in scoring.features], pa.string())
        self.base = model_given(explaining.others, scoring).as_input()
        self.rows, self.failed, self.seconds = 0, 0, 0.0

    def add_to(self, scored: pa.RecordBatch, batch: pa.RecordBatch, rows: Numbers | None) -> pa.RecordBatch:
        """The scored rows with the column `_explanations`, null in rows that are not explained.

        `batch`: the input that they come from; `rows`: which of its rows they are, None for all.
        """
        began = time.perf_counter()
        numbers = np.flatnonzero(self._mask(scored))
        own = numbers if rows is None else rows[numbers]
        values = self.contributions(batch.take(pa.array(own))) if len(numbers) else None
        self.rows += len(numbers)
        if len(numbers) and values is None:
            self.failed += len(numbers)
        column = _column(scored.num_rows, numbers, values, self.names, self.explaining.top)
        self.seconds += time.perf_counter() - began
        return scored.append_column(EXPLANATIONS, column)

    def contributions(self, batch: pa.RecordBatch) -> Any:
        """Contributions of features (float64, rows × features) to the prediction; None where the model tells none."""
        given = model_given(batch, self.scoring).as_input()
        found = models.attribute(self.predictor, given, self.base, self.explaining.part) if self.predictor else None
        if found is None or found.values.shape != (batch.num_rows, len(self.names)):
            return None
        return found.values

    def _mask(self, scored: pa.RecordBatch) -> Any:
        values = scored.column(self.explaining.prediction).cast(pa.float64())
        inside = pc.and_(pc.greater_equal(values, self.explaining.least), pc.less_equal(values, self.explaining.most))
        return pc.fill_null(inside, False).to_numpy(zero_copy_only=False)

    def to_dict(self) -> dict[str, Any]:
        """Rows that were explained, those of them that the model told nothing of, and seconds."""
        return {"rows": self.rows, "failed": self.failed, "seconds": round(self.seconds, 4)}


def in_words(explained: Mapping[str, Any] | None, scored: int) -> list[str]:
    """What was explained of a run's rows, and what it cost; `explained`: as `Explainer.to_dict`, of all workers."""
    if explained is None:
        return []
    rows, failed = explained["rows"], explained["failed"]
    told = f"explained {rows - failed:,} of {scored:,} scored rows, in {explained['seconds']:.2f} s of workers"
    return [told + (f"; of {failed:,} more the model told no contributions" if failed else "")]


def with_predictor(predict: Predict, predictor: models.Predictor) -> Predict:
    """`predict`, of which is known which model it calls."""

    @functools.wraps(predict)  # with what it says of itself
    def known(given: Any) -> Any:
        return predict(given)

    known.predictor = predictor  # type: ignore[attr-defined]
    return known


def _column(rows: int, numbers: Any, values: Any, names: pa.Array, top: int) -> pa.Array:
    """A list a row of the features that contributed most, the largest first; null in rows not among `numbers`."""
    if values is None:
        return pa.nulls(rows, EXPLAINED)
    top = min(top, values.shape[1])
    order = np.argsort(-np.abs(np.nan_to_num(values)), axis=1, kind="stable")[:, :top]
    told = np.take_along_axis(values, order, axis=1)
    parts = [names.take(pa.array(order.ravel())), pa.array(told.ravel())]
    lengths = np.zeros(rows, np.int32)
    lengths[numbers] = top
    missing = np.ones(rows, bool)
    missing[numbers] = False
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    items = pa.StructArray.from_arrays(parts, fields=list(EXPLANATION))
    return pa.ListArray.from_arrays(pa.array(offsets), items, mask=pa.array(missing))
