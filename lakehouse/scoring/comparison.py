"""Challengers: other models that are given the rows which were scored, and how their predictions compare.

A challenger never decides anything of the run: where it fails its predictions are null, and the failures are counted.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from lakehouse import models
from lakehouse.errors import ModelRefused
from lakehouse.models.nested import is_nested
from lakehouse.scoring.pairs import Pairs, pairs_of
from lakehouse.scoring.reasons import Numbers
from lakehouse.scoring.score import Counters, Made, Predict, Scoring, predict_fit

MOST_FAILURES = 1_000
"""Rows on which a challenger may fail in one worker before single rows are no longer looked for."""
MOST_SEGMENTS = 200
"""Values of `comparison.by` that are kept apart."""
OTHERS = "…"
"""The segment of values beyond `MOST_SEGMENTS`; the value of this text is the segment `"…"`, with its quotes."""
_NULL = "null"


@dataclass(frozen=True)
class Challenger:
    """A model to be compared. `label` ends the names of its columns; `scoring`: how it is given rows and answers.

    `otherwise`: the keys of `model` by which it is called otherwise than the job's model is.
    """

    label: str
    name: str
    version: str
    digest: str
    method: str | None
    params: tuple[tuple[str, Any], ...]
    scoring: Scoring
    otherwise: tuple[str, ...] = ()

    def column(self, prediction: str) -> str:
        """Its column of a prediction in the table of comparisons."""
        return f"{prediction}_{self.label}"


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
        self.rows, self.seconds = self.rows + more.rows, self.seconds + more.seconds
        self.fail(more.failed, more.examples)
        for name, segments in more.pairs.items():
            self.add(name, segments)

    def fail(self, rows: int, examples: Iterable[str]) -> None:
        """Add rows that it could not score, with some of the reasons."""
        self.failed += rows
        self.examples = list(dict.fromkeys([*self.examples, *examples]))[:3]

    def add(self, name: str, segments: Mapping[str, Pairs]) -> None:
        """Add how a prediction's values compare, by segment."""
        mine = self.pairs.setdefault(name, {})
        for segment, pairs in segments.items():
            place = segment if segment in mine or len(mine) < MOST_SEGMENTS else OTHERS
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


@dataclass
class KeptInput:
    """What the model was called with for a batch, kept for challengers that take the same features.

    A model may change what it is called with: each gets a copy of its own, which for texts is one of pointers. Values
    that could be changed in place, such as lists, are not kept, and neither is anything once the model was asked again.
    """

    features: Any
    calls: int = 0
    made: Any = None

    def keeping(self, predict: Predict) -> Predict:
        """`predict` of the model, whose input is kept."""

        def call(given: Any) -> Any:
            self.calls += 1
            self.made = _copy(given) if self.calls == 1 else None
            return predict(given)

        return call

    def take(self, rows: int) -> list[Any]:
        """What was kept for a batch of which so many rows were scored, if it was those; nothing is kept any more."""
        made, self.made, self.calls = self.made, None, 0
        return [made] if made is not None and _rows_of(made) == rows else []


def keep_input(scoring: Scoring, predict: Predict, challengers: Sequence[Challenger]) -> KeptInput | None:
    """Where the model's input is kept; None where no challenger takes the same, or it is not made in this process."""
    if models.takes_columns(predict):
        return None
    taken = _features(scoring)
    alike = any(_features(challenger.scoring) == taken for challenger in challengers)
    return KeptInput(taken) if alike and not any(is_nested(f.type) for f in scoring.features) else None


def _features(scoring: Scoring) -> Any:
    return scoring.features, scoring.tensors


def _copy(given: Any) -> Any:
    if isinstance(given, dict):
        return {name: _copy(part) for name, part in given.items()}
    return given.copy(order="K") if isinstance(given, np.ndarray) else given.copy()


def _rows_of(given: Any) -> int:
    return len(next(iter(given.values())) if isinstance(given, dict) else given)


def compare(
    batch: pa.RecordBatch, rows: Numbers | None, scored: pa.RecordBatch, by: str | None,
    challengers: Sequence[tuple[Challenger, Predict, Compared]], kept: KeptInput | None = None,
) -> pa.RecordBatch:  # fmt: skip
    """The scored rows with the challengers' predictions as further columns, null where one could give none.

    `rows`: which of the input batch's rows were scored, None for all of them; `by`: the scored column whose values are
    the segments; `kept`: of this batch. Adds to what was seen of each challenger.
    """
    given = batch if rows is None else batch.take(pa.array(rows))
    made = kept.take(given.num_rows) if kept is not None else []
    alike = [c for c, _, _ in challengers if made and kept is not None and _features(c.scoring) == kept.features]
    segments, codes = segments_of(scored, by)
    for challenger, predict, seen in challengers:
        shared: Made | None = None
        if challenger in alike:
            shared = made.pop if challenger is alike[-1] else functools.partial(_copy, made[0])
        for name, column in _predictions(given, challenger, predict, seen, shared).items():
            compared = pairs_of(scored.column(name), column, codes, len(segments))
            seen.add(name, dict(zip(segments, compared, strict=True)))
            scored = scored.append_column(challenger.column(name), column)
    return scored


def _predictions(
    batch: pa.RecordBatch, challenger: Challenger, predict: Predict, seen: Compared, made: Made | None
) -> dict[str, pa.Array]:
    """The challenger's predictions, a value for each row, by the prediction's name; `made`: gives its input.

    One that can't be used as it answers, for which a run of its own would be refused, has no predictions for the batch.
    """
    counters, spent = Counters(), [0.0]
    room = max(MOST_FAILURES - seen.failed, 0)
    seen.rows += batch.num_rows
    try:
        arrays, broken, good = predict_fit(batch, challenger.scoring, timed(predict, spent), counters, room, made)
    except ModelRefused as refused:
        seen.fail(batch.num_rows, [str(refused)])
        return {o.name: pa.nulls(batch.num_rows, o.column_type) for o in challenger.scoring.outputs}
    finally:
        seen.seconds += spent[0]
    if good is not None:
        texts = [f"{b.rule} {b.column}".strip() + f": {_first(b.observed)}" for b in broken]
        seen.fail(int((~good).sum()), texts)
        places = np.cumsum(good) - 1
        taken = pa.array(np.where(good, places, 0), mask=~good)
        arrays = [array.take(taken) for array in arrays]
    return {output.name: array for output, array in zip(challenger.scoring.outputs, arrays, strict=True)}


def _first(observed: pa.Array | None) -> str:
    return str(observed[0].as_py()) if observed is not None and len(observed) else "null"


def segments_of(scored: pa.RecordBatch, by: str | None) -> tuple[list[str], Any]:
    """The segments by name, and the number of each row's; without a column one segment, which has no name."""
    if by is None or scored.num_rows == 0:
        return [""], np.zeros(scored.num_rows, np.int64)
    column = scored.column(by).cast(pa.string()).dictionary_encode(null_encoding="encode")
    return [_segment(value) for value in column.dictionary.to_pylist()], column.indices.to_numpy().astype(np.int64)


def _segment(value: str | None) -> str:
    """The name of a value's segment, which no other value has: a text that would read as another's is in quotes."""
    if value is None:
        return _NULL
    return json.dumps(value, ensure_ascii=False) if value in (_NULL, OTHERS) or value.startswith('"') else value
