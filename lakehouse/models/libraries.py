"""Which modules a fetched model needs where it is called, and nothing else: read from its description."""

from __future__ import annotations

from pathlib import Path

from lakehouse.models.environment import recorded_environment
from lakehouse.models.flavors import NATIVE, flavor_of, python
from lakehouse.models.flavors.native import is_plain
from lakehouse.models.loading import read_description
from lakehouse.models.parameters import Frozen

MLFLOW = "mlflow"
_FORMATS = ("skops", "cloudpickle")


def modules_of(folder: Path, params: Frozen) -> tuple[str, ...]:
    """The modules that loading and calling the model in this folder imports, besides numpy's and Arrow's.

    MLflow's is among them where no flavour loads the model without it. Raises ModelRefused as `read_description`.
    """
    mlmodel = read_description(folder)
    flavor = flavor_of(mlmodel)
    described = mlmodel["flavors"].get(flavor.NAME, {})
    found = {flavor.LIBRARY[0]: None}
    if described.get("serialization_format") in _FORMATS:
        found[described["serialization_format"]] = None
    if "sklearn" in str(described.get("model_class", "")):  # a class of another library that stands on scikit-learn's
        found["sklearn"] = None
    if params or flavor.NAME not in NATIVE or not is_plain(mlmodel):
        found[MLFLOW] = None
    return tuple(found)


def recorded_packages(folder: Path) -> tuple[str, ...]:
    """The packages that a custom Python model was logged with; none for another, whose flavour says what it needs."""
    if flavor_of(read_description(folder)) is not python:
        return ()
    return tuple(recorded_environment(folder).versions)
