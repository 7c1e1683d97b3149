"""statsmodels: results of a fit, always stored as a pickle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lakehouse.models.flavors import calling
from lakehouse.models.flavors.calling import Trained

NAME, LIBRARY = "statsmodels", ("statsmodels", "statsmodels_version")

settings, open_model = calling.no_settings, calling.open_native


def needs(description: Mapping[str, Any], function: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    yield "pickle", f"its file {function.get('data')!r} is a pickle, which can run any code when it is read"


def trained_on(native: Any) -> Trained:
    """The names of the fit's columns, which count by their order; nothing of a formula, which makes its own."""
    model: Any = getattr(native, "model", None)
    names = getattr(model, "exog_names", None)
    if names is None or hasattr(model, "formula"):
        return Trained()
    framed = hasattr(getattr(model.data, "orig_exog", None), "columns")
    return Trained(tuple(map(str, names)) if framed else (), len(names))
