"""What a model of a flavour is tried with: one entry a flavour, kind of input and output."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mlflow
import numpy as np
import pandas as pd

ROWS = 60

Columns = Mapping[str, Any]
"""By prediction the answers of one model to all rows, an array each."""


@dataclass(frozen=True)
class Case:
    """A fitted model and what is asked of it.

    `log(name)` logs and registers it; `native`: what its library itself answers to `rows`; `job`: sections of the job.
    `aside`: the rows that must be set aside; `close`: relative difference allowed, 0 for none. `given`: what pyfunc
    gets where that is not `rows`; `result_type`: spark_udf's where that of the signature does not do. `engine`: what
    scores it, where not every engine does.
    """

    log: Callable[[str], Any]
    rows: pd.DataFrame
    native: Columns
    job: Mapping[str, Any] = field(default_factory=dict)
    aside: tuple[int, ...] = ()
    close: float = 0.0
    given: Any = None
    result_type: str | None = None
    params: Mapping[str, Any] | None = None
    engine: str = "local"

    @property
    def predicts(self) -> bool:
        """Whether it is the model's `predict` that is called, which is all that MLflow has of it."""
        if self.engine == "spark":
            return list(self.native) == ["prediction"]
        return bool(self.job.get("model", {}).get("method", "predict") == "predict")


@dataclass(frozen=True)
class Entry:
    """A row of the table: a flavour, what its model takes and what it answers, in words.

    `library`: the module that it needs, where that is no part of the tests' packages.
    """

    flavor: str
    takes: str
    answers: str
    make: Callable[[], Case]
    library: str = ""

    @property
    def installed(self) -> bool:
        """Whether its library is here, of those that the tests' own packages leave out."""
        return not self.library or importlib.util.find_spec(self.library) is not None

    @property
    def name(self) -> str:
        """What the entry is called in tests."""
        return f"{self.flavor}: {self.answers} of {self.takes}"


def numbers() -> pd.DataFrame:
    """Two features of doubles."""
    n = np.arange(ROWS)
    return pd.DataFrame({"a": np.sin(n) * 3, "b": n * 0.37 % 5})


def with_text() -> pd.DataFrame:
    """A feature of doubles and one of text."""
    return numbers()[["a"]].assign(c=pd.Series(["red", "green", "blue"])[np.arange(ROWS) % 3].to_numpy(dtype=object))


def with_nulls(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with every fifth `a` missing."""
    rows = rows.copy()
    rows.loc[np.arange(ROWS) % 5 == 1, "a"] = np.nan
    return rows


def labels(rows: pd.DataFrame, *names: Any) -> Any:
    """A label a row, of two or three."""
    return np.array(names, dtype=object if isinstance(names[0], str) else None)[
        np.digitize(rows["a"], [0.5] if len(names) == 2 else [-1, 1])
    ]


def logger(log_model: Callable[..., Any], model: Any, requirement: str, **logging: Any) -> Callable[[str], Any]:
    """Logs and registers a model by one of MLflow's functions; its requirements are named, since to find them is slow."""

    def log(name: str) -> Any:
        with mlflow.start_run():
            return log_model(model, name=name, registered_model_name=name, pip_requirements=[requirement], **logging)

    return log
