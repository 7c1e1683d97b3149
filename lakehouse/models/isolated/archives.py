"""Environments as archives: kept on the lake for other machines, and shipped to executors.

An archive holds code that workers run: whoever may write where they are kept, decides what runs.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lakehouse.errors import LakehouseError
from lakehouse.storage import Location, create_file, display_name, locate, reaching

_NEW = ".new-"


def places(cache: str | None, folder: Path) -> tuple[Path, Location | None]:
    """The folder on this machine that environments are kept in, and a place on the lake, where one is named."""
    if cache is None:
        return folder, None
    place = locate(cache)
    return (folder, place) if place.remote else (Path(place.path), None)


def _archive(shared: Location, key: str) -> Location:
    return shared.join(f"{key}.zip")


def take(shared: Location, root: Path, key: str, say: Callable[[str], None]) -> bool:
    """Fetch an environment from the lake into its place; False where it is not there.

    Raises Unavailable where the storage does not answer.
    """
    file = _archive(shared, key)
    with reaching(file):
        filesystem = file.filesystem()
        if not filesystem.get_file_info(file.path).is_file:
            return False
        say(f"fetching the environment from {display_name(file)}")
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=root, prefix=_NEW, ignore_cleanup_errors=True) as made:
            packed, whole = Path(made) / "packed.zip", Path(made) / "environment"
            with filesystem.open_input_stream(file.path) as stream, open(packed, "wb") as copy:
                shutil.copyfileobj(stream, copy, 1 << 22)
            try:
                with zipfile.ZipFile(packed) as archive:
                    archive.extractall(whole)
            except (zipfile.BadZipFile, EOFError):  # cut off, or none of ours: built anew
                return False
            if not (whole / "manifest.json").is_file():
                return False
            with suppress(OSError):  # another process was faster
                whole.rename(root / key)
    return True


def keep(place: Path, shared: Location, key: str) -> str:
    """Put an environment on the lake; why that can't be done, which stops no run, empty where it is done."""
    file = _archive(shared, key)
    with tempfile.TemporaryDirectory(prefix="lakehouse-environment-") as made:
        packed = Path(made) / "packed.zip"
        try:
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                add_folder(archive, place, "")
            with reaching(file), open(packed, "rb") as content, create_file(file) as stream:
                shutil.copyfileobj(content, stream, 1 << 22)
        except (LakehouseError, OSError) as error:
            return f"the environment can't be kept as {display_name(file)}: {error}"
    return ""


def add_folder(archive: zipfile.ZipFile, folder: Path, below: str) -> None:
    """Every file of a folder, under the same name below another. Links that lead to folders are followed."""
    for root, _, names in os.walk(folder):
        for name in sorted(names):
            file = Path(root) / name
            archive.write(file, f"{below}{file.relative_to(folder).as_posix()}")
