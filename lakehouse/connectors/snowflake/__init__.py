"""Snowflake: sessions by the official connector, names and types of its SQL, changes of its tables.

The only importer of the connector, which is heavy and is imported when a session is first opened. Nothing here knows
of jobs or runs; README.md in this folder is for people who use Snowflake.
"""

from lakehouse.connectors.snowflake.names import (
    Table,
    equality_condition,
    fold,
    names_in,
    quote,
    spelling_of,
    stored_name,
    text_literal,
)
from lakehouse.connectors.snowflake.sessions import (
    Absent,
    Expired,
    Locked,
    PastRetention,
    Session,
    Unknown,
    fetch_rows,
    qualified,
    reuse_sessions,
    session,
)

__all__ = [
    "Absent", "Expired", "Locked", "PastRetention", "Session", "Table", "Unknown", "equality_condition", "fetch_rows",
    "fold", "names_in", "qualified", "quote", "reuse_sessions", "session", "spelling_of", "stored_name", "text_literal",
]  # fmt: skip
