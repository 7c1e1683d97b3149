"""How a published Delta table is read by people: its columns, and a few of its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.connectors import delta
from lakehouse.engines.catalog import is_name
from lakehouse.scoring import files
from lakehouse.storage import locate

if TYPE_CHECKING:
    from lakehouse.config import Sink

SYSTEM = "Delta"
NATIVE = None


def columns(section: Sink) -> pa.Schema | None:
    """The table's columns by its log, none where there is no table yet; None for a name of Spark's catalog."""
    if is_name(section.table):
        return None
    snapshot = delta.open_table(locate(section.table))
    return snapshot.schema if snapshot else pa.schema([])


def preview(
    section: Sink,
    table: str,
    run: str,
    values: Mapping[str, str],
    chosen: Callable[[Sequence[str]], Sequence[str]],
    limit: int,
) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """Rows of the slice's first file, of the run's own files where there are any."""
    snapshot = delta.open_table(locate(table))
    live = snapshot.files() if snapshot else []
    mine = [f for f in live if all(delta.partition_text(f.partition.get(c)) == v for c, v in values.items())]
    if snapshot is None or not mine:
        return [], []
    mine = [f for f in mine if f.relative.startswith(f"run-{run}/")] or mine
    names = chosen(snapshot.schema.names)
    rows = files.head(snapshot.location, mine[0].relative, names, limit)
    return names, [[row.get(name) for name in names] for row in rows]
