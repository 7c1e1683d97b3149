"""The process that an isolated model runs in: reads messages from a pipe, calls the model, answers.

It runs on the interpreter and the packages of the model's environment, not on the project's. Of this package it imports
what `start` allows: `errors`, `schemas` and the parts of `models` that load a model and make its input.
"""

from __future__ import annotations

import ctypes
import functools
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any, BinaryIO

import pyarrow as pa

from lakehouse.errors import LakehouseError
from lakehouse.models.flavors.calling import Predictor
from lakehouse.models.given import Given
from lakehouse.models.isolated import messages, values
from lakehouse.schemas import Tensor

_PLACES = 4
_PR_SET_PDEATHSIG = 1


def start(requests: BinaryIO, answers: BinaryIO, parent: int, with_thread: bool) -> None:
    """Answer requests until there are no more. `parent`: whose child this is; `with_thread`: its main thread's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the parent, which ends this one
    if with_thread:
        _end_with(parent)
    os.register_at_fork(after_in_child=functools.partial(_leave, requests, answers))
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    own = os.getpid()
    threading.Thread(target=_read, args=(requests, waiting), daemon=True).start()
    opened: list[Predictor] = []
    while True:
        head, buffers = waiting.get()
        asked = {"open": _open, "predict": _predict}[head["do"]]
        try:
            said, given = asked(opened, head, buffers)
        except BaseException as error:  # noqa: BLE001  # whatever the model raises is an answer
            said, given = _as_error(error), []
        if os.getpid() != own:  # a copy that the model has made of this process, and that has come back from it
            os._exit(0)
        messages.send(answers, {**said, "number": head["number"]}, given)
        del buffers, given


def _leave(requests: BinaryIO, answers: BinaryIO) -> None:
    """In a copy of this process that a model makes: the pipes are not its own, and end with this one."""
    requests.close()
    answers.close()


def _read(requests: BinaryIO, waiting: queue.SimpleQueue[Any]) -> None:
    """Take requests as they come: so the end of the pipe is seen while the model is at work, too."""
    receiver = messages.Receiver(requests, keeps=True)  # the next request comes when this one is answered
    try:
        while True:
            waiting.put(receiver.receive())
    finally:
        os._exit(0)


def _end_with(parent: int) -> None:
    """Let the system kill this process when its parent dies, where it can; else the closed pipe tells."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died just before
        os._exit(0)


_Answer = tuple[dict[str, Any], list[Any]]


def _open(opened: list[Predictor], head: dict[str, Any], buffers: list[Any]) -> _Answer:
    """Load a model; what its predictor says of itself. Models are numbered in the order in which they were loaded."""
    from lakehouse.models.loading import load_here

    params = values.decode(head["params"], buffers)
    found = load_here(head["path"], head["digest"], head["method"], tuple((name, value) for name, value in params))
    opened.append(found)
    classes = None if found.classes is None else list(found.classes)
    trained = found.trained
    said = [classes, found.without_classes, found.called, found.library, list(trained.names), trained.count]
    node, given = values.encode([*said, trained.by_name])
    return {"said": node}, given


def _predict(opened: list[Predictor], head: dict[str, Any], buffers: list[Any]) -> _Answer:
    """The model's answer to the rows in the last buffer, an Arrow stream of one batch."""
    _limit_threads(head["threads"])
    with pa.ipc.open_stream(pa.py_buffer(buffers[-1])) as reader:
        (batch,) = reader
    names = values.decode(head["names"], buffers)
    tensors = tuple(Tensor(name, kind, tuple(shape), columns) for name, kind, shape, columns in head["tensors"])
    given = Given(batch.num_rows, tuple(batch.columns), tuple(names), tuple(head["required"]), tensors)
    try:
        answer = opened[head["model"]].predict(given.as_input())
    except SystemExit as stop:
        raise RuntimeError(f"the model ends the process: SystemExit({stop.code!r})").with_traceback(
            stop.__traceback__
        ) from None
    node, answered = values.encode(answer)
    return {"said": node}, answered


_threads = [0]


def _limit_threads(wanted: int) -> None:
    """As many threads for the model's libraries as the worker has."""
    if _threads[0] == wanted:
        return
    _threads[0] = wanted
    pa.set_cpu_count(wanted)
    try:
        import threadpoolctl
    except ImportError:
        return
    threadpoolctl.threadpool_limits(wanted)


def _as_error(error: BaseException) -> dict[str, Any]:
    """An exception, with what caused it, and where in the model it came from."""
    chain: list[dict[str, Any]] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < _PLACES:
        chain.append({"type": type(cause).__name__, "message": _text(cause), "ours": isinstance(cause, LakehouseError)})
        last: BaseException = cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    places = traceback.extract_tb(last.__traceback__)[-_PLACES:]
    said = [f"  at {place.filename}:{place.lineno} in {place.name}: {place.line}" for place in places]
    return {"raised": chain, "places": said}


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as of_text:  # noqa: BLE001  # it is the model's
        return f"(it has no text: {type(of_text).__name__})"
