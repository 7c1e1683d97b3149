"""Snowflake: sessions by the official connector, names and types of its SQL, changes of its tables.

The only importer of the connector, which is heavy and is imported when a session is first opened. Nothing here knows
of jobs or runs; README.md in this folder is for people who use Snowflake.
"""

from lakehouse.connectors.snowflake.names import Table, folded, having, names_in, quoted, spelled, stored, text
from lakehouse.connectors.snowflake.sessions import (
    Absent,
    Expired,
    Locked,
    Session,
    Unknown,
    fetched,
    qualified,
    reuse_sessions,
    session,
)

__all__ = [
    "Absent", "Expired", "Locked", "Session", "Table", "Unknown", "fetched", "folded", "having", "names_in",
    "qualified", "quoted", "reuse_sessions", "session", "spelled", "stored", "text",
]  # fmt: skip
