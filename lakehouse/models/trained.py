"""The job's signature against what the loaded model itself knows of the columns that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lakehouse.errors import ConfigError, nearest
from lakehouse.models.flavors import Predictor, Trained
from lakehouse.models.nested import is_list
from lakehouse.models.signature import Inputs


def held_to(inputs: Inputs, signature: Sequence[Mapping[str, Any]], predictor: Predictor) -> Inputs:
    """The inputs that a job's signature names, as the loaded model takes them: in its order where it goes by name.

    `signature`: the job's, in MLflow's form. Raises ConfigError for columns that the model was not trained on, for
    those that it was and the job does not name, for another number, and for another order where the order counts.
    """
    trained = predictor.trained
    given = [tensor.shape for tensor in inputs.tensors]
    if trained.shape and given != [trained.shape]:
        wanted = f"{{tensor: {trained.dtype}, shape: {[-1, *trained.shape]}}}"
        raise ConfigError(f"model.signature.inputs: the model takes one array: write {wanted}")
    if inputs.tensors or not trained.names:
        named = _columns_of(inputs, signature)
        if None not in (named, trained.count) and named != trained.count:
            raise ConfigError(f"model.signature.inputs: the model takes {trained.count} columns, {named} are named")
        return inputs
    names = [str(spec["name"]) for spec in signature]
    _require_names(names, trained)
    if names != list(trained.names) and not trained.by_name:
        raise ConfigError(
            f"model.signature.inputs: the model was trained on these columns in another order, and goes by their "
            f"order: write them as {', '.join(trained.names)}"
        )
    known = {str(feature.name): feature for feature in inputs.features}
    return replace(inputs, features=tuple(known[name] for name in trained.names if name in known))


def _columns_of(inputs: Inputs, signature: Sequence[Mapping[str, Any]]) -> int | None:
    """How many columns the model is given; None for lists of any length, and for arrays of other dimensions."""
    if inputs.tensors:
        shapes = [tensor.shape for tensor in inputs.tensors]
        return shapes[0][0] if len(shapes) == 1 and len(shapes[0]) == 1 else None
    return None if any(is_list(feature.type) for feature in inputs.features) else len(signature)


def _require_names(names: Sequence[str], trained: Trained) -> None:
    missing = [name for name in trained.names if name not in names]
    extra = [name for name in names if name not in trained.names]
    if missing:
        more = f", but {_shown(extra)}, which it was not" if extra else ""
        raise ConfigError(
            f"model.signature.inputs: the model was trained on {_shown(missing)}, which it does not name{more}"
        )
    if extra:
        near = nearest(extra[0], trained.names)
        raise ConfigError(f"model.signature.inputs: the model was not trained on {_shown(extra)}, {near}")


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
