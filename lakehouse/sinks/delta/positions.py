"""How far a Delta table's runs have read an input that has no versions: transaction ids of the very commits.

Those outlive the log's history, and a commit that doesn't stand where its run began to read is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from lakehouse.connectors import delta
from lakehouse.sinks.positions import positions_of
from lakehouse.sinks.target import SliceState, Target, require_positions
from lakehouse.storage import display_name, locate


def positions(uri: str, job: str) -> Mapping[str, int]:
    """By the name of each part of the input where the job's next run begins; none where nothing is published yet."""
    return _positions(delta.open_table(locate(uri)), job)


def _positions(snapshot: delta.Snapshot | None, job: str) -> dict[str, int]:
    return {} if snapshot is None else positions_of(job, snapshot.transaction_ids)


def range_state(snapshot: delta.Snapshot | None, target: Target) -> SliceState:
    """How the table stands to a run that takes a range: whether it holds all that there is already.

    Raises Overtaken where another run has published since the range was cut.
    """
    assert target.range is not None
    require_at(snapshot, target)
    return SliceState(0, not target.range.until, snapshot.version if snapshot else None)


def require_at(snapshot: delta.Snapshot | None, target: Target) -> None:
    """Raise Overtaken unless the table remembers just what the run has begun with."""
    assert target.range is not None
    require_positions(target, display_name(locate(target.uri)), _positions(snapshot, target.job))
