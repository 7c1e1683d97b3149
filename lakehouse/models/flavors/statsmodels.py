"""statsmodels: results of a fit, always stored as a pickle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lakehouse.models.flavors import calling

NAME, LIBRARY = "statsmodels", ("statsmodels", "statsmodels_version")

settings, open_model = calling.no_settings, calling.open_native


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    yield "pickle", f"its file {function.get('data')!r} is a pickle, which can run any code when it is read"
