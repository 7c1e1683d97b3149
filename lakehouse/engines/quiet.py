"""What Spark, its launcher and Java say of their own start is kept from a terminal, unless LAKEHOUSE_DEBUG is set."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOGGING = Path(__file__).with_name("log4j2.properties")
"""Errors only; a file only where the package is installed as files."""
_NOISE = re.compile(
    rb"WARNING: Using incubator modules|Using Spark's default log4j profile|Setting (?:default|Spark) log level"
    rb"|To adjust logging level use|(?:WARNING: )?Unable to load native-hadoop library"
    rb"|\d\d/\d\d/\d\d \d\d:\d\d:\d\d (?:INFO|WARN) "
)
_BEGINNING = re.compile(rb"WARNING|Using |Setting |To adjust|Unable|\d\d/")


def shows_everything() -> bool:
    """Whether everything is to be shown."""
    return bool(os.environ.get("LAKEHOUSE_DEBUG"))


def settings() -> dict[str, str]:
    """What a session is told so that Spark logs errors only."""
    if shows_everything() or not LOGGING.is_file():
        return {}
    return {"spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={LOGGING.as_uri()}"}


def is_noise(line: bytes) -> bool:
    """Whether a line is one of those that Spark and Java write about their own start."""
    return _NOISE.match(line) is not None


@contextmanager
def start() -> Iterator[None]:
    """A process that starts meanwhile writes its errors through this one, which leaves those lines out."""
    if shows_everything():
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with errors() as writing:
            os.dup2(writing, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def errors() -> Iterator[int]:
    """Where a process that starts meanwhile shall write its errors: they come out here, without those lines."""
    if shows_everything():
        yield 2
        return
    kept, (reading, writing) = os.dup(2), os.pipe()
    threading.Thread(target=_forward, args=(reading, kept), daemon=True, name="stderr of Spark").start()
    try:
        yield writing
    finally:
        os.close(writing)


def _forward(reading: int, to: int) -> None:
    """Hand lines on as they come, without the noise, until nobody writes any more."""
    held = b""
    while chunk := os.read(reading, 1 << 16):
        *lines, held = (held + chunk).split(b"\n")
        _write(to, b"".join(line + b"\n" for line in lines if not is_noise(line)))
        if not _BEGINNING.match(held):  # a progress bar, say, which has no lines
            _write(to, held)
            held = b""
    _write(to, b"" if is_noise(held) else held)
    os.close(reading)


def _write(to: int, content: bytes) -> None:
    while content:
        content = content[os.write(to, content) :]
