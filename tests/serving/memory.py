"""The processes of a server and the memory that they have, as Linux tells it."""

from __future__ import annotations

from pathlib import Path


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


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
