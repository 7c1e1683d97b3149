"""Files of skops, read as data: which types they are made of, and in which way each would be made."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lakehouse.errors import ModelRefused
from lakehouse.models.flavors.skops_types import TYPES

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+")


def needs_of(file: Path, declared: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """(trust, reason) for each type that the file is made of, or that its description asks for, and that is not known.

    Raises ModelRefused for a file that can't be read.
    """
    strange = unknown_types(file, declared)
    for name in strange:
        yield f"type:{name}", f"it is made of types that are no plain data ({', '.join(strange)})"


def unknown_types(file: Path, declared: Iterable[Any] = ()) -> list[str]:
    """The types that the file is made of in a way that is not known to be only data, and those `declared` besides.

    Raises ModelRefused for a file that can't be read.
    """
    try:
        found = set(_types_in(file))
    except ModelRefused:
        raise
    except Exception as error:
        raise ModelRefused(
            f"the model can't be loaded here: its file {file.name!r} is no sound file of skops: "
            f"{type(error).__name__}: {error}"
        ) from error
    strange = sorted(found | ({str(name) for name in declared} - TYPES.keys()))
    if odd := next((name for name in strange if not _NAME.fullmatch(name)), None):
        raise ModelRefused(f"its file {file.name!r} names {odd!r}, which is the name of no type")
    return strange


def _types_in(file: Path) -> Iterator[str]:
    """What skops itself does not know and we neither, and what we know but the file would make in another way."""
    import skops.io

    yield from (name for name in skops.io.get_untrusted_types(file=file) if name not in TYPES)
    with zipfile.ZipFile(file) as opened:
        schema = json.loads(opened.read("schema.json"))
        if schema["protocol"] < 1:  # functions have their names elsewhere there
            raise ModelRefused("its file is of skops before 0.10: log it again")
        nodes = list(_nodes(schema))
        for node in nodes:
            name = f"{node.get('__module__')}.{node.get('__class__')}"
            if name in TYPES and node["__loader__"] not in TYPES[name][0]:
                yield name
        _require_tree_arguments(nodes, opened)


def _nodes(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Every part of the file from which skops makes something."""
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if "__loader__" in part:
                yield part
            parts.extend(part.values())
        elif isinstance(part, list):
            parts.extend(part)


def _require_tree_arguments(nodes: Iterable[Mapping[str, Any]], opened: zipfile.ZipFile) -> None:
    """Raise ValueError for a tree whose outputs aren't as many as its classes: making it reads past their end."""
    by_id = defaultdict(list)  # as skops does: 1 and 1.0 are one
    for node in nodes:
        by_id[node.get("__id__")].append(node)
    for node in nodes:
        if node["__loader__"] != "TreeNode":
            continue
        arguments = node["__reduce__"]["args"]
        for part in (arguments, *arguments["content"]):  # skops takes the first of an id for all of it
            if any(other != part for other in by_id[part.get("__id__")]):
                raise ValueError("a tree's arguments are something else elsewhere")
        features, classes, outputs = arguments["content"]
        counts = np.load(io.BytesIO(opened.read(classes["file"])), allow_pickle=False)
        wanted = [(arguments, "TupleNode"), (features, "JsonNode"), (classes, "NdArrayNode"), (outputs, "JsonNode")]
        sound = all(part["__loader__"] == loader for part, loader in wanted) and classes["type"] == "numpy"
        sound = sound and f"{classes['__module__']}.{classes['__class__']}" == "numpy.ndarray"
        if not sound or counts.dtype.kind not in "iu" or counts.shape != (json.loads(outputs["content"]),):
            raise ValueError("a tree is not made of its numbers of features, classes and outputs")
        if not counts.size or counts.min() < 1:
            raise ValueError("a tree has no output")
