"""A server's port, its processes and the memory that they have, the latter as Linux tells it."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

_TELLS = """
import ctypes, gc, json, os, signal, sys

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks used free top".split()]

def tell(*_):
    gc.collect()
    info = ctypes.CDLL(None).mallinfo2
    info.restype = Info
    arrow = sys.modules["pyarrow"].total_allocated_bytes() if "pyarrow" in sys.modules else 0
    made = os.path.join({folder!r}, str(os.getpid()))
    with open(made + ".made", "w") as file:
        json.dump([sys.getallocatedblocks(), info().used + info().hblkhd + arrow], file)
    os.replace(made + ".made", made)

signal.signal(signal.SIGRTMIN + 1, tell)
"""
"""Python code that has a process write down what it has in use: objects of Python's, and bytes of malloc's and Arrow's."""


def telling(folder: Path) -> dict[str, str]:
    """The variables with which Python's processes can be asked by `in_use`, each by a file in this folder."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_TELLS.format(folder=str(folder)))
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))}


def in_use(process: int, folder: Path) -> tuple[int, int]:
    """What it has in use: blocks of Python's, and bytes of malloc's and Arrow's; what is free and kept doesn't count."""
    answer = folder / str(process)
    answer.unlink(missing_ok=True)
    os.kill(process, signal.SIGRTMIN + 1)
    until = time.monotonic() + 60
    while not answer.exists():
        assert time.monotonic() < until, f"process {process} does not tell what it has in use"
        time.sleep(0.05)
    blocks, size = json.loads(answer.read_text())
    return blocks, size


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
