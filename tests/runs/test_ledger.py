"""What the records say of one another."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lakehouse.runs import ledger
from lakehouse.runs.restoring import rolled_back


def runs(*said: tuple[str, str, int, int]) -> list[dict[str, object]]:
    """Records of one slice: name, status, generation, and the minute at which the run's machine thought that it ended."""
    return [
        {"run_id": run, "identity": "job/day=1", "status": status, "generation": generation,
         "finished_at": datetime(2026, 1, 1, 12, minute, tzinfo=UTC)}
        for run, status, generation, minute in said
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "over"),
    [
        ([("a", "published", 1, 1), ("b", "published", 2, 2)], {"a"}),
        ([("a", "published", 1, 1), ("b", "published", 3, 9), ("c", "published", 4, 8)], {"a", "b"}),  # clocks differ
        ([("a", "published", 1, 1), ("b", "blocked", 2, 2)], set()),
        ([("a", "published", 1, 1), ("b", "blocked", 2, 2), ("c", "published", 2, 1)], {"a", "b"}),
        ([("a", "failed", 1, 5), ("b", "published", 1, 4)], {"a"}),
        ([("a", "published", 1, 1), ("b", "published", 2, 2), ("c", "published", 1, 3)], {"a", "b"}),  # table made anew
        ([("a", "published", 1, 1), ("b", "published", 1, 3), ("c", "published", 2, 4)], {"a", "b"}),
        ([], set()),
    ],
)
def test_runs_are_superseded_by_generation(said, over):
    assert ledger.superseded_runs(runs(*said)) == over


@pytest.mark.parametrize(
    ("after", "over"),
    [
        ([], {"b"}),
        ([("d", "published", 4, 4)], {"a", "b", "c"}),
        ([("d", "blocked", 4, 4)], {"b"}),
        ([("d", "published", 1, 4)], {"a", "b", "c"}),  # table made anew
    ],
)
def test_a_run_that_a_rollback_put_back_stands_as_long_as_that_does(after, over):
    found = runs(("a", "published", 1, 1), ("b", "published", 2, 2), ("c", "published", 3, 3), *after)
    found[2]["message"] = rolled_back("a", "b", 2)
    assert ledger.superseded_runs(found) == over
