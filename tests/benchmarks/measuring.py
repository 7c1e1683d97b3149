"""Runs of contestants: cold ones as processes, warm ones by a line to a process that stays; what each of them took."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lakehouse.engines import runtime
from tests import memory
from tests.benchmarks.contestants import ALL, Setting, Task, ours
from tests.benchmarks.turns import without_bytecode_switch

LONGEST_S = 900.0
"""No single run may take longer."""
LOOK_S = 0.2
"""How often processes are looked at: next to nothing, and a peak is kept by the system itself."""


@dataclass(frozen=True)
class Taken:
    """What one run took: seconds; seconds of CPU of all its processes; peaks in bytes of the process itself, of Java,
    and of the largest other process."""

    seconds: float
    cpu: float
    peaks: Mapping[str, int]


class FailedRunError(Exception):
    """A run that did not end well; its message is the last line that it said."""


@dataclass
class Runner:
    """What it takes to run contestants: their Python by whether they are peers, where their output goes; warm processes."""

    setting: Setting
    folder: Path
    pythons: Mapping[bool, Path]
    warm: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def cold(self, name: str, task: Task) -> Taken:
        """One run as a process of its own, from its start to its end. Raises FailedRunError."""
        if ALL[name].ours:
            return self.process(name, ours.command(task, name))
        return self.process(name, self._command(name, "cold", name, str(self._task_file(task))))

    def process(self, name: str, command: Sequence[str]) -> Taken:
        """A command of a contestant, from its start to its end. Raises FailedRunError."""
        with self._log(name).open("w") as log:
            started = time.perf_counter()
            with (
                subprocess.Popen(
                    command, env=_environment(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                ) as process,
                memory.watching(process.pid, LOOK_S) as seen,
            ):
                code, used = _wait(process)
                seconds = time.perf_counter() - started
        if code:
            raise FailedRunError(self._last_words(name) or f"exit code {code}")
        # Java is not waited for by the Python that started it; what was looked at last is its, but for an instant.
        return Taken(seconds, max(used, sum(one.cpu for one in seen.values())), _peaks(process.pid, seen))

    def again(self, name: str, task: Task) -> Taken:
        """One run in the contestant's warm process, which is started where it isn't there. Raises FailedRunError."""
        process = self._process(name)
        assert process.stdin is not None
        assert process.stdout is not None
        memory.forget_peaks(process.pid)
        before = memory.cpu_of(process.pid)
        with memory.watching(process.pid, LOOK_S) as seen:
            process.stdin.write(f"{name} {self._task_file(task)}\n")
            process.stdin.flush()
            ready, _, _ = select.select([process.stdout], [], [], LONGEST_S)
            line = process.stdout.readline() if ready else ""
        if not line:
            self.stop(ALL[name].home)
            raise FailedRunError(self._last_words(name) if ready else f"longer than {LONGEST_S:.0f} s")
        answer = json.loads(line)
        if "error" in answer:
            self._log(name).open("a").write(answer["error"])
            raise FailedRunError(answer["error"].strip().splitlines()[-1])
        return Taken(answer["seconds"], memory.cpu_of(process.pid) - before, _peaks(process.pid, seen))

    def stop(self, home: str) -> None:
        """End a warm process; it has a while to end by itself what it started."""
        process = self.warm.pop(home, None)
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _process(self, name: str) -> subprocess.Popen[str]:
        home = ALL[name].home
        if home not in self.warm:
            with self._log(name).open("a") as log:
                self.warm[home] = subprocess.Popen(
                    self._command(name, "warm"), env=_environment(), cwd=self.folder, text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                )  # fmt: skip
        return self.warm[home]

    def _command(self, name: str, *arguments: str) -> list[str]:
        setting = json.dumps(dataclasses.asdict(self.setting))
        return [str(self.pythons[ALL[name].peer]), "-m", "tests.benchmarks.contestants", setting, *arguments]

    def _task_file(self, task: Task) -> Path:
        path = self.folder / "tasks" / f"{task.name}-{Path(task.out).name}.json"
        path.parent.mkdir(exist_ok=True)
        task.write(path)
        return path

    def _log(self, name: str) -> Path:
        return self.folder / f"{ALL[name].home or name}.log"

    def _last_words(self, name: str) -> str:
        said = self._log(name).read_text(errors="replace").strip().splitlines()
        print("\n".join(said[-30:]), file=sys.stderr, flush=True)
        return said[-1] if said else ""


@contextmanager
def running(setting: Setting, folder: Path, pythons: Mapping[bool, Path]) -> Iterator[Runner]:
    """A runner whose warm processes are ended at the end."""
    runner = Runner(setting, folder, pythons)
    try:
        yield runner
    finally:
        for home in list(runner.warm):
            runner.stop(home)


def _environment() -> dict[str, str]:
    return without_bytecode_switch() | {
        "JAVA_HOME": str(runtime.ensure_java()),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """The exit code of a process, and seconds of CPU of it and of what it waited for."""
    until = time.monotonic() + LONGEST_S
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, used.ru_utime + used.ru_stime
        if time.monotonic() > until:
            process.kill()
            raise FailedRunError(f"longer than {LONGEST_S:.0f} s")
        time.sleep(0.005)


def _peaks(root: int, seen: Mapping[int, memory.Seen]) -> dict[str, int]:
    """Peaks in bytes: `driver` of the process itself, `java`, and `worker` of the largest of the others."""
    found: dict[str, int] = {}
    for pid, one in seen.items():
        kind = "driver" if pid == root else "java" if one.command.split(" ")[0].endswith("java") else "worker"
        found[kind] = max(found.get(kind, 0), one.peak)
    return found
