"""MLflow's flavours, one file each: what of a stored model could run code, and how the loaded one is called.

Each module offers what `Flavor` lists; `calling` has what they share. A loader that none of them knows is a custom
Python model: it is judged by `policy` and called through MLflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lakehouse.models.flavors import (
    catboost,
    keras,
    lightgbm,
    onnx,
    python,
    pytorch,
    sklearn,
    spark,
    statsmodels,
    xgboost,
)
from lakehouse.models.flavors.calling import Predictor, Trained
from lakehouse.models.flavors.native import Loaded, is_plain

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.models.frames import FrameInput, FrameModel

__all__ = ["FLAVORS", "ON_FRAMES", "Flavor", "Predictor", "Trained", "flavor_of", "load_native"]


class Flavor(Protocol):
    """What a module of this package offers; it imports its library only when a model is loaded.

    `NAME`: as MLflow's `flavors` section has it. `LIBRARY`: the module of the library that it needs, and the key under
    which MLflow writes the version that the model was logged with.
    """

    NAME: str
    LIBRARY: tuple[str, str]

    def needs(
        self, description: Mapping[str, Any], function: Mapping[str, Any], path: Path
    ) -> Iterator[tuple[str, str]]:
        """(trust, reason) for everything in a model in the folder `path` that could run code when it is loaded.

        `description`, `function`: what its MLmodel file says of this flavour and of `python_function`.
        """

    def settings(self, description: Mapping[str, Any]) -> Mapping[str, str]:
        """The environment variables that must be set while the library is imported and the model loaded."""

    def open_model(self, loaded: Any, method: str | None, params: Mapping[str, Any]) -> Predictor:
        """What calls a loaded pyfunc model: as MLflow does for `method` None, else that method of the native model.

        Raises ConfigError for a method or a parameter that it does not have, ModelRefused where it can't be called.
        """

    def trained_on(self, native: Any) -> Trained:
        """What the library's own object knows of the columns that it takes; nothing where it does not say."""


class NativeFlavor(Flavor, Protocol):
    """A flavour whose models can be loaded without MLflow."""

    def load_native(self, path: Path, description: Mapping[str, Any], function: Mapping[str, Any]) -> Loaded | None:
        """The model in the folder `path`, loaded as MLflow's loader of this flavour does, and what its pyfunc calls.

        None where MLflow would do anything else. `description`, `function`: as of `needs`.
        """


class FlavorOnFrames(Flavor, Protocol):
    """A flavour whose models Spark applies to a DataFrame on the driver's session; a worker only gets their answers.

    `WHAT`: what such a model is, in words.
    """

    WHAT: str

    def open_on_frames(
        self, spark: SparkSession, path: Path, place: str, description: Mapping[str, Any], given: FrameInput
    ) -> FrameModel:
        """The model in the folder `path`, which Spark reads at `place`. Raises ModelRefused where it can't be used."""


FLAVORS: Mapping[str, Flavor] = {
    f"mlflow.{flavor.NAME}": flavor
    for flavor in (catboost, keras, lightgbm, onnx, pytorch, sklearn, spark, statsmodels, xgboost)
}
"""By the loader module that MLflow writes for them: nothing else is loaded than what each of them has judged."""

ON_FRAMES: Mapping[str, FlavorOnFrames] = {flavor.NAME: flavor for flavor in (spark,)}
"""Those that Spark applies, by their names."""


def flavor_of(mlmodel: Mapping[str, Any]) -> Flavor:
    """The flavour that a model (its MLmodel file, parsed) is loaded by; `python` for a loader that is not known."""
    function = (mlmodel.get("flavors") or {}).get("python_function") or {}
    return FLAVORS.get(str(function.get("loader_module")), python)


NATIVE: Mapping[str, NativeFlavor] = {flavor.NAME: flavor for flavor in (lightgbm, onnx, sklearn, xgboost)}
"""Those that are loaded without MLflow where nothing else than their own call belongs to a model, by their names."""


def load_native(path: Path, mlmodel: Mapping[str, Any], flavor: Flavor) -> Loaded | None:
    """A model (its MLmodel file, parsed) loaded without MLflow; None where MLflow has to load it."""
    found = NATIVE.get(flavor.NAME)
    if found is None or not is_plain(mlmodel):
        return None
    return found.load_native(path, mlmodel["flavors"].get(flavor.NAME, {}), mlmodel["flavors"]["python_function"])
