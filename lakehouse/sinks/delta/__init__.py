"""Publishing to a Delta table: how it stands to a run, the commit of the staged files, copies by Spark, upserts.

The log itself is read and written by `connectors.delta`; what is here is the promises of a commit, such as that no
other run's rows are taken away.
"""

from lakehouse.sinks.delta.former import former
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
from lakehouse.sinks.delta.publishing import IN_PLACE, check, ensure, publish, published, require_room
from lakehouse.sinks.delta.reading import (
    NATIVE,
    SYSTEM,
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
    unknown_files,
    uploaded,
)

__all__ = [
    "COMPARISON_SUFFIX", "IN_PLACE", "NATIVE", "QUARANTINE_SUFFIX", "SYSTEM", "beside", "check", "columns", "digest",
    "display_name", "ensure", "exists", "fit_quarantine", "folder", "former", "generation", "has_quarantine",
    "inspect_table", "live_files", "live_runs", "living", "missing_columns", "name_in", "preview", "publish",
    "published", "qualify", "remove_uploaded", "require_room", "rows", "rows_at", "set_aside", "unknown_files",
    "uploaded", "uri_of",
]  # fmt: skip
