"""scikit-learn, stored as skops (data, as far as its types are) or as a pickle (any code)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from lakehouse.models.flavors import calling

NAME, LIBRARY = "sklearn", ("sklearn", "sklearn_version")

HARMLESS_TYPES = frozenset(["numpy.dtype"])
"""Types that skops asks about and that can do nothing but hold data."""

settings, open_model = calling.no_settings, calling.open_native


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    # MLflow prefers `data`, which may be a folder with a description of its own.
    file = str(function.get("data", function.get("model_path", "")))
    # MLflow falls back to pickle where the description is incomplete or elsewhere.
    sound = "data" not in function and calling.is_plain_name(file)
    yield from needs_of_file(description, file, sound, "pickle")


def needs_of_file(
    description: Mapping[str, Any], file: str, sound: bool, default: str, harmless: Set[str] = HARMLESS_TYPES
) -> Iterator[tuple[str, str]]:
    """What a file needs that is read as the description says; `sound`: it is sure that this description is read.

    `harmless`: the types that skops may be told to make.
    """
    stored = description.get("serialization_format", default)
    if stored != "skops" or not sound:
        yield "pickle", f"its file {file!r} is stored as {stored}, which can run any code when it is read"
        return
    types = description.get("skops_trusted_types") or ()
    extra = sorted({str(t) for t in (types if isinstance(types, (list, tuple)) else [types])} - harmless)
    if extra:
        yield "pickle", f"it asks to be given types that are no plain data ({', '.join(extra)})"
