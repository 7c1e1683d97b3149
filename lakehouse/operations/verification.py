"""Whether the tables of a job hold the same rows: a digest of each, made where its rows are, in no order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse import connectors
from lakehouse.connectors import delta, digest, snowflake
from lakehouse.connectors.digest import Digest, differences
from lakehouse.connectors.snowflake import Table, folded, having
from lakehouse.engines import catalog
from lakehouse.errors import Blocked, ConfigError
from lakehouse.planning.naming import systems_of
from lakehouse.sinks.delta.history import inside
from lakehouse.sinks.slices import slice_texts, slice_types
from lakehouse.sinks.target import place, slice_name
from lakehouse.storage import locate, shown

if TYPE_CHECKING:
    from lakehouse.config import Job


def require_two(job: Job) -> None:
    """Raise ConfigError where the job doesn't publish to a Delta table and to one in Snowflake."""
    if job.delta_sink is None or len(job.sinks) < 2:
        raise ConfigError("--verify compares a Delta table with one in Snowflake: this job has not both as sinks")


def verified(job: Job) -> dict[str, Digest]:
    """The digest of what each of the job's sinks holds of its slice, by the table's name. It reads all of these rows.

    Columns are those of the Delta table, compared with those of the same names in Snowflake. Raises Blocked, naming
    the columns, where the rows differ, ConfigError where there are not both tables.
    """
    with (
        connectors.reuse_sessions(systems_of(job), f"lakehouse job={job.job} verify"),
        catalog.placed(job) as at_places,
    ):
        return _verified(at_places)


def _verified(job: Job) -> dict[str, Digest]:
    require_two(job)
    first, others = job.delta_sink, [sink for sink in job.sinks if sink.type == "snowflake"]
    assert first is not None  # as was just demanded
    snapshot = delta.open_table(locate(first.table))
    if snapshot is None:
        raise ConfigError("--verify: the Delta table isn't there")
    texts = slice_texts(job.slice, slice_types(job.slice, snapshot.schema))
    types = {f.name: f.type for f in snapshot.schema if f.name not in texts}
    batches = (b for f in inside(snapshot, texts) for b in delta.batches_of(snapshot, list(types), f))
    mine, name = digest.of_batches(batches, list(types)), shown(locate(first.table))
    found = {name: mine}
    for sink in others:
        table = Table.parse(place(sink))
        found[table.shown] = _in_snowflake(table, types, texts)
        if said := differences(mine, found[table.shown]):
            raise Blocked(
                f"{name} and {table.shown} hold different rows of {slice_name(texts)}: {'; '.join(said)}: "
                "publish again with --rescore, and find out who else writes to them"
            )
    return found


def _in_snowflake(table: Table, types: Mapping[str, pa.DataType], texts: Mapping[str, str]) -> Digest:
    where = having({folded(name): value for name, value in texts.items()})
    with snowflake.session(table.connection) as session:
        (row,) = session.run(digest.sql(types, table.sql, where))
    return digest.from_row(row, types)
