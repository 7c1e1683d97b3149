"""A model's file is opened: the one place where what it holds is loaded, once a person trusts it and versions fit."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lakehouse.errors import ConfigError, ModelRefused
from lakehouse.models.flavors import FLAVORS, Flavor, Predictor
from lakehouse.models.importing.inspected import PICKLED, Inspected
from lakehouse.models.importing.versions import require_fitting
from lakehouse.models.loading import environment

WORDS = ("pickle", "code", "python_function")
"""What a person may trust, in the job file's words."""


@dataclass(frozen=True)
class Opened:
    """A loaded model: the library's own object, and MLflow's flavour that it is."""

    native: Any
    flavor: Flavor

    @property
    def metadata(self) -> Any:
        """A description of a model that was never saved, which says nothing."""
        from mlflow.models import Model

        return Model()

    def predict(self, data: Any, params: Any = None) -> Any:
        """What MLflow's pyfunc would answer, for the flavours' own way of calling."""
        if type(self.native).__module__.startswith("xgboost.core"):
            import xgboost

            return self.native.predict(xgboost.DMatrix(data, enable_categorical=True))
        return self.native.predict(data)

    def get_raw_model(self) -> Any:
        """The library's own object."""
        return self.native


def require_loadable(inspected: Inspected, trust: Sequence[str]) -> None:
    """Raise ModelRefused unless nothing speaks against the file, its versions fit, and a person trusts it."""
    if inspected.objections:
        listed = "\n  ".join(inspected.objections)
        raise ModelRefused(
            f"{inspected.path} is not loaded, whoever made it: it holds what no model needs\n  {listed}\n"
            "train the model with estimators of known libraries only, or export it as ONNX"
        )
    require_fitting(inspected)
    for word, reason in inspected.trust:
        if word not in trust:
            raise ModelRefused(
                f"{inspected.path} is not safe to load: {reason}. It names nothing but data-science libraries, which "
                f"is no proof. If you trust whoever made it: --trust {word}"
            )


def open_file(inspected: Inspected, trust: Sequence[str]) -> Opened:
    """Load the model. Raises ModelRefused where it may not, or can't, be loaded."""
    require_loadable(inspected, trust)
    flavor = FLAVORS.get(f"mlflow.{inspected.format}")
    with environment(dict(flavor.settings({})) if flavor else {}), quiet():
        try:
            native = _OPENERS[inspected.format](inspected)
        except ModuleNotFoundError as error:
            raise ModelRefused(f"{inspected.path} needs {error.name}, which is not installed here") from error
        except (Exception, SystemExit) as error:
            raise ModelRefused(f"{inspected.path} can't be loaded here: {type(error).__name__}: {error}") from error
    return Opened(native, flavor or _flavor_of(native, inspected))


@contextmanager
def quiet() -> Any:
    """Warnings of libraries about versions, which were compared, and about names of features, which were matched."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _flavor_of(native: Any, inspected: Inspected) -> Flavor:
    package = type(native).__module__.partition(".")[0]
    if not callable(getattr(native, "predict", None)):
        raise ModelRefused(f"{inspected.path} holds a {type(native).__name__}, which has no predict: it is no model")
    return FLAVORS.get(f"mlflow.{package}", FLAVORS["mlflow.sklearn"])


def predictor_of(opened: Opened, method: str | None) -> Predictor:
    """What calls the model as the job will. Raises ConfigError for a method that it does not have."""
    try:
        return opened.flavor.open_model(opened, method, {})
    except ConfigError as error:
        raise ConfigError(str(error).replace("model.method:", "--method:")) from error


def _unpickle(inspected: Inspected) -> Any:
    if inspected.kind.startswith("joblib"):
        import joblib

        return joblib.load(inspected.content)
    with open(inspected.content, "rb") as stream:
        return pickle.load(stream)


def _xgboost(inspected: Inspected) -> Any:
    import xgboost

    kind = {"an XGBClassifier": xgboost.XGBClassifier, "an XGBRegressor": xgboost.XGBRegressor,
            "an XGBRanker": xgboost.XGBRanker}.get(inspected.holds, xgboost.Booster)  # fmt: skip
    model = kind()
    model.load_model(str(inspected.content))
    return model


def _lightgbm(inspected: Inspected) -> Any:
    import lightgbm

    return lightgbm.Booster(model_file=str(inspected.content))


def _catboost(inspected: Inspected) -> Any:
    import catboost

    model = catboost.CatBoost().load_model(str(inspected.content))
    loss = str(model.get_all_params().get("loss_function"))
    if loss.startswith(("Logloss", "CrossEntropy", "MultiClass")):
        return catboost.CatBoostClassifier().load_model(str(inspected.content))
    return model


def _keras(inspected: Inspected) -> Any:
    import keras

    return keras.saving.load_model(str(inspected.content), compile=False, safe_mode=True)


def _onnx(inspected: Inspected) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(inspected.content), providers=["CPUExecutionProvider"])


_OPENERS: Mapping[str, Callable[[Inspected], Any]] = {
    PICKLED: _unpickle, "xgboost": _xgboost, "lightgbm": _lightgbm, "catboost": _catboost, "keras": _keras,
    "onnx": _onnx,
}  # fmt: skip
