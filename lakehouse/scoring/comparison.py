"""Challengers: other models that are given the rows which were scored, and how their predictions compare.

A challenger never decides anything of the run: where it fails its predictions are null, and the failures are counted.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.scoring.reasons import Numbers
from lakehouse.scoring.score import Counters, Predict, Scoring, predict_fit

MOST_FAILURES = 1_000
"""Rows on which a challenger may fail in one worker before single rows are no longer looked for."""
_MOST_SEGMENTS, _MOST_LABELS = 200, 64
_OTHERS = "…"
"""The segment of values beyond `_MOST_SEGMENTS`."""


@dataclass(frozen=True)
class Challenger:
    """A model to be compared. `label` ends the names of its columns; `scoring`: how it is given rows and answers."""

    label: str
    name: str
    version: str
    digest: str
    method: str | None
    params: tuple[tuple[str, Any], ...]
    scoring: Scoring

    def column(self, prediction: str) -> str:
        """Its column of a prediction in the table of comparisons."""
        return f"{prediction}_{self.label}"


@dataclass
class Pairs:
    """How two models' values of one prediction compare, over rows that both have a value for.

    Sums are of the first model's values, the second's, and absolute differences; `labels` counts pairs of labels, None
    where there are too many or the values are no labels.
    """

    rows: int = 0
    own: float = 0.0
    theirs: float = 0.0
    apart: float = 0.0
    furthest: float = 0.0
    labels: Counter[tuple[str, str]] | None = None
    numeric: bool = False

    def add(self, own: pa.Array, theirs: pa.Array) -> None:
        """Add rows of both, which have no nulls."""
        self.rows += len(own)
        if _is_number(own.type) and _is_number(theirs.type):
            a, b = (column.cast(pa.float64()).to_numpy(zero_copy_only=False) for column in (own, theirs))
            distance = np.abs(np.subtract(a, b, out=np.zeros_like(a), where=a != b))  # infinities may be equal
            self.numeric = True
            self.own, self.theirs = self.own + float(a.sum()), self.theirs + float(b.sum())
            self.apart += float(distance.sum())
            self.furthest = max(self.furthest, float(distance.max(initial=0.0)))
        if _is_label(own.type) and _is_label(theirs.type):
            self._count(own, theirs)

    def _count(self, own: pa.Array, theirs: pa.Array) -> None:
        first, second = (_texts(column).dictionary_encode() for column in (own, theirs))
        width = max(len(second.dictionary), 1)
        codes = first.indices.to_numpy().astype(np.int64) * width + second.indices.to_numpy()
        found, counts = np.unique(codes, return_counts=True)
        labels = Counter[tuple[str, str]]() if self.labels is None else self.labels
        for code, count in zip(found, counts, strict=True):
            labels[first.dictionary[code // width].as_py(), second.dictionary[code % width].as_py()] += int(count)
        self.labels = labels

    def merge(self, more: Pairs) -> None:
        """Add what another worker or segment counted."""
        self.rows, self.own, self.theirs = self.rows + more.rows, self.own + more.own, self.theirs + more.theirs
        self.apart, self.furthest = self.apart + more.apart, max(self.furthest, more.furthest)
        self.numeric |= more.numeric
        if more.labels is not None:
            self.labels = (self.labels or Counter()) + more.labels

    def to_dict(self) -> dict[str, Any]:
        labels = None
        if self.labels is not None and len(self.labels) <= _MOST_LABELS**2:
            labels = [[own, theirs, count] for (own, theirs), count in sorted(self.labels.items())]
        return {
            "rows": self.rows, "own": self.own, "theirs": self.theirs, "apart": self.apart, "furthest": self.furthest,
            "labels": labels, "numeric": self.numeric,
        }  # fmt: skip

    @staticmethod
    def from_dict(dumped: Mapping[str, Any]) -> Pairs:
        labels = dumped["labels"]
        counted = None if labels is None else Counter({(own, theirs): count for own, theirs, count in labels})
        return Pairs(**{**dumped, "labels": counted})

    @property
    def flips(self) -> int | None:
        """Rows with another label; None for values that are no labels."""
        if self.labels is None:
            return None
        return sum(count for (own, theirs), count in self.labels.items() if own != theirs)

    @property
    def shift(self) -> float | None:
        """The second model's mean less the first's; None for what is no number."""
        return (self.theirs - self.own) / self.rows if self.numeric and self.rows else None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_label(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_integer(kind))


def _texts(column: pa.Array) -> pa.Array:
    return column if pa.types.is_string(column.type) else column.cast(pa.string())


@dataclass
class Compared:
    """What one worker saw of one challenger: rows, failures, seconds, and `Pairs` by prediction and segment."""

    rows: int = 0
    failed: int = 0
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)
    pairs: dict[str, dict[str, Pairs]] = field(default_factory=dict)

    def merge(self, more: Compared) -> None:
        """Add what another worker saw."""
        self.rows, self.failed = self.rows + more.rows, self.failed + more.failed
        self.seconds += more.seconds
        self.examples = [*self.examples, *more.examples][:3]
        for name, segments in more.pairs.items():
            mine = self.pairs.setdefault(name, {})
            for segment, pairs in segments.items():
                place = segment if segment in mine or len(mine) < _MOST_SEGMENTS else _OTHERS
                mine.setdefault(place, Pairs()).merge(pairs)

    def to_dict(self) -> dict[str, Any]:
        pairs = {name: {s: p.to_dict() for s, p in segments.items()} for name, segments in self.pairs.items()}
        return {
            "rows": self.rows,
            "failed": self.failed,
            "seconds": self.seconds,
            "examples": self.examples,
            "pairs": pairs,
        }

    @staticmethod
    def from_dict(dumped: Mapping[str, Any]) -> Compared:
        pairs = {n: {s: Pairs.from_dict(p) for s, p in segments.items()} for n, segments in dumped["pairs"].items()}
        return Compared(**{**dumped, "pairs": pairs})


def merge(dumps: Iterable[Mapping[str, Any]]) -> dict[str, Compared]:
    """What several workers saw, by the challengers' labels."""
    found: dict[str, Compared] = {}
    for dump in dumps:
        for label, compared in dump.items():
            found.setdefault(label, Compared()).merge(Compared.from_dict(compared))
    return found


def timed(predict: Predict, seconds: list[float]) -> Predict:
    """`predict`, whose seconds are added to `seconds[0]`."""

    @functools.wraps(predict)  # with what it says of itself
    def measured(given: Any) -> Any:
        started = time.perf_counter()
        try:
            return predict(given)
        finally:
            seconds[0] += time.perf_counter() - started

    return measured


def compare(
    batch: pa.RecordBatch, rows: Numbers | None, scored: pa.RecordBatch, by: str | None,
    challengers: Sequence[tuple[Challenger, Predict, Compared]],
) -> pa.RecordBatch:  # fmt: skip
    """The scored rows with the challengers' predictions as further columns, null where one could give none.

    `rows`: which of the input batch's rows were scored, None for all of them; `by`: the scored column whose values are
    the segments. Adds to what was seen of each challenger.
    """
    given = batch if rows is None else batch.take(pa.array(rows))
    segments = _segments(scored, by)
    for challenger, predict, seen in challengers:
        for name, column in _predictions(given, challenger, predict, seen).items():
            _add_pairs(seen.pairs.setdefault(name, {}), scored.column(name), column, segments)
            scored = scored.append_column(challenger.column(name), column)
    return scored


def _predictions(
    batch: pa.RecordBatch, challenger: Challenger, predict: Predict, seen: Compared
) -> dict[str, pa.Array]:
    """The challenger's predictions, a value for each row, by the prediction's name."""
    counters, spent = Counters(), [0.0]
    room = max(MOST_FAILURES - seen.failed, 0)
    arrays, broken, good = predict_fit(batch, challenger.scoring, timed(predict, spent), counters, room)
    seen.rows += batch.num_rows
    seen.seconds += spent[0]
    if good is not None:
        seen.failed += int((~good).sum())
        texts = [f"{b.rule} {b.column}".strip() + f": {_first(b.observed)}" for b in broken]
        seen.examples = list(dict.fromkeys([*seen.examples, *texts]))[:3]
        places = np.cumsum(good) - 1
        taken = pa.array(np.where(good, places, 0), mask=~good)
        arrays = [array.take(taken) for array in arrays]
    return {output.name: array for output, array in zip(challenger.scoring.outputs, arrays, strict=True)}


def _first(observed: pa.Array | None) -> str:
    return str(observed[0].as_py()) if observed is not None and len(observed) else "null"


def _segments(scored: pa.RecordBatch, by: str | None) -> list[tuple[str, Any]]:
    """The column's values as text, each with a mask of its rows; without a column one segment, which has no name."""
    if by is None or scored.num_rows == 0:
        return [("", None)]
    column = pc.fill_null(scored.column(by).cast(pa.string()), "null").dictionary_encode()
    codes = column.indices.to_numpy()
    return [(value.as_py(), codes == code) for code, value in enumerate(column.dictionary)]


def _add_pairs(found: dict[str, Pairs], own: pa.Array, theirs: pa.Array, segments: Sequence[tuple[str, Any]]) -> None:
    both = np.logical_and(*(_present(column) for column in (own, theirs)))
    for segment, mask in segments:
        there = pa.array(both if mask is None else both & mask)
        place = segment if segment in found or len(found) < _MOST_SEGMENTS else _OTHERS
        found.setdefault(place, Pairs()).add(own.filter(there), theirs.filter(there))


def _present(column: pa.Array) -> Any:
    present = column.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_floating(column.type):
        present = present & ~pc.fill_null(pc.is_nan(column), True).to_numpy(zero_copy_only=False)
    return present
