"""Publishing to a Delta table: how it stands to a run, the commit of the staged files, copies by Spark, upserts.

The log itself is read and written by `connectors.delta`; what is here is the promises of a commit, such as that no
other run's rows are taken away.
"""

from lakehouse.sinks.delta.former import former, lost_with
from lakehouse.sinks.delta.history import changed_by_others
from lakehouse.sinks.delta.inspect import (
    display_name,
    fit_quarantine,
    generation,
    has_quarantine,
    inspect_table,
    missing_columns,
)
from lakehouse.sinks.delta.living import living
from lakehouse.sinks.delta.naming import COMPARISON_SUFFIX, QUARANTINE_SUFFIX, beside, exists, name_in, qualify, uri_of
from lakehouse.sinks.delta.positions import positions
from lakehouse.sinks.delta.publishing import IN_PLACE, check, ensure, publish, published, require_room
from lakehouse.sinks.delta.reading import (
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
from lakehouse.sinks.delta.remembering import remembered
from lakehouse.sinks.delta.upkeep import UPKEEP, compact, keep_files, outdated, remove_outdated

__all__ = [
    "COMPARISON_SUFFIX", "IN_PLACE", "NATIVE", "QUARANTINE_SUFFIX", "SYSTEM", "UPKEEP", "as_scored", "beside",
    "changed_by_others", "check", "columns", "compact", "digest", "display_name", "ensure", "exists",
    "fit_quarantine", "folder", "former", "generation", "has_quarantine", "inspect_table", "keep_files",
    "live_files", "live_runs", "living", "lost_with", "missing_columns", "name_in", "outdated", "positions", "preview",
    "publish", "published", "qualify", "remembered", "remove_outdated", "remove_uploaded", "require_room", "rows",
    "rows_at", "set_aside", "stored_columns", "unknown_files", "uploaded", "uri_of",
]  # fmt: skip
