"""This process's folder in the temporary directory: it goes with it, or where that was killed with a later one.

Only folders that were made here are ever removed: they hold a file that names their process.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakehouse.engines import processes

_PREFIX, _OWNER = "lakehouse-", ".owner"


@contextmanager
def folder() -> Iterator[Path]:
    """A fresh folder while the block runs."""
    with tempfile.TemporaryDirectory(dir=process_folder(), ignore_cleanup_errors=True) as made:
        yield Path(made)


def process_folder() -> Path:
    """The process's own folder, there until it ends."""
    return _make_process_folder(os.getpid())


@functools.cache
def _make_process_folder(process: int) -> Path:  # a forked process has one of its own
    _remove_those_of_dead()
    made = Path(tempfile.mkdtemp(prefix=_PREFIX))
    (made / _OWNER).write_text(processes.own_name())
    atexit.register(_leave, made, process)
    return made


def _leave(made: Path, process: int) -> None:
    if os.getpid() == process:
        _remove(made)


def _remove_those_of_dead() -> None:
    for one in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            owner = (one / _OWNER).read_text()
            if processes.has_ended(owner) and not one.is_symlink() and one.stat().st_uid == os.getuid():
                _remove(one)
        except OSError:
            continue  # somebody else's, or somebody removes it just now


def _remove(made: Path) -> None:
    """Remove the folder, its owner's name last: what can't be removed now can be later."""
    for entry in os.scandir(made):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        elif entry.name != _OWNER:
            os.unlink(entry.path)
    if os.listdir(made) == [_OWNER]:
        shutil.rmtree(made, ignore_errors=True)
