"""Publishing to a table in Snowflake: how it stands to a run, the upload of staged files, the one transaction."""

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
    "IN_PLACE", "NATIVE", "SYSTEM", "check", "columns", "ensure", "generation", "has_quarantine", "lacks", "preview",
    "publish", "published", "room", "shown", "stand",
]  # fmt: skip
