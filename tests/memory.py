"""Memory at its peak and CPU time of each process of a command, as Linux tells them of each process while it lives."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
EVERY_S = 0.05
TICKS = os.sysconf("SC_CLK_TCK")
SPAWNED = "spawn_main"
"""In the command line of a process that the local engine starts; the one that starts it scores too."""
WORKER = re.compile(rf"{SPAWNED}|pyspark[./]daemon")
"""In the command line of a worker: of the local engine's, of Spark's Python."""


@dataclass(frozen=True)
class Seen:
    """A process: its parent, its command line, the most memory, in bytes, that was its own or shared at once, and the
    seconds of CPU that it has taken itself."""

    parent: int
    command: str
    peak: int
    cpu: float

    @property
    def is_worker(self) -> bool:
        return WORKER.search(self.command) is not None


def run(command: Sequence[str], environment: Mapping[str, str], timeout: float) -> tuple[str, dict[int, Seen]]:
    """What a command printed, and its processes, its own among them; none where there is no /proc.

    A peak only grows while a process lives, so that what is missed is what it grew in its last 50 ms. Raises
    RuntimeError where the command fails.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        with (
            subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=errors) as process,
            watching(process.pid) as seen,
        ):
            try:
                code = process.wait(timeout)
            except BaseException:
                process.kill()
                raise
        out.seek(0)
        errors.seek(0)
        if code:
            raise RuntimeError(f"{command} ended with {code}:\n{errors.read()[-3000:]}")
        return out.read(), seen


@contextmanager
def watching(root: int, every_s: float = EVERY_S) -> Iterator[dict[int, Seen]]:
    """While the block runs, a process and all that descend from it, as they were when they were last looked at."""
    seen: dict[int, Seen] = {}
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(root, seen, over, every_s))
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


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


def forget_peaks(root: int) -> None:
    """Let the peaks of a process and its descendants begin anew from what they use now."""
    for pid in _below(root):
        with suppress(OSError):  # it has just ended, or isn't ours
            PROC.joinpath(str(pid), "clear_refs").write_text("5")


def cpu_of(root: int) -> float:
    """The seconds of CPU of a process, all that descend from it, and those of them that have ended and were waited for."""
    return sum(sum(_stat(pid)[1:]) for pid in _below(root))


def _stat(pid: int) -> tuple[int, float, float]:
    """The parent of a process, and seconds of CPU: its own, and those of children that it has waited for."""
    try:
        told = PROC.joinpath(str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return 0, 0.0, 0.0
    user, system, of_children, system_of_children = (int(ticks) / TICKS for ticks in told[11:15])
    return int(told[1]), user + system, of_children + system_of_children


def _watch(root: int, seen: dict[int, Seen], over: threading.Event, every_s: float) -> None:
    more = True
    while more:
        more = not over.wait(every_s)
        for pid in _below(root):
            try:
                command = PROC.joinpath(str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                peak = peak_of(pid)
            except OSError:
                continue
            if peak:
                parent, cpu, _ = _stat(pid)
                seen[pid] = Seen(parent, command, peak, cpu)


def _below(root: int) -> list[int]:
    """A process and all that descend from it; none where there is no /proc."""
    found, wanted = list[int](), [root]
    while wanted:
        pid = wanted.pop()
        try:
            tasks = list(PROC.joinpath(str(pid), "task").iterdir())
        except OSError:
            continue
        found.append(pid)
        for task in tasks:  # each thread has the children that it started
            with suppress(OSError):
                wanted += map(int, task.joinpath("children").read_text().split())
    return found
