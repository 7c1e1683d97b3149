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
from lakehouse.sinks.delta.reading import NATIVE, SYSTEM, columns, preview

__all__ = [
    "IN_PLACE", "NATIVE", "SYSTEM", "check", "columns", "ensure", "generation", "has_quarantine", "lacks", "preview",
    "publish", "published", "room", "shown", "stand",
]  # fmt: skip
