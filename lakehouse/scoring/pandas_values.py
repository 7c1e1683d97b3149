"""Which values are pandas' own, told without importing it: where nobody has imported it there are none.

A model that is called on a matrix answers with arrays; a process that only has such a model need not have pandas.
"""

from __future__ import annotations

import sys
from typing import Any


def is_frame(value: Any) -> bool:
    """Whether it is a DataFrame."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def is_series(value: Any) -> bool:
    """Whether it is a Series."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.Series)


def is_missing(value: Any) -> bool:
    """Whether it is NA or NaT."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and (value is pandas.NA or value is pandas.NaT)
