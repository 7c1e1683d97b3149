"""The words for what stands in a job file, and for where it stands."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHARED_FILE = "lakehouse.yaml"
UNQUOTED = "YAML takes yes, no, on, off, true and false for true or false: put a text in quotes"
KINDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", dt.date: "a date"}


def describe_value(value: object) -> str:
    """Describe a value that stands in the wrong place, for an error message."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, dict):
        return 'a section; write "{date}" in quotes' if value == {"date": None} else "a section"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return f"{text if len(text) <= 60 else text[:59] + '…'} ({KINDS.get(type(value), type(value).__name__)})"


@dataclass(frozen=True)
class Origin:
    """Names the file or override that gave the value at a key path, and the path."""

    path: str
    layers: Mapping[str, Mapping[str, Any]]
    overrides: Sequence[str]

    def __call__(self, at: Sequence[object]) -> str:
        dotted = ".".join(str(part) for part in at)
        paths = {text.partition("=")[0].strip() + ".": f"override {text!r}" for text in self.overrides}
        names = [name for name, layer in self.layers.items() if _has(layer, at)]
        names = names or [name for path, name in paths.items() if path.startswith(f"{dotted}.")]
        names += [name for path, name in paths.items() if f"{dotted}.".startswith(path)]
        return f"{names[-1] if names else self.path}: {dotted}"


def _has(node: Any, at: Sequence[Any]) -> bool:
    if not at:
        return True
    known = range(len(node)) if isinstance(node, list) else node if isinstance(node, dict) else ()
    return at[0] in known and _has(node[at[0]], at[1:])
