"""The one function that scores: an Arrow batch in, scored rows, quarantined rows and counters out.

Spark, the local engine and whatever else carries batches call `score_batch`; it does no I/O.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.contract import REASON, REASONS, Feature
from lakehouse.errors import ModelRefused
from lakehouse.outputs import Output, read_outputs
from lakehouse.predicate import Comparison, mask

Predict = Callable[[Any], Any]

ISOLATION_CALLS = 2_000
"""Model calls that one worker may spend on finding the rows that make the model raise."""
_PROBES = 8
_TRIED = 64


@dataclass(frozen=True)
class Rule:
    """Comparisons on a scored row that must all be true; a row of which one is false or null is set aside."""

    name: str
    column: str
    comparisons: tuple[Comparison, ...]
    text: str


@dataclass(frozen=True)
class Scoring:
    """What `score_batch` needs to know of a job. `matrix`: the model takes one 2-D array, not a frame."""

    keys: tuple[str, ...]
    keep: tuple[str, ...]
    features: tuple[Feature, ...]
    outputs: tuple[Output, ...]
    nulls: str = "model"  # or "quarantine"
    matrix: bool = False
    rules: tuple[Rule, ...] = ()


@dataclass
class Counters:
    """What one worker saw so far; `reasons` counts quarantined rows by rule and column."""

    read: int = 0
    scored: int = 0
    quarantined: int = 0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    isolation_calls: int = 0


def score_batch(
    batch: pa.RecordBatch, scoring: Scoring, predict: Predict, counters: Counters
) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
    """Score one conformed batch.

    Returns the scored rows (keys, keep, predictions, in this order) and the quarantined ones (the input
    columns and `_reasons`), None when there are none; adds to `counters`. Every row of `batch` is in exactly
    one of the two. Raises ModelRefused when the model raises on everything, or answers with another number
    of rows than it was given.
    """
    reasons = _unfit(batch, scoring)
    if reasons:
        bad = np.zeros(batch.num_rows, dtype=bool)
        for row, _ in reasons:
            bad[row] = True
        rows = np.flatnonzero(~bad)
        fit = batch.take(pa.array(rows))
    else:
        rows, fit = None, batch
    predictions, failures = _predict(fit, scoring, predict, counters)
    if failures:
        reasons += [(int(rows[row]) if rows is not None else row, why) for row, why in failures]
        good = np.ones(fit.num_rows, dtype=bool)
        good[[row for row, _ in failures]] = False
        fit, rows = fit.filter(pa.array(good)), (np.arange(batch.num_rows) if rows is None else rows)[good]
    kept = [fit.column(name) for name in (*scoring.keys, *scoring.keep)]
    names = [*scoring.keys, *scoring.keep, *(output.name for output in scoring.outputs)]
    scored = pa.RecordBatch.from_arrays([*kept, *predictions], names=names)
    if broken := _broken(scored, scoring.rules):
        reasons += [(int(rows[row]) if rows is not None else row, why) for row, why in broken]
        good = np.ones(scored.num_rows, dtype=bool)
        good[[row for row, _ in broken]] = False
        scored = scored.filter(pa.array(good))
    quarantined = _set_aside(batch, reasons, counters) if reasons else None
    counters.read += batch.num_rows
    counters.scored += scored.num_rows
    counters.quarantined += quarantined.num_rows if quarantined is not None else 0
    return scored, quarantined


def _broken(scored: pa.RecordBatch, rules: tuple[Rule, ...]) -> list[tuple[int, Reason]]:
    """The scored rows that break a rule, with the values that do."""
    found: list[tuple[int, Reason]] = []
    for rule in rules:
        passing = mask(scored, rule.comparisons)
        if passing is None or pc.all(passing).as_py() is not False:
            continue
        columns = tuple(dict.fromkeys(c.column for c in rule.comparisons))
        for row in pc.indices_nonzero(pc.invert(passing)).to_pylist():
            values = [scored.column(c)[row].as_py() for c in columns]
            found.append((row, (rule.name, rule.column, ", ".join(map(str, values)))))
    return found


Reason = tuple[str, str, str | None]  # rule, column, observed value


def _unfit(batch: pa.RecordBatch, scoring: Scoring) -> list[tuple[int, Reason]]:
    """Rows that can't be given to the model: a null key, or a null that the feature's type can't hold."""
    found: list[tuple[int, Reason]] = []
    for name in scoring.keys:
        found += [(row, ("key_not_null", name, None)) for row in _null_rows(batch.column(name))]
    for feature in scoring.features:
        holds_null = not (pa.types.is_integer(feature.type) or pa.types.is_boolean(feature.type))
        if feature.required and (scoring.nulls == "quarantine" or not holds_null):
            nulls = _null_rows(batch.column(feature.column))
            found += [(row, ("required", feature.column, None)) for row in nulls]
    return found


def _null_rows(column: pa.Array) -> list[int]:
    if column.null_count == 0:
        return []
    return list(pc.indices_nonzero(column.is_null()).to_pylist())


def try_on(batch: pa.RecordBatch, scoring: Scoring, predict: Predict) -> tuple[Any, int] | None:
    """The model's raw answer to the first rows of a sample that it takes, at most 64, and their number.

    None when every row is unfit for it by itself. Raises ModelRefused when it raises on all of them.
    """
    unfit = {row for row, _ in _unfit(batch, scoring)}
    rows = [row for row in range(batch.num_rows) if row not in unfit][:_TRIED]
    fit = batch.take(pa.array(rows, pa.int64()))
    if fit.num_rows == 0:
        return None
    frame, counters = model_input(fit, scoring), Counters()
    answer = _try(predict, frame)
    if not isinstance(answer, Exception):
        return answer, fit.num_rows
    _refuse_hopeless(frame, predict, counters, answer)
    answers = [(answer, stop - start) for start, stop, answer in _isolate(frame, predict, counters)]
    return next((answer, rows) for answer, rows in answers if not isinstance(answer, Exception))


def _set_aside(batch: pa.RecordBatch, reasons: list[tuple[int, Reason]], counters: Counters) -> pa.RecordBatch:
    by_row: dict[int, list[dict[str, str | None]]] = {}
    for row, (rule, column, observed) in reasons:
        by_row.setdefault(row, []).append({"rule": rule, "column": column, "observed": observed})
        counters.reasons[(rule, column)] += 1
    rows = sorted(by_row)
    taken = batch.take(pa.array(rows))
    why = pa.array([by_row[row] for row in rows], type=pa.list_(REASON))
    return pa.RecordBatch.from_arrays([*taken.columns, why], names=[*batch.schema.names, REASONS])


def model_input(batch: pa.RecordBatch, scoring: Scoring) -> Any:
    """What the model is called with: a DataFrame with the signature's names and dtypes, or a 2-D array.

    Features that are all float64 (or all float32) are laid column by column into one Fortran-ordered matrix,
    which pandas wraps without a copy and scikit-learn reads as it is. Nulls become NaN in floats and None in
    strings; optional integers with nulls become pandas' `Int64`, which keeps every digit.
    """
    kinds = {feature.type for feature in scoring.features}
    names = [feature.name for feature in scoring.features]
    if kinds in ({pa.float64()}, {pa.float32()}) or scoring.matrix:
        dtype = next(iter(kinds)).to_pandas_dtype()
        matrix = np.empty((batch.num_rows, len(names)), dtype=dtype, order="F")
        for i, feature in enumerate(scoring.features):
            column = batch.column(feature.column)
            column = column if column.type == feature.type else column.cast(feature.type)
            matrix[:, i] = column.to_numpy(zero_copy_only=False)
        return matrix if scoring.matrix else pd.DataFrame(matrix, columns=names, copy=False)
    return pd.DataFrame({feature.name: _series(batch.column(feature.column), feature) for feature in scoring.features})


def _series(column: pa.Array, feature: Feature) -> pd.Series[Any]:
    column = column if column.type == feature.type else column.cast(feature.type)
    nullable = None
    if pa.types.is_integer(feature.type) and column.null_count:
        nullable = {feature.type: pd.api.types.pandas_dtype(f"Int{feature.type.bit_width}")}.get
    series: pd.Series[Any] = column.to_pandas(types_mapper=nullable)
    return series


def _predict(
    batch: pa.RecordBatch, scoring: Scoring, predict: Predict, counters: Counters
) -> tuple[list[pa.Array], list[tuple[int, Reason]]]:
    """Predictions of the rows the model can score, an array an output, and the rows on which it raises."""
    if batch.num_rows == 0:
        return [pa.array([], type=o.type or pa.null()) for o in scoring.outputs], []
    frame = model_input(batch, scoring)
    answer = _try(predict, frame)
    if not isinstance(answer, Exception):
        return read_outputs(answer, batch.num_rows, scoring.outputs), []
    _refuse_hopeless(frame, predict, counters, answer)
    parts: list[list[pa.Array]] = [[] for _ in scoring.outputs]
    failures: list[tuple[int, Reason]] = []
    for start, stop, answer in _isolate(frame, predict, counters):
        if isinstance(answer, Exception):
            said = f"{type(answer).__name__}: {answer}"[:500].encode(errors="replace").decode()
            why = ("model_raised", "", said)
            failures += [(row, why) for row in range(start, stop)]
            continue
        for part, array in zip(parts, read_outputs(answer, stop - start, scoring.outputs), strict=True):
            part.append(array)
    arrays = [pa.concat_arrays(p) if p else pa.array([], o.type) for p, o in zip(parts, scoring.outputs, strict=True)]
    return arrays, failures


def _try(predict: Predict, frame: Any) -> Any:
    """The model's answer, or the exception it raises; returned, so that no later one is chained to it."""
    try:
        return predict(frame)
    except Exception as error:
        return error


def _refuse_hopeless(frame: Any, predict: Predict, counters: Counters, error: Exception) -> None:
    """Raise ModelRefused where nothing was scored yet and the model raises on single rows from all over."""
    if counters.scored:
        return
    count = len(frame)
    for row in sorted({i * (count - 1) // max(_PROBES - 1, 1) for i in range(_PROBES)}):
        answer = _try(predict, frame[row : row + 1])
        if not isinstance(answer, Exception):
            return
        error = answer
    tail = "".join(traceback.format_exception(error)).rstrip()
    raise ModelRefused(f"the model raises on every row it was tried on:\n{tail}") from None


def _isolate(frame: Any, predict: Predict, counters: Counters) -> Iterator[tuple[int, int, Any]]:
    """Split until the rows on which the model raises stand alone: about k·log2(n) calls for k such rows.

    Yields (start, stop, model output or exception) in order. Once the worker's `ISOLATION_CALLS` are spent,
    a range that raises is given up whole: its rows go to quarantine with the exception.
    """
    stack = [(0, len(frame))]
    while stack:
        start, stop = stack.pop()
        counters.isolation_calls += 1
        answer = _try(predict, frame[start:stop])
        if isinstance(answer, Exception) and stop - start > 1 and counters.isolation_calls < ISOLATION_CALLS:
            middle = (start + stop) // 2
            stack += [(middle, stop), (start, middle)]
        else:
            yield start, stop, answer
