"""What the ledger beside a table in Snowflake remembers of the runs that published to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lakehouse.connectors.snowflake import Table
from lakehouse.sinks import RememberedRun
from lakehouse.sinks.snowflake.history import ROLLBACK, rows_of_job
from lakehouse.sinks.snowflake.naming import uri_of

if TYPE_CHECKING:
    from lakehouse.config.systems.snowflake import SnowflakeSink

_SAID = ("model_name", "model_version", "model_digest", "input_table", "input_version", "fingerprint", "generation")
_COLUMNS = ("RUN_ID", "IDENTITY", "PUBLISHED_AT", "ROW_COUNT", "WRITE_MODE", "GOES_ON", *map(str.upper, _SAID))


def remembered(section: SnowflakeSink, job: str) -> list[RememberedRun]:
    """The job's runs by the table's ledger, the newest first."""
    table, order = Table.parse(uri_of(section)), "PUBLISHED_AT DESC, GENERATION DESC"
    found = []
    for run, identity, at, rows, write, on, *said in rows_of_job(table, _COLUMNS, job, order):
        columns: dict[str, Any] = dict(zip(_SAID, said, strict=True)) | {"rows_scored": int(rows)}
        columns |= {
            name: None if columns[name] is None else int(columns[name]) for name in ("generation", "input_version")
        }
        runs = json.loads(on)
        if runs and write != ROLLBACK:  # a replay: of its rows only those of the whole generation are told
            columns["rows_scored"] = None
        restored = runs[0] if runs and write == ROLLBACK else None
        found.append(RememberedRun(str(run), str(identity), columns["generation"], at, columns, restored))
    return found
