"""Which runs' rows live in which slice of a table in Snowflake, by the ledger beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakehouse.connectors.snowflake import Table
from lakehouse.sinks import Living
from lakehouse.sinks.snowflake.history import rows_of_job
from lakehouse.sinks.snowflake.naming import uri_of

if TYPE_CHECKING:
    from lakehouse.config.systems.snowflake import SnowflakeSink

_SAID = ("model_name", "model_version", "model_digest", "input_table", "input_version")
_COLUMNS = ("RUN_ID", "IDENTITY", "GENERATION", "ROW_COUNT", "SLICE", "WRITE_MODE", "GOES_ON", *map(str.upper, _SAID))


def living(section: SnowflakeSink, job: str, known: Mapping[str, str]) -> Sequence[Living]:
    """The runs of the last generation of each slice; after merges, any run may have rows left.

    What a person deleted since is not known here, which only a look at the rows would tell.
    """
    entries = rows_of_job(Table.parse(uri_of(section)), _COLUMNS, job, "GENERATION, PUBLISHED_AT")
    last: dict[str, tuple[set[str], bool]] = {}  # by identity the runs of its last generation; may there be others?
    for run, identity, _, _, _, write, on, *_ in entries:
        before = last.get(identity, (set[str](), False))[0]
        merged = write == "merge"
        last[identity] = ({run, *json.loads(on), *(before if merged else ())}, merged)
    found = []
    for run, identity, _, rows, values, *_, name, version, digest, read, at in entries:
        runs, merged = last[identity]
        if run in runs:
            alone = runs == {run} and not merged
            said: dict[str, Any] = dict(zip(_SAID, (name, version, digest, read, at), strict=True))
            count = int(rows) if alone else 0
            if count or not alone:
                found.append(Living(json.loads(values), str(run), count, not alone, {} if run in known else said))
    return found


def changed_by_others(section: SnowflakeSink, values: Mapping[str, str], run: str) -> None:
    """None: only a look at the rows tells."""
