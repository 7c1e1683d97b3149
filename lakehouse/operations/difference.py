"""A held run beside the scores that are live: rows that come, go and change, decisions that flip, means that move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import sinks
from lakehouse.engines import memory
from lakehouse.errors import ConfigError, nearest
from lakehouse.operations.matching import match, once
from lakehouse.planning import catalog
from lakehouse.runs.comparing import figures
from lakehouse.runs.held import Held
from lakehouse.scoring.comparison import segments_of
from lakehouse.scoring.pairs import Pairs, pairs_of
from lakehouse.sinks.slices import slice_texts, slice_types
from lakehouse.sinks.target import SINK, Target
from lakehouse.storage.parquet import open_parquet

if TYPE_CHECKING:
    from lakehouse.config import Job

_SHOWN = 10
_BYTES = 120
"""About what a row of either side takes besides its own values, while both are matched by their keys."""


@dataclass(frozen=True)
class Difference:
    """Held rows and live ones of the same slice, matched by the job's keys; `live` is 0 where nothing is published.

    `added`, `gone`: rows of one side only; `changed`: rows of which any prediction is another. `repeated`: rows whose
    key more than one row of a side has, which are matched with nothing. `predictions`: each with the figures of
    `comparing.figures`, own being live and theirs held, overall and by segment; `examples`: the largest changes.
    """

    run_id: str
    held: int
    live: int
    added: int
    gone: int
    changed: int
    same: int
    repeated: int
    by: str | None
    predictions: tuple[dict[str, Any], ...]
    examples: tuple[dict[str, Any], ...]
    not_compared: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As an object."""
        return asdict(self)


def difference(job: Job, waits: Held, by: str | None = None) -> Difference:
    """Compare a held run's rows with those that are live in its slice now, of the first table; it reads both.

    `by`: a key or kept column, of whose values the figures are given too. Raises ConfigError for another column, and
    where the rows don't fit into this process's memory.
    """
    with catalog.open_job(job, f"diff of run={waits.intent.run_id}") as at_places:
        return _difference(at_places, waits, by)


def _difference(job: Job, waits: Held, by: str | None) -> Difference:
    target = next(t for t in waits.intent.targets if t.kind == SINK)
    if by and by not in target.schema.names:
        raise ConfigError(f"--by: {by!r} is no column of the scored rows: {nearest(by, [*job.keys, *job.keep])}")
    nested = [field.name for field in target.schema if pa.types.is_nested(field.type)]
    if by in nested:
        raise ConfigError(f"--by: {by!r} holds lists, maps or structs: name a column of single values")
    predictions = predictions_of(job, target.schema)
    names = [name for name in predictions if name not in nested]
    columns = [*job.keys, *([by] if by and by not in job.keys else []), *names]
    require_room(target.rows, columns)
    schema = pa.schema([target.schema.field(name) for name in columns])
    held = pa.Table.from_batches(_staged(target, schema), schema)
    live = pa.Table.from_batches(_live(job, target, schema), schema)
    found = compare(waits.intent.run_id, held, live, job.keys, names, by)
    return replace(found, not_compared=tuple(name for name in predictions if name in nested))


def predictions_of(job: Job, schema: pa.Schema) -> list[str]:
    """The columns that the model's answers are in: those that are neither keys, kept, of the slice, nor our own."""
    others = {name.lower() for name in (*job.keys, *job.keep, *job.slice)}
    return [n for n in schema.names if n.lower() not in others and not n.startswith("_")]


def _staged(target: Target, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for file in target.files:
        with open_parquet(target.root, file.path) as stored:
            for batch in stored.iter_batches(columns=schema.names):
                yield in_types(batch, schema)


def _live(job: Job, target: Target, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    sink = sinks.of(target.type)
    if not sink.exists(target.uri):
        return
    texts = slice_texts(job.slice, slice_types(job.slice, target.schema))
    for batch in sink.rows(job.sinks[0], texts, schema.names):
        yield in_types(batch, schema)


def in_types(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The schema's columns of a batch, in its types."""
    return pa.RecordBatch.from_arrays([batch.column(f.name).cast(f.type) for f in schema], schema=schema)


def require_room(rows: int, columns: Sequence[str]) -> None:
    """Raise ConfigError where this machine can't hold both sides, `rows` of the one, and the other as large."""
    left = memory.available()
    needed = 2 * rows * (_BYTES + 16 * len(columns))
    if left is not None and needed > left:
        raise ConfigError(
            f"to compare {rows:,} rows takes about {needed / 1e9:.1f} GB of memory in this process, which has "
            f"{left / 1e9:.1f} GB left: run it where there is more"
        )


def compare(
    run: str, held: pa.Table, live: pa.Table, keys: Sequence[str], names: Sequence[str], by: str | None = None
) -> Difference:
    """Compare two tables of the same columns, none of which is nested, by their keys."""
    (held_once, twice), (live_once, more) = (once(table, keys) for table in (held, live))
    new, old, added, gone = match(held_once, live_once, keys)
    differs = np.zeros(new.num_rows, bool)
    for name in names:
        differs |= different(old[name], new[name])
    return Difference(
        run,
        held.num_rows,
        live.num_rows,
        added.num_rows,
        gone.num_rows,
        int(differs.sum()),
        int((~differs).sum()),
        twice + more,
        by,
        tuple(_prediction(name, old, new, by) for name in names),
        tuple(_examples(old, new, keys, names, differs)),
    )


def different(old: pa.ChunkedArray, new: pa.ChunkedArray) -> Any:
    """Which rows have another value; null is one, and so is NaN."""
    equal = pc.fill_null(pc.equal(old, new), False)
    nothing = pc.and_(pc.is_null(old, nan_is_null=True), pc.is_null(new, nan_is_null=True))
    return ~pc.or_(equal, nothing).to_numpy()


def _prediction(name: str, old: pa.Table, new: pa.Table, by: str | None) -> dict[str, Any]:
    """How the values of a prediction compare, overall and by segment of the held rows."""
    if not new.num_rows:
        return {"name": name, **figures(Pairs()), "segments": []}
    own, theirs = (table[name].combine_chunks() for table in (old, new))
    segments, codes = segments_of(new.combine_chunks().to_batches()[0], by)
    found, whole = pairs_of(own, theirs, codes, len(segments)), Pairs()
    for pairs in found:
        whole.merge(pairs)
    parts = [{"segment": s, **figures(p)} for s, p in sorted(zip(segments, found, strict=True), key=_by_name) if by]
    return {"name": name, **figures(whole), "segments": parts}


def _by_name(pair: tuple[str, Pairs]) -> str:
    return pair[0]


def _examples(
    old: pa.Table, new: pa.Table, keys: Sequence[str], names: Sequence[str], differs: Any
) -> list[dict[str, Any]]:
    """Some rows that change, those of the first numeric prediction's largest change before others."""
    places = np.flatnonzero(differs)
    numeric = next((n for n in names if pa.types.is_floating(new.schema.field(n).type)), None)
    if numeric is not None and len(places):
        apart = np.abs(new[numeric].to_numpy() - old[numeric].to_numpy())[places]
        places = places[np.argsort(-np.nan_to_num(apart), kind="stable")]
    shown = pa.array(places[:_SHOWN])
    before, after = old.select(list(names)).take(shown).to_pylist(), new.take(shown).to_pylist()
    return [
        {"key": {k: n[k] for k in keys}, "live": o, "held": {name: n[name] for name in names}}
        for o, n in zip(before, after, strict=True)
    ]
