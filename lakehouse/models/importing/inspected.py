"""What is known of a model's file before anything of it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

KINDS = "pickle, joblib, cloudpickle, XGBoost .json and .ubj, LightGBM .txt, CatBoost .cbm, Keras .keras, ONNX .onnx"
PICKLED = "pickled"
"""The format of everything that is a pickle in the end."""


@dataclass(frozen=True)
class Inspected:
    """What is known of a model's file.

    `kind`: for people; `format`: what opens it; `holds`: what the model is; `content`: the file to read, decompressed.
    `versions`: by what is installed for a library, the versions that are recorded; `needs`: the modules that must be
    there to load it. `trust`: (word, reason) for what a person must accept; `objections`: why it is not taken at all;
    `unknown`: what can't be told; `named`: the classes and functions that it names; `pythons`: hints at what wrote it;
    `code_of`: Pythons that its own functions may have been compiled by.
    """

    path: Path
    kind: str
    format: str
    content: Path
    holds: str = ""
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    trust: tuple[tuple[str, str], ...] = ()
    objections: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()
    code_of: tuple[str, ...] = ()
    size: int = 0
    digest: str = ""


def recorded(**versions: str) -> dict[str, tuple[str, ...]]:
    """Versions as `Inspected` has them; an empty one is not recorded."""
    return {library: (version,) if version else () for library, version in versions.items()}
