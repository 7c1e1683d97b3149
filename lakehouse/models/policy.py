"""What may be loaded: a model is code, so its description is judged before a byte of it runs.

Each flavour says what of its models could run code; files are read as data, and nothing of the model is imported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lakehouse.errors import ModelRefused
from lakehouse.models.flavors import flavor_of, python
from lakehouse.models.flavors.calling import is_plain_name

_METHODS = ("predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba", "score")
"""What MLflow lets a model choose to be called by."""


def judge(mlmodel: Mapping[str, Any], path: Path, digest: str, trust: Sequence[str]) -> None:
    """Raise ModelRefused unless the job trusts everything in the model that could run code while loading.

    The message ends with the very line to add to the job file.
    """
    if f"sha256:{digest}" in trust:
        return
    needed = dict(needs(mlmodel, path))
    missing = [what for what in needed if not _is_trusted(what, trust)]
    if not missing:
        return
    why = "; ".join(dict.fromkeys(needed[what] for what in missing))
    accepted = as_list([*(t for t in trust if t in needed), *missing])
    raise ModelRefused(
        f"the model is not safe to load: {why}. If you trust whoever logged it, add to the job file\n"
        f"    model: {{trust: {accepted}}}\n"
        f"or accept exactly this content\n"
        f'    model: {{trust: ["sha256:{digest}"]}}'
    )


def _is_trusted(what: str, trust: Sequence[str]) -> bool:
    """Who lets a pickle run lets any type be made."""
    return what in trust or (what.startswith("type:") and "pickle" in trust)


def as_list(trusts: Sequence[str]) -> str:
    """What a job trusts, as YAML in one line."""
    return f"[{', '.join(json.dumps(trust) if ':' in trust else trust for trust in trusts)}]"


def needs(mlmodel: Mapping[str, Any], path: Path) -> Iterator[tuple[str, str]]:
    """(trust, reason) for everything in the model in the folder `path` that is more than data."""
    described = mlmodel.get("flavors")
    if not isinstance(described, Mapping) or not isinstance(described.get("python_function"), Mapping):
        raise ModelRefused("the model has no python_function flavor, so it can't be used for scoring")
    for name, flavor in described.items():
        if isinstance(flavor, Mapping) and flavor.get("code"):
            yield "code", f"it brings Python code of its own (flavor {name}, folder {flavor['code']!r})"
    function, flavor = described["python_function"], flavor_of(mlmodel)
    if flavor is not python:
        if function.get("predict_fn", "predict") not in _METHODS:
            yield "python_function", f"it is called by {function['predict_fn']!r}, which is no method of prediction"
        if "data" in function and not is_plain_name(str(function["data"])):
            yield "python_function", f"its data lies at {function['data']!r}, not beside its description"
        others = sorted(file.relative_to(path).as_posix() for file in path.rglob("MLmodel") if file.parent != path)
        if others:
            yield "python_function", f"it holds descriptions of other models ({', '.join(others)})"
    own = described.get(flavor.NAME)
    yield from flavor.needs(own if isinstance(own, Mapping) else {}, function, path)
