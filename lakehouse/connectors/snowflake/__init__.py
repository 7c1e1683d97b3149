"""Snowflake: sessions by the official connector, names and types of its SQL. What is heavy is imported late."""

from lakehouse.connectors.snowflake.names import Table, folded, having, names_in, quoted, spelled, stored, text
from lakehouse.connectors.snowflake.sessions import (
    Absent,
    Expired,
    Locked,
    Session,
    Unknown,
    fetched,
    kept,
    qualified,
    session,
)

__all__ = [
    "Absent", "Expired", "Locked", "Session", "Table", "Unknown", "fetched", "folded", "having", "kept", "names_in",
    "qualified", "quoted", "session", "spelled", "stored", "text",
]  # fmt: skip
