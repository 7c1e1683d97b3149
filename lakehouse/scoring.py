"""The one function that scores: an Arrow batch in, scored rows, quarantined rows and counters out.

Spark, the local engine and whatever else carries batches call `score_batch`; it does no I/O.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import profile, rules
from lakehouse.contract import REASONS, WARNINGS, Feature
from lakehouse.errors import ModelRefused
from lakehouse.inputs import model_input, unfit
from lakehouse.outputs import Output, read_outputs
from lakehouse.predicate import Comparison, mask
from lakehouse.profile import Sketches
from lakehouse.reasons import Broken, Numbers, numbers_of, reasons, renumbered, warnings
from lakehouse.rules import Compiled, RowCount, RowRule
from lakehouse.rules.outcomes import EXAMPLES

Predict = Callable[[Any], Any]

NO_CHECKS = Compiled((), (), ())
ISOLATION_CALLS = 2_000
"""Model calls that one worker may spend on finding the rows that make the model raise."""
_PROBES = 8
_TRIED = 64


@dataclass(frozen=True)
class Constraint:
    """Comparisons that a table demands of a scored row; one of which any is false or null is set aside."""

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
    constraints: tuple[Constraint, ...] = ()
    on_features: Compiled = NO_CHECKS
    on_scores: Compiled = NO_CHECKS


@dataclass
class Checked:
    """What one worker counted of one suite: each row rule, and what the table rules are made of."""

    rows: list[RowCount]
    tables: Any  # rules' own state


@dataclass
class Counters:
    """What one worker saw so far; `reasons` counts quarantined rows by rule and column.

    `features` and `scores` are None where the job has no suite; `profiles` are of both, by name.
    """

    read: int = 0
    scored: int = 0
    quarantined: int = 0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    isolation_calls: int = 0
    features: Checked | None = None
    scores: Checked | None = None
    profiles: dict[str, Sketches] = field(default_factory=dict)


def begin(scoring: Scoring, schema: pa.Schema | None = None) -> Counters:
    """Counters for a worker that scores so; with the schema of its input, features and predictions are profiled."""
    features, scores = (_checks(suite) for suite in (scoring.on_features, scoring.on_scores))
    profiles = {}
    if schema is not None:
        given = pa.schema([(o.name, pa.bool_() if o.threshold is not None else o.type) for o in scoring.outputs])
        profiles["features"] = profile.start(schema, dict.fromkeys(f.column for f in scoring.features))
        profiles["predictions"] = profile.start(given, given.names)
    return Counters(features=features, scores=scores, profiles=profiles)


def _checks(suite: Compiled) -> Checked | None:
    if not suite.rows and not suite.tables:
        return None
    return Checked([RowCount() for _ in suite.rows], rules.start(suite.tables))


def score_batch(
    batch: pa.RecordBatch, scoring: Scoring, predict: Predict, counters: Counters
) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
    """Score one conformed batch.

    Returns the scored rows (keys, keep, predictions, `_warnings` where there are rules that warn, in this order) and
    the quarantined ones (the input columns and `_reasons`), None when there are none; adds to `counters`. Every row
    of `batch` is in exactly one of the two. Raises ModelRefused when the model raises on everything, or answers with
    another number of rows than it was given.
    """
    broken, warned = _held_against(batch, scoring.on_features.rows, counters.features)
    broken = [*unfit(batch, scoring), *broken]
    rows, fit = _without(batch, None, broken)
    predictions, failures = _predict(fit, scoring, predict, counters)
    if failures:
        broken += renumbered(failures, rows)
        rows, fit = _without(fit, rows, failures)
    kept = [fit.column(name) for name in (*scoring.keys, *scoring.keep)]
    names = [*scoring.keys, *scoring.keep, *(output.name for output in scoring.outputs)]
    scored = pa.RecordBatch.from_arrays([*kept, *predictions], names=names)
    failing, doubtful = _held_against(scored, scoring.on_scores.rows, counters.scores)
    failing += _breaking(scored, scoring.constraints)
    warned += renumbered(doubtful, rows)
    if failing:
        broken += renumbered(failing, rows)
        rows, scored = _without(scored, rows, failing)
    _observe(batch, scored, counters)
    if warned:
        numbers = np.arange(batch.num_rows) if rows is None else rows
        scored = scored.append_column(WARNINGS, warnings(warned, numbers))
    quarantined = _set_aside(batch, broken, counters) if broken else None
    counters.read += batch.num_rows
    counters.scored += scored.num_rows
    counters.quarantined += quarantined.num_rows if quarantined is not None else 0
    return scored, quarantined


def _without(
    batch: pa.RecordBatch, rows: Numbers | None, broken: Sequence[Broken]
) -> tuple[Numbers | None, pa.RecordBatch]:
    """The batch without the rows that are broken, and the numbers of the rest; `rows`: the numbers of its own rows."""
    if not broken:
        return rows, batch
    good = np.ones(batch.num_rows, dtype=bool)
    good[numbers_of(broken)] = False
    return (np.flatnonzero(good) if rows is None else rows[good]), batch.filter(pa.array(good))


def _held_against(
    batch: pa.RecordBatch, suite: Sequence[RowRule], checked: Checked | None
) -> tuple[list[Broken], list[Broken]]:
    """The rows that break critical rules, and those that break rules which warn; counts what every rule found."""
    found: dict[str, list[Broken]] = {"critical": [], "warning": [], "info": []}
    for rule, count in zip(suite, checked.rows if checked else (), strict=checked is not None):
        evaluated, bad = rules.unexpected(rule, batch)
        if bad is None:
            count.add(batch.num_rows, evaluated, 0, ())
            continue
        numbers = np.flatnonzero(bad.to_numpy(zero_copy_only=False))
        texts = rules.observed(rule, batch, numbers)
        count.add(batch.num_rows, evaluated, len(numbers), texts[:EXAMPLES].to_pylist())
        if numbers.size:
            found[rule.expectation.severity].append(Broken(rule.expectation.name, ", ".join(rule.own), numbers, texts))
    return found["critical"], found["warning"]


def _observe(batch: pa.RecordBatch, scored: pa.RecordBatch, counters: Counters) -> None:
    """Count and profile: features of every row read, scores of every row to be published."""
    for checked, seen in ((counters.features, batch), (counters.scores, scored)):
        if checked is not None:
            rules.observe(checked.tables, seen)
    for sketches, seen in zip(counters.profiles.values(), (batch, scored), strict=False):
        profile.observe(sketches, seen)


def _breaking(scored: pa.RecordBatch, constraints: tuple[Constraint, ...]) -> list[Broken]:
    """The scored rows that break a constraint of the target, with the values that do."""
    found = []
    for constraint in constraints:
        passing = mask(scored, constraint.comparisons)
        if passing is None or pc.all(passing).as_py() is not False:
            continue
        rows = np.flatnonzero(~passing.to_numpy(zero_copy_only=False))
        names = dict.fromkeys(c.column for c in constraint.comparisons)
        seen = (scored.column(name).take(pa.array(rows)).to_pylist() for name in names)
        texts = [", ".join(map(str, values)) for values in zip(*seen, strict=True)]
        found.append(Broken(constraint.name, constraint.column, rows, pa.array(texts, pa.string())))
    return found


def try_on(batch: pa.RecordBatch, scoring: Scoring, predict: Predict) -> tuple[Any, int] | None:
    """The model's raw answer to the first rows of a sample that it takes, at most 64, and their number.

    None when every row is unfit for it by itself. Raises ModelRefused when it raises on all of them.
    """
    broken, _ = _held_against(batch, scoring.on_features.rows, begin(scoring).features)
    _, fit = _without(batch, None, [*unfit(batch, scoring), *broken])
    fit = fit.slice(0, _TRIED)
    if fit.num_rows == 0:
        return None
    frame, counters = model_input(fit, scoring), Counters()
    answer = _try(predict, frame)
    if not isinstance(answer, Exception):
        return answer, fit.num_rows
    _refuse_hopeless(frame, predict, counters, answer)
    answers = [(answer, stop - start) for start, stop, answer in _isolate(frame, predict, counters)]
    return next((answer, rows) for answer, rows in answers if not isinstance(answer, Exception))


def _set_aside(batch: pa.RecordBatch, broken: Sequence[Broken], counters: Counters) -> pa.RecordBatch:
    for b in broken:
        counters.reasons[(b.rule, b.column)] += len(b.rows)
    rows, why = reasons(broken)
    taken = batch.take(pa.array(rows))
    return pa.RecordBatch.from_arrays([*taken.columns, why], names=[*batch.schema.names, REASONS])


def _predict(
    batch: pa.RecordBatch, scoring: Scoring, predict: Predict, counters: Counters
) -> tuple[list[pa.Array], list[Broken]]:
    """Predictions of the rows the model can score, an array an output, and the rows on which it raises."""
    if batch.num_rows == 0:
        return [pa.array([], type=o.type or pa.null()) for o in scoring.outputs], []
    frame = model_input(batch, scoring)
    answer = _try(predict, frame)
    if not isinstance(answer, Exception):
        return read_outputs(answer, batch.num_rows, scoring.outputs), []
    _refuse_hopeless(frame, predict, counters, answer)
    parts: list[list[pa.Array]] = [[] for _ in scoring.outputs]
    failures: list[Broken] = []
    for start, stop, answer in _isolate(frame, predict, counters):
        if isinstance(answer, Exception):
            said = f"{type(answer).__name__}: {answer}"[:500].encode(errors="replace").decode()
            rows = np.arange(start, stop)
            failures.append(Broken("model_raised", "", rows, pa.array([said] * len(rows), pa.string())))
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
