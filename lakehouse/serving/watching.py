"""The process that makes jobs ready for a server and watches their aliases; it alone asks registries and reads inputs.

It is a process of its own: the one that workers are forked from has no thread of MLflow's or of a table reader's, and a
registry that is slow holds up nobody. What is ready lies in a numbered folder, and a file says which is current.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from lakehouse.errors import ConfigError, LakehouseError
from lakehouse.serving import beginning
from lakehouse.serving.preparing import JobFile, Prepared
from lakehouse.views import logs

_CURRENT, _SERVED, _JOBS = "current", "served", "jobs.pickle"
_AGAIN_SECONDS = 30.0
"""A watcher that has ended is started again no sooner than so long after its start."""
MOST_SECONDS = 600.0
"""At most so long after a failure it is tried again."""


@dataclass(frozen=True)
class Order:
    """What a watcher is told. `server`: the process that it works for; `answer`: where its first result is written.

    That is negative for one that goes on with what is current. `in_lines`: what it logs are structured lines.
    """

    files: tuple[JobFile, ...]
    root: str
    poll: float
    server: int
    answer: int
    in_lines: bool


def current_number(root: Path) -> str:
    """The number of what was last made ready."""
    return (root / _CURRENT).read_text()


def say_served(root: Path, number: str) -> None:
    """Note which number workers have: it is kept, whatever is made ready meanwhile."""
    _write(root / _SERVED, number)


def current(root: Path, number: str) -> tuple[Prepared, ...]:
    """What was made ready below this folder, by this program's own watcher."""
    with open(root / number / _JOBS, "rb") as stream:
        found: tuple[Prepared, ...] = pickle.load(stream)
        return found


class Watcher:
    """In the server: the process that watches."""

    def __init__(self, files: tuple[JobFile, ...], root: Path, poll: float, *, in_lines: bool = False) -> None:
        self._files, self._root, self._poll, self._in_lines = files, root, poll, in_lines
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0

    def start(self) -> list[str]:
        """Start it and wait until all jobs are ready; their names. Raises what was in the way."""
        read, write = os.pipe()
        try:
            self._begin(write)
        finally:
            os.close(write)
        with os.fdopen(read) as answer:
            text = answer.read()
        if not text:
            raise LakehouseError("the process that makes jobs ready has ended without a word: see what it wrote above")
        said = json.loads(text)
        if "ready" not in said:
            raise beginning.from_text(text)
        return list(said["ready"])

    def keep_alive(self) -> None:
        """Start it again where it has ended, unless it was started just now."""
        if self._process is None or self._process.poll() is None or time.monotonic() - self._began < _AGAIN_SECONDS:
            return
        self._begin(-1)

    def ask(self) -> None:
        """Let it make everything ready anew."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR1)

    def end(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _begin(self, answer: int) -> None:
        order = Order(self._files, str(self._root), self._poll, os.getpid(), answer, self._in_lines)
        command = [sys.executable, "-m", "lakehouse.serving.watching", json.dumps(asdict(order))]
        fds = [answer] if answer >= 0 else []
        self._process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, stdout=2)
        self._began = time.monotonic()


def main(text: str) -> None:
    """Make the jobs ready, say so, and watch them until the server is gone."""
    from lakehouse.models.loading import QUIET

    os.environ.update(QUIET)
    said = json.loads(text)
    files = tuple(JobFile(one["conf"], one["target"], tuple(one["overrides"])) for one in said["files"])
    order = Order(**{**said, "files": files})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the server's, which ends this process
    wanted = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: wanted.set())
    root = Path(order.root)
    with logs.as_json() if order.in_lines else _in_words():
        prepared = current(root, current_number(root)) if order.answer < 0 else _first(order)
        _watch(order, prepared, wanted)


def _first(order: Order) -> tuple[Prepared, ...]:
    """Make everything ready, and tell the server, or what is in the way."""
    with os.fdopen(order.answer, "w") as answer:
        try:
            prepared = _prepare_all(order, 1, (), order.files)
        except LakehouseError as error:
            answer.write(beginning.as_text(error))
            sys.exit(error.exit_code)
        answer.write(json.dumps({"ready": [one.job for one in prepared]}))
        return prepared


def _watch(order: Order, prepared: tuple[Prepared, ...], wanted: threading.Event) -> None:
    number, wait = int(current_number(Path(order.root))), order.poll
    while _sleep(order, wait, wanted):
        asked = wanted.is_set()
        wanted.clear()
        try:
            moved = order.files if asked else _moved(prepared)
            if moved:
                prepared = _prepare_all(order, number + 1, prepared, moved)
                number += 1
                _remove_unused(Path(order.root), number)
            wait = order.poll
        except LakehouseError as error:
            wait = min(max(wait * 2, order.poll), max(MOST_SECONDS, order.poll))
            _say(f"what is served stays as it is, and is looked at again in {wait:.0f} s: {error}")


def _sleep(order: Order, seconds: float, wanted: threading.Event) -> bool:
    """Wait so long, or until somebody asks; False once the server is gone."""
    until = time.monotonic() + seconds
    while os.getppid() == order.server:
        left = until - time.monotonic()
        if left <= 0 or wanted.wait(min(left, 1.0)):
            return True
    return False


def _moved(prepared: Sequence[Prepared]) -> tuple[JobFile, ...]:
    """The jobs whose model's alias is at another version than what is served."""
    from lakehouse import models

    found = []
    for one in prepared:
        config = one.file(str(datetime.now(UTC).date())).model
        now = models.resolve(config)
        if now != one.resolved:
            _say(f"{one.job}: {config.uri} is version {now.version}, {one.resolved.version} is served: it is fetched")
            found.append(one.file)
    return tuple(found)


def _prepare_all(
    order: Order, number: int, before: tuple[Prepared, ...], wanted: Sequence[JobFile]
) -> tuple[Prepared, ...]:
    """Make those that are wanted ready, in a folder of this number, and all of them what is current."""
    from lakehouse.serving.preparing import prepare

    root = Path(order.root) / str(number)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    kept = {one.file: one for one in before}
    found = []
    for place, file in enumerate(order.files):
        if file in wanted or file not in kept:
            found.append(prepare(file, root / str(place), datetime.now(UTC), _say))
        else:
            found.append(kept[file])
    names = [one.job for one in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"two of the job files have the job {twice[0]!r}: a server knows jobs by their names")
    with open(root / _JOBS, "wb") as stream:
        pickle.dump(tuple(found), stream)
    _write(Path(order.root) / _CURRENT, str(number))
    return tuple(found)


def _write(file: Path, text: str) -> None:
    """In one step: others read it meanwhile."""
    made = file.with_suffix(".made")
    made.write_text(text)
    made.replace(file)


def _remove_unused(root: Path, number: int) -> None:
    """Remove models that neither the newest have, nor the one before it, nor what is served while these can't be."""
    served = (root / _SERVED).read_text() if (root / _SERVED).exists() else ""
    kept = {name for name in (str(number), str(number - 1), served) if (root / name / _JOBS).exists()}
    used = set(kept)
    for one in (one for name in kept for one in current(root, name)):
        for folder in one.folders.values():
            path = Path(folder if isinstance(folder, str) else folder.path)
            used.add(path.relative_to(root).parts[0])
    for there in root.iterdir():
        if there.name.isdigit() and there.name not in used:
            shutil.rmtree(there, ignore_errors=True)


@contextmanager
def _in_words() -> Iterator[None]:
    """What is logged as lines for people, while the block runs."""
    logging.basicConfig(format="serve: %(message)s", level=logging.WARNING)
    logs.LOGGER.setLevel(logging.INFO)
    yield


def _say(message: str) -> None:
    if message:
        logs.line("serving", message, {})


if __name__ == "__main__":
    main(sys.argv[1])
