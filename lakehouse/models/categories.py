"""The pandas categories that a model was trained with, and frames that have them again.

LightGBM codes a category column by its dtype, so that text, or a batch's own categories, is not what it was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from lakehouse.errors import ModelRefused

_CODES = re.compile(r"-?[0-9]+(:-?[0-9]+)*")
"""How LightGBM writes the codes that it saw of a category column; other columns have [least:greatest]."""


def categories_of(native: Any) -> dict[int, list[Any]]:
    """The categories of each column that was trained as one, by the column's place; none for other models.

    Raises ModelRefused where the model does not tell which columns they are of.
    """
    booster = native if hasattr(native, "pandas_categorical") else getattr(native, "booster_", None)
    stored = getattr(booster, "pandas_categorical", None)
    if booster is None or not stored:
        return {}
    text = booster.model_to_string(num_iteration=1)
    infos = (
        next((line for line in text.splitlines() if line.startswith("feature_infos=")), "=").partition("=")[2].split()
    )
    found = [place for place, info in enumerate(infos) if _CODES.fullmatch(info)]
    if len(found) != len(stored):  # a column of one value only is "none", whatever it was
        found = [place for place, info in enumerate(infos) if info == "none" or _CODES.fullmatch(info)]
    if len(found) != len(stored):
        names = ", ".join(map(str, booster.feature_name()))
        raise ModelRefused(
            f"the model was trained on {len(stored)} category columns, and does not tell which of {names} they are: "
            "log it in a pipeline that makes the categories itself"
        )
    return dict(zip(found, stored, strict=True))


def as_trained(predict: Callable[[Any], Any], categories: Mapping[int, list[Any]]) -> Callable[[Any], Any]:
    """`predict` with the columns in the categories they were trained in; a value that is none of them is missing."""
    if not categories:
        return predict

    def with_categories(frame: Any) -> Any:
        if isinstance(frame, pd.DataFrame):
            frame = frame.copy(deep=False)
            for place, known in categories.items():
                name = frame.columns[place]
                frame[name] = pd.Categorical(frame[name], categories=known)
        return predict(frame)

    return with_categories
