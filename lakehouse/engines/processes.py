"""This process by a name that no other ever has, so that one can be told for certain to be gone.

A number alone says nothing: another container, or this machine after a restart, gives the same one to another process.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path


def own_name() -> str:
    """`<boot>/<namespace of process ids>/<id>/<start>` of this process; empty where the system doesn't tell."""
    started = _start_time(os.getpid())
    return f"{_here()}/{os.getpid()}/{started}" if _here() and started else ""


def has_ended(name: str) -> bool:
    """Whether the process of this name has ended: only ever known where it would be seen if it hadn't."""
    here, _, rest = name.rpartition("/")[0].rpartition("/")
    if not here or here != _here():
        return False
    started = _start_time(int(rest))
    return started != name.rpartition("/")[2] if started else not _is_there(int(rest))


@functools.cache
def _here() -> str:
    """The machine since its last start, and the namespace in it that gives process ids their meaning."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}" if boot else ""
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """When a process began, in the kernel's own count; empty where none of this id is seen to run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _is_there(pid: int) -> bool:
    """Whether a process that /proc doesn't show runs all the same, as one of another user may."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not Path(f"/proc/{pid}").exists()
