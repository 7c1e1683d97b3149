"""Relative paths of a job, which begin in the working directory: what is said where they lead nowhere there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.errors import ConfigError

if TYPE_CHECKING:
    from lakehouse.config.job import Job

_ABOVE = 4
"""Folders above a file that are looked into."""


def require_here(job: Job, path: Path) -> None:
    """Raise ConfigError where what a job reads is not here but in a folder above its file: it was run elsewhere."""
    for key, place in _read(job):
        if not _is_relative(place) or os.path.lexists(place):
            continue
        for number, folder in enumerate(_folders(path)):
            if not (folder / place).exists():
                continue
            there = os.path.relpath(folder / place)
            file = os.path.relpath(path.resolve(), folder.resolve())
            within = f"{file} --project-dir {os.path.relpath(folder)}"
            meant = there if number == 0 and not there.startswith("..") else within
            raise ConfigError(
                f"{path}: {key}: there is no {place} in {os.getcwd()}, in which relative paths begin, but in "
                f"{folder}: did you mean {meant}?"
            )


def missing_file_message(path: Path) -> str:
    """What is said of a file that was named and isn't there: where it was sought, and from where it would be found."""
    sought = f"no such file in {path.parent.absolute()}"
    if _is_relative(str(path)):
        for folder in list(Path.cwd().parents)[:_ABOVE]:
            if (folder / path).is_file():
                return f"{sought}, but in {folder}: did you mean --project-dir {os.path.relpath(folder)}?"
    return sought


def _read(job: Job) -> Iterator[tuple[str, str]]:
    """What the job reads, by the key that names it; its tables where it reads from elsewhere."""
    if job.source.IN_FILES:
        yield "source.table", job.source.table or ""
    else:
        yield from ((f"sinks.{number}.table", s.table) for number, s in enumerate(job.sinks) if s.IN_FILES)
    yield "checks.features", job.checks.features or ""
    yield "checks.scores", job.checks.scores or ""


def _folders(file: Path) -> list[Path]:
    """The folder of a file and some above it, without the working directory."""
    return [folder for folder in list(file.resolve().parents)[:_ABOVE] if folder != Path.cwd()]


def _is_relative(place: str) -> bool:
    return bool(place) and not place.startswith(("/", "~", "file:")) and "://" not in place and "\0" not in place
