"""Which messages a run takes, by what the table remembers and what the topic has."""

from __future__ import annotations

import pytest

from lakehouse.connectors.messages import Piece, next_range
from lakehouse.errors import Blocked


def taken(positions: dict[str, int], there: dict[int, tuple[int, int]], **more: object) -> list[tuple[int, int, int]]:
    """The pieces of t (its id is A) that a run takes."""
    _, pieces = next_range("t", "A", positions, there, dict, **more)  # type: ignore[arg-type]
    return [(piece.partition, piece.start, piece.stop) for piece in pieces]


def test_the_first_run_takes_all_that_is_kept_and_the_next_what_is_new():
    assert taken({}, {0: (2, 5), 1: (0, 0)}) == [(0, 2, 5)]
    assert taken({"t/A/0": 5}, {0: (2, 7), 1: (0, 3)}) == [(0, 5, 7), (1, 0, 3)]
    assert taken({"t/A/0": 7, "t/A/1": 3, "other/B/0": 1}, {0: (2, 7), 1: (0, 3)}) == []


def test_where_the_first_run_begins_can_be_said():
    span, pieces = next_range("t", "A", {}, {0: (0, 9), 1: (0, 9)}, lambda: {0: 4, 1: 9})
    assert pieces == (Piece(0, 4, 9),)
    assert (span.since, span.until) == ({}, {"t/A/0": 9, "t/A/1": 9})


def test_messages_that_are_gone_stop_the_run_or_are_said():
    with pytest.raises(Blocked, match=r"3 messages of partition 0 \(offsets 5 to 7\) were deleted.*on_loss: continue"):
        taken({"t/A/0": 5}, {0: (8, 9)})
    span, pieces = next_range("t", "A", {"t/A/0": 5}, {0: (8, 9)}, dict, accept_loss=True)
    assert pieces == (Piece(0, 8, 9),)
    assert "offsets 5 to 7" in span.notes[0]


def test_what_was_deleted_of_a_partition_that_was_added_since_is_lost():
    known = {"t/A/0": 5}
    with pytest.raises(Blocked, match=r"4 messages of partition 1 \(offsets 0 to 3\) were deleted"):
        taken(known, {0: (0, 5), 1: (4, 6)})
    with pytest.raises(Blocked, match=r"offsets 0 to 3"):
        taken(known, {0: (0, 5), 1: (4, 4)})
    assert taken(known, {0: (0, 5), 1: (4, 6)}, accept_loss=True) == [(1, 4, 6)]
    assert taken({}, {0: (3, 5), 1: (4, 6)}) == [(0, 3, 5), (1, 4, 6)]


def test_of_a_partition_that_was_added_since_nothing_before_the_start_is_lost():
    def begun(start: int) -> tuple[Piece, ...]:
        return next_range("t", "A", {"t/A/0": 5}, {0: (0, 5), 1: (4, 6)}, lambda: {1: start})[1]

    assert begun(5) == (Piece(1, 5, 6),)  # offset 4 is older than the start, and so are those before it
    with pytest.raises(Blocked, match=r"offsets 0 to 3"):
        begun(4)


def test_a_loss_that_was_accepted_is_not_told_again():
    known, there = {"t/A/0": 3, "t/A/1": 0}, {0: (5, 5), 1: (0, 2)}
    with pytest.raises(Blocked, match=r"offsets 3 to 4"):
        taken(known, there)
    span, _ = next_range("t", "A", known, there, dict, accept_loss=True)
    assert span.until == {"t/A/0": 5, "t/A/1": 2}
    assert taken(span.until, {0: (5, 5), 1: (0, 4)}) == [(1, 2, 4)]
    with pytest.raises(Blocked, match=r"2 messages of partition 0 \(offsets 5 to 6\)"):
        taken(span.until, {0: (7, 7), 1: (0, 4)})
    assert next_range("t", "A", known, {0: (5, 5), 1: (0, 0)}, dict, accept_loss=True)[0].until == {}


def test_a_message_that_comes_while_the_start_is_looked_up_is_the_next_run_s():
    span, pieces = next_range("t", "A", {}, {0: (0, 5), 1: (0, 1)}, lambda: {0: 6, 1: 0})
    assert (pieces, span.until) == ((Piece(1, 0, 1),), {"t/A/0": 5, "t/A/1": 1})


def test_a_topic_that_was_made_anew_is_told_from_the_old_one():
    with pytest.raises(Blocked, match=r"made anew .* \(its id was /B/C, now it is A\)"):
        taken({"t//B/C/0": 2}, {0: (0, 5)})
    assert taken({"t/B/0": 2}, {0: (0, 5)}, accept_loss=True) == [(0, 0, 5)]
    assert taken({"t/B/0": 2, "t/A/0": 1}, {0: (0, 5)}) == [(0, 1, 5)]


@pytest.mark.parametrize("accept", [False, True])
def test_a_partition_that_is_shorter_than_it_was_stops_the_run(accept):
    with pytest.raises(Blocked, match="ends at offset 4, before 5"):
        taken({"t/A/0": 5}, {0: (0, 4)}, accept_loss=accept)
    with pytest.raises(Blocked, match="partition 1 is not there"):
        taken({"t/A/0": 5, "t/A/1": 1}, {0: (0, 5)}, accept_loss=accept)


def test_a_run_takes_at_most_so_many_of_each_partition_its_share():
    assert taken({}, {0: (0, 10), 1: (10, 40), 2: (0, 1)}, most=4) == [(0, 0, 1), (1, 10, 13), (2, 0, 1)]
    assert taken({}, {0: (0, 10)}, most=10) == [(0, 0, 10)]


def test_ranges_that_begin_at_the_same_place_have_the_same_digest():
    def digest(positions: dict[str, int], end: int, origin: str = "A") -> str:
        return next_range("t", origin, positions, {0: (0, end)}, dict, accept_loss=True)[0].digest

    assert digest({}, 5) == digest({}, 6)
    assert len({digest({}, 5), digest({"t/A/0": 1}, 5), digest({"t/A/0": 2}, 5), digest({}, 5, "B")}) == 4
