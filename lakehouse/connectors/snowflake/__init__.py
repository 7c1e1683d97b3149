"""Snowflake: sessions by the official connector, names and types of its SQL. What is heavy is imported late."""

from lakehouse.connectors.snowflake.names import Table, folded, having, names_in, quoted, spelled, stored, text
from lakehouse.connectors.snowflake.sessions import (
    Absent,
    Expired,
    Locked,
    Session,
    Unknown,
    fetched,
    reuse_sessions,
    session,
)

__all__ = [
    "Absent", "Expired", "Locked", "Session", "Table", "Unknown", "fetched", "folded", "having", "names_in",
    "quoted", "reuse_sessions", "session", "spelled", "stored", "text",
]  # fmt: skip
