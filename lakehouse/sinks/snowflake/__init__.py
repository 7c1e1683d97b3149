"""Publishing to a table in Snowflake: how it stands to a run, the upload of staged files, the one transaction.

The ledger beside the table is here too, since the table itself remembers no run. Sessions, names and types are those
of `connectors.snowflake`.
"""

from lakehouse.sinks.snowflake.former import former
from lakehouse.sinks.snowflake.inspect import (
    display_name,
    fit_quarantine,
    generation,
    has_quarantine,
    inspect_table,
    missing_columns,
)
from lakehouse.sinks.snowflake.living import changed_by_others, living
from lakehouse.sinks.snowflake.naming import (
    COMPARISON_SUFFIX,
    QUARANTINE_SUFFIX,
    beside,
    exists,
    name_in,
    qualify,
    uri_of,
)
from lakehouse.sinks.snowflake.positions import positions
from lakehouse.sinks.snowflake.publishing import IN_PLACE, check, ensure, publish, published, require_room
from lakehouse.sinks.snowflake.reading import (
    NATIVE,
    SYSTEM,
    as_scored,
    columns,
    digest,
    folder,
    live_files,
    live_runs,
    preview,
    remove_uploaded,
    rows,
    rows_at,
    set_aside,
    stored_columns,
    unknown_files,
    uploaded,
)
from lakehouse.sinks.snowflake.remembering import remembered
from lakehouse.sinks.snowflake.upkeep import UPKEEP, compact, keep_files, lost_with, outdated, remove_outdated

__all__ = [
    "COMPARISON_SUFFIX", "IN_PLACE", "NATIVE", "QUARANTINE_SUFFIX", "SYSTEM", "UPKEEP", "as_scored", "beside",
    "changed_by_others", "check", "columns", "compact", "digest", "display_name", "ensure", "exists",
    "fit_quarantine", "folder", "former", "generation", "has_quarantine", "inspect_table", "keep_files",
    "live_files", "live_runs", "living", "lost_with", "missing_columns", "name_in", "outdated", "positions", "preview",
    "publish", "published", "qualify", "remembered", "remove_outdated", "remove_uploaded", "require_room", "rows",
    "rows_at", "set_aside", "stored_columns", "unknown_files", "uploaded", "uri_of",
]  # fmt: skip
