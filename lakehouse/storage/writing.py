"""Whether files can be put into a folder, tried before anything depends on it; nothing is left behind."""

from __future__ import annotations

import os
import re
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from lakehouse.errors import ConfigError, Unavailable
from lakehouse.storage.files import create_file, display_name, folders, names, remove, told
from lakehouse.storage.location import Location

_MISTAKEN = re.compile(
    r"no_?such_?bucket|access_?denied|invalid_?access_?key|signature_?does_?not_?match|permission_?denied"
    r"|container_?not_?found|not_found|HTTP (?:status|response)(?: code)?:? (?:400|401|403|404)", re.IGNORECASE
)  # fmt: skip
"""How storage systems say that a name or a right is wrong, which waiting does not mend."""
_OURS = ("_", ".", "run-")
"""What the names of files and folders begin with that a run may find in the folder of a table before its first."""


def require_writable(folder: Location, what: str) -> None:
    """Raise ConfigError where no file can be put into this folder, which need not be there yet.

    `what` names its place in the job. Raises Unavailable where an object storage does not answer.
    """
    try:
        if folder.remote:
            _put_and_remove(folder)
        else:
            _require_on_disk(Path(folder.path))
    except (OSError, ValueError, pa.ArrowException) as error:
        said = f"{what}: nothing can be written to {display_name(folder)}: {told(error)}"
        kind = Unavailable if folder.remote and not _MISTAKEN.search(str(error)) else ConfigError
        raise kind(said) from error


def require_own(folder: Location, what: str, but: Sequence[Location]) -> None:
    """Raise ConfigError where a folder, in which there is no table yet, holds other things than runs put there.

    `but`: places that may lie within it, such as the job's state.
    """
    if not folder.lists_folders:
        return
    root = f"{folder.path}/"
    within = {place.path.removeprefix(root).partition("/")[0] for place in but if place.path.startswith(root)}
    if others := [name for name in foreign(folder) if name not in within]:
        some = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
        raise ConfigError(
            f"{what}: {display_name(folder)} is no table and holds other things ({some}): name a new folder"
        )


def foreign(folder: Location) -> list[str]:
    """What lies in a folder without a table that no run puts there."""
    return [name for name in (*folders(folder), *names(folder.join(""))) if not name.startswith(_OURS)]


def _put_and_remove(folder: Location) -> None:
    probe = folder.join(f"_probe-{uuid.uuid4().hex}")
    with create_file(probe) as stream:
        stream.write(b"lakehouse looked whether it can write here")
    remove(probe)


def _require_on_disk(folder: Path) -> None:
    """Put a file without a name where the folder is, or where the first of the folders above it would be made."""
    there = _nearest(folder)
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is no folder")
    for place in (there, folder / "_delta_log"):
        if place.is_dir():
            try:
                with tempfile.TemporaryFile(dir=place):
                    pass
            except OSError as error:
                raise OSError(f"{place}: {error.strerror}") from error


def _nearest(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    for place in (folder, *folder.parents):
        try:
            os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        return place
    raise FileNotFoundError("there is no such disk")
