"""Where a table's files are: the one place that turns a table's name into a filesystem and every library's settings.

A storage system's settings are those of its own command line tools, in the environment, credentials by its own chain.
What an executor can't know travels with the `Location`; secrets don't. Each system is a file here, `files` is what all
of them can do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from lakehouse.errors import ConfigError
from lakehouse.storage import azure, gcs, s3
from lakehouse.storage.files import (
    clock,
    content,
    create_file,
    display_name,
    entries,
    entries_of,
    folders,
    modified,
    names,
    reaching,
    read_all,
    read_lines,
    remove,
    remove_empty,
    siblings,
    sizes,
    stamp,
    told,
    tree,
    write_durably,
)
from lakehouse.storage.location import Location
from lakehouse.storage.writing import foreign, require_own, require_writable

__all__ = [
    "Location", "clock", "content", "create_file", "display_name", "entries", "entries_of", "folders", "foreign",
    "locate", "modified", "names", "reaching", "read_all", "read_lines", "remove", "remove_empty", "require_own",
    "require_writable", "siblings", "sizes", "stamp", "told", "tree", "write_durably",
]  # fmt: skip


def _on_disk(table: str) -> Location:
    path = unquote(urlsplit(table).path) if table.startswith("file:") else table
    if "\0" in path:
        raise ConfigError(f"{path!r} can't be a path: it holds a null byte")
    if escape := re.search(r"%[0-9A-Fa-f]{2}", os.path.abspath(path)):
        raise ConfigError(f"{path}: Delta's readers take {escape[0]} in a path for another character: rename it")
    absolute = os.path.abspath(os.path.expanduser(path))
    return Location(absolute, absolute)


_SYSTEMS: dict[str, Callable[[str], Location]] = {
    "": _on_disk, "file": _on_disk,
    "s3": s3.located, "s3a": s3.located, "s3n": s3.located,
    "gs": gcs.located,
    "abfss": azure.located, "abfs": azure.located, "az": azure.located,
}  # fmt: skip


def locate(table: str) -> Location:
    """The location of a table named by a path (relative ones: to the working directory) or a URI.

    Raises ConfigError for a scheme that is not supported.
    """
    scheme = urlsplit(table).scheme if "://" in table or table.startswith("file:") else ""
    if scheme not in _SYSTEMS:
        known = ", ".join(f"{name}:" for name in _SYSTEMS if name)
        raise ConfigError(f"{table}: storage {scheme}:// is not supported yet, only paths and {known} URIs are")
    return _SYSTEMS[scheme](table)
