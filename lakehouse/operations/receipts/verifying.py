"""The scores of a run made again, all or some: which are equal, which are not, which are there on one side only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import sinks
from lakehouse.errors import ConfigError
from lakehouse.operations.difference import predictions_of
from lakehouse.operations.receipts import rows
from lakehouse.operations.receipts.choosing import Chosen, hashes_of, mixed, parts_of, sum_of, with_key
from lakehouse.operations.receipts.holding import Made, Stored, Verified, compare
from lakehouse.operations.receipts.inputs import UNKNOWN, Basis, basis_of, is_unknown
from lakehouse.operations.receipts.places import changes_by_others, is_followed, owner_of, stands_at
from lakehouse.operations.receipts.recomputing import Again, made_again
from lakehouse.planning import catalog, naming, quarantine
from lakehouse.planning.plan import Request
from lakehouse.runs import evidence
from lakehouse.schemas import EXPLANATIONS, INPUT_VERSION, RUN_ID
from lakehouse.scoring.score import start_counters
from lakehouse.scoring.staging import join_batches

if TYPE_CHECKING:
    from lakehouse.config import Job

SAMPLE = 1_000
Score = Callable[[pa.RecordBatch], tuple[pa.RecordBatch, pa.RecordBatch | None]]
"""Scores rows of the input: as `score_batch` gives them, the scored ones and those that are set aside."""


def verify(
    job: Job,
    record: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    request: Request,
    sample: int | None = SAMPLE,
    seed: int = 0,
    through: Callable[[Again], Score] | None = None,
) -> Verified:
    """Make scores of a run again and compare them with those in the table, as they are now where they are live.

    `sample`: so many rows, chosen by the hashes of their keys and `seed`; None for all. `through`: what makes them
    again, without explanations; by default the model here, with them. Raises ConfigError where the run has published
    nothing, or what it stands on is gone, and what making scores again raises.
    """
    with catalog.open_job(job, f"verify run={record['run_id']}", request.engine, request.warn) as at_places:
        return _verify(at_places, record, records, request, sample, seed, through)


def _here(again: Again) -> Score:
    return lambda batch: again.score(batch, start_counters(again.scoring))


def _verify(
    job: Job, record: Mapping[str, Any], records: Sequence[Mapping[str, Any]], request: Request,
    sample: int | None, seed: int, through: Callable[[Again], Score] | None,
) -> Verified:  # fmt: skip
    schema = rows.scored_columns(job)
    version, live = stands_at(job, schema, record)
    lost = not live and not is_followed(job, record, records)
    version = None if lost else version
    side = Stored(job, owner_of(record), version, (*job.keep, *predictions_of(job, schema)))
    found = Verified(str(record["run_id"]), rows.name_of(rows.scored_sink(job)), version, sample, seed)
    own = next((r for r in records if r["run_id"] == side.owner), record)
    found.strangers = _strangers(job, schema, records) if version is None and job.sinks[0].write == "replace" else 0
    found.changed = changes_by_others(job, schema, record, records) if version is None else []
    if lost:
        found.rows = {"table": 0}
        found.changed.insert(
            0, f"none of its {own['rows_scored']:,} rows is in the table, and no later run replaced them"
        )
        return found
    facts = evidence.facts_of(naming.state_of(job), own)
    basis, whole = _basis(job, own, facts or {}, side)
    if through is not None:
        basis = replace(basis, explaining=None)
    elif basis.explaining is not None:
        side = replace(side, names=(*side.names, EXPLANATIONS))
    elif is_unknown(schema, basis, facts):
        found.note(UNKNOWN)
    hashes = hashes_of(side.batches(job.keys), job.keys, seed)
    aside = hashes_of(_aside(job, side.owner), job.keys, seed) if whole else np.empty(0, np.uint64)
    found.rows = {"table": len(hashes), "quarantine": len(aside)}
    if own["run_id"] == side.owner and len(hashes) != own["rows_scored"]:
        found.changed.append(f"the table has {len(hashes):,} rows of the run, which published {own['rows_scored']:,}")
    with made_again(job, basis, request) as again:
        found.exact, found.same_settings, found.notes = again.exact, again.same, [*found.notes, *again.notes]
        for number, chosen in enumerate(parts_of(hashes, sample, len(side.names))):
            made = _make(again, (through or _here)(again), side, chosen, seed)
            if not number and whole:
                found.rows["input"] = made.read
                found.alike = (made.read, made.total) == (
                    len(hashes) + len(aside),
                    (sum_of(hashes) + sum_of(aside)) % (1 << 64),
                )
            compare(side, made, chosen, seed, aside if whole else None, found, again.exact)
    return found


def _basis(job: Job, own: Mapping[str, Any], facts: Mapping[str, Any], side: Stored) -> tuple[Basis, bool]:
    """What the run's scores stand on; and whether the run scored all of that input, which a replay did not."""
    basis = replace(basis_of(own, facts.get("models", {}).get("listed", ())), explaining=facts.get("explaining"))
    tables = {rows.name_of(table) for table in quarantine.tables(job)}
    if own["input_table"] not in tables:
        return basis, True
    first = next(side.batches([INPUT_VERSION]), None)
    if first is None:
        raise ConfigError(f"run {side.owner} has no rows in the table")
    return replace(basis, input_version=first.column(0)[0].as_py(), fingerprint=None, models=()), False


def _aside(job: Job, run: str) -> Iterator[pa.RecordBatch]:
    """The keys of the rows that the run has set aside, in the scored table's types; those without a key left out."""
    schema = rows.scored_columns(job)
    for table in quarantine.tables(job):
        sink = sinks.of(table.type)
        if not {*job.keys, RUN_ID} <= set(rows.columns_of(job, table).names):
            continue
        for _, batch in sink.rows_at(table, {}, job.keys, None, {RUN_ID: run}):
            yield with_key(_typed(batch.select(list(job.keys)), schema), job.keys)


def _typed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    types = pa.schema([schema.field(name) for name in batch.schema.names])
    return pa.RecordBatch.from_arrays([batch.column(f.name).cast(f.type) for f in types], names=types.names)


def _strangers(job: Job, schema: pa.Schema, records: Sequence[Mapping[str, Any]]) -> int:
    """How many rows of the slice name no run on record."""
    sink, known = rows.scored_sink(job), pa.array([str(r["run_id"]) for r in records], pa.string())
    parts = sinks.of(sink.type).rows_at(sink, rows.texts_of_slice(job, schema), [RUN_ID], None, {})
    return sum(batch.num_rows - (pc.is_in(batch.column(RUN_ID), value_set=known).true_count) for _, batch in parts)


def _make(again: Again, score: Score, side: Stored, chosen: Chosen, seed: int) -> Made:
    """Make the scores of the chosen rows again, reading the whole input."""
    keys, made, schema = again.scoring.keys, Made(pa.table({}), pa.table({})), rows.scored_columns(side.job)
    scored, unfit = list[pa.RecordBatch](), list[pa.RecordBatch]()
    names = [*keys, *again.scoring.keep, *(output.name for output in again.scoring.outputs), EXPLANATIONS]

    def chosen_batches() -> Iterator[pa.RecordBatch]:
        for unit in again.read.units():
            for batch in again.read.batches(unit):
                whole = with_key(batch, keys)
                hashes = mixed(_typed(whole.select(list(keys)), schema), keys, seed)
                made.read, made.total = made.read + len(hashes), sum_of(hashes) + made.total
                yield whole.filter(pa.array(chosen(hashes), pa.bool_()))

    for batch in join_batches(chosen_batches(), side.job.model.batch_rows):
        if batch.num_rows:
            good, bad = score(batch)
            scored.append(good.select([name for name in names if name in good.schema.names]))
            unfit += [] if bad is None else [bad.select(list(keys))]
    made.total %= 1 << 64
    made.scored = _table(scored, names, schema, keys)
    made.unfit = _table(unfit, keys, schema, keys)
    return made


def _table(batches: Sequence[pa.RecordBatch], names: Sequence[str], schema: pa.Schema, keys: Sequence[str]) -> pa.Table:
    """Batches as a table, its keys in the scored table's types."""
    if not batches:
        return pa.schema([schema.field(name) for name in names if name in schema.names]).empty_table()
    table = pa.Table.from_batches(batches)
    for name in keys:
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table.column(name).cast(schema.field(name).type))
    return table
