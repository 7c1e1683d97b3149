"""Where a table's files are: one place that turns a table's name into a filesystem and paths on it."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow.fs as pa_fs

from lakehouse.errors import ConfigError


@dataclass(frozen=True)
class Location:
    """A folder on a storage system. `uri` is what Delta libraries are given, `path` what `filesystem()` takes."""

    uri: str
    path: str

    def filesystem(self) -> pa_fs.FileSystem:
        return pa_fs.LocalFileSystem()

    def join(self, *parts: str) -> Location:
        tail = "/".join(parts)
        return Location(f"{self.uri}/{tail}", f"{self.path}/{tail}")

    def beside(self, suffix: str) -> Location:
        """The folder next to this one with `suffix` appended to its name."""
        return Location(self.uri + suffix, self.path + suffix)


def locate(table: str) -> Location:
    """The location of a table named by a path (relative ones: to the working directory) or a `file:` URI.

    Raises ConfigError for a scheme that is not supported.
    """
    scheme = urlsplit(table).scheme if "://" in table or table.startswith("file:") else ""
    if scheme not in ("", "file"):
        raise ConfigError(f"{table}: storage {scheme}:// is not supported yet, only paths and file: URIs are")
    path = unquote(urlsplit(table).path) if scheme else table
    absolute = os.path.abspath(os.path.expanduser(path))
    return Location(absolute, absolute)


def shown(location: Location) -> str:
    """The location as a person would type it: relative to the working directory where that is shorter."""
    relative = os.path.relpath(location.path)
    return location.path if relative.startswith("..") else relative


def write_durably(location: Location, content: bytes) -> None:
    """Write a small file so that it is there whole or not at all, and outlives a crash of the machine."""
    target = Path(location.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with open(draft, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(draft, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_all(folder: Location, suffix: str) -> dict[str, bytes]:
    """The files of a folder whose names end with `suffix`, by name, in order; none where there is no folder."""
    root = Path(folder.path)
    if not root.is_dir():
        return {}
    files = sorted(p for p in root.iterdir() if p.name.endswith(suffix) and not p.name.startswith("."))
    return {p.name: p.read_bytes() for p in files}


def remove(location: Location) -> None:
    """Delete a file; one that is gone already is fine."""
    Path(location.path).unlink(missing_ok=True)


def sizes(root: Location, paths: list[str]) -> dict[str, int | None]:
    """The size in bytes of each file under `root`, None for one that is not there."""
    infos = root.filesystem().get_file_info([f"{root.path}/{path}" for path in paths])
    return {p: (i.size if i.type == pa_fs.FileType.File else None) for p, i in zip(paths, infos, strict=True)}


def siblings(location: Location) -> list[str]:
    """The names of the folders beside this one."""
    parent = Path(location.path).parent
    return sorted(p.name for p in parent.iterdir() if p.is_dir()) if parent.is_dir() else []
