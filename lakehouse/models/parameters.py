"""Inference parameters: what the job gives, held against what the model says that it takes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from lakehouse.errors import ConfigError, nearest

_DECLARED = "model.signature.params"

Frozen = tuple[tuple[str, Any], ...]


def freeze(params: Mapping[str, Any]) -> Frozen:
    """A job's parameters in order, lists as tuples: as a value that can be compared and looked up."""
    return tuple((name, tuple(v) if isinstance(v, list) else v) for name, v in sorted(params.items()))


def require_params(specs: Any, params: Mapping[str, Any], uri: str, *, by_job: bool = False) -> None:
    """Raise ConfigError for a parameter of another type than the signature's, and for one that it does not have.

    MLflow would leave such a one out and go on. `specs`: the signature's `params`, in MLflow's JSON form; `by_job`: it
    is the job's signature.
    """
    if not params:
        return
    known = {str(spec["name"]): spec for spec in specs or ()}
    for name, value in params.items():
        if not known:
            if by_job:
                raise ConfigError(
                    f"model.params: nothing says that the model takes {name!r}: declare it in {_DECLARED}"
                )
            raise ConfigError(
                f"model.params: {uri} declares no parameters, so MLflow would leave {name!r} out: log the model with "
                f"signature=infer_signature(X, y, params={{{name!r}: …}}), or call its own method (model.method)"
            )
        if name not in known:
            raise ConfigError(f"model.params: {uri} has no parameter {name!r}, {nearest(name, known)}")
        _require_type(name, value, known[name])


def _require_type(name: str, value: Any, spec: Mapping[str, Any]) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.types.schema import ParamSchema, ParamSpec

    (wanted,) = ParamSchema.from_json(json.dumps([spec])).params
    try:
        ParamSpec.validate_param_spec(value, wanted)
    except MlflowException as error:
        kind = f"a list of {spec['type']}" if spec.get("shape") else f"a {spec['type']}"
        raise ConfigError(f"model.params.{name}: the model takes {kind}, not {value!r}") from error


def require_arguments(call: Callable[..., Any], params: Mapping[str, Any], what: str) -> None:
    """Raise ConfigError for a parameter that a method does not take, as far as it says what it takes."""
    try:
        takes = list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):  # built-in methods don't say
        return
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in takes):
        return
    names = [p.name for p in takes[1:] if p.kind is not inspect.Parameter.VAR_POSITIONAL]
    if unknown := next((name for name in params if name not in names), None):
        raise ConfigError(f"model.params: {what} has no parameter {unknown!r}, {nearest(unknown, names)}")
