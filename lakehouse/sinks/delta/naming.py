"""How a Delta table is named, and the tables beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.connectors import delta
from lakehouse.storage import locate

if TYPE_CHECKING:
    from lakehouse.config.systems.delta import DeltaSink

QUARANTINE_SUFFIX, COMPARISON_SUFFIX = "_quarantine", "_challengers"
"""What is appended to the name of a scored table for those of its quarantine and of its challengers."""


def qualify(table: DeltaSink) -> DeltaSink:
    """The sink as it is: a path or URI names a table in full."""
    return table


def uri_of(table: DeltaSink) -> str:
    """The URI of the table's folder."""
    return locate(table.table).uri


def beside(uri: str, suffix: str) -> str:
    """The URI of the folder beside this one with a suffix to its name."""
    return locate(uri).beside(suffix).uri


def exists(uri: str) -> bool:
    """Whether the table is there."""
    return delta.open_table(locate(uri)) is not None


def name_in(display_name: str) -> str:
    """The last part of a path or URI."""
    return display_name.rstrip("/").rsplit("/", 1)[-1]
