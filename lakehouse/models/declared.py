"""The signature that a job gives a model which has none, in MLflow's form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lakehouse.errors import ConfigError

if TYPE_CHECKING:
    from lakehouse.config import Signature

Specs = list[dict[str, Any]]
"""One side of a signature in MLflow's own JSON form."""


def specs_of(given: Signature) -> dict[str, Specs]:
    """The sides of a job's signature in MLflow's JSON form; a side that it leaves out is empty."""
    if set(given.inputs) == {"tensor", "shape"} and isinstance(given.inputs["shape"], list):
        spec = {"dtype": given.inputs["tensor"], "shape": given.inputs["shape"]}
        inputs: Specs = [{"type": "tensor", "tensor-spec": spec}]
    else:
        columns = {n: c if isinstance(c, Mapping) else {"type": c} for n, c in given.inputs.items()}
        inputs = [{"name": n, **_type(c["type"]), "required": c.get("required", True)} for n, c in columns.items()]
    named = given.outputs if isinstance(given.outputs, Mapping) else {"": given.outputs} if given.outputs else {}
    outputs = [({"name": name} if name else {}) | _type(kind) for name, kind in named.items()]
    return {"inputs": inputs, "outputs": outputs, "params": [_param(n, kind) for n, kind in given.params.items()]}


def _type(text: str) -> dict[str, Any]:
    if text.startswith("array<"):
        return {"type": "array", "items": _type(text.removeprefix("array<").removesuffix(">"))}
    return {"type": text}


def _param(name: str, kind: str) -> dict[str, Any]:
    item = kind.removeprefix("array<").removesuffix(">")
    listed = item != kind
    return {"name": name, "type": item, "default": [] if listed else None, "shape": [-1] if listed else None}


def require_equal(own: Mapping[str, Specs], given: Mapping[str, Specs], uri: str) -> None:
    """Raise ConfigError where a job's signature says anything else than the model's own."""
    for side, specs in given.items():
        if specs and [_essence(s) for s in specs] != [_essence(s) for s in own[side]]:
            raise ConfigError(
                f"model.signature.{side}: {uri} has a signature of its own, which says otherwise: remove it from the "
                "job file"
            )


def _essence(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a signature without what does not change its meaning: defaults, and what is required by default."""
    left_out = ("default", "optional")
    found = {k: v for k, v in spec.items() if k not in left_out and v is not None and (k, v) != ("required", True)}
    return {
        k: _essence(v) if isinstance(v, Mapping) else list(v) if isinstance(v, tuple) else v for k, v in found.items()
    }
