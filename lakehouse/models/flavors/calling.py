"""What flavours share: files that a description names, the native object behind a pyfunc model, and calls of both."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse.errors import ConfigError
from lakehouse.models.parameters import require_arguments

if TYPE_CHECKING:
    from lakehouse.models.given import Given

PIECE_BYTES = 16 << 20
"""A larger matrix of numbers is handed to a model in pieces of this size: 4,194 rows of 500 features."""


@dataclass(frozen=True)
class Trained:
    """What a model takes, as far as its library knows it: the columns' names in their order, or only how many.

    `shape`, `dtype`: of a row, where that is an array of several dimensions, and of its values.
    `by_name`: the library itself finds or compares columns by these names; otherwise their order alone counts.
    """

    names: tuple[str, ...] = ()
    count: int | None = None
    by_name: bool = False
    shape: tuple[int, ...] = ()
    dtype: str = "float32"


@dataclass(frozen=True)
class Predictor:
    """A loaded model: `predict` takes a DataFrame or matrix; `classes` in the order of its probabilities.

    `without_classes`: why there are none. `called`: what is called, in words; `library`: its name and version.
    `trained`: what it takes, looked at only where the model has no signature that says so.
    `on_frames`: Spark applies it, so that it takes a batch of Arrow. `probabilities`: the matrix of those in an answer.
    `direct`: takes `Given` and calls the library's own object on a bare matrix, past pandas and MLflow; None where the
    model may look at more than the numbers. Whether it answers as `predict` is for the caller to see. `direct_called`:
    what that calls, in words. `native`: the library's own object, None where it is not given away.
    """

    predict: Callable[[Any], Any]
    classes: tuple[Any, ...] | None
    without_classes: str = "it has no classes"
    called: str = ""
    library: str = ""
    trained: Trained = Trained()
    on_frames: bool = False
    probabilities: Callable[[Any], Any] = lambda answer: answer
    direct: Callable[[Given], Any] | None = None
    direct_called: str = ""
    native: Any = field(default=None, repr=False, compare=False)

    def way(self, *, direct: bool) -> Callable[[Any], Any]:
        """`direct`, where it is asked for and there; else `predict`."""
        return self.direct if direct and self.direct is not None else self.predict


def is_plain_name(file: str) -> bool:
    """Whether a file that a description names lies in the model's own folder, beside its MLmodel file."""
    return file not in ("", ".", "..") and "/" not in file and "\\" not in file


def no_settings(description: Mapping[str, Any]) -> dict[str, str]:
    """The environment variables of a library that needs none."""
    return {}


def open_native(loaded: Any, method: str | None, params: Mapping[str, Any]) -> Predictor:
    """What calls the pyfunc model, or a method of the native one that takes the same frame or matrix."""
    native = native_of(loaded)
    several = getattr(native, "n_outputs_", 1) != 1 or isinstance(getattr(native, "classes_", None), list)
    why = "it classifies several targets at once, each with classes of its own" if several else "it has no classes"
    if method is None:
        return Predictor(call_pyfunc(loaded, params), classes_of(native), why, "pyfunc.predict")
    return Predictor(call_method(native, method, params), classes_of(native), why, f"{type(native).__name__}.{method}")


def unknown_features(native: Any) -> Trained:
    """What a model takes whose library does not know it."""
    return Trained()


def native_of(loaded: Any) -> Any:
    """The library's own object in a pyfunc model; None for one that does not give it away."""
    try:
        return loaded.get_raw_model()
    except Exception:  # flavours without a native model say so in many ways
        return None


def call_pyfunc(loaded: Any, params: Mapping[str, Any]) -> Callable[[Any], Any]:
    """MLflow's own function of the model."""
    predict: Callable[..., Any] = loaded.predict
    return functools.partial(predict, params=dict(params)) if params else predict


def on_matrix(call: Callable[[Any], Any], predict: Callable[[Any], Any], *, mixed: bool) -> Callable[[Given], Any]:
    """What calls the native object on the rows as a matrix, and `predict` on those that make none.

    `mixed`: columns of several numeric types make one, too, in the type that numpy has for all of them. A matrix above
    `PIECE_BYTES` is handed over in pieces, which takes half the time, where the answers are arrays of a row each.
    """

    def answer(given: Given) -> Any:
        rows, width = given.rows, 8 * max(len(given.columns), 1)
        most = rows if rows * width <= PIECE_BYTES else PIECE_BYTES // width or 1
        parts = []
        for matrix in given.as_matrices(most, mixed=mixed):
            part = call(matrix)
            if most < rows and not _has_rows(part, len(matrix)):
                return call(given.as_matrix(mixed=mixed))
            parts.append(part)
        if not parts:
            return predict(given.as_input())
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    answer.takes_columns = True  # type: ignore[attr-defined]  # see `takes_columns`
    return answer


def _has_rows(answer: Any, rows: int) -> bool:
    """Whether it is an array of numbers or labels with one place a row."""
    return isinstance(answer, np.ndarray) and answer.ndim > 0 and len(answer) == rows and answer.dtype.kind in "biufUO"


def takes_columns(predict: Any) -> bool:
    """Whether it takes `Given` itself instead of the frame or arrays that are made of it."""
    return bool(getattr(predict, "takes_columns", False))


def one_thread() -> bool:
    """Whether this process is kept to one thread, since there is one for each core: Arrow is told so first."""
    return bool(pa.cpu_count() == 1)


def without_names(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`call` of scikit-learn's without the warning that a matrix has no names: they were compared on a frame before."""

    def quiet(matrix: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
            return call(matrix)

    return quiet


def call_method(native: Any, method: str, params: Mapping[str, Any]) -> Callable[[Any], Any]:
    """A method of the native model. Raises ConfigError where it has none of the name, or not these parameters."""
    call = getattr(native, method, None)
    if not callable(call):
        raise ConfigError(f"model.method: {type(native).__name__} has no method {method!r}")
    require_arguments(call, params, f"{type(native).__name__}.{method}")
    return functools.partial(call, **params) if params else call


def refuse_method(method: str | None, what: str) -> None:
    """Raise ConfigError for any method: the model has only one way to be called."""
    if method is not None:
        raise ConfigError(f"model.method: {what} has no method {method!r}: leave model.method out")


def classes_of(native: Any) -> tuple[Any, ...] | None:
    """The labels of a classifier's one target; None for a model without, and for one of several targets."""
    classes = getattr(native, "classes_", None)
    if classes is None or any(np.ndim(c) for c in classes):
        return None
    return tuple(c.item() if hasattr(c, "item") else c for c in classes)


def with_categories(predict: Callable[[Any], Any], categories: Mapping[int, list[Any]]) -> Callable[[Any], Any]:
    """`predict` with columns, by their place, as pandas categories; a value that is none of these is missing."""
    import pandas as pd

    if not categories:
        return predict

    def categorized(frame: Any) -> Any:
        if isinstance(frame, pd.DataFrame):
            frame = frame.copy(deep=False)
            for place, known in categories.items():
                name = frame.columns[place]
                frame[name] = pd.Categorical(frame[name], categories=known)
        return predict(frame)

    return categorized
