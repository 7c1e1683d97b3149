"""Positions as transaction ids: numbers of 64 bits, of which a larger one takes several."""

from __future__ import annotations

import pytest

from lakehouse.sinks.positions import position_ids, positions_of


@pytest.mark.parametrize("at", [0, 5, (1 << 63) - 1, 1 << 63, (1 << 63) + 5, (1 << 126) - 1, 1 << 186])
def test_a_position_is_what_it_was(at):
    ids = position_ids("job", {"t/A/0": at, "t/A/1": 7})
    assert positions_of("job", {**ids, "other/position/t/A/0": 3, "job/run/1": 2}) == {"t/A/0": at, "t/A/1": 7}
    assert all(0 <= number < 1 << 63 for number in ids.values())


def test_a_number_of_64_bits_is_one_id():
    assert position_ids("job", {"t/A/0": 5}) == {"job/position/t/A/0": 5}
    assert len(position_ids("job", {"t/A/0": 1 << 186})) == 3
