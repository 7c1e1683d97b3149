"""The one function that scores: an Arrow batch in, scored rows, quarantined rows and counters out.

Spark, the local engine and whatever else carries batches call `score_batch`; it does no I/O.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.checks import profile, rules
from lakehouse.checks.profile import Sketches
from lakehouse.checks.rules import Compiled, RowCount, RowRule
from lakehouse.checks.rules.outcomes import EXAMPLES
from lakehouse.conditions import Comparison, mask
from lakehouse.errors import ModelRefused
from lakehouse.schemas import REASONS, WARNINGS, Feature, Tensor
from lakehouse.scoring.inputs import model_input, unfit_rows, unreadable_rows
from lakehouse.scoring.isolation import NOT_TRIED, isolate
from lakehouse.scoring.outputs import Output, read_outputs
from lakehouse.scoring.reasons import Broken, Numbers, in_words, numbers_of, reasons, renumber, warnings
from lakehouse.scoring.routing import Predictors, Route, answer_by_model, name_models, numbers_of_models, without_model

Predict = Callable[[Any], Any]
Made = Callable[[], Any]
"""Gives the model's input of a whole batch, made already."""

NO_CHECKS = Compiled((), (), ())
_PROBES = 8
_TRIED = 64
_CAUSES, _PLACES = 3, 4
_SAID = 500
"""Characters of an exception that stand beside a row."""


@dataclass(frozen=True)
class Constraint:
    """Comparisons that a table demands of a scored row; one of which any is false or null is set aside."""

    name: str
    column: str
    comparisons: tuple[Comparison, ...]
    text: str


@dataclass(frozen=True)
class Scoring:
    """What `score_batch` needs to know of a job. `tensors`: the arrays that the model takes, if it takes no frame.

    `allowed`: with more rows set aside the run is sure to be blocked, so no more calls are spent on finding them.
    `carried`: of a model that Spark applies, the columns of a batch with its answers, none where it is yet to be asked;
    None for a model that is called here.
    `route`: which model a row is for, where a column says so; what calls them is then `routing.Predictors`.
    """

    keys: tuple[str, ...]
    keep: tuple[str, ...]
    features: tuple[Feature, ...]
    outputs: tuple[Output, ...]
    nulls: str = "model"  # or "quarantine"
    tensors: tuple[Tensor, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    on_features: Compiled = NO_CHECKS
    on_scores: Compiled = NO_CHECKS
    allowed: int | None = None
    carried: tuple[str, ...] | None = None
    route: Route | None = None


@dataclass
class SuiteCounts:
    """What one worker counted of one suite: each row rule, and what the table rules are made of."""

    rows: list[RowCount]
    tables: Any  # rules' own state


@dataclass
class Counters:
    """What one worker saw so far; `reasons` counts quarantined rows by rule and column.

    `features` and `scores` are None where the job has no suite; `profiles` are of both, by name. `hopeless`: the model
    failed on more rows than the run may set aside, so that going on is of no use. `by_model`: rows scored by each model
    of a route.
    """

    read: int = 0
    scored: int = 0
    quarantined: int = 0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    isolation_calls: int = 0
    hopeless: bool = False
    by_model: Counter[int] = field(default_factory=Counter)
    features: SuiteCounts | None = None
    scores: SuiteCounts | None = None
    profiles: dict[str, Sketches] = field(default_factory=dict)


def start_counters(scoring: Scoring, schema: pa.Schema | None = None) -> Counters:
    """Counters for a worker that scores so; with the schema of its input, features and predictions are profiled."""
    features, scores = (_checks(suite) for suite in (scoring.on_features, scoring.on_scores))
    profiles = {}
    if schema is not None:
        given = pa.schema([(o.name, o.column_type) for o in scoring.outputs])
        profiles["features"] = profile.start(schema, dict.fromkeys(f.column for f in scoring.features))
        profiles["predictions"] = profile.start(given, given.names)
    return Counters(features=features, scores=scores, profiles=profiles)


def _checks(suite: Compiled) -> SuiteCounts | None:
    if not suite.rows and not suite.tables:
        return None
    return SuiteCounts([RowCount() for _ in suite.rows], rules.start(suite.tables))


def score_batch(
    batch: pa.RecordBatch, scoring: Scoring, predict: Predict, counters: Counters
) -> tuple[pa.RecordBatch, pa.RecordBatch | None]:
    """Score one conformed batch.

    Returns the scored rows (keys, keep, predictions, `_warnings` where there are rules that warn, in this order) and
    the quarantined ones (the input columns and `_reasons`), None when there are none; adds to `counters`. Every row
    of `batch` is in exactly one of the two. Raises ModelRefused when the model answers with another number of rows than
    it was given.
    """
    return score_rows(batch, scoring, predict, counters)[:2]


def score_rows(
    batch: pa.RecordBatch, scoring: Scoring, predict: Predict, counters: Counters
) -> tuple[pa.RecordBatch, pa.RecordBatch | None, Numbers | None]:
    """What `score_batch` gives, and which of the batch's rows the scored ones are; None for all of them.

    Rows that their source could not read are set aside first: no check and no profile is told of them.
    """
    if not (lost := unreadable_rows(batch)):
        return _score_readable(batch, scoring, predict, counters)
    rows, readable = _without(batch, None, lost)
    aside = _set_aside(batch, lost, counters)
    if scoring.route is not None:
        aside = name_models(aside, np.full(aside.num_rows, -1), scoring.route)
    counters.read += aside.num_rows
    counters.quarantined += aside.num_rows
    scored, more, own = _score_readable(readable, scoring, predict, counters)
    quarantined = aside if more is None else pa.concat_batches([aside, more])
    return scored, quarantined, rows if own is None or rows is None else rows[own]


def _score_readable(
    batch: pa.RecordBatch, scoring: Scoring, predict: Predict, counters: Counters
) -> tuple[pa.RecordBatch, pa.RecordBatch | None, Numbers | None]:
    broken, warned = _check_constraints(batch, scoring.on_features.rows, counters.features)
    broken = [*unfit_rows(batch, scoring), *broken]
    numbers = None
    if scoring.route is not None:
        numbers = numbers_of_models(batch.column(scoring.route.by), scoring.route)
        broken = [*without_model(batch, numbers, scoring.route), *broken]
    rows, fit = _without(batch, None, broken)
    room = None
    if scoring.allowed is not None:
        room = scoring.allowed - counters.quarantined - (batch.num_rows - fit.num_rows)
    predictions, failures = _predict(fit, scoring, predict, counters, room, _of(numbers, rows))
    if failures:
        broken += renumber(failures, rows)
        rows, fit = _without(fit, rows, failures)
    kept = [fit.column(name) for name in (*scoring.keys, *scoring.keep)]
    names = [*scoring.keys, *scoring.keep, *(output.name for output in scoring.outputs)]
    scored = pa.RecordBatch.from_arrays([*kept, *predictions], names=names)
    failing, doubtful = _check_constraints(scored, scoring.on_scores.rows, counters.scores)
    failing += _broken_by(scored, scoring.constraints)
    warned += renumber(doubtful, rows)
    if failing:
        broken += renumber(failing, rows)
        rows, scored = _without(scored, rows, failing)
    _observe(batch, scored, counters)
    if warned:
        own = np.arange(batch.num_rows) if rows is None else rows
        scored = scored.append_column(WARNINGS, warnings(warned, own))
    quarantined = _set_aside(batch, broken, counters) if broken else None
    if numbers is not None and scoring.route is not None:
        scored = name_models(scored, _of(numbers, rows), scoring.route)
        counters.by_model.update(_counted(_of(numbers, rows)))
        if quarantined is not None:
            quarantined = name_models(quarantined, numbers[numbers_of(broken)], scoring.route)
    counters.read += batch.num_rows
    counters.scored += scored.num_rows
    counters.quarantined += quarantined.num_rows if quarantined is not None else 0
    return scored, quarantined, rows


def _of(numbers: Numbers | None, rows: Numbers | None) -> Numbers | None:
    """The models' numbers of these rows; None: of all."""
    return numbers if numbers is None or rows is None else numbers[rows]


def _counted(numbers: Numbers) -> dict[int, int]:
    """How many rows each model has."""
    counts = np.bincount(numbers) if len(numbers) else ()
    return {number: int(count) for number, count in enumerate(counts) if count}


def predict_fit(
    batch: pa.RecordBatch, scoring: Scoring, predict: Predict, counters: Counters, room: int, made: Made | None = None
) -> tuple[list[pa.Array], list[Broken], Any | None]:
    """The predictions of the rows that fit the model and that it scores, an array an output.

    Also why others are left out, and a mask of those that are not; None where none is. With more than `room` rows left
    out, no more calls are spent on finding them. `made`: its input, if all rows fit.
    """
    broken = unfit_rows(batch, scoring)
    rows, fit = _without(batch, None, broken)
    predictions, failures = _predict(fit, scoring, predict, counters, room, made=None if broken else made)
    broken += renumber(failures, rows)
    if not broken:
        return predictions, broken, None
    good = np.ones(batch.num_rows, dtype=bool)
    good[numbers_of(broken)] = False
    return predictions, broken, good


def fit_rows(batch: pa.RecordBatch, scoring: Scoring) -> tuple[Numbers | None, pa.RecordBatch]:
    """The rows of a batch that `score_rows` gives to the model, and their numbers; None for all of them."""
    return _without(batch, None, _not_given(batch, scoring))


def why_unfit(batch: pa.RecordBatch, scoring: Scoring) -> str:
    """Why the first of the batch's rows that can't be given to the model can't be, in words."""
    broken = _not_given(batch, scoring)
    return in_words(reasons(broken)[1][0].as_py()) if broken else "no model is for it"


def _not_given(batch: pa.RecordBatch, scoring: Scoring) -> list[Broken]:
    """The rows of a batch that `score_rows` does not give to the model; of many models whatever one."""
    broken, _ = _check_constraints(batch, scoring.on_features.rows, start_counters(scoring).features)
    return [*unfit_rows(batch, scoring), *broken]


def _without(
    batch: pa.RecordBatch, rows: Numbers | None, broken: Sequence[Broken]
) -> tuple[Numbers | None, pa.RecordBatch]:
    """The batch without the rows that are broken, and the numbers of the rest; `rows`: the numbers of its own rows."""
    if not broken:
        return rows, batch
    good = np.ones(batch.num_rows, dtype=bool)
    good[numbers_of(broken)] = False
    return (np.flatnonzero(good) if rows is None else rows[good]), batch.filter(pa.array(good))


def _check_constraints(
    batch: pa.RecordBatch, suite: Sequence[RowRule], checked: SuiteCounts | None
) -> tuple[list[Broken], list[Broken]]:
    """The rows that break critical rules, and those that break rules which warn; counts what every rule found."""
    found: dict[str, list[Broken]] = {"critical": [], "warning": [], "info": []}
    for rule, count in zip(suite, checked.rows if checked else (), strict=checked is not None):
        evaluated, bad = rules.unexpected(rule, batch)
        if bad is None:
            count.add(batch.num_rows, evaluated, 0, ())
            continue
        numbers = np.flatnonzero(bad.to_numpy(zero_copy_only=False))
        critical = rule.expectation.severity == "critical"  # only then each row says what was seen in it
        shown = EXAMPLES - len(count.examples)
        texts = rules.observed(rule, batch, numbers if critical else numbers[:shown])
        count.add(batch.num_rows, evaluated, len(numbers), texts[:shown].to_pylist())
        if numbers.size:
            seen = texts if critical else None
            found[rule.expectation.severity].append(Broken(rule.expectation.name, ", ".join(rule.own), numbers, seen))
    return found["critical"], found["warning"]


def _observe(batch: pa.RecordBatch, scored: pa.RecordBatch, counters: Counters) -> None:
    """Count and profile: features of every row read, scores of every row to be published."""
    for checked, seen in ((counters.features, batch), (counters.scores, scored)):
        if checked is not None:
            rules.observe(checked.tables, seen)
    for sketches, seen in zip(counters.profiles.values(), (batch, scored), strict=False):
        profile.observe(sketches, seen)


def _broken_by(scored: pa.RecordBatch, constraints: tuple[Constraint, ...]) -> list[Broken]:
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


def try_on(batch: pa.RecordBatch, scoring: Scoring, predict: Predict) -> tuple[Any, pa.RecordBatch] | Exception | None:
    """The model's raw answer to rows of a sample, at most 64, and these; the exception where it raises on all.

    None when every row is unfit for it by itself.
    """
    _, fit = fit_rows(batch, scoring)
    if fit.num_rows == 0:
        return None

    def ask(start: int, stop: int) -> Any:
        return _try(predict, fit.slice(start, stop - start), scoring)

    first = min(_TRIED, fit.num_rows)
    answer = ask(0, first)
    if not isinstance(answer, Exception):
        return answer, fit.slice(0, first)
    answers = [(start, stop - start, answer) for start, stop, answer in isolate(first, answer, ask)]
    for row in range(first, fit.num_rows, max((fit.num_rows - first) // _PROBES, 1)):
        stop = min(row + _TRIED, fit.num_rows)
        answers += [(start, stop - start, ask(start, stop)) for start, stop in ((row, stop), (row, row + 1))]
    good = [part for part in answers if not isinstance(part[2], Exception)]
    if not good:  # told is what it says of most rows, each tried alone
        errors: list[Exception] = [error for _, _, error in answers]
        said = Counter(map(repr, errors))
        return max(errors, key=lambda error: said[repr(error)])
    start, rows, answer = max(good, key=lambda part: part[1])
    return answer, fit.slice(start, rows)


def _set_aside(batch: pa.RecordBatch, broken: Sequence[Broken], counters: Counters) -> pa.RecordBatch:
    for b in broken:
        counters.reasons[(b.rule, b.column)] += len(b.rows)
    rows, why = reasons(broken)
    taken = batch.take(pa.array(rows))
    return pa.RecordBatch.from_arrays([*taken.columns, why], names=[*batch.schema.names, REASONS])


def _predict(
    batch: pa.RecordBatch, scoring: Scoring, predict: Predict, counters: Counters, room: int | None,
    numbers: Numbers | None = None, made: Made | None = None,
) -> tuple[list[pa.Array], list[Broken]]:  # fmt: skip
    """Predictions of the rows the model can score, an array an output, and the rows that it can't.

    `numbers`: the model of each row, where there are several.
    """
    if batch.num_rows == 0:
        return [pa.array([], type=o.column_type or pa.null()) for o in scoring.outputs], []
    if numbers is None:
        arrays, failures = _answers(batch, scoring, predict, counters, room, made)
    else:
        assert isinstance(predict, Predictors)
        several = predict

        def ask_one(rows: pa.RecordBatch, number: int, room: int | None) -> tuple[list[pa.Array], list[Broken]]:
            return _answers(rows, scoring, several.of(number), counters, room)

        arrays, failures = answer_by_model(batch, numbers, scoring, ask_one, room)
    if failures:
        good = np.ones(batch.num_rows, dtype=bool)
        good[numbers_of(failures)] = False
        arrays = [array.filter(pa.array(good)) for array in arrays]
        counters.hopeless |= room is not None and int((~good).sum()) > room
    return arrays, failures


def _answers(
    batch: pa.RecordBatch,
    scoring: Scoring,
    predict: Predict,
    counters: Counters,
    room: int | None,
    made: Made | None = None,
) -> tuple[list[pa.Array], list[Broken]]:
    """What one model answers to rows, an array an output with a value or null for each, and the rows that it can't do.

    A model may change what it is called with, so that every call gets a frame of its own, made from the Arrow batch.
    """

    def ask(start: int, stop: int, made: Made | None = None) -> Any:
        answer = _try(predict, batch.slice(start, stop - start), scoring, made)
        if isinstance(answer, Exception):
            return answer
        return read_outputs(answer, stop - start, scoring.outputs)

    whole = ask(0, batch.num_rows, made)
    if not isinstance(whole, Exception):
        arrays, failures = whole
        return arrays, failures

    def ask_again(start: int, stop: int) -> Any:
        counters.isolation_calls += 1
        return ask(start, stop)

    return _join(isolate(batch.num_rows, whole, ask_again, room), scoring.outputs)


def _join(parts: Sequence[tuple[int, int, Any]], outputs: Sequence[Output]) -> tuple[list[pa.Array], list[Broken]]:
    """Answers to the parts of a batch as one: an array an output, null where there is no value, and why not."""
    columns: list[list[pa.Array]] = [[] for _ in outputs]
    failures: list[Broken] = []
    raised: dict[int, str] = {}
    untried: list[int] = []
    for start, stop, answer in parts:
        if answer is NOT_TRIED or isinstance(answer, Exception):
            arrays = [pa.nulls(stop - start, output.column_type) for output in outputs]
            if isinstance(answer, Exception):
                raised[start] = _last_words(answer)
            else:
                untried += range(start, stop)
        else:
            arrays, unfitting = answer
            failures += [replace(broken, rows=broken.rows + start) for broken in unfitting]
        for column, array in zip(columns, arrays, strict=True):
            column.append(array)
    if raised:
        failures.append(Broken("model_raised", "", np.array(list(raised)), pa.array(list(raised.values()))))
    if untried:
        failures.append(Broken("not_tried", "", np.array(untried)))
    return [pa.concat_arrays(column) for column in columns], failures


def _last_words(error: Exception) -> str:
    """An exception as a line beside a row: of a long one the end as well, where the cause is."""
    text = f"{type(error).__name__}: {error}".encode(errors="replace").decode()
    return text if len(text) <= _SAID else f"{text[: _SAID // 3]} … {text[-(_SAID - _SAID // 3 - 3) :]}"


def _try(predict: Predict, batch: pa.RecordBatch, scoring: Scoring, made: Made | None = None) -> Any:
    """The model's answer, or the exception it raises; returned, so that no later one is chained to it.

    A model that calls `sys.exit` would end the run without a word: that is an exception of its as any other.
    """
    frame = made() if made is not None else model_input(batch, scoring, predict)
    try:
        return predict(frame)
    except ModelRefused:  # by Spark, which applies the model, and would raise again on these rows
        raise
    except Exception as error:
        return error
    except SystemExit as stop:
        return RuntimeError(f"the model ends the process: SystemExit({stop.code!r})").with_traceback(stop.__traceback__)


def describe_exception(error: BaseException) -> str:
    """An exception of a model in a few lines: what it says, what caused it, and where in the model it came from."""
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(lines) < _CAUSES:
        lines.append(f"{type(cause).__name__}: {cause}")
        last, cause = cause, cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    if places := getattr(last, "places", None):  # of a process of its own, as text
        return "\n".join([*lines, *places[-_PLACES:]])
    places = traceback.extract_tb(last.__traceback__)[-_PLACES:]
    lines += [f"  at {place.filename}:{place.lineno} in {place.name}: {place.line}" for place in places]
    return "\n".join(lines)
