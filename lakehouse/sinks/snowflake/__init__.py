"""Publishing to a table in Snowflake: how it stands to a run, the upload of staged files, the one transaction."""

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

__all__ = [
    "IN_PLACE", "QUARANTINE_SUFFIX", "beside", "check", "ensure", "exists", "generation", "has_quarantine", "lacks",
    "name_in", "publish", "published", "qualified", "room", "shown", "stand", "uri_of",
]  # fmt: skip
