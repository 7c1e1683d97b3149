"""What is told of each task stays bounded, however many there are and however they are merged."""

from __future__ import annotations

import random

import pytest

from lakehouse.checks import timeline


def of(task: int, seconds: float) -> dict:
    return timeline.entry(task, 100.0 + task, 100.0 + task + seconds, f"host{task % 3}", task, {"model": seconds})


def test_few_are_told_of_each_by_itself_in_the_order_they_began():
    entries = [of(2, 1.0), of(0, 5.0), of(1, 0.5)]
    assert timeline.bounded(entries) == [of(0, 5.0), of(1, 0.5), of(2, 1.0)]
    assert timeline.bounded([]) == []


@pytest.mark.parametrize("groups", [1, 3, 40])
def test_the_longest_stay_and_the_others_are_one_whatever_was_merged_before(groups):
    order = random.Random(0)
    entries = [of(task, order.randint(1, 10_000) / 8) for task in range(900)]
    parts = [timeline.bounded(entries[number::groups]) for number in range(groups)]
    found = timeline.bounded(entry for part in parts for entry in part)
    longest = sorted(entries, key=lambda e: (e["began"] - e["ended"], e["task"]))
    alone, [others] = [e for e in found if e["tasks"] == 1], [e for e in found if e["tasks"] > 1]
    assert alone == sorted(longest[: timeline.MOST], key=lambda e: e["began"])
    rest = longest[timeline.MOST :]
    assert (others["tasks"], others["rows"], others["host"]) == (len(rest), sum(e["rows"] for e in rest), "")
    assert others["work"] == {"model": pytest.approx(sum(e["work"]["model"] for e in rest))}
    assert (others["began"], others["ended"]) == (min(e["began"] for e in rest), max(e["ended"] for e in rest))
