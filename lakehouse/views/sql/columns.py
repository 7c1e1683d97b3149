"""Which columns a job's scored table has: by the job file and, where that leaves it open, by the table's own files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse import sinks
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.schemas import LINEAGE
from lakehouse.sinks.slices import slice_types
from lakehouse.views.sql.views import Scored

if TYPE_CHECKING:
    from lakehouse.config import Job


def scored(job: Job) -> Scored:
    """What the job's scored table holds. Raises ConfigError where nothing says which predictions."""
    known: dict[str, bool | None] = {
        name: None if p.class_ is None and p.threshold is None else p.threshold is None
        for name, p in (job.predictions or {}).items()
    }
    if not known or None in known.values():
        schema = _schema(job, needed=not known)
        others = {*job.keys, *job.keep, *job.slice, *LINEAGE.names}
        names = list(known) or [name for name in schema.names if name not in others]
        known = {
            name: _is_number(schema.field(name).type) if name in schema.names else known.get(name) for name in names
        }
    dated = [name for name, kind in slice_types(job.slice, None).items() if pa.types.is_date(kind)]
    return Scored(
        job.job,
        job.keys,
        job.keep,
        known,
        tuple(job.slice),
        dated[0] if len(dated) == 1 else None,
        frozenset(name for name, value in job.slice.items() if isinstance(value, bool)),
        job.sinks[0].write == "append",
        job.sinks[0].write == "replace",
    )


def _schema(job: Job, *, needed: bool) -> pa.Schema:
    """The columns of the job's table by its own files; none where there is no such table, an error if `needed`."""
    told, run = pa.schema([]), ""
    for section in job.sinks:
        sink = sinks.of(section.type)
        try:
            found = sink.columns(section)
        except Unavailable:
            if needed:
                raise
            continue
        if found is not None:
            told, run = found, f", or run the job once: the {sink.SYSTEM} table then tells"
            break
    if needed and not told.names:
        raise ConfigError(f"predictions: which columns the scored table has is not known: name them{run}")
    return told


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
