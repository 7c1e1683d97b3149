"""Where a row is found by its key: in the scored table, in quarantine, in the input."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import sinks, sources
from lakehouse.conditions import equals
from lakehouse.errors import ConfigError, nearest
from lakehouse.operations.receipts.inputs import Input
from lakehouse.planning import quarantine
from lakehouse.schemas import EXPLAINED, EXPLANATIONS, LINEAGE, REASON, REASONS, RUN_ID, WARNINGS
from lakehouse.sinks.slices import slice_texts, slice_types
from lakehouse.sinks.target import SINK, slice_name

if TYPE_CHECKING:
    from lakehouse.config import Job, Sink

_SHOWN = 80
"""Characters that errors repeat of a key at most."""
Key = Mapping[str, Any]
"""By column the value of a row's key, in the column's type."""


@dataclass(frozen=True)
class Found:
    """A row of a table, as the table has it, and the file that it is in. `beside`: more rows have this key."""

    row: pa.RecordBatch
    file: str
    beside: int = 0


def scored_sink(job: Job) -> Sink:
    """The table of which scores are looked up: the Delta table where there is one."""
    return job.delta_sink or job.sinks[0]


def name_of(table: Sink) -> str:
    """A table as people write it."""
    sink = sinks.of(table.type)
    return sink.display_name(sink.uri_of(table))


def key_of(job: Job, text: str, schema: pa.Schema) -> Key:
    """A key as it is written on a command line, in the table's types; of several columns with commas between."""
    names = job.keys
    texts = [text] if len(names) == 1 else _values(text)
    if len(texts) != len(names):
        raise ConfigError(f"--key: {_shown(text)} has {len(texts)} values, the key of {job.job} is {', '.join(names)}")
    return {name: _value(one, name, schema.field(name).type) for name, one in zip(names, texts, strict=True)}


def _values(text: str) -> list[str]:
    try:
        return next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error as error:
        said = str(error).partition(" - ")[0]  # what follows tells how to open files
        raise ConfigError(
            f"--key: {_shown(text)} can't be taken apart ({said}): write a value that has line breaks or commas in "
            'double quotes, as in 1,"a, b"'
        ) from error


def _shown(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}…"


def _value(text: str, name: str, kind: pa.DataType) -> Any:
    try:
        return pa.scalar(text).cast(kind).as_py()
    except (ValueError, NotImplementedError, OverflowError) as error:
        raise ConfigError(f"--key: {_shown(text)} is no value of {name}, which is {kind}") from error


def in_words(key: Key) -> str:
    """A key as people read it."""
    return ", ".join(f"{name}={value}" for name, value in key.items())


def texts_of_slice(job: Job, schema: pa.Schema | None) -> dict[str, str]:
    """The job's slice as the log spells its values."""
    return slice_texts(job.slice, slice_types(job.slice, schema))


def scored_columns(job: Job) -> pa.Schema:
    """The columns of the scored table. Raises ConfigError where there is none yet."""
    sink = scored_sink(job)
    schema = columns_of(job, sink)
    if not schema.names:
        raise ConfigError(f"{sink.table}: there is no such table yet: no run of {job.job} has published")
    require_columns(job, name_of(sink), schema.names, job.keys)
    return schema


def require_columns(job: Job, table: str, there: Collection[str], needed: Iterable[str]) -> None:
    """Raise ConfigError where a table lacks columns, such as a key that has had another name."""
    for name in needed:
        if name not in there:
            raise ConfigError(
                f"{table} has no column {name!r}, which {job.job} needs as its job file is now; {nearest(name, there)} "
                "(what it published under another name can be looked at with the job file as it was then)"
            )


def at_version(
    job: Job, names: Sequence[str], version: int | None, only: Mapping[str, Any], needed: Sequence[str] = ()
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Rows of the slice as `rows_at` gives them, from the scored table. Raises ConfigError where it lacks a column."""
    sink, table = scored_sink(job), name_of(scored_sink(job)) + ("" if version is None else f" v{version}")
    for file, batch in sinks.of(sink.type).rows_at(
        sink, texts_of_slice(job, scored_columns(job)), names, version, only
    ):
        require_columns(job, table, batch.schema.names, needed)
        yield file, batch


def columns_of(job: Job, table: Sink) -> pa.Schema:
    """A table's columns, spelled as the job spells them; none where there is no such table."""
    own = (*job.keys, *job.keep, *job.slice, *(job.predictions or ()), *LINEAGE.names)
    return sinks.of(table.type).stored_columns(table, own)


def version_of(job: Job, record: Mapping[str, Any]) -> int | None:
    """The version of the scored table that a run published; None where it published none."""
    sink = scored_sink(job)
    made = [s for s in record["sinks"] or () if s.get("kind") == SINK and s["table"] == name_of(sink)]
    return made[0]["version"] if made else None


def scored(job: Job, schema: pa.Schema, key: Key, run: str | None, version: int | None) -> list[Found]:
    """The rows of the slice with this key, of one run where it is named, at a version of the table or now."""
    return _each(scored_sink(job), at_version(job, schema.names, version, {**key, **({RUN_ID: run} if run else {})}))


def set_aside(job: Job, key: Key, run: str) -> tuple[str, list[Found]]:
    """The rows with this key that a run has set aside, and the tables that were looked through."""
    found, names = list[Found](), list[str]()
    for table in quarantine.tables(job):
        sink = sinks.of(table.type)
        schema = columns_of(job, table)
        if not {*key, RUN_ID} <= set(schema.names):
            continue
        names.append(sink.display_name(sink.uri_of(table)))
        typed = {name: _retyped(value, schema.field(name).type) for name, value in key.items()}
        found += _each(table, sink.rows_at(table, {}, schema.names, None, {**typed, RUN_ID: run}))
    return ", ".join(names), found


def _retyped(value: Any, kind: pa.DataType) -> Any:
    return pa.scalar(value).cast(kind).as_py()


def _each(table: Sink, parts: Iterator[tuple[str, pa.RecordBatch]]) -> list[Found]:
    found = [(file, _with_own_types(table, batch)) for file, batch in parts]
    return [Found(batch.slice(number, 1), file) for file, batch in found for number in range(batch.num_rows)]


def _with_own_types(table: Sink, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows with the columns that a run adds in the types that it gives them."""
    for name, kind in _OWN.items():
        column = sinks.of(table.type).as_scored(batch.column(name), kind) if name in batch.schema.names else None
        if column is not None:
            batch = batch.set_column(batch.schema.get_field_index(name), name, column)
    return batch


_OWN = {WARNINGS: LINEAGE.field(WARNINGS).type, REASONS: pa.list_(REASON), EXPLANATIONS: EXPLAINED}


def in_input(read: Input, key: Key) -> Found | None:
    """The first row of the input with this key, of those that `where` lets pass, and how many more there are."""
    first: Found | None = None
    for unit in read.units():
        for batch in read.batches(unit):
            rows = _having(batch, key)
            if rows.num_rows and first is None:
                first = Found(rows.slice(0, 1), str(getattr(unit, "path", "")), rows.num_rows - 1)
            elif rows.num_rows and first is not None:
                first = replace(first, beside=first.beside + rows.num_rows)
    return first


def narrowed(read: Input, key: Key) -> Input:
    """The input with only what can hold the key, as far as its system tells."""
    module = sources.of(read.job.source.type)
    source = module.narrowed(read.job.source, read.pinned, key)
    return read if source == read.job.source else replace(read, pinned=module.pin(source, read.names))


def _having(batch: pa.RecordBatch, key: Key) -> pa.RecordBatch:
    for name, value in key.items():
        if batch.num_rows:
            batch = batch.filter(equals(batch.column(name), value))
    return batch


def not_found(job: Job, key: Key, where: Sequence[str]) -> ConfigError:
    """That a key is nowhere, with every place that was looked through."""
    part = slice_name({name: str(value) for name, value in job.slice.items()})
    return ConfigError(f"--key: no row with {in_words(key)} ({part}): looked in {'; '.join(where)}")
