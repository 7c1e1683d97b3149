"""A server's port, its processes and the memory that they have, the latter as Linux tells it."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def free_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def tree(process: int) -> list[int]:
    """The process and all that descend from it."""
    below = [int(child) for task in Path(f"/proc/{process}/task").glob("*/children") for child in _text(task).split()]
    return [process, *(one for child in below for one in tree(child))]


def workers(master: int) -> list[int]:
    """The server's processes that answer: those below it that were forked from it, and are no program of their own."""
    own = _text(Path(f"/proc/{master}/cmdline"))
    return [one for one in tree(master)[1:] if _text(Path(f"/proc/{one}/cmdline")) == own]


def megabytes(process: int, kind: str = "Pss") -> float:
    """Its memory: `Rss` all of it, `Pss` what it shares with others by parts; 0 where it has ended."""
    lines = _text(Path(f"/proc/{process}/smaps_rollup")).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


def cpu_seconds(process: int) -> float:
    """The processor time that it and those below it have had so far, ended ones left out."""
    fields = [_text(Path(f"/proc/{one}/stat")).rpartition(")")[2].split() for one in tree(process)]
    return sum(int(of[11]) + int(of[12]) for of in fields if of) / os.sysconf("SC_CLK_TCK")


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
