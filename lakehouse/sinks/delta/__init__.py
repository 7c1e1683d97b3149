"""Publishing to a Delta table: how it stands to a run, the commit of the staged files, copies by Spark, upserts."""

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
    "IN_PLACE", "check", "ensure", "generation", "has_quarantine", "lacks", "publish", "published", "room", "shown",
    "stand",
]  # fmt: skip
