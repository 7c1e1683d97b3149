"""How a published table in Snowflake is read by people: where it is, and a few of its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakehouse.connectors import snowflake
from lakehouse.connectors.snowflake import folded, having, names_in, quoted, spelled
from lakehouse.sinks import Native
from lakehouse.sinks.snowflake.history import RUNS
from lakehouse.sinks.snowflake.naming import QUARANTINE_SUFFIX

if TYPE_CHECKING:
    import pyarrow as pa

    from lakehouse.config import Sink
    from lakehouse.config.systems.snowflake import SnowflakeSink

SYSTEM = "Snowflake"


def _lacking(section: SnowflakeSink) -> str:
    lacks = {1: "database and schema", 2: "database"}.get(len(names_in(section.table)))
    return f"{lacks} of the connection {section.connection}" if lacks else ""


NATIVE = Native("snowflake", names_in, _lacking, RUNS, "published_at", QUARANTINE_SUFFIX)


def columns(section: Sink) -> pa.Schema | None:
    """None: Snowflake would have to be asked."""
    return None


def preview(
    section: SnowflakeSink,
    table: str,
    run: str,
    values: Mapping[str, str],
    chosen: Callable[[Sequence[str]], Sequence[str]],
    limit: int,
) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
    """Any rows of the slice."""
    assert section.connection is not None  # as the job file's own checks demand
    with snowflake.session(section.connection) as session:
        found = session.table(table)
        names = chosen([c.name for c in session.columns(found) or ()])
        where = having({folded(name): value for name, value in values.items()})
        query = f"SELECT {', '.join(map(quoted, names))} FROM {found.sql}"
        rows = session.run(f"{query}{' WHERE ' + where if where else ''} LIMIT {limit}")
    return [spelled(name, ()) for name in names], [list(row) for row in rows]
