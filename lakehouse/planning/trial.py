"""The model is tried on a few rows: what it answers with decides the types of the predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import checks, models, schemas
from lakehouse.checks import rules
from lakehouse.checks.rules import Compiled
from lakehouse.config.messages import UNQUOTED
from lakehouse.errors import ConfigError, ModelRefused, NotReady
from lakehouse.planning import isolating
from lakehouse.planning.unsigned import require_signature
from lakehouse.scoring.inputs import model_given
from lakehouse.scoring.maps import has_map
from lakehouse.scoring.outputs import Output, read_outputs, settle_type
from lakehouse.scoring.routing import Route, Routed, numbers_of_models, require_routable
from lakehouse.scoring.score import NO_CHECKS, Constraint, Scoring, describe_exception, try_on, why_unfit

if TYPE_CHECKING:
    from lakehouse.config import Job

Held = Mapping[str, pa.DataType]
"""The types of the columns that the scored table has already."""
_Answer = tuple[Any, pa.RecordBatch]
"""What a model answers, and the rows that it was given."""
_GUESS = pa.float64()
"""The type of a prediction that nothing tells."""
_FEW = 1_024
_MODELS_TRIED = 8
"""So many of the models that have rows in a batch of the sample are tried, until one answers."""
_MOST_BATCHES = 4_096
"""So many batches of the sample are looked through for rows on which the model does not raise."""


@dataclass(frozen=True)
class Trial:
    """What scores the rows, how the model is called, and the columns of the scored table: keys, kept ones, predictions.

    `notes`: what there is to say of their types. `untried`: why a row of the sample could not be given to the
    model, where none could, so that the types are declared or guessed; `guessed`: the predictions of which the table
    doesn't tell the type either. `rows`: those of the sample, in the input's columns, that the model answered. `model`:
    the one that was tried, which of many is one that has rows in the sample. `direct`: called past pandas and MLflow it
    gave these rows the same answers, bit by bit.
    """

    scoring: Scoring
    columns: pa.Schema
    predictor: models.Predictor
    notes: tuple[str, ...] = ()
    untried: str = ""
    guessed: tuple[str, ...] = ()
    rows: pa.RecordBatch | None = None
    model: models.FetchedModel | None = None
    direct: bool = False


def scoring_for(job: Job, model: models.FetchedModel, schema: pa.Schema, sample: Iterable[pa.RecordBatch]) -> Scoring:
    """What `score_batch` needs to score batches of this schema as the job says, with no plan and no table.

    Arguments and errors as of `trial_for`.
    """
    return trial_for(job, model, schema, sample).scoring


def trial_for(
    job: Job,
    model: models.FetchedModel,
    schema: pa.Schema,
    sample: Iterable[pa.RecordBatch],
    name: str = "the input",
    held: Held | None = None,
) -> Trial:
    """The model, tried on batches of this schema as the job says, with no plan and no table.

    `model`: as `models.fetch` gives it, judged already; it is loaded here. `sample`: a few batches of the schema, on
    which it is tried; the job's suites are compiled against the schema. `name`: the input, for people. `held`: as of
    `try_model`.
    Raises ConfigError where the schema lacks what the job or the model names, ModelRefused where the model raises on
    every row of the sample, NotReady where there is none.
    """
    schemas.require_columns(schema, job.keys, "keys", name)
    schemas.require_columns(schema, job.keep, "keep", name)
    require_signature(job, model, schema, name)
    model = isolating.isolated(job, model)
    inputs = models.features_of(model, job.features, schema, name)
    suites = checks.suites_of(job.checks)
    on_features = rules.compile_suite(suites.features, schema)
    if job.model.by is not None:
        schemas.require_columns(schema, (job.model.by,), "model.by", name)
        require_routable(schema.field(job.model.by), name)
    return try_model(job, model, inputs, on_features, suites, schema, sample, name=name, held=held)


def try_model(
    job: Job,
    model: models.FetchedModel,
    inputs: models.Inputs,
    on_features: Compiled,
    suites: checks.Suites,
    schema: pa.Schema,
    sample: Iterable[pa.RecordBatch],
    *,
    name: str = "the input",
    constraints: tuple[Constraint, ...] = (),
    held: Held | None = None,
    own: Held | None = None,
    allowed: int | None = None,
    predictor: models.Predictor | None = None,
) -> Trial:
    """Load the model and try it on the sample.

    `held`: the scored table's own types, which decide where the sample leaves a prediction's open; `own`: those of
    kept columns, where the input stores them in wider ones. `allowed`: see `Scoring`. `predictor`: what calls the
    model, where Spark applies it. A signature that the job gives is held against what the loaded model knows of its
    columns. Raises as `trial_for`.
    """
    tried = _Tried(job, model, predictor)
    if model.declared:
        inputs = models.held_to(inputs, model.signature, tried.predictor())
    applied = predictor is not None and predictor.on_frames
    untyped = scoring_before(job, inputs, on_features, constraints, applied=applied)
    unfit = list[pa.RecordBatch]()

    def ask(batch: pa.RecordBatch) -> _Answer | Exception | None:
        answer = tried.ask(batch, untyped)
        if answer is None and batch.num_rows:
            unfit[:] = [batch]
        return answer

    answer = _answer(ask, sample, name)
    predictor = tried.predictor()
    outputs, notes = _outputs(job, model, predictor, answer, held or {})
    kept = [
        pa.field(c, _own(schemas.nullable_type(schema.field(c).type), (own or {}).get(c)))
        for c in (*job.keys, *job.keep)
    ]
    made = [pa.field(o.name, o.column_type) for o in outputs]
    columns = pa.schema([*kept, *made])
    # Where not even a sample could be scored, the types are only guessed, and nothing will be published.
    on_scores = NO_CHECKS if answer is None else rules.compile_suite(suites.scores, columns)
    route = route_of(job, model, predictor.classes if _has_a_place_a_class(job, predictor, answer) else None)
    scoring = replace(untyped, outputs=outputs, on_scores=on_scores, allowed=allowed, route=route)
    rows = None if answer is None else answer[1]
    direct = answer is not None and _answers_directly(predictor, answer, untyped)
    guessed = tuple(o.name for o in outputs if answer is None and o.threshold is None and o.name not in (held or {}))
    untried = "" if answer is not None else why_unfit(unfit[0], untyped)
    return Trial(scoring, columns, predictor, tuple(notes), untried, guessed, rows, tried.model, direct)


def _answers_directly(predictor: models.Predictor, answer: _Answer, scoring: Scoring) -> bool:
    """Whether the model gives the same answer to the same rows when it is called past pandas and MLflow."""
    if predictor.direct is None:
        return False
    values, rows = answer
    try:
        return _identical(predictor.direct(model_given(rows, scoring)), values)
    except Exception:  # noqa: BLE001  # it wants more than numbers
        return False


def _identical(one: Any, other: Any) -> bool:
    """Whether two answers are arrays, or lists of arrays, of the same types and values, bit by bit."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_identical, one, other))
    if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray)):
        return False
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and ((one.dtype == object and bool((one == other).all())) or one.tobytes() == other.tobytes())


def scoring_before(
    job: Job, inputs: models.Inputs, on_features: Compiled, constraints: tuple[Constraint, ...], *, applied: bool
) -> Scoring:
    """What is known before the model was tried: which rows it can be given. `applied`: by Spark."""
    return Scoring(
        job.keys,
        job.keep,
        inputs.features,
        (),
        job.features.nulls,
        inputs.tensors,
        constraints,
        on_features,
        carried=() if applied else None,
    )


def route_of(job: Job, model: models.FetchedModel, classes: tuple[Any, ...] | None = None) -> Route | None:
    """Which of many models a row is for; None where there is one. `classes`: see `Route`."""
    if job.model.by is None or not model.members:
        return None
    routed = tuple(Routed(value, one.name, one.version, one.digest) for value, one in model.members.items())
    return Route(job.model.by, routed, job.model.batch_rows, job.model.uri, job.model.missing == "refuse", classes)


def _has_a_place_a_class(job: Job, predictor: models.Predictor, answer: _Answer | None) -> bool:
    """Whether predictions are taken from what has a place for each class, in the order of the model's classes.

    Methods of other names have answers of their own, of which the width says nothing.
    """
    if any(prediction.class_ is not None for prediction in (job.predictions or {}).values()):
        return True
    if job.model.method is not None:
        return "proba" in job.model.method or job.model.method == "decision_function"
    values = None if answer is None else answer[0]
    shape: tuple[int, ...] = () if hasattr(values, "columns") else getattr(values, "shape", ())
    return bool(predictor.classes) and len(shape) == 2 and shape[1] == len(predictor.classes or ())


class _Tried:
    """The model that is tried: the job's, or of many the first of those with rows in the sample that answers."""

    def __init__(self, job: Job, model: models.FetchedModel, given: models.Predictor | None = None) -> None:
        self.model, self._whole, self._job, self._given = model, model, job, given
        self._route = route_of(job, model)

    def predictor(self) -> models.Predictor:
        if self._given is not None:
            return self._given
        one, config = self.model.one, self._job.model
        return models.load(one.folder, one.digest, config.method, models.freeze(config.params))

    def ask(self, batch: pa.RecordBatch, scoring: Scoring) -> _Answer | Exception | None:
        """The model's answer to rows of the sample, None where none can be given to it; see `try_on`."""
        if self._route is None:
            return try_on(batch, scoring, self.predictor().predict)
        found: Exception | None = None
        numbers = numbers_of_models(batch.column(self._route.by), self._route)
        for number in _most_frequent(numbers)[:_MODELS_TRIED]:
            self.model = replace(self._whole, chosen=self._route.routed[number].value)
            answer = try_on(batch.filter(pa.array(numbers == number)), scoring, self.predictor().predict)
            if answer is not None and not isinstance(answer, Exception):
                return answer
            found = answer or found
        return found


def _most_frequent(numbers: Any) -> list[int]:
    """The models of rows, that of most rows first."""
    found, counts = np.unique(numbers[numbers >= 0], return_counts=True)
    return [int(number) for number in found[np.argsort(-counts, kind="stable")]]


def _own(stored: pa.DataType, held: pa.DataType | None) -> pa.DataType:
    """The scored table's own type of a column that the quarantine table stores in a wider one."""
    return held if held is not None and schemas.is_widened_by(held, stored) else stored


def _answer(
    ask: Callable[[pa.RecordBatch], _Answer | Exception | None], sample: Iterable[pa.RecordBatch], name: str
) -> _Answer | None:
    """The model's answer to a few rows of the input, and these; None where no row has a key and every required feature.

    Where the model raises on the first rows, others from further on are tried: bad rows may stand anywhere.
    Raises ModelRefused where it raises on all of them, NotReady where there are no rows.
    """
    looked, refused, error = 0, 0, Exception()
    for number, batch in enumerate(sample):
        looked += batch.num_rows
        if refused and not _inspect_answer(number):
            continue
        answer = ask(batch)
        if isinstance(answer, Exception):
            refused, error = refused + 1, answer
        elif answer is not None:
            return answer
        if refused and number >= _MOST_BATCHES:
            break
    if not looked:
        raise NotReady(f"{name}: no row passes source.where: nothing to score, nothing was replaced")
    if refused:
        where = f"rows from all over the first {looked:,}" if looked > _FEW else f"{looked:,} rows"
        raise ModelRefused(f"the model raises on every row it was tried on ({where}):\n{describe_exception(error)}")
    return None


def _inspect_answer(number: int) -> bool:
    """Whether a batch of the sample is tried where earlier ones failed: the first ones, then ever fewer."""
    return number < 4 or number & (number - 1) == 0


def _outputs(
    job: Job,
    model: models.FetchedModel,
    predictor: models.Predictor,
    answer: _Answer | None,
    held: Held,
) -> tuple[tuple[Output, ...], list[str]]:
    """The job's predictions as parts of the model's output, with their types; and what there is to say of these.

    The output signature declares what pyfunc answers with; of a method that the job names the sample decides.
    """
    named = model.output_names
    wanted = job.predictions
    if wanted is None:
        single = len(named) <= 1
        outputs = [Output(named[0] if named else "prediction", "*")] if single else [Output(n, n) for n in named]
    else:
        outputs = [_output(name, p, predictor, named) for name, p in wanted.items()]
    taken = {c.lower() for c in (*job.keys, *job.keep, *job.slice)}
    for output in outputs:
        if output.name.lower() in taken:
            raise ConfigError(
                f"predictions: {output.name!r} is a column of the scored table already; name it otherwise"
            )
    declares = model.outputs if job.model.method is None else []
    declared = [models.output_type(declares, o.part) if declares else None for o in outputs]
    if answer is None:
        return _untried(outputs, declared, held), []
    values, rows = answer[0], answer[1].num_rows
    outputs = [_place_columns(o, named, values) for o in outputs]
    for output, prediction in zip(outputs, (wanted or {}).values(), strict=False):
        if prediction.class_ is not None:
            _require_probabilities(output.name, predictor.probabilities(values), predictor)
    arrays = [_seen(values, rows, o, says) for o, says in zip(outputs, declared, strict=True)]
    read_outputs(values, rows, tuple(outputs))  # a threshold must suit its output
    typed, notes = [], []
    for output, says, array in zip(outputs, declared, arrays, strict=True):
        kind, contradicts = settle_type(says or _floating(held, output, array), array)
        if pa.types.is_null(kind):
            raise ModelRefused(
                f"predictions.{output.name}: the model answers {rows:,} rows of the input with nothing but nulls, and "
                "its signature declares no output, so that the column's type isn't known: log it with one"
            )
        if contradicts:
            notes.append(
                f"predictions.{output.name}: the model's signature declares {says}, it answers with {array.type}, "
                "which is the column's type"
            )
        if _has_nanoseconds(array.type):
            notes.append(
                f"predictions.{output.name}: its times in nanoseconds are cut to microseconds, as tables store them"
            )
        typed.append(replace(output, type=storable(kind, output.name)))
    return tuple(typed), notes


def _seen(values: Any, rows: int, output: Output, declared: pa.DataType | None) -> pa.Array:
    """The sample's values of an output as what they are by themselves; dicts as maps where they are declared so."""
    plain = replace(output, threshold=None)
    if has_map(declared):
        [array], unfit = read_outputs(values, rows, (replace(plain, type=declared),))
        if not unfit:
            return array
    return read_outputs(values, rows, (plain,))[0][0]


def _has_nanoseconds(kind: pa.DataType) -> bool:
    if pa.types.is_timestamp(kind):
        return bool(kind.unit == "ns")
    return any(_has_nanoseconds(kind.field(number).type) for number in range(kind.num_fields))


def _floating(held_types: Held, output: Output, seen: pa.Array) -> pa.DataType | None:
    """The type of the scored table's own column where it is a floating one and the sample has whole numbers only."""
    held = held_types.get(output.name)
    if held is None or not pa.types.is_floating(held) or not pa.types.is_integer(seen.type):
        return None
    return held


def _untried(outputs: Sequence[Output], declared: Sequence[pa.DataType | None], held: Held) -> tuple[Output, ...]:
    """Outputs of a model that could not be tried: as the table has them, or as declared, or a guess where neither."""
    kinds = [held.get(o.name, says or _GUESS) for o, says in zip(outputs, declared, strict=True)]
    return tuple(replace(o, type=storable(kind, o.name)) for o, kind in zip(outputs, kinds, strict=True))


def _output(name: str, prediction: Any, predictor: models.Predictor, named: tuple[str, ...]) -> Output:
    part = prediction.output
    if prediction.class_ is not None:
        label = prediction.class_
        known = predictor.classes or ()
        part = next(
            (i for i, c in enumerate(known) if c == label and isinstance(c, bool) == isinstance(label, bool)), None
        )
        if part is None:
            what = f"its classes are {list(known)}" if known else predictor.without_classes
            if isinstance(label, bool) and any(isinstance(c, str) for c in known):
                what += f"; {UNQUOTED}"
            raise ConfigError(f"predictions.{name}: the model has no class {label!r}: {what}")
    elif isinstance(part, str) and part != "*" and named == (part,):
        part = "*"
    return Output(name, part, None, prediction.threshold)


def _place_columns(output: Output, named: tuple[str, ...], values: Any) -> Output:
    """An output that the signature names, by its position where the model answers with a bare matrix."""
    shape: tuple[int, ...] = () if hasattr(values, "columns") else getattr(values, "shape", ())
    if output.part in named and len(shape) == 2 and shape[1] == len(named):
        return replace(output, part=named.index(str(output.part)))
    return output


def _require_probabilities(name: str, values: Any, predictor: models.Predictor) -> None:
    """Raise ConfigError unless the sample's rows are probabilities of all classes: none negative, together 1."""
    shape: tuple[int, ...] = getattr(values, "shape", ())
    count = len(predictor.classes or ())
    if len(shape) != 2 or shape[1] != count:
        raise ConfigError(
            f"predictions.{name}: class needs the probabilities of all {count} classes, the "
            "model gives something else: set model: {method: predict_proba}"
        )
    matrix = np.asarray(values, dtype=np.float64)
    matrix = matrix[~np.isnan(matrix).any(axis=1)]
    if (matrix < 0).any() or not np.allclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-3):
        raise ConfigError(
            f"predictions.{name}: class needs probabilities, and what the model gives for a row is {_row(matrix)}: set "
            "model: {method: predict_proba}, or name a column of it by its number"
        )


def _row(matrix: Any) -> str:
    """The first row that is no distribution, shortened."""
    wrong = (matrix < 0).any(axis=1) | ~np.isclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-3)
    return "[" + ", ".join(f"{v:.4g}" for v in matrix[wrong][0][:4]) + (", …]" if matrix.shape[1] > 4 else "]")


def storable(kind: pa.DataType, name: str) -> pa.DataType:
    """The type in a Delta table that holds every value of `kind`. Raises ConfigError where there is none."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(storable(kind.value_type, name))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, storable(f.type, name)) for f in kind])
    if pa.types.is_map(kind):
        return pa.map_(storable(kind.key_type, name), storable(kind.item_type, name))
    if pa.types.is_unsigned_integer(kind) and kind.bit_width < 64:
        return {8: pa.int16(), 16: pa.int32(), 32: pa.int64()}[kind.bit_width]
    if pa.types.is_timestamp(kind):
        return schemas.TIMESTAMP if kind.tz else pa.timestamp("us")
    same = (
        pa.types.is_signed_integer,
        pa.types.is_float32,
        pa.types.is_float64,
        pa.types.is_boolean,
        pa.types.is_string,
        pa.types.is_binary,
        pa.types.is_date32,
        pa.types.is_decimal,
    )
    if any(test(kind) for test in same):
        return kind
    mapped = {pa.float16(): pa.float32(), pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
    if kind in mapped:
        return mapped[kind]
    instead = "seconds, as numbers" if pa.types.is_duration(kind) else "int64" if pa.types.is_uint64(kind) else "text"
    raise ConfigError(
        f"predictions.{name}: the model answers with {kind}, which a Delta table can't hold: let it answer with "
        f"{instead}, for instance"
    )
