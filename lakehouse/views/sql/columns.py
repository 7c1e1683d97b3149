"""Which columns a job's scored table has: by the job file and, where that leaves it open, by the Delta table's log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.connectors import delta
from lakehouse.errors import ConfigError, Unavailable
from lakehouse.planning import catalog
from lakehouse.schemas import LINEAGE
from lakehouse.sinks.slices import slice_types
from lakehouse.storage import locate
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
        job.job, job.keys, job.keep, known, tuple(job.slice), dated[0] if len(dated) == 1 else None,
        frozenset(name for name, value in job.slice.items() if isinstance(value, bool)),
        job.sinks[0].write == "append", job.sinks[0].write == "replace",
    )  # fmt: skip


def _schema(job: Job, *, needed: bool) -> pa.Schema:
    """The columns of the job's Delta table; none where there is no such table, which is an error if `needed`."""
    sink = job.delta_sink
    try:
        found = None if sink is None or catalog.is_name(sink.table) else delta.open_table(locate(sink.table))
    except Unavailable:
        if needed:
            raise
        found = None
    if found is None and needed:
        run = "" if sink is None or catalog.is_name(sink.table) else ", or run the job once: the Delta table then tells"
        raise ConfigError(f"predictions: which columns the scored table has is not known: name them{run}")
    return found.schema if found is not None else pa.schema([])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
