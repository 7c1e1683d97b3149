"""What may be loaded: a model is code, so its description is judged before a byte of it runs.

Pure: takes the parsed MLmodel file and the digest, reads nothing and imports nothing of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lakehouse.errors import ModelRefused

LOADERS = {"mlflow.sklearn": "sklearn"}
"""MLflow's own loader modules that this project knows to load nothing but the file they name."""

HARMLESS_TYPES = frozenset(["numpy.dtype"])
"""Types that skops asks about and that can do nothing but hold data."""


def judge(mlmodel: Mapping[str, Any], digest: str, trust: Sequence[str]) -> None:
    """Raise ModelRefused unless the job trusts everything in the model that could run code while loading.

    The message ends with the very line to add to the job file.
    """
    if f"sha256:{digest}" in trust:
        return
    needed = dict(needs(mlmodel))
    missing = [what for what in needed if what not in trust]
    if not missing:
        return
    why = "; ".join(needed[what] for what in missing)
    accepted = ", ".join([*(t for t in trust if t in needed), *missing])
    raise ModelRefused(
        f"the model is not safe to load: {why}. If you trust whoever logged it, add to the job file\n"
        f"    model: {{trust: [{accepted}]}}\n"
        f"or accept exactly this content\n"
        f'    model: {{trust: ["sha256:{digest}"]}}'
    )


def needs(mlmodel: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(trust, reason) for everything in the model that is more than data."""
    flavors = mlmodel.get("flavors")
    if not isinstance(flavors, Mapping) or not isinstance(flavors.get("python_function"), Mapping):
        raise ModelRefused("the model has no python_function flavor, so it can't be used for scoring")
    for name, flavor in flavors.items():
        if isinstance(flavor, Mapping) and flavor.get("code"):
            yield "code", f"it brings Python code of its own (flavor {name}, folder {flavor['code']!r})"
    function = flavors["python_function"]
    loader = function.get("loader_module")
    if loader not in LOADERS:
        yield "python_function", f"it is a custom Python model (loader {loader!r})"
        if loader == "mlflow.pyfunc.model" and "model_code_path" not in function:
            yield "pickle", "its Python object is stored as cloudpickle"
        return
    yield from _sklearn_needs(flavors.get("sklearn"), function)


def _sklearn_needs(flavor: Any, function: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    flavor = flavor if isinstance(flavor, Mapping) else {}
    stored = flavor.get("serialization_format", "pickle")
    file = str(function.get("data", function.get("model_path", "")))
    # MLflow prefers `data`, which may be a folder with a description of its own.
    if stored != "skops" or "data" in function or "/" in file or "\\" in file or file in ("", ".", ".."):
        # MLflow falls back to pickle where the description is incomplete or elsewhere.
        yield "pickle", f"its file {file!r} is stored as {stored}, which can run any code when it is read"
        return
    types = flavor.get("skops_trusted_types") or ()
    extra = sorted({str(t) for t in (types if isinstance(types, (list, tuple)) else [types])} - HARMLESS_TYPES)
    if extra:
        yield "pickle", f"it asks to be given types that are no plain data ({', '.join(extra)})"
