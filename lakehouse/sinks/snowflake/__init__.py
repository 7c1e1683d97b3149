"""Publishing to a table in Snowflake: how it stands to a run, the upload of staged files, the one transaction.

The ledger beside the table is here too, since the table itself remembers no run. Sessions, names and types are those
of `connectors.snowflake`.
"""

from lakehouse.sinks.snowflake.naming import QUARANTINE_SUFFIX, beside, exists, name_in, qualified, uri_of
from lakehouse.sinks.snowflake.publishing import (
    IN_PLACE,
    check,
    ensure,
    generation,
    has_quarantine,
    lacks,
    publish,
    published,
    room,
    shown,
    stand,
)
from lakehouse.sinks.snowflake.reading import NATIVE, SYSTEM, columns, preview

__all__ = [
    "IN_PLACE", "NATIVE", "QUARANTINE_SUFFIX", "SYSTEM", "beside", "check", "columns", "ensure", "exists", "generation",
    "has_quarantine", "lacks", "name_in", "preview", "publish", "published", "qualified", "room", "shown", "stand",
    "uri_of",
]  # fmt: skip
