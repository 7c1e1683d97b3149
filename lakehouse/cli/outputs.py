"""Files and folders that a command's options name to be written: refused before its work, where they can't be."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakehouse.errors import ConfigError


@dataclass(frozen=True)
class Writes:
    """In the annotation of a parameter: it names a file to write, or a folder to write files to."""

    folder: bool = False


def require_writable(parameters: Iterable[inspect.Parameter], given: Mapping[str, Any]) -> None:
    """Raise ConfigError for a file or folder of a parameter marked `Writes` that can't be written; writes nothing."""
    for parameter in parameters:
        for mark in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(mark, Writes) and given.get(parameter.name) is not None:
                require(f"--{parameter.name.replace('_', '-')}", Path(given[parameter.name]), folder=mark.folder)


def require(option: str, path: Path, *, folder: bool = False) -> None:
    """Raise ConfigError where no file can be written to the path, or none into it as a folder."""
    if wrong := _what_is_wrong(path, folder):
        raise ConfigError(f"{option} {path} can't be written: {wrong}")


def write(path: Path, content: bytes | str) -> None:
    """Write a file, and make the folders above it. Raises ConfigError where it can't be written any more."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror or error}") from error


def _what_is_wrong(path: Path, folder: bool) -> str:
    if path.is_dir() and not folder:
        return "it is a folder: name a file in it"
    if path.is_file() and not folder:
        return "" if os.access(path, os.W_OK) else "it may not be written"
    there = next(one for one in (path, *path.absolute().parents) if os.path.lexists(one))
    if not there.is_dir():
        return f"{there} is no folder"
    return "" if os.access(there, os.W_OK | os.X_OK) else f"nothing may be written to {there}"
