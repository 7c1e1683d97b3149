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

__all__ = [
    "IN_PLACE", "check", "ensure", "generation", "has_quarantine", "lacks", "publish", "published", "room", "shown",
    "stand",
]  # fmt: skip
