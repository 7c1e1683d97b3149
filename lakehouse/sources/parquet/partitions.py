"""Hive's partitions: folders such as `day=2026-01-02`, whose names are columns of the rows below them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from lakehouse.errors import ConfigError

NULL = "__HIVE_DEFAULT_PARTITION__"


def partitions_of(paths: Sequence[str], folder: str) -> tuple[pa.Schema, list[dict[str, Any]]]:
    """The columns that the folders above these files name, and the values of each file.

    A column is int64 where all of its values are whole numbers of 64 bits, date32 where all are dates such as
    2026-01-02, else string; escapes such as %3A are decoded. `folder` is what errors call the place of the files.

    Raises ConfigError where files lie under different columns, or a folder names no column or no value.
    """
    named = [_partition_texts(path, folder) for path in paths]
    first = list(named[0]) if named else []
    for path, values in zip(paths, named, strict=True):
        if list(values) != first:
            raise ConfigError(
                f"source.table: the files of {folder} lie under different partitions: {paths[0]} under {_list(first)}, "
                f"{path} under {_list(list(values))}: name a folder in which all lie under the same"
            )
    typed = {name: _choose_type({values[name] for values in named}) for name in first}
    schema = pa.schema([pa.field(name, kind) for name, (kind, _) in typed.items()])
    return schema, [{name: typed[name][1](text) for name, text in values.items()} for values in named]


def _partition_texts(path: str, folder: str) -> dict[str, str | None]:
    """The text of each partition in a path, None for the null."""
    values = dict[str, str | None]()
    for part in path.split("/")[:-1]:
        if "=" not in part:
            continue
        name, value = (_decode(text, path, folder) for text in part.split("=", 1))
        if not name or not value:
            raise ConfigError(f"source.table: {path} of {folder}: the folder {part} names no column, or no value of it")
        if name.lower() in map(str.lower, values):
            raise ConfigError(f"source.table: {path} of {folder} lies in two folders that name a column {name!r}")
        values[name] = None if value == NULL else value
    return values


def _decode(text: str, path: str, folder: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise ConfigError(f"source.table: {path} of {folder}: {text} is not text in UTF-8") from error


def _choose_type(texts: set[str | None]) -> tuple[pa.DataType, Callable[[str | None], Any]]:
    """The type that holds all values of a column, and what makes one of its text."""
    given = [text for text in texts if text is not None]
    if given and all(map(_is_integer, given)):
        return pa.int64(), lambda text: None if text is None else int(text)
    if given and all(map(_is_date, given)):
        return pa.date32(), lambda text: None if text is None else date.fromisoformat(text)
    return pa.string(), lambda text: text


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,19}", text) is not None and -(1 << 63) <= int(text) < 1 << 63


def _is_date(text: str) -> bool:
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) is None:
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _list(names: Sequence[str]) -> str:
    return "/".join(f"{name}=" for name in names) or "none"
