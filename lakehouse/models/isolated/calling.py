"""A model in a process of its own, as its worker calls it: started once, kept from run to run, asked batch by batch.

The process runs on the environment's interpreter, and ends with this one. What it writes to its outputs is kept for
messages; its answers are read as data.
"""

from __future__ import annotations

import functools
import io
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import pyarrow as pa

from lakehouse import errors
from lakehouse.errors import LakehouseError, ModelRefused
from lakehouse.models.flavors.calling import Predictor, Trained
from lakehouse.models.given import Given
from lakehouse.models.isolated import messages, values
from lakehouse.models.parameters import Frozen

MOST_DEATHS = 20
"""So often a model's process is started anew in one worker: a row that kills it takes log2(rows) turns to find."""
_MOST_MODELS = 16
_MOST_IN_ALL = 200
"""So often in all, however many rows were found: a start takes seconds."""
_LAST_LINES, _LONGEST = 12, 2_000
_TAIL = 1 << 14
"""Bytes of what it prints that are kept."""
_END_SECONDS = 2.0

_BOOT = """
import os, sys
requests, answers = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
nothing = os.open(os.devnull, os.O_RDONLY)
os.dup2(nothing, 0)
os.dup2(2, 1)
packages, own, parent, with_thread = sys.argv[1:]
import site, types
site.addsitedir(packages)
for name in ("lakehouse", "lakehouse.models", "lakehouse.models.isolated"):
    made = sys.modules[name] = types.ModuleType(name)
    made.__path__ = [os.path.join(own, *name.split(".")[1:])]
from lakehouse.models.isolated import child
child.start(requests, answers, int(parent), with_thread == "1")
"""
"""Takes the pipes to itself before anything else can write into them, then sees the environment's packages and, of this
package, single modules without what its folders import."""


@dataclass(frozen=True)
class Environment:
    """A built environment: the folder of its packages, the interpreter that they are for, the key it is kept under."""

    key: str
    packages: str
    python: str
    minor: str


@dataclass(frozen=True)
class IsolatedFolder:
    """The folder of a model's files, and the environment that it is loaded in."""

    path: str
    environment: Environment


class _Raised(Exception):
    """What a model raised in its process, under the name it had there. `places`: where, a line each."""

    places: Sequence[str] = ()


Model = tuple[str, str, "str | None", Frozen]
"""What a process loads: path, digest, method and parameters."""


class _Process:
    """The process of one environment, which loads any number of models: one after the other, as a worker itself would.

    `waited`: the models that it was asked to load and has not answered for yet, in order.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment, self.owner = environment, os.getpid()
        self.deaths = self.deaths_in_all = self.sent = self.answered = 0
        self.lock = threading.Lock()
        self.held: list[subprocess.Popen[bytes]] = []
        self.tail = bytearray()
        self.waited: list[Model] = []
        self.opened: dict[Model, Any] = {}
        weakref.finalize(self, _end, self.held, self.owner)  # at the latest when this process ends

    def _start(self) -> None:
        main = threading.current_thread() is threading.main_thread()
        where, own = self.environment, str(Path(errors.__file__).parent)
        # -I: nothing of this environment's variables and folders; -S: nor the packages beside the interpreter.
        command = [where.python, "-I", "-S", "-c", _BOOT, where.packages, own, str(os.getpid()), "1" if main else "0"]
        try:
            running = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise ModelRefused(f"the model's own process can't be started: {where.python}: {error.strerror}") from error
        self.held.append(running)
        self.sent, self.answered, self.tail = 0, 0, bytearray()
        self.listener = threading.Thread(target=_keep_tail, args=(running.stderr, self.tail), daemon=True)
        self.listener.start()
        _widen(running)

    def begin(self, model: Model) -> None:
        """Have it load a model, without waiting for that."""
        with self.lock:
            self._begin(model)

    def _begin(self, model: Model) -> None:
        if model in self.opened or model in self.waited:
            return
        if len(self.opened) >= _MOST_MODELS:  # of earlier runs
            self.stop()
        if not self.held:
            self._start()
        path, digest, method, params = model
        node, buffers = values.encode([[name, value] for name, value in params])
        self.waited.append(model)
        self._send({"do": "open", "path": path, "digest": digest, "method": method, "params": node}, buffers)

    def open(self, model: Model) -> Predictor:
        """What calls a model, once it is loaded. Raises ModelRefused and ConfigError as `loading.load_here`."""
        with self.lock:
            self.deaths = self.deaths_in_all = 0  # what a model was tried on does not count against its run
            said = self._opened(model)
        classes, without, called, library, names, count, by_name = said

        def predict(given: Given) -> Any:
            return self.predict(model, given)

        predict.takes_columns = True  # type: ignore[attr-defined]  # see `takes_columns`
        known = Trained(tuple(names), count, by_name)
        return Predictor(predict, None if classes is None else tuple(classes), without, called, library, known)

    def _opened(self, model: Model) -> Any:
        """What it says of a model once it has loaded it, begun now where it was not before."""
        self._begin(model)
        while self.waited:
            answered = self.waited[0]
            try:
                self.opened[answered] = self._answer()
            except _Raised as error:
                if answered == model:
                    raise ModelRefused(f"the model can't be loaded in its own environment: {error}") from error
            except LakehouseError:
                if answered == model:
                    raise
            finally:
                self.waited[:1] = []
        if model not in self.opened:  # the process ended with an earlier one
            return self._opened(model)
        return self.opened[model]

    def predict(self, model: Model, given: Given) -> Any:
        """The model's answer to rows. Raises what it raises; a process that dies is started anew for the next rows."""
        with self.lock:
            if self.deaths > MOST_DEATHS or self.deaths_in_all > _MOST_IN_ALL:
                said = f"the model's own process died {self.deaths_in_all} times: no more is tried"
                raise _named("ModelProcessDied")(said)
            self._opened(model)
            batch = pa.RecordBatch.from_arrays(list(given.columns), names=[f"c{n}" for n in range(len(given.columns))])
            node, buffers = values.encode(list(given.names))
            head = {
                "do": "predict", "model": list(self.opened).index(model), "threads": pa.cpu_count(), "names": node,
                "required": list(given.required),
                "tensors": [[t.name, t.dtype, list(t.shape), t.columns] for t in given.tensors],
            }  # fmt: skip
            self._send(head, buffers, _as_stream(batch))
            return self._answer(given.rows)

    def _send(self, head: dict[str, Any], buffers: Sequence[Any], parts: Sequence[Any] = ()) -> None:
        self.sent += 1
        with suppress(BrokenPipeError, ConnectionError):  # it has ended, which reading tells with its reason
            messages.send(cast(BinaryIO, self.held[0].stdin), {**head, "number": self.sent}, buffers, parts)

    def _answer(self, rows: int = 0) -> Any:
        """What it says next. Raises what the model raised there, and _Raised where the process has ended.

        `rows`: how many it was asked for; a death over one row has found the row, and is none of a search for it.
        """
        self.answered += 1
        try:
            head, buffers = messages.Receiver(cast(BinaryIO, self.held[0].stdout)).receive()
            if head["number"] != self.answered:  # another process of the model's answers, too
                raise messages.Garbled(f"it answers request {head['number']} instead of {self.answered}")
            if "raised" not in head:
                return values.decode(head["said"], buffers)
        except messages.Ended:
            self._has_died(rows)
        except (messages.Garbled, KeyError, ValueError, TypeError, IndexError, pa.ArrowException) as error:
            self.stop()
            raise ModelRefused(f"the answer of the model's own process can't be read: {error}") from error
        except BaseException:  # Ctrl-C, say: what comes next is no answer to what is asked next
            self.stop()
            raise
        raise _as_exception(head)

    def _has_died(self, rows: int) -> None:
        self.deaths = 0 if rows == 1 else self.deaths + 1
        self.deaths_in_all += 1
        code = _reap(self.held.pop(), _END_SECONDS)
        self.stop()
        self.listener.join(_END_SECONDS)
        said = _last_lines(self.tail)
        how, hint = "closed its end of the pipe", ""
        if code is not None:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        raise _named("ModelProcessDied")(f"the model's own process {how}{hint}" + (f": {said}" if said else ""))

    def stop(self) -> None:
        """End it, at once if it does not by itself."""
        _end(self.held, self.owner)
        self.opened.clear()
        self.waited.clear()


def _end(held: list[subprocess.Popen[bytes]], owner: int) -> None:
    while held:
        running = held.pop()
        if owner != os.getpid():  # a forked process has a copy of this, and no child
            return
        _reap(running, _END_SECONDS)


def _reap(running: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Close the pipes, and wait until it has ended; its exit code, None where it had to be ended.

    With it ends what it has started and that is still of its group.
    """
    for stream in (running.stdin, running.stdout):
        cast(IO[bytes], stream).close()
    until, itself = time.monotonic() + seconds, False
    while not itself and time.monotonic() < until:
        itself = _has_ended(running)
        time.sleep(0 if itself else 0.002)
    with suppress(OSError):
        os.killpg(running.pid, signal.SIGKILL)
    code = running.wait()
    return code if itself else None


def _has_ended(running: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended; its number is not given to another process before it was waited for."""
    if not hasattr(os, "waitid"):
        return running.poll() is not None
    return os.waitid(os.P_PID, running.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


class _Parts(io.RawIOBase):
    """Takes what Arrow writes as it is, without a copy."""

    def __init__(self) -> None:
        self.parts: list[Any] = []

    def writable(self) -> bool:
        return True

    def write(self, part: Any) -> int:
        self.parts.append(part)
        return len(part)


def _as_stream(batch: pa.RecordBatch) -> list[Any]:
    """A batch as Arrow's stream, in the parts that it is made of: the columns' own buffers among them."""
    sink = _Parts()
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), batch.schema) as writer:
        writer.write_batch(batch)
    return sink.parts


def _widen(running: subprocess.Popen[bytes]) -> None:
    """Larger pipes, where the system lets it: fewer turns between the two processes."""
    if not sys.platform.startswith("linux"):
        return
    import fcntl

    for stream in (running.stdin, running.stdout):
        try:
            fcntl.fcntl(cast(IO[bytes], stream), fcntl.F_SETPIPE_SZ, 1 << 20)
        except OSError:
            return


def _keep_tail(stream: IO[bytes], tail: bytearray) -> None:
    """Read what the process prints as fast as it comes, and keep the end of it."""
    with stream:
        while part := os.read(stream.fileno(), 1 << 16):
            tail += part
            del tail[:-_TAIL]


def _last_lines(tail: bytearray) -> str:
    text = [line.rstrip() for line in bytes(tail).decode(errors="replace").splitlines()[-_LAST_LINES:]]
    return "\n".join(filter(None, text))[-_LONGEST:]


@functools.cache
def _named(name: str) -> type[_Raised]:
    """An exception's class under the name that it had in the other process."""
    return type(name, (_Raised,), {})


def _as_exception(head: dict[str, Any]) -> Exception:
    """What was raised in the other process: one of this package's errors, else one of that name and message."""
    made: list[Exception] = []
    for part in head["raised"]:
        name, message = str(part["type"]), str(part["message"])
        own = getattr(errors, name, None) if part.get("ours") else None
        if isinstance(own, type) and issubclass(own, LakehouseError):
            made.append(own(message))
        else:
            made.append(_named(name)(message))
    for error, cause in pairwise(made):
        error.__cause__ = cause
    made[-1].places = [str(place) for place in head.get("places", ())]  # type: ignore[attr-defined]
    return made[0]


@functools.cache
def _process(owner: int, environment: Environment) -> _Process:
    return _Process(environment)


def begin(folder: IsolatedFolder, digest: str, method: str | None, params: Frozen) -> None:
    """Start a model's process before it is needed, and have it load the model meanwhile."""
    _process(os.getpid(), folder.environment).begin((folder.path, digest, method, params))


def open_isolated(folder: IsolatedFolder, digest: str, method: str | None, params: Frozen) -> Predictor:
    """What calls a model in a process of its own: one for each worker process and environment, kept as long as these.

    Raises ModelRefused and ConfigError as `loading.load` does, and ModelRefused where its process can't be started.
    """
    return _process(os.getpid(), folder.environment).open((folder.path, digest, method, params))
