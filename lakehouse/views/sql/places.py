"""Where a job's tables lie that are read as files: their URIs, and the names that they get."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lakehouse.connectors.spark import is_catalog_name
from lakehouse.storage import locate

if TYPE_CHECKING:
    from lakehouse.config import Job, Sink

_AMAZON = ("s3", "s3a", "s3n")


def uri_of(table: str) -> str:
    """A table's URI as `locate` gives it, without asking S3 for the bucket's region."""
    scheme, _, rest = table.partition("://")
    return f"s3://{rest.strip('/')}" if scheme in _AMAZON else locate(table).uri


def plain(uri: str) -> str:
    """The last part of a table's URI as a name that every system takes."""
    return re.sub(r"\W", "_", uri.rstrip("/").rsplit("/", 1)[-1], flags=re.ASCII)


def companions(job: Job, sink: Sink, *, names: bool) -> tuple[dict[str, str], list[str]]:
    """The URIs of ledger and quarantine by suffix, and what can't be told: a name of Spark's catalog tells no place.

    `names`: such a name may stand for the quarantine's URI.
    """
    named, found, notes = is_catalog_name(sink.table), {}, []
    if job.state is not None or not named:
        state = job.state or f"{sink.table.rstrip('/')}_state"
        found["_runs"] = uri_of(f"{state.rstrip('/')}/runs")
    else:
        notes.append("Without the ledger and the quarantine: the job file does not say where state lies")
    aside = job.checks.quarantine.table or (None if named else f"{sink.table.rstrip('/')}_quarantine")
    if job.sinks[0] is not sink:
        notes.append(f"The quarantine is beside {job.sinks[0].table}")
    elif aside is None or (is_catalog_name(aside) and not names):
        notes.append("Without the quarantine: the job file does not say where checks.quarantine.table lies")
    else:
        found["_quarantine"] = aside if is_catalog_name(aside) else uri_of(aside)
    return found, notes
