"""Messages between a worker and the process that a model runs in: a small head, then raw buffers.

    magic (4 bytes) · length of the head (4) · length of the buffers (8) · head (JSON) · buffers, each padded to 64

The head holds structure only; values are in the buffers, columns and arrays as Arrow and NumPy have them in memory.
Nothing is ever unpickled. This module and `values` run on both sides, in whatever versions these have.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, cast

import numpy as np

_MAGIC = b"LHM1"
_FRAME = struct.Struct("<4sIQ")
_PAD = 64
_LONGEST_HEAD = 1 << 30


class Ended(Exception):
    """The other side has closed its end."""


class Garbled(Exception):
    """What came is no message."""


def send(stream: BinaryIO, head: Mapping[str, Any], buffers: Sequence[Any] = (), parts: Sequence[Any] = ()) -> None:
    """Write a message. `buffers`: what supports the buffer protocol, contiguous; `parts`: of one more buffer."""
    views = [[_view(buffer)] for buffer in buffers]
    if parts:
        views.append([_view(part) for part in parts])
    sizes = [sum(view.nbytes for view in each) for each in views]
    text = json.dumps({**head, "sizes": sizes}).encode()
    _write(stream, memoryview(_FRAME.pack(_MAGIC, len(text), sum(map(_padded, sizes))) + text))
    for each, size in zip(views, sizes, strict=True):
        for view in each:
            _write(stream, view)
        if more := _padded(size) - size:
            _write(stream, memoryview(bytes(more)))


def _view(buffer: Any) -> memoryview:
    view = memoryview(buffer)
    return view.cast("B") if view.nbytes else memoryview(b"")


def _padded(size: int) -> int:
    return -(-size // _PAD) * _PAD


def _write(stream: BinaryIO, view: memoryview) -> None:
    while view.nbytes:
        view = view[stream.write(view) :]


class Receiver:
    """Reads messages. `keeps`: into one piece of memory, so that a message is gone once the next one is asked for."""

    def __init__(self, stream: BinaryIO, *, keeps: bool = False) -> None:
        self.stream, self.keeps, self.kept = stream, keeps, np.empty(0, np.uint8)

    def receive(self) -> tuple[dict[str, Any], list[Any]]:
        """The next message: its head, and its buffers as writable arrays of bytes.

        Raises Ended at the stream's end, Garbled for what is no message.
        """
        magic, length, size = _FRAME.unpack(self._read(_FRAME.size))
        if magic != _MAGIC or length > _LONGEST_HEAD:
            raise Garbled(f"a message begins with {magic!r}")
        try:
            head = json.loads(bytes(self._read(length)))
            sizes = head.pop("sizes")
            if any(type(s) is not int or s < 0 for s in sizes) or sum(map(_padded, sizes)) != size:
                raise ValueError("its sizes don't add up")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Garbled(f"a message's head can't be read: {error}") from error
        whole, at, buffers = self._read(size), 0, []
        for part in sizes:
            buffers.append(whole[at : at + part])
            at += _padded(part)
        return head, buffers

    def _read(self, size: int) -> Any:
        if self.keeps and size > self.kept.nbytes:
            self.kept = np.empty(size, np.uint8)
        made = self.kept[:size] if self.keeps else np.empty(size, np.uint8)
        view = memoryview(cast(Any, made))
        while view.nbytes:
            count = self.stream.readinto(view)  # type: ignore[attr-defined]  # a raw stream has it
            if not count:
                raise Ended
            view = view[count:]
        return made
