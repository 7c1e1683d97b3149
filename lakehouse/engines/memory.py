"""How much memory this process may still take, as Linux and a container's limits tell it."""

from __future__ import annotations

from pathlib import Path

_LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""What a container may have, and what it has, by the second and the first version of control groups."""


def available() -> int | None:
    """The bytes that are left, None where that can't be known."""
    found = [_of_machine(), *(_within(most, used) for most, used in _LIMITS)]
    known = [number for number in found if number is not None]
    return min(known) if known else None


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(told["MemAvailable"].split()[0]) << 10 if "MemAvailable" in told else None


def _within(most: str, used: str) -> int | None:
    try:
        limit, taken = Path(most).read_text().strip(), Path(used).read_text().strip()
    except OSError:
        return None
    return max(int(limit) - int(taken), 0) if limit.isdigit() and taken.isdigit() else None
