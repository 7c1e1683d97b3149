"""Threads of a process that others are forked from: none but its own. Imports nothing that would start some."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

_LIBRARIES = ("OMP", "OPENBLAS", "MKL", "BLIS")
WITHOUT_THREADS = {
    **{f"{library}_NUM_THREADS": "1" for library in _LIBRARIES},
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # of the allocator in Arrow, which starts one when it is loaded
    "_RJEM_MALLOC_CONF": "background_thread:false",  # the same of programs in Rust, such as the reader of Delta tables
}
"""What libraries are told by the environment before they are loaded."""


_M_ARENA_MAX = -8  # as <malloc.h> has it


def share_one_heap() -> None:
    """Let all threads of this process and of those forked from it take memory from one heap, where glibc gives it.

    By default it makes several for each core, of which each keeps what its threads have once needed at the same time.
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def count() -> int:
    """The threads of this process; 0 where the system doesn't tell."""
    return len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 0
