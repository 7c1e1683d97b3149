"""The table that a job's live scores are compared with: found, its columns paired with ours, and both read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import sinks, sources
from lakehouse.config.systems import source_of
from lakehouse.connectors.spark import is_catalog_name
from lakehouse.errors import ConfigError, nearest
from lakehouse.operations.difference import in_types, predictions_of, require_room
from lakehouse.operations.distances import is_integer_made_float
from lakehouse.schemas import INPUT_VERSION, MODEL_VERSION, column_of
from lakehouse.sinks.slices import slice_texts, slice_types
from lakehouse.sinks.target import slice_name

if TYPE_CHECKING:
    from lakehouse.config import Job

_BATCH = 1 << 16
VERSIONS = {MODEL_VERSION: (MODEL_VERSION, "model_version"), INPUT_VERSION: (INPUT_VERSION, "input_version")}
"""Columns of ours that say where a score is from, and the names that another table may have for them."""


@dataclass(frozen=True)
class Asked:
    """What is compared: another table, ours = theirs of predictions and of keys, and which of its rows."""

    table: str
    on: Mapping[str, str]
    keys: Mapping[str, str]
    where: str | None = None


@dataclass(frozen=True)
class Both:
    """The rows of both tables, of the columns that are needed; `keys`, `on` and `beside`: ours = theirs.

    `beside` are columns that may tell why scores differ; `rows_there`: which rows of the other table were read.
    """

    here: pa.Table
    there: pa.Table
    keys: Mapping[str, str]
    on: Mapping[str, str]
    beside: Mapping[str, str]
    slice: str
    rows_there: str


def read_both(job: Job, asked: Asked) -> Both:
    """Read what is compared. Raises ConfigError as `comparison.compare`."""
    section = job.sinks[0]
    own = sources.of(section.type).pin(source_of(section), [*job.keys, *job.keep]).schema
    texts = slice_texts(job.slice, slice_types(job.slice, own))
    pinned, module, rows_there = _pin(asked, job.slice)
    keys = _paired("--keys", job.keys, asked.keys, pinned)
    on = _paired("--on", predictions_of(job, own), asked.on, pinned, all_of=False)
    beside = _beside(job, own, pinned)
    ours, theirs = (list(dict.fromkeys(side)) for side in zip(*{**keys, **on, **beside}.items(), strict=True))
    require_room(pinned.rows or 0, ours)
    here = pa.Table.from_batches(_live(section, texts, own, ours), _part(own, ours))
    if not here.num_rows:
        raise ConfigError(f"{section.table}: nothing is published in {slice_name(texts)}: score it first")
    there = pa.Table.from_batches(_read(module, pinned, theirs), _part(pinned.schema, theirs))
    return Both(here, there, keys, on, beside, slice_name(texts), rows_there)


def _pin(asked: Asked, values: Mapping[str, Any]) -> tuple[Any, Any, str]:
    """The other table as it is now, the module that reads it, and which of its rows are read."""
    try:
        source = sources.named(asked.table)
        module = sources.of(source.type)
        pinned, where = module.pin(source, ()), asked.where
        columns = {name: column_of(pinned.schema, name, case_insensitive=True) for name in values}
        if where is None and values and None not in columns.values():
            where = _same(source, pinned, {str(column): values[name] for name, column in columns.items()})
        if where is not None:
            pinned = module.pin(sources.named(asked.table, where=where), ())
    except ConfigError as error:
        said = str(error).replace("source.table", "--with").replace("source.where", "--where")
        if is_catalog_name(asked.table):
            named = " or ".join(f"{one}://<connection>/{asked.table}" for one in sources.named_by_connection())
            said += f"; a table of a database is named with its system and connection: {named}"
        raise ConfigError(said if said.startswith("--") else f"--with: {said}") from None
    return pinned, module, where or "all rows"


def _same(source: Any, pinned: Any, values: Mapping[str, Any]) -> str:
    """The condition that columns of the other table have these values, as its system takes it."""
    if source.IN_FILES:
        return " AND ".join(f"`{column}` = {_literal(value)}" for column, value in values.items())
    texts = {column: str(value) for column, value in values.items()}
    return str(sources.of(source.type).narrowed(source, pinned, texts).where)


def _literal(value: Any) -> str:
    return str(value).lower() if isinstance(value, (bool, int)) else "'" + str(value).replace("'", "\\'") + "'"


def _paired(
    option: str, names: Sequence[str], given: Mapping[str, str], pinned: Any, *, all_of: bool = True
) -> dict[str, str]:
    """Our columns and theirs: as they were given, else by name, in which case plays no part.

    Raises ConfigError for a column that isn't there; of those that were not given, where all are needed, or none is.
    """
    folded = {name.lower(): name for name in names}
    for name in given:
        if name.lower() not in folded:
            raise ConfigError(f"{option} {name}={given[name]}: {name!r} is none of ours, {nearest(name, names)}")
    said = {folded[name.lower()]: theirs for name, theirs in given.items()}
    found = {}
    for name in names if all_of or not said else said:
        theirs = column_of(pinned.schema, said.get(name, name), case_insensitive=True)
        if theirs is None and (all_of or name in said):
            hint = nearest(said.get(name, name), pinned.schema.names)
            raise ConfigError(f"{option}: {pinned.name} has no column {said.get(name, name)!r}, {hint}")
        if theirs is not None:
            found[name] = theirs
    if not found:
        raise ConfigError(
            f"{option}: {pinned.name} has no column of the name of a prediction ({', '.join(names)}): say which is "
            f"which, such as {option} {names[0]}=<column>, {nearest(names[0], pinned.schema.names)}"
        )
    return found


def _beside(job: Job, own: pa.Schema, pinned: Any) -> dict[str, str]:
    """Columns of both sides that may tell why scores differ: versions, and integers that we keep, floats there."""
    found = {}
    for name, others in VERSIONS.items():
        mine = column_of(own, name, case_insensitive=True)
        theirs = [other for other in others if column_of(pinned.schema, other, case_insensitive=True)]
        if mine and theirs:
            found[mine] = str(column_of(pinned.schema, theirs[0], case_insensitive=True))
    for name in job.keep:
        mine, other = (column_of(schema, name, case_insensitive=True) for schema in (own, pinned.schema))
        if mine and other and is_integer_made_float(own.field(mine).type, pinned.schema.field(other).type):
            found[mine] = other
    return found


def _part(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    return pa.schema([pa.field(name, schema.field(name).type) for name in names])


def _live(section: Any, texts: Mapping[str, str], own: pa.Schema, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    schema = _part(own, names)
    for batch in sinks.of(section.type).rows(section, texts, names):
        yield in_types(batch, schema)


def _read(module: Any, pinned: Any, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Columns of the other table. Raises ConfigError where only Spark can read them."""
    needed = [*names, *(name for name in pinned.where_columns if name not in names)]
    carrier, reason = module.carrier(pinned, needed)
    if carrier == sources.FRAME:
        raise ConfigError(f"--with: {pinned.name} can only be read by Spark ({reason}): write what is compared anew")
    read = module.read(pinned, needed)
    require_room(read.rows or 0, needed)
    for unit in module.units(read, needed, _BATCH, 1):
        for batch in unit.batches():
            yield batch.select(list(names))
