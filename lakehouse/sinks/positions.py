"""How far an input was read, as transaction ids, each of which has a number of 64 bits with a sign.

A larger position takes several: the last 63 bits have its name, the next ones its name with #1, and so on. Positions
grow only, so that none of these is ever left over from an older one.
"""

from __future__ import annotations

from collections.abc import Mapping

_BITS = 63


def position_ids(job: str, positions: Mapping[str, int]) -> dict[str, int]:
    """Transaction ids → the number of each, for up to where the job has read the parts of its input."""
    ids = {}
    for name, at in positions.items():
        for place in range(max(-(-at.bit_length() // _BITS), 1)):
            ids[_prefix(job) + name + (f"#{place}" if place else "")] = at >> place * _BITS & (1 << _BITS) - 1
    return ids


def positions_of(job: str, ids: Mapping[str, int]) -> dict[str, int]:
    """The positions that are among a table's transaction ids."""
    positions: dict[str, int] = {}
    prefix = _prefix(job)
    for full, number in ids.items():
        if full.startswith(prefix):
            name, _, place = full.removeprefix(prefix).partition("#")
            positions[name] = positions.get(name, 0) | number << int(place or 0) * _BITS
    return positions


def _prefix(job: str) -> str:
    return f"{job}/position/"
