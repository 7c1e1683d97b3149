"""Threads of a process that others are forked from: none but its own. Imports nothing that would start some."""

from __future__ import annotations

import os
import sys

_LIBRARIES = ("OMP", "OPENBLAS", "MKL", "BLIS")
WITHOUT_THREADS = {
    **{f"{library}_NUM_THREADS": "1" for library in _LIBRARIES},
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # of the allocator in Arrow, which starts one when it is loaded
    "_RJEM_MALLOC_CONF": "background_thread:false",  # the same of programs in Rust, such as the reader of Delta tables
}
"""What libraries are told by the environment before they are loaded."""


def count() -> int:
    """The threads of this process; 0 where the system doesn't tell."""
    return len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 0
