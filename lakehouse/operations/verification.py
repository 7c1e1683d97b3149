"""Whether the tables of a job hold the same rows: a digest of each, made where its rows are, in no order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse import sinks
from lakehouse.connectors.digest import Digest, differences
from lakehouse.errors import Blocked, ConfigError
from lakehouse.planning import catalog
from lakehouse.sinks.slices import slice_texts, slice_types
from lakehouse.sinks.target import slice_name

if TYPE_CHECKING:
    from lakehouse.config import Job, Sink


def require_two(job: Job) -> None:
    """Raise ConfigError where the job doesn't publish to a Delta table and to one in Snowflake."""
    if job.delta_sink is None or len(job.sinks) < 2:
        raise ConfigError("--verify compares a Delta table with one in Snowflake: this job has not both as sinks")


def digests_of_sinks(job: Job) -> dict[str, Digest]:
    """The digest of what each of the job's sinks holds of its slice, by the table's name. It reads all of these rows.

    Columns are those of the Delta table, compared with those of the same names in Snowflake. Raises Blocked, naming
    the columns, where the rows differ, ConfigError where there are not both tables.
    """
    with catalog.open_job(job, "verify") as at_places:
        return _digest_of_sink(at_places)


def _digest_of_sink(job: Job) -> dict[str, Digest]:
    require_two(job)
    first = job.delta_sink
    assert first is not None  # as was just demanded
    schema = sinks.of(first.type).columns(first)
    if not schema:
        raise ConfigError("--verify: the Delta table isn't there")
    texts = slice_texts(job.slice, slice_types(job.slice, schema))
    types = {f.name: f.type for f in schema if f.name not in texts}
    mine, name = sinks.of(first.type).digest(first, texts, types), _display_name(first)
    found = {name: mine}
    for other in job.sinks:
        if other is first:
            continue
        theirs, other_name = sinks.of(other.type).digest(other, texts, types), _display_name(other)
        found[other_name] = theirs
        if said := differences(mine, theirs):
            raise Blocked(
                f"{name} and {other_name} hold different rows of {slice_name(texts)}: {'; '.join(said)}: "
                "publish again with --rescore, and find out who else writes to them"
            )
    return found


def _display_name(section: Sink) -> str:
    sink = sinks.of(section.type)
    return sink.display_name(sink.uri_of(section))
