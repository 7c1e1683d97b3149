"""The versions that a model's file records against those that are installed here."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util

from lakehouse.errors import ModelRefused
from lakehouse.models.importing.inspected import PICKLED, Inspected
from lakehouse.models.importing.known_modules import LIBRARIES

_PYTHON = "Python"
_VERSION = re.compile(r"[0-9][0-9A-Za-z]*([.+-][0-9A-Za-z]+)*")
"""What may stand in a command that a person pastes: a file can record anything as its version."""


@dataclass(frozen=True)
class Compared:
    """A library's recorded versions and the one here, "" where there is none; `wrong`: why they don't go together."""

    library: str
    recorded: tuple[str, ...]
    here: str
    wrong: str = ""


def installed(module: str) -> tuple[str, str]:
    """What is installed for a module, and its version; "" where the module or its package is not there."""
    name = LIBRARIES.get(module, module)
    if util.find_spec(module) is None:
        return name, ""
    try:
        return name, metadata.version(name)
    except metadata.PackageNotFoundError:  # builds such as xgboost-cpu; it takes most of a second to look through all
        found = metadata.packages_distributions().get(module)
        return (found[0], metadata.version(found[0])) if found else (name, "")


def compare(inspected: Inspected) -> list[Compared]:
    """Every library that the file needs, and Python where its code has one."""
    rows = []
    for module in inspected.needs:
        name = LIBRARIES.get(module, module)
        here = installed(module)[1]
        recorded = inspected.versions.get(name, ())
        wrong = next(filter(None, (_wrong(name, one, here, inspected.format) for one in recorded or ("",))), "")
        rows.append(Compared(name, recorded, here, wrong))
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    for compiled in inspected.code_of:
        wrong = "" if _admits(compiled, here) else "its functions are another Python's bytecode"
        rows.append(Compared(_PYTHON, (compiled,), here, wrong))
    return rows


def _wrong(library: str, recorded: str, here: str, format_: str) -> str:
    if not here:
        return "not installed"
    if not recorded or format_ != PICKLED:
        return ""  # formats of their own are read by later versions
    return "" if _minor(recorded) == _minor(here) else "a pickle is only good for the version that wrote it"


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]


def _admits(compiled: str, here: str) -> bool:
    """Whether this Python is one of those that code may have been compiled by, in `machine`'s words."""
    if " or later" in compiled:
        return True
    if " to " in compiled or compiled.startswith("before"):
        return False
    return here in compiled.split(" or ")


def require_fitting(inspected: Inspected) -> None:
    """Raise ModelRefused, with a table recorded/here and what to do, where a version does not fit."""
    rows = compare(inspected)
    wrong = [row for row in rows if row.wrong]
    if not wrong:
        return
    lines = [
        f"{row.library:<16} {', '.join(row.recorded) or 'not recorded':<14} {row.here or '-':<10} {row.wrong}"
        for row in wrong
    ]
    head = f"{'library':<16} {'recorded':<14} {'here':<10}"
    raise ModelRefused(
        f"{inspected.path} was not written with what is installed here:\n  {head}\n  "
        + "\n  ".join(lines)
        + f"\n{_remedy(wrong)}"
    )


def _remedy(wrong: list[Compared]) -> str:
    otherwise = "train it again here; or export it {} as ONNX, XGBoost JSON or the like, and import that"
    libraries = [row for row in wrong if row.library != _PYTHON]
    for row in libraries:
        if len({tuple(_minor(one)) for one in row.recorded}) > 1:
            listed = " and ".join(row.recorded)
            return f"no environment has {row.library} {listed} at once: {otherwise.format('where it is used')}"
    pins = [_pin(row) for row in libraries]
    python = next((row.recorded[0] for row in wrong if row.library == _PYTHON), "")
    first = f"import and score it in an environment of its own: {'Python ' + python if python else ''}"
    first += f"{' with ' if python and pins else ''}{'pip install ' + ' '.join(pins) if pins else ''}"
    return f"{first}; or {otherwise.format('there')}"


def _pin(row: Compared) -> str:
    """What pip is told: the newest of versions that differ in their last places only, none where none is a version."""
    known = [one for one in row.recorded if _VERSION.fullmatch(one)]
    newest = max(known, key=lambda one: [int(number) for number in re.findall(r"[0-9]+", one)], default="")
    return f"'{row.library}=={newest}'" if newest else row.library


def requirements(modules: tuple[str, ...]) -> Iterator[str]:
    """What to install for these modules and for MLflow, pinned to what is here."""
    for module in dict.fromkeys(("mlflow", *modules, "numpy", "pandas")):
        name, version = installed(module)
        yield f"{name}=={version}" if version else name
