"""What `sweep` finds: files of runs that nobody needs, records that are kept no longer, files worth merging."""

from __future__ import annotations

from dataclasses import dataclass

STAGED = "staged files"
RECORD = "record"
SMALL = "small files"
OUTDATED = "outdated files"
TAKEN = "messages"


@dataclass(frozen=True)
class Leftover:
    """Something of a run below a table or state folder, or of all runs ("") of a job in a table of the state folder.

    `files` are those that may go, none where `kept` says why they must stay. Of `what`: STAGED files, the RECORD of a
    run with its figures and report, SMALL files that are to be merged, OUTDATED files that are merged since, messages
    that were TAKEN.
    """

    table: str
    run_id: str
    files: int
    bytes: int
    kept: str | None
    what: str = STAGED
