"""The memory that each process of a command used at its peak, as Linux tells it of each process while it lives."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
EVERY_S = 0.05
SPAWNED = "spawn_main"
"""In the command line of a process that the local engine starts; the one that starts it scores too."""
WORKER = re.compile(rf"{SPAWNED}|pyspark[./]daemon")
"""In the command line of a worker: of the local engine's, of Spark's Python."""


@dataclass(frozen=True)
class Seen:
    """A process: its parent, its command line, and the most memory, in bytes, that was its own or shared at once."""

    parent: int
    command: str
    peak: int

    @property
    def is_worker(self) -> bool:
        return WORKER.search(self.command) is not None


def run(command: Sequence[str], environment: Mapping[str, str], timeout: float) -> tuple[str, dict[int, Seen]]:
    """What a command printed, and its processes, its own among them; none where there is no /proc.

    A peak only grows while a process lives, so that what is missed is what it grew in its last 50 ms. Raises
    RuntimeError where the command fails.
    """
    seen: dict[int, Seen] = {}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=errors) as process:
            over = threading.Event()
            watcher = threading.Thread(target=_watch, args=(process.pid, seen, over))
            watcher.start()
            try:
                code = process.wait(timeout)
            except BaseException:
                process.kill()
                raise
            finally:
                over.set()
                watcher.join()
        out.seek(0)
        errors.seek(0)
        if code:
            raise RuntimeError(f"{command} ended with {code}:\n{errors.read()[-3000:]}")
        return out.read(), seen


def workers(seen: Mapping[int, Seen]) -> list[int]:
    """The peaks of those that score, the largest first: the workers, else the one process that did all."""
    forks = {process.parent for process in seen.values() if process.is_worker}
    beside = {process.parent for process in seen.values() if SPAWNED in process.command}
    peaks = [p.peak for pid, p in seen.items() if pid in beside or (p.is_worker and pid not in forks)]
    return sorted(peaks or [max(process.peak for process in seen.values())], reverse=True)


def peak_of(pid: int | str = "self") -> int:
    """A process's peak in bytes. On Linux, getrusage would tell of the parent's peak too."""
    status = PROC / str(pid) / "status"
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(found[1]) * 1024 if found else 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _watch(root: int, seen: dict[int, Seen], over: threading.Event) -> None:
    while not over.wait(EVERY_S):
        parents = {}
        for folder in PROC.glob("[0-9]*"):
            try:
                parents[int(folder.name)] = int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has just ended
                continue
        for pid in _below(root, parents):
            try:
                command = PROC.joinpath(str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                peak = peak_of(pid)
            except OSError:
                continue
            if peak:
                seen[pid] = Seen(parents[pid], command, peak)


def _below(root: int, parents: Mapping[int, int]) -> list[int]:
    """A process and all that descend from it."""
    found, wanted = [], [root]
    while wanted:
        pid = wanted.pop()
        found.append(pid)
        wanted += [child for child, parent in parents.items() if parent == pid and child != os.getpid()]
    return [pid for pid in found if pid in parents]
