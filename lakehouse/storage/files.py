"""What is done with files and folders, the same on every storage system."""

from __future__ import annotations

import os
import posixpath
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pa_fs

from lakehouse.errors import ConfigError, Unavailable
from lakehouse.storage.location import Location

_LIBRARY_DETAIL = re.compile(r"error_info=\{|RequestId:")
"""Where the cloud libraries' messages go on with what only their makers understand, or say it all again."""


def display_name(location: Location) -> str:
    """The location as a person would type it: relative to the working directory where that is shorter."""
    if location.remote:
        return location.uri
    relative = os.path.relpath(location.path)
    return location.path if relative.startswith("..") else relative


@contextmanager
def reaching(location: Location) -> Iterator[None]:
    """Raise Unavailable where an object storage does not answer, or not as it should."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:  # Google's library has no kind for missing credentials
        if not location.remote:
            raise
        raise Unavailable(f"{location.uri}: the storage can't be used: {told(error)}") from error


def told(error: Exception) -> str:
    """What a storage's library says went wrong, as one line."""
    return " ".join(_LIBRARY_DETAIL.split(str(error), maxsplit=1)[0].split())


def create_file(location: Location) -> pa.NativeFile:
    """A stream into a new file, whose folder is made where the storage has such a thing."""
    filesystem = location.filesystem()
    if not location.remote:
        filesystem.create_dir(posixpath.dirname(location.path), recursive=True)
    return filesystem.open_output_stream(location.path)


def write_durably(location: Location, content: bytes) -> None:
    """Write a small file so that it is there whole or not at all, and outlives a crash of the machine."""
    if location.remote:
        with reaching(location), create_file(location) as stream:
            stream.write(content)
        return
    target = Path(location.path)
    _make(target.parent)
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with open(draft, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _make(folder: Path) -> None:
    """Make a folder and those above it, anew where another run takes one of these away (`remove_empty`) meanwhile."""
    for _ in range(100):
        with suppress(FileNotFoundError, FileExistsError):  # one that was there was gone at the second look
            return folder.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)


def _list(folder: Location, recursive: bool = False) -> list[pa_fs.FileInfo]:
    with reaching(folder):
        selector = pa_fs.FileSelector(folder.path, allow_not_found=True, recursive=recursive)
        try:
            return list(folder.filesystem().get_file_info(selector))
        except NotADirectoryError:  # it, or one above it, is a file
            return []


def read_all(folder: Location, suffix: str) -> dict[str, bytes]:
    """The files of a folder whose names end with `suffix`, by name, in order; none where there is no folder.

    One that somebody takes away meanwhile is left out.
    """
    found = {}
    for info in sorted(_list(folder), key=lambda i: str(i.base_name)):
        if info.is_file and info.base_name.endswith(suffix) and not info.base_name.startswith("."):
            held = content(folder.join(str(info.base_name)))
            if held is not None:
                found[str(info.base_name)] = held
    return found


def content(file: Location, *, no_folder: bool = False) -> bytes | None:
    """A small file's bytes; None where it is not there.

    `no_folder`: the name is no person's, so nobody need be told of a folder, which takes requests.
    """
    filesystem = file.filesystem()
    with reaching(file):
        try:
            with filesystem.open_input_stream(file.path) as stream:
                return bytes(stream.read())
        except OSError as error:
            if no_folder and isinstance(error, FileNotFoundError):
                return None
            found = filesystem.get_file_info(file.path).type
            if found == pa_fs.FileType.NotFound:
                return None
            if found == pa_fs.FileType.Directory:
                raise ConfigError(f"{display_name(file)} is a folder: name a file") from error
            raise


def remove(location: Location) -> None:
    """Delete a file; one that is gone already is fine."""
    with reaching(location), suppress(FileNotFoundError):
        location.filesystem().delete_file(location.path)


def modified(file: Location) -> datetime | None:
    """When a file was last written, by the storage's own clock; None where it is not there."""
    with reaching(file):
        at: datetime | None = file.filesystem().get_file_info(file.path).mtime
    return at


def clock(folder: Location) -> datetime:
    """The time by the storage's own clock: that of a file which is written to the folder and taken away again."""
    probe = folder.join(f"_lakehouse_clock-{uuid.uuid4().hex}")
    write_durably(probe, b"now")
    try:
        at = modified(probe)
    finally:
        remove(probe)
    if at is None:
        raise Unavailable(f"{probe.uri}: the storage does not show what was written to it just now")
    return at


def sizes(root: Location, paths: list[str]) -> dict[str, int | None]:
    """The size in bytes of each file under `root`, None for one that is not there. Lists folders, not files."""
    folders = sorted({path.split("/", 1)[0] for path in paths if "/" in path})
    listed = [info for folder in folders for info in _list(root.join(folder), recursive=True)]
    if any("/" not in path for path in paths):
        listed += _list(root)
    there: Mapping[str, int] = {info.path: info.size for info in listed if info.is_file}
    return {path: there.get(f"{root.path}/{path}") for path in paths}


def entries(folder: Location) -> dict[str, pa_fs.FileInfo]:
    """What the storage lists of the files below a folder, by their paths relative to it."""
    head = f"{folder.path}/"
    return {i.path.removeprefix(head): i for i in _list(folder, recursive=True) if i.is_file}


def entries_of(folder: Location, after: str = "") -> dict[str, tuple[int, datetime]]:
    """The files in a folder by name: bytes, and when they were written by the storage's own clock.

    `after`: those whose names come after this one, and others only where the storage can't begin there.
    """
    if after and folder.lists_from:
        return {name: (size, at) for name, size, at in folder.listed_from(after)}
    return {str(i.base_name): (i.size, i.mtime) for i in _list(folder) if i.is_file}


def read_lines(file: Location, size: int) -> bytes:
    """A text file of which the size in bytes is known, in one request: to open one by its name asks for its size first.

    It has no empty lines. Raises OSError or pyarrow's ArrowInvalid where it is not there.
    """
    from pyarrow import csv, dataset

    line = pa.schema([("line", pa.binary())])
    reading = dataset.CsvFileFormat(
        parse_options=csv.ParseOptions(delimiter="\1", quote_char=False, double_quote=False, escape_char=False),
        read_options=csv.ReadOptions(column_names=line.names, block_size=max(1, size)),
        convert_options=csv.ConvertOptions(column_types=line),
    )
    text = reading.make_fragment(file.path, filesystem=file.filesystem(), file_size=size).to_table(schema=line)
    lines = b"\n".join(text["line"].to_pylist())
    return lines if len(lines) == size else lines + b"\n"


def tree(folder: Location) -> dict[str, int]:
    """The files below a folder, relative to it, and their sizes in bytes."""
    return {path: info.size for path, info in entries(folder).items()}


def stamp(file: Location) -> str | None:
    """What tells a file's content from another under its name: its size and ETag, or time of writing where the
    storage has no ETag. None where the file is not there.
    """
    filesystem = file.filesystem()
    with reaching(file):
        if file.remote:
            try:
                with filesystem.open_input_file(file.path) as opened:
                    told = {str(key).lower(): value for key, value in (opened.metadata() or {}).items()}
                    tag = told.get("etag") or told.get("last-modified")
                    size = opened.size()
            except FileNotFoundError:
                return None
            if tag:
                return f"{size} {bytes(tag).decode()}"
        info = filesystem.get_file_info(file.path)
        return f"{info.size} {info.mtime_ns}" if info.is_file else None


def folders(folder: Location) -> list[str]:
    """The names of the folders in this one."""
    if not folder.lists_folders:
        return sorted({path.split("/", 1)[0] for path in tree(folder) if "/" in path})
    return sorted(str(i.base_name) for i in _list(folder) if i.type == pa_fs.FileType.Directory)


def remove_empty(folder: Location) -> None:
    """Remove a folder in which no file is left, and its parent likewise; object storage has no folders to remove."""
    parent = Path(folder.path).parent
    if not folder.remote and Path(folder.path).is_dir() and not tree(folder):
        folder.filesystem().delete_dir(folder.path)
        with suppress(OSError):  # it is not empty
            parent.rmdir()


def names(file: Location) -> list[str]:
    """The names of the files beside this one."""
    beside = replace(file, path=posixpath.dirname(file.path), uri=posixpath.dirname(file.uri))
    return sorted(str(i.base_name) for i in _list(beside) if i.is_file)


def siblings(location: Location) -> list[str]:
    """The names of the folders beside this one; none where it would take a list of all files in them."""
    if not location.lists_folders:
        return []
    return folders(replace(location, path=posixpath.dirname(location.path), uri=posixpath.dirname(location.uri)))
