"""Keeping a table in Snowflake in order: nearly all of it is Snowflake's own business."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lakehouse.sinks import Compaction, SmallFiles

if TYPE_CHECKING:
    from lakehouse.config.systems.snowflake import SnowflakeSink

UPKEEP = (
    "Snowflake merges the table's files itself, and keeps former rows for Time Travel as long as "
    "DATA_RETENTION_TIME_IN_DAYS says: what is left to do is what runs left on its stage, and the state folder"
)


def compact(section: SnowflakeSink, asked: Compaction) -> SmallFiles:
    """Nothing: Snowflake does that itself."""
    return SmallFiles(0, 0)


def keep_files(section: SnowflakeSink, wanted: timedelta, *, change: bool) -> str:
    """Nothing: Time Travel's retention is the account's business, and costs."""
    return ""


def outdated(section: SnowflakeSink, kept_for: timedelta | None) -> Mapping[str, int]:
    """None: they are Snowflake's."""
    return {}


def remove_outdated(section: SnowflakeSink, paths: Collection[str]) -> None:
    """Nothing."""


def lost_with(section: SnowflakeSink, records: Sequence[Mapping[str, Any]], paths: Collection[str]) -> list[str]:
    """None, as there are no such files."""
    return []
