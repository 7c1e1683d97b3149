"""Rows to models where a column says which model a row is for: numbered once a batch, each model called on its rows.

A batch's rows are put in the order of their models, each model is called on what lies together, and the answers are put
back into the order of the rows. No row is looked at by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import models
from lakehouse.errors import ConfigError, ModelRefused
from lakehouse.schemas import MODEL_NAME, MODEL_VERSION
from lakehouse.scoring.reasons import Broken, Numbers

if TYPE_CHECKING:
    from lakehouse.scoring.score import Scoring

Predict = Callable[[Any], Any]
Answers = tuple[list[pa.Array], list[Broken]]

_ROWS_A_MODEL = 8_192
"""So many rows a model are gathered, as far as memory allows: a call costs about the same for ten as for a thousand."""
_MOST_ROWS, GATHERED_BYTES = 1 << 21, 256 << 20
"""At most so many rows, or bytes of them, are gathered in one worker."""
_SHOWN = 3
NO_MODEL = "no_model"


@dataclass(frozen=True)
class Routed:
    """One of the models: the value whose rows it scores, as a text, and the version that it is."""

    value: str
    name: str
    version: str
    digest: str


@dataclass(frozen=True)
class Route:
    """Which model scores a row: the one that the value of the column `by` has.

    `routed`: by their values. `rows`: at most so many a call. `refuse`: a row without a model ends the run. `classes`:
    what each must have, in their order, where the answer has a place a class; None where it doesn't matter.
    """

    by: str
    routed: tuple[Routed, ...]
    rows: int
    uri: str
    refuse: bool = False
    classes: tuple[Any, ...] | None = None

    @property
    def gathered_rows(self) -> int:
        """How many rows are worth gathering before the models are called."""
        return min(_MOST_ROWS, max(self.rows, _ROWS_A_MODEL * len(self.routed)))


class Predictors:
    """The models of a route at work. Called itself, it is the one that stands for all."""

    def __init__(
        self, folders: models.Folders, route: Route, method: str | None, params: Any, digest: str, *, direct: bool
    ) -> None:
        self._folders, self._route, self._calls, self._direct = folders, route, (method, params), direct
        self._one = models.load(folders[digest], digest, method, params).way(direct=direct)
        self.takes_columns = models.takes_columns(self._one)

    def __call__(self, given: Any) -> Any:
        return self._one(given)

    def of(self, number: int) -> Predict:
        """What calls the model of this number. Raises ModelRefused where it can't be used beside the others."""
        one = self._route.routed[number]
        try:
            predictor = models.held(self._folders[one.digest], one.digest, *self._calls)
        except (ModelRefused, ConfigError) as error:
            raise ModelRefused(f"{one.name} v{one.version}: {error}") from error
        wanted = self._route.classes
        if wanted is not None and predictor.classes != wanted:
            raise ModelRefused(
                f"{one.name} v{one.version} has the classes {_list(predictor.classes)}, others of {self._route.uri} "
                f"have {_list(wanted)}: answers with a place a class need the same ones, in one order, in all"
            )
        return predictor.way(direct=self._direct)


def _list(classes: tuple[Any, ...] | None) -> str:
    return str(list(classes)) if classes is not None else "none"


def require_routable(column: pa.Field, table: str) -> None:
    """Raise ConfigError for a column whose values are no texts and no integers."""
    kind = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        raise ConfigError(
            f"model.by: {column.name!r} of {table} is {kind}: it must be text or integer, as a model's name has it"
        )


def numbers_of_models(column: pa.Array, route: Route) -> Numbers:
    """By row the number of its model (int32), -1 for a null and for a value that has none."""
    if len(column) == 0:
        return np.empty(0, np.int32)
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    texts = encoded.dictionary.cast(pa.string())
    known = pc.fill_null(pc.index_in(texts, value_set=pa.array([one.value for one in route.routed], pa.string())), -1)
    found = pc.fill_null(known.take(encoded.indices), -1)
    return found.to_numpy(zero_copy_only=False).astype(np.int32, copy=False)


def rows_of_one(batch: pa.RecordBatch, route: Route, digest: str) -> pa.RecordBatch:
    """As many rows as the batch has, all for the model of this digest: its own, over and over; none without any."""
    own = [number for number, one in enumerate(route.routed) if one.digest == digest]
    rows = np.flatnonzero(np.isin(numbers_of_models(batch.column(route.by), route), own))
    return batch.take(pa.array(np.resize(rows, batch.num_rows if len(rows) else 0)))


def without_model(batch: pa.RecordBatch, numbers: Numbers, route: Route) -> list[Broken]:
    """The rows that no model is for. Raises ModelRefused where the job has such refused."""
    rows = np.flatnonzero(numbers < 0)
    if not rows.size:
        return []
    seen = batch.column(route.by).take(pa.array(rows)).cast(pa.string())
    if route.refuse:
        raise ModelRefused(missing_refusal(pc.unique(seen).to_pylist(), route.by, route.uri))
    return [Broken(NO_MODEL, route.by, rows, seen)]


def missing_refusal(values: Sequence[str | None], by: str, uri: str, more: bool = False) -> str:
    """Why a run is refused whose input has values without a model."""
    return (
        f"model.missing: there is no model for {by} {named_values(values, more)} ({uri}): register what is missing, or "
        "have such rows set aside: model: {missing: quarantine}"
    )


def named_values(values: Sequence[str | None], more: bool = False) -> str:
    """Some of the values of a column, as people read them. `more`: there are others."""
    named = ", ".join("null" if value is None else repr(value) for value in values[:_SHOWN])
    return named + (f" and {'at least ' if more else ''}{len(values) - _SHOWN:,} more" if len(values) > _SHOWN else "")


def answer_by_model(
    batch: pa.RecordBatch,
    numbers: Numbers,
    scoring: Scoring,
    ask: Callable[[pa.RecordBatch, int, int | None], Answers],
    room: int | None,
) -> Answers:
    """What each row's model answers, an array an output in the order of the rows, and the rows that failed.

    `ask(rows, number, room)` has one model answer to rows of its own; `numbers`: the model of each row.
    """
    assert scoring.route is not None
    order = np.argsort(numbers.astype(np.uint16) if len(scoring.route.routed) < 1 << 16 else numbers, kind="stable")
    columns = dict.fromkeys(feature.column for feature in scoring.features)
    placed = pa.array(order)
    rows = pa.RecordBatch.from_arrays([batch.column(name).take(placed) for name in columns], names=list(columns))
    sorted_numbers = numbers[order]
    starts = np.flatnonzero(np.diff(sorted_numbers, prepend=-1))
    parts: list[list[pa.Array]] = [[] for _ in scoring.outputs]
    failures: list[Broken] = []
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        for at in range(start, end, scoring.route.rows):
            stop = min(at + scoring.route.rows, end)
            arrays, failed = ask(rows.slice(at, stop - at), int(sorted_numbers[at]), room)
            for part, array in zip(parts, arrays, strict=True):
                part.append(array)
            failures += [replace(broken, rows=order[at:stop][broken.rows]) for broken in failed]
            if room is not None:
                room -= len({row for broken in failed for row in broken.rows.tolist()})
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return [pa.concat_arrays(part).take(pa.array(back)) for part in parts], failures


def name_models(batch: pa.RecordBatch, numbers: Numbers, route: Route) -> pa.RecordBatch:
    """The batch with the name and the version of each row's model, both null where there is none."""
    which = pa.array(numbers, mask=numbers < 0)
    for column, texts in (
        (MODEL_NAME, [one.name for one in route.routed]),
        (MODEL_VERSION, [one.version for one in route.routed]),
    ):
        batch = batch.append_column(column, pa.array(texts, pa.string()).take(which))
    return batch
