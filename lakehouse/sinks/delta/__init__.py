"""Publishing to a Delta table: how it stands to a run, the commit of the staged files, copies by Spark, upserts."""

from lakehouse.sinks.delta.naming import QUARANTINE_SUFFIX, beside, exists, name_in, qualified, uri_of
from lakehouse.sinks.delta.publishing import (
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
